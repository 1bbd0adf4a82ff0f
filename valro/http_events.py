"""HTTP in Lambda: the three shapes of events as a request, and a response as Lambda expects it.

Events may be an HTTP API's (payload 2.0), a REST API's (1.0), or just {"httpMethod", "path"}.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html

Not here: which routes there are.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any

from valro.tasks import dumps

Headers = dict[str, str]
Response = dict[str, Any]

# An HTTP API with CORS configured replaces these with its own; the template configures the same.
CORS_HEADERS = {
    "Access-Control-Expose-Headers": (
        "Location,Retry-After,ETag,Link,Idempotent-Replayed,apigw-requestid"
    ),
}
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET,POST,DELETE,OPTIONS",
    # To a browser, * is every header but authorization; older ones do not know it.
    "Access-Control-Allow-Headers": (
        "*,content-type,idempotency-key,if-none-match,authorization,traceparent,tracestate,baggage,"
        "sentry-trace,x-amzn-trace-id,x-requested-with"
    ),
    "Access-Control-Max-Age": "3600",
}


# Every error's code, by status. Tests compare openapi.yaml and docs/frontend.md with it.
CODES = {
    400: "invalid_body invalid_description invalid_idempotency_key invalid_answers answers_required "
    "invalid_query invalid_limit invalid_cursor invalid_status invalid_report invalid_event",
    401: "invalid_token",
    403: "no_subject not_allowed",
    404: "task_not_found not_found",
    405: "method_not_allowed",
    409: "task_ended task_not_final already_followed not_accepted",
    410: "task_deleted",
    413: "body_too_large",
    422: "idempotency_key_reused",
    500: "not_configured internal_error",
    502: "worker_unavailable",
    503: "busy",
}
STATUS_OF = {code: status for status, codes in CODES.items() for code in codes.split()}


class HttpError(Exception):
    """A request that is answered with an error: ``{"error": message, "code": code, …}``."""

    def __init__(
        self, code: str, message: str, *, headers: Headers | None = None, **fields: Any
    ) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers or {}
        self.fields = fields

    def response(self) -> Response:
        """The error as an HTTP response."""
        body = {"error": str(self), "code": self.code, **self.fields}
        return make_response(STATUS_OF[self.code], body, self.headers)


@dataclass
class Request:
    """One HTTP request, whatever the shape of its event."""

    method: str
    path: str  # as the function's routes have it
    has_slash: bool = False  # whether the client's URL ends with one
    headers: Headers = field(default_factory=dict)  # with names in lower case
    query: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    is_base64: bool = False
    authorizer: Any = None

    @classmethod
    def from_event(cls, event: Any) -> Request:
        """Reads an event of any of the three shapes; raises HttpError 400 for anything else."""
        if not isinstance(event, dict):
            raise HttpError("invalid_event", "The event is not an HTTP request.")
        context = as_object(event.get("requestContext"))
        http = as_object(context.get("http"))
        method = http.get("method") or event.get("httpMethod")
        path = event.get("rawPath") or event.get("path")
        if not isinstance(method, str) or not isinstance(path, str):
            message = "The event is not an HTTP request: it needs 'httpMethod' and 'path'."
            raise HttpError("invalid_event", message)
        # A named stage precedes an HTTP API's path, a custom domain's mapping any path.
        # The route says how much of the path is ours, unless it matches everything.
        route = str(event.get("routeKey") or event.get("resource") or "").rpartition(" ")[2]
        segments = path.rstrip("/").split("/")
        own = segments[-route.count("/") :]
        if route.startswith("/tasks") and own[0] == "tasks":
            segments = ["", *own]
        elif route.endswith(("$default", "+}")):
            segments = re.sub(r".*(?=/tasks(/|\Z))", "", "/".join(segments)).split("/")
        return cls(
            method=method.upper(),
            path="/".join(segments) or "/",
            has_slash=path.endswith("/"),
            headers={name.lower(): value for name, value in _values(event, "headers", "Headers")},
            query=dict(_values(event, "queryStringParameters", "QueryStringParameters")),
            body=event.get("body"),
            is_base64=event.get("isBase64Encoded") is True,
            # A REST API has a caller that IAM knows elsewhere.
            authorizer=as_object(context.get("identity")).get("userArn")
            or context.get("authorizer"),
        )

    def content(self, limit: int) -> bytes:
        """The body's bytes; raises HttpError 413 if they are over ``limit``, or 400."""
        if not isinstance(self.body, str) or not self.body:
            raise HttpError("invalid_body", "The body cannot be used: it is empty. Send JSON.")
        try:
            data = self.body.encode()
            if self.is_base64:
                data = base64.b64decode(data, validate=True)
        except ValueError as error:
            message = "The body cannot be used: it is not the valid base64 or text that its event promises."
            raise HttpError("invalid_body", message) from error
        if len(data) > limit:
            message = f"The body must be at most {limit // 1024:,} KB."
            raise HttpError("body_too_large", message)
        return data


def make_response(status: int, body: Any, headers: Headers | None = None) -> Response:
    """A response that API Gateway understands; a ``body`` that is text is already JSON."""
    response: Response = {
        "statusCode": status,
        "headers": {"Cache-Control": "no-store"} | CORS_HEADERS | (headers or {}),
    }
    if body is not None:
        response["headers"]["Content-Type"] = "application/json"
        response["body"] = body if isinstance(body, str) else dumps(body)
    return response


def allowed_origin(origins: str, origin: str) -> Headers:
    """The CORS headers that let a page of ``origin`` read an answer, if it is among ``origins``."""
    if origins == "*":
        return {"Access-Control-Allow-Origin": "*"}
    allowed = {"Access-Control-Allow-Origin": origin} if origin in origins.split(",") else {}
    return {"Vary": "Origin"} | allowed


def _values(event: dict[str, Any], name: str, multi_name: str) -> list[tuple[str, str]]:
    """Names and values of headers or the query; payload 1.0 may have them only as lists."""
    lists = as_object(event.get(f"multiValue{multi_name}"))
    values = {key: ",".join(map(str, given)) for key, given in lists.items() if _is_full(given)}
    values |= {key: str(one) for key, one in as_object(event.get(name)).items() if one is not None}
    return [(str(key), value) for key, value in values.items()]


def _is_full(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}
