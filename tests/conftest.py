"""What the tests stand on: a fake AWS, a local one, and no way to a real one."""

import functools
import gc
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import boto3
import moto.core.models
import moto.core.serialize
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, settings
from moto import mock_aws

import lambda_function
import valro.aws
from dynamodb_helpers import TaskStore
from local import REGION
from local.aws import LocalStack, local_stack
from tests.api.contract import CheckedApi
from tests.side_by_side import (  # noqa: F401  pytest finds them here
    pytest_collection_modifyitems,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)
from valro import dynamodb_items
from valro.aws import aws_session

# Other work on the machine must not fail a property.
settings.register_profile("valro", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("valro")

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TABLE_NAME = "valro-tasks"

T = TypeVar("T")

# moto prepares 1,300 answers for each test to those who ask AWS by `requests`: nobody here does.
moto.core.models.RESPONSES_METHODS.clear()


def member(self: Any, value: Any, key: str, shape: Any) -> Any:
    """What moto shows of a value under a name; of a dict without its search for other names."""
    return value.get(key) if type(value) is dict else member_of_object(self, value, key, shape)


# A third of moto's time: each of the ten types of an attribute that it has not, five times.
member_of_object = moto.core.serialize.ResponseSerializer.get_value
moto.core.serialize.ResponseSerializer.get_value = member  # type: ignore[method-assign]


def pytest_collection_finish() -> None:
    """Lets no garbage collection look at the thousands of tests that stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_real_aws(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Gives every test fake credentials and a region, and no connection but to this machine."""
    nothing = tmp_path_factory.getbasetemp() / "no-such-file"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": str(nothing),
        "AWS_SHARED_CREDENTIALS_FILE": str(nothing),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)

    def only_here(connect: Callable[..., Any]) -> Callable[..., Any]:
        def connect_here(self: socket.socket, address: Any) -> Any:
            if self.family in {socket.AF_INET, socket.AF_INET6} and address[0] not in LOOPBACK:
                pytest.fail(f"A test tried to reach {address[0]}: only this machine is allowed.")
            return connect(self, address)

        return connect_here

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, only_here(getattr(socket.socket, name)))


@pytest.fixture
def aws() -> Iterator[None]:
    """Puts moto in the place of AWS."""
    with mock_aws():
        yield


@functools.cache
def moto_client() -> Any:
    """One client for all tests: making it takes longer than most of them do."""
    return aws_session().create_client("dynamodb", region_name=REGION)


@pytest.fixture
def dynamodb(aws: None) -> Any:
    """A low-level DynamoDB client against moto."""
    return moto_client()


@pytest.fixture
def table_name(dynamodb: Any) -> str:
    """An empty table in moto, made from the project's own definition."""
    dynamodb.create_table(TableName=TABLE_NAME, **dynamodb_items.TABLE_DEFINITION)
    return TABLE_NAME


def serve_from(monkeypatch: pytest.MonkeyPatch, store: TaskStore, workers: Any) -> None:
    """Has the API's function keep its tasks in a store and start its workers with a client."""
    monkeypatch.setenv("WORKER_LAMBDA_ARN", "arn:aws:lambda:us-east-1:0:function:valro-worker")
    monkeypatch.setenv("PUBLIC_CANCEL_AND_DELETE", "true")
    monkeypatch.setattr(lambda_function, "task_store", lambda: store)
    # Not what a test before this one left in its cache.
    monkeypatch.setattr(lambda_function, "tasks", lambda_function.tasks.__wrapped__)
    monkeypatch.setattr(valro.aws, "lambda_client", lambda: workers)


class Deployment:
    """The deployed stack as tests use it: over HTTP, through AWS clients, and by what it did.

    Every answer of its API is held to openapi.yaml.
    """

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.api = CheckedApi(stack.api.port, stack.api.api_id)

    @functools.cache  # noqa: B019  lives as long as the session
    def client(self, service: str) -> Any:
        """A boto3 client of MiniStack's root user."""
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.stack.endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=60),
        )

    def create(self, description: str, **headers: str) -> str:
        """Posts a task and returns its id."""
        answer = self.api.request("POST", "/tasks", {"description": description}, headers)
        assert answer.status == 202, answer.body
        return str(answer.json()["id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """Returns the task as a poller sees it now."""
        answer = self.api.request("GET", f"/tasks/{task_id}")
        assert answer.status == 200, answer.body
        task: dict[str, Any] = answer.json()
        return task

    def finish(self, task_id: str, seconds: float = 60) -> dict[str, Any]:
        """Polls until the task is final and returns it."""
        return eventually(
            lambda: self.task(task_id),
            lambda task: task["status"] in {"completed", "error"},
            seconds,
        )

    def run(self, description: str) -> dict[str, Any]:
        """Posts a task, waits for its end and returns it."""
        return self.finish(self.create(description))

    def agent_runs(self, task_id: str) -> int:
        """Counts how often the agent was reached for this task."""
        return int(self.stack.agent_report()["reached"].get(task_id, 0))

    def logged(self, function: str, *words: str) -> list[str]:
        """The lines of a function's log that hold all of these words."""
        pages = self.client("logs").get_paginator("filter_log_events")
        lines = [
            event["message"]
            for page in pages.paginate(logGroupName=f"/aws/lambda/{function}")
            for event in page["events"]
        ]
        return [line for line in lines if all(word in line for word in words)]

    def ids(self) -> set[str]:
        """Returns the ids of everything that is in the table."""
        pages = self.client("dynamodb").get_paginator("scan").paginate(TableName=TABLE_NAME)
        return {item["id"]["S"] for page in pages for item in page["Items"]}


def eventually(look: Callable[[], T], enough: Callable[[T], bool], seconds: float = 30) -> T:
    """Looks until it is enough; fails with what was seen last when time is up."""
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if enough(seen):
            return seen
        if time.monotonic() > end:
            pytest.fail(f"Not within {seconds} s. Last seen: {seen!r}"[:4000])
        time.sleep(0.05)


@pytest.fixture(scope="session")
def ministack() -> Iterator[LocalStack]:
    """A bare local AWS with the sample agent beside it, for tests that deploy by themselves."""
    with local_stack() as stack:
        yield stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Deployment]:
    """The backend, deployed by the real scripts to a local AWS that enforces the policies."""
    with local_stack(authorization=True) as local:
        local.deploy()
        yield Deployment(local)
