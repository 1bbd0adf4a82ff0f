"""What happens before the first request, and that the figures of the fast ways are real ones."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from moto import mock_aws

import dynamodb_helpers
from valro import aws
from valro.aws import prepare
from valro.dynamodb_items import TABLE_DEFINITION
from valro.tasks import Outcome

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()
    gc.enable()


def test_in_lambda_what_is_needed_is_made_and_the_collector_runs_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "valro-backend")
    gc.disable()
    made: list[int] = []
    prepare(lambda: made.append(1), lambda: made.append(2))
    assert made == [1, 2]
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_elsewhere_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    made: list[int] = []
    prepare(lambda: made.append(1))
    assert made == []
    assert gc.isenabled()


def test_what_cannot_be_made_yet_is_left_to_the_first_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "valro-backend")
    made: list[int] = []
    prepare(lambda: 1 / 0, lambda: made.append(1))
    assert made == [1]


# The network is refused where Python asks for it.
QUIET = """
import sys
sys.addaudithook(lambda name, args: sys.exit(name) if name.startswith("socket.connect") else None)
import lambda_function, worker_lambda
"""


@pytest.mark.parametrize("variables", [{}, {"AWS_LAMBDA_FUNCTION_NAME": "valro"}])
def test_importing_a_handler_needs_no_network_and_no_table(variables: dict[str, str]) -> None:
    settings = {
        "PATH": os.defpath,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "eu-central-1",
    }
    result = subprocess.run(
        [sys.executable, "-c", QUIET],
        cwd=ROOT,
        env=settings | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_the_deployed_client_reads_every_type_that_the_store_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An answer in chunks has numbers, lists, maps and bytes; botocore reads none of them here."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    dynamodb_helpers.task_store.cache_clear()
    aws.aws_session.cache_clear()
    with mock_aws():
        store = dynamodb_helpers.task_store()
        store.client.create_table(TableName=store.table_name, **TABLE_DEFINITION)
        store.create_task("task-1", "Find me a painter")
        claim = store.claim_task("task-1", "token", store.clock() + 600)
        answer = {"agent_response": "ü" * 200_000, "vendors": [{"price": 1.5}], "quotes": []}
        store.end_task(claim, Outcome.of(answer | {"emails_sent": 3}))
        task = store.with_answer(store.get_task("task-1", "public"))
    dynamodb_helpers.task_store.cache_clear()
    aws.aws_session.cache_clear()
    assert task["chunks"] > 1
    assert {name: task[name] for name in answer} == answer
    assert task["emails_sent"] == 3
    assert [event["message"] for event in task["events"]][-1] == "Agent completed task successfully"
