"""What the Worker Lambda promises, on moto's table, with an agent that plays a script.

Its docstring's table is the outline: who runs the agent, what is written, what is raised.
"""

import hashlib
import itertools
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

import dynamodb_helpers
import worker_lambda
from dynamodb_helpers import TaskStore
from tests.product.agent_server import (
    ARN,
    AgentServer,
    agent_server,
    line,
    sends_error,
    sends_json,
    streams,
)
from valro import tasks
from valro.agent.answers import (
    Accepted,
    AgentError,
    AgentFailed,
    AgentLost,
    AgentNotStarted,
    Answer,
)
from valro.agent.runtime import AgentRequest, AgentRuntime
from valro.tasks import Outcome, timestamp
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

    def __init__(self, play: Callable[[Callable[[str], None]], Answer] | None = None) -> None:
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


def raises(error: BaseException) -> Callable[[Callable[[str], None]], Answer]:
    def play(_: Callable[[str], None]) -> Answer:
        raise error

    return play


def says(*messages: str) -> Callable[[Callable[[str], None]], Answer]:
    def play(say: Callable[[str], None]) -> Answer:
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

    def cancel(self) -> None:
        """Somebody asks for the task's end."""
        self.store.cancel_task(TASK_ID, "public")

    def reader(self) -> TaskStore:
        """Somebody else, whose network is well."""
        return TaskStore(self.client.client, self.store.table_name, clock=self.time.clock)

    def play(self, play: Callable[[Callable[[str], None]], Answer]) -> None:
        self.agent.play = play

    def task(self, task_id: str = TASK_ID) -> dict[str, Any]:
        return self.store.with_answer(self.store.get_task(task_id, "public"))

    def items(self) -> list[Any]:
        """Everything that is in the table."""
        items: list[Any] = self.client.client.scan(TableName=self.store.table_name)["Items"]
        return items

    def messages(self) -> list[str]:
        return [event["message"] for event in self.task()["events"]]


@pytest.fixture
def worker(dynamodb: Any, table_name: str) -> Worker:
    return Worker(dynamodb, table_name)


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


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Log:
    return Log(capsys)


@pytest.fixture
def deployed(
    worker: Worker, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AgentServer]:
    """The function's environment, with the real agent call and a little agent behind it."""
    cached = (dynamodb_helpers.task_store, worker_lambda.agent_runtime)
    for function in cached:
        function.cache_clear()
    for name in (
        "AGENT_RUNTIME_QUALIFIER",
        "AGENT_PROTOCOL",
        "STOP_SESSION_AFTER_TASK",
        "TASK_TTL_DAYS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DYNAMODB_TABLE_NAME", table_name)
    monkeypatch.setenv("AGENT_RUNTIME_ARN", ARN)
    with agent_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", server.url)
        server.play(sends_json({"response": "done"}))
        yield server
    for function in cached:
        function.cache_clear()


@pytest.fixture
def without_agent(deployed: AgentServer, monkeypatch: pytest.MonkeyPatch, log: Log) -> Log:
    """The log of a function that was not told its agent."""
    monkeypatch.delenv("AGENT_RUNTIME_ARN")
    return log


# --- a task, from the claim to the outcome --------------------------------------------------------


def test_a_pending_task_is_claimed_run_and_completed(worker: Worker, log: Log):
    event = worker.create()
    result = worker.deliver(event)
    task = worker.task()
    assert task["status"] == "completed"
    assert task["agent_response"] == "I e-mailed Ann."
    assert task["vendors"] == ANSWER.vendors
    assert task["quotes"] == ANSWER.quotes
    assert task["emails_sent"] == 1
    assert [(event["message"], event["type"]) for event in task["events"]] == [
        ("Task created", "info"),
        ("Worker Lambda invoked - processing started", "info"),
        ("Agent processing started", "info"),
        ("Agent completed task successfully", "success"),
    ]
    assert result["outcome"] == "completed"
    assert log.outcomes == ["completed"]


def test_three_writes_take_a_task_without_progress_from_nothing_to_completed(worker: Worker):
    worker.deliver(worker.create())
    assert worker.client.calls == ["put_item", "update_item", "update_item"]


def test_the_task_is_processing_while_the_agent_runs(worker: Worker):
    seen: list[str] = []

    def play(_: Callable[[str], None]) -> Answer:
        seen.append(worker.task()["status"])
        return ANSWER

    worker.play(play)
    worker.deliver(worker.create())
    assert seen == ["processing"]


def test_the_agent_gets_the_task_s_own_description(worker: Worker):
    """A repeated or hand-made event could bring another one than the task was made with."""
    event = worker.create()
    worker.deliver(event._replace(description="Something else"))
    assert [run[:2] for run in worker.agent.runs] == [(TASK_ID, DESCRIPTION)]


def test_progress_stands_between_the_start_and_the_end(worker: Worker):
    worker.play(says("Looking", "E-mailing"))
    worker.deliver(worker.create())
    assert worker.messages() == [
        *BEGINNING,
        "Looking",
        "E-mailing",
        "Agent completed task successfully",
    ]
    types = [event["type"] for event in worker.task()["events"]]
    assert types == ["info"] * 5 + ["success"]


def test_an_answer_of_a_megabyte_is_completed_whole(worker: Worker):
    text = "🏠\u2028" * 250_000
    worker.play(lambda _: Answer(text))
    worker.deliver(worker.create())
    assert worker.task()["agent_response"] == text


# --- who runs the agent ---------------------------------------------------------------------------


def test_a_second_delivery_after_the_first_does_nothing_and_succeeds(worker: Worker, log: Log):
    event = worker.create()
    worker.deliver(event)
    before = worker.task()
    assert worker.deliver(event)["outcome"] == "not_claimed"
    assert worker.task() == before
    assert len(worker.agent.runs) == 1
    assert log.outcomes == ["completed", "not_claimed"]


def test_a_second_delivery_during_the_first_does_nothing(worker: Worker):
    """Lambda's request id is the same for both, so it proves nothing."""
    event = worker.create()

    def play(_: Callable[[str], None]) -> Answer:
        other = FakeAgent()
        assert worker.deliver(event, agent=other)["outcome"] == "not_claimed"
        assert other.runs == []
        return ANSWER

    worker.play(play)
    worker.deliver(event)
    assert worker.task()["status"] == "completed"
    assert len(worker.agent.runs) == 1


def test_ten_deliveries_at_once_run_the_agent_once(worker: Worker, log: Log):
    """The one that wins is held in its run until the nine others have come back."""
    event = worker.create()
    nine_are_back = threading.Semaphore(0)

    def play(_: Callable[[str], None]) -> Answer:
        for _number in range(9):
            assert nine_are_back.acquire(timeout=10)
        return ANSWER

    def deliver(_: int) -> str:
        outcome: str = worker.deliver(event)["outcome"]
        nine_are_back.release()
        return outcome

    worker.play(play)
    with ThreadPoolExecutor(10) as pool:
        outcomes = list(pool.map(deliver, range(10)))
    assert sorted(outcomes) == ["completed"] + ["not_claimed"] * 9
    assert len(worker.agent.runs) == 1
    assert worker.task()["status"] == "completed"
    assert worker.messages() == [*BEGINNING, "Agent completed task successfully"]
    assert sorted(log.outcomes) == ["completed"] + ["not_claimed"] * 9


