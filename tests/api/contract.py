"""openapi.yaml as a judge of answers: `validate_response` fails for whatever it does not describe.

It is stricter than a client should be: a task, an event or an error with a field that openapi.yaml
does not name is refused, so that nothing internal leaves unnoticed; so is an unknown code, and a
task of this release that has not all that its status asks for. What openapi.yaml says once of all
answers, their headers and the codes of their errors, is required of each here.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from http.client import HTTPMessage
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import jsonschema_rs
import yaml  # type: ignore[import-untyped]  # it ships no types

from local.aws import Answer, Api
from valro import http_events

DOCUMENT = Path(__file__).resolve().parents[2] / "openapi.yaml"
# Of a path or a method that is no operation, if the function is asked: its code, and its schema.
ELSEWHERE = {404: ("`not_found`", "AnyError"), 405: ("`method_not_allowed`", "ApiError")}
# What a task of this release has since it is in a status, and only an error has.
ERROR_FIELDS = {"error_message", "error_code", "may_have_acted"}
STATUS_FIELDS: dict[str, set[str]] = {
    "pending": set(),
    "processing": {"started_at"},
    "completed": {"agent_response", "started_at", "completed_at"},
    "error": {"completed_at", *ERROR_FIELDS},
}
ALLOWED = {"GET, POST, OPTIONS", "GET, DELETE, OPTIONS", "POST, OPTIONS"}
Validator = jsonschema_rs.Draft202012Validator


class ContractBroken(AssertionError):
    """An answer that openapi.yaml does not describe."""


class CheckedApi(Api):
    """The deployed API, every answer of which must be one that openapi.yaml describes."""

    def request(self, method: str, path: str, *args: Any, **kwargs: Any) -> Answer:
        """Sends one request as Api does, and judges the answer."""
        answer = super().request(method, path, *args, **kwargs)
        validate_response(method, path, answer.status, answer.headers, answer.body)
        return answer


def validate_response(
    method: str,
    path: str,
    status: int,
    headers: Mapping[str, str] | HTTPMessage,
    body: bytes | str | None,
) -> None:
    """Raises ContractBroken, with the reason, unless openapi.yaml describes this answer.

    ``path`` is as on AWS (``/tasks?limit=2``), without a stage before it.
    """
    what = f"{method} {path} -> {status}"
    given = {name.lower(): value for name, value in headers.items()}
    text = body.decode() if isinstance(body, bytes) else body or ""
    if method == "HEAD":
        return
    if method == "OPTIONS":
        _judge_preflight(what, status, given, text)
        return
    described = _described(_template(urlsplit(path).path), method.lower(), status)
    if described is None:
        _refuse(what, "no such status is described", body)
    if described.body:
        _judge_body(what, described, given.get("content-type", ""), text)
    elif text:
        _refuse(what, "it must have no body", text)
    if not _is_gateways(text):
        _judge_headers(what, described.headers, given)
        if status == 405 and given.get("allow") not in ALLOWED:
            _refuse(what, f"Allow is {given.get('allow')}", None)


def response_of_handler(
    method: str, path: str, response: Mapping[str, Any]
) -> tuple[str, str, int, Mapping[str, str], str | None]:
    """The arguments of `validate_response` for what lambda_handler returned."""
    return method, path, response["statusCode"], response["headers"], response.get("body")


@functools.cache
def document() -> dict[str, Any]:
    """openapi.yaml, read."""
    loaded: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    return loaded


def validator(schema: Mapping[str, Any]) -> Validator:
    """A validator for a schema of openapi.yaml, formats checked too."""
    components = {"components": document()["components"]}
    return Validator({**schema, **components}, validate_formats=True)


def reference(name: str) -> dict[str, str]:
    """The schema of this name, as another one refers to it."""
    return {"$ref": f"#/components/schemas/{name}"}


def resolved(value: Any) -> Any:
    """What a reference refers to; anything else as it is."""
    if "$ref" not in value:
        return value
    return resolved(functools.reduce(getitem, value["$ref"].split("/")[1:], document()))


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every path, method and operation."""
    for path, item in document()["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def properties(schema: str | dict[str, Any]) -> set[str]:
    """The fields of a schema that is an object, those of its parts among them."""
    found = resolved(reference(schema) if isinstance(schema, str) else schema)
    return set(found.get("properties", {})).union(*map(properties, found.get("allOf", [])))


def known_codes(name: str) -> set[str]:
    """The codes that this release has; there may be new ones."""
    return set(resolved(reference(name))["x-extensible-enum"])


class _Described(NamedTuple):
    """What openapi.yaml says of one answer."""

    description: str
    body: Validator | None
    headers: dict[str, tuple[dict[str, Any], Validator]]


@functools.cache
def _described(template: str, method: str, status: int) -> _Described | None:
    operation = document()["paths"].get(template, {}).get(method)
    if operation is None:
        # The gateway has no route for it, or the function says so itself.
        if status not in ELSEWHERE:
            return None
        description, schema = ELSEWHERE[status]
        return _Described(description, validator(reference(schema)), {})
    if str(status) not in operation["responses"]:
        return None
    response = resolved(operation["responses"][str(status)])
    content = response.get("content")
    body = validator(content["application/json"]["schema"]) if content else None
    headers = {name: resolved(header) for name, header in response.get("headers", {}).items()}
    return _Described(
        response["description"],
        body,
        {name: (header, validator(header["schema"])) for name, header in headers.items()},
    )


def _template(path: str) -> str:
    match path.rstrip("/").split("/"):
        case ["", "tasks"]:
            return "/tasks"
        case ["", "tasks", _, *rest]:
            return "/".join(["/tasks/{id}", *rest])
    return ""


def _judge_preflight(what: str, status: int, given: Mapping[str, str], text: str) -> None:
    if status == 429 and _is_gateways(text):
        return
    if status != 204 or text:
        _refuse(what, "a preflight is a 204 without a body", text)
    for name in http_events.PREFLIGHT_HEADERS:
        if name.lower() not in given:
            _refuse(what, f"it lacks {name}", None)


def _judge_body(what: str, described: _Described, content_type: str, text: str) -> None:
    if content_type.partition(";")[0].strip() != "application/json":
        _refuse(what, f"its Content-Type is {content_type!r}", text)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        _refuse(what, f"its body is not JSON ({error})", text)
    assert described.body
    for flaw in described.body.iter_errors(value):
        _refuse(what, f"at {flaw.instance_path}: {flaw.message[:500]}", text)
    if (
        isinstance(value, dict)
        and "code" in value
        and f"`{value['code']}`" not in described.description
    ):
        _refuse(what, f"its code is {value['code']}", text)
    _judge_fields(what, value)


def _judge_headers(what: str, described: Mapping[str, Any], given: Mapping[str, str]) -> None:
    caching = "private, no-cache" if "ETag" in described else "no-store"
    if given.get("cache-control") != caching:
        _refuse(what, f"Cache-Control is {given.get('cache-control')}, not {caching}", None)
    exposed = http_events.CORS_HEADERS["Access-Control-Expose-Headers"].lower()
    if "access-control-allow-origin" in given and (
        given.get("access-control-expose-headers", "").lower() != exposed
    ):
        _refuse(what, "Access-Control-Expose-Headers is not what it should be", None)
    for name, (header, schema) in described.items():
        value: Any = given.get(name.lower())
        if value is None:
            if header.get("required"):
                _refuse(what, f"it lacks {name}", None)
            continue
        if header["schema"]["type"] == "integer" and re.fullmatch(r"[0-9]+", value):
            value = int(value)
        for error in schema.iter_errors(value):
            _refuse(what, f"{name}: {error.message}", None)


def _judge_fields(what: str, value: Any, schema: str = "Task") -> None:
    """Refuses fields that are described nowhere, in the objects that are ours alone."""
    if isinstance(value, list):
        for element in value:
            _judge_fields(what, element, "ListedTask")
        return
    if "code" in value:
        schema = "ApiError"
    elif "message" in value:
        schema = "Accepted"
    elif "continue" in value:
        schema = "Received"
    else:
        _judge_status(what, value, schema)
    objects = [(schema, value), *(("Event", event) for event in value.get("events", []))]
    for name, fields in objects:
        if undescribed := fields.keys() - properties(name):
            _refuse(what, f"{name} has fields that are not described: {sorted(undescribed)}", None)


def _judge_status(what: str, task: Mapping[str, Any], schema: str) -> None:
    """Refuses a task that lacks what its status asks for, or has what only errors have."""
    status = task["status"]
    required = STATUS_FIELDS[status] & properties(schema)
    if missing := required - task.keys():
        _refuse(what, f"a task that is {status} has no {' and no '.join(sorted(missing))}", None)
    if status != "error" and (foreign := ERROR_FIELDS & task.keys()):
        _refuse(what, f"a task that is {status} has {' and '.join(sorted(foreign))}", None)
    if status == "error" and task["error_code"] not in known_codes("TaskErrorCode"):
        _refuse(what, f"its error_code is {task['error_code']}", None)


def _is_gateways(text: str) -> bool:
    """Whether an answer is API Gateway's own, which knows nothing of our headers."""
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and value.keys() == {"message"}


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is not JSON"
    raise ValueError(message)


def _refuse(what: str, why: str, body: bytes | str | None) -> NoReturn:
    shown = f"\n{body[:1000]!r}" if body else ""
    message = f"openapi.yaml does not describe {what}: {why}{shown}"
    raise ContractBroken(message)
