"""A worker before moto's table, with an agent that plays a script, a clock and timers that a test turns."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from dynamodb_helpers import TaskStore
from valro.agent.answers import (
    AgentFailed,
    Answer,
)
from valro.agent.runtime import AgentRequest, AgentRuntime
from worker_lambda import TaskEvent, TaskRun, lambda_handler

TASK_ID = "0e1fa3b6-9a3e-4c43-8d0a-0c2f4f1f5a77"
DESCRIPTION = "Find me a landscaper in Charlotte under $300"
NOW = 1_800_000_000.0
MAYBE = "The agent may already have contacted vendors."
WRITES = ("put_item", "update_item", "transact_write_items")
BEGINNING = [
    "Task created",
    "Worker Lambda invoked - processing started",
    "Agent processing started",
]
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

    def __init__(self, time: FakeTime, seconds: float = 600.0, request_id: str = "r-1") -> None:
        self.time = time
        self.end = time.now + seconds
        self.aws_request_id = request_id

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
        for timer in list(self.running):
            self.running.remove(timer)
            timer.write()


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

    def __init__(self, play: Play | None = None) -> None:
        self.play = play or (lambda _: ANSWER)
        self.runs: list[tuple[str, str, float]] = []
        self.stops: list[str] = []
        self.stop_error: Exception | None = None
        self.meanwhile: Callable[[], Any] = lambda: None
        # What the worker gives to the real one for a run.
        self.before_start: Callable[[], None] = lambda: None
        self.should_stop: Callable[[], bool] = lambda: False
        self.report: dict[str, Any] | None = None

    def run(
        self,
        request: AgentRequest,
        seconds: float,
        on_progress: Callable[[str], None],
        *,
        before_start: Callable[[], None] = lambda: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Answer:
        self.before_start, self.should_stop, self.report = before_start, should_stop, request.report
        self.runs.append((request.task_id, request.prompt, seconds))
        return self.play(on_progress)

    def stop(self, task_id: str) -> None:
        self.stops.append(task_id)
        self.meanwhile()
        if self.stop_error:
            raise self.stop_error


def raises(error: BaseException) -> Play:
    def play(_: Say) -> Answer:
        raise error

    return play


def says(*messages: str) -> Play:
    def play(say: Say) -> Answer:
        for message in messages:
            say(message)
        return ANSWER

    return play


class FaultyClient:
    """A DynamoDB client that counts its calls, and loses or refuses those that a test names.

    DynamoDB takes one write of an item at a time; moto needs the lock for that.
    """

    def __init__(self, client: Any, time: FakeTime) -> None:
        self.client = client
        self.time = time
        self.calls: list[str] = []
        self.lose: list[str] = []  # done, but the answer is lost
        self.refuse: list[str] = []  # not done
        self.down = False
        self.lock = threading.RLock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda **arguments: self._call(name, arguments)

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        with self.lock:
            self.calls.append(name)
            self.time.now += self.time.calls_take
            if self.down:
                raise EndpointConnectionError(endpoint_url="https://dynamodb")
            if self.refuse[:1] == [name]:
                self.refuse.pop(0)
                raise throttled(name)
            answer = getattr(self.client, name)(**arguments)
            if self.lose[:1] == [name]:
                self.lose.pop(0)
                raise ReadTimeoutError(endpoint_url="https://dynamodb")
            return answer

    @property
    def writes(self) -> list[str]:
        return [name for name in self.calls if name in WRITES]


FORBIDDEN = ClientError({"Error": {"Code": "AccessDeniedException"}}, "UpdateItem")


def throttled(name: str) -> ClientError:
    return ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, name)


class Worker:
    """A table with a worker before it, and everything around them that a test turns."""

    def __init__(self, client: Any, table_name: str) -> None:
        self.time = FakeTime()
        self.client = FaultyClient(client, self.time)
        self.store = TaskStore(
            self.client, table_name, clock=self.time.clock, sleep=self.time.sleep
        )
        self.timers = FakeTimers()
        self.agent = FakeAgent()

    def create(self, task_id: str = TASK_ID) -> TaskEvent:
        """Creates a task as the API does; returns the event that it sends."""
        task, _ = self.store.create_task(task_id, DESCRIPTION)
        return TaskEvent(task_id, DESCRIPTION, task["created_at"])

    def deliver(
        self, event: TaskEvent, seconds: float = 600.0, agent: AgentRuntime | None = None
    ) -> dict[str, Any]:
        return TaskRun(
            self.store,
            agent or self.agent,
            event,
            FakeContext(self.time, seconds),
            clock=self.time.clock,
            monotonic=self.time.clock,
            sleep=self.time.sleep,
            timer=self.timers,
        ).run()

    def run(self, play: Play | None = None) -> str:
        """Has the agent play its part in a new task; returns what became of it."""
        event = self.create()
        self.agent.play = play or self.agent.play
        return str(self.deliver(event)["outcome"])

    def cancel(self) -> None:
        """Somebody asks for the task's end."""
        self.store.cancel_task(TASK_ID, "public")

    def reader(self) -> TaskStore:
        """Somebody else, whose network is well."""
        return TaskStore(self.client.client, self.store.table_name, clock=self.time.clock)

    def play(self, play: Play) -> None:
        self.agent.play = play

    def task(self, task_id: str = TASK_ID) -> dict[str, Any]:
        return self.store.with_answer(self.store.get_task(task_id, "public"))

    def items(self) -> list[Any]:
        """Everything that is in the table."""
        items: list[Any] = self.client.client.scan(TableName=self.store.table_name)["Items"]
        return items

    def messages(self) -> list[str]:
        return [event["message"] for event in self.task()["events"]]


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
    def raw_lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(one) for one in self.raw_lines]
        assert all("level" in one and "message" in one and "status" not in one for one in lines)
        return lines

    @property
    def outcomes(self) -> list[str]:
        return [one["outcome"] for one in self.lines if "outcome" in one]

    def said(self, message: str) -> list[dict[str, Any]]:
        return [one for one in self.lines if one["message"] == message]


OUTCOMES = [(lambda _: ANSWER, "completed"), (raises(AgentFailed("No.")), "error")]


def handle(worker: Worker, event: Any) -> dict[str, Any]:
    return lambda_handler(event, FakeContext(worker.time))