def test_a_killed_worker_s_task_is_not_run_again_and_ends_for_whoever_polls(worker: Worker):
    event = worker.create()
    worker.play(raises(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        worker.deliver(event)
    worker.play(lambda _: ANSWER)
    assert worker.deliver(event)["outcome"] == "not_claimed"
    worker.time.sleep(660.001)
    assert worker.deliver(event)["outcome"] == "not_claimed"
    assert worker.task()["status"] == "error"
    assert worker.deliver(event)["outcome"] == "not_claimed"
    assert len(worker.agent.runs) == 1


def test_a_pending_task_past_its_deadline_is_left_to_its_readers(worker: Worker):
    event = worker.create()
    worker.time.sleep(960)
    assert worker.deliver(event)["outcome"] == "not_claimed"
    assert worker.agent.runs == []


def test_an_event_of_a_deleted_task_succeeds_and_makes_nothing(worker: Worker, log: Log):
    event = TaskEvent(TASK_ID, DESCRIPTION, timestamp(NOW))
    assert worker.deliver(event)["outcome"] == "deleted"
    assert worker.agent.runs == []
    with pytest.raises(dynamodb_helpers.TaskNotFound):
        worker.task()
    assert log.outcomes == ["deleted"]


def test_an_event_made_by_hand_makes_its_task_first(worker: Worker):
    event = TaskEvent("test-123", "Find me a painter", "")
    assert worker.deliver(event)["outcome"] == "completed"
    task = worker.task("test-123")
    assert task["description"] == "Find me a painter"
    assert [event["message"] for event in task["events"]] == [
        *BEGINNING,
        "Agent completed task successfully",
    ]
    assert worker.deliver(event)["outcome"] == "not_claimed"
    assert len(worker.agent.runs) == 1


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds, reserve", [(600, 20), (900, 20), (100, 20), (60, 12), (30, 6)])
def test_the_agent_gets_the_function_s_time_less_a_reserve(
    worker: Worker, seconds: float, reserve: float
):
    """min(20 s, 20 %): for writing the outcome."""
    worker.deliver(worker.create(), seconds)
    assert worker.agent.runs[0][2] == pytest.approx(seconds - reserve)


@pytest.mark.parametrize("seconds", [60, 600])
def test_the_deadline_is_the_end_of_the_function_and_a_minute(
    worker: Worker, dynamodb: Any, table_name: str, seconds: float
):
    worker.time.calls_take = 5.0  # a slow claim does not move it
    event = worker.create()
    end = worker.time.now + seconds
    worker.deliver(event, seconds)
    key = {"id": {"S": TASK_ID}}
    item = dynamodb.get_item(TableName=table_name, Key=key)["Item"]
    assert item["deadline"]["S"] == timestamp(end + 60)


def test_the_time_that_a_claim_took_is_not_the_agent_s(worker: Worker):
    event = worker.create()
    worker.time.calls_take = 5.0
    worker.deliver(event)
    assert worker.agent.runs[0][2] == pytest.approx(600 - 20 - 5)


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AgentFailed, AgentLost, AgentNotStarted])
def test_a_failed_run_ends_the_task_with_the_agent_s_words(
    worker: Worker, log: Log, kind: type[AgentError]
):
    error = kind("No luck.", "arn:aws:secret")
    worker.play(raises(error))
    assert worker.deliver(worker.create())["outcome"] == "error"
    task = worker.task()
    assert task["status"] == "error"
    assert task["error_message"] == str(error)
    assert worker.messages() == [*BEGINNING, f"Agent error: {error}"]
    assert "secret" not in json.dumps(task)
    assert log.outcomes == ["error"]
    assert "arn:aws:secret" in log.text


def test_what_a_failed_agent_had_answered_is_kept(worker: Worker, log: Log):
    partial = Answer("Half of it", [{"name": "Ann", "emails": []}], emails_sent=2)
    partial.unmatched_emails = [{"recipient": "eve@x"}]
    worker.play(raises(AgentLost("Lost.", partial=partial, unparsed='data: "and th')))
    worker.deliver(worker.create())
    task = worker.task()
    assert (task["status"], task["agent_response"]) == ("error", "Half of it")
    assert (task["vendors"][0]["name"], task["emails_sent"]) == ("Ann", 2)
    assert [one["text"] for one in log.said("not understood")] == ['data: "and th']
    assert "eve@x" in log.said("e-mails to nobody among the vendors")[0]["text"]


def test_progress_stays_before_an_error(worker: Worker):
    def play(say: Callable[[str], None]) -> Answer:
        say("Looking")
        raise AgentFailed("No luck.")

    worker.play(play)
    worker.deliver(worker.create())
    assert worker.messages() == [*BEGINNING, "Looking", f"Agent error: No luck. {MAYBE}"]


@pytest.mark.parametrize("error", [RuntimeError("bug"), OSError("disk"), RecursionError("deep")])
def test_a_fault_of_our_own_ends_the_task_and_is_not_raised(
    worker: Worker, log: Log, error: Exception
):
    """Raised, it would be delivered again; the agent may have acted."""
    worker.play(raises(error))
    assert worker.deliver(worker.create())["outcome"] == "error"
    assert worker.task()["error_message"] == f"The worker failed. {MAYBE}"
    assert "Traceback" in log.text
    assert str(error) in log.text
    assert worker.agent.stops == [TASK_ID]


def test_an_email_to_no_vendor_is_in_the_log(worker: Worker, log: Log):
    worker.play(lambda _: Answer("x", emails_sent=1, unmatched_emails=[{"recipient": "eve@x"}]))
    worker.deliver(worker.create())
    (one,) = log.said("e-mails to nobody among the vendors")
    assert one["task_id"] == TASK_ID
    assert json.loads(one["text"]) == [{"recipient": "eve@x"}]


def test_a_long_detail_is_logged_in_parts_that_cloudwatch_takes(worker: Worker, log: Log):
    worker.play(raises(AgentFailed("No.", detail="🏠" * 100_000)))
    worker.deliver(worker.create())
    assert max(len(one.encode()) for one in log.raw_lines) <= 200_000
    assert "".join(one["text"] for one in log.said("agent run failed")) == "🏠" * 100_000


# --- progress -------------------------------------------------------------------------------------


def test_the_first_line_is_written_at_once_and_the_next_ones_together_two_seconds_later(
    worker: Worker,
):
    """At most one write every two seconds."""
    event = worker.create()
    writes: list[int] = []

    def play(say: Callable[[str], None]) -> Answer:
        say("one")
        worker.timers.fire()
        worker.time.sleep(0.5)
        writes.append(len(worker.client.writes))
        for message in ("two", "three"):
            say(message)
        writes.append(len(worker.client.writes))
        worker.time.sleep(1.5)
        worker.timers.fire()
        writes.append(len(worker.client.writes))
        assert worker.messages() == [*BEGINNING, "one", "two", "three"]
        return ANSWER

    worker.play(play)
    worker.deliver(event)
    assert worker.timers.waits == [0.0, 1.5]
    assert writes == [3, 3, 4]
    assert len(worker.client.writes) == 5


def test_a_line_after_a_long_silence_is_written_at_once(worker: Worker):
    def play(say: Callable[[str], None]) -> Answer:
        say("one")
        worker.timers.fire()
        worker.time.sleep(60)
        say("two")
        return ANSWER

    worker.play(play)
    worker.deliver(worker.create())
    assert worker.timers.waits == [0.0, 0.0]


def test_a_clock_set_back_neither_silences_the_agent_nor_turns_the_timeline_round(worker: Worker):
    def play(say: Callable[[str], None]) -> Answer:
        say("one")
        worker.timers.fire()
        worker.time.now -= 3_600
        say("two")
        worker.timers.fire()
        return ANSWER

    worker.play(play)
    worker.deliver(worker.create())
    assert worker.timers.waits == [0.0, 2.0]
    times = [event["ts"] for event in worker.task()["events"]]
    assert times == sorted(times)


def test_a_line_carries_the_time_at_which_it_was_said(worker: Worker):
    def play(say: Callable[[str], None]) -> Answer:
        say("one")
        worker.time.sleep(30)
        return ANSWER

    worker.play(play)
    worker.deliver(worker.create())
    times = {event["message"]: event["ts"] for event in worker.task()["events"]}
    assert times["one"] == timestamp(NOW)
    assert times["Agent completed task successfully"] == timestamp(NOW + 30)


def test_what_is_unwritten_at_the_end_rides_in_the_outcome(worker: Worker):
    worker.play(says("one", "two"))
    worker.deliver(worker.create())
    assert len(worker.client.writes) == 3
    assert worker.messages()[3:5] == ["one", "two"]
    assert worker.timers.running == []


