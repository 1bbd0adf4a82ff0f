"""A worker before moto's table, with an agent that plays a script, a clock and timers that a test turns."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from dynamodb_helpers import Claim, TaskStore
from valro.agent.answers import Answer
from valro.agent.runtime import AgentRequest, AgentRuntime
from valro.tasks import Outcome, Report
from worker_lambda import TaskEvent, TaskRun, lambda_handler

TASK_ID = "0e1fa3b6-9a3e-4c43-8d0a-0c2f4f1f5a77"
DESCRIPTION = "Find me a landscaper in Charlotte under $300"
NOW = 1_800_000_000.0
MAYBE = "The agent may already have contacted vendors."
BEGINNING = [
    "Task created",
    "Worker Lambda invoked - processing started",
    "Agent processing started",
]
COMPLETED = "Agent completed task successfully"
Say = Callable[[str], None]
Play = Callable[[Say], Answer]
ANSWER = Answer(
    "I e-mailed Ann.", [{"name": "Ann", "emails": [{"recipient": "ann@x"}]}], [{"price": 250.5}], 1
)


class FakeTime:
    """Time that passes only when somebody sleeps, and ``calls_take`` with every call."""

    def __init__(self) -> None:
        self.now = NOW
        self.calls_take = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeContext:
    """Lambda's context: one invocation's request id and the time that is left."""

    aws_request_id = "r-1"

    def __init__(self, time: FakeTime, seconds: float = 600.0) -> None:
        self.time = time
        self.end = time.now + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, round((self.end - self.time.now) * 1000))


class FakeTimers:
    """Timers that go off when a test says so."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.running: list[FakeTimer] = []

    def __call__(self, wait: float, write: Callable[[], None]) -> "FakeTimer":
        self.waits.append(wait)
        return FakeTimer(self, write)

    def fire(self) -> None:
        """What threading.Timer does when its time has come."""
        while self.running:
            self.running.pop().write()


class FakeTimer:
    daemon = False

    def __init__(self, timers: FakeTimers, write: Callable[[], None]) -> None:
        self.timers = timers
        self.write = write

    def start(self) -> None:
        assert self.daemon, "a timer must not keep the process alive"
        self.timers.running.append(self)

    def cancel(self) -> None:
        if self in self.timers.running:
            self.timers.running.remove(self)


