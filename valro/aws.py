"""What the functions share: the session, the clients, the worker's events, the log, the warm-up."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from urllib3.exceptions import HTTPError

# Two attempts of 1 s + 3 s and a backoff of at most 1 s take 9 s, so the three calls of a POST whose
# worker cannot be started end within the API's 30 s even if each of them hangs.
CLIENT_CONFIG = Config(
    connect_timeout=1,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 2},
    # Requests are made by our own code only, which is tested with the check on.
    parameter_validation=False,
    # botocore would build its own twice for every request, a twentieth of its time.
    user_agent="valro-backend",
)

LOG_PART_CHARACTERS = 15_000  # at most 180 KB as escaped JSON; CloudWatch takes 256 KB a line


@functools.cache
def aws_session() -> botocore.session.Session:
    """The process's only botocore session; what it loads is loaded once."""
    return botocore.session.get_session()


def aws_client(service: str) -> Any:
    """A botocore client for ``service`` in this function's region, with timeouts."""
    # Lambda sets the first, a shell often only the second.
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return aws_session().create_client(service, region_name=region, config=CLIENT_CONFIG)


@functools.cache
def lambda_client() -> Any:
    """The process's Lambda client."""
    return aws_client("lambda")


def invoke_worker(event: dict[str, Any]) -> Exception | None:
    """Invokes the worker asynchronously; returns the error if the event was not taken."""
    try:
        response = lambda_client().invoke(
            FunctionName=os.environ.get("WORKER_LAMBDA_ARN", ""),
            InvocationType="Event",
            Payload=json.dumps(event),
        )
    except Exception as error:  # noqa: BLE001 - what a cut or garbled error's body raises too
        return error
    # If it were left unread, the connection could not be used again, and each POST would open a new
    # one. The event has been taken, whatever happens here.
    with contextlib.suppress(BotoCoreError, HTTPError):
        response["Payload"].read()
    return None


def send_stop(task_id: str) -> bool:
    """Has the worker stop the session of a task's agent; returns whether it could be asked."""
    error = invoke_worker({"stop": task_id})
    if error:
        log("WARNING", "stop not sent", task_id=task_id, detail=repr(error))
    return error is None


def prepare(*makers: Callable[[], Any]) -> None:
    """Ends a handler's import: in Lambda, does what its first request would otherwise wait for.

    Lambda's INIT phase has a whole processor, a request only the share that the function's memory
    buys. Objects made by then live on, so the garbage collector need not look at them again. What
    fails here is left to the first request, which says why.
    """
    if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        for make in makers:
            with contextlib.suppress(Exception):
                make()
        gc.freeze()
    gc.enable()


def log_in_parts(message: str, value: Any, **fields: Any) -> None:
    """Logs a text, or a value as JSON, in as many lines as it takes; nothing if it is empty."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    parts = range(0, len(text) if value else 0, LOG_PART_CHARACTERS)
    for number, start in enumerate(parts, start=1):
        part = text[start : start + LOG_PART_CHARACTERS]
        log("WARNING", message, **fields, part=number, parts=len(parts), text=part)


def log(level: str, message: str, **fields: Any) -> None:
    """Writes one JSON line to the function's log; ``fields`` are data, never a format.

    In Lambda it has the invocation's X-Ray trace id.
    """
    if trace := re.match(r"Root=([^;]+)", os.environ.get("_X_AMZN_TRACE_ID", "")):
        fields["trace_id"] = trace[1]
    line = json.dumps({"level": level, "message": message, **fields}, default=str)
    # One write: print makes a second one for the line end, and two threads' lines could mix.
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
