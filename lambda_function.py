"""The API Lambda: an HTTP event in, an HTTP response out.

    POST /tasks                writes a pending task, which may follow one that has ended, starts the
                               worker, answers 202
    GET /tasks                 lists the caller's tasks, newest first
    GET /tasks/{id}            shows one, for polling
    POST /tasks/{id}/cancel    ends one, or has its worker end it
    DELETE /tasks/{id}         removes one that has ended
    POST /tasks/{id}/reports   takes the reports of an agent that keeps working by itself
    OPTIONS                    CORS preflight, where no gateway answers it

Events may be an HTTP API's (payload 2.0), a REST API's (1.0), or just {"httpMethod", "path"}. What
each request answers, in all cases, is in openapi.yaml. From a shell:

    python lambda_function.py GET /tasks
    python lambda_function.py POST /tasks '{"description": "Find me a painter"}'

Environment: WORKER_LAMBDA_ARN, and optionally CORS_ORIGINS and PUBLIC_CANCEL_AND_DELETE (``true``:
also allow cancel, delete and follow where no token says whose a task is). The store reads
DYNAMODB_TABLE_NAME and TASK_TTL_DAYS. Not here: how a task is stored, and how an agent is run.
"""

from __future__ import annotations

import gc

gc.disable()  # Imports leave next to no garbage; prepare() switches the collector on again.

import functools
import hashlib
import hmac
import math
import os
import sys
import time
import traceback
import uuid
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from dynamodb_helpers import TaskStore, task_store
from valro.api_requests import (
    NewTask,
    idempotent_id,
    owner_of,
    read_new_task,
    read_query,
    read_report,
)
from valro.aws import invoke_worker, lambda_client, log, log_in_parts, prepare, send_stop
from valro.conversations import AnswersRequired, InvalidAnswers
from valro.dynamodb_items import InvalidCursor, encode_cursor
from valro.dynamodb_pages import StoreBusy
from valro.http_events import (
    PREFLIGHT_HEADERS,
    Headers,
    HttpError,
    Request,
    Response,
    allowed_origin,
    make_response,
)
from valro.store_errors import AlreadyFollowed, NotAccepted, TaskNotFinal, TaskNotFound
from valro.tasks import (
    CANCELLED,
    DELETED,
    DISPATCH_FAILED,
    FINAL_STATUSES,
    PUBLIC_OWNER,
    UNSTARTED,
    Report,
    Task,
    dumps,
    duration_fields,
    epoch,
    may_run_on,
    public_task,
    size_as_json,
)

REDISPATCH_SECONDS = 30
# Lambda's response may have 6 MB, and there this body is a string inside JSON.
MAX_PAGE_BYTES = 5_500_000

# A task's age in seconds, and how many seconds to wait until the next poll while it is younger.
POLLING = ((10, 1), (60, 2), (300, 5))
SLOWEST_POLLING = 10

ACCEPTED = "Task created and processing started"


def lambda_handler(event: Any, context: Any) -> Response:
    """Answers one HTTP request. It never raises: failures are HTTP responses too."""
    request_id = getattr(context, "aws_request_id", "")
    origin = ""
    try:
        request = Request.from_event(event)
        origin = request.headers.get("origin", "")
        response = route(request, request_id)
    except HttpError as error:
        response = error.response()
    except TaskNotFound:
        response = HttpError("task_not_found", "Task not found.").response()
    except Exception:  # noqa: BLE001 - the last resort
        # Our fault or DynamoDB's. The caller learns no internals; the log has them all.
        log("ERROR", "request failed", request_id=request_id, stack=traceback.format_exc())
        message = "Something went wrong on our side. Please try again in a moment."
        response = HttpError("internal_error", message).response()
    response["headers"] |= allowed_origin(os.environ.get("CORS_ORIGINS") or "*", origin)
    return response


