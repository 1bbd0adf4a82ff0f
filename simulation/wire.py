"""The table of wire faults: what comes out of the real clients when something breaks under them.

Each row of wire_faults.json was measured on real sockets (wire_record.py) and holds for the
operations that it names. So the simulation raises what is raised, not what one imagines.
What a row does not say is what became of the request at the other end: ``effects`` does.
"""

import functools
import json
import pkgutil
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from simulation.dynamodb import client_error

Row = dict[str, Any]

TABLE = Path(__file__).with_name("wire_faults.json")
URL = "https://aws.invalid"
# What AWS says of its own failures; none of it is for the public.
ACCOUNT = "123456789012"
INTERNALS = f"arn:aws:iam::{ACCOUNT}:role/secret is not amused"

AGENT_OPERATIONS = ("InvokeAgentRuntime", "InvokeAgentRuntime, streamed", "StopRuntimeSession")

# What a service really says, and under which status; every other one is somebody else's doing.
NATIVE = {
    "ThrottlingException": ("throttled", (400, 429)),
    "ProvisionedThroughputExceededException": ("throttled", (400,)),
    "TooManyRequestsException": ("throttled", (429,)),
    "RetryableConflictException": ("throttled", (409,)),
    "ServiceQuotaExceededException": ("throttled", (402,)),
    "AccessDeniedException": ("denied", (400, 403)),
    "RuntimeClientError": ("agent failed", (424,)),
    "InternalServerError": ("server error", (500,)),
}
# The sorts of faults, and how the names of theirs begin; those without are NATIVE's.
KINDS = {
    "throttled": "",
    "server error": "",
    "denied": "",
    "agent failed": "",
    "odd status": r"\d+ \w+ in the",
    "page": r"[345]\d\d with",
    "elsewhere": r"\d+ elsewhere",
    "refused": "refused",
    "nobody accepts": "nobody accepts",
    "no TLS": "no TLS",
    "closed": "closed|no HTTP",
    "reset": "reset",
    "stalled": "stalled",
    "cut error": "a 503",
    "dripping": "dripping",
    "garbled": "garbled|a wrong CRC|200 with",
}
# What the errors that are not botocore's are made with.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "urllib3.exceptions.ProtocolError": ("Connection broken: IncompleteRead",),
    "urllib3.exceptions.ReadTimeoutError": (None, URL, "Read timed out."),
    "valro.dynamodb_items.UnreadableReply": (),
    "builtins.UnicodeDecodeError": ("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "builtins.AttributeError": ("'list' object has no attribute 'get'",),
}


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
    lines = [(line, line.pop("on")) for line in json.loads(TABLE.read_text())]
    return [line | {"operation": operation} for line, names in lines for operation in names]


@functools.cache
def _rows() -> dict[str, dict[str, Row]]:
    """The rows by operation, then by fault."""
    operations: defaultdict[str, dict[str, Row]] = defaultdict(dict)
    for row in read():
        operations[row["operation"]][row["fault"]] = row
    return operations


@functools.cache
def by_kind(operation: str) -> dict[str, tuple[Row, ...]]:
    """The faults that a call may meet, by kind; of the table's operations one was measured."""
    kinds: defaultdict[str, list[Row]] = defaultdict(list)
    for row in (_rows().get(operation) or _rows()["UpdateItem"]).values():
        if row["fault"] != "none":
            kinds[kind(row)].append(row)
    return {name: tuple(group) for name, group in kinds.items()}


def kind(row: Row) -> str:
    """What sort of fault a row is about: one of KINDS."""
    name = row["fault"]
    status, _, rest = name.partition(" ")
    code = rest.partition(" ")[0]
    native, statuses = NATIVE.get(code, ("", ()))
    if row.get("code") == code and int(status) in statuses:
        return native
    return next(one for one, names in KINDS.items() if names and re.match(names, name))


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
        return client_error(row["code"], row["status"], row["operation"], INTERNALS)
    make: Any = pkgutil.resolve_name(row["raises"])
    if row["raises"] in ARGUMENTS:
        return make(*ARGUMENTS[row["raises"]])
    return make(endpoint_url=URL, error=INTERNALS)
