"""The worker, and what it stands on."""

from collections.abc import Iterator
from typing import Any

import pytest

import dynamodb_helpers
import worker_lambda
from tests.product.agent_server import ARN, AgentServer, agent_server, sends_json
from tests.product.worker_lambda.fakes import Log, Worker, answers
from valro.agent.answers import Accepted


@pytest.fixture
def worker(dynamodb: Any, table_name: str, capsys: pytest.CaptureFixture[str]) -> Worker:
    return Worker(dynamodb, table_name, Log(capsys))


@pytest.fixture
def deployed(
    worker: Worker, table_name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AgentServer]:
    """The function's environment, with the real agent call and a little agent behind it."""
    cached = (dynamodb_helpers.task_store, worker_lambda.agent_runtime)
    for function in cached:
        function.cache_clear()
    for name in ("AGENT_RUNTIME_QUALIFIER", "AGENT_PROTOCOL", "STOP_SESSION_AFTER_TASK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TASK_TTL_DAYS", raising=False)
    monkeypatch.setenv("DYNAMODB_TABLE_NAME", table_name)
    monkeypatch.setenv("AGENT_RUNTIME_ARN", ARN)
    with agent_server() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", server.url)
        server.play(sends_json({"response": "done"}))
        yield server
    for function in cached:
        function.cache_clear()


@pytest.fixture
def reporting(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker whose agent works on and reports."""
    monkeypatch.setenv("REPORTS_BASE_URL", "https://api.example/prod")
    worker.agent.play = answers(Accepted(""))
    return worker


@pytest.fixture
def stopping(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker whose function itself uses the same table and agent."""
    monkeypatch.setattr(worker_lambda, "task_store", lambda: worker.store)
    monkeypatch.setattr(worker_lambda, "agent_runtime", lambda: worker.agent)
    return worker
