"""The simulation is deterministic, finds what it must, and stands on a faithful DynamoDB."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

import lambda_function
import worker_lambda
from local.aws import LocalStack
from simulation import aws as simulated_aws
from simulation import backend, reporters
from simulation.__main__ import main
from simulation.agent import AGENT_ENDINGS, STOPS
from simulation.dynamodb import DynamoDB
from simulation.network import (
    AGENT_FAULTS,
    CALL_FAULTS,
    DYNAMODB_FAULTS,
    OUTAGE_FAULTS,
    QUEUE_FAULTS,
)
from simulation.schedule import run
from valro import dynamodb_items

# Schedules that have, together, every kind of write, done and refused; the first have most of them.
SEEDS = (23, 87, 49, 258, 205, 196, 10, 100, 295, 44, 219, 236, 16, 119, 36)


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
            command, env=os.environ | {"PYTHONHASHSEED": hash_seed}, capture_output=True, check=True
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(stories) == 1


def test_the_real_modules_are_back_after_a_schedule():
    places = [(module, dict(vars(module))) for module in (lambda_function, worker_lambda)]
    run(0)
    assert all(vars(module) == before for module, before in places)


def test_the_command_reports_faults_and_no_broken_promise(capsys: pytest.CaptureFixture[str]):
    assert main(["--seed", "200", "--count", "3", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "3 schedules from seed 200" in out
    assert "No promise was broken." in out


def test_the_command_tells_the_schedule_that_breaks_a_promise(capsys: pytest.CaptureFixture[str]):
    arguments = ["--seed", "0", "--count", "50", "--jobs", "1"]
    assert main([*arguments, "--mutation", "session stopped before the outcome"]) == 1
    out = capsys.readouterr().out
    assert "50 schedules from seed 0" in out
    assert "VIOLATION the outcome comes first" in out
    assert "--trace" in out


# --- the DynamoDB in memory is like the others ----------------------------------------------------

OPERATIONS = set(
    "put_item update_item transact_write_items delete_item get_item batch_get_item query scan".split()
)
# What a call was, whether it was refused, and whether the other DynamoDB answered the same.
Call = tuple[str, bool, bool]


class Twin(DynamoDB):
    """The memory of a schedule, but for its lags; what is asked of it, it asks of another too."""

    def __init__(
        self, client: Any, table: str, calls: list[Call], *, clock: Any, **_lags: Any
    ) -> None:
        super().__init__(clock=clock, index_lag=float, read_lag=float)
        self.client = client
        self.table = table
        self.calls = calls

    def __getattribute__(self, name: str) -> Any:
        operation = super().__getattribute__(name)
        return partial(self.ask, name, operation) if name in OPERATIONS else operation

    def ask(self, name: str, operation: Callable[..., Any], **request: Any) -> Any:
        is_repeated = request.get("ClientRequestToken") in self._tokens
        answer = outcome(operation, request)
        is_refused = isinstance(answer, ClientError)
        # Only this memory is told to have no index, or no room; and only it knows a token again.
        is_own = is_refused and answer.response["Error"]["Code"] == "ValidationException"
        if not is_own and not is_repeated:
            request.pop("ClientRequestToken", None)
            there = json.loads(json.dumps(request).replace("valro-tasks", self.table))
            other = outcome(getattr(self.client, name), there)
            self.calls.append((name, is_refused, comparable(answer) == comparable(other)))
        if is_refused:
            raise answer
        return answer


def outcome(operation: Callable[..., Any], request: dict[str, Any]) -> Any:
    try:
        return operation(**request)
    except ClientError as error:
        return error


def comparable(answer: Any) -> Any:
    """What of an answer the store reads; batches and scans come in no order."""
    if isinstance(answer, ClientError):
        reasons = [
            (reason.get("Code"), reason.get("Item"))
            for reason in answer.response.get("CancellationReasons", [])
        ]
        return answer.response["Error"]["Code"], answer.response.get("Item"), reasons
    kept = {name: answer[name] for name in ("Item", "Attributes") if name in answer}
    batches = answer.get("Responses", {}).values()
    items = [*answer.get("Items", []), *(item for batch in batches for item in batch)]
    return kept | {"items": sorted(items, key=lambda item: item["id"]["S"])}


def play(client: Any, seeds: Sequence[int], patch: pytest.MonkeyPatch) -> list[Call]:
    """Runs schedules on their memory and on another DynamoDB, which must answer the same."""
    calls: list[Call] = []
    for seed in seeds:
        table = f"simulated-{seed}"
        client.create_table(TableName=table, **dynamodb_items.TABLE_DEFINITION)
        patch.setattr(simulated_aws, "DynamoDB", partial(Twin, client, table, calls))
        assert not broken(seed)
    assert [name for name, _, is_same in calls if not is_same] == []
    return calls


def test_the_memory_of_the_simulation_is_like_moto(dynamodb: Any, monkeypatch: pytest.MonkeyPatch):
    calls = play(dynamodb, SEEDS[:7], monkeypatch)
    # Every operation was among them, and refused conditions with the item that refused them.
    assert {name for name, _, _ in calls} == OPERATIONS
    assert sum(is_refused for _, is_refused, _ in calls) > 10


@pytest.mark.e2e
def test_the_memory_of_the_simulation_is_like_ministack(
    ministack: LocalStack, monkeypatch: pytest.MonkeyPatch
):
    client = botocore.session.Session().create_client(
        "dynamodb", region_name="us-east-1", endpoint_url=ministack.endpoint
    )
    assert len(play(client, SEEDS, monkeypatch)) > 500
