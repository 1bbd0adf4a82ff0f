"""The simulation is deterministic, finds what it must, and stands on a faithful DynamoDB."""

import copy
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import botocore.session
import pytest
from botocore.exceptions import ClientError

import dynamodb_helpers
import lambda_function
import worker_lambda
from dynamodb_helpers import Claim, TaskStore
from local.aws import LocalStack
from simulation import backend, reporters
from simulation.__main__ import main, shrunk
from simulation.agent import AGENT_ENDINGS, STOPS
from simulation.choices import Script, shrink
from simulation.dynamodb import DynamoDB
from simulation.mutations import mutated
from simulation.network import (
    AGENT_FAULTS,
    CALL_FAULTS,
    DYNAMODB_FAULTS,
    OUTAGE_FAULTS,
    QUEUE_FAULTS,
)
from simulation.schedule import run
from valro import dynamodb_items, tasks
from valro.dynamodb_pages import StoreBusy
from valro.store_errors import StoreError
from valro.tasks import Outcome, Report

TABLE_NAME = "valro-tasks"
REGION = "us-east-1"


def broken(seed: int, **options: Any) -> str:
    """The promise that a schedule breaks, if it breaks one."""
    violation = run(seed, **options).violation
    return f"seed {seed}: {violation}" if violation else ""


def every_fault() -> set[str]:
    """The names of all faults that the world knows."""
    kinds = {
        "dynamodb": DYNAMODB_FAULTS,
        "lambda": CALL_FAULTS,
        "queue": (*QUEUE_FAULTS, "event expired", "delivered again after a failure"),
        "agent": (
            *(*AGENT_FAULTS, *AGENT_ENDINGS[1:], "slow", "accepts", "no such session"),
            *("session busy", "reports without having accepted"),
            *(f"session stopped, {how}" for how in STOPS),
        ),
        "reporter": (*reporters.MANNERS, *reporters.ENDS[1:], "two processes", "works for hours"),
        "gateway": ("reply lost",),
        "client": ("two connections", "cancels", "task deleted", "follows", "follows again"),
        "worker": ("misconfigured", "raised", "fitting takes long"),
        "operator": ("task deleted", "worker invoked by hand"),
    }
    outages = {
        f"{service}: down, {fault}"
        for service in ("dynamodb", "lambda", "agent")
        for fault in OUTAGE_FAULTS
    }
    # Only an agent answers that an agent has failed.
    of_agents = {"dynamodb: agent failed", "lambda: agent failed"}
    return (outages | {f"{one}: {fault}" for one in kinds for fault in kinds[one]}) - of_agents


# --- the promises ---------------------------------------------------------------------------------


def test_some_schedules_break_no_promise():
    assert [text for seed in range(120) if (text := broken(seed))] == []


@pytest.mark.e2e
def test_thousands_of_schedules_with_every_fault_there_is_break_no_promise():
    faults: Counter[str] = Counter()
    for seed in range(3_000):
        result = run(seed)
        assert result.violation is None, f"seed {seed}"
        faults += result.faults
    assert every_fault() - faults.keys() == set()


@pytest.mark.e2e
def test_a_function_of_five_seconds_loses_no_answer(monkeypatch: pytest.MonkeyPatch):
    """It may be killed in its last write, which then hangs; the log has the answer by then."""
    monkeypatch.setattr(backend, "WORKER_SECONDS", (5.0,))
    found = {violation.invariant for seed in range(80) if (violation := run(seed).violation)}
    assert "the agent runs once" not in found
    assert "an answer is in the store or in the log" not in found


@pytest.mark.e2e
def test_promises_hold_when_clocks_are_off_by_25_seconds():
    """Two clocks may then be 50 s apart; the margin of every deadline is 60 s."""
    assert [text for seed in range(1_000) if (text := broken(seed, skew=25.0))] == []


# --- the simulator itself -------------------------------------------------------------------------


def test_a_seed_tells_the_same_story_every_time():
    stories = ["\n".join(run(seed, tracing=True).trace) for seed in (7, 8, 9, 7, 8, 9)]
    assert stories[:3] == stories[3:]
    assert len(set(stories)) == 3


