"""The deployed stack with a fault proxy between it and everything that it calls.

microburst speaks AWS's errors; a fault that did not happen fails its test.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from local import REGION
from local.aws import AGENT_RUNTIME_ARN, LocalStack, local_stack
from local.processes import Program
from tests.api.test_end_to_end import PROMPT, function_processes
from tests.conftest import TABLE_NAME, Deployment, eventually
from valro.api_requests import idempotent_id
from valro.tasks import timestamp

QUIET = f"{PROMPT} [agent: quiet]"

Rule = dict[str, Any]

# What goes wrong. DynamoDB's two kinds of bad days are also those of other services.
THROTTLED: Rule = {"error": {"code": "ThrottlingException", "status": 400}}
BROKEN: Rule = {"error": {"code": "InternalServerError", "status": 500}}
CUT: Rule = {"reset": True}
# It reaches nobody, and there is no answer for longer than any of these tests waits.
HELD: Rule = {"timeout_ms": 60_000}
# It is done, and nobody learns of it: the connection ends where the answer should be.
ANSWER_LOST: Rule = {"response": {"abort_bytes": 0}}
# The same for an answer that has no body: a header too long for any client ends the connection.
BARE_ANSWER_LOST: Rule = {"response": {"set_headers": {"X-Too-Long": "x" * 100_000}}}


def put_of(task_id: str) -> Rule:
    """The write that creates a task."""
    return {"operation": "PutItem", "body": f"Item.id.S == '{task_id}'"}


def end_of(task_id: str, status: str) -> Rule:
    """The write that moves a task to a status: claim, complete, or fail and expire."""
    moves = f"""ExpressionAttributeValues.":status".S == '{status}'"""
    return {"operation": "UpdateItem", "body": f"Key.id.S == '{task_id}' && {moves}"}


def claim_of(task_id: str) -> Rule:
    """The write with which a worker takes a task."""
    return end_of(task_id, "processing")


def accept_of(task_id: str) -> Rule:
    """The write that leaves a task to its agent, which reports."""
    accepts = """ExpressionAttributeValues.":report_until" """
    return {"operation": "UpdateItem", "body": f"Key.id.S == '{task_id}' && {accepts}"}


def report_of(task_id: str) -> Rule:
    """The writes of reports, with an outcome or without; no large ones."""
    reports = """ExpressionAttributeValues.":last_as_read" """
    return {"operation": "UpdateItem", "body": f"Key.id.S == '{task_id}' && {reports}"}


def agent_call_of(task_id: str) -> Rule:
    """The call of the agent."""
    return {"operation": "InvokeAgentRuntime", "body": f"task_id == '{task_id}'"}


# The proxy does not look into a function's payload; the tests run one after another.
WORKER_START: Rule = {"service": "lambda", "operation": "Invoke"}


class FaultProxy:
    """A microburst process in front of one endpoint."""

    def __init__(self) -> None:
        """Takes a free port; start() says what is behind it."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port: int = server.getsockname()[1]
        self._program: Program | None = None

    @property
    def url(self) -> str:
        """The address to use in the place of the endpoint's."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, upstream: str, folder: Path) -> None:
        """Starts it and waits until it answers."""
        self._program = Program("microburst", folder / f"microburst-{self.port}.log")
        command = [sys.executable, "-m", "microburst", "--upstream", upstream, "--port"]
        self._program.start([*command, str(self.port)], os.environ, folder)
        eventually(self._is_up, bool, 20)

    def stop(self) -> None:
        if self._program:
            self._program.stop()

    def warm_up(self, service: str, operation: str, **arguments: str) -> None:
        """Makes it load a service's model, for which no function would wait."""
        client = botocore.session.get_session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(read_timeout=60, retries={"total_max_attempts": 1}),
        )
        with contextlib.suppress(ClientError):
            getattr(client, operation)(**arguments)

    @contextlib.contextmanager
    def fault(self, where: Rule, what: Rule, times: int | None = None) -> "Iterator[Fault]":
        """Breaks the calls that `where` names, `times` of them or all; it must strike once."""
        rule = where | what | ({"times": times} if times else {})
        rules = self._control("PATCH", "rules", [rule])
        fault = Fault(self, rules[-1]["id"])
        try:
            yield fault
        finally:
            struck = fault.strikes()
            self._control("DELETE", "rules", [where])
        assert struck, f"the fault never struck: {rule}"

    def rules(self) -> list[dict[str, Any]]:
        """The rules that are in force, with how often each has struck."""
        rules: list[dict[str, Any]] = self._control("GET", "rules")
        return rules

    def _is_up(self) -> bool:
        try:
            return self._control("GET", "health")["status"] == "ok"
        except OSError:
            return False

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, f"/_microburst/{path}", json.dumps(body))
            response = connection.getresponse()
            assert response.status == 200
            return json.loads(response.read())


@dataclass(frozen=True)
class Fault:
    """A fault that is in force."""

    proxy: FaultProxy
    number: int

    def strikes(self) -> int:
        """How many calls it has broken."""
        rules = self.proxy.rules()
        return next(int(rule["fired_count"]) for rule in rules if rule["id"] == self.number)

    def wait_for(self, strikes: int, seconds: float = 20) -> None:
        """Waits until it has broken so many calls."""
        eventually(self.strikes, lambda struck: struck >= strikes, seconds)


