"""The table of wire faults: what comes out of the real clients when something breaks under them.

Each row of wire_faults.json was measured on real sockets (wire_record.py) and holds for the
operations that it names. So the simulation raises what is raised, not what one imagines.
What a row does not say is what became of the request at the other end: ``effects`` does.
"""

from __future__ import annotations

import functools
import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions
import urllib3.exceptions
from botocore.exceptions import ClientError

from valro.dynamodb_items import UnreadableReply

Row = dict[str, Any]

TABLE = Path(__file__).with_name("wire_faults.json")
URL = "https://aws.invalid"
# What AWS says of its own failures; none of it is for the public.
ACCOUNT = "123456789012"
INTERNALS = f"arn:aws:iam::{ACCOUNT}:role/secret is not amused"

# The operation that was measured, for all others of its service.
MEASURED = {"dynamodb": "UpdateItem", "lambda": "Invoke", "agent": "InvokeAgentRuntime"}
AGENT_OPERATIONS = ("InvokeAgentRuntime", "InvokeAgentRuntime, streamed", "StopRuntimeSession")

# The status under which a service really sends a code; every other one is somebody else's doing.
THROTTLES = {
    "ThrottlingException": (400, 429),
    "ProvisionedThroughputExceededException": (400,),
    "TooManyRequestsException": (429,),
    "RetryableConflictException": (409,),
    "ServiceQuotaExceededException": (402,),
}
CODES = THROTTLES | {
    "AccessDeniedException": (400, 403),
    "RuntimeClientError": (424,),
    "InternalServerError": (500,),
}
KINDS = (
    "throttled",
    "server error",
    "denied",
    "agent failed",
    "odd status",
    "page",
    "elsewhere",
    "refused",
    "nobody accepts",
    "no TLS",
    "closed",
    "reset",
    "stalled",
    "cut error",
    "dripping",
    "garbled",
)


# --- the table ------------------------------------------------------------------------------------