@pytest.mark.e2e
def test_a_story_does_not_depend_on_the_process():
    command = [sys.executable, "-m", "simulation", "--seed", "11", "--trace"]
    stories = {
        subprocess.run(
            command,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(stories) == 1


def test_a_schedule_runs_again_from_its_choices():
    first = run(12, tracing=True)
    assert run(script=first.choices, tracing=True).trace == first.trace


def test_the_real_modules_are_back_after_a_schedule():
    places = [(module, dict(vars(module))) for module in (lambda_function, worker_lambda)]
    run(0)
    assert all(vars(module) == before for module, before in places)


@pytest.mark.e2e
def test_a_failing_schedule_is_told_in_short():
    with mutated("claim without its token"):
        seed = next(seed for seed in count() if run(seed).violation)
        full, short = run(seed, tracing=True), shrunk(seed, seconds=5)
    assert full.violation is not None
    assert short.violation is not None
    assert short.violation.invariant == full.violation.invariant
    assert len(short.trace) < len(full.trace)
    assert "VIOLATION" in short.trace[-1]


def test_shrinking_ends_at_the_shortest_script_that_fails():
    numbers = random.Random(1)
    script = {name: [numbers.randrange(100) for _ in range(20)] for name in "abc"}

    def fails(tried: Script) -> bool:
        return sum(tried.get("b", ())) >= 50

    short = shrink(script, fails, seconds=2)
    assert short.keys() == {"b"}
    assert sum(short["b"]) == 50


def test_the_command_reports_faults_and_no_broken_promise(capsys: pytest.CaptureFixture[str]):
    assert main(["--seed", "200", "--count", "3", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "3 schedules from seed 200" in out
    assert "No promise was broken." in out


@pytest.mark.e2e
def test_the_command_tells_the_schedule_that_breaks_a_promise(
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(simulation.__main__, "SHRINKING_SECONDS", 0.1)
    arguments = ["--seed", "0", "--count", "300", "--jobs", "1"]
    assert main([*arguments, "--mutation", "botocore's retries for the agent"]) == 1
    out = capsys.readouterr().out
    assert "the agent runs once" in out
    assert "--trace" in out


# --- the DynamoDB in memory is like the others ----------------------------------------------------


class Recorder:
    """A client that keeps what each call came to, in a form that can be compared."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.seen: list[Any] = []

    def __getattr__(self, operation: str) -> Any:
        def call(**request: Any) -> Any:
            try:
                answer = getattr(self.client, operation)(**request)
            except ClientError as error:
                self.seen.append((operation, comparable_error(error)))
                raise
            self.seen.append((operation, comparable(answer)))
            return answer

        return call


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """What of an answer the store reads; batches and scans come in no order."""
    kept = {name: answer[name] for name in ("Item", "Attributes") if name in answer}
    batches = answer.get("Responses", {}).values()
    items = [*answer.get("Items", []), *(item for batch in batches for item in batch)]
    return kept | {"items": sorted(items, key=lambda item: item["id"]["S"])}


def comparable_error(error: ClientError) -> dict[str, Any]:
    reasons = [
        (reason.get("Code"), reason.get("Item"))
        for reason in error.response.get("CancellationReasons", [])
    ]
    code = error.response["Error"]["Code"]
    return {"code": code, "item": error.response.get("Item"), "reasons": reasons}


class Player:
    """Does random things with a store; the same things for the same seed, whatever the store."""

    def __init__(self, client: Any, seed: int, table_name: str = TABLE_NAME) -> None:
        self.recorder = Recorder(client)
        self.random = random.Random(seed)
        self.now = 1_767_225_600.0
        self.store = TaskStore(
            self.recorder, table_name, clock=lambda: self.now, sleep=lambda _seconds: None
        )
        self.prefix = f"task-{seed}"
        self.claims: list[Claim] = []

    def play(self, steps: int) -> list[Any]:
        """Does ``steps`` things; returns what every call came to, and what is in the end."""
        for _ in range(steps):
            self.now += self.random.choice((0.001, 1.0, 1.0, 40.0, 500.0))
            try:
                self.step(self.random.choice(STEPS))
            except (StoreError, StoreBusy) as error:
                self.recorder.seen.append(type(error).__name__)
        self.recorder.scan(
            TableName=self.store.table_name,
            FilterExpression="attribute_exists(#id)",
            ExpressionAttributeNames={"#id": "id"},
        )
        return self.recorder.seen

    def step(self, name: str) -> None:  # noqa: C901, PLR0912  a case a step
        pick, store = self.random.choice, self.store
        owner, task_id = pick(("public", "jwt#ann")), f"{self.prefix}-{self.random.randrange(4)}"
        match name:
            case "create":
                store.create_task(task_id, "Find a painter", owner, "fingerprint")
            case "follow":
                earlier = f"{self.prefix}-{self.random.randrange(4)}"
                store.follow_task(task_id, "Yes", owner, "fingerprint", follows=earlier)
            case "claim":
                token = f"claim-{self.random.randrange(3)}"
                self.claims.append(store.claim_task(task_id, token, self.now + pick((60, 600))))
            case "progress":
                claim = self.a_claim()
                for number in range(self.random.randrange(3)):
                    claim.timeline.add_progress(tasks.timestamp(self.now), f"Step {number}: “ü”")
                store.record_progress(claim)
            case "finish":
                store.end_task(self.a_claim(), pick(OUTCOMES)(pick((10, 400_000))))
            case "confirm":
                store.confirm_claim(self.a_claim())
            case "accept":
                store.accept_task(self.a_claim())
            case "report":
                end = pick((None, None, Outcome.of({"agent_response": "Found."})))
                report = Report(f"report-{self.random.randrange(3)}", ["Step"], end)
                store.report(store.find_task(task_id), report)
            case "cancel":
                store.cancel_task(task_id, owner)
            case "delete":
                store.delete_task(task_id, owner)
            case "fail pending":
                store.fail_pending_task(task_id, "Error invoking worker", "No.", "no")
            case "get":
                store.with_answer(store.get_task(task_id, owner))
            case "list":
                cursor, limit = None, pick((1, 2, 50))
                for _ in range(4):
                    _tasks, cursor = store.list_tasks(owner, limit, cursor)
                    if not cursor:
                        return

    def a_claim(self) -> Claim:
        """A claim, perhaps as it was before its last write: an answer may have been lost."""
        if not self.claims:
            raise StoreError("nothing is claimed")
        claim = self.random.choice(self.claims)
        if self.random.random() < 0.5:
            claim = copy.deepcopy(claim)
            self.claims.append(claim)
        return claim


def an_answer(size: int) -> dict[str, Any]:
    vendors = [{"name": "Ann", "price": 1e300, "emails": []}]
    text = "é" * (size // 2)
    return {"agent_response": text, "vendors": vendors, "quotes": [], "emails_sent": 3}


OUTCOMES = (
    lambda size: Outcome.of(an_answer(size)),
    lambda size: Outcome.of(an_answer(size)),
    lambda size: Outcome.of(an_answer(size), "agent_failed", "The agent failed."),
)
STEPS = (
    *("create", "claim", "progress", "finish") * 2,
    *("follow", "fail pending", "get", "list", "confirm", "accept", "report", "cancel", "delete"),
)


class InMemory(DynamoDB):
    """The simulation's DynamoDB, as a client of one table."""

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in {"put_item", "update_item", "query", "get_item", "scan"}:
            return method
        return lambda **request: method(
            **{key: value for key, value in request.items() if key != "TableName"}
        )


@pytest.fixture
def same_ids(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the store's tokens count from 1; calling it starts again."""
    counter = [0]

    def uuid4() -> UUID:
        counter[0] += 1
        return UUID(int=counter[0])

    monkeypatch.setattr(dynamodb_helpers, "uuid", SimpleNamespace(uuid4=uuid4))

    def again() -> None:
        counter[0] = 0

    return again


def played_in_memory(seed: int, steps: int, again: Any) -> list[Any]:
    again()
    return Player(InMemory(), seed).play(steps)


def test_the_memory_of_the_simulation_is_like_moto(dynamodb: Any, table_name: str, same_ids: Any):
    operations: Counter[str] = Counter()
    refused = 0
    for seed in range(5):
        expected = played_in_memory(seed, 60, same_ids)
        same_ids()
        for item in dynamodb.scan(TableName=table_name)["Items"]:
            dynamodb.delete_item(TableName=table_name, Key={"id": item["id"]})
        assert Player(dynamodb, seed, table_name).play(60) == expected
        operations.update(call[0] for call in expected if isinstance(call, tuple))
        refused += sum("code" in call[1] for call in expected if isinstance(call, tuple))
    # Every operation was among them, and refused conditions with the item that refused them.
    assert set(operations) == {
        "put_item",
        "update_item",
        "transact_write_items",
        "get_item",
        "batch_get_item",
        "query",
        "scan",
    }
    assert refused > 10


@pytest.mark.e2e
def test_the_memory_of_the_simulation_is_like_ministack(ministack: LocalStack, same_ids: Any):
    client = botocore.session.Session().create_client(
        "dynamodb", region_name=REGION, endpoint_url=ministack.endpoint
    )
    for seed in range(12):
        name = f"simulated-{seed}"
        client.create_table(TableName=name, **dynamodb_items.TABLE_DEFINITION)
        expected = played_in_memory(seed, 60, same_ids)
        same_ids()
        assert Player(client, seed, name).play(60) == expected
