"""HTTP as Lambda has it: the three shapes of events as a request, a response as Lambda wants it.

Events may be an HTTP API's (payload 2.0), a REST API's (1.0), or just {"httpMethod", "path"}.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html

Not here: which routes there are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tasks import dumps

Headers = dict[str, str]
Response = dict[str, Any]

# An HTTP API with CORS configured puts its own in place of these; the script configures the same.
CORS_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Location,Retry-After,ETag,Link,Idempotent-Replayed",
}
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET,POST,OPTIONS",
    "Access-Control-Allow-Headers": "content-type,idempotency-key,if-none-match,authorization",
    "Access-Control-Max-Age": "3600",
}


class JsonText(str):
    """JSON that goes into a response as it is: to read and write it is half of a list's time."""

    __slots__ = ()


class HttpError(Exception):
    """A request that is answered with an error: ``{"error": message, "code": code, …}``."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Headers | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers or {}
        self.fields = fields

    def response(self) -> Response:
        """The error as an HTTP response."""
        body = {"error": str(self), "code": self.code, **self.fields}
        return make_response(self.status, body, self.headers)


@dataclass
class Request:
    """One HTTP request, whichever shape its event had."""

    method: str
    path: str  # as the function's routes know it
    url_path: str  # as the client knows it, with the stage before it
    headers: Headers = field(default_factory=dict)  # names in lower case
    query: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    is_base64: bool = False
    authorizer: Any = None

    @classmethod
    def from_event(cls, event: Any) -> Request:
        """Reads an event of any of the three shapes; raises HttpError 400 for anything else."""
        if not isinstance(event, dict):
            raise HttpError(400, "invalid_event", "The event is not an HTTP request.")
        context = as_object(event.get("requestContext"))
        http = as_object(context.get("http"))
        method = http.get("method") or event.get("httpMethod")
        path = event.get("rawPath") or event.get("path")
        if not isinstance(method, str) or not isinstance(path, str):
            raise HttpError(
                400,
                "invalid_event",
                "The event is not an HTTP request: it needs 'httpMethod' and 'path'.",
            )
        # A named stage stands before an HTTP API's path; a REST API has it in its context's only.
        stage = context.get("stage")
        url_path = path if "rawPath" in event else str(context.get("path") or path)
        if path == url_path and isinstance(stage, str) and path.startswith(f"/{stage}/"):
            path = path.removeprefix(f"/{stage}")
        return cls(
            method=method.upper(),
            path=path.rstrip("/") or "/",
            url_path=url_path.rstrip("/"),
            headers={name.lower(): value for name, value in _values(event, "headers", "Headers")},
            query=dict(_values(event, "queryStringParameters", "QueryStringParameters")),
            body=event.get("body"),
            is_base64=event.get("isBase64Encoded") is True,
            authorizer=context.get("authorizer"),
        )


def make_response(status: int, body: Any, headers: Headers | None = None) -> Response:
    """A response that API Gateway understands; a ``body`` that is text is JSON already."""
    response: Response = {
        "statusCode": status,
        "headers": {"Cache-Control": "no-store"} | CORS_HEADERS | (headers or {}),
    }
    if body is not None:
        response["headers"]["Content-Type"] = "application/json"
        response["body"] = body if isinstance(body, str) else dumps(body)
    return response


def size_as_json(text: str) -> int:
    """How many bytes JSON text has as a string inside JSON; Python 3.11's runtime escapes it."""
    if text.isascii():
        return len(text) + text.count('"') + text.count("\\") + 2
    return len(json.dumps(text))


def _values(event: dict[str, Any], name: str, multi_name: str) -> list[tuple[str, str]]:
    """Names and values of headers or of the query; payload 1.0 may have them as lists only."""
    lists = as_object(event.get(f"multiValue{multi_name}"))
    values = {key: ",".join(map(str, given)) for key, given in lists.items() if _is_full(given)}
    values |= {key: str(one) for key, one in as_object(event.get(name)).items() if one is not None}
    return [(str(key), value) for key, value in values.items()]


def _is_full(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
