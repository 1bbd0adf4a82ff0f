"""What the API promises to those who call it: an HTTP event in, an HTTP response out, always.

The events in ``events/`` are what AWS sends, of every shape. The worker is a fake Lambda client.
"""

import base64
import hashlib
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError
from botocore.response import StreamingBody
from botocore.validate import validate_parameters
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from urllib3.exceptions import IncompleteRead, ProtocolError

import dynamodb_helpers
import lambda_function
from dynamodb_helpers import Claim, TaskNotClaimable, TaskStore
from lambda_function import lambda_handler, main
from valro import aws, dynamodb_pages
from valro.agent import answers
from valro.dynamodb_items import TABLE_DEFINITION
from valro.tasks import PUBLIC_FIELDS, PUBLIC_OWNER, Outcome, epoch, timestamp

EVENTS = Path(__file__).parent / "events"
POSTS = sorted(path.stem for path in EVENTS.glob("*_post*.json"))
WORKER_ARN = "arn:aws:lambda:us-east-1:123456789012:function:valro-worker"
DESCRIPTION = "Find me a landscaper in Charlotte under $300"
LAMBDA_RESPONSE_LIMIT = 6 * 1024 * 1024
STREAM = {"agent_response": "Done", "vendors": [{"name": "A"}], "quotes": [{"amount": 275.5}]}
EXPOSED = {"Location", "Retry-After", "ETag", "Link", "Idempotent-Replayed", "apigw-requestid"}


class Payload(StreamingBody):  # type: ignore[misc]  # botocore has no types
    """The body of an invocation's response, which has to be read to keep the connection."""

    was_read = False

    def read(self, amt: int | None = None) -> bytes:
        self.was_read = True
        return bytes(super().read(amt))


class Worker:
    """A Lambda client that takes only what Lambda's own model allows, and fails when told to."""

    def __init__(self) -> None:
        model = aws.aws_session().get_service_model("lambda")
        self.request_shape = model.operation_model("Invoke").input_shape
        self.invocations: list[dict[str, Any]] = []
        self.payloads: list[Payload] = []
        self.failure: Exception | None = None
        self.meanwhile: Callable[[str], Any] = str

    def invoke(self, **request: Any) -> dict[str, Any]:
        validate_parameters(request, self.request_shape)
        event = json.loads(request.pop("Payload"))
        self.invocations.append(request | {"event": event})
        self.meanwhile(event.get("task_id", event.get("stop")))
        if self.failure:
            raise self.failure
        self.payloads.append(Payload(io.BytesIO(b""), 0))
        return {"StatusCode": 202, "Payload": self.payloads[-1]}

    @property
    def events(self) -> list[dict[str, Any]]:
        return [invocation["event"] for invocation in self.invocations]


