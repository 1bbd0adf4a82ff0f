"""The API Lambda: an HTTP event in, an HTTP response out.

    POST /tasks        writes a pending task, starts the worker, answers 202
    GET /tasks         lists the caller's tasks, newest first
    GET /tasks/{id}    shows one, for polling
    OPTIONS            CORS preflight, for callers that reach the function without a gateway's

Events may be an HTTP API's (payload 2.0), a REST API's (1.0), or just {"httpMethod", "path"}. What
each request answers, in all cases, is in openapi.yaml. From a shell:

    python lambda_function.py GET /tasks
    python lambda_function.py POST /tasks '{"description": "Find me a painter"}'

Environment: WORKER_LAMBDA_ARN. DYNAMODB_TABLE_NAME and TASK_TTL_DAYS are the store's. Not here:
how a task is kept, and how an agent is run.
"""

from __future__ import annotations

import gc

gc.disable()  # Importing makes next to no garbage; prepare() switches the collector on again.

import base64
import binascii
import functools
import hashlib
import json
import os
import re
import sys
import time
import traceback
import uuid
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from aws_lambda import aws_client, log, prepare
from dynamodb_helpers import TaskNotFound, task_store
from dynamodb_items import InvalidCursor, encode_cursor
from http_events import (
    PREFLIGHT_HEADERS,
    Headers,
    HttpError,
    JsonText,
    Request,
    Response,
    as_object,
    make_response,
    size_as_json,
)
from tasks import (
    DISPATCH_FAILED,
    FINAL_STATUSES,
    PUBLIC_OWNER,
    InvalidDescription,
    Task,
    clean_description,
    dumps,
    epoch,
)

MAX_BODY_BYTES = 64 * 1024
MAX_KEY_CHARACTERS = 255
DEFAULT_LIMIT, MAX_LIMIT = 50, 100
REDISPATCH_SECONDS = 30
# Lambda's response may have 6 MB, in which this body is a string inside JSON.
MAX_PAGE_BYTES = 5_500_000

# A task's age in seconds, and how many seconds to wait until the next poll while it is younger.
POLLING = ((10, 1), (60, 2), (300, 5))
SLOWEST_POLLING = 10

# The name space of the ids that are made from idempotency keys. Changing it forgets all keys.
KEY_NAMESPACE = uuid.UUID("5b1a2c35-8f0e-4f0e-9a55-0c6a0a1f7d11")

PUBLIC_FIELDS = (
    "id",
    "description",
    "status",
    "vendors",
    "quotes",
    "emails_sent",
    "events",
    "created_at",
    "updated_at",
)
PUBLIC_FIELDS_ONCE_KNOWN = ("agent_response", "agent_response_truncated", "error_message")
ACCEPTED = "Task created and processing started"


def lambda_handler(event: Any, context: Any) -> Response:
    """Answers one HTTP request. It never raises: what goes wrong is an HTTP response too."""
    request_id = getattr(context, "aws_request_id", "")
    try:
        return route(Request.from_event(event), request_id)
    except HttpError as error:
        return error.response()
    except Exception:  # noqa: BLE001 - the last resort
        # Our fault or DynamoDB's. The caller learns no internals, the log has them all.
        log("ERROR", "request failed", request_id=request_id, stack=traceback.format_exc())
        message = "Something went wrong on our side. Please try again in a moment."
        return HttpError(500, "internal_error", message).response()


def route(request: Request, request_id: str) -> Response:
    """Finds the operation for a request; raises HttpError."""
    match request.path.split("/"), request.method:
        case ["", "tasks"], "POST":
            return post_task(request, request_id)
        case ["", "tasks"], "GET":
            return list_tasks(request)
        case ["", "tasks", task_id], "GET":
            return get_task(request, task_id)
        case ((["", "tasks"] | ["", "tasks", _]), "OPTIONS"):
            return make_response(204, None, PREFLIGHT_HEADERS)
        case ["", "tasks"], _:
            raise _method_not_allowed("GET, POST, OPTIONS")
        case ["", "tasks", _], _:
            raise _method_not_allowed("GET, OPTIONS")
    raise HttpError(404, "not_found", "There is nothing here. Tasks are at /tasks.")


