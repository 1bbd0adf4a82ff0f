"""What stands in for AWS: botocore's clients of DynamoDB and Lambda, and Lambda's queue."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from simulation import wire
from simulation.agent import HTML, Agent, AgentClient
from simulation.dynamodb import DynamoDB
from simulation.network import CALL_FAULTS, DYNAMODB_FAULTS, QUEUE_FAULTS, Client, Fault, Weather
from simulation.wire import ACCOUNT
from simulation.world import Json, Sandbox, World
from valro.tasks import MAXIMUM_EVENT_AGE_SECONDS, MAXIMUM_RETRY_ATTEMPTS

WORKER_ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:valro-worker"
LARGEST_WRITES = (None, None, None, None, None, None, None, 3_000)


class DynamoDBClient(Client):
    """botocore's DynamoDB client; its answers are parsed already, whoever would parse them."""

    meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_parser: None))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = name.title().replace("_", "")
        serve = getattr(self.aws.table, name)
        return lambda **request: self._call(operation, serve, request)

    def _call(self, operation: str, serve: Callable[..., Any], request: dict[str, Any]) -> Any:
        aws, sandbox, sent = self.aws, self.aws.world.sandbox, self.aws.world.now
        if operation == "TransactWriteItems":  # botocore makes one a call
            request["ClientRequestToken"] = f"token-{next(aws.world.ids)}"

        def arrive(_fault: Fault) -> Any:
            aws.writer, aws.sent = sandbox, sent
            try:
                answer = serve(**request)
            except ClientError as error:
                code = error.response["Error"]["Code"]
                self._trace(operation, request, sandbox, code)
                if sandbox and code == "ValidationException" and operation != "Query":
                    sandbox.faults["size refused"] += 1
                raise
            self._trace(operation, request, sandbox, "done")
            is_batch = operation == "BatchGetItem"
            if is_batch and "keys unprocessed" in aws.dynamodb_weather.kinds:
                return self._some_unprocessed(request, answer)
            return answer

        # botocore takes what nobody can read for an answer.
        unread = lambda fault, answer: {} if fault.name == "garbled" else answer  # noqa: E731
        return aws.dynamodb_weather.call(self.config, operation, arrive, unread)

    def _some_unprocessed(self, request: dict[str, Any], answer: Any) -> Any:
        ((table, asked),) = request["RequestItems"].items()
        kept = self.aws.world.choices.below(len(asked["Keys"]) + 1)
        if not kept:
            return answer
        self.aws.world.count("dynamodb: keys unprocessed")
        if self.aws.writer:
            self.aws.writer.faults["dynamodb"] += 1
        # Sorted, so that nothing depends on the order in which Python has a set.
        left = sorted((key["id"] for key in asked["Keys"]), key=lambda key: key["S"])[:kept]
        found = [item for item in answer["Responses"][table] if item["id"] not in left]
        keys = [{"id": key} for key in left]
        return {"Responses": {table: found}, "UnprocessedKeys": {table: {**asked, "Keys": keys}}}

    def _trace(self, operation: str, request: Json, sandbox: Sandbox | None, outcome: str) -> None:
        if not self.aws.world.tracing:
            return
        (update,) = request.get("TransactItems", [{"Update": request}])[0].values()
        key = update.get("Key") or update.get("Item", {})
        status = update.get("ExpressionAttributeValues", {}).get(":status", {}).get("S", "")
        what = f"{operation} {key.get('id', {}).get('S', '')} {status and f'to {status} '}"
        self.aws.world.trace(f"{what}{outcome}", sandbox.name if sandbox else "")


class LambdaClient(Client):
    """botocore's Lambda client."""

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: str) -> Any:  # noqa: N803
        """Hands an asynchronous event to Lambda."""
        assert (FunctionName, InvocationType) == (WORKER_ARN, "Event")
        event, sandbox = json.loads(Payload), self.aws.world.sandbox
        arrived = False

        def arrive(_fault: Fault) -> Any:
            nonlocal arrived
            arrived = True
            self.aws.queue.accept(event)
            return {"StatusCode": 202, "Payload": io.BytesIO()}

        answer = self.aws.lambda_weather.call(self.config, "Invoke", arrive, self._spoiled)
        if sandbox and answer["StatusCode"] == 202:
            taken = sandbox.stops_taken if "stop" in event else sandbox.told_taken
            taken.add(task_of(event))
            if not arrived:  # somebody in between has said so in Lambda's place
                self.aws.queue.lose(event)
        return answer

    def _spoiled(self, fault: Fault, answer: Any) -> Any:
        """An answer whose body, of which nobody needs to know anything, is not what it was."""
        row = fault.row
        if row and "while" in row:

            def read() -> bytes:
                self.aws.world.sleep(self.config.read_timeout if "waits" in row else 0.0)
                raise wire.error(row)

            return answer | {"Payload": SimpleNamespace(read=read, close=lambda: None)}
        if fault.row and fault.name == "garbled":
            return {"StatusCode": fault.row["answers"][0], "Payload": io.BytesIO(HTML)}
        return answer


