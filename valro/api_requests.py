"""What a request to the API asks for, checked; pure. Invalid requests raise HttpError.

Not here: what the API does with it.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from types import NoneType
from typing import Any, NamedTuple

from valro.aws import log_in_parts
from valro.http_events import HttpError, Request, as_object
from valro.tasks import (
    PUBLIC_OWNER,
    STATUSES,
    InvalidDescription,
    Outcome,
    Report,
    clean_description,
    displayed_otherwise,
    redact,
)

MAX_BODY_BYTES = 64 * 1024
MAX_REPORT_BYTES = 4 * 1024 * 1024
MAX_KEY_CHARACTERS = 255
DEFAULT_LIMIT, MAX_LIMIT = 50, 100

# The namespace of the ids that are made from idempotency keys. Changing it invalidates all keys.
KEY_NAMESPACE = uuid.UUID("5b1a2c35-8f0e-4f0e-9a55-0c6a0a1f7d11")


class NewTask(NamedTuple):
    """What a POST asks for; ``answers`` are to the questions of the task that it follows."""

    description: str
    follows: str | None
    answers: dict[str, Any] | None

    def fingerprint(self) -> str:
        """What distinguishes it from another one under the same key."""
        parts = [self.description]
        if self.follows is not None:
            parts.append(json.dumps([self.follows, self.answers], sort_keys=True))
        return ".".join(hashlib.sha256(part.encode()).hexdigest() for part in parts)


def owner_of(request: Request) -> str:
    """Whose tasks a request is about: everybody's without an authorizer, otherwise the token's."""
    given = request.authorizer
    # An HTTP API that sends payload 1.0 says so when a route has no authorizer.
    if not given or given == {"claims": None, "scopes": None}:
        return PUBLIC_OWNER
    claims = as_object(as_object(as_object(given).get("jwt")).get("claims")) or as_object(
        as_object(given).get("claims")
    )
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= 255 or not subject.isprintable():
        raise HttpError("no_subject", "The token names no user ('sub').")
    return f"jwt#{subject}"


def read_new_task(request: Request) -> NewTask:
    """The task in a POST's body; raises HttpError 400 or 413."""
    try:
        value = json.loads(request.content(MAX_BODY_BYTES).decode("utf-8-sig"))
    except UnicodeError as error:
        raise _invalid_body("it is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise _invalid_body("it is not JSON") from error
    if not isinstance(value, dict):
        raise _invalid_body("it is not an object")
    if unknown := sorted(value.keys() - {*NewTask._fields}):
        raise _invalid_body(f"it has the unknown field '{unknown[0][:100]}'")
    if "description" not in value:
        raise _invalid_body("it has no 'description'")
    follows, answers = value.get("follows"), value.get("answers")
    if not isinstance(follows, (str, NoneType)):
        raise _invalid_body("'follows' is not the id of a task")
    if not isinstance(answers, (dict, NoneType)) or (answers is not None and follows is None):
        raise HttpError(
            "invalid_answers", "'answers' must be an object, and needs 'follows' beside it."
        )
    try:
        return NewTask(clean_description(value["description"]), follows, answers)
    except InvalidDescription as error:
        raise HttpError("invalid_description", f"{error}.") from error


def read_report(request: Request, token: str, task_id: str) -> Report:
    """The report in a POST's body, with its token hidden wherever it occurs; raises HttpError."""
    # Only reports need it, and every cold start would pay for it.
    from valro.agent.answers import AgentError, Answer, UnreadableAnswer  # noqa: PLC0415
    from valro.agent.reader import read_answer  # noqa: PLC0415
    from valro.agent.values import InvalidAnswer, parse  # noqa: PLC0415

    try:
        sent = redact(token, parse(request.content(MAX_REPORT_BYTES)))
    except InvalidAnswer as error:
        raise _invalid_report(f"it is {error}") from error
    match sent:
        case {"report_id": str(report_id)} if re.fullmatch(r"[\x21-\x7e]{1,100}", report_id):
            messages = sent.get("messages", [])
        case _:
            raise _invalid_report("'report_id' must be 1 to 100 printable ASCII characters")
    if not isinstance(messages, list) or not all(isinstance(line, str) for line in messages):
        raise _invalid_report("'messages' must be a list of strings")
    answer, failure = sent.get("answer"), sent.get("error")
    if not isinstance(answer, (dict, str, NoneType)) or not isinstance(failure, (str, NoneType)):
        raise _invalid_report("'answer' must be an object or a string, and 'error' a string")
    report = Report(report_id, [line.strip() for line in messages if line.strip()], sent=sent)
    if failure is not None:
        given = answer if isinstance(answer, dict) else {"response": answer or ""}
        answer = given | {"error": failure or "The agent reported a failure."}
    if answer is None:
        return report
    try:
        read, unparsed = read_answer(answer), ""
        report.outcome = Outcome.of(read.task_fields())
    except UnreadableAnswer as error:
        log_in_parts("not understood", sent, task_id=task_id, stack=error.detail)
        raise _invalid_report("its answer cannot be read") from error
    except AgentError as error:
        read, unparsed = error.partial or Answer(""), error.unparsed
        report.outcome = Outcome.of(read.task_fields(), error.code, str(error))
    report.unshown = {
        "not understood": unparsed,
        "e-mails to nobody among the vendors": read.unmatched_emails,
        "vendors and quotes that are not shown as the agent sent them": displayed_otherwise(
            read.task_fields()
        ),
    }
    return report


def read_query(request: Request) -> dict[str, str]:
    """What a list's query asks for; raises HttpError 400."""
    query = {"limit": str(DEFAULT_LIMIT)} | request.query
    if unknown := sorted(query.keys() - {"limit", "cursor", "status"}):
        message = f"There is no query parameter '{unknown[0][:100]}': only limit, cursor, status."
        raise HttpError("invalid_query", message)
    if not re.fullmatch(r"[0-9]{1,3}", query["limit"]) or not 1 <= int(query["limit"]) <= MAX_LIMIT:
        message = f"'limit' must be a whole number from 1 to {MAX_LIMIT}."
        raise HttpError("invalid_limit", message)
    if "status" in query and not STATUSES.issuperset(query["status"].split(",")):
        message = f"'status' must be one or more of {', '.join(sorted(STATUSES))}, comma separated."
        raise HttpError("invalid_status", message)
    return query


def idempotent_id(owner: str, key: str) -> str:
    """The id of the task for an owner's key, so that no table of keys is needed."""
    if not re.fullmatch(r"[\x20-\x7e]+", key) or len(key) > MAX_KEY_CHARACTERS:
        message = f"Idempotency-Key must be 1 to {MAX_KEY_CHARACTERS} printable ASCII characters."
        raise HttpError("invalid_idempotency_key", message)
    return str(uuid.uuid5(KEY_NAMESPACE, json.dumps([owner, key])))


def _invalid_report(reason: str) -> HttpError:
    message = f"This report cannot be used: {reason}. The task continues."
    return HttpError("invalid_report", message)


def _invalid_body(reason: str) -> HttpError:
    message = f'The body cannot be used: {reason}. Send JSON: {{"description": "…"}}'
    return HttpError("invalid_body", message)
