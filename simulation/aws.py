"""What stands in for AWS: botocore's clients, the network between, Lambda's queue, the agent.

A client sends a call as often as botocore would with the Config it was made with, and each sending
meets the weather: it may be refused, lost, done and its answer lost, or done long after the client
has given up; and the sandbox that sends it may die at every point of it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)
from urllib3.exceptions import ProtocolError
from urllib3.exceptions import ReadTimeoutError as StreamReadTimeout

from simulation.dynamodb import DynamoDB, client_error
from simulation.world import TIMED_OUT, Actor, Sandbox, World

Json = Any

ACCOUNT = "123456789012"
AGENT_ARN = f"arn:aws:bedrock-agentcore:us-east-1:{ACCOUNT}:runtime/sim-0123456789"
WORKER_ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:valro-worker"
# What AWS says of its own failures; none of it is for the public.
INTERNALS = f"arn:aws:iam::{ACCOUNT}:role/secret is not amused"
URL = "https://aws.invalid"

LATENCIES = (0.004, 0.002, 0.006, 0.01, 0.02, 0.1, 0.4, 1.2)
DEATHS = ("dies before", "dies in flight", "dies after")
CALL_FAULTS = (
    "throttled",
    "5xx",
    "5xx but done",
    "no connection",
    "connect timeout",
    "request lost",
    "answer lost",
    "reset",
    "reset but done",
    "late",
    *DEATHS,
)
DYNAMODB_FAULTS = (*CALL_FAULTS, "conflict", "keys unprocessed")
AGENT_FAULTS = (
    *(fault for fault in CALL_FAULTS if fault != "late"),
    "session busy",
    "quota",
    "denied",
    "agent failed",
    "broken error",
    "unexpected error",
)
QUEUE_FAULTS = ("delivered twice", "delivered late", "throttled", "never delivered", "again later")
UNANSWERED = ("answer lost", "late")
OUTAGES = (2.0, 12.0, 60.0, 700.0, 3_000.0)
OUTAGE_FAULTS = ("5xx", "throttled", "no connection", "request lost")
TRANSIENT_CODES = frozenset(
    {"ThrottlingException", "ProvisionedThroughputExceededException", "InternalServerError"}
)
THROTTLED_CODES = {
    "dynamodb": ("ProvisionedThroughputExceededException", 400),
    "lambda": ("TooManyRequestsException", 429),
    "agent": ("ThrottlingException", 429),
}

REFUSALS = {  # nothing of the agent has run
    "session busy": ("RetryableConflictException", 409),
    "quota": ("ServiceQuotaExceededException", 402),
    "denied": ("AccessDeniedException", 403),
}

# How an agent's run may end, apart from an answer.
AGENT_ENDINGS = (
    "answers",
    "long answer",
    "too long answer",
    "says error",
    "unreadable",
    "empty",
    "cut",
    "stalls",
    "floods",
    "worker dies in mid-stream",
    "unexpected error in mid-stream",
)
AGENT_SECONDS = (1.0, 0.2, 20.0, 61.0, 400.0, 800.0)


class Weather:
    """How a service behaves in one schedule: which faults it knows, how often, and when it is down.

    Each schedule knows a few kinds only. Were all of them always there, none would ever be alone.
    """

    def __init__(
        self, world: World, service: str, kinds: tuple[str, ...], rates: tuple[int, ...]
    ) -> None:
        choices = world.choices
        self.world = world
        self.service = service
        self.rate = choices.pick(rates)
        mask = choices.below(1 << len(kinds)) if self.rate else 0
        self.kinds = [kind for index, kind in enumerate(kinds) if mask >> index & 1]
        self.down = (0.0, 0.0)
        if self.rate and service != "queue" and choices.below(6) == 5:
            start = choices.pick((0.0, 0.02, 5.0, 60.0, 580.0, 940.0))
            self.down = (start, start + choices.pick(OUTAGES))
        self.drags_down: Weather | None = None

    def fault(self) -> str:
        """What befalls one call, if anything."""
        self.world.check_alive()
        choices = self.world.choices
        sandbox = self.world.current and self.world.current.sandbox
        if self.down[0] <= self.world.now < self.down[1]:
            fault = "down, " + choices.pick(OUTAGE_FAULTS)
        elif self.kinds and choices.chance(self.rate):
            fault = choices.pick(self.kinds)
        else:
            fault = ""
        if sandbox and not fault:
            sandbox.troubled.discard(self.service)
        if fault in ("", "keys unprocessed"):
            return ""  # that is how a batch is answered, not how a call goes
        self.world.count(f"{self.service}: {fault}")
        if sandbox:
            sandbox.faults[self.service] += 1
            sandbox.troubled.add(self.service)
        if self.drags_down and not self.drags_down.down[1]:
            self.drags_down.down = (self.world.now, self.world.now + choices.pick(OUTAGES))
        return fault.removeprefix("down, ")

    def clear(self) -> None:
        """Makes everything work from now on."""
        self.kinds, self.down, self.drags_down = [], (0.0, 0.0), None


class Slow(NamedTuple):
    """An answer that takes its time."""

    answer: Any
    seconds: float


class Trip(NamedTuple):
    """One HTTP request on its way: what befalls it, and the seconds that it takes."""

    fault: str
    operation: str
    going: float
    coming: float
    read: float  # the client's patience


class Network:
    """Carries calls to services and their answers back."""

    def __init__(self, world: World) -> None:
        self.world = world

    def call(
        self, weather: Weather, config: Config | None, operation: str, serve: Callable[[], Any]
    ) -> Any:
        """A call as botocore makes it, sent again after what its standard retries are for."""
        return self.retried(
            config, lambda: self.send(weather.fault(), weather.service, config, operation, serve)
        )

    def retried(self, config: Config | None, send: Callable[[], Any]) -> Any:
        """Sends until it works, or botocore would give up."""
        attempts = attempts_of(config)
        for attempt in range(1, attempts + 1):
            try:
                return send()
            except (ClientError, HTTPClientError) as error:
                if attempt == attempts or not is_retried(error):
                    raise
                self.world.count("botocore sends again")
            self.world.sleep(self.world.choices.pick((0.0, 0.5, 1.0)) * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    def send(
        self,
        fault: str,
        service: str,
        config: Config | None,
        operation: str,
        serve: Callable[[], Any],
    ) -> Any:
        """One HTTP request; ``serve`` runs when it arrives, whatever became of its sender."""
        world, choices = self.world, self.world.choices
        connect, read = (config.connect_timeout, config.read_timeout) if config else (60, 60)
        going, coming = choices.pick(LATENCIES), choices.pick(LATENCIES)
        match fault:
            case "dies before":
                world.die("before a call")
            case "no connection":
                world.sleep(going)
                raise EndpointConnectionError(endpoint_url=URL)
            case "connect timeout":
                world.sleep(connect)
                raise ConnectTimeoutError(endpoint_url=URL)
            case "throttled":
                world.sleep(going)
                code, status = THROTTLED_CODES[service]
                raise client_error(code, status, operation, INTERNALS)
            case "5xx":
                world.sleep(going)
                raise client_error("InternalServerError", 500, operation, INTERNALS)
            case "conflict":
                world.sleep(going)
                raise conflict(operation)
            case "reset":
                world.sleep(going)
                raise ConnectionClosedError(endpoint_url=URL)
            case "request lost":
                world.sleep(read)
                raise ReadTimeoutError(endpoint_url=URL)
        if fault == "late":
            going = read + choices.pick((0.1, 1.0, 5.0, 20.0))
        return self._exchange(Trip(fault, operation, going, coming, float(read)), serve)

    def _exchange(self, trip: Trip, serve: Callable[[], Any]) -> Any:
        """A request that arrives."""
        world, actor = self.world, self.world.actor()
        ticket, sandbox = actor.ticket, actor.sandbox
        world.after(trip.going, self._arrive, trip, serve, actor, ticket)
        if trip.fault == "dies in flight" and sandbox:
            world.after(trip.going / 2, world.doom, sandbox, f"during {trip.operation}")
        elif trip.fault in UNANSWERED:
            world.after(trip.read, world.resume, actor, ticket, TIMED_OUT)
        answer = world.wait()
        if answer is TIMED_OUT:
            raise ReadTimeoutError(endpoint_url=URL)
        if trip.fault == "reset but done":
            raise ConnectionClosedError(endpoint_url=URL)
        if trip.fault == "5xx but done":
            raise client_error("InternalServerError", 500, trip.operation, INTERNALS)
        if isinstance(answer, ClientError):
            raise answer
        return answer

    def _arrive(self, trip: Trip, serve: Callable[[], Any], actor: Actor, ticket: int) -> None:
        answer: Any
        delay = trip.coming
        self.world.choices.stream = f"{actor.stream}>"
        try:
            answer = serve()
        except ClientError as error:
            answer = error
        if isinstance(answer, Slow):
            delay, answer = delay + answer.seconds, answer.answer
        if delay >= trip.read:
            delay, answer = trip.read, TIMED_OUT
        if trip.fault == "dies after" and actor.sandbox:
            self.world.doom(actor.sandbox, f"after {trip.operation}")
        elif trip.fault not in UNANSWERED:
            self.world.after(delay, self.world.resume, actor, ticket, answer)


def attempts_of(config: Config | None) -> int:
    """How often botocore sends a call, all in all."""
    retries = (config.retries if config else None) or {}
    if "total_max_attempts" in retries:
        return int(retries["total_max_attempts"])
    if "max_attempts" in retries:
        return int(retries["max_attempts"]) + 1
    return 5


def is_retried(error: Exception) -> bool:
    """Whether botocore's own retries are for such an error."""
    if isinstance(error, ClientError):
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return status >= 500 or status == 429 or error.response["Error"]["Code"] in TRANSIENT_CODES
    return True