class FaultyDeployment(Deployment):
    """The deployed stack, with faults at hand: `aws` before MiniStack, `agent` before the agent."""

    def __init__(self, stack: LocalStack, aws: FaultProxy, agent: FaultProxy) -> None:
        super().__init__(stack)
        self.aws = aws
        self.agent = agent

    def post(self, description: str, key: str, timeout: float = 60) -> Any:
        """Posts a task with an Idempotency-Key, which says its id beforehand: see new_task."""
        return self.api.request(
            "POST", "/tasks", {"description": description}, {"Idempotency-Key": key}, timeout
        )

    def outcomes(self, task_id: str) -> list[str]:
        """The outcomes that the worker's deliveries of a task have logged so far."""
        lines = self.logged("valro-worker", task_id, '"outcome"')
        return [json.loads(line[line.index("{") :])["outcome"] for line in lines]

    def wait_for_outcomes(self, task_id: str, count: int) -> list[str]:
        """The outcomes of a task's deliveries, once there are so many."""
        return eventually(lambda: self.outcomes(task_id), lambda seen: len(seen) >= count, 30)

    def deliveries(self) -> int:
        """Counts the worker's invocations that have ended, whatever became of them."""
        return len(self.logged("valro-worker", "REPORT RequestId"))

    def stops(self, task_id: str) -> int:
        """Counts how often AgentCore was asked to stop a task's session."""
        sessions = self.stack.agent_report()["stopped"]
        return sum(session.startswith(task_id) for session in sessions)

    def kill(self, function: str) -> None:
        """Kills a function's processes, as an out-of-memory does."""
        processes = function_processes(self, function)
        assert processes
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        # They are gone some moments after the call.
        eventually(
            lambda: function_processes(self, function),
            lambda running: not {*running} & {*processes},
        )

    @contextlib.contextmanager
    def function(self, name: str, timeout: int = 0, **variables: str) -> Iterator[None]:
        """Gives a function more variables, and another timeout if any, for a while."""
        client = self.client("lambda")
        before = client.get_function_configuration(FunctionName=name)
        environment = before["Environment"]["Variables"]

        def configure(seconds: int, with_variables: dict[str, str]) -> None:
            client.update_function_configuration(
                FunctionName=name, Timeout=seconds, Environment={"Variables": with_variables}
            )
            client.get_waiter("function_updated_v2").wait(
                FunctionName=name, WaiterConfig={"Delay": 1}
            )

        configure(timeout or before["Timeout"], environment | variables)
        try:
            yield
        finally:
            configure(before["Timeout"], environment)

    def worker(self, timeout: int, **variables: str) -> contextlib.AbstractContextManager[None]:
        """Gives the worker another timeout and more variables for a while."""
        return self.function("valro-worker", timeout, **variables)

    def item(self, task_id: str) -> dict[str, Any] | None:
        """What the table has of a task, in DynamoDB's types."""
        key = {"id": {"S": task_id}}
        found = self.client("dynamodb").get_item(TableName=TABLE_NAME, Key=key)
        item: dict[str, Any] | None = found.get("Item")
        return item

    def put_back(self, task_id: str, attribute: str, seconds: float) -> None:
        """Sets a time that a task has already to so many seconds ago."""
        then = timestamp(time.time() - seconds)
        self.client("dynamodb").update_item(
            TableName=TABLE_NAME,
            Key={"id": {"S": task_id}},
            UpdateExpression="SET #name = :then",
            ConditionExpression="attribute_exists(#name)",
            ExpressionAttributeNames={"#name": attribute},
            ExpressionAttributeValues={":then": {"S": then}},
        )


@contextlib.contextmanager
def faulty_deployment(pace: float = 0.1) -> Iterator[FaultyDeployment]:
    """The backend on a local AWS, with a fault proxy between it and everything that it calls.

    ``pace``: the seconds of a step of the agent. By default a line is written while it works on.
    """
    aws, agent = FaultProxy(), FaultProxy()
    environment = {
        "AWS_ENDPOINT_URL_DYNAMODB": aws.url,
        "AWS_ENDPOINT_URL_LAMBDA": aws.url,
        "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": agent.url,
    }
    try:
        # Without authorization: the proxy makes the Host header another than the signed one.
        with local_stack(pace=pace, authorization=False, function_environment=environment) as local:
            aws.start(local.endpoint, local.folder)
            agent.start(local.agent_endpoint, local.folder)
            nobody = {"agentRuntimeArn": AGENT_RUNTIME_ARN, "runtimeSessionId": "x" * 33}
            throttling = ("--post-throttle-rate", "100", "--post-throttle-burst", "100")
            with ThreadPoolExecutor(3) as pool:
                warm = [
                    pool.submit(aws.warm_up, "dynamodb", "list_tables"),
                    pool.submit(aws.warm_up, "lambda", "list_functions"),
                    pool.submit(
                        agent.warm_up, "bedrock-agentcore", "stop_runtime_session", **nobody
                    ),
                ]
                local.deploy(arguments=throttling)
            for each in warm:
                each.result()
            deployment = FaultyDeployment(local, aws, agent)
            assert deployment.run(QUIET)["status"] == "completed"
            yield deployment
    finally:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(FaultProxy.stop, [aws, agent]))


def new_task() -> tuple[str, str]:
    """A fresh Idempotency-Key, and the id of the task that it stands for."""
    key = str(uuid.uuid4())
    return key, idempotent_id("public", key)