def route(request: Request, request_id: str) -> Response:  # noqa: C901 - a case a route
    """Finds the operation for a request; raises HttpError, and TaskNotFound."""
    match request.path.split("/"), request.method:
        case ["", "tasks"], "POST":
            return post_task(request, request_id)
        case ["", "tasks"], "GET":
            return list_tasks(request)
        case ["", "tasks", task_id], "GET":
            return get_task(request, task_id)
        case ["", "tasks", task_id], "DELETE":
            return delete_task(request, task_id)
        case ["", "tasks", task_id, "cancel"], "POST":
            return cancel_task(request, task_id)
        case ["", "tasks", task_id, "reports"], "POST":
            return post_report(request, task_id)
        case (
            (["", "tasks"] | ["", "tasks", _] | ["", "tasks", _, "cancel" | "reports"]),
            "OPTIONS",
        ):
            return make_response(204, None, PREFLIGHT_HEADERS)
        case ["", "tasks"], _:
            raise _method_not_allowed("GET, POST, OPTIONS")
        case ["", "tasks", _], _:
            raise _method_not_allowed("GET, DELETE, OPTIONS")
        case ["", "tasks", _, "cancel" | "reports"], _:
            raise _method_not_allowed("POST, OPTIONS")
    raise HttpError("not_found", "There is nothing here. Tasks are at /tasks.")


def post_task(request: Request, request_id: str) -> Response:
    """Creates a task and starts its worker; the same Idempotency-Key finds the same task."""
    if not os.environ.get("WORKER_LAMBDA_ARN"):
        raise HttpError("not_configured", "WORKER_LAMBDA_ARN not set")
    new = read_new_task(request)
    owner = owner_of(request) if new.follows is None else _owner_who_may(request)
    key = request.headers.get("idempotency-key")
    task_id = str(uuid.uuid4()) if key is None else idempotent_id(owner, key)
    task, created = _create(task_id, new, owner)
    if task["status"] == DELETED:
        raise HttpError("task_deleted", "The task that this Idempotency-Key created was deleted.")
    if not created and task.get("fingerprint") != new.fingerprint():
        message = "This Idempotency-Key was already used for another request. Use a new key."
        raise HttpError("idempotency_key_reused", message)
    # The process that created it may have died before it started the worker. Starting another is
    # harmless: only one can claim the task, and its deadline does not move.
    if created or (task["status"] == "pending" and age_of(task) > REDISPATCH_SECONDS):
        task = dispatch(task, is_new=created)
    # Relative, since the function does not know what precedes the path that the client sees.
    headers = {"Location": f"{'' if request.has_slash else 'tasks/'}{task['id']}"}
    if not created:
        headers["Idempotent-Replayed"] = "true"
    if task["status"] == "error" and task.get("error_code") == DISPATCH_FAILED:
        message = "Please submit it again, with a new Idempotency-Key if you use one."
        message = f"{task['error_message']} {message}"
        raise HttpError("worker_unavailable", message, headers=headers, id=task["id"])
    outcome = "accepted" if created else "replayed"
    log("INFO", "task accepted", outcome=outcome, task_id=task["id"], request_id=request_id)
    is_under_way = task["status"] not in FINAL_STATUSES
    message = ACCEPTED if is_under_way else "This task was created before and has ended"
    body = {"id": task["id"], "status": task["status"], "message": message}
    return make_response(202, body, headers | _retry_after(task))


def list_tasks(request: Request) -> Response:
    """Lists a page of the caller's tasks; ``Link`` leads to the next."""
    query = read_query(request)
    statuses = frozenset(query["status"].split(",")) if "status" in query else frozenset()
    try:
        found, cursor = tasks().list_tasks(
            owner_of(request), int(query["limit"]), query.get("cursor"), statuses=statuses
        )
    except InvalidCursor as error:
        raise HttpError("invalid_cursor", f"{error}.") from error
    parts: list[str] = []
    size = 0
    for task in found:
        part = dumps(public_task(task))
        size += size_as_json(part)
        if size > MAX_PAGE_BYTES and parts:
            cursor = encode_cursor(found[len(parts) - 1])
            break
        parts.append(part)
    headers = {}
    if cursor:
        following = urlencode(query | {"cursor": cursor}, safe=",")
        headers["Link"] = f'<?{following}>; rel="next"'
    return make_response(200, f"[{','.join(parts)}]", headers)