def write(rows: list[Row]) -> None:
    """Writes the table, a line for each outcome of each fault."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        outcome = {name: row[name] for name in row if name != "operation"}
        lines.setdefault(json.dumps(outcome), []).append(row["operation"])
    text = [f'{line[:-1]}, "on": {json.dumps(names)}}}' for line, names in lines.items()]
    TABLE.write_text("[\n" + ",\n".join(text) + "\n]\n")


def read() -> list[Row]:
    """The rows of the table, one for each fault and operation."""
    return [
        {name: value for name, value in line.items() if name != "on"} | {"operation": operation}
        for line in json.loads(TABLE.read_text())
        for operation in line["on"]
    ]


@functools.cache
def _rows() -> dict[str, dict[str, Row]]:
    """The rows by operation, then by fault."""
    operations: defaultdict[str, dict[str, Row]] = defaultdict(dict)
    for row in read():
        operations[row["operation"]][row["fault"]] = row
    return operations


@functools.cache
def by_kind(service: str, operation: str) -> dict[str, tuple[Row, ...]]:
    """The faults that a call may meet, by their kind."""
    kinds: defaultdict[str, list[Row]] = defaultdict(list)
    measured = operation if operation in AGENT_OPERATIONS else MEASURED[service]
    for row in _rows()[measured].values():
        if row["fault"] != "none":
            kinds[kind(row)].append(row)
    return {name: tuple(group) for name, group in kinds.items()}


def kind(row: Row) -> str:
    """What sort of fault a row is about: one of KINDS."""
    fault = row["fault"]
    if match := re.fullmatch(r"(\d+) (\w+) in the (header|body)", fault):
        return _kind_of_code(int(match[1]), match[2], row)
    for beginning, name in (
        ("a 503 ", "cut error"),
        ("no TLS", "no TLS"),
        ("no HTTP", "closed"),
        ("a wrong CRC", "garbled"),
        ("200 with", "garbled"),
    ):
        if fault.startswith(beginning):
            return name
    if match := re.fullmatch(r"\d+ (with|elsewhere).*", fault):
        return "page" if match[1] == "with" else "elsewhere"
    word = fault.partition(" ")[0]
    return word if word in KINDS else fault


def _kind_of_code(status: int, code: str, row: Row) -> str:
    is_native = status in CODES.get(code, ()) and row.get("code") == code
    if not is_native:
        return "odd status"
    return {
        "AccessDeniedException": "denied",
        "RuntimeClientError": "agent failed",
        "InternalServerError": "server error",
    }.get(code, "throttled")


# --- what a row means -----------------------------------------------------------------------------


def effects(row: Row) -> tuple[bool, ...]:
    """Whether the request was done at the other end: no, yes, or either, of which chance picks."""
    fault = row["fault"]
    if not row["requests"]:
        return (False,)
    if row.get("raises") == "ClientError":
        code, status = row["code"], row["status"]
        if code == "RuntimeClientError" and status == 424:
            return (True,)
        is_open = status >= 500 or status == 424 or code == "RuntimeClientError"
        return (False, True) if is_open else (False,)
    if " before the head" in fault or fault.startswith("a 503"):
        return (False, True)
    # "200 with a list" is not among them: what says 200 in the service's own language means it.
    if fault in ("no HTTP", "303 elsewhere", "200 with HTML", "200 with nothing"):
        return (False, True)
    return (True,)


def is_sent_again(row: Row) -> bool:
    """Whether botocore's retries are for it; the agent's were measured with none, as they must be.

    ``Invoke`` has a streaming output too, so what holds there holds for an agent's call.
    """
    if row["operation"] not in AGENT_OPERATIONS:
        return bool(row["attempts"] > 1)
    like = _rows()["Invoke"].get(row["fault"], {}).get("attempts", 1) > 1
    return like or row.get("status", 0) >= 500 or row.get("status") == 429


def is_passing(row: Row) -> bool:
    """Whether it is a fault that another attempt may well not meet.

    Not one is an answer that nobody can read and whose checksum is right: it was meant so.
    """
    if row.get("raises") == "ClientError":
        return row["status"] >= 500 or kind(row) == "throttled"
    if kind(row) == "garbled":
        return bool(row["fault"] == "a wrong CRC")
    return kind(row) != "elsewhere"


def error(row: Row) -> Exception:
    """The error that a row says comes out."""
    if row["raises"] == "ClientError":
        response = {
            "Error": {"Code": row["code"], "Message": INTERNALS},
            "ResponseMetadata": {"HTTPStatusCode": row["status"]},
        }
        return ClientError(response, row["operation"])
    return ERRORS[row["raises"]](row)


def _of_endpoint(name: str) -> Callable[[Row], Exception]:
    make = getattr(botocore.exceptions, name)
    return lambda _row: make(endpoint_url=URL, error=INTERNALS)


NOWHERE: Any = None  # a connection or a pool, which an error only names in its text
ERRORS: dict[str, Callable[[Row], Exception]] = {
    **{
        f"botocore.exceptions.{name}": _of_endpoint(name)
        for name in (
            "ConnectTimeoutError",
            "EndpointConnectionError",
            "ConnectionClosedError",
            "ReadTimeoutError",
            "ResponseStreamingError",
            "SSLError",
            "HTTPClientError",
        )
    },
    "urllib3.exceptions.ProtocolError": lambda _row: urllib3.exceptions.ProtocolError(
        "Connection broken: IncompleteRead"
    ),
    "urllib3.exceptions.ReadTimeoutError": lambda _row: urllib3.exceptions.ReadTimeoutError(
        NOWHERE, URL, "Read timed out."
    ),
    "valro.dynamodb_items.UnreadableReply": lambda _row: UnreadableReply(),
    "builtins.UnicodeDecodeError": lambda _row: UnicodeDecodeError(
        "utf-8", b"\xff", 0, 1, "invalid start byte"
    ),
    "builtins.AttributeError": lambda _row: AttributeError("'list' object has no attribute 'get'"),
}