def conflict(operation: str) -> ClientError:
    """Two transactions met."""
    if operation == "TransactWriteItems":
        reasons = [{"Code": "TransactionConflict"}, {"Code": "None"}]
        return client_error(
            "TransactionCanceledException", 400, operation, CancellationReasons=reasons
        )
    return client_error("TransactionConflictException", 400, operation)


class DynamoDBClient:
    """botocore's DynamoDB client; its answers are parsed already, whoever would parse them."""

    meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_parser: None))

    def __init__(self, aws: Aws, config: Config | None) -> None:
        self.aws = aws
        self.config = config

    def put_item(self, **request: Any) -> Any:
        """Sends PutItem."""
        return self._call("PutItem", self.aws.table.put_item, request)

    def update_item(self, **request: Any) -> Any:
        """Sends UpdateItem."""
        return self._call("UpdateItem", self.aws.table.update_item, request)

    def transact_write_items(self, **request: Any) -> Any:
        """Sends TransactWriteItems, with the token that botocore makes once a call."""
        request.setdefault("ClientRequestToken", f"token-{next(self.aws.world.ids)}")
        return self._call("TransactWriteItems", self.aws.table.transact_write_items, request)

    def get_item(self, **request: Any) -> Any:
        """Sends GetItem."""
        return self._call("GetItem", self.aws.table.get_item, request)

    def batch_get_item(self, **request: Any) -> Any:
        """Sends BatchGetItem."""
        return self._call("BatchGetItem", self.aws.table.batch_get_item, request)

    def query(self, **request: Any) -> Any:
        """Sends Query."""
        return self._call("Query", self.aws.table.query, request)

    def scan(self, **request: Any) -> Any:
        """Sends Scan."""
        return self._call("Scan", self.aws.table.scan, request)

    def _call(self, operation: str, serve: Callable[..., Any], request: dict[str, Any]) -> Any:
        aws, sandbox = self.aws, self.aws.world.actor().sandbox

        def arrive() -> Any:
            aws.writer = sandbox
            try:
                answer = serve(**request)
            except ClientError as error:
                self._trace(operation, request, sandbox, error.response["Error"]["Code"])
                raise
            self._trace(operation, request, sandbox, "done")
            weather = aws.dynamodb_weather
            if operation == "BatchGetItem" and "keys unprocessed" in weather.kinds:
                return self._some_unprocessed(request, answer)
            return answer

        return aws.network.call(aws.dynamodb_weather, self.config, operation, arrive)

    def _some_unprocessed(self, request: dict[str, Any], answer: Any) -> Any:
        ((table, asked),) = request["RequestItems"].items()
        kept = self.aws.world.choices.below(len(asked["Keys"]) + 1)
        if not kept:
            return answer
        self.aws.world.count("dynamodb: keys unprocessed")
        if self.aws.writer:
            self.aws.writer.faults["dynamodb"] += 1
        left = [key["id"] for key in asked["Keys"][:kept]]
        found = [item for item in answer["Responses"][table] if item["id"] not in left]
        keys = [{"id": key} for key in left]
        return {"Responses": {table: found}, "UnprocessedKeys": {table: {**asked, "Keys": keys}}}

    def _trace(
        self, operation: str, request: dict[str, Any], sandbox: Sandbox | None, outcome: str
    ) -> None:
        if not self.aws.world.tracing:
            return
        update = request.get("TransactItems", [{"Update": request}])[0]["Update"]
        key = update.get("Key") or update.get("Item", {})
        status = update.get("ExpressionAttributeValues", {}).get(":status", {}).get("S", "")
        what = f"{operation} {key.get('id', {}).get('S', '')} {status and f'to {status} '}"
        self.aws.world.trace(f"{what}{outcome}", sandbox.name if sandbox else "")