def test_a_timer_that_goes_off_during_the_outcome_s_write_writes_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """cancel() does not stop a timer that has begun."""
    late: list[Callable[[], None]] = []
    complete = worker.store.end_task

    def complete_late(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        late[0]()
        complete(claim, outcome)

    monkeypatch.setattr(worker.store, "end_task", complete_late)

    def play(say: Callable[[str], None]) -> Answer:
        say("one")
        late.append(worker.timers.running[0].write)
        return ANSWER

    worker.play(play)
    worker.deliver(worker.create())
    assert len(worker.client.writes) == 3
    assert worker.messages()[3:] == ["one", "Agent completed task successfully"]


def test_a_failed_progress_write_is_not_fatal_and_its_lines_ride_in_the_next(
    worker: Worker, log: Log
):
    event = worker.create()

    def play(say: Callable[[str], None]) -> Answer:
        worker.client.refuse = ["update_item"]
        say("one")
        worker.timers.fire()
        assert worker.messages() == BEGINNING
        say("two")
        worker.timers.fire()
        assert worker.messages() == [*BEGINNING, "one", "two"]
        return ANSWER

    worker.play(play)
    assert worker.deliver(event)["outcome"] == "completed"
    assert len(log.said("progress not written")) == 1


@pytest.mark.parametrize("lost", [1, 2])
def test_a_progress_write_whose_answer_was_lost_is_not_written_twice(worker: Worker, lost: int):
    event = worker.create()

    def play(say: Callable[[str], None]) -> Answer:
        worker.client.lose = ["update_item"] * lost
        for message in ("one", "two"):
            say(message)
            worker.timers.fire()
        say("three")
        return ANSWER

    worker.play(play)
    worker.deliver(event)
    assert worker.messages() == [
        *BEGINNING,
        "one",
        "two",
        "three",
        "Agent completed task successfully",
    ]


def test_endless_progress_ends_in_one_line_that_says_so(worker: Worker):
    worker.play(says(*(f"step {number}" for number in range(500))))
    worker.deliver(worker.create())
    messages = worker.messages()
    assert messages[3:203] == [f"step {number}" for number in range(200)]
    assert messages[203:] == ["further progress not recorded", "Agent completed task successfully"]


def test_with_real_timers_a_line_is_seen_while_the_agent_is_silent(worker: Worker):
    """And a slow write never keeps the agent's stream from being read."""
    seen = threading.Event()
    record = worker.store.record_progress

    def recorded(claim: dynamodb_helpers.Claim) -> None:
        record(claim)
        seen.set()

    worker.store.record_progress = recorded  # type: ignore[method-assign]

    def play(say: Callable[[str], None]) -> Answer:
        say("one")
        assert seen.wait(5)
        assert worker.messages() == [*BEGINNING, "one"]
        return ANSWER

    event = worker.create()
    context = FakeContext(worker.time)
    agent = FakeAgent(play)
    run = TaskRun(worker.store, agent, event, context, clock=worker.time.clock)
    assert run.run()["outcome"] == "completed"


def test_the_outcome_waits_for_a_progress_write_that_is_under_way(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """Two writes of one claim at once would each find the other's event_seq wrong."""
    under_way, go_on = threading.Event(), threading.Event()
    record, complete = worker.store.record_progress, worker.store.end_task
    order: list[str] = []

    def slow(claim: dynamodb_helpers.Claim) -> None:
        under_way.set()
        assert go_on.wait(5)
        record(claim)
        order.append("progress")

    def then(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        order.append("outcome")
        complete(claim, outcome)

    monkeypatch.setattr(worker.store, "record_progress", slow)
    monkeypatch.setattr(worker.store, "end_task", then)

    def play(say: Callable[[str], None]) -> Answer:
        say("one")
        assert under_way.wait(5)
        say("two")  # returns at once
        threading.Timer(0.02, go_on.set).start()
        return ANSWER

    event = worker.create()
    context = FakeContext(worker.time)
    TaskRun(worker.store, FakeAgent(play), event, context, clock=worker.time.clock).run()
    assert order == ["progress", "outcome"]
    assert worker.messages() == [
        *BEGINNING,
        "one",
        "two",
        "Agent completed task successfully",
    ]


@pytest.mark.e2e
def test_a_flood_of_progress_over_a_bad_line_is_told_once_and_in_order(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """With real threads: lines arrive while others are being written, and answers get lost."""
    monkeypatch.setattr(worker_lambda, "PROGRESS_INTERVAL_SECONDS", 0.001)
    steps = [f"step {number}" for number in range(150)]
    event = worker.create()
    trouble = itertools.cycle([("lose", 1), ("", 0), ("refuse", 1), ("lose", 2)])
    record = worker.store.record_progress

    def record_badly(claim: dynamodb_helpers.Claim) -> None:
        fault, times = next(trouble)
        if fault:
            setattr(worker.client, fault, ["update_item"] * times)
        record(claim)

    worker.store.record_progress = record_badly  # type: ignore[method-assign]

    def play(say: Callable[[str], None]) -> Answer:
        for step in steps:
            say(step)
            worker.time.now += 0.001
            threading.Event().wait(0.0005)
        return ANSWER

    context = FakeContext(worker.time)
    run = TaskRun(
        worker.store,
        FakeAgent(play),
        event,
        context,
        clock=worker.time.clock,
        sleep=worker.time.sleep,
    )
    assert run.run()["outcome"] == "completed"
    assert worker.messages() == [*BEGINNING, *steps, "Agent completed task successfully"]
    assert len(worker.client.writes) > 6


# --- lost answers and refused writes --------------------------------------------------------------


def test_a_claim_whose_answer_was_lost_is_still_ours(worker: Worker):
    event = worker.create()
    worker.client.lose = ["update_item"]
    assert worker.deliver(event)["outcome"] == "completed"
    assert worker.messages() == [*BEGINNING, "Agent completed task successfully"]
    assert len(worker.agent.runs) == 1


@pytest.mark.parametrize("faults", [{"refuse": ["update_item"] * 3}, {"lose": ["put_item"]}])
def test_a_claim_by_hand_is_tried_again(worker: Worker, faults: dict[str, list[str]]):
    for name, operations in faults.items():
        setattr(worker.client, name, operations)
    assert worker.deliver(TaskEvent(TASK_ID, DESCRIPTION, ""))["outcome"] == "completed"
    assert len(worker.agent.runs) == 1
    assert worker.messages() == [*BEGINNING, "Agent completed task successfully"]


def test_a_claim_that_dynamodb_does_not_take_is_raised_before_the_agent_has_started(
    worker: Worker,
):
    """Lambda delivers the event again, and nothing has happened yet."""
    event = worker.create()
    start = worker.time.now
    worker.client.down = True
    with pytest.raises(EndpointConnectionError):
        worker.deliver(event)
    assert worker.agent.runs == []
    assert worker.time.now - start <= 30
    worker.client.down = False
    assert worker.deliver(event)["outcome"] == "completed"


def test_a_claim_that_is_forbidden_is_raised_at_once(worker: Worker, dynamodb: Any):
    event = worker.create()
    dynamodb.delete_table(TableName=worker.store.table_name)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        worker.deliver(event)
    assert worker.client.writes == ["put_item", "update_item"]


OUTCOMES = [(lambda _: ANSWER, "completed"), (raises(AgentFailed("No.")), "error")]


@pytest.mark.parametrize("play, status", OUTCOMES, ids=["complete", "fail"])
@pytest.mark.parametrize("faults", [("lose", 1), ("lose", 5), ("refuse", 1), ("refuse", 5)])
def test_an_outcome_whose_write_goes_wrong_is_written_once(
    worker: Worker, log: Log, play: Any, status: str, faults: tuple[str, int]
):
    event = worker.create()
    fault, times = faults

    def then_trouble(say: Callable[[str], None]) -> Answer:
        setattr(worker.client, fault, ["update_item"] * times)
        say("one")
        answer: Answer = play(say)
        return answer

    worker.play(then_trouble)
    assert worker.deliver(event)["outcome"] == status
    assert worker.task()["status"] == status
    assert worker.messages()[:4] == [*BEGINNING, "one"]
    assert len(worker.messages()) == 5
    assert log.outcomes == [status]


def test_a_large_answer_whose_write_was_lost_is_written_once(worker: Worker):
    text = "x" * 500_000
    event = worker.create()
    worker.client.lose = ["transact_write_items"]
    worker.play(lambda _: Answer(text))
    assert worker.deliver(event)["outcome"] == "completed"
    assert worker.task()["agent_response"] == text
    assert len(worker.messages()) == 4


def goes_down(worker: Worker, answer: Answer) -> Callable[[Callable[[str], None]], Answer]:
    def play(_: Callable[[str], None]) -> Answer:
        worker.client.down = True
        worker.time.calls_take = 3.0
        worker.time.sleep(500)
        return answer

    return play


def test_an_answer_is_in_the_log_before_a_write_of_progress_is_waited_for(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch
):
    """That wait may take all the time that a function of seconds has left."""
    logged: list[int] = []
    close = worker_lambda.Progress.close

    def wait(progress: worker_lambda.Progress) -> None:
        logged.append(len(log.said("answer, in case it cannot be written")))
        close(progress)

    monkeypatch.setattr(worker_lambda.Progress, "close", wait)
    worker.deliver(worker.create(), 5.0)
    assert logged == [1]


@pytest.mark.parametrize("partial", [Answer("Found Ann"), None])
def test_of_what_nobody_understood_as_much_as_a_task_keeps_is_logged_before_the_last_writes(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch, partial: Answer | None
):
    """And the rest after them, since 32 MB take their time; all of it once."""
    monkeypatch.setattr(worker_lambda, "MAX_ANSWER_BYTES", 4)
    worker.play(raises(AgentFailed("No.", partial=partial, unparsed="what is this")))
    worker.deliver(worker.create(), 5.0)
    texts = [str(one.get("text", one.get("outcome"))) for one in log.lines]
    if partial:
        assert "Found Ann" in texts.pop(0)
        assert texts == ["error", "what is this"]
    else:
        assert texts == ["what", "error", " is this"]


def test_an_answer_that_cannot_be_written_is_in_the_log_and_the_function_raises(
    worker: Worker, log: Log
):
    """Tried until another try would be cut off, and then told in parts that CloudWatch takes."""
    event = worker.create()
    answer = Answer("🏠\u2028" * 20_000 + "\ufffd", ANSWER.vendors, ANSWER.quotes, 7)
    worker.play(goes_down(worker, answer))
    with pytest.raises(EndpointConnectionError):
        worker.deliver(event)
    assert 585 <= worker.time.now - NOW < 600  # a try takes 9 s, a wait 5 s, the log 1 s
    assert len(worker.client.writes) > 10
    parts = log.said("answer, in case it cannot be written")
    assert [(one["part"], one["parts"]) for one in parts] == [
        (number, len(parts)) for number in range(1, len(parts) + 1)
    ]
    assert max(len(one.encode()) for one in log.raw_lines) <= 200_000
    assert json.loads("".join(one["text"] for one in parts)) == {
        "agent_response": answer.agent_response,
        "vendors": answer.vendors,
        "quotes": answer.quotes,
        "emails_sent": 7,
    }
    assert log.outcomes == ["lost"]


def test_after_an_answer_was_lost_nothing_runs_again_and_the_deadline_ends_the_task(
    worker: Worker,
):
    event = worker.create()
    worker.play(goes_down(worker, ANSWER))
    with pytest.raises(EndpointConnectionError):
        worker.deliver(event)
    worker.client.down = False
    worker.play(lambda _: ANSWER)
    assert worker.deliver(event)["outcome"] == "not_claimed"
    worker.time.sleep(120)
    assert worker.task()["status"] == "error"
    assert len(worker.agent.runs) == 1


def test_an_answer_that_dynamodb_will_never_take_is_logged_and_the_task_ends_at_once(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch
):
    """An answer that fits nowhere must not keep its task from ending."""
    end_task = worker.store.end_task

    def refuse(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        if outcome.parts:
            raise ClientError({"Error": {"Code": "ValidationException"}}, "UpdateItem")
        end_task(claim, outcome)

    event = worker.create()
    worker.play(lambda _: ANSWER)
    monkeypatch.setattr(worker.store, "end_task", refuse)
    assert worker.deliver(event)["outcome"] == "error"
    task = worker.task()
    assert task["error_message"] == (
        "The agent's answer cannot be kept. The agent may already have contacted vendors."
    )
    assert task["error_code"] == "answer_too_large"
    assert "agent_response" not in task
    assert ANSWER.agent_response in log.said("answer, in case it cannot be written")[0]["text"]
    assert log.outcomes == ["error"]


def test_an_outcome_that_dynamodb_will_never_take_is_not_tried_again(worker: Worker, dynamodb: Any):
    def play(_: Callable[[str], None]) -> Answer:
        dynamodb.delete_table(TableName=worker.store.table_name)
        return ANSWER

    event = worker.create()
    worker.play(play)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        worker.deliver(event)
    assert worker.client.writes == ["put_item", "update_item", "update_item"]


@pytest.mark.parametrize(
    "play", [lambda: ANSWER, raises(AgentLost("Lost.", partial=ANSWER))], ids=["answer", "partial"]
)
def test_an_answer_to_a_task_that_a_reader_ended_is_logged_and_not_written(
    worker: Worker, log: Log, play: Any
):
    """Final means final. Nothing is raised: another delivery would change nothing."""
    event = worker.create()

    def too_late(say: Callable[[str], None]) -> Answer:
        worker.time.sleep(661)
        assert worker.task()["status"] == "error"
        say("still here")
        worker.timers.fire()
        return play(say) if play.__code__.co_argcount else play()

    worker.play(too_late)
    assert worker.deliver(event)["outcome"] == "lost"
    task = worker.task()
    assert task["status"] == "error"
    assert task["error_message"] == tasks.EXPIRED["worker_lost"]
    assert "agent_response" not in task
    assert "still here" not in worker.messages()
    (one,) = log.said("answer came too late")
    assert json.loads(one["text"])["agent_response"] == "I e-mailed Ann."
    assert log.outcomes == ["expired", "lost"]


def test_an_answer_to_a_task_deleted_meanwhile_is_logged_and_makes_nothing(
    worker: Worker, log: Log, dynamodb: Any, table_name: str
):
    event = worker.create()

    def play(_: Callable[[str], None]) -> Answer:
        dynamodb.delete_item(TableName=table_name, Key={"id": {"S": TASK_ID}})
        return ANSWER

    worker.play(play)
    assert worker.deliver(event)["outcome"] == "lost"
    assert "Item" not in dynamodb.get_item(TableName=table_name, Key={"id": {"S": TASK_ID}})
    assert len(log.said("answer came too late")) == 1


# --- the agent's session --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "play, wish, stops",
    [
        (lambda _: ANSWER, "", 0),
        (lambda _: ANSWER, "true", 1),
        (lambda _: ANSWER, "True", 1),
        (lambda _: ANSWER, "false", 0),
        (raises(AgentLost("Lost.")), "", 1),
        (raises(AgentLost("Lost.")), "true", 1),
        (raises(AgentFailed("No.")), "", 0),
        (raises(AgentFailed("No.")), "true", 1),
        (raises(AgentNotStarted("No.")), "", 0),
        (raises(AgentNotStarted("No.")), "true", 0),
    ],
)
def test_a_session_is_stopped_if_its_agent_may_still_run_or_if_asked_for(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, play: Any, wish: str, stops: int
):
    monkeypatch.setenv("STOP_SESSION_AFTER_TASK", wish)
    worker.play(play)
    worker.deliver(worker.create())
    assert worker.agent.stops == [TASK_ID] * stops


def test_the_session_is_stopped_only_after_the_outcome_was_written(worker: Worker):
    seen: list[str] = []
    event = worker.create()
    worker.agent.stop = lambda task_id: seen.append(worker.task(task_id)["status"])  # type: ignore[method-assign]
    worker.play(raises(AgentLost("Lost.")))
    worker.deliver(event)
    assert seen == ["error"]


@pytest.mark.parametrize(
    "error", [throttled("StopRuntimeSession"), ReadTimeoutError(endpoint_url="https://agent")]
)
def test_a_session_that_cannot_be_stopped_changes_nothing(
    worker: Worker, log: Log, error: Exception
):
    worker.agent.stop_error = error
    worker.play(raises(AgentLost("Lost.")))
    assert worker.deliver(worker.create())["outcome"] == "error"
    assert worker.agent.stops == [TASK_ID]
    assert len(log.said("session not stopped")) == 1


def test_an_agent_that_may_still_run_is_stopped_although_its_outcome_was_not_written(
    worker: Worker,
):
    event = worker.create()

    def play(_: Callable[[str], None]) -> Answer:
        worker.client.down = True
        worker.time.sleep(585)
        raise AgentLost("Lost.")

    worker.play(play)
    with pytest.raises(EndpointConnectionError):
        worker.deliver(event)
    assert worker.agent.stops == [TASK_ID]


# --- a fresh right before every start -----------------------------------------------------------


def starts(
    worker: Worker, after: float, meanwhile: Callable[[], Any] = lambda: None
) -> list[float]:
    """Lets the agent be called ``after`` seconds, as the real one is; returns when it started."""
    started: list[float] = []

    def play(_: Callable[[str], None]) -> Answer:
        worker.time.sleep(after)
        meanwhile()
        worker.agent.before_start()
        started.append(worker.time.now - NOW)
        return ANSWER

    worker.play(play)
    return started


def test_a_claim_of_less_than_10_seconds_ago_is_right_enough(worker: Worker):
    event, started = worker.create(), starts(worker, 9.875)
    assert worker.deliver(event)["outcome"] == "completed"
    assert started == [9.875]
    assert len(worker.client.writes) == 3


def test_an_older_one_is_confirmed_by_a_write_that_nobody_sees(worker: Worker):
    event, started = worker.create(), starts(worker, 10)
    assert worker.deliver(event)["outcome"] == "completed"
    assert started == [10]
    assert len(worker.client.writes) == 4
    assert worker.messages() == [*BEGINNING, "Agent completed task successfully"]


def test_a_claim_ages_from_when_it_was_sent(worker: Worker):
    event = worker.create()
    worker.time.calls_take = 6
    starts(worker, 5)
    worker.deliver(event)
    assert len(worker.client.writes) == 4


def test_a_confirmation_is_as_good_as_a_claim_for_the_next_call(worker: Worker):
    event = worker.create()

    def play(_: Callable[[str], None]) -> Answer:
        for wait in (10, 9, 2, 9):  # throttled, again and again
            worker.time.sleep(wait)
            worker.agent.before_start()
        return ANSWER

    worker.play(play)
    worker.deliver(event)
    assert len(worker.client.writes) == 3 + 2


def test_a_claim_that_was_found_again_is_confirmed_before_the_agent_starts(worker: Worker):
    event, started = worker.create(), starts(worker, 0)
    worker.client.lose = ["update_item"]
    assert worker.deliver(event)["outcome"] == "completed"
    assert len(started) == 1
    assert worker.client.writes == ["put_item", *["update_item"] * 4]


def test_a_claim_found_again_past_its_deadline_starts_nothing(worker: Worker, log: Log):
    """The answer was lost, the outage long, the function's clock slow: a reader may have ended it."""
    event = worker.create()
    claim_task = worker.store.claim_task

    def found_again(*given: Any) -> Any:
        claim_task(*given)
        worker.time.now += 661
        return claim_task(*given)

    worker.store.claim_task = found_again  # type: ignore[method-assign, assignment]
    started = starts(worker, 0)
    assert worker.deliver(event)["outcome"] == "error"
    assert started == []
    assert worker.task()["error_code"] == "not_started"
    assert log.outcomes == ["error"]


def test_a_task_cancelled_while_its_agent_was_throttled_starts_nothing(worker: Worker, log: Log):
    event, started = worker.create(), starts(worker, 30, worker.cancel)
    assert worker.deliver(event)["outcome"] == "cancelled"
    assert started == []
    task = worker.task()
    assert task["error_code"] == "cancelled"
    assert task["error_message"] == (
        "Cancelled. The agent was not started, so no vendor was contacted."
    )
    assert worker.agent.stops == []
    assert log.outcomes == ["cancelled"]


def test_a_task_that_a_reader_has_ended_starts_nothing(worker: Worker, log: Log):
    event, started = worker.create(), starts(worker, 661, worker.task)
    assert worker.deliver(event, seconds=600)["outcome"] == "lost"
    assert started == []
    assert worker.agent.stops == []


@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_a_confirmation_that_fails_is_tried_again(worker: Worker, fault: str):
    event = worker.create()
    trouble = lambda: setattr(worker.client, fault, ["update_item"] * 2)  # noqa: E731
    started = starts(worker, 20, trouble)
    assert worker.deliver(event)["outcome"] == "completed"
    assert len(started) == 1
    assert len(worker.messages()) == 4


def test_one_that_fails_for_too_long_ends_the_task_as_not_started(worker: Worker):
    event = worker.create()
    started = starts(worker, 20, lambda: setattr(worker.client, "down", True))
    recover = worker.time.sleep

    def sleep(seconds: float) -> None:
        recover(seconds)
        worker.client.down = worker.time.now < NOW + 60

    worker.time.calls_take = 1
    run = TaskRun(
        worker.store,
        worker.agent,
        event,
        FakeContext(worker.time, 600),
        clock=worker.time.clock,
        monotonic=worker.time.clock,
        sleep=sleep,
        timer=worker.timers,
    )
    assert run.run()["outcome"] == "error"
    assert started == []
    task = worker.task()
    assert task["error_code"] == "not_started"
    assert "no vendor was contacted" in task["error_message"]
    assert worker.time.now < NOW + 100


def test_one_that_is_always_too_slow_ends_the_task_as_not_started(worker: Worker):
    event = worker.create()
    started = starts(worker, 20, lambda: setattr(worker.time, "calls_take", 12))
    assert worker.deliver(event)["outcome"] == "error"
    assert started == []
    worker.time.calls_take = 0
    assert worker.task()["error_code"] == "not_started"
    assert worker.time.now < NOW + 120


# --- who asks for the end -------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [False, True])
def test_an_agent_is_given_up_only_if_the_task_s_end_was_asked_for(worker: Worker, cancelled: bool):
    event = worker.create()
    heard: list[bool] = []

    def play(_: Callable[[str], None]) -> Answer:
        if cancelled:
            worker.cancel()
        heard.append(worker.agent.should_stop())
        raise AgentLost("The agent was told to stop.", partial=ANSWER)

    worker.play(play)
    worker.deliver(event)
    assert heard == [cancelled]
    task = worker.task()
    assert task["error_code"] == ("cancelled" if cancelled else "agent_lost")
    assert task["agent_response"] == ANSWER.agent_response
    assert worker.agent.stops == [TASK_ID]


def test_an_agent_is_given_up_once_a_reader_ended_its_task_or_its_owner_deleted_it(
    worker: Worker,
):
    event = worker.create()
    heard: list[bool] = []

    def play(_: Callable[[str], None]) -> Answer:
        worker.time.sleep(661)
        worker.task()
        heard.append(worker.agent.should_stop())
        worker.store.delete_task(TASK_ID, "public")
        heard.append(worker.agent.should_stop())
        return ANSWER

    worker.play(play)
    assert worker.deliver(event)["outcome"] == "lost"
    assert heard == [True, True]
    assert worker.items() == [{"id": {"S": TASK_ID}, "status": {"S": "deleted"}}]


def test_an_agent_is_waited_for_while_nobody_can_look(worker: Worker):
    event = worker.create()
    heard: list[bool] = []

    def play(_: Callable[[str], None]) -> Answer:
        worker.cancel()
        worker.client.down = True
        heard.append(worker.agent.should_stop())
        worker.client.down = False
        return ANSWER

    worker.play(play)
    worker.deliver(event)
    assert heard == [False]


def test_progress_that_a_cancellation_refuses_stops_the_session_once(worker: Worker):
    event = worker.create()

    def play(say: Callable[[str], None]) -> Answer:
        say("one")
        worker.timers.fire()
        worker.cancel()
        for message in ("two", "three"):
            worker.time.sleep(3)
            say(message)
            worker.timers.fire()
        assert worker.agent.stops == [TASK_ID]
        return ANSWER

    worker.play(play)
    assert worker.deliver(event)["outcome"] == "cancelled"
    task = worker.task()
    assert task["error_code"] == "cancelled"
    assert worker.messages() == [*BEGINNING, "one", "two", "three", f"Cancelled. {MAYBE}"]
    assert worker.agent.stops == [TASK_ID]


@pytest.mark.parametrize(
    "play, kept",
    [
        (lambda _: ANSWER, ANSWER.agent_response),
        (raises(AgentFailed("No.", partial=ANSWER)), ANSWER.agent_response),
        (raises(AgentLost("Lost.", partial=ANSWER)), ANSWER.agent_response),
        (raises(RuntimeError("ours")), None),
    ],
    ids=["answer", "failed", "lost", "ours"],
)
def test_whatever_came_out_a_cancelled_task_ends_as_cancelled_with_what_was_answered(
    worker: Worker, log: Log, play: Any, kept: str | None
):
    """A stream that ends cleanly after a stop is not a completed task."""
    event = worker.create()

    def cancelled(say: Callable[[str], None]) -> Answer:
        worker.cancel()
        answer: Answer = play(say)
        return answer

    worker.play(cancelled)
    assert worker.deliver(event)["outcome"] == "cancelled"
    task = worker.task()
    assert (task["status"], task["error_code"]) == ("error", "cancelled")
    assert task["error_message"] == f"Cancelled. {MAYBE}"
    assert task.get("agent_response") == kept
    assert log.outcomes == ["cancelled"]


@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_the_end_of_a_cancelled_task_is_written_once_whatever_the_network_does(
    worker: Worker, fault: str
):
    event = worker.create()

    def play(_: Callable[[str], None]) -> Answer:
        worker.cancel()
        setattr(worker.client, fault, ["update_item"] * 2)
        return ANSWER

    worker.play(play)
    assert worker.deliver(event)["outcome"] == "cancelled"
    assert worker.messages() == [*BEGINNING, f"Cancelled. {MAYBE}"]


# --- agents that report ---------------------------------------------------------------------------


@pytest.fixture
def reporting(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setenv("REPORTS_BASE_URL", "https://api.example/prod")
    worker.play(lambda _: Accepted(""))
    return worker


def test_without_a_base_for_reports_the_agent_hears_of_none(worker: Worker):
    worker.deliver(worker.create())
    assert worker.agent.report is None
    assert "report_hash" not in worker.task()


def test_an_agent_learns_where_to_report_and_only_a_hash_of_its_token_is_kept(reporting: Worker):
    reporting.deliver(reporting.create())
    assert reporting.agent.report is not None
    token = reporting.agent.report["token"]
    assert reporting.agent.report == {
        "url": f"https://api.example/prod/tasks/{TASK_ID}/reports",
        "token": token,
    }
    assert re.fullmatch("[0-9a-f]{32}", token)
    (item,) = reporting.items()
    assert item["report_hash"] == {"S": hashlib.sha256(token.encode()).hexdigest()}
    assert token not in str(item)
    assert token != item["claim"]["S"]


def test_each_task_has_a_token_of_its_own(reporting: Worker):
    tokens = set()
    for number in range(3):
        reporting.deliver(reporting.create(f"task-{number}"))
        tokens.add((reporting.agent.report or {})["token"])
    assert len(tokens) == 3


def test_an_agent_that_accepts_is_left_to_its_work(reporting: Worker, log: Log):
    assert reporting.deliver(reporting.create())["outcome"] == "accepted"
    task = reporting.task()
    assert task["status"] == "processing"
    assert "last_report" in task
    assert reporting.messages() == BEGINNING
    assert reporting.agent.stops == []
    assert log.outcomes == ["accepted"]


def test_nor_is_its_session_stopped_where_others_are(
    reporting: Worker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STOP_SESSION_AFTER_TASK", "true")
    reporting.deliver(reporting.create())
    assert reporting.agent.stops == []


@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_an_acceptance_is_written_once_whatever_the_network_does(reporting: Worker, fault: str):
    event = reporting.create()

    def play(say: Callable[[str], None]) -> Answer:
        say("On it")
        setattr(reporting.client, fault, ["update_item"] * 2)
        return Accepted("")

    reporting.play(play)
    assert reporting.deliver(event)["outcome"] == "accepted"
    assert reporting.messages() == [*BEGINNING, "On it"]
    assert reporting.agent.stops == []


def test_an_acceptance_after_a_cancellation_ends_the_task_and_stops_the_session(
    reporting: Worker,
):
    event = reporting.create()

    def play(_: Callable[[str], None]) -> Answer:
        reporting.cancel()
        return Accepted("")

    reporting.play(play)
    assert reporting.deliver(event)["outcome"] == "cancelled"
    assert reporting.task()["error_code"] == "cancelled"
    assert reporting.agent.stops == [TASK_ID]


def test_an_acceptance_that_cannot_be_written_ends_the_task_and_stops_the_session(
    reporting: Worker, monkeypatch: pytest.MonkeyPatch
):
    def forbidden(_claim: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "UpdateItem")

    event = reporting.create()
    monkeypatch.setattr(reporting.store, "accept_task", forbidden)
    assert reporting.deliver(event)["outcome"] == "error"
    task = reporting.task()
    assert task["error_code"] == "agent_lost"
    assert MAYBE in task["error_message"]
    assert reporting.agent.stops == [TASK_ID]


@pytest.mark.parametrize("reported", [None, [], ["E-mailed Lone Brush"]])
def test_an_agent_whose_acceptance_was_written_is_not_stopped_though_it_seems_refused(
    reporting: Worker, log: Log, monkeypatch: pytest.MonkeyPatch, reported: list[str] | None
):
    """Its answer was lost, a report may have come, and what was sent again was refused otherwise."""
    accept = reporting.store.accept_task

    def accepted_unheard(claim: dynamodb_helpers.Claim) -> None:
        accept(claim)
        task = reporting.store.find_task(TASK_ID)
        if reported is not None:
            reporting.store.report(task, tasks.Report("a1", reported))
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "UpdateItem")

    event = reporting.create()
    monkeypatch.setattr(reporting.store, "accept_task", accepted_unheard)
    assert reporting.deliver(event)["outcome"] == "accepted"
    assert reporting.messages() == [*BEGINNING, *(reported or [])]
    assert reporting.task()["status"] == "processing"
    assert reporting.agent.stops == []
    assert log.outcomes == ["accepted"]


def test_a_code_under_a_status_of_somebody_elses_ends_no_tries(worker: Worker):
    """A proxy's 502 can have any code in its body."""
    refusals = [
        ClientError(
            {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 502}}, "UpdateItem"
        )
        for code in ("AccessDeniedException", "ValidationException")
    ]
    event = worker.create()
    end_task = worker.store.end_task

    def refused_at_first(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        if refusals:
            raise refusals.pop()
        end_task(claim, outcome)

    worker.store.end_task = refused_at_first  # type: ignore[method-assign]
    worker.play(lambda _: ANSWER)
    assert worker.deliver(event)["outcome"] == "completed"
    assert worker.task()["agent_response"] == ANSWER.agent_response


def test_an_acceptance_to_a_task_that_a_reader_ended_stops_the_session(reporting: Worker):
    event = reporting.create()

    def play(_: Callable[[str], None]) -> Answer:
        reporting.time.sleep(661)
        reporting.task()
        return Accepted("")

    reporting.play(play)
    assert reporting.deliver(event)["outcome"] == "lost"
    assert reporting.task()["error_code"] == "worker_lost"
    assert reporting.agent.stops == [TASK_ID]


@pytest.mark.parametrize("ends", ["answer", "failed", "unreadable", "ours", "lost"])
def test_its_token_is_nowhere_whatever_it_says(reporting: Worker, log: Log, ends: str):
    event = reporting.create()
    tokens: list[str] = []

    def play(say: Callable[[str], None]) -> Answer:
        token = (reporting.agent.report or {})["token"]
        tokens.append(token)
        say(f"curl -H 'Bearer {token}' {'x' * 2_000}")
        reporting.timers.fire()
        answer = Answer(
            f"I used {token}.",
            [{"name": token, token: [token]}],
            [{"note": token}],
            unmatched_emails=[{"recipient": token}],
            unparsed=f"raw {token}",
        )
        if ends == "failed":
            raise AgentFailed(f"No. {token}", f"detail {token}", answer, f"raw {token}")
        if ends == "unreadable":
            raise AgentFailed("No.", unparsed=f"raw {token}")
        if ends == "lost":
            reporting.client.down = True
            reporting.time.sleep(585)
        if ends == "ours":
            raise RuntimeError(f"ours {token}")
        return answer

    reporting.play(play)
    with suppress(EndpointConnectionError):
        reporting.deliver(event)
    (token,) = tokens
    assert token not in str(reporting.items())
    assert token not in log.text
    assert "[token]" in log.text
    assert reporting.client.down or "[token]" in str(reporting.items())


# --- the event that stops an agent ----------------------------------------------------------------


@pytest.fixture
def stopping(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(worker_lambda, "task_store", lambda: worker.store)
    monkeypatch.setattr(worker_lambda, "agent_runtime", lambda: worker.agent)
    return worker


def no_session() -> ClientError:
    return ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "StopRuntimeSession")


def in_state(worker: Worker, state: str) -> None:
    """Brings the task into a state that a stop may find, by what happens to it one after another."""
    happenings = state.split(", ")
    if happenings == ["absent"]:
        return
    worker.create()
    claim: Any = None
    if happenings[0] != "pending":
        claim = worker.store.claim_task(TASK_ID, "claim", worker.time.now + 600)
    for happening in happenings:
        match happening:
            case "reporting":
                worker.store.accept_task(claim)
            case "cancelled":
                worker.cancel()
            case "expired":
                worker.time.sleep(961 if happenings[0] == "pending" else 661)
                worker.task()
            case "completed":
                worker.store.end_task(claim, Outcome())
            case "reported" | "failed":
                outcome = Outcome(error_code="agent_failed" if happening == "failed" else "")
                worker.store.report(worker.task(), tasks.Report("end", outcome=outcome))
            case "deleted":
                worker.store.delete_task(TASK_ID, "public")


@pytest.mark.parametrize(
    "state, stops, ends_as",
    [
        ("absent", 0, None),
        ("processing, completed, deleted", 0, None),
        ("pending, cancelled, deleted", 0, None),
        ("processing, expired, deleted", 0, None),
        ("processing, cancelled, expired, deleted", 1, None),
        ("reporting, expired, deleted", 1, None),
        ("reporting, reported, deleted", 0, None),
        ("reporting, failed, deleted", 0, None),
        ("pending", 0, "pending"),
        ("processing", 0, "processing"),
        ("processing, cancelled", 1, "processing"),
        ("reporting", 0, "processing"),
        ("reporting, cancelled", 1, "error"),
        ("reporting, expired", 1, "error"),
        ("processing, completed", 0, "completed"),
    ],
)
def test_a_session_is_stopped_only_if_its_end_was_asked_for_or_its_reporting_is_over(
    stopping: Worker, log: Log, state: str, stops: int, ends_as: str | None
):
    in_state(stopping, state)
    before = stopping.items()
    outcome = handle(stopping, {"stop": TASK_ID})["outcome"]
    assert outcome == ("stopped" if stops else "nothing_to_stop")
    assert stopping.agent.stops == [TASK_ID] * stops
    if ends_as:
        assert stopping.task()["status"] == ends_as
    if state != "reporting, cancelled":
        assert stopping.items() == before
    assert [one for one in log.outcomes if one != "expired"] == [outcome]


def test_a_silent_agent_whose_first_reader_deletes_its_task_is_stopped(stopping: Worker):
    """Both happen in one request, and the stop event comes after them."""
    events: list[str] = []
    in_state(stopping, "reporting")
    stopping.time.sleep(601)
    stopping.store.on_expired = lambda task: events.append(task["id"])
    stopping.store.delete_task(TASK_ID, "public")
    for task_id in events:
        handle(stopping, {"stop": task_id})
    assert stopping.agent.stops == [TASK_ID]


def test_the_end_of_a_reporting_task_is_written_by_who_stops_it(stopping: Worker):
    in_state(stopping, "reporting, cancelled")
    for _ in range(2):
        handle(stopping, {"stop": TASK_ID})
    task = stopping.task()
    assert (task["error_code"], task["error_message"]) == ("cancelled", f"Cancelled. {MAYBE}")
    assert stopping.messages() == [*BEGINNING, f"Cancelled. {MAYBE}"]


@pytest.mark.parametrize(
    "state, is_raised",
    [
        ("processing, cancelled", True),  # its agent may be called any moment
        ("reporting, cancelled", False),
        ("reporting, expired", False),
    ],
)
def test_a_session_that_there_is_not_yet_is_stopped_when_lambda_brings_the_event_again(
    stopping: Worker, state: str, is_raised: bool
):
    in_state(stopping, state)
    stopping.agent.stop_error = no_session()
    if is_raised:
        with pytest.raises(ClientError, match="ResourceNotFound"):
            handle(stopping, {"stop": TASK_ID})
    else:
        assert handle(stopping, {"stop": TASK_ID})["outcome"] == "stopped"
        assert stopping.task()["status"] == "error"


@pytest.mark.parametrize(
    "error", [throttled("StopRuntimeSession"), ReadTimeoutError(endpoint_url="https://agent")]
)
def test_a_stop_that_fails_is_brought_again(stopping: Worker, error: Exception):
    in_state(stopping, "reporting, cancelled")
    stopping.agent.stop_error = error
    with pytest.raises(type(error)):
        handle(stopping, {"stop": TASK_ID})
    stopping.agent.stop_error = None
    handle(stopping, {"stop": TASK_ID})
    assert stopping.task()["error_code"] == "cancelled"


def test_a_task_that_is_deleted_while_its_agent_is_stopped_is_nobodys_trouble(stopping: Worker):
    in_state(stopping, "reporting, cancelled")

    def delete() -> None:
        stopping.time.sleep(59)
        reader = TaskStore(stopping.client, stopping.store.table_name, clock=lambda: NOW + 61)
        reader.delete_task(TASK_ID, "public")

    stopping.agent.meanwhile = delete
    assert handle(stopping, {"stop": TASK_ID})["outcome"] == "stopped"
    assert [set(item) for item in stopping.items()] == [{"id", "status", "session"}]


def test_a_stop_runs_no_agent_and_needs_a_task_s_id(stopping: Worker):
    stopping.create()
    handle(stopping, {"stop": TASK_ID, "task_id": TASK_ID, "description": "x"})
    assert stopping.agent.runs == []
    for event in ({"stop": ""}, {"stop": "x#0"}, {"stop": 7}, {"stop": True}):
        assert handle(stopping, event)["code"] == "invalid_event"
    assert stopping.agent.stops == []


# --- answers that are too large -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["UpdateItem", "TransactWriteItems"])
def test_an_answer_that_dynamodb_refuses_for_its_size_is_cut_shorter_and_tried_again(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch, kind: str
):
    end_task, tried = worker.store.end_task, list[int]()

    def refuse(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        tried.append(len(outcome.parts["agent_response"]))
        if len(tried) < 4:
            raise too_large(kind)
        end_task(claim, outcome)

    event = worker.create()
    worker.play(lambda _: Answer("x" * 100_000, ANSWER.vendors))
    monkeypatch.setattr(worker.store, "end_task", refuse)
    assert worker.deliver(event)["outcome"] == "completed"
    assert all(after < before * 0.51 for before, after in itertools.pairwise(tried))
    task = worker.task()
    assert len(task["agent_response"]) == tried[-1]
    assert task["vendors"] == ANSWER.vendors
    assert task["agent_response_truncated"] is True
    cut = next(one for one in worker.messages() if "too long" in one)
    assert 80_000 < int(re.sub(r"\D", "", cut)) <= 100_000


def too_large(operation: str) -> ClientError:
    if operation == "UpdateItem":
        return ClientError({"Error": {"Code": "ValidationException"}}, operation)
    error = {"Error": {"Code": "TransactionCanceledException"}}
    reasons = [{"Code": "None"}, {"Code": "ValidationError"}]
    return ClientError(error | {"CancellationReasons": reasons}, operation)


def test_what_was_fitted_is_not_fitted_again_at_the_next_try(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """10 MB of quotes take a second."""
    fits: list[int] = []
    fit_answer = tasks.fit_answer

    def counted(*given: Any) -> Any:
        fits.append(1)
        return fit_answer(*given)

    monkeypatch.setattr(tasks, "fit_answer", counted)
    event = worker.create()

    def play(_: Callable[[str], None]) -> Answer:
        worker.client.refuse = ["update_item"] * 5
        return ANSWER

    worker.play(play)
    assert worker.deliver(event)["outcome"] == "completed"
    assert len(fits) == 1


@pytest.mark.parametrize("left, is_logged", [(39.5, False), (38.5, True)])
def test_an_answer_is_in_the_log_before_a_try_that_might_not_end_in_time(
    worker: Worker, log: Log, left: float, is_logged: bool
):
    """One call of 20.5 s was measured, and a try may be two."""
    event = worker.create()
    end_task, logged = worker.store.end_task, list[bool]()

    def watched(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        logged.append(bool(log.said("answer, in case it cannot be written")))
        end_task(claim, outcome)

    worker.store.end_task = watched  # type: ignore[method-assign]

    def play(_: Callable[[str], None]) -> Answer:
        worker.time.sleep(600 - left)
        return ANSWER

    worker.play(play)
    assert worker.deliver(event)["outcome"] == "completed"
    assert logged == [is_logged]


def test_so_is_what_could_not_be_read_of_a_failed_run(worker: Worker, log: Log):
    event = worker.create()
    end_task, logged = worker.store.end_task, list[str]()

    def watched(claim: dynamodb_helpers.Claim, outcome: Outcome) -> None:
        logged.extend(one["text"] for one in log.said("answer, in case it cannot be written"))
        end_task(claim, outcome)

    worker.store.end_task = watched  # type: ignore[method-assign]

    def play(_: Callable[[str], None]) -> Answer:
        worker.time.sleep(590)
        raise AgentFailed("The answer cannot be read.", unparsed="<html>")

    worker.play(play)
    worker.deliver(event)
    assert logged == ["<html>"]


# --- the log --------------------------------------------------------------------------------------


def test_an_outcome_is_one_json_line_with_what_an_operator_needs(
    worker: Worker, log: Log, monkeypatch: pytest.MonkeyPatch
):
    def play(_: Callable[[str], None]) -> Answer:
        worker.time.sleep(12.5)
        return ANSWER

    worker.play(play)
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3f;Parent=53995c;Sampled=0")
    worker.deliver(worker.create())
    assert log.lines == [
        {
            "level": "INFO",
            "message": "Agent completed task successfully",
            "outcome": "completed",
            "task_id": TASK_ID,
            "request_id": "r-1",
            "duration_ms": 12_500,
            "trace_id": "1-5759e988-bd862e3f",
        }
    ]


def test_whoever_writes_an_end_logs_how_long_the_run_took(stopping: Worker, log: Log):
    for state in ("processing, expired", "reporting, expired", "pending, expired"):
        in_state(stopping, state)
        stopping.client.client.delete_item(
            TableName=stopping.store.table_name, Key={"id": {"S": TASK_ID}}
        )
        stopping.time.now += 1_000
    in_state(stopping, "reporting, cancelled")
    stopping.time.sleep(2)
    handle(stopping, {"stop": TASK_ID})
    durations = [one.get("duration_ms") for one in log.lines]
    assert durations == [661_000, 661_000, None, 2_000]


def test_every_line_names_its_task(worker: Worker, log: Log):
    event = worker.create()

    def play(say: Callable[[str], None]) -> Answer:
        worker.client.refuse = ["update_item"] * 2
        say("one")
        worker.timers.fire()
        raise AgentLost("Lost.", "why", unparsed="raw")

    worker.agent.stop_error = throttled("StopRuntimeSession")
    worker.play(play)
    worker.deliver(event)
    assert len(log.lines) == 6
    assert {one["task_id"] for one in log.lines} == {TASK_ID}


# --- the handler ----------------------------------------------------------------------------------


def handle(worker: Worker, event: Any) -> dict[str, Any]:
    return lambda_handler(event, FakeContext(worker.time))


def test_seed_s_direct_invocation_runs_through_the_real_call_and_a_real_socket(
    worker: Worker, deployed: AgentServer, log: Log
):
    deployed.play(
        streams(
            line({"message": "Looking for painters"}),
            line(
                {
                    "response": "I e-mailed Ann.",
                    "vendors": [{"name": "Ann", "email": "ann@x"}],
                    "emails": [{"recipient": "ANN@x", "subject": "Hello"}],
                }
            ),
        )
    )
    event = {"task_id": "test-123", "description": "Find me a painter"}
    assert handle(worker, event)["outcome"] == "completed"
    task = dynamodb_helpers.task_store().get_task("test-123", "public")
    assert task["status"] == "completed"
    assert task["vendors"][0]["emails"] == [{"recipient": "ANN@x", "subject": "Hello"}]
    assert task["emails_sent"] == 1
    assert [one["message"] for one in task["events"]] == [
        *BEGINNING,
        "Looking for painters",
        "Agent completed task successfully",
    ]
    assert handle(worker, event)["outcome"] == "not_claimed"
    assert len(deployed.runs) == 1
    assert deployed.stops == []
    assert log.outcomes == ["completed", "not_claimed"]


def test_the_environment_names_qualifier_protocol_and_stopping(
    worker: Worker, deployed: AgentServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AGENT_RUNTIME_QUALIFIER", "prod")
    monkeypatch.setenv("AGENT_PROTOCOL", "AGUI")
    monkeypatch.setenv("STOP_SESSION_AFTER_TASK", "true")
    handle(worker, {"task_id": TASK_ID, "description": "x"})
    assert [call.operation for call in deployed.calls] == ["invocations", "stopruntimesession"]
    assert {call.session for call in deployed.calls} == {TASK_ID}
    assert [call.query for call in deployed.calls] == [{"qualifier": ["prod"]}] * 2
    assert deployed.runs[0].payload["runId"] == TASK_ID


def test_the_agent_is_told_whose_task_it_is_where_people_sign_in(
    worker: Worker, deployed: AgentServer
):
    for owner in ("public", "jwt#ann#1"):
        task, _ = worker.store.create_task(owner[:3], "x", owner)
        handle(worker, {"task_id": owner[:3], "description": "x", "created_at": task["created_at"]})
    assert [call.payload.get("user_id") for call in deployed.runs] == [None, "ann#1"]


def test_an_agent_s_service_that_fails_ends_the_task_after_one_call(
    worker: Worker, deployed: AgentServer
):
    deployed.play(sends_error(500, "InternalServerException"))
    assert handle(worker, {"task_id": TASK_ID, "description": "x"})["outcome"] == "error"
    assert len(deployed.runs) == 1
    assert len(deployed.stops) == 1


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "text",
        {},
        {"task_id": TASK_ID},
        {"description": "x"},
        {"task_id": "", "description": "x"},
        {"task_id": 5, "description": "x"},
        {"task_id": "a#1", "description": "x"},
        {"task_id": "x" * 101, "description": "x"},
        {"task_id": TASK_ID, "description": "  "},
        {"task_id": TASK_ID, "description": 5},
        {"task_id": TASK_ID, "description": "x" * 4_001},
        {"task_id": TASK_ID, "description": "half \ud800"},
        {"task_id": TASK_ID, "description": "x", "created_at": 5},
        {"task_id": TASK_ID, "description": "x", "created_at": "now"},
        {"task_id": TASK_ID, "description": "x", "created_at": "9999"},
        {"Records": [{"body": "{}"}]},
    ],
    ids=str,
)
def test_a_malformed_event_is_answered_with_an_error_and_never_raised(
    worker: Worker, deployed: AgentServer, log: Log, event: Any
):
    """Raised, Lambda would deliver it twice more."""
    answer = handle(worker, event)
    assert answer["code"] == "invalid_event"
    assert answer["error"]
    assert worker.items() == []
    assert deployed.calls == []
    assert [one["level"] for one in log.lines] == ["ERROR"]


@pytest.mark.parametrize(
    "misconfigured",
    [
        ("", "", "AGENT_RUNTIME_ARN not set"),
        ("YOUR_AGENT_ARN", "", "AGENT_RUNTIME_ARN is not the ARN of an AgentCore Runtime"),
        (ARN, "MCP", "AGENT_PROTOCOL must be HTTP or AGUI"),
    ],
)
@pytest.mark.parametrize("by_hand", [False, True])
def test_without_an_agent_the_task_ends_at_once(
    worker: Worker,
    without_agent: Log,
    monkeypatch: pytest.MonkeyPatch,
    misconfigured: tuple[str, str, str],
    by_hand: bool,
):
    arn, protocol, message = misconfigured
    monkeypatch.setenv("AGENT_RUNTIME_ARN", arn)
    monkeypatch.setenv("AGENT_PROTOCOL", protocol)
    store = dynamodb_helpers.task_store()
    event = {"task_id": TASK_ID, "description": "x"}
    if not by_hand:
        event["created_at"] = store.create_task(TASK_ID, "x")[0]["created_at"]
    answer = handle(worker, event)
    assert answer == {"error": message, "code": "not_configured", "task_id": TASK_ID}
    task = store.get_task(TASK_ID, "public")
    assert (task["status"], task["error_message"]) == ("error", message)
    assert [one["message"] for one in task["events"]] == ["Task created", f"Agent error: {message}"]
    assert without_agent.outcomes == ["error"]


def test_without_an_agent_a_deleted_task_stays_deleted(worker: Worker, without_agent: Log):
    event = {"task_id": TASK_ID, "description": "x", "created_at": timestamp(NOW)}
    assert handle(worker, event)["code"] == "not_configured"
    assert worker.items() == []
    assert without_agent.outcomes == ["deleted"]


def test_without_an_agent_a_task_that_runs_elsewhere_is_left_alone(
    worker: Worker, without_agent: Log
):
    """The function's configuration changed while an older worker was still at work."""
    worker.time.now = time.time()
    store = dynamodb_helpers.task_store()
    task, _ = store.create_task(TASK_ID, "x")
    store.claim_task(TASK_ID, "token", worker.time.now + 600)
    handle(worker, {"task_id": TASK_ID, "description": "x", "created_at": task["created_at"]})
    assert store.get_task(TASK_ID, "public")["status"] == "processing"
    assert without_agent.outcomes == ["not_claimed"]


def test_a_configuration_that_was_mended_is_used_by_the_next_event(
    worker: Worker, deployed: AgentServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("AGENT_RUNTIME_ARN")
    assert handle(worker, {"task_id": "a", "description": "x"})["code"] == "not_configured"
    monkeypatch.setenv("AGENT_RUNTIME_ARN", ARN)
    assert handle(worker, {"task_id": "b", "description": "x"})["outcome"] == "completed"
