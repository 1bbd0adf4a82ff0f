"""The API's function on moto's table."""

from collections.abc import Iterator

import pytest

import dynamodb_helpers
import lambda_function
import valro.aws
from dynamodb_helpers import TaskStore
from tests.product.lambda_function.function import WORKER_ARN, Worker


@pytest.fixture(scope="module", autouse=True)
def new_store() -> Iterator[None]:
    """Lets the API make its own store from its environment, once, as in a function."""
    for make in (dynamodb_helpers.task_store, lambda_function.tasks):
        make.cache_clear()
    yield
    for make in (dynamodb_helpers.task_store, lambda_function.tasks):
        make.cache_clear()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, table_name: str) -> TaskStore:
    """The API's own store, on an empty table."""
    monkeypatch.setenv("DYNAMODB_TABLE_NAME", table_name)
    monkeypatch.delenv("TASK_TTL_DAYS", raising=False)
    return dynamodb_helpers.task_store()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, store: TaskStore) -> Worker:
    worker = Worker()
    monkeypatch.setenv("WORKER_LAMBDA_ARN", WORKER_ARN)
    monkeypatch.setattr(valro.aws, "lambda_client", lambda: worker)
    return worker


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    """Cancel and delete for everybody, as an operator may say."""
    monkeypatch.setenv("PUBLIC_CANCEL_AND_DELETE", "true")