def task_of(event: Json) -> str:
    """The id of the task that an event of the worker's is about."""
    return str(event.get("task_id") or event["stop"])


class Queue:
    """Lambda's queue of asynchronous events: at least once, in any order, for a limited time."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.accepted: set[str] = set()  # ids of the tasks whose events were
        self.stops_taken: set[str] = set()  # and of those whose stops were
        self.stops_lost: set[str] = set()  # or were in vain

    def accept(self, event: Json) -> None:
        """Takes an event and plans its deliveries."""
        world, choices = self.aws.world, self.aws.world.choices
        request_id = f"event-{next(world.ids)}"
        (self.stops_taken if "stop" in event else self.accepted).add(task_of(event))
        fault, delays = self.aws.queue_weather.fault().name, [choices.pick((0.05, 0.01, 0.3, 2.0))]
        match fault:
            case "never delivered":
                delays = []
                self.lose(event)
            case "delivered late":
                # Past the age limit too: what the claim must bear is worse than what AWS does.
                delays = [choices.pick((10.0, 40.0, 300.0, 890.0, 955.0, 961.0, 1_100.0))]
            case "delivered twice":
                delays.append(delays[0] + choices.pick((0.0, 0.001, 0.01, 0.5)))
            case "again later":
                again = (1.0, 61.0, 600.0, 700.0, 955.0, 961.0, 1_100.0)
                delays.append(choices.pick(again))
        world.trace(f"Lambda takes {request_id}, {event}, due in {delays} s", "queue")
        latest = world.now + MAXIMUM_EVENT_AGE_SECONDS
        deliver = partial(self._deliver, event, request_id, latest, throttled=fault == "throttled")
        for delay in delays:
            world.spawn("event", deliver, delay=delay)

    def _deliver(self, event: Json, request_id: str, latest: float, *, throttled: bool) -> None:
        """Brings an event to a worker, and brings it again after a failure."""
        world = self.aws.world
        while throttled:
            throttled = world.choices.below(3) > 0
            if not self._waits(event, world.choices.pick((5.0, 1.0, 60.0, 200.0)), latest):
                return
        for attempt in range(MAXIMUM_RETRY_ATTEMPTS + 1):
            if attempt:
                world.count("queue: delivered again after a failure")
                if not self._waits(event, 60.0 * attempt, latest):
                    return
            if self.aws.run_worker(event, request_id) is not None:
                return
        self.lose(event)

    def _waits(self, event: Json, seconds: float, latest: float) -> bool:
        """Lets an event wait, if it does not get too old by that."""
        world = self.aws.world
        if world.now + seconds > latest:
            world.count("queue: event expired")
            self.lose(event)
            return False
        world.sleep(seconds)
        return True

    def lose(self, event: Json) -> None:
        """Takes note that an event comes to nothing."""
        if "stop" in event:
            self.stops_lost.add(event["stop"])


class Aws:
    """All of it, as one schedule has it."""

    def __init__(self, world: World, run_worker: Callable[[Json, str], Json]) -> None:
        choices = world.choices
        self.world = world
        self.dynamodb_weather = Weather(world, "dynamodb", DYNAMODB_FAULTS, (0, 30, 100, 300))
        self.lambda_weather = Weather(world, "lambda", CALL_FAULTS, (0, 200, 600))
        self.queue_weather = Weather(world, "queue", QUEUE_FAULTS, (0, 300, 800))
        self.agent = Agent(world, self.dynamodb_weather.agent_ended)
        if self.lambda_weather.rate and choices.below(4) == 3:
            self.lambda_weather.drags_down = self.dynamodb_weather
        self.writer: Sandbox | None = None
        self.sent = 0.0  # when the call began that is served
        lags = choices.pick(((0.0,), (0.01, 0.0, 0.5, 3.0)))
        self.table = DynamoDB(
            clock=lambda: world.now,
            index_lag=lambda: choices.pick(lags),
            read_lag=lambda: choices.pick((0.0, 0.05, 0.5, 2.0)),
        )
        self.table.has_index = choices.below(8) < 7
        self.table.largest_write = choices.pick(LARGEST_WRITES)
        self.queue = Queue(self)
        self.run_worker = run_worker
        self.clients: dict[str, type[Client]] = {
            "dynamodb": DynamoDBClient,
            "lambda": LambdaClient,
            "bedrock-agentcore": AgentClient,
        }
        self.watching: Any = None  # the watcher's queue and bus, if there is one

    def create_client(self, service: str, *, region_name: str, config: Config) -> Any:
        """What botocore's session has under this name."""
        assert region_name == "us-east-1"
        return self.clients[service](self, config)

    def clear_weather(self) -> None:
        """Makes everything work from now on."""
        weathers = (self.dynamodb_weather, self.lambda_weather, self.queue_weather)
        for weather in (*weathers, self.agent.weather):
            weather.clear()