class LambdaClient:
    """botocore's Lambda client."""

    def __init__(self, aws: Aws, config: Config | None) -> None:
        self.aws = aws
        self.config = config

    def invoke(self, *, FunctionName: str, InvocationType: str, Payload: str) -> Any:  # noqa: N803
        """Hands an asynchronous event to Lambda."""
        assert (FunctionName, InvocationType) == (WORKER_ARN, "Event")

        def arrive() -> Any:
            self.aws.queue.accept(json.loads(Payload))
            return {"StatusCode": 202, "Payload": io.BytesIO()}

        return self.aws.network.call(self.aws.lambda_weather, self.config, "Invoke", arrive)


class Delivery(NamedTuple):
    """An event on its way to the worker; its retries keep its request id."""

    event: Json
    request_id: str
    accepted: float
    attempt: int
    stream: str  # of choices


class Queue:
    """Lambda's queue of asynchronous events: at least once, in any order, for a limited time."""

    def __init__(self, aws: Aws, maximum_age: float, retries: int) -> None:
        self.aws = aws
        self.maximum_age = maximum_age
        self.retries = retries
        self.accepted: set[str] = set()  # ids of the tasks whose events were

    def accept(self, event: Json) -> None:
        """Takes an event and plans its deliveries."""
        world, choices = self.aws.world, self.aws.world.choices
        request_id = f"event-{next(world.ids)}"
        self.accepted.add(event["task_id"])
        fault, delays = self.aws.queue_weather.fault(), [choices.pick((0.05, 0.01, 0.3, 2.0))]
        match fault:
            case "never delivered":
                delays = []
            case "delivered late":
                # Past the age limit too: what the claim must bear is worse than what AWS does.
                delays = [choices.pick((10.0, 40.0, 300.0, 890.0, 955.0, 961.0, 1_100.0))]
            case "delivered twice":
                delays.append(delays[0] + choices.pick((0.0, 0.001, 0.01, 0.5)))
            case "again later":
                again = (1.0, 61.0, 600.0, 700.0, 955.0, 961.0, 1_100.0)
                delays.append(choices.pick(again))
        world.trace(f"Lambda takes {request_id} for {event['task_id']}, due in {delays} s", "queue")
        delivery = Delivery(event, request_id, world.now, 0, f"{choices.stream}/event")
        for delay in delays:
            deliver = partial(self._deliver, delivery, throttled=fault == "throttled")
            world.after(delay, deliver)

    def _deliver(self, delivery: Delivery, *, throttled: bool) -> None:
        world = self.aws.world
        world.choices.stream = delivery.stream
        if throttled:
            still = world.choices.below(3) > 0
            wait = world.choices.pick((5.0, 1.0, 60.0, 200.0))
            self._later(delivery, wait, throttled=still)
            return

        def ended(result: Any) -> None:
            if result is None and delivery.attempt < self.retries:
                world.count("queue: delivered again after a failure")
                again = delivery._replace(attempt=delivery.attempt + 1)
                self._later(again, 60.0 * again.attempt, throttled=False)

        self.aws.start_worker(delivery.event, delivery.request_id, ended)

    def _later(self, delivery: Delivery, wait: float, *, throttled: bool) -> None:
        world = self.aws.world
        if world.now + wait - delivery.accepted > self.maximum_age:
            world.count("queue: event expired")
        else:
            world.after(wait, partial(self._deliver, delivery, throttled=throttled))