def post_task(request: Request, request_id: str) -> Response:
    """Creates a task and starts its worker; the same Idempotency-Key finds the same task."""
    worker_arn = os.environ.get("WORKER_LAMBDA_ARN")
    if not worker_arn:
        raise HttpError(500, "not_configured", "WORKER_LAMBDA_ARN not set")
    owner = owner_of(request)
    key = request.headers.get("idempotency-key")
    description = read_description(request)
    task_id = str(uuid.uuid4()) if key is None else idempotent_id(owner, key)
    fingerprint = hashlib.sha256(description.encode()).hexdigest()
    task, created = task_store().create_task(task_id, description, owner, fingerprint)
    if not created and task.get("fingerprint") != fingerprint:
        raise HttpError(
            422,
            "idempotency_key_reused",
            "This Idempotency-Key came with another description before. Use a new key.",
        )
    # The client that created it may have died before it started the worker. To start one more is
    # harmless: only one can claim the task, and its deadline does not move.
    if created or (task["status"] == "pending" and age_of(task) > REDISPATCH_SECONDS):
        task = dispatch(task, worker_arn)
    headers = {"Location": f"{request.url_path}/{task['id']}"}
    if not created:
        headers["Idempotent-Replayed"] = "true"
    if task["status"] == "error" and task.get("error_code") == DISPATCH_FAILED:
        raise HttpError(
            502,
            "worker_unavailable",
            f"{task['error_message']} Please submit it again, with a new Idempotency-Key if any.",
            headers=headers,
            id=task["id"],
        )
    log(
        "INFO",
        "task accepted",
        outcome="accepted" if created else "replayed",
        task_id=task["id"],
        request_id=request_id,
    )
    body = {"id": task["id"], "status": task["status"], "message": ACCEPTED}
    return make_response(202, body, headers | _retry_after(task))


def list_tasks(request: Request) -> Response:
    """Lists a page of the caller's tasks; ``Link`` leads to the next."""
    limit = read_limit(request.query.get("limit"))
    try:
        tasks, cursor = task_store().list_tasks(
            owner_of(request), limit, request.query.get("cursor"), JsonText
        )
    except InvalidCursor as error:
        raise HttpError(400, "invalid_cursor", f"{error}.") from error
    parts: list[str] = []
    size = 0
    for task in tasks:
        part = _task_json(task)
        size += size_as_json(part)
        if size > MAX_PAGE_BYTES and parts:
            cursor = encode_cursor(tasks[len(parts) - 1])
            break
        parts.append(part)
    headers = {}
    if cursor:
        headers["Link"] = f'<{request.url_path}?limit={limit}&cursor={cursor}>; rel="next"'
    return make_response(200, f"[{','.join(parts)}]", headers)


def get_task(request: Request, task_id: str) -> Response:
    """Shows one task, or 304 to a client that has it as it is."""
    store = task_store()
    try:
        task = store.get_task(task_id, owner_of(request))
        # Every write appends events, so their count changes with whatever else does.
        etag = f'"{task["updated_at"]}/{task.get("event_seq", 0)}"'
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"} | _retry_after(task)
        if _matches(request.headers.get("if-none-match", ""), etag):
            return make_response(304, None, headers)
        return make_response(200, public_task(store.with_answer(task)), headers)
    except TaskNotFound as error:
        raise HttpError(404, "task_not_found", "Task not found.") from error


def dispatch(task: Task, worker_arn: str) -> Task:
    """Invokes the worker asynchronously; returns the task, failed if no worker could be started."""
    event = {name: task[name] for name in ("id", "description", "created_at")}
    event["task_id"] = event.pop("id")
    try:
        response = lambda_client().invoke(
            FunctionName=worker_arn, InvocationType="Event", Payload=json.dumps(event)
        )
        # Left unread, the connection could not be used again, and each POST would open a new one.
        response["Payload"].read()
    except (BotoCoreError, ClientError) as error:
        log(
            "ERROR",
            "worker not started",
            outcome=DISPATCH_FAILED,
            task_id=task["id"],
            detail=repr(error),
        )
        return _fail_dispatch(task, error)
    return task


@functools.cache
def lambda_client() -> Any:
    """The process's Lambda client."""
    return aws_client("lambda")


def owner_of(request: Request) -> str:
    """Whose tasks a request is about: everybody's without an authorizer, else the token's."""
    given = request.authorizer
    # An HTTP API that sends payload 1.0 says so when a route has no authorizer.
    if not given or given == {"claims": None, "scopes": None}:
        return PUBLIC_OWNER
    claims = as_object(as_object(as_object(given).get("jwt")).get("claims")) or as_object(
        as_object(given).get("claims")
    )
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
        raise HttpError(403, "no_subject", "The token names no user ('sub').")
    return f"jwt#{subject}"


