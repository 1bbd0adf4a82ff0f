"""What tests do to the deployed stack's functions and tasks, and what they find in their logs."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conftest import TABLE_NAME, Deployment, eventually
from valro.tasks import timestamp

PROMPT = "Find me a landscaper in Charlotte under $300"
CREATED = "Task created"
STARTED = ["Worker Lambda invoked - processing started", "Agent processing started"]
COMPLETED = "Agent completed task successfully"


def messages(task: dict[str, Any]) -> list[str]:
    """The texts of a task's events, in order."""
    return [event["message"] for event in task["events"]]


def at_work(stack: Deployment, behaviour: str) -> str:
    """Posts a task and waits until its agent has said something; returns its id."""
    task_id = stack.create(f"{PROMPT} [agent: {behaviour}]")
    eventually(lambda: stack.task(task_id), lambda task: len(task["events"]) > 3)
    return task_id


def outcomes(stack: Deployment, task_id: str, count: int = 0) -> list[str]:
    """The outcomes that the worker's deliveries of a task have logged, once there are so many."""

    def logged() -> list[str]:
        lines = stack.logged("valro-worker", task_id, '"outcome"')
        return [json.loads(line[line.index("{") :])["outcome"] for line in lines]

    return eventually(logged, lambda seen: len(seen) >= count)


def stops(stack: Deployment, task_id: str) -> int:
    """Counts how often AgentCore was asked to stop a task's session."""
    return sum(session.startswith(task_id) for session in stack.stack.agent_report()["stopped"])


def put_back(stack: Deployment, task_id: str, attribute: str, seconds: float = 1) -> None:
    """Sets a time that a task has already to so many seconds ago."""
    stack.client("dynamodb").update_item(
        TableName=TABLE_NAME,
        Key={"id": {"S": task_id}},
        UpdateExpression="SET #name = :then",
        ConditionExpression="attribute_exists(#name)",
        ExpressionAttributeNames={"#name": attribute},
        ExpressionAttributeValues={":then": {"S": timestamp(time.time() - seconds)}},
    )


def processes(stack: Deployment, function: str) -> set[int]:
    """The processes in which MiniStack runs a function."""
    variables = {f"AWS_LAMBDA_FUNCTION_NAME={function}", f"GATEWAY_PORT={stack.stack.port}"}
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variables <= {*(folder / "environ").read_text(errors="replace").split("\0")}:
                found.add(int(folder.name))
    return found


def kill(stack: Deployment, function: str) -> None:
    """Kills a function's processes, as an out-of-memory does."""
    running = processes(stack, function)
    assert running
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    # They are gone some moments after the call.
    eventually(lambda: processes(stack, function) & running, lambda left: not left)


@contextlib.contextmanager
def changed(stack: Deployment, function: str, timeout: int = 0, **variables: str) -> Iterator[None]:
    """Gives a function another timeout, if any, and more variables for a while."""
    client = stack.client("lambda")
    before = client.get_function_configuration(FunctionName=function)
    environment = before["Environment"]["Variables"]

    def configure(seconds: int, with_variables: dict[str, str]) -> None:
        client.update_function_configuration(
            FunctionName=function, Timeout=seconds, Environment={"Variables": with_variables}
        )
        client.get_waiter("function_updated_v2").wait(
            FunctionName=function, WaiterConfig={"Delay": 1}
        )

    configure(timeout or before["Timeout"], environment | variables)
    try:
        yield
    finally:
        configure(before["Timeout"], environment)
