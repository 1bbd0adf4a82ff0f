"""The API's function with events as AWS sends them, and a fake Lambda client in the worker's place."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock
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
WORKER_ARN = "arn:aws:lambda:us-east-1:123456789012:function:valro-worker"
DESCRIPTION = "Find me a landscaper in Charlotte under $300"
LAMBDA_RESPONSE_LIMIT = 6 * 1024 * 1024
ANSWER = {
    "agent_response": "Done",
    "vendors": [{"name": "A"}],
    "quotes": [{"amount": 275.5}],
    "emails_sent": 3,
}
EXPOSED = {"Location", "Retry-After", "ETag", "Link", "Idempotent-Replayed", "apigw-requestid"}
TOKEN = "0123456789abcdef0123456789abcdef"


class Worker:
    """A Lambda client that takes only what Lambda's own model allows, and fails when told to."""

    def __init__(self) -> None:
        model = aws.aws_session().get_service_model("lambda")
        self.request_shape = model.operation_model("Invoke").input_shape
        self.invocations: list[dict[str, Any]] = []
        self.payload = Mock(spec=StreamingBody)
        self.failure: Exception | None = None
        self.meanwhile: Callable[[dict[str, Any]], Any] = lambda _event: None

    def invoke(self, **request: Any) -> dict[str, Any]:
        validate_parameters(request, self.request_shape)
        event = json.loads(request.pop("Payload"))
        self.invocations.append(request | {"event": event})
        self.meanwhile(event)
        if self.failure:
            raise self.failure
        return {"StatusCode": 202, "Payload": self.payload}

    @property
    def events(self) -> list[dict[str, Any]]:
        return [invocation["event"] for invocation in self.invocations]


class Context:
    """What Lambda tells a function about its invocation."""

    aws_request_id = "request-1"


@dataclass
class Answer:
    """A response as its client has it; ``body`` is the value of its JSON, if it has any."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def error(self) -> str:
        return f"{self.status} {self.body['code']}"


class Api:
    """The function, the table behind it, and the worker that it starts."""

    def __init__(self, store: TaskStore, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self.capsys = capsys
        self.worker = Worker()
        self.user = ""  # who asks, unless a request says otherwise

    # --- requests

    def send(self, sent: Any) -> Answer:
        """Sends an event of any shape. API Gateway and a browser can use whatever comes back."""
        response = lambda_handler(sent, Context())
        status, headers = response["statusCode"], response["headers"]
        assert isinstance(status, int)
        assert all(isinstance(value, str) for value in headers.values())
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert set(headers["Access-Control-Expose-Headers"].split(",")) == EXPOSED
        assert len(json.dumps(response)) < LAMBDA_RESPONSE_LIMIT
        assert ("body" in response) == ("Content-Type" in headers) == (status not in (204, 304))
        body = json.loads(response.get("body", "null"), parse_constant=no_constant)
        if status >= 400:
            assert body["error"].strip()
        return Answer(status, headers, body)

    def request(
        self,
        method: str,
        path: str = "/tasks",
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        user: str | None = None,
        is_base64: bool = False,
        **headers: str,
    ) -> Answer:
        """Sends a request through an HTTP API."""
        sent = event("http_api_v2_get_list")
        sent["rawPath"] = sent["requestContext"]["http"]["path"] = path
        sent["requestContext"]["http"]["method"] = method
        sent["queryStringParameters"] = query or {}
        sent["headers"] |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent |= {"body": body, "isBase64Encoded": is_base64}
        if subject := self.user if user is None else user:
            sent["requestContext"]["authorizer"] = {"jwt": {"claims": {"sub": subject}}}
        return self.send(sent)

    def get(self, task_id: str, **options: Any) -> Answer:
        return self.request("GET", f"/tasks/{task_id}", **options)

    def read(self, task_id: str, **options: Any) -> Any:
        answer = self.get(task_id, **options)
        assert answer.status == 200
        return answer.body

    def post(self, description: str = DESCRIPTION, **options: Any) -> Answer:
        return self.request("POST", "/tasks", json.dumps({"description": description}), **options)

    def create(self, description: str = DESCRIPTION, **options: Any) -> str:
        answer = self.post(description, **options)
        assert answer.status == 202
        return str(answer.body["id"])

    def cancel(self, task_id: str, **options: Any) -> Answer:
        return self.request("POST", f"/tasks/{task_id}/cancel", **options)

    def delete(self, task_id: str, **options: Any) -> Answer:
        return self.request("DELETE", f"/tasks/{task_id}", **options)

    def report(self, task_id: str, token: str = TOKEN, **fields: Any) -> Answer:
        body = json.dumps({"report_id": "r-1"} | fields)
        path = f"/tasks/{task_id}/reports"
        return self.request("POST", path, body, authorization=f"Bearer {token}")

    def pages(self, **query: str) -> Iterator[list[dict[str, Any]]]:
        """Each page of a list, by the link of the one before it."""
        following: dict[str, str] | None = query
        while following is not None:
            answer = self.request("GET", query=following)
            assert answer.status == 200
            yield answer.body
            following = None
            if link := answer.headers.get("Link"):
                given, _, relation = link.removeprefix("<?").partition(">")
                following = dict(parse_qsl(given))
                assert relation == '; rel="next"'
                assert following.get("status") == query.get("status")

    def walk(self, **query: str) -> list[list[str]]:
        """The ids of each page."""
        return [[task["id"] for task in page] for page in self.pages(**query)]

    # --- what happens to a task meanwhile

    def claim(self, task_id: str, token: str = "") -> Claim:
        """A worker takes the task; ``token`` lets its agent report."""
        digest = hashlib.sha256(token.encode()).hexdigest() if token else ""
        return self.store.claim_task(task_id, "claim", time.time() + 600, report_hash=digest)

    def complete(self, task_id: str, **answer: Any) -> None:
        self.store.end_task(self.claim(task_id), Outcome.of(ANSWER | answer))

    def age_task(self, task_id: str, seconds: float) -> None:
        """Makes a task as old as if ``seconds`` had passed."""
        key = {"id": {"S": task_id}}
        item = self.store.client.get_item(TableName=self.store.table_name, Key=key)["Item"]
        for name in item.keys() & {"created_at", "updated_at", "deadline"}:
            item[name] = {"S": timestamp(epoch(item[name]["S"]) - seconds)}
        self.put(item)

    def put(self, *items: dict[str, Any]) -> None:
        for item in items:
            self.store.client.put_item(TableName=self.store.table_name, Item=item)

    # --- what is left behind

    def items(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.store.client.scan(TableName=self.store.table_name)[
            "Items"
        ]
        return found

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log since the last look."""
        return [json.loads(line) for line in self.capsys.readouterr().err.splitlines()]


def event(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text("utf-8"))
    return loaded


def error_of(code: str, message: str = f"Something about {WORKER_ARN}") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Invoke")


def no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")