def read_description(request: Request) -> str:
    """The description in a POST's body; raises HttpError 400 or 413."""
    body = request.body
    if not isinstance(body, str) or not body:
        raise _invalid_body("it is empty")
    try:
        data = body.encode()
        if request.is_base64:
            data = base64.b64decode(data, validate=True)
        if len(data) > MAX_BODY_BYTES:
            raise HttpError(413, "body_too_large", "The body must be at most 64 KB.")
        value = json.loads(data.decode())
    except binascii.Error as error:
        raise _invalid_body("it is not base64, which its event says it is") from error
    except UnicodeError as error:
        raise _invalid_body("it is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise _invalid_body("it is not JSON") from error
    if not isinstance(value, dict) or "description" not in value:
        raise _invalid_body("it is not an object with a 'description'")
    try:
        return clean_description(value["description"])
    except InvalidDescription as error:
        raise HttpError(400, "invalid_description", f"{error}.") from error


def read_limit(text: str | None) -> int:
    """The page size that a query asks for; raises HttpError 400."""
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        message = f"'limit' must be a whole number from 1 to {MAX_LIMIT}."
        raise HttpError(400, "invalid_limit", message)
    return int(text)


def idempotent_id(owner: str, key: str) -> str:
    """The id of the task that an owner's key stands for, so that no table of keys is needed."""
    if not re.fullmatch(r"[\x20-\x7e]+", key) or len(key) > MAX_KEY_CHARACTERS:
        raise HttpError(
            400,
            "invalid_idempotency_key",
            f"Idempotency-Key must be 1 to {MAX_KEY_CHARACTERS} printable ASCII characters.",
        )
    return str(uuid.uuid5(KEY_NAMESPACE, json.dumps([owner, key])))


def public_task(task: Task) -> dict[str, Any]:
    """What a client may see of a task: nothing internal leaves."""
    defaults = {"vendors": [], "quotes": [], "emails_sent": 0, "events": []}
    shown = {name: task.get(name, defaults.get(name)) for name in PUBLIC_FIELDS}
    return shown | {name: task[name] for name in PUBLIC_FIELDS_ONCE_KNOWN if name in task}


def age_of(task: Task) -> float:
    """Seconds since the task was created."""
    return time.time() - epoch(task["created_at"])


# --- private --------------------------------------------------------------------------------------


def _fail_dispatch(task: Task, error: Exception) -> Task:
    """Ends the task if it is still pending; a lost answer may hide a worker that has it already."""
    reason = error.response["Error"]["Code"] if isinstance(error, ClientError) else "no connection"
    message = (
        f"The worker could not be started ({reason}). "
        "The agent was not started, so no vendor was contacted."
    )
    try:
        return task_store().fail_pending_task(
            task["id"], "Error invoking worker", message, DISPATCH_FAILED, task["created_at"]
        )
    except (BotoCoreError, ClientError, TaskNotFound) as write_error:
        # The call may have been taken although it failed, so nothing is known but that the task
        # exists. It stays pending: a worker runs it after all, or its deadline ends it.
        log("ERROR", "failure not written", task_id=task["id"], detail=repr(write_error))
        return task


def _retry_after(task: Task) -> Headers:
    if task["status"] in FINAL_STATUSES:
        return {}
    age = age_of(task)
    seconds = next((wait for limit, wait in POLLING if age < limit), SLOWEST_POLLING)
    return {"Retry-After": str(seconds)}


def _matches(if_none_match: str, etag: str) -> bool:
    """RFC 9110, 13.1.2: a list of tags, weak or strong, or ``*``."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags


def _method_not_allowed(allow: str) -> HttpError:
    message = f"This method is not allowed here. Allowed: {allow}."
    return HttpError(405, "method_not_allowed", message, headers={"Allow": allow})


def _invalid_body(reason: str) -> HttpError:
    message = f'The body cannot be used: {reason}. Send JSON: {{"description": "…"}}'
    return HttpError(400, "invalid_body", message)


def _task_json(task: Task) -> str:
    """What a client may see of a task, as JSON."""
    shown = public_task(task)
    ready = {name: value for name, value in shown.items() if isinstance(value, JsonText)}
    rest = dumps({name: value for name, value in shown.items() if name not in ready})
    return rest[:-1] + "".join(f',"{name}":{text}' for name, text in ready.items()) + "}"


def main(arguments: list[str]) -> int:
    """Runs one request from a shell, with the caller's own credentials."""
    import argparse  # noqa: PLC0415 - a thirtieth of a cold start

    parser = argparse.ArgumentParser(
        prog="lambda_function.py",
        description="Run the API on one request and print its response. "
        "Needs AWS credentials, and the environment of the API Lambda.",
    )
    parser.add_argument("method", nargs="?", default="GET", help="GET, POST or OPTIONS")
    parser.add_argument("path", nargs="?", default="/tasks", help="/tasks, or /tasks/<id>")
    parser.add_argument("body", nargs="?", help='for POST: {"description": "…"}')
    given = parser.parse_args(arguments)
    url = urlsplit(given.path)
    event = {
        "httpMethod": given.method,
        "path": url.path,
        "queryStringParameters": dict(parse_qsl(url.query)),
        "body": given.body,
    }
    response = lambda_handler(event, None)
    print(f"HTTP {response['statusCode']}", file=sys.stderr)
    print(response.get("body", ""))
    return 0 if response["statusCode"] < 400 else 1


prepare(task_store, lambda_client)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