class Counting:
    """A DynamoDB client that counts the keys of each batch, and can be without the index."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.keys: list[int] = []
        self.has_index = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def batch_get_item(self, RequestItems: Any) -> Any:  # noqa: N803 - botocore's name
        self.keys += [len(asked["Keys"]) for asked in RequestItems.values()]
        return self.client.batch_get_item(RequestItems=RequestItems)

    def query(self, **asked: Any) -> Any:
        if not self.has_index:
            error = {"Code": "ValidationException", "Message": "no specified index"}
            raise ClientError({"Error": error}, "Query")
        return self.client.query(**asked)


class Context:
    """What Lambda tells a function about its invocation."""

    aws_request_id = "request-1"


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
    monkeypatch.setattr(lambda_function, "lambda_client", lambda: worker)
    return worker


def event(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text("utf-8"))
    return loaded


def request(
    method: str,
    path: str = "/tasks",
    body: str | None = None,
    *,
    query: dict[str, str] | None = None,
    user: str | None = None,
    is_base64: bool = False,
    **headers: str,
) -> dict[str, Any]:
    """Sends a request through an HTTP API and returns the function's response."""
    sent = event("http_api_v2_get_list")
    sent["rawPath"] = sent["requestContext"]["http"]["path"] = path
    sent["requestContext"]["http"]["method"] = method
    sent["queryStringParameters"] = query or {}
    sent["headers"] |= {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {"body": body, "isBase64Encoded": is_base64} if body is not None else {}
    if user:
        sent["requestContext"]["authorizer"] = {"jwt": {"claims": {"sub": user}, "scopes": None}}
    return checked(lambda_handler(sent, Context()))


def checked(response: dict[str, Any]) -> dict[str, Any]:
    """Whatever the response says, API Gateway and a browser can use it."""
    assert isinstance(response["statusCode"], int)
    assert all(isinstance(value, str) for value in response["headers"].values())
    assert response["headers"]["Access-Control-Allow-Origin"] == "*"
    assert set(response["headers"]["Access-Control-Expose-Headers"].split(",")) == EXPOSED
    assert len(json.dumps(response)) < LAMBDA_RESPONSE_LIMIT
    if response["statusCode"] >= 400:
        error = json.loads(response["body"])
        assert error["error"].strip()
        assert error["code"].replace("_", "").isalpha()
        assert error["code"] == error["code"].lower()
    return response


def post(description: str = DESCRIPTION, **options: Any) -> dict[str, Any]:
    return request("POST", "/tasks", json.dumps({"description": description}), **options)


def said(response: dict[str, Any]) -> Any:
    assert response["headers"]["Content-Type"] == "application/json"
    return json.loads(response["body"])


def read(task_id: str, **options: Any) -> Any:
    response = request("GET", f"/tasks/{task_id}", **options)
    assert response["statusCode"] == 200
    return said(response)


def next_of(response: dict[str, Any]) -> dict[str, str]:
    """The query of the page that comes next; empty if none does."""
    link = response["headers"].get("Link", "")
    return dict(parse_qsl(link.removeprefix("<?").partition(">")[0]))


def items(store: TaskStore) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = store.client.scan(TableName=store.table_name)["Items"]
    return found


def let_pass(store: TaskStore, task_id: str, seconds: float) -> None:
    """Makes a task as old as if ``seconds`` had passed."""
    key = {"id": {"S": task_id}}
    item = store.client.get_item(TableName=store.table_name, Key=key)["Item"]
    for name in ("created_at", "updated_at", "deadline"):
        item[name] = {"S": timestamp(epoch(item[name]["S"]) - seconds)}
    store.client.put_item(TableName=store.table_name, Item=item)


def complete(store: TaskStore, task_id: str, **answer: Any) -> None:
    now = datetime.now(UTC).timestamp()
    claim = store.claim_task(task_id, "token", now + 600)
    store.end_task(claim, Outcome.of(STREAM | {"emails_sent": 3} | answer))


def error_of(code: str) -> ClientError:
    message = f"Something about {WORKER_ARN}"
    return ClientError({"Error": {"Code": code, "Message": message}}, "Invoke")


def log_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


class TestPost:
    def test_a_task_is_written_its_worker_started_and_202_said_at_once(
        self, store: TaskStore, worker: Worker
    ):
        response = post()
        body = said(response)
        assert response["statusCode"] == 202
        assert body == {
            "id": body["id"],
            "status": "pending",
            "message": "Task created and processing started",
        }
        assert response["headers"]["Location"] == f"tasks/{body['id']}"
        assert response["headers"]["Retry-After"] == "1"
        assert "Idempotent-Replayed" not in response["headers"]
        (item,) = items(store)
        assert item["id"]["S"] == body["id"]
        assert item["status"]["S"] == "pending"
        assert item["description"]["S"] == DESCRIPTION

    def test_the_worker_gets_the_task_asynchronously(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        (invocation,) = worker.invocations
        assert invocation == {
            "FunctionName": WORKER_ARN,
            "InvocationType": "Event",
            "event": {
                "task_id": task_id,
                "description": DESCRIPTION,
                "created_at": read(task_id)["created_at"],
            },
        }

    def test_the_invocations_answer_is_read_so_that_the_connection_lives_on(self, worker: Worker):
        post()
        assert [payload.was_read for payload in worker.payloads] == [True]

    def test_each_post_is_a_task_of_its_own(self, store: TaskStore, worker: Worker):
        assert said(post())["id"] != said(post())["id"]
        assert len(items(store)) == len(worker.events) == 2

    def test_the_largest_event_is_within_an_asynchronous_invocation(self, worker: Worker):
        post("\U0001f3e1" * 4000)
        assert len(json.dumps(worker.events[0])) < 256 * 1024

    def test_the_description_is_trimmed(self, worker: Worker):
        assert read(said(post("  x\n"))["id"])["description"] == "x"
        assert worker.events[0]["description"] == "x"

    def test_the_outcome_is_logged_with_both_ids(
        self, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        task_id = said(post())["id"]
        (line,) = log_lines(capsys)
        assert line["outcome"] == "accepted"
        assert line["task_id"] == task_id
        assert line["request_id"] == Context.aws_request_id
        assert "status" not in line

    @pytest.mark.parametrize("field", ["webhok", "id", "status", "owner", "Description"])
    def test_a_field_that_there_is_not_is_named(self, worker: Worker, field: str):
        """One that is ignored in silence is worse: a misspelt one, or one of a later version."""
        response = request("POST", "/tasks", json.dumps({"description": "x", field: "mine"}))
        assert code_of(response) == (400, "invalid_body")
        assert f"'{field}'" in said(response)["error"]

    def test_a_byte_order_mark_before_the_body_is_no_part_of_it(self, worker: Worker):
        body = json.dumps({"description": "x"})
        assert request("POST", "/tasks", f"\ufeff{body}")["statusCode"] == 202

    @pytest.mark.parametrize("name", POSTS)
    def test_events_of_every_shape_are_understood(
        self, store: TaskStore, worker: Worker, name: str
    ):
        response = checked(lambda_handler(event(name), Context()))
        body = said(response)
        owner = "jwt#user-1" if "jwt" in name or "cognito" in name else PUBLIC_OWNER
        assert response["statusCode"] == 202
        assert response["headers"]["Location"] == f"tasks/{body['id']}"
        assert store.get_task(body["id"], owner)["description"] == DESCRIPTION

    @pytest.mark.parametrize(
        "body",
        [
            None,
            "",
            " ",
            "not json",
            "{",
            "null",
            "7",
            '"description"',
            "[]",
            '["description"]',
            "{}",
            '{"Description": "x"}',
            '{"description": "x", "follow": "y"}',
            '{"description": null}',
            '{"description": 7}',
            '{"description": ["x"]}',
            '{"description": ""}',
            '{"description": " \\n\\u2003"}',
            '{"description": "\\ud800"}',
            json.dumps({"description": "x" * 4001}),
            "\ud800",
            "\ufeff{}",
            "[" * 60_000,
            '{"description": "x"} and more',
            "1" * 5_000,
        ],
    )
    def test_a_body_that_cannot_be_used_is_400_and_writes_nothing(
        self, store: TaskStore, worker: Worker, body: Any
    ):
        response = request("POST", "/tasks", body)
        assert response["statusCode"] == 400
        assert said(response)["code"] in ("invalid_body", "invalid_description")
        assert items(store) == []
        assert worker.events == []

    @pytest.mark.parametrize(
        "body,reason",
        [
            ("not base64!", "it is not base64"),
            ("é", "it is not base64"),
            ("YWJ", "it is not base64"),
            (base64.b64encode(b"\xff\xfe").decode(), "it is not UTF-8"),
            (base64.b64encode(b'{"description": "\xe9"}').decode(), "it is not UTF-8"),
            (base64.b64encode(b"{").decode(), "it is not JSON"),
            ("", "it is empty"),
        ],
    )
    def test_an_encoded_body_that_cannot_be_used_says_why(
        self, store: TaskStore, worker: Worker, body: Any, reason: Any
    ):
        response = request("POST", "/tasks", body, is_base64=True)
        assert response["statusCode"] == 400
        assert reason in said(response)["error"]
        assert items(store) == []

    @pytest.mark.parametrize("body", [{"description": "x"}, 7, ["x"], True])
    def test_a_body_that_is_no_text_is_400(self, worker: Worker, body: Any):
        bare = {"httpMethod": "POST", "path": "/tasks", "body": body}
        assert checked(lambda_handler(bare, None))["statusCode"] == 400

    def test_the_length_of_a_description_is_told(self, worker: Worker):
        assert "at most 4,000 characters, not 4,001" in said(post("x" * 4001))["error"]

    def test_the_longest_description_is_taken(self, worker: Worker):
        assert post("x" * 4000)["statusCode"] == 202

    @pytest.mark.parametrize("is_base64", [False, True])
    @pytest.mark.parametrize("size,status", [(65_536, 202), (65_537, 413)])
    def test_a_body_has_64_kb_at_most(
        self, store: TaskStore, worker: Worker, is_base64: Any, size: int, status: Any
    ):
        text = '{"description": "é"}'.encode()
        data = text + b" " * (size - len(text))
        body = base64.b64encode(data).decode() if is_base64 else data.decode()
        assert request("POST", "/tasks", body, is_base64=is_base64)["statusCode"] == status
        assert len(items(store)) == (1 if status == 202 else 0)

    @pytest.mark.parametrize("value", [None, ""])
    def test_without_a_workers_arn_nothing_is_written(
        self, store: TaskStore, worker: Worker, monkeypatch: pytest.MonkeyPatch, value: Any
    ):
        if value is None:
            monkeypatch.delenv("WORKER_LAMBDA_ARN")
        else:
            monkeypatch.setenv("WORKER_LAMBDA_ARN", value)
        response = post()
        assert response["statusCode"] == 500
        assert said(response) == {"error": "WORKER_LAMBDA_ARN not set", "code": "not_configured"}
        assert items(store) == []

    def test_without_a_workers_arn_tasks_are_shown(
        self, store: TaskStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ):
        task_id = said(post())["id"]
        monkeypatch.delenv("WORKER_LAMBDA_ARN")
        assert read(task_id)["status"] == "pending"
        assert request("GET")["statusCode"] == 200


class TestWorkerUnavailable:
    @pytest.mark.parametrize(
        "failure",
        [
            error_of("AccessDeniedException"),
            error_of("ResourceNotFoundException"),
            error_of("TooManyRequestsException"),
            ConnectTimeoutError(endpoint_url="https://lambda"),
            ReadTimeoutError(endpoint_url="https://lambda"),
        ],
    )
    def test_the_task_is_kept_as_error_and_502_names_it(
        self, store: TaskStore, worker: Worker, failure: Any, capsys: pytest.CaptureFixture[str]
    ):
        worker.failure = failure
        response = post()
        body = said(response)
        assert response["statusCode"] == 502
        assert body["code"] == "worker_unavailable"
        assert response["headers"]["Location"] == f"tasks/{body['id']}"
        task = read(body["id"])
        assert task["status"] == "error"
        assert task["events"][-1]["message"] == f"Error invoking worker: {task['error_message']}"
        assert task["events"][-1]["type"] == "error"
        assert "arn:" not in json.dumps([response, task])
        (line,) = log_lines(capsys)
        assert line["outcome"] == "dispatch_failed"
        assert line["task_id"] == body["id"]

    def test_the_operator_learns_all_of_it(
        self, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        worker.failure = error_of("AccessDeniedException")
        post()
        assert WORKER_ARN in log_lines(capsys)[0]["detail"]

    def test_a_worker_that_has_the_task_after_all_makes_it_202(
        self, store: TaskStore, worker: Worker
    ):
        """Only the answer to the invocation was lost."""
        worker.meanwhile = lambda task_id: store.claim_task(task_id, "t", 4e9)
        worker.failure = ReadTimeoutError(endpoint_url="https://lambda")
        response = post()
        assert response["statusCode"] == 202
        assert said(response)["status"] == "processing"
        assert read(said(response)["id"])["status"] == "processing"

    def test_a_worker_that_was_faster_still_makes_it_202(self, store: TaskStore, worker: Worker):
        worker.meanwhile = lambda task_id: complete(store, task_id)
        worker.failure = ReadTimeoutError(endpoint_url="https://lambda")
        response = post()
        assert response["statusCode"] == 202
        assert said(response)["status"] == "completed"
        assert "Retry-After" not in response["headers"]

    def test_a_late_delivery_of_the_event_finds_the_task_ended(
        self, store: TaskStore, worker: Worker
    ):
        worker.failure = ReadTimeoutError(endpoint_url="https://lambda")
        task_id = said(post())["id"]
        with pytest.raises(dynamodb_helpers.TaskNotClaimable):
            store.claim_task(task_id, "t", 4e9)

    def test_if_the_failure_cannot_be_written_either_it_stays_pending_and_its_deadline_ends_it(
        self,
        store: TaskStore,
        worker: Worker,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        def refuse(*_: Any, **__: Any) -> Any:
            raise error_of("ProvisionedThroughputExceededException")

        worker.failure = error_of("TooManyRequestsException")
        with monkeypatch.context() as patch:
            patch.setattr(store, "fail_pending_task", refuse)
            response = post()
        assert response["statusCode"] == 202
        assert said(response)["status"] == "pending"
        assert [line["message"] for line in log_lines(capsys)][:2] == [
            "worker not started",
            "failure not written",
        ]
        task_id = said(response)["id"]
        assert read(task_id)["status"] == "pending"
        let_pass(store, task_id, 961)
        assert read(task_id)["status"] == "error"


class TestCutAnswers:
    """Lambda's answer to Invoke streams, so that urllib3's errors come out as they are."""

    CUTS = (
        IncompleteRead(10, 20),
        ProtocolError("Connection broken"),
    )

    @pytest.mark.parametrize("failure", CUTS, ids=lambda error: type(error).__name__)
    def test_a_cut_error_is_a_failed_dispatch_and_the_task_ends_at_once(
        self, store: TaskStore, worker: Worker, failure: Exception
    ):
        worker.failure = failure
        response = post()
        assert code_of(response) == (502, "worker_unavailable")
        task = read(said(response)["id"])
        assert (task["status"], task["error_code"]) == ("error", "dispatch_failed")
        assert "no connection" in task["error_message"]

    @pytest.mark.parametrize("failure", CUTS, ids=lambda error: type(error).__name__)
    def test_a_cut_acceptance_is_one_since_the_event_was_taken(
        self, worker: Worker, monkeypatch: pytest.MonkeyPatch, failure: Exception
    ):
        def cut(_payload: Payload, amt: int | None = None) -> bytes:
            raise failure

        monkeypatch.setattr(Payload, "read", cut)
        response = post()
        assert response["statusCode"] == 202
        assert read(said(response)["id"])["status"] == "pending"


class TestIdempotency:
    def test_the_same_key_and_body_are_one_task(self, store: TaskStore, worker: Worker):
        first, second = post(idempotency_key="k-1"), post(idempotency_key="k-1")
        assert said(first) == said(second)
        assert second["statusCode"] == 202
        assert second["headers"]["Location"] == first["headers"]["Location"]
        assert second["headers"]["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first["headers"]
        assert len(items(store)) == len(worker.events) == 1

    def test_a_replay_is_logged_as_one(self, worker: Worker, capsys: pytest.CaptureFixture[str]):
        post(idempotency_key="k-1")
        post(idempotency_key="k-1")
        assert [line["outcome"] for line in log_lines(capsys)] == ["accepted", "replayed"]

    def test_a_body_that_only_looks_different_is_the_same(self, worker: Worker):
        first = request("POST", "/tasks", '{"description":"x"}', idempotency_key="k")
        second = request("POST", "/tasks", '{ "description": " \\u0078 "}', idempotency_key="k")
        assert said(first)["id"] == said(second)["id"]

    def test_another_description_is_422_and_changes_nothing(self, store: TaskStore, worker: Worker):
        post(idempotency_key="k-1")
        before = items(store)
        response = post("Something else", idempotency_key="k-1")
        assert response["statusCode"] == 422
        assert said(response)["code"] == "idempotency_key_reused"
        assert items(store) == before
        assert len(worker.events) == 1

    def test_another_key_is_another_task(self, store: TaskStore, worker: Worker):
        assert said(post(idempotency_key="k-1"))["id"] != said(post(idempotency_key="k-2"))["id"]

    def test_another_users_key_is_another_task(self, store: TaskStore, worker: Worker):
        ids = {said(post(idempotency_key="k", user=user))["id"] for user in (None, "a", "b", "a")}
        assert len(ids) == len(items(store)) == 3

    def test_the_current_status_is_told(self, store: TaskStore, worker: Worker):
        task_id = said(post(idempotency_key="k-1"))["id"]
        complete(store, task_id)
        response = post(idempotency_key="k-1")
        assert response["statusCode"] == 202
        assert said(response)["status"] == "completed"
        assert "Retry-After" not in response["headers"]

    def test_an_agents_error_is_told_as_202_too(self, store: TaskStore, worker: Worker):
        task_id = said(post(idempotency_key="k-1"))["id"]
        store.end_task(
            store.claim_task(task_id, "t", 4e9), Outcome.of({}, "agent_failed", "No vendors")
        )
        response = post(idempotency_key="k-1")
        assert response["statusCode"] == 202
        assert said(response)["status"] == "error"

    @pytest.mark.parametrize("seconds,starts", [(25, 1), (35, 2)])
    def test_a_task_still_pending_after_30_s_is_dispatched_again(
        self, store: TaskStore, worker: Worker, seconds: Any, starts: Any
    ):
        """The client that made it may have died before it started the worker."""
        task_id = said(post(idempotency_key="k-1"))["id"]
        let_pass(store, task_id, seconds)
        before = items(store)
        assert said(post(idempotency_key="k-1"))["id"] == task_id
        assert [sent["task_id"] for sent in worker.events] == [task_id] * starts
        assert items(store) == before

    def test_a_second_dispatch_that_fails_leaves_the_task_to_its_first_event(
        self, store: TaskStore, worker: Worker
    ):
        """Which may be queued still."""
        task_id = said(post(idempotency_key="k"))["id"]
        let_pass(store, task_id, 31)
        worker.failure = error_of("TooManyRequestsException")
        response = post(idempotency_key="k")
        assert response["statusCode"] == 202
        assert said(response)["status"] == "pending"
        assert len(worker.events) == 2
        assert claim(store, task_id).is_fresh

    def test_a_finished_task_is_not_said_to_have_been_started(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post(idempotency_key="k"))["id"]
        complete(store, task_id)
        message = said(post(idempotency_key="k"))["message"]
        assert message == "This task was created before and has ended"

    def test_a_running_task_is_not_dispatched_again(self, store: TaskStore, worker: Worker):
        task_id = said(post(idempotency_key="k-1"))["id"]
        store.claim_task(task_id, "t", 4e9)
        let_pass(store, task_id, 60)
        assert said(post(idempotency_key="k-1"))["status"] == "processing"
        assert len(worker.events) == 1

    def test_an_overdue_task_is_not_dispatched_again_but_ended(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post(idempotency_key="k-1"))["id"]
        let_pass(store, task_id, 961)
        assert said(post(idempotency_key="k-1"))["status"] == "error"
        assert len(worker.events) == 1

    def test_a_failed_dispatch_stays_failed_with_the_same_502(
        self, store: TaskStore, worker: Worker
    ):
        worker.failure = error_of("TooManyRequestsException")
        first = post(idempotency_key="k-1")
        worker.failure = None
        second = post(idempotency_key="k-1")
        assert (second["statusCode"], said(second)) == (502, said(first))
        assert second["headers"]["Idempotent-Replayed"] == "true"
        assert len(worker.events) == 1

    def test_a_creation_whose_answer_was_lost_is_taken_up_by_the_next_try(
        self, store: TaskStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ):
        """The first try wrote the task and died; the second finds it and starts it after 30 s."""
        put_item = store.client.put_item

        def answer_lost(**arguments: Any) -> Any:
            put_item(**arguments)
            raise ReadTimeoutError(endpoint_url="https://dynamodb")

        with monkeypatch.context() as patch:
            patch.setattr(store.client, "put_item", answer_lost)
            assert post(idempotency_key="k-1")["statusCode"] == 500
        assert worker.events == []
        (item,) = items(store)
        let_pass(store, item["id"]["S"], 31)
        assert said(post(idempotency_key="k-1"))["id"] == item["id"]["S"]
        assert [sent["task_id"] for sent in worker.events] == [item["id"]["S"]]

    @pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb", "a\nb", "\x7f", "a\n"])
    def test_a_malformed_key_is_400_and_writes_nothing(
        self, store: TaskStore, worker: Worker, key: Any
    ):
        response = post(idempotency_key=key)
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_idempotency_key"
        assert items(store) == []

    @pytest.mark.parametrize("key", ["x", "x" * 255, '"quoted key"', "~!@ #"])
    def test_any_printable_key_will_do(self, worker: Worker, key: Any):
        assert said(post(idempotency_key=key))["id"] == said(post(idempotency_key=key))["id"]

    @pytest.mark.e2e
    def test_200_threads_with_one_key_make_one_task_and_start_it_once(
        self, store: TaskStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ):
        """Since moto is not thread-safe, a lock makes each of its calls atomic, as DynamoDB's are."""
        lock, real = threading.Lock(), store.client

        class Atomic:
            def __getattr__(self, operation: str) -> Callable[..., Any]:
                def call(**arguments: Any) -> Any:
                    with lock:
                        return getattr(real, operation)(**arguments)

                return call

        monkeypatch.setattr(store, "client", Atomic())
        with ThreadPoolExecutor(200) as pool:
            responses = list(pool.map(lambda _: post(idempotency_key="k-1"), range(200)))
        assert {response["statusCode"] for response in responses} == {202}
        assert len({said(response)["id"] for response in responses}) == 1
        assert len(items(store)) == len(worker.events) == 1
        replays = [response["headers"].get("Idempotent-Replayed") for response in responses]
        assert sorted(replays, key=str) == [None] + ["true"] * 199


class TestGetOne:
    def test_a_finished_task_shows_what_is_public_and_nothing_else(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post(idempotency_key="k-1"))["id"]
        complete(store, task_id)
        task = read(task_id)
        assert list(task) == [
            "id",
            "description",
            "status",
            "vendors",
            "quotes",
            "emails_sent",
            "events",
            "created_at",
            "updated_at",
            "agent_response",
            "started_at",
            "completed_at",
        ]
        assert task["status"] == "completed"
        assert task["agent_response"] == "Done"
        assert task["vendors"] == [{"name": "A"}]
        assert task["quotes"] == [{"amount": 275.5}]
        assert task["emails_sent"] == 3
        assert [list(line) for line in task["events"]] == [["ts", "message", "type"]] * 4

    def test_a_new_task_has_its_lists_empty(self, worker: Worker):
        task = read(said(post())["id"])
        assert (task["vendors"], task["quotes"], task["emails_sent"]) == ([], [], 0)
        assert task["status"] == "pending"
        assert "agent_response" not in task
        assert "error_message" not in task

    def test_a_failed_task_says_why(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        store.end_task(
            store.claim_task(task_id, "t", 4e9), Outcome.of({}, "agent_failed", "No vendors")
        )
        assert read(task_id)["error_message"] == "No vendors"

    def test_a_task_whose_worker_never_came_is_shown_as_error(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        let_pass(store, task_id, 961)
        assert read(task_id)["status"] == "error"

    def test_a_megabyte_comes_back_whole(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        complete(store, task_id, agent_response="x" * 1_048_576)
        assert len(read(task_id)["agent_response"]) == 1_048_576

    def test_the_largest_answer_is_within_lambdas_response(self, store: TaskStore, worker: Worker):
        """With a full timeline of the dearest characters beside it."""
        task_id = said(post("é" * 4000))["id"]
        claim = store.claim_task(task_id, "t", 4e9)
        for _ in range(201):
            claim.timeline.add_progress(timestamp(0), "é" * 1000)
        store.end_task(claim, Outcome.of({"agent_response": "é" * 3_000_000}))
        task = read(task_id)
        assert task["agent_response_truncated"] is True
        assert len(task["agent_response"]) > 900_000

    @pytest.mark.parametrize("path", ["/tasks/{}", "/tasks/{}/", "/prod/tasks/{}"])
    def test_a_trailing_slash_or_a_stage_changes_nothing(self, worker: Worker, path: str):
        task_id = said(post())["id"]
        sent = event("http_api_v2_get_task")
        sent["rawPath"] = path.format(task_id)
        sent["requestContext"]["stage"] = "prod" if "prod" in path else "$default"
        assert said(checked(lambda_handler(sent, None)))["id"] == task_id

    @pytest.mark.parametrize(
        "task_id",
        ["7d5c7a0e-54f5-4a53-8a2f-6f2f7f0c9b11", "x", "a%23b", "a#0", "..", "ä", "x" * 300],
    )
    def test_what_is_not_there_is_404(self, worker: Worker, task_id: str):
        response = request("GET", f"/tasks/{task_id}")
        assert response["statusCode"] == 404
        assert said(response)["code"] == "task_not_found"

    def test_a_chunk_of_an_answer_is_404(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        complete(store, task_id, agent_response="x" * 400_000)
        assert request("GET", f"/tasks/{task_id}#0")["statusCode"] == 404

    def test_somebody_elses_task_is_404(self, worker: Worker):
        task_id = said(post(user="a"))["id"]
        assert request("GET", f"/tasks/{task_id}", user="b")["statusCode"] == 404
        assert request("GET", f"/tasks/{task_id}")["statusCode"] == 404
        assert read(task_id, user="a")["id"] == task_id

    def test_an_item_of_an_older_version_is_shown(self, store: TaskStore, worker: Worker):
        item = {
            "id": {"S": "old-1"},
            "status": {"S": "completed"},
            "description": {"S": "x"},
            "vendors": {"L": [{"M": {"price": {"N": "275.5"}, "count": {"N": "3"}}}]},
            "events": {"L": []},
            "created_at": {"S": "2025-10-31T12:00:00.123456"},
            "updated_at": {"S": "2025-10-31T12:00:00.123456"},
        }
        store.client.put_item(TableName=store.table_name, Item=item)
        assert read("old-1")["vendors"] == [{"price": 275.5, "count": 3}]

    @pytest.mark.parametrize(
        "code, may_have_acted",
        [("not_started", False), ("dispatch_failed", False), ("worker_lost", True), ("", True)],
    )
    def test_an_error_of_an_older_version_says_whether_the_agent_may_have_acted(
        self, store: TaskStore, worker: Worker, code: str, may_have_acted: bool
    ):
        item = {"id": {"S": "old-1"}, "status": {"S": "error"}, "created_at": {"S": "2025"}}
        item |= {"owner": {"S": PUBLIC_OWNER}} | ({"error_code": {"S": code}} if code else {})
        store.client.put_item(TableName=store.table_name, Item=item)
        for task in (read("old-1"), said(request("GET"))[0]):
            assert task["may_have_acted"] is may_have_acted
            assert {"started_at", "completed_at"}.isdisjoint(task)


class TestPolling:
    @pytest.mark.parametrize(
        "age,seconds",
        [(0, "1"), (9, "1"), (11, "2"), (59, "2"), (61, "5"), (299, "5"), (301, "10")],
    )
    def test_the_older_a_task_the_longer_one_waits(
        self, store: TaskStore, worker: Worker, age: Any, seconds: Any
    ):
        task_id = said(post())["id"]
        let_pass(store, task_id, age)
        assert request("GET", f"/tasks/{task_id}")["headers"]["Retry-After"] == seconds

    def test_a_final_task_is_not_polled(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        store.claim_task(task_id, "token", 4e9)
        assert "Retry-After" in request("GET", f"/tasks/{task_id}")["headers"]
        let_pass(store, task_id, 3e9)
        response = request("GET", f"/tasks/{task_id}")
        assert said(response)["status"] == "error"
        assert "Retry-After" not in response["headers"]

    @pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '{} , W/"x"', "*"])
    def test_a_client_that_has_it_gets_304_and_no_body(self, worker: Worker, form: Any):
        task_id = said(post())["id"]
        etag = request("GET", f"/tasks/{task_id}")["headers"]["ETag"]
        assert etag.startswith('"')
        assert etag.endswith('"')
        response = request("GET", f"/tasks/{task_id}", if_none_match=form.format(etag))
        assert response["statusCode"] == 304
        assert "body" not in response
        assert response["headers"]["ETag"] == etag
        assert response["headers"]["Retry-After"] == "1"

    @pytest.mark.parametrize("tags", ["", '"other"', "nonsense", ","])
    def test_a_client_that_has_something_else_gets_the_task(self, worker: Worker, tags: Any):
        task_id = said(post())["id"]
        assert request("GET", f"/tasks/{task_id}", if_none_match=tags)["statusCode"] == 200

    def test_every_change_changes_the_tag(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]

        def etag() -> str:
            return str(request("GET", f"/tasks/{task_id}")["headers"]["ETag"])

        tags = [etag()]
        claim = store.claim_task(task_id, "t", 4e9)
        tags.append(etag())
        claim.timeline.add_progress(claim.timeline.last_ts, "Found 3 vendors")
        store.record_progress(claim)
        tags.append(etag())
        store.end_task(claim, Outcome.of(STREAM))
        tags.append(etag())
        assert len(set(tags)) == 4
        assert etag() == tags[-1]

    def test_a_poller_with_a_tag_still_learns_that_the_task_was_given_up(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        let_pass(store, task_id, 959)
        etag = request("GET", f"/tasks/{task_id}")["headers"]["ETag"]
        let_pass(store, task_id, 2)
        response = request("GET", f"/tasks/{task_id}", if_none_match=etag)
        assert response["statusCode"] == 200
        assert said(response)["status"] == "error"

    def test_304_is_only_for_what_is_there(self, worker: Worker):
        assert request("GET", "/tasks/x", if_none_match="*")["statusCode"] == 404


class TestList:
    def follow(self, response: dict[str, Any], **options: Any) -> dict[str, Any] | None:
        """The next page, by the link of this one."""
        link = response["headers"].get("Link")
        if link is None:
            return None
        rest = link.removeprefix("<?")
        query, _, relation = rest.partition(">")
        assert relation == '; rel="next"'
        parameters = dict(part.split("=") for part in query.split("&"))
        return request("GET", "/tasks", query=parameters, **options)

    def walk(self, **options: Any) -> list[list[str]]:
        pages, response = [], request("GET", "/tasks", **options)
        options.pop("query", None)
        following: dict[str, Any] | None = response
        while following:
            assert following["statusCode"] == 200
            pages.append([task["id"] for task in said(following)])
            following = self.follow(following, **options)
        return pages

    def test_nothing_yet_is_a_bare_empty_array(self, store: TaskStore):
        response = request("GET")
        assert response["statusCode"] == 200
        assert response["body"] == "[]"
        assert "Link" not in response["headers"]

    def test_the_newest_comes_first_without_its_text(self, store: TaskStore, worker: Worker):
        ids = [said(post(f"Task {number}"))["id"] for number in range(3)]
        complete(store, ids[0])
        tasks = said(request("GET"))
        assert [task["id"] for task in tasks] == ids[::-1]
        assert tasks[2]["status"] == "completed"
        assert tasks[2]["vendors"] == [{"name": "A"}]
        assert "agent_response" not in tasks[2]
        assert set(tasks[2]) == {*PUBLIC_FIELDS, "started_at", "completed_at"}

    def test_links_lead_through_all_of_it_once(self, worker: Worker):
        ids = [said(post())["id"] for _ in range(5)]
        pages = self.walk(query={"limit": "2"})
        assert pages == [ids[4:2:-1], ids[2:0:-1], ids[:1]]

    def test_a_link_keeps_the_stage(self, worker: Worker):
        for _ in range(3):
            post()
        for name in ("http_api_v2_get_list", "rest_api_v1_get_list"):
            sent = event(name)
            if "v2" in name:
                sent["rawPath"] = "/prod/tasks"
                sent["requestContext"]["stage"] = "prod"
            response = checked(lambda_handler(sent, None))
            assert len(said(response)) == 2
            assert response["headers"]["Link"].startswith("<?limit=2&cursor=")

    def test_50_is_the_default_and_100_the_most(self, store: TaskStore, worker: Worker):
        for number in range(51):
            store.create_task(f"task-{number}", "x")
        assert [len(page) for page in self.walk()] == [50, 1]
        assert [len(page) for page in self.walk(query={"limit": "100"})] == [51]

    @pytest.mark.parametrize(
        "limit", ["0", "101", "-1", "1.5", "ten", "", " 5", "5,5", "1e2", "٣", "9" * 5000]
    )
    def test_a_malformed_limit_is_400(self, store: TaskStore, limit: str):
        response = request("GET", query={"limit": limit})
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_limit"

    @pytest.mark.parametrize("cursor", ["", "x", "é", "W10", "bnVsbA", "x" * 5000, "a,b"])
    def test_a_malformed_cursor_is_400(self, store: TaskStore, cursor: str):
        response = request("GET", query={"cursor": cursor})
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_cursor"

    @pytest.mark.e2e
    @pytest.mark.parametrize("character", ["é", "\x7f"])
    def test_a_page_that_would_be_too_large_ends_early_and_links_on(
        self, store: TaskStore, worker: Worker, character: str
    ):
        """Either takes six bytes in Lambda's response, which escapes what is not printable ASCII."""
        ids = [said(post())["id"] for _ in range(9)]
        for task_id in ids:
            complete(store, task_id, vendors=[character * 140_000])
        pages = self.walk()
        assert [task_id for page in pages for task_id in page] == ids[::-1]
        assert [len(page) for page in pages] == [6, 3]

    def test_everyone_sees_their_own(self, worker: Worker):
        mine = said(post(user="a"))["id"]
        post(user="b")
        post()
        assert self.walk(user="a") == [[mine]]
        assert self.walk(user="c") == [[]]

    def test_overdue_tasks_are_shown_as_ended(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        let_pass(store, task_id, 961)
        assert said(request("GET"))[0]["status"] == "error"


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


class TestListByStatus:
    """At most 300 tasks are looked at, and a link leads on from the last of them."""

    @pytest.fixture
    def client(self, monkeypatch: pytest.MonkeyPatch, store: TaskStore) -> Counting:
        client = Counting(store.client)
        monkeypatch.setattr(store, "client", client)
        return client

    @pytest.fixture
    def filled(
        self, client: Counting, store: TaskStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """62 tasks of which every seventh runs, and one of the oldest two has completed."""
        assert dynamodb_pages.MOST_KEYS_LOOKED_AT == 300
        monkeypatch.setattr(dynamodb_pages, "MOST_KEYS_LOOKED_AT", 30)
        monkeypatch.setattr(dynamodb_pages, "BATCH_GET_KEYS", 20)
        start = datetime.now(UTC).timestamp() - 700
        puts = []
        for number in range(62):
            running = number % 7 == 0
            status = "completed" if number == 1 else "processing" if running else "pending"
            moment = timestamp(start + number)
            item = {
                "id": {"S": f"task-{number:02}"},
                "owner": {"S": PUBLIC_OWNER},
                "description": {"S": "x"},
                "status": {"S": status},
                "created_at": {"S": moment},
                "deadline": {"S": timestamp(start + 3_600)},
            }
            puts.append({"PutRequest": {"Item": item}})
        for at in range(0, len(puts), 25):
            client.batch_write_item(RequestItems={store.table_name: puts[at : at + 25]})
        client.keys = []

    def walk(self, **query: str) -> list[list[str]]:
        pages, following = [], query
        while following:
            response = request("GET", query=following)
            assert response["statusCode"] == 200
            pages.append([task["id"] for task in said(response)])
            following = next_of(response)
            assert not following or following["status"] == query["status"]
        return pages

    def test_matches_come_newest_first_once_each_page_after_page(self, filled: None):
        pages = self.walk(status="processing", limit="2")
        found = [task_id for page in pages for task_id in page]
        assert found == [f"task-{n:02}" for n in range(56, -1, -7)]
        assert [len(page) for page in pages] == [2, 2, 2, 2, 1]

    def test_a_rare_one_is_found_after_empty_pages_whose_links_lead_on(
        self, filled: None, client: Counting
    ):
        pages = self.walk(status="completed", limit="10")
        assert pages == [[], [], ["task-01"]]
        # Of each page the states of 30 at most, then the matches whole.
        assert client.keys == [20, 10, 20, 10, 2, 1]

    def test_several_statuses_are_looked_for_at_once(self, filled: None):
        pages = self.walk(status="completed,processing", limit="100")
        assert sorted(task_id for page in pages for task_id in page) == sorted(
            {f"task-{n:02}" for n in range(0, 62, 7)} | {"task-01"}
        )

    def test_a_task_that_is_over_is_judged_as_it_will_be_shown(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        let_pass(store, task_id, 961)
        assert self.walk(status="pending") == [[]]
        assert self.walk(status="error") == [[task_id]]

    def test_a_table_without_the_index_gives_the_same_pages(
        self, filled: None, client: Counting, monkeypatch: pytest.MonkeyPatch
    ):
        want = self.walk(status="processing", limit="2")
        client.has_index = False
        assert self.walk(status="processing", limit="2") == want

    @pytest.mark.parametrize("status", ["", "done", "pending,", "deleted", "Pending", "a" * 5_000])
    def test_a_status_that_there_is_not_is_400(self, store: TaskStore, status: str):
        response = request("GET", query={"status": status})
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_status"

    @pytest.mark.parametrize("name", ["limt", "Limit", "offset", "x" * 5_000])
    def test_a_parameter_that_there_is_not_is_400(self, store: TaskStore, name: str):
        response = request("GET", query={name: "5"})
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_query"


class TestDamagedItems:
    """What an older version or a hand at the table has left there costs nobody else anything."""

    GOOD: ClassVar[dict[str, Any]] = {
        "owner": {"S": PUBLIC_OWNER},
        "description": {"S": DESCRIPTION},
        "deadline": {"S": "2025-01-01T00:16:00.000000Z"},
        "created_at": {"S": "2025-01-01T00:00:00.000000Z"},
        "updated_at": {"S": "2025-01-01T00:00:00.000000Z"},
        "event_seq": {"N": "0"},
        "events": {"L": []},
        "emails_sent": {"N": "0"},
        "vendors": {"S": "[]"},
        "quotes": {"S": "[]"},
        "claim": {"S": "c"},
    }
    ODD: ClassVar[dict[str, Any]] = {
        "number": {"N": "7"},
        "text": {"S": "]x["},
        "bytes": {"B": b"\x00\xff"},
        "list": {"L": [{"N": "1"}]},
        "null": {"NULL": True},
    }
    NAMES = (
        "description status deadline updated_at event_seq events emails_sent vendors quotes claim "
        "cancel_requested_at last_report report_until report_ids fingerprint lists_crc expires_at"
    ).split()

    @pytest.fixture
    def damaged(self, store: TaskStore, worker: Worker, dynamodb: Any) -> list[str]:
        """An item for each attribute that could be missing or anything, and the ids of all."""
        made: dict[str, Any] = {}
        for status, names in (
            ("processing", self.NAMES),
            ("completed", ["status", "events", "vendors"]),
        ):
            good = self.GOOD | {"status": {"S": status}}
            for name in names:
                odd = {f"{status}-{name}-{kind}": {name: value} for kind, value in self.ODD.items()}
                made |= {task_id: good | change for task_id, change in odd.items()}
                without = {key: value for key, value in good.items() if key != name}
                made[f"{status}-{name}-missing"] = without
        puts = [
            {"PutRequest": {"Item": item | {"id": {"S": task_id}}}}
            for task_id, item in made.items()
        ]
        for at in range(0, len(puts), 25):
            dynamodb.batch_write_item(RequestItems={store.table_name: puts[at : at + 25]})
        return [*made, said(post())["id"]]

    def unknown(self, damaged: list[str]) -> set[str]:
        """Those with a status that there is not: the one thing that a list leaves out."""
        return {name for name in damaged if name.endswith(("-status-text", "-status-bytes"))}

    @pytest.mark.e2e
    def test_lists_show_them_all_as_json_that_a_browser_reads(self, damaged: list[str]):
        shown, query = [], {"limit": "100"}
        while query:
            response = request("GET", query=query)
            assert response["statusCode"] == 200
            shown += json.loads(response["body"], parse_constant=no_constant)
            query = next_of(response)
        ids = [task["id"] for task in shown]
        assert len(ids) == len(set(ids))
        assert set(ids) == set(damaged) - self.unknown(damaged)

    @pytest.mark.e2e
    def test_lists_by_status_show_them_as_they_are_by_their_ids(self, damaged: list[str]):
        listed: dict[str, str] = {}
        for status in ("completed,error", "pending", "processing"):
            query = {"limit": "100", "status": status}
            while query:
                response = request("GET", query=query)
                assert response["statusCode"] == 200
                listed |= {task["id"]: task["status"] for task in json.loads(response["body"])}
                query = next_of(response)
        unknown = self.unknown(damaged)
        for task_id in damaged[:-1]:
            response = request("GET", f"/tasks/{task_id}")
            assert response["statusCode"] == 200, task_id
            task = json.loads(response["body"], parse_constant=no_constant)
            assert listed.get(task_id) == (None if task_id in unknown else task["status"])
            assert task_id in unknown or task["status"] in ("completed", "error")

    @pytest.mark.parametrize("vendors", ["[NaN]", "[1e999]", "[Infinity]", "[", "{}", "", "7"])
    def test_vendors_that_are_no_list_of_json_are_none(
        self, store: TaskStore, dynamodb: Any, vendors: str
    ):
        item = self.GOOD | {"id": {"S": "old"}, "status": {"S": "completed"}}
        dynamodb.put_item(TableName=store.table_name, Item=item | {"vendors": {"S": vendors}})
        (listed,) = json.loads(request("GET")["body"], parse_constant=no_constant)
        assert listed["vendors"] == read("old")["vendors"] == []

    @pytest.mark.parametrize("lives", [True, False])
    @pytest.mark.parametrize("kind", [*ODD, "missing"])
    def test_what_is_said_of_a_waiting_one_is_what_was_done(
        self, store: TaskStore, allowed: None, dynamodb: Any, lives: bool, kind: str
    ):
        now = datetime.now(UTC).timestamp()
        good = self.GOOD | {"status": {"S": "pending"}}
        good["created_at"] = good["updated_at"] = {"S": timestamp(now)}
        good["deadline"] = {"S": timestamp(now + (60 if lives else -60))}
        table = store.table_name
        for name in "chunks updated_at created_at report_hash status".split():
            odd = {key: value for key, value in good.items() if key != name}
            odd |= {name: self.ODD[kind]} if kind in self.ODD else {}
            if name == "created_at" and kind not in ("text", "missing"):
                continue  # DynamoDB refuses it, for the index
            for ask in (cancel, delete, lambda one: request("GET", f"/tasks/{one}"), report_on):
                dynamodb.put_item(TableName=table, Item=odd | {"id": {"S": "odd"}})
                status = ask("odd")["statusCode"]
                assert status < 500, (name, ask)
                if ask is delete and status == 204:
                    assert request("GET", "/tasks/odd")["statusCode"] == 404

    def test_one_that_no_write_can_end_is_not_said_to_be_deleted(
        self, store: TaskStore, allowed: None, dynamodb: Any
    ):
        item = self.GOOD | {"id": {"S": "odd"}, "status": {"S": "pending"}, "events": {"N": "7"}}
        dynamodb.put_item(TableName=store.table_name, Item=item)
        assert code_of(delete("odd")) == (409, "task_not_final")
        assert read("odd")["status"] == "error"


def report_on(task_id: str) -> dict[str, Any]:
    body = json.dumps({"report_id": "one"})
    return request("POST", f"/tasks/{task_id}/reports", body, authorization="Bearer no")


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> None:
    """Cancel and delete for everybody, as an operator may say."""
    monkeypatch.setenv("PUBLIC_CANCEL_AND_DELETE", "true")


def code_of(response: dict[str, Any]) -> tuple[int, str]:
    return response["statusCode"], said(response)["code"]


def cancel(task_id: str, **options: Any) -> dict[str, Any]:
    return request("POST", f"/tasks/{task_id}/cancel", **options)


def delete(task_id: str, **options: Any) -> dict[str, Any]:
    return request("DELETE", f"/tasks/{task_id}", **options)


def claim(store: TaskStore, task_id: str, token: str = "") -> Claim:
    """A worker takes the task; ``token`` lets its agent report."""
    end = datetime.now(UTC).timestamp() + 600
    digest = hashlib.sha256(token.encode()).hexdigest() if token else ""
    return store.claim_task(task_id, "claim", end, report_hash=digest)


@pytest.mark.usefixtures("allowed")
class TestCancel:
    def test_a_pending_task_is_200_ended_and_no_worker_is_told(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        response = cancel(task_id)
        assert response["statusCode"] == 200
        task = said(response)
        assert task == read(task_id)
        assert (task["status"], task["error_code"]) == ("error", "cancelled")
        assert "Retry-After" not in response["headers"]
        assert [set(event) for event in worker.events] == [{"task_id", "description", "created_at"}]
        with pytest.raises(TaskNotClaimable):
            claim(store, task_id)

    def test_a_running_task_is_202_and_its_worker_is_told_to_stop(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        claim(store, task_id)
        before = request("GET", f"/tasks/{task_id}")
        response = cancel(task_id)
        assert response["statusCode"] == 202
        assert said(response) == read(task_id)
        assert said(response)["status"] == "processing"
        assert "cancel_requested_at" in said(response)
        assert response["headers"]["Retry-After"] == "1"
        assert worker.events[1:] == [{"stop": task_id}]
        # Nothing else has changed, but a poller with the old tag has to see it.
        tag = before["headers"]["ETag"]
        after = request("GET", f"/tasks/{task_id}", if_none_match=tag)
        assert after["statusCode"] == 200
        assert after["headers"]["ETag"] == response["headers"]["ETag"] != tag

    def test_again_is_202_again_and_tells_the_worker_again(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        claim(store, task_id)
        assert said(cancel(task_id)) == said(cancel(task_id))
        assert worker.events[1:] == [{"stop": task_id}] * 2

    def test_a_stop_that_cannot_be_sent_is_202_still(
        self, store: TaskStore, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        task_id = said(post())["id"]
        claim(store, task_id)
        worker.failure = error_of("TooManyRequestsException")
        assert cancel(task_id)["statusCode"] == 202
        assert "stop not sent" in [line["message"] for line in log_lines(capsys)]

    def test_a_cancelled_task_is_200_again(self, worker: Worker):
        task_id = said(post())["id"]
        assert said(cancel(task_id)) == said(cancel(task_id))

    def test_a_task_that_has_ended_otherwise_is_409(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        complete(store, task_id)
        assert code_of(cancel(task_id)) == (409, "task_ended")
        assert read(task_id)["status"] == "completed"

    def test_what_is_not_there_or_somebody_elses_is_404(self, worker: Worker):
        task_id = said(post(user="a"))["id"]
        for response in (cancel(task_id), cancel(task_id, user="b"), cancel("x"), cancel("x~")):
            assert code_of(response) == (404, "task_not_found")
        assert cancel(task_id, user="a")["statusCode"] == 200


@pytest.mark.usefixtures("allowed")
class TestDelete:
    def test_a_task_that_has_ended_is_204_and_gone(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        complete(store, task_id, agent_response="x" * 500_000)
        response = delete(task_id)
        assert response["statusCode"] == 204
        assert "body" not in response
        assert items(store) == [{"id": {"S": task_id}, "status": {"S": "deleted"}}]
        for after in (request("GET", f"/tasks/{task_id}"), cancel(task_id), delete(task_id)):
            assert code_of(after) == (404, "task_not_found")
        assert said(request("GET")) == []

    def test_a_task_that_has_not_ended_is_409(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        assert code_of(delete(task_id)) == (409, "task_not_final")
        claim(store, task_id)
        assert code_of(delete(task_id)) == (409, "task_not_final")

    def test_its_key_is_410_whatever_the_body_and_starts_nothing(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post(idempotency_key="k"))["id"]
        complete(store, task_id)
        delete(task_id)
        for description in (DESCRIPTION, "Something else"):
            assert code_of(post(description, idempotency_key="k")) == (410, "task_deleted")
        assert len(worker.events) == 1
        assert items(store) == [{"id": {"S": task_id}, "status": {"S": "deleted"}}]

    def test_somebody_elses_is_404(self, worker: Worker):
        task_id = said(post(user="a"))["id"]
        cancel(task_id, user="a")
        for response in (delete(task_id), delete(task_id, user="b")):
            assert code_of(response) == (404, "task_not_found")
        assert delete(task_id, user="a")["statusCode"] == 204


class TestWhoMayCancelAndDelete:
    """Where nobody signs in, everybody is the same, and could wipe everybody's tasks."""

    @pytest.mark.parametrize("said_by_operator", ["", "false", "1", "yes"])
    def test_without_an_authorizer_it_is_403_unless_the_operator_says_so(
        self, worker: Worker, monkeypatch: pytest.MonkeyPatch, said_by_operator: str
    ):
        monkeypatch.setenv("PUBLIC_CANCEL_AND_DELETE", said_by_operator)
        task_id = said(post())["id"]
        assert code_of(cancel(task_id)) == (403, "not_allowed")
        assert code_of(delete(task_id)) == (403, "not_allowed")
        assert read(task_id)["status"] == "pending"

    def test_who_signs_in_may(self, worker: Worker, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("PUBLIC_CANCEL_AND_DELETE", raising=False)
        task_id = said(post(user="a"))["id"]
        assert cancel(task_id, user="a")["statusCode"] == 200
        assert delete(task_id, user="a")["statusCode"] == 204


TOKEN = "0123456789abcdef0123456789abcdef"


def report(task_id: str, token: str = TOKEN, **fields: Any) -> dict[str, Any]:
    body = json.dumps({"report_id": "r-1"} | fields)
    path = f"/tasks/{task_id}/reports"
    return request("POST", path, body, authorization=f"Bearer {token}")


class TestReports:
    @pytest.fixture
    def task_id(self, store: TaskStore, worker: Worker) -> str:
        """A task whose agent has said that it works on and reports."""
        task_id: str = said(post())["id"]
        store.accept_task(claim(store, task_id, TOKEN))
        return task_id

    def test_what_it_says_is_in_the_timeline_and_it_may_go_on(self, task_id: str):
        response = report(task_id, messages=["Found two ", " ", "E-mailed Ann"])
        assert response["statusCode"] == 200
        assert said(response) == {"status": "processing", "continue": True}
        last = [one["message"] for one in read(task_id)["events"][-2:]]
        assert last == ["Found two", "E-mailed Ann"]

    def test_the_same_again_is_200_and_stands_once(self, task_id: str):
        before = len(read(task_id)["events"])
        for _ in range(2):
            assert report(task_id, messages=["once"])["statusCode"] == 200
        assert len(read(task_id)["events"]) == before + 1

    def test_an_answer_completes_the_task_and_is_logged_once(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        vendors = [{"name": "Ann", "email": "ann@x"}]
        answer = {"response": "Done.", "vendors": vendors, "emails": [{"recipient": "ann@x"}]}
        for _ in range(2):
            response = report(task_id, answer=answer)
            assert said(response) == {"status": "completed", "continue": False}
        task = read(task_id)
        assert task["agent_response"] == "Done."
        assert task["vendors"] == [vendors[0] | {"emails": [{"recipient": "ann@x"}]}]
        assert task["emails_sent"] == 1
        (line,) = [one for one in log_lines(capsys) if one.get("outcome") == "completed"]
        assert line["task_id"] == task_id
        assert 0 <= line["duration_ms"] < 60_000

    def test_an_email_to_no_vendor_is_in_the_log(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        """The task does not show it, and nobody else has it."""
        emails = [{"recipient": "bob@x", "body": f"Hello. {TOKEN}"}]
        report(task_id, answer={"response": "Done.", "emails": emails})
        (line,) = [one for one in log_lines(capsys) if "nobody among the vendors" in one["message"]]
        assert line["task_id"] == task_id
        assert json.loads(line["text"]) == [{"recipient": "bob@x", "body": "Hello. [token]"}]

    def test_a_report_of_a_megabyte_is_logged_in_few_lines(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        report(task_id, answer={"response": "Done.", "emails": [0] * 400_000})
        assert len(log_lines(capsys)) < 100

    def test_a_text_is_an_answer_too(self, task_id: str):
        assert said(report(task_id, answer="I e-mailed Ann."))["status"] == "completed"
        assert read(task_id)["agent_response"] == "I e-mailed Ann."

    @pytest.mark.parametrize(
        "fields, message, response",
        [
            ({"error": "No painter."}, "No painter.", ""),
            ({"error": "No painter.", "answer": {"response": "Half."}}, "No painter.", "Half."),
            ({"error": "No painter.", "answer": "Half."}, "No painter.", "Half."),
            ({"error": ""}, "The agent reported a failure.", ""),
            ({"answer": {"error": "No painter."}}, "No painter.", ""),
            ({"answer": ""}, "The agent ended without an answer.", ""),
            ({"answer": {}}, "The agent ended without an answer.", ""),
        ],
    )
    def test_a_failure_ends_the_task_in_the_agents_words(
        self, task_id: str, fields: dict[str, Any], message: str, response: str
    ):
        assert said(report(task_id, **fields)) == {"status": "error", "continue": False}
        task = read(task_id)
        assert message in task["error_message"]
        assert task["error_code"] == "agent_failed"
        assert task.get("agent_response", "") == response

    def test_after_the_end_it_is_told_to_stop_and_its_answer_is_in_the_log(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        report(task_id, answer="First.")
        response = report(task_id, report_id="r-2", answer="Second.", error="No.", messages=["Hm"])
        assert said(response) == {"status": "completed", "continue": False}
        assert read(task_id)["agent_response"] == "First."
        (late,) = [one for one in log_lines(capsys) if one["message"] == "answer came too late"]
        fields = {"report_id": "r-2", "answer": "Second.", "error": "No.", "messages": ["Hm"]}
        assert json.loads(late["text"]) == fields

    def test_of_a_cancelled_task_it_is_told_to_stop(self, task_id: str, allowed: None):
        cancel(task_id)
        assert said(report(task_id)) == {"status": "processing", "continue": False}
        response = report(task_id, report_id="end", answer="As far as I came.")
        assert said(response) == {"status": "error", "continue": False}
        task = read(task_id)
        assert (task["error_code"], task["agent_response"]) == ("cancelled", "As far as I came.")

    def test_of_a_deleted_task_it_is_401(self, task_id: str, allowed: None):
        report(task_id, answer="Done.")
        delete(task_id)
        assert code_of(report(task_id)) == (401, "invalid_token")

    def test_an_answer_that_breaks_its_reader_is_400_and_in_the_log(
        self, task_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ):
        def breaks(_: Any) -> None:
            raise TypeError("'NoneType' object is not iterable")

        monkeypatch.setattr(answers, "read_answer", breaks)
        assert code_of(report(task_id, answer="Ann: $250")) == (400, "invalid_report")
        (line,) = log_lines(capsys)
        assert "Ann: $250" in line["text"]
        assert "TypeError" in line["stack"]
        assert read(task_id)["status"] == "processing"

    def test_before_the_worker_took_note_it_is_409_and_to_come_again(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post())["id"]
        held = claim(store, task_id, TOKEN)
        response = report(task_id, messages=["too soon"], answer="Done.")
        assert code_of(response) == (409, "not_accepted")
        assert response["headers"]["Retry-After"] == "1"
        store.accept_task(held)
        assert said(report(task_id, messages=["now"]))["continue"]
        assert [one["message"] for one in read(task_id)["events"]].count("too soon") == 0

    def test_too_many_at_once_are_503(self, task_id: str, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(dynamodb_helpers, "REPORT_ATTEMPTS", 0)
        assert code_of(report(task_id)) == (503, "busy")

    @pytest.mark.parametrize(
        "authorization",
        [None, "", TOKEN, "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer x{TOKEN}", "Bearer \xff"],
    )
    def test_a_wrong_token_is_401_before_anything_else_is_judged(
        self, store: TaskStore, task_id: str, authorization: str | None
    ):
        before = items(store)
        headers: Any = {} if authorization is None else {"authorization": authorization}
        for body in ('{"report_id": "r"}', "{", None):
            response = request("POST", f"/tasks/{task_id}/reports", body, **headers)
            assert code_of(response) == (401, "invalid_token")
            assert response["headers"]["WWW-Authenticate"] == "Bearer"
        assert items(store) == before

    def test_a_final_report_that_nobody_understands_is_in_the_log(
        self, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        report(task_id, answer="{'a': <x.Y object at 0x7f>, 'v': 'Ann: $250'}")
        assert read(task_id)["error_code"] == "agent_failed"
        assert "Ann: $250" in capsys.readouterr().err

    def test_a_task_that_nobody_may_report_on_is_401(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        assert code_of(report(task_id)) == (401, "invalid_token")
        assert code_of(report(task_id, token="")) == (401, "invalid_token")
        claim(store, task_id)
        assert code_of(report(task_id)) == (401, "invalid_token")

    def test_another_tasks_token_is_401(self, store: TaskStore, worker: Worker, task_id: str):
        other = said(post())["id"]
        store.accept_task(claim(store, other, "f" * 32))
        assert code_of(report(other)) == (401, "invalid_token")
        assert report(other, token="f" * 32)["statusCode"] == 200

    def test_the_scheme_is_read_in_any_case_and_no_user_is_needed(self, task_id: str):
        body = '{"report_id": "r"}'
        path = f"/tasks/{task_id}/reports"
        response = request("POST", path, body, user="somebody", authorization=f"bEARER  {TOKEN} ")
        assert response["statusCode"] == 200

    @pytest.mark.parametrize("task_id", ["x", "x~", "x#0"])
    def test_what_is_not_there_is_401_like_a_wrong_token(self, worker: Worker, task_id: str):
        """Else whoever has no token could find out which tasks there are."""
        known = said(post())["id"]
        assert report(task_id) == report(known)
        assert code_of(report(task_id)) == (401, "invalid_token")

    @pytest.mark.parametrize(
        "body",
        [
            "{",
            "[]",
            "7",
            "{}",
            '{"report_id": ""}',
            '{"report_id": 7}',
            '{"report_id": "a b"}',
            '{"report_id": "é"}',
            json.dumps({"report_id": "x" * 101}),
            '{"report_id": "r", "messages": "one"}',
            '{"report_id": "r", "messages": [1]}',
            '{"report_id": "r", "messages": null}',
            '{"report_id": "r", "answer": []}',
            '{"report_id": "r", "answer": 7}',
            '{"report_id": "r", "error": {}}',
            "[" * 2_000,
            "\ud800",
        ],
    )
    def test_one_that_cannot_be_used_is_400_and_the_task_lives_on(
        self, store: TaskStore, task_id: str, body: str
    ):
        before = items(store)
        headers: Any = {"authorization": f"Bearer {TOKEN}"}
        response = request("POST", f"/tasks/{task_id}/reports", body, **headers)
        assert response["statusCode"] == 400
        assert items(store) == before

    @pytest.mark.e2e
    def test_over_4_mib_it_is_413_and_at_4_mib_it_is_cut_and_kept(self, task_id: str):
        frame = len(json.dumps({"report_id": "r-1", "answer": ""}))
        longest = "x" * (4 * 1024 * 1024 - frame)
        assert code_of(report(task_id, answer=f"{longest}x")) == (413, "body_too_large")
        assert said(report(task_id, answer=longest))["status"] == "completed"
        assert read(task_id)["agent_response_truncated"] is True

    def test_a_body_in_base64_is_understood(self, task_id: str):
        body = base64.b64encode(b'{"report_id": "r", "answer": "Done."}').decode()
        headers: Any = {"authorization": f"Bearer {TOKEN}"}
        path = f"/tasks/{task_id}/reports"
        assert said(request("POST", path, body, is_base64=True, **headers))["status"] == "completed"

    def test_what_no_browser_can_read_in_an_answer_becomes_something_that_it_can(
        self, task_id: str
    ):
        report(task_id, answer={"vendors": [{"price": float("nan"), "name": "\ud800"}]})
        assert read(task_id)["vendors"] == [{"price": None, "name": "\ufffd", "emails": []}]

    def test_its_token_is_nowhere_to_be_seen(
        self, store: TaskStore, task_id: str, capsys: pytest.CaptureFixture[str]
    ):
        report(task_id, messages=[f"my token is {TOKEN}"])
        for number in range(2):
            answer = {"response": f"{TOKEN}!", "vendors": [{TOKEN: [TOKEN]}], "quotes": [TOKEN]}
            report(task_id, report_id=f"e-{number}", answer=answer)
        assert TOKEN not in str(items(store))
        assert TOKEN not in capsys.readouterr().err
        assert "my token is [token]" in [one["message"] for one in read(task_id)["events"]]

    def test_who_ends_a_silent_one_has_its_session_stopped(
        self, store: TaskStore, worker: Worker, task_id: str
    ):
        let_pass(store, task_id, 601)
        assert read(task_id)["error_code"] == "agent_lost"
        read(task_id)
        assert worker.events[1:] == [{"stop": task_id}]


class TestOwner:
    @pytest.mark.parametrize(
        "name",
        [
            "http_api_v2_lambda_authorizer",
            "http_api_v2_iam_authorizer",
            "rest_api_v1_custom_authorizer",
        ],
    )
    def test_an_authorizer_that_names_no_user_is_403(self, store: TaskStore, name: str):
        response = checked(lambda_handler(event(name), None))
        assert response["statusCode"] == 403
        assert said(response)["code"] == "no_subject"

    @pytest.mark.parametrize(
        "authorizer",
        [
            {"jwt": {"claims": {}}},
            {"jwt": {"claims": {"sub": ""}}},
            {"jwt": {"claims": {"sub": None}}},
            {"jwt": {"claims": {"sub": 7}}},
            {"jwt": {"claims": {"sub": "x" * 256}}},
            {"jwt": {"claims": {"sub": "\ud800"}}},
            {"jwt": {"claims": None}},
            {"jwt": None},
            {"jwt": "x"},
            {"claims": {}},
            {"claims": {"email": "a@example.com"}},
            {"claims": "sub"},
            {"lambda": {}},
            {"principalId": "a"},
            "somebody",
            ["a"],
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_strange_authorizer_never_opens_what_is_public(
        self, store: TaskStore, worker: Worker, authorizer: Any, method: str
    ):
        sent = event("http_api_v2_post")
        sent["requestContext"]["http"]["method"] = method
        sent["requestContext"]["authorizer"] = authorizer
        assert checked(lambda_handler(sent, None))["statusCode"] == 403
        assert items(store) == []

    @pytest.mark.parametrize("authorizer", [None, {}, {"claims": None, "scopes": None}])
    def test_a_caller_whom_only_iam_knows_is_403(self, store: TaskStore, authorizer: Any):
        sent = event("rest_api_v1_get_list")
        sent["requestContext"]["authorizer"] = authorizer
        sent["requestContext"]["identity"]["userArn"] = "arn:aws:iam::123456789012:user/ann"
        assert code_of(checked(lambda_handler(sent, None))) == (403, "no_subject")

    @pytest.mark.parametrize("authorizer", [None, {}, {"claims": None, "scopes": None}])
    def test_no_authorizer_is_the_public(self, store: TaskStore, worker: Worker, authorizer: Any):
        sent = event("http_api_v2_post")
        sent["requestContext"]["authorizer"] = authorizer
        assert checked(lambda_handler(sent, None))["statusCode"] == 202
        assert items(store)[0]["owner"]["S"] == PUBLIC_OWNER

    def test_a_user_called_public_is_not_the_public(self, store: TaskStore, worker: Worker):
        post(user="public")
        assert items(store)[0]["owner"]["S"] == "jwt#public"

    def test_the_user_is_named_to_nobody(self, worker: Worker):
        response = post(user="user-1")
        task = read(said(response)["id"], user="user-1")
        assert "user-1" not in json.dumps([response, task])


class TestRoutes:
    @pytest.mark.parametrize(
        "method,path,allowed",
        [
            ("DELETE", "/tasks", "GET, POST, OPTIONS"),
            ("PUT", "/tasks/", "GET, POST, OPTIONS"),
            ("HEAD", "/tasks", "GET, POST, OPTIONS"),
            ("POST", "/tasks/x", "GET, DELETE, OPTIONS"),
            ("PUT", "/tasks/x", "GET, DELETE, OPTIONS"),
            ("GET", "/tasks/x/cancel", "POST, OPTIONS"),
            ("", "/tasks", "GET, POST, OPTIONS"),
        ],
    )
    def test_another_method_is_405_and_says_which_are_allowed(
        self, method: str, path: str, allowed: Any
    ):
        response = checked(lambda_handler({"httpMethod": method, "path": path}, None))
        assert response["statusCode"] == 405
        assert response["headers"]["Allow"] == allowed
        assert said(response)["code"] == "method_not_allowed"

    @pytest.mark.parametrize(
        "path", ["", "/", "//", "/task", "/Tasks", "tasks", "/tasks/a/b", "/x/tasks", "//tasks"]
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    def test_another_path_is_404(self, method: str, path: str):
        response = checked(lambda_handler({"httpMethod": method, "path": path}, None))
        assert response["statusCode"] == 404
        assert said(response)["code"] == "not_found"

    @pytest.mark.parametrize(
        "path", ["/tasks", "/tasks/", "/tasks/x", "/tasks/x/cancel", "/tasks/x/reports"]
    )
    def test_a_preflight_allows_what_the_api_takes(self, path: str):
        response = request("OPTIONS", path)
        assert response["statusCode"] == 204
        assert "body" not in response
        headers = response["headers"]
        assert headers["Access-Control-Allow-Methods"] == "GET,POST,DELETE,OPTIONS"
        # To a browser, * is every header but authorization, and to an old one none.
        allowed = headers["Access-Control-Allow-Headers"].split(",")
        assert set(allowed) > {"*", "authorization", "content-type", "traceparent", "baggage"}

    def test_a_preflight_as_a_gateway_sends_it_needs_no_token(self):
        assert checked(lambda_handler(event("http_api_v2_options"), None))["statusCode"] == 204

    @pytest.mark.parametrize(
        "sent",
        [
            None,
            [],
            "GET /tasks",
            7,
            {},
            {"httpMethod": "GET"},
            {"path": "/tasks"},
            {"httpMethod": None, "path": "/tasks"},
            {"httpMethod": "GET", "path": ["tasks"]},
            {"task_id": "test-123", "description": "Find me a painter"},
            {"Records": []},
        ],
    )
    def test_an_event_that_is_no_request_is_400(self, sent: Any):
        response = checked(lambda_handler(sent, None))
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_event"

    def test_the_bare_event_lists(self, store: TaskStore, worker: Worker):
        task_id = said(lambda_handler(event("bare_post"), None))["id"]
        response = checked(lambda_handler(event("bare_get"), None))
        assert [task["id"] for task in said(response)] == [task_id]

    def test_a_stage_called_tasks_is_told_from_the_path(self, store: TaskStore, worker: Worker):
        sent = event("http_api_v2_post")
        sent["rawPath"] = "/tasks/tasks"
        sent["requestContext"]["stage"] = "tasks"
        response = checked(lambda_handler(sent, None))
        assert response["statusCode"] == 202
        assert response["headers"]["Location"].startswith("tasks/")
        task_id = said(response)["id"]
        rest = event("rest_api_v1_get_list") | {"path": f"/tasks/{task_id}"}
        rest["requestContext"] |= {"stage": "tasks", "path": f"/tasks/tasks/{task_id}"}
        assert said(checked(lambda_handler(rest, None)))["id"] == task_id

    def test_headers_of_any_case_are_understood(self, worker: Worker):
        for name in ("Idempotency-Key", "IDEMPOTENCY-KEY", "idempotency-key"):
            lambda_handler(event("bare_post") | {"headers": {name: "k-1"}}, None)
        lambda_handler(
            event("bare_post") | {"multiValueHeaders": {"Idempotency-Key": ["k-1"]}}, None
        )
        assert len({sent["task_id"] for sent in worker.events}) == 1

    @pytest.mark.parametrize("name", ["multiValueHeaders", "multiValueQueryStringParameters"])
    @pytest.mark.parametrize("value", [7, "x", ["x"], {"limit": 7}, {"limit": []}, {"limit": None}])
    def test_lists_of_values_that_are_none_are_not_there(
        self, store: TaskStore, name: str, value: Any
    ):
        response = checked(lambda_handler(event("bare_get") | {name: value}, None))
        assert response["statusCode"] == 200

    def test_headers_and_parameters_without_a_value_are_not_there(self, worker: Worker):
        for empty in (None, {}, {"Idempotency-Key": None}):
            lambda_handler(event("bare_post") | {"headers": empty}, None)
        assert len({sent["task_id"] for sent in worker.events}) == 3
        listing = event("bare_get") | {"queryStringParameters": {"limit": None, "cursor": None}}
        assert len(said(lambda_handler(listing, None))) == 3


class TestMappings:
    """A custom domain's mapping stands before the path; the route says how much is ours."""

    @pytest.mark.parametrize("before", ["", "/v1", "/prod/v1", "/tasks", "/tasks/tasks"])
    @pytest.mark.parametrize("version", ["2.0", "1.0"])
    @pytest.mark.parametrize("catch_all", ["", "$default", "ANY /{proxy+}"])
    def test_whatever_stands_before_it_every_route_is_found(
        self, store: TaskStore, worker: Worker, before: str, version: str, catch_all: str
    ):
        task_id = said(post(user="a"))["id"]

        def ask(method: str, route: str, path: str, body: str | None = None) -> dict[str, Any]:
            claims = {"claims": {"sub": "a"}}
            sent: dict[str, Any] = {"headers": {"authorization": "Bearer x"}, "body": body}
            if version == "2.0":
                context = {"http": {"method": method}, "stage": "$default"}
                sent |= {"rawPath": f"{before}{path}", "routeKey": catch_all or f"{method} {route}"}
                context["authorizer"] = {"jwt": claims}
            else:
                context = {"stage": "prod", "authorizer": claims}
                resource = catch_all.removeprefix("ANY ") or route
                sent |= {"path": f"{before}{path}", "resource": resource, "httpMethod": method}
            return lambda_handler(sent | {"requestContext": context}, Context())

        made = ask("POST", "/tasks", "/tasks", json.dumps({"description": "x"}))
        assert made["statusCode"] == 202
        assert made["headers"]["Location"] == f"tasks/{said(made)['id']}"
        assert ask("POST", "/tasks", "/tasks/", '{"description": "x"}')["statusCode"] == 202
        assert len(said(ask("GET", "/tasks", "/tasks"))) == 3
        assert said(ask("GET", "/tasks/{id}", f"/tasks/{task_id}"))["id"] == task_id
        reports = ask("POST", "/tasks/{id}/reports", f"/tasks/{task_id}/reports", "{}")
        assert code_of(reports) == (401, "invalid_token")
        cancelled = ask("POST", "/tasks/{id}/cancel", f"/tasks/{task_id}/cancel")
        assert cancelled["statusCode"] == 200
        assert ask("DELETE", "/tasks/{id}", f"/tasks/{task_id}/")["statusCode"] == 204


class TestOrigins:
    @pytest.mark.parametrize(
        "origins, origin, allowed",
        [
            ("", "https://a.example", "*"),
            ("*", "", "*"),
            ("https://a.example,https://b.example", "https://b.example", "https://b.example"),
            ("https://a.example", "https://a.example.evil", None),
            ("https://a.example", "", None),
            ("https://a.example", "null", None),
        ],
    )
    @pytest.mark.usefixtures("worker")
    def test_pages_of_these_and_no_others_may_read_an_answer(
        self, monkeypatch: pytest.MonkeyPatch, origins: str, origin: str, allowed: str | None
    ):
        monkeypatch.setenv("CORS_ORIGINS", origins)
        for method, path in (("GET", "/tasks"), ("GET", "/nothing"), ("OPTIONS", "/tasks")):
            sent = {"httpMethod": method, "path": path, "headers": {"Origin": origin}}
            headers = lambda_handler(sent, Context())["headers"]
            assert headers.get("Access-Control-Allow-Origin") == allowed
            assert headers.get("Vary") == (None if allowed == "*" else "Origin")


class TestTrouble:
    def test_dynamodbs_failure_is_500_without_internals_and_logged_with_all(
        self,
        store: TaskStore,
        worker: Worker,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        def refuse(**_: Any) -> Any:
            raise error_of("AccessDeniedException")

        for operation in ("put_item", "query", "get_item"):
            monkeypatch.setattr(store.client, operation, refuse)
        for response in (post(), request("GET"), request("GET", "/tasks/x")):
            assert response["statusCode"] == 500
            assert said(response)["code"] == "internal_error"
            assert "arn:" not in response["body"]
            assert "AccessDenied" not in response["body"]
        lines = log_lines(capsys)
        assert len(lines) == 3
        assert all(WORKER_ARN in line["stack"] for line in lines)
        assert all(line["request_id"] == Context.aws_request_id for line in lines)

    def test_a_missing_table_is_500(self, store: TaskStore, worker: Worker):
        store.client.delete_table(TableName=store.table_name)
        assert post()["statusCode"] == 500
        assert request("GET")["statusCode"] == 500

    def test_a_refused_request_is_not_logged_as_our_trouble(
        self, store: TaskStore, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        request("POST", "/tasks", "nonsense")
        request("GET", "/tasks/x")
        assert log_lines(capsys) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)
REAL_EVENTS = [json.loads(path.read_text("utf-8")) for path in sorted(EVENTS.glob("*.json"))]
ANY_TEXT = st.text(st.characters(), max_size=30)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    if place:
        yield place
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*place, name))


@st.composite
def mutated_events(draw: st.DrawFn) -> Any:
    """An event as AWS sends it, with up to three of its values replaced by any JSON."""
    mutated: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(REAL_EVENTS))))
    for _ in range(draw(st.integers(1, 3))):
        *parents, name = draw(st.sampled_from(sorted(places(mutated), key=str)))
        target = mutated
        for parent in parents:
            target = target[parent]
        target[name] = draw(JSON | ANY_TEXT)
    return mutated


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """A well-formed event with any method, path, headers, query and body."""
    body = draw(
        st.none()
        | ANY_TEXT
        | JSON.map(json.dumps)
        | st.builds(lambda text: json.dumps({"description": text}), ANY_TEXT)
        | st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode())
    )
    return {
        "version": "2.0",
        "rawPath": draw(
            st.sampled_from(["/tasks", "/tasks/", "/prod/tasks"])
            | st.builds(
                "/tasks/{}{}".format, ANY_TEXT, st.sampled_from(["", "/cancel", "/reports", "/x"])
            )
        ),
        "headers": draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "idempotency-key": ANY_TEXT,
                    "if-none-match": ANY_TEXT,
                    "authorization": ANY_TEXT,
                },
            )
        ),
        "queryStringParameters": draw(
            st.none()
            | st.fixed_dictionaries(
                {}, optional={"limit": ANY_TEXT, "cursor": ANY_TEXT, "status": ANY_TEXT}
            )
        ),
        "requestContext": {
            "http": {
                "method": draw(st.sampled_from(["GET", "POST", "DELETE", "OPTIONS", "PATCH"]))
            },
            "stage": draw(st.sampled_from(["$default", "prod"])),
        },
        "body": body,
        "isBase64Encoded": draw(st.booleans()),
    }


@given(st.one_of(JSON, mutated_events(), mutated_events(), requests(), requests()))
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_event_whatsoever_makes_it_raise_or_answer_500(worker: Worker, sent: Any):
    response = checked(lambda_handler(sent, None))
    assert response["statusCode"] in {200, 202, 204, 304, 400, 401, 403, 404, 405, 413, 422}


def test_lines_that_threads_log_at_once_are_whole():
    """Text and line end as two writes: 108 of 3,000 lines were not JSON."""
    program = """
import threading
from valro.aws import log
threads = [threading.Thread(target=lambda: [log("INFO", "x" * 2000) for _ in range(500)])
           for _ in range(6)]
for each in threads: each.start()
for each in threads: each.join()
"""
    written = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    lines = written.stderr.decode().splitlines()
    assert len(lines) == 3_000
    assert {json.loads(line)["level"] for line in lines} == {"INFO"}


class TestShell:
    def test_a_get_prints_the_body_and_succeeds(
        self, store: TaskStore, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        task_id = said(post())["id"]
        capsys.readouterr()
        assert main(["GET", "/tasks?limit=1"]) == 0
        printed = capsys.readouterr()
        assert [task["id"] for task in json.loads(printed.out)] == [task_id]
        assert printed.err == "HTTP 200\n"

    def test_without_arguments_it_lists(self, store: TaskStore, capsys: pytest.CaptureFixture[str]):
        assert main([]) == 0
        assert capsys.readouterr().out == "[]\n"

    def test_a_post_creates_a_task(
        self, store: TaskStore, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        assert main(["POST", "/tasks", '{"description": "Find me a painter"}']) == 0
        assert json.loads(capsys.readouterr().out)["id"] == items(store)[0]["id"]["S"]

    def test_an_error_is_printed_and_fails(
        self, store: TaskStore, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        assert main(["GET", "/tasks/x"]) == 1
        assert json.loads(capsys.readouterr().out)["code"] == "task_not_found"
        assert main(["POST", "/tasks"]) == 1
        assert json.loads(capsys.readouterr().out)["code"] == "invalid_body"

    @pytest.mark.e2e
    def test_as_a_script_it_talks_to_the_table_that_is_named(self, tmp_path: Any):
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        try:
            host, port = server.get_host_and_port()
            endpoint = f"http://{host}:{port}"
            client = aws.aws_session().create_client(
                "dynamodb", region_name="us-east-1", endpoint_url=endpoint
            )
            client.create_table(TableName="shell-tasks", **TABLE_DEFINITION)
            task, _ = TaskStore(client, "shell-tasks").create_task("by-hand", "Find me a painter")
            client.close()
            done = subprocess.run(
                [sys.executable, lambda_function.__file__, "GET", "/tasks/by-hand"],
                env={
                    "AWS_ENDPOINT_URL": endpoint,
                    "AWS_ACCESS_KEY_ID": "test",
                    "AWS_SECRET_ACCESS_KEY": "test",
                    "DYNAMODB_TABLE_NAME": "shell-tasks",
                },
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        finally:
            server.stop()
        assert done.stderr == "HTTP 200\n"
        assert done.returncode == 0
        assert json.loads(done.stdout)["created_at"] == task["created_at"]

    @pytest.mark.e2e
    def test_as_a_script_without_credentials_it_fails_and_says_so(self, tmp_path: Any):
        done = subprocess.run(
            [sys.executable, lambda_function.__file__],
            env={"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1
        assert json.loads(done.stdout)["code"] == "internal_error"
        assert "Unable to locate credentials" in done.stderr
