"""What the functions share of Lambda: what their import makes, their clients, their log."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dynamodb_helpers
from valro import aws
from valro.dynamodb_items import TABLE_DEFINITION
from valro.tasks import Outcome, epoch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("is_lambda", [False, True])
def test_in_lambda_what_can_be_made_is_and_the_collector_runs_again(
    monkeypatch: pytest.MonkeyPatch, is_lambda: bool
):
    """What cannot be made yet is left to the first request."""
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    if is_lambda:
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "valro-backend")
    gc.unfreeze()
    gc.disable()
    made: list[int] = []
    aws.prepare(lambda: 1 / 0, lambda: made.append(1), lambda: made.append(2))
    assert made == ([1, 2] if is_lambda else [])
    assert gc.isenabled()
    assert (gc.get_freeze_count() > 0) == is_lambda
    gc.unfreeze()


# The network is refused where Python asks for it.
QUIET = """
import sys
sys.addaudithook(lambda name, args: sys.exit(name) if name.startswith("socket.connect") else None)
import lambda_function, worker_lambda
"""


@pytest.mark.parametrize("variables", [{}, {"AWS_LAMBDA_FUNCTION_NAME": "valro"}])
def test_importing_a_handler_needs_no_network_and_no_table(variables: dict[str, str]):
    settings = {"PATH": os.defpath, "AWS_REGION": "eu-central-1"}
    settings |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"} | variables
    command = [sys.executable, "-c", QUIET]
    result = subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Nothing that is made once is left from the tests before, nor for those after."""
    for made in (dynamodb_helpers.task_store, aws.aws_session):
        made.cache_clear()
    yield
    for made in (dynamodb_helpers.task_store, aws.aws_session):
        made.cache_clear()


@pytest.mark.usefixtures("aws", "forgotten")
@pytest.mark.parametrize("name, days", [("", ""), ("other-tasks", "30"), ("", "0")])
def test_the_deployed_store_has_its_settings_and_reads_every_type_that_it_writes(
    monkeypatch: pytest.MonkeyPatch, name: str, days: str
):
    """An answer in chunks has numbers, lists, maps and bytes; botocore reads none of them here."""
    monkeypatch.setenv("DYNAMODB_TABLE_NAME", name)
    monkeypatch.setenv("TASK_TTL_DAYS", days)
    store = dynamodb_helpers.task_store()
    assert store.table_name == (name or "valro-tasks")
    store.client.create_table(TableName=store.table_name, **TABLE_DEFINITION)
    made, _ = store.create_task("task-1", "Find me a painter")
    kept = int(days or 0) * 86_400
    assert made.get("expires_at") == (int(epoch(made["created_at"])) + kept if kept else None)
    claim = store.claim_task("task-1", "token", store.clock() + 600)
    answer: dict[str, Any] = {"agent_response": "ü" * 200_000, "vendors": [{"price": 1.5}]}
    answer |= {"quotes": [], "emails_sent": 3}
    store.end_task(claim, Outcome.of(answer))
    task = store.with_answer(store.get_task("task-1", "public"))
    assert task["chunks"] > 1
    assert {name: task[name] for name in answer} == answer
    assert [event["message"] for event in task["events"]][-1] == "Agent completed task successfully"


def test_a_region_is_not_needed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert aws.aws_client("dynamodb").meta.region_name == "us-east-1"


def test_a_hung_dynamodb_leaves_a_post_within_the_apis_30_seconds():
    config = aws.CLIENT_CONFIG
    attempts = config.retries["total_max_attempts"]
    one_call = attempts * (config.connect_timeout + config.read_timeout) + (attempts - 1)
    assert 3 * one_call < 30


def test_a_log_line_is_one_json_object_on_stderr_without_a_status(
    capsys: pytest.CaptureFixture[str],
):
    aws.log("INFO", "said\nin two lines", outcome="x", detail=ValueError("é%s"))
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    fields = {"level": "INFO", "message": "said\nin two lines", "outcome": "x", "detail": "é%s"}
    assert json.loads(line) == fields