def get_task(request: Request, task_id: str) -> Response:
    """Shows one task, or answers 304 to a client that already has this state."""
    task = tasks().get_task(task_id, owner_of(request))
    headers = _headers_of(task)
    if _matches(request.headers.get("if-none-match", ""), headers["ETag"]):
        return make_response(304, None, headers)
    return make_response(200, public_task(tasks().with_answer(task)), headers)


def cancel_task(request: Request, task_id: str) -> Response:
    """Ends a pending task; has the agent of a running one stopped, which takes a moment longer."""
    task = tasks().cancel_task(task_id, _owner_who_may(request))
    if task["status"] == "processing":
        send_stop(task["id"])  # each time, since an event may be lost
    elif task.get("error_code") != CANCELLED:
        raise HttpError("task_ended", f"The task has already ended: it is {task['status']}.")
    shown = public_task(tasks().with_answer(task))
    is_ended = task["status"] in FINAL_STATUSES
    log("INFO", "task cancelled", task_id=task_id, outcome="cancelled" if is_ended else "stopping")
    return make_response(200 if is_ended else 202, shown, _headers_of(task))


def delete_task(request: Request, task_id: str) -> Response:
    """Removes a task that has ended."""
    try:
        tasks().delete_task(task_id, _owner_who_may(request))
    except TaskNotFinal as error:
        message = "The task has not ended yet. Cancel it first, or wait until it ends."
        raise HttpError("task_not_final", message) from error
    log("INFO", "task deleted", task_id=task_id, outcome="deleted")
    return make_response(204, None)


def post_report(request: Request, task_id: str) -> Response:
    """Takes an agent's report on its task; the task's token is the only permission it needs."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    try:
        task = tasks().find_task(task_id)
        digest = hashlib.sha256(token.encode()).hexdigest()
        is_right = hmac.compare_digest(digest.encode(), str(task.get("report_hash", "")).encode())
        if scheme.lower() != "bearer" or not is_right:
            raise _wrong_token()
        report = read_report(request, token, task_id)
        is_new = report.id not in task.get("report_ids", ())
        task = tasks().report(task, report)
    except TaskNotFound as error:
        raise _wrong_token() from error  # without a token, nobody learns which tasks exist
    except NotAccepted as error:
        message = "The task is not accepted yet. Send this report again in a moment."
        raise HttpError("not_accepted", message, headers={"Retry-After": "1"}) from error
    except StoreBusy as error:
        raise HttpError("busy", "Too many reports at once. Send this one again.") from error
    if report.outcome:
        _log_reported_end(report, task, is_new=is_new)
    is_awaited = task["status"] == "processing" and "cancel_requested_at" not in task
    return make_response(200, {"status": task["status"], "continue": is_awaited})


def dispatch(task: Task, *, is_new: bool) -> Task:
    """Starts the worker; returns the task, which has failed if its first start failed.

    If a later start fails, an earlier event may still be on its way.
    """
    event = {name: task[name] for name in ("id", "description", "created_at")}
    event["task_id"] = event.pop("id")
    error = invoke_worker(event)
    if error is None:
        return task
    fields = {"task_id": task["id"], "detail": repr(error)}
    if not is_new:
        log("WARNING", "worker not started again", **fields)
        return task
    log("ERROR", "worker not started", outcome=DISPATCH_FAILED, **fields)
    return _fail_dispatch(task, error)


@functools.cache
def tasks() -> TaskStore:
    """The process's task store."""
    store = task_store()
    store.on_expired = _stop_left_behind
    return store


def age_of(task: Task) -> float:
    """Seconds since the task was created; infinite, if its ``created_at`` is not a time."""
    with suppress(KeyError, TypeError, ValueError):
        return time.time() - epoch(task["created_at"])
    return math.inf


# --- private --------------------------------------------------------------------------------------


