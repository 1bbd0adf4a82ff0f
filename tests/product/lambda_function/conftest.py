"""The API's function on moto's table."""

from collections.abc import Iterator

import pytest

import dynamodb_helpers
import lambda_function
import valro.aws
from tests.product.lambda_function.function import WORKER_ARN, Api


@pytest.fixture(scope="module", autouse=True)
def new_store() -> Iterator[None]:
    """Lets the API make its own store from its environment, once, as in a function."""
    for make in (dynamodb_helpers.task_store, lambda_function.tasks):
        make.cache_clear()
    yield
    for make in (dynamodb_helpers.task_store, lambda_function.tasks):
        make.cache_clear()


@pytest.fixture
def api(
    monkeypatch: pytest.MonkeyPatch, table_name: str, capsys: pytest.CaptureFixture[str]
) -> Api:
    """The function with its own store, on an empty table, where everybody may do everything."""
    monkeypatch.setenv("DYNAMODB_TABLE_NAME", table_name)
    monkeypatch.delenv("TASK_TTL_DAYS", raising=False)
    monkeypatch.setenv("PUBLIC_CANCEL_AND_DELETE", "true")
    monkeypatch.setenv("WORKER_LAMBDA_ARN", WORKER_ARN)
    api = Api(lambda_function.tasks(), capsys)
    monkeypatch.setattr(valro.aws, "lambda_client", lambda: api.worker)
    return api