class FakeAgent(AgentRuntime):
    """Does what a test tells it, in the place of the real agent."""

    def __init__(self) -> None:
        self.play: Play = answers(ANSWER)
        self.requests: list[AgentRequest] = []
        self.stops: list[str] = []
        self.when_stopped: Callable[[], Any] = lambda: None

    def run(
        self,
        request: AgentRequest,
        seconds: float,
        on_progress: Callable[[str], None],
        *,
        before_start: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Answer:
        self.requests.append(request)
        self.seconds, self.before_start, self.should_stop = seconds, before_start, should_stop
        return self.play(on_progress)

    def stop(self, task_id: str) -> None:
        self.stops.append(task_id)
        self.when_stopped()


def answers(answer: Answer) -> Play:
    return lambda _say: answer


def raises(error: BaseException) -> Callable[..., Any]:
    def play(*_: Any) -> Any:
        raise error

    return play


class FaultyClient:
    """A DynamoDB client that counts its calls, and loses or refuses those that a test names."""

    def __init__(self, client: Any, time: FakeTime) -> None:
        self.client = client
        self.time = time
        self.calls: list[str] = []
        self.lose: list[str] = []  # done, but the answer is lost
        self.refuse: list[str] = []  # not done
        self.down = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda **arguments: self._call(name, arguments)

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        self.calls.append(name)
        self.time.now += self.time.calls_take
        if self.down:
            raise EndpointConnectionError(endpoint_url="https://dynamodb")
        if self.refuse[:1] == [name]:
            self.refuse.pop(0)
            raise refusal("ThrottlingException", name)
        answer = getattr(self.client, name)(**arguments)
        if self.lose[:1] == [name]:
            self.lose.pop(0)
            raise ReadTimeoutError(endpoint_url="https://dynamodb")
        return answer

    @property
    def writes(self) -> list[str]:
        writes = ("put_item", "update_item", "transact_write_items")
        return [name for name in self.calls if name in writes]


def refusal(code: str, operation: str = "UpdateItem", **more: Any) -> ClientError:
    return ClientError({"Error": {"Code": code}} | more, operation)


def bring(store: TaskStore, time: FakeTime, happenings: str) -> None:
    """Brings a task into a state, by what happens to it one after another."""
    claims: list[Claim] = []

    def claim() -> Claim:
        store.create_task(TASK_ID, DESCRIPTION)
        claims.append(store.claim_task(TASK_ID, "claim", time.now + 600))
        return claims[0]

    def report(error_code: str = "") -> None:
        end = Report("end", outcome=Outcome(error_code=error_code))
        store.report(store.find_task(TASK_ID), end)

    does: dict[str, Callable[[], Any]] = {
        "absent": lambda: None,
        "pending": lambda: store.create_task(TASK_ID, DESCRIPTION),
        "processing": claim,
        "reporting": lambda: store.accept_task(claim()),
        "completed": lambda: store.end_task(claims[0], Outcome()),
        "reported": report,
        "failed": lambda: report("agent_failed"),
        "cancelled": lambda: store.cancel_task(TASK_ID, "public"),
        "late": lambda: time.sleep(961),
        "read": lambda: store.get_task(TASK_ID, "public"),
        "deleted": lambda: store.delete_task(TASK_ID, "public"),
    }
    for happening in happenings.split(", "):
        does[happening]()


class Log:
    """The function's log so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self._text = ""

    @property
    def text(self) -> str:
        captured = self.capsys.readouterr()
        assert captured.out == ""
        self._text += captured.err
        return self._text

    @property
    def lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(one) for one in self.text.splitlines()]
        assert all("level" in one and "message" in one and "status" not in one for one in lines)
        return lines

    @property
    def outcomes(self) -> list[str]:
        return [one["outcome"] for one in self.lines if "outcome" in one]

    def said(self, message: str) -> list[str]:
        """What was logged under a message, part by part."""
        return [one.get("text", "") for one in self.lines if one["message"] == message]

    @property
    def in_case(self) -> list[str]:
        """What is there of an answer in case that it cannot be written."""
        return self.said("answer, in case it cannot be written")


class Worker:
    """A table with a worker before it, and everything around them that a test turns."""

    def __init__(self, client: Any, table_name: str, log: Log) -> None:
        self.time = FakeTime()
        self.client = FaultyClient(client, self.time)
        self.store = TaskStore(
            self.client, table_name, clock=self.time.clock, sleep=self.time.sleep
        )
        self.timers = FakeTimers()
        self.timer: Callable[[float, Callable[[], None]], Any] = self.timers
        self.agent = FakeAgent()
        self.log = log

    def create(self) -> TaskEvent:
        """Creates a task as the API does; returns the event that it sends."""
        task, _ = self.store.create_task(TASK_ID, DESCRIPTION)
        return TaskEvent(TASK_ID, DESCRIPTION, task["created_at"])

    def deliver(self, event: TaskEvent, seconds: float = 600.0) -> str:
        """Lambda delivers an event; returns what became of it."""
        run = TaskRun(
            self.store,
            self.agent,
            event,
            FakeContext(self.time, seconds),
            clock=self.time.clock,
            monotonic=self.time.clock,
            sleep=self.time.sleep,
            timer=self.timer,
        )
        return str(run.run()["outcome"])

    def run(self, play: Play | None = None, seconds: float = 600.0) -> str:
        """Has the agent play its part in a new task; returns what became of it."""
        event = self.create()
        self.agent.play = play or self.agent.play
        return self.deliver(event, seconds)

    def handle(self, event: Any) -> dict[str, Any]:
        """Calls the function itself."""
        return lambda_handler(event, FakeContext(self.time))

    def bring(self, happenings: str) -> None:
        """Lets this happen to a task, one after another."""
        bring(self.store, self.time, happenings)

    def cancel(self) -> None:
        """Somebody asks for the task's end."""
        self.store.cancel_task(TASK_ID, "public")

    def delete(self) -> None:
        self.store.delete_task(TASK_ID, "public")

    def end_by_reading(self) -> None:
        """So much time passes that the next reader gives the task up."""
        self.time.sleep(661)
        assert self.task()["status"] == "error"

    def task(self, task_id: str = TASK_ID) -> dict[str, Any]:
        return self.store.with_answer(self.store.get_task(task_id, "public"))

    def items(self) -> list[Any]:
        """Everything that is in the table."""
        items: list[Any] = self.client.client.scan(TableName=self.store.table_name)["Items"]
        return items

    def messages(self) -> list[str]:
        return [event["message"] for event in self.task()["events"]]