def _create(task_id: str, new: NewTask, owner: str) -> tuple[Task, bool]:
    """Writes a task, which follows another if the request says so; raises HttpError."""
    fingerprint = new.fingerprint()
    if new.follows is None:
        return tasks().create_task(task_id, new.description, owner, fingerprint)
    try:
        return tasks().follow_task(
            task_id, new.description, owner, fingerprint, follows=new.follows, answers=new.answers
        )
    except TaskNotFound as error:
        message = "The task to follow was not found."
        raise HttpError("task_not_found", message) from error
    except TaskNotFinal as error:
        message = "The task to follow has not ended yet. Wait until it has."
        raise HttpError("task_not_final", message) from error
    except AlreadyFollowed as error:
        message = "Another task already follows this one. Follow that one."
        raise HttpError("already_followed", message, followed_by=error.follower) from error
    except AnswersRequired as error:
        message = f"{error}: give each answer in 'answers', under the id of its interrupt."
        raise HttpError("answers_required", message, interrupts=error.interrupts) from error
    except InvalidAnswers as error:
        raise HttpError("invalid_answers", f"{error}.") from error


def _owner_who_may(request: Request) -> str:
    """The owner whose tasks a request may stop, delete or follow; raises HttpError 403."""
    owner = owner_of(request)
    if owner == PUBLIC_OWNER and os.environ.get("PUBLIC_CANCEL_AND_DELETE", "").lower() != "true":
        message = "Cancelling, deleting and following are switched off for this API."
        raise HttpError("not_allowed", message)
    return owner


def _stop_left_behind(task: Task) -> None:
    """Ends the session of an agent whose task has just ended without it."""
    if may_run_on(task):
        send_stop(task["id"])


def _log_reported_end(report: Report, task: Task, *, is_new: bool) -> None:
    """Logs that a report ended its task, and what of the report the task does not show."""
    task_id, code = task["id"], task.get("error_code", "")
    is_late = report.id not in task.get("report_ids", ())  # it had already ended
    unshown = {"answer came too late": report.sent} if is_late else report.unshown
    for what, value in unshown.items():
        log_in_parts(what, value, task_id=task_id)
    if is_new and not is_late:
        outcome = CANCELLED if code == CANCELLED else task["status"]
        fields: dict[str, Any] = {"task_id": task_id} | duration_fields(task, time.time())
        fields |= {"error_code": code} if code else {}
        level = "ERROR" if outcome == "error" else "INFO"
        log(level, "the agent reported its end", outcome=outcome, **fields)


def _headers_of(task: Task) -> Headers:
    # Every visible write appends events, so their number changes with it. The exceptions are a
    # requested cancellation and the link to a follower.
    mark = "/cancelling" if "cancel_requested_at" in task else ""
    mark += f"/{task['followed_by']}" if "followed_by" in task else ""
    etag = f'"{task.get("updated_at")}/{task.get("event_seq", 0)}{mark}"'
    return {"ETag": etag, "Cache-Control": "private, no-cache"} | _retry_after(task)


def _fail_dispatch(task: Task, error: Exception) -> Task:
    """Ends the task if it is still pending; a lost answer may hide a worker that has it already."""
    reason = error.response["Error"]["Code"] if isinstance(error, ClientError) else "no connection"
    message = f"The worker could not be started ({reason}). {UNSTARTED}"
    try:
        return tasks().fail_pending_task(
            task["id"], "Error invoking worker", message, DISPATCH_FAILED, task["created_at"]
        )
    except (BotoCoreError, ClientError, TaskNotFound) as write_error:
        # Lambda may have taken the call although it failed, so all that is known is that the task
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
    return HttpError("method_not_allowed", message, headers={"Allow": allow})


def _wrong_token() -> HttpError:
    headers = {"WWW-Authenticate": "Bearer"}
    return HttpError("invalid_token", "This token does not belong to this task.", headers=headers)


def main(arguments: list[str]) -> int:
    """Runs one request from a shell, with the caller's own credentials."""
    import argparse  # noqa: PLC0415 - a thirtieth of a cold start

    parser = argparse.ArgumentParser(
        prog="lambda_function.py",
        description="Run the API on one request and print its response. "
        "Needs AWS credentials, and the environment of the API Lambda.",
    )
    parser.add_argument("method", nargs="?", default="GET", help="GET, POST, DELETE")
    parser.add_argument("path", nargs="?", default="/tasks", help="/tasks, /tasks/<id>, …")
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


prepare(tasks, lambda_client)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
