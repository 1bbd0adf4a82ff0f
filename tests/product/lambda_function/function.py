"""The API's function with events as AWS sends them, and a fake Lambda client in the worker's place."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from botocore.validate import validate_parameters

from dynamodb_helpers import Claim, TaskStore
from lambda_function import lambda_handler
from valro import aws
from valro.tasks import Outcome, epoch, timestamp

EVENTS = Path(__file__).parent.parent / "events"
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


def pages(user: str | None = None, **query: str) -> Iterator[list[dict[str, Any]]]:
    """Each page of a list, by the link of the one before it."""
    following: dict[str, str] | None = query
    while following is not None:
        response = request("GET", query=following, user=user)
        assert response["statusCode"] == 200
        yield json.loads(response["body"], parse_constant=no_constant)
        following = None
        if link := response["headers"].get("Link"):
            given, _, relation = link.removeprefix("<?").partition(">")
            following = dict(parse_qsl(given))
            assert relation == '; rel="next"'
            assert following.get("status") == query.get("status")


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def walk(user: str | None = None, **query: str) -> list[list[str]]:
    """The ids of each page."""
    return [[task["id"] for task in page] for page in pages(user, **query)]


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


def report_on(task_id: str) -> dict[str, Any]:
    body = json.dumps({"report_id": "one"})
    return request("POST", f"/tasks/{task_id}/reports", body, authorization="Bearer no")


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


TOKEN = "0123456789abcdef0123456789abcdef"


def report(task_id: str, token: str = TOKEN, **fields: Any) -> dict[str, Any]:
    body = json.dumps({"report_id": "r-1"} | fields)
    path = f"/tasks/{task_id}/reports"
    return request("POST", path, body, authorization=f"Bearer {token}")