class Piece(NamedTuple):
    """Bytes of the agent's answer, and the progress that a reader has heard once it has them."""

    data: bytes = b""
    said: tuple[str, ...] = ()
    then: str = ""


END, GOOD_END = Piece(then="end"), Piece(then="good end")
CUT, STALL = Piece(then="cut"), Piece(then="stall")
DEATH, SURPRISE = Piece(then="death"), Piece(then="surprise")


@dataclass
class AgentRun:
    """One start of the agent, and how much of it was heard."""

    task_id: str
    text: str
    answer: dict[str, Json] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    answered_to: Sandbox | None = None  # who has read the whole of a good answer


class AgentClient:
    """botocore's AgentCore client, and the agent behind it."""

    def __init__(self, aws: Aws, config: Config | None) -> None:
        self.aws = aws
        self.config = config

    def invoke_agent_runtime(
        self,
        *,
        agentRuntimeArn: str,  # noqa: N803
        runtimeSessionId: str,  # noqa: N803
        payload: bytes,
    ) -> Any:
        """Starts the agent and returns its answer as it comes."""
        assert agentRuntimeArn == AGENT_ARN
        assert len(runtimeSessionId) >= 33
        asked = json.loads(payload)
        return self.aws.network.retried(self.config, lambda: self._send(asked))

    def stop_runtime_session(
        self,
        *,
        agentRuntimeArn: str,  # noqa: N803
        runtimeSessionId: str,  # noqa: N803
    ) -> Any:
        """Asks for the end of a session."""
        assert agentRuntimeArn == AGENT_ARN

        def arrive() -> Any:
            self.aws.stopped(runtimeSessionId)
            return {}

        weather = self.aws.agent_weather
        return self.aws.network.call(weather, self.config, "StopRuntimeSession", arrive)

    def _send(self, asked: Json) -> Any:
        aws, world = self.aws, self.aws.world
        fault = aws.agent_weather.fault()
        if fault in REFUSALS:
            world.sleep(0.02)
            code, status = REFUSALS[fault]
            raise client_error(code, status, "InvokeAgentRuntime", INTERNALS)

        def arrive() -> Any:
            run = AgentRun(asked["task_id"], f"Found by run {next(world.ids)}.")
            aws.agent_started(run, asked["prompt"])
            return self._answer(run)

        broken = fault in ("agent failed", "broken error", "unexpected error")
        network_fault = "" if broken else fault
        answer = aws.network.send(network_fault, "agent", self.config, "InvokeAgentRuntime", arrive)
        if fault == "agent failed":
            raise client_error("RuntimeClientError", 424, "InvokeAgentRuntime", INTERNALS)
        if fault == "broken error":
            # botocore lets this one through, when an error's body breaks off.
            raise ProtocolError("Connection broken")
        if fault == "unexpected error":
            raise RuntimeError("What nobody has thought of")
        answer["response"].connect(world, self.config)
        return answer

    def _answer(self, run: AgentRun) -> Any:
        """What the agent does, planned when it starts."""
        world, choices = self.aws.world, self.aws.world.choices
        streams = choices.below(2) == 1
        seconds = choices.pick(AGENT_SECONDS) if self.aws.agent_is_odd else 1.0
        ending = choices.pick(AGENT_ENDINGS) if self.aws.agent_is_odd else "answers"
        if ending != "answers":
            world.count(f"agent: {ending}")
        if seconds > 60:
            world.count("agent: slow")
        size = {"long answer": 2_000, "too long answer": 5_000}.get(ending, choices.pick((0, 400)))
        run.text += "é" * (size // 2) + "x" * (size // 2)
        run.answer = {
            "response": run.text,
            "vendors": [{"name": "Ann", "email": "ann@example.com"}],
            "emails": [{"recipient": "Ann@example.com", "body": "Hello"}],
        }
        body = Body(run)
        plan = self._stream(run, ending) if streams else self._document(run, ending)
        gap = seconds / len(plan) if streams else choices.pick((0.0, 0.01, 3.0))
        head = 0.05 if streams else seconds
        due = world.now + head
        for piece in plan:
            due += gap
            body.pieces.append((due, piece))
        content_type = "text/event-stream; charset=utf-8" if streams else "application/json"
        return Slow({"contentType": content_type, "response": body}, head)

    def _document(self, run: AgentRun, ending: str) -> list[Piece]:
        text = json.dumps(run.answer, ensure_ascii=False).encode()
        match ending:
            case "says error":
                return [Piece(b'{"error": "no vendors"}'), END]
            case "unreadable":
                return [Piece(text[:20] + b"\xff" + text[20:]), END]
            case "empty":
                return [END]
            case "cut":
                return [Piece(text[:30]), CUT]
            case "stalls":
                return [Piece(text[:30]), STALL]
            case "floods":
                return [Piece(b"x" * 4_000)] * 30
            case "worker dies in mid-stream":
                return [Piece(text[:30]), DEATH]
            case "unexpected error in mid-stream":
                return [Piece(text[:30]), SURPRISE]
        middle = self.aws.world.choices.below(len(text) // 8) * 8
        return [Piece(text[:middle]), Piece(text[middle:]), GOOD_END]

    def _stream(self, run: AgentRun, ending: str) -> list[Piece]:
        choices = self.aws.world.choices
        steps = [f"Step {number} of it" for number in range(choices.pick((0, 1, 2, 4, 8)))]
        frames: list[tuple[Json, tuple[str, ...]]] = [
            ({"message": step}, (step,)) for step in steps
        ]
        frames.append((run.text[:10], ()))
        plan: list[Piece] = []
        for frame, said in frames:
            text = f"data: {json.dumps(frame)}\n\n".encode()
            if choices.below(4) == 3:
                middle = choices.below(len(text) - 2)
                plan += [Piece(text[:middle]), Piece(text[middle:], said)]
            else:
                plan.append(Piece(text, said))
        answer = f"data: {json.dumps(run.answer, ensure_ascii=False)}\n\n".encode()
        if ending == "empty":
            return [Piece(b": nothing\n\n"), END]
        return [*plan, *_end_of_stream(ending, answer)]


def _end_of_stream(ending: str, answer: bytes) -> list[Piece]:
    match ending:
        case "says error":
            return [Piece(b'data: {"error": "x", "message": "It broke"}\n\n'), END]
        case "unreadable":
            return [Piece(b'data: {"message": \xff\n\n'), Piece(answer), END]
        case "cut":
            return [Piece(answer[:30]), CUT]
        case "stalls":
            return [STALL]
        case "floods":
            return [Piece(b"data: " + b"x" * 4_000)] * 30
        case "worker dies in mid-stream":
            return [DEATH]
        case "unexpected error in mid-stream":
            return [SURPRISE]
    return [Piece(answer), GOOD_END]


class Body:
    """botocore's StreamingBody, as far as the worker reaches into it."""

    def __init__(self, run: AgentRun) -> None:
        self.run = run
        self.pieces: list[tuple[float, Piece]] = []
        self.closed = False
        self.timeout = 60.0
        self._world: World | None = None

    @property
    def _raw_stream(self) -> Body:
        return self

    def connect(self, world: World, config: Config | None) -> None:
        """Hands the body to the client that will read it."""
        self._world = world
        self.timeout = config.read_timeout if config else 60.0

    def set_socket_timeout(self, timeout: float) -> None:
        """Bounds the next read."""
        self.timeout = timeout

    def close(self) -> None:
        """Ends the reading."""
        self.closed = True

    def read1(self, _most: int) -> bytes:
        """Waits for what comes next, and returns it."""
        world = self._world
        assert world
        if not self.pieces:
            self.closed = True
            return b""
        due, piece = self.pieces[0]
        if piece.then == "stall" or due - world.now > self.timeout:
            world.sleep(self.timeout)
            raise StreamReadTimeout(None, URL, "Read timed out.")  # type: ignore[arg-type]
        world.sleep(due - world.now)
        del self.pieces[0]
        if piece.then == "cut":
            raise ProtocolError("Connection broken: IncompleteRead")
        if piece.then == "surprise":
            raise RuntimeError("What nobody has thought of")
        if piece.then == "death":
            world.die("in mid-stream")
        if piece.then in ("end", "good end"):
            self.closed = True
            if piece.then == "good end":
                self.run.answered_to = world.actor().sandbox
        self.run.heard += piece.said
        return piece.data


class Aws:
    """All of it, as one schedule has it."""

    def __init__(
        self,
        world: World,
        *,
        on_write: Callable[[Any, Any, Sandbox | None], None],
        agent_started: Callable[[AgentRun, str], None],
        stopped: Callable[[str], None],
        start_worker: Callable[[Json, str, Callable[[Any], None]], None],
        maximum_event_age: float,
        retries: int,
    ) -> None:
        choices = world.choices
        self.world = world
        self.dynamodb_weather = Weather(world, "dynamodb", DYNAMODB_FAULTS, (0, 30, 100, 300))
        self.lambda_weather = Weather(world, "lambda", CALL_FAULTS, (0, 200, 600))
        self.queue_weather = Weather(world, "queue", QUEUE_FAULTS, (0, 300, 800))
        self.agent_weather = Weather(world, "agent", AGENT_FAULTS, (0, 200, 600))
        if self.lambda_weather.rate and choices.below(4) == 3:
            self.lambda_weather.drags_down = self.dynamodb_weather
        self.agent_is_odd = choices.below(2) == 1
        self.network = Network(world)
        self.writer: Sandbox | None = None
        lags = choices.pick(((0.0,), (0.01, 0.0, 0.5, 3.0)))
        self.table = DynamoDB(
            clock=lambda: world.now,
            on_write=lambda old, new: on_write(old, new, self.writer),
            index_lag=lambda: choices.pick(lags),
            read_lag=lambda: choices.pick((0.0, 0.05, 0.5, 2.0)),
        )
        self.table.has_index = choices.below(8) < 7
        self.queue = Queue(self, maximum_event_age, retries)
        self.agent_started = agent_started
        self.stopped = stopped
        self.start_worker = start_worker

    def create_client(self, service: str, *, region_name: str, config: Config | None = None) -> Any:
        """What botocore's session has under this name."""
        assert region_name == "us-east-1"
        clients = {
            "dynamodb": DynamoDBClient,
            "lambda": LambdaClient,
            "bedrock-agentcore": AgentClient,
        }
        return clients[service](self, config)

    def clear_weather(self) -> None:
        """Makes everything work from now on."""
        for weather in (
            self.dynamodb_weather,
            self.lambda_weather,
            self.queue_weather,
            self.agent_weather,
        ):
            weather.clear()
