"""What a task and an answer are: statuses, limits, ids, times, timelines, ends, what fits.

Times are UTC text of fixed width (``2025-10-31T12:00:00.000000Z``), so that the order of the text is
the order of time. Not here: where a task is stored, and who changes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self, TypeGuard

Task = dict[str, Any]
Event = dict[str, str]
Answer = dict[str, Any]

# The worker's asynchronous settings. The deadlines below hold only if Lambda has the same ones, from
# template.yaml; a test compares the two.
MAXIMUM_EVENT_AGE_SECONDS = 900
MAXIMUM_RETRY_ATTEMPTS = 2
MAX_FUNCTION_SECONDS = 900
DEADLINE_MARGIN_SECONDS = 60
PENDING_SECONDS = MAXIMUM_EVENT_AGE_SECONDS + DEADLINE_MARGIN_SECONDS
# An agent that reports: how long it may be silent, and its task's longest life after the claim.
# AgentCore's sessions live for 8 hours.
REPORT_SILENCE_SECONDS = 600
MAX_REPORTING_SECONDS = 8 * 3_600 + 600
REPORT_IDS = 32  # so many reports later, a repeated one is still recognized
# How long the worker of a cancelled task has to write its end.
CANCEL_SECONDS = 60

PUBLIC_OWNER = "public"
FINAL_STATUSES = frozenset({"completed", "error"})
STATUSES = FINAL_STATUSES | {"pending", "processing"}
DELETED = "deleted"  # the status of a tombstone, which is not a task any more
MAX_DESCRIPTION_CHARACTERS = 4_000

# What clients may see of a task; the rest is internal. A list leaves out agent_response.
PUBLIC_FIELDS = (
    "id,description,status,vendors,quotes,emails_sent,events,created_at,updated_at,thread_id"
).split(",")
PUBLIC_FIELDS_ONCE_KNOWN = (
    "agent_response,agent_response_truncated,error_message,error_code,may_have_acted,"
    "cancel_requested_at,started_at,completed_at,follows,followed_by,interrupts"
).split(",")
# Fields that pages know: of this type, or not shown. A plain text is taken as the first of them.
KNOWN_FIELDS: dict[str, dict[str, type]] = {
    "vendors": dict.fromkeys(("name", "email", "phone"), str)
    | dict.fromkeys(("id", "rating", "price"), object),
    "quotes": dict.fromkeys(("text", "vendor", "currency"), str)
    | dict.fromkeys(("vendor_id", "amount", "price"), object),
    "emails": dict.fromkeys(("body", "recipient", "subject", "timestamp"), str),
}

FIELDS_OF_END = (
    "id,status,error_code,may_have_acted,description,emails_sent,follows,created_at,started_at,"
    "completed_at"
).split(",")

# The ways in which a task ends as error.
CANCELLED = "cancelled"
DISPATCH_FAILED = "dispatch_failed"
NOT_STARTED = "not_started"
NOT_CONFIGURED = "not_configured"
WORKER_LOST = "worker_lost"
AGENT_FAILED = "agent_failed"
AGENT_LOST = "agent_lost"
AGENT_TIMEOUT = "agent_timeout"
ANSWER_TOO_LARGE = "answer_too_large"
NEVER_STARTED = frozenset({DISPATCH_FAILED, NOT_STARTED, NOT_CONFIGURED})
# Ends after which nobody knows whether the agent's session has ended too.
UNSEEN_ENDS = frozenset({CANCELLED, WORKER_LOST, AGENT_LOST, AGENT_TIMEOUT})

# Together these keep the largest possible item under DynamoDB's 400 KB.
MAX_EVENT_CHARACTERS = 1_000
MAX_ERROR_CHARACTERS = 2_000
MAX_AGENT_EVENTS = 200
MAX_AGENT_EVENT_BYTES = 64_000
EVENT_OVERHEAD_BYTES = 64  # keys, timestamp, type and DynamoDB's bookkeeping of one event
MAX_INLINE_ANSWER_BYTES = 200_000
CHUNK_CHARACTERS = 87_500  # at most 350 KB of UTF-8
COMMA_BYTES = 1
# A transaction carries 4 MB, a Lambda response 6 MB. What exceeds them is cut, and an event says so.
MAX_ANSWER_BYTES = 3_500_000
MAX_ANSWER_RESPONSE_BYTES = 5_500_000
MIN_ANSWER_BYTES = 1_000  # DynamoDB does not refuse shorter ones
ANSWER_PARTS = ("vendors", "quotes", "agent_response")  # in the order in which they are kept

CANCELLED_UNSTARTED = "Cancelled before the agent was started"
MAY_HAVE_ACTED = "The agent may already have contacted vendors."
UNSTARTED = "The agent was not started, so no vendor was contacted."
# What a reader writes when it ends a task whose deadline is past.
EXPIRED = {
    CANCELLED: f"Cancelled. {MAY_HAVE_ACTED}",
    NOT_STARTED: f"The task was not started within {PENDING_SECONDS // 60} minutes and was given "
    f"up. {UNSTARTED} Please submit the task again.",
    WORKER_LOST: f"The worker stopped without reporting an outcome. {MAY_HAVE_ACTED}",
    AGENT_LOST: f"The agent stopped reporting. {MAY_HAVE_ACTED}",
    AGENT_TIMEOUT: f"The agent did not finish within 8 hours. {MAY_HAVE_ACTED}",
}


ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))


class InvalidDescription(ValueError):
    """A description that no task can have; the message is meant for the person who wrote it."""


def timestamp(epoch: float) -> str:
    """Epoch seconds as RFC 3339 text in UTC, always 27 characters."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def epoch(ts: str) -> float:
    """The reverse of ``timestamp``; text without an offset is taken as UTC."""
    moment = datetime.fromisoformat(ts)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def make_event(ts: str, message: str, kind: str = "info") -> Event:
    """One line of a timeline, cut to 1,000 characters."""
    return {"ts": ts, "message": message[:MAX_EVENT_CHARACTERS], "type": kind}


def is_task_id(value: object) -> TypeGuard[str]:
    """Whether a task can have this id: what AgentCore accepts in a session's id, and no ``#``."""
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", value))


def clean_description(description: object) -> str:
    """The description, trimmed; raises InvalidDescription with a sentence for its author."""
    if not isinstance(description, str):
        raise InvalidDescription("'description' must be a string")
    trimmed = description.strip()
    if not trimmed:
        raise InvalidDescription("'description' must not be blank")
    if len(trimmed) > MAX_DESCRIPTION_CHARACTERS:
        raise InvalidDescription(
            f"'description' must be at most {MAX_DESCRIPTION_CHARACTERS:,} characters, "
            f"not {len(trimmed):,}"
        )
    if re.search("[\ud800-\udfff]", trimmed):
        raise InvalidDescription(
            "'description' must be valid text: it contains half of a surrogate pair"
        )
    return trimmed


def new_task(task_id: str, description: str, owner: str, now: float, ttl_days: int) -> Task:
    """A pending task; without ``ttl_days`` it is kept for ever."""
    ts = timestamp(now)
    return {
        "id": task_id,
        "owner": owner,
        "description": clean_description(description),
        "status": "pending",
        "events": [make_event(ts, "Task created")],
        "event_seq": 1,
        "created_at": ts,
        "updated_at": ts,
        "deadline": timestamp(now + PENDING_SECONDS),
    } | ({"expires_at": int(now) + ttl_days * 86_400} if ttl_days else {})


@dataclass
class Timeline:
    """The end of a task's timeline: how many events it has, and the lines not yet written."""

    event_seq: int
    last_ts: str
    noted: int = 0
    noted_bytes: int = 0
    unwritten: list[Event] = field(default_factory=list)

    @classmethod
    def of(cls, task: Task) -> Self:
        """The timeline of a task as it was read."""
        noted, size = task.get("noted", 0), task.get("noted_bytes", 0)
        return cls(task["event_seq"], task["updated_at"], noted, size)

    def counters(self) -> dict[str, int]:
        """What is stored with the task, so that whoever continues goes on counting."""
        return {"noted": self.noted, "noted_bytes": self.noted_bytes}

    def line(self, ts: str, message: str, kind: str = "info") -> Event:
        """Makes the timeline's next line; a clock that was set back does not change the order."""
        self.last_ts = max(ts, self.last_ts)
        return make_event(self.last_ts, message, kind)

    def add_progress(self, ts: str, message: str) -> None:
        """Adds what the agent says, up to 200 lines and 64 KB, then one line that says so."""
        if self.noted > MAX_AGENT_EVENTS:
            return
        event = self.line(ts, message)
        size = len(event["message"].encode()) + EVENT_OVERHEAD_BYTES
        self.noted += 1
        self.noted_bytes += size
        if self.noted > MAX_AGENT_EVENTS or self.noted_bytes > MAX_AGENT_EVENT_BYTES:
            self.noted = MAX_AGENT_EVENTS + 1
            event = self.line(ts, "further progress not recorded")
        self.unwritten.append(event)

    def mark_written(self, written: int) -> None:
        """Marks the first ``written`` of the unwritten lines as stored."""
        del self.unwritten[:written]
        self.event_seq += written


@dataclass(frozen=True)
class Outcome:
    """How a task ends: as completed, or as error if there is an ``error_code``.

    ``parts`` is what is kept of the agent's answer, ``cut`` how many bytes of it are not.
    ``session_open``: nobody will stop the completed task's session, so a follow-up may run in it.
    """

    parts: Answer = field(default_factory=dict)
    emails_sent: int = 0
    cut: int = 0
    error_code: str = ""
    error_message: str = ""
    may_have_acted: bool = True
    interrupts: Sequence[Mapping[str, Any]] = ()
    message_id: str = ""
    session_open: bool = False

    @classmethod
    def of(
        cls,
        answer: Answer,
        error_code: str = "",
        error_message: str = "",
        *,
        session_open: bool = True,
    ) -> Self:
        """Fits an answer (the fields in ``ANSWER_PARTS`` and in this class), which takes a while."""
        parts, cut = fit_answer({name: answer[name] for name in ANSWER_PARTS if name in answer})
        return cls(
            parts,
            answer.get("emails_sent", 0),
            cut,
            error_code,
            error_message,
            error_code not in NEVER_STARTED,
            answer.get("interrupts", ()),
            answer.get("message_id", ""),
            session_open,
        )

    def shorter(self) -> Outcome:
        """The same with half as much of the answer, or without it if next to nothing is left."""
        size = _sizes(self.parts)[0]
        if size < MIN_ANSWER_BYTES:
            message = f"The agent's answer cannot be kept. {MAY_HAVE_ACTED}"
            return Outcome(error_code=ANSWER_TOO_LARGE, error_message=message)
        parts, cut = fit_answer(self.parts, size // 2)
        return replace(self, parts=parts, cut=self.cut + cut)

    def cancelled(self) -> Self:
        """The same for a task whose cancellation was requested meanwhile."""
        known = MAY_HAVE_ACTED if self.may_have_acted else UNSTARTED
        return replace(self, error_code=CANCELLED, error_message=f"Cancelled. {known}")

    def answer(self) -> Answer:
        """What is kept of the agent's answer, with its number of e-mails; empty if there is none."""
        asked = {"interrupts": self.interrupts} if self.interrupts else {}
        return self.parts and self.parts | {"emails_sent": self.emails_sent} | asked

    def attributes(self) -> dict[str, Any]:
        """What is stored with the task, except for the answer."""
        kept: dict[str, Any] = {"status": "completed", "emails_sent": self.emails_sent}
        if self.error_code:
            message = self.error_message[:MAX_ERROR_CHARACTERS]
            kept |= {"status": "error", "error_code": self.error_code, "error_message": message}
            kept["may_have_acted"] = self.may_have_acted
        else:
            kept |= {"session_open": True} if self.session_open else {}
            kept |= {"interrupts": dumps(self.interrupts)} if self.interrupts else {}
        kept |= {"message_id": self.message_id} if self.message_id else {}
        return kept | ({"agent_response_truncated": True} if self.cut else {})

    def message(self) -> str:
        """What happened to the task, in a sentence."""
        return self.error_message or "Agent completed task successfully"

    def lines(self) -> list[tuple[str, str]]:
        """The last lines of the timeline: messages and their types."""
        cut = f"The agent's answer was too long: {self.cut:,} bytes of it were cut"
        lines = [(cut, "info")] if self.cut else []
        if not self.error_code:
            lines += [(f"The agent asks: {question_in(one)}", "info") for one in self.interrupts]
        prefix = "Agent error: " if self.error_code not in ("", CANCELLED) else ""
        last = (f"{prefix}{self.message()}", "error" if self.error_code else "success")
        return [*lines, last]


@dataclass
class Report:
    """One report of an agent; an ``outcome`` ends the task.

    For the log: ``sent`` is all of it, ``unshown`` what is not shown of an answer, by name.
    """

    id: str
    messages: Sequence[str] = ()
    outcome: Outcome | None = None
    sent: Any = None
    unshown: dict[str, Any] = field(default_factory=dict)

    def is_too_late(self, task: Task, now: str) -> bool:
        """Whether the task is over, so that the report comes too late.

        A silence that nobody has noticed is forgiven, and the answer of a cancelled agent is kept.
        """
        code = expiry_code(task, now)
        if code == AGENT_LOST or (code == CANCELLED and self.outcome):
            return now > str(task.get("report_until", now))
        return bool(code)

    def apply_to(self, task: Task, now: float) -> tuple[dict[str, Any], Timeline, Outcome | None]:
        """What is stored of it, the timeline with it, and how the task ends, if it does."""
        timeline = Timeline.of(task)
        for message in self.messages:
            timeline.add_progress(timestamp(now), message)
        attributes = {
            "report_ids": [*task["report_ids"], self.id][-REPORT_IDS:],
            "deadline": min(timestamp(now + REPORT_SILENCE_SECONDS), task["report_until"]),
        } | timeline.counters()
        outcome = self.outcome
        if outcome and "cancel_requested_at" in task:
            outcome = outcome.cancelled()
        return attributes, timeline, outcome


def expiry_code(task: Mapping[str, Any], now: str) -> str:
    """The error_code with which a reader ends a task at ``now``; empty if it may go on.

    A task that something else wrote may lack any field: then its deadline follows from its creation.
    """
    status, requested = task.get("status"), task.get("cancel_requested_at")
    if status not in ("pending", "processing"):
        return ""
    usual = PENDING_SECONDS + (MAX_FUNCTION_SECONDS if status == "processing" else 0)
    deadline = _later(str(task.get("deadline")), 0) or _later(str(task.get("created_at")), usual)
    if requested and now > min(_later(str(requested), CANCEL_SECONDS), deadline):
        return CANCELLED
    if now <= deadline:
        return ""
    if status == "pending":
        return NOT_STARTED
    if "last_report" not in task:
        return WORKER_LOST
    return AGENT_TIMEOUT if task.get("deadline") == task.get("report_until") else AGENT_LOST


def may_run_on(task: Mapping[str, Any]) -> bool:
    """Whether the agent of a task that has ended, or was deleted, may still be working.

    A worker that waits for its agent also stops it, unless the worker is lost.
    """
    code = task.get("error_code")
    is_alone = code in (CANCELLED, WORKER_LOST) or "last_report" in task
    is_unseen = is_alone and code in UNSEEN_ENDS and "started_at" in task
    return is_unseen or (task.get("status") == DELETED and "session" in task)


def duration_fields(task: Mapping[str, Any], now: float) -> dict[str, int]:
    """How long a task's run has taken until ``now``, for the log; empty if it was not claimed."""
    with suppress(KeyError, TypeError, ValueError):
        return {"duration_ms": round((now - epoch(task["started_at"])) * 1000)}
    return {}


def told_of_end(task: Task) -> dict[str, Any]:
    """The event that announces a task's end, without the answer, which belongs to its owner."""
    told = {name: task[name] for name in FIELDS_OF_END if name in task}
    told["thread_id"] = task.get("thread_id", task["id"])
    told["user_id"] = task["owner"].partition("#")[2]  # jwt#<sub>; empty if all are public
    return told | {"interrupts": len(task.get("interrupts", ()))}


def public_task(task: Task) -> dict[str, Any]:
    """What a client may see of a task: nothing internal, and null means absent."""
    given: Task = {"vendors": [], "quotes": [], "emails_sent": 0, "events": []}
    given |= {"thread_id": task["id"]}  # its own, unless it follows another task
    given |= _without_nulls(task)
    names = (*PUBLIC_FIELDS, *PUBLIC_FIELDS_ONCE_KNOWN)
    shown = {name: given[name] for name in names if name in given}
    if task["status"] == "error":  # tasks of an older version say it only in their sentences
        shown.setdefault("may_have_acted", task.get("error_code") not in NEVER_STARTED)
    return shown | {name: displayable(name, shown[name]) for name in ("vendors", "quotes")}


def displayable(kind: str, sent: Any) -> list[dict[str, Any]]:
    """An agent's vendors, quotes or e-mails in the form that pages rely on: objects, of known types.

    A number becomes text where text is expected. Whatever else does not fit is left out, as is null.
    """
    known, shown = KNOWN_FIELDS[kind], []
    for one in sent if isinstance(sent, list) else [sent]:
        fields = {**one} if isinstance(one, dict) else {next(iter(known)): one}
        for name in [one for one in fields if not isinstance(fields[one], str) and one in known]:
            if fields[name] is None or known[name] is str:
                value = fields.pop(name)
                fields |= {name: dumps(value)} if type(value) in (int, float) else {}
        if kind == "vendors":
            emails = fields.get("emails")
            fields["emails"] = [] if emails is None else displayable("emails", emails)
        shown += [fields] if fields or isinstance(one, dict) else []
    return shown


def displayed_otherwise(answer: Answer) -> list[dict[str, Any]]:
    """The vendors and quotes of an answer that are not displayed as they were sent, for the log."""
    sent = [(kind, one) for kind in ("vendors", "quotes") for one in answer.get(kind, ())]
    shown = [_without_nulls(displayable(kind, [one])[0]) for kind, one in sent]
    return [
        one for (_, one), other in zip(sent, shown, strict=True) if _without_nulls(one) != other
    ]


def _without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def question_in(interrupt: Mapping[str, Any]) -> str:
    """The question of an agent that stopped to ask, for the person who is to answer."""
    return interrupt.get("message") or "The agent needs an answer before it can continue"


def redact(secret: str, value: Any) -> Any:
    """A JSON value with ``[token]`` in place of a secret, wherever it occurs."""
    if not secret or secret not in (text := dumps(value)):
        return value
    return json.loads(text.replace(secret, "[token]"))


def fit_answer(answer: Answer, room: int = 0) -> tuple[Answer, int]:
    """Cuts an answer to what DynamoDB and a Lambda response can carry; also returns the bytes cut.

    Vendors are kept first, then quotes, then the text; what does not fit is cut at its end.
    A smaller ``room`` is for answers that DynamoDB has refused.
    """
    kept = {name: answer[name][:0] for name in answer}
    frame = _sizes(kept)
    stored, sent = (room or MAX_ANSWER_BYTES) - frame[0], MAX_ANSWER_RESPONSE_BYTES - frame[1]
    cut = 0
    for name in ANSWER_PARTS:
        if name in answer:
            size = _content_sizes(answer[name])
            part = answer[name]
            if size[0] > stored or size[1] > sent:
                part = _longest_fitting(part, stored, sent)
                cut += size[0]
                size = _content_sizes(part)
                cut -= size[0]
            kept[name] = part
            stored, sent = stored - size[0], sent - size[1]
    return kept, cut


def dumps(value: Any) -> str:
    """JSON without spaces, and without escaping."""
    return ENCODER.encode(value)


def size_as_json(text: str) -> int:
    """The size in bytes of JSON text as a string inside JSON, as Lambda counts a response.

    Python 3.11's runtime escapes every character that is not printable ASCII.
    """
    if text.isascii():
        return len(text) + text.count('"') + text.count("\\") + 5 * text.count("\x7f") + 2
    return len(json.dumps(text))


def _later(ts: str, seconds: int) -> str:
    """A time some seconds after another one; empty, which sorts first, if that is not a time."""
    try:
        return timestamp(epoch(ts) + seconds)
    except ValueError:
        return ""


def _longest_fitting(value: Any, stored: int, sent: int) -> Any:
    """The longest beginning of a text or list whose content fits into both sizes.

    Each step measures half of what is in doubt, so all of it costs about one pass over the value.
    """
    kept, most = 0, min(len(value), stored)
    while kept < most:
        middle = (kept + most + 1) // 2
        stored_size, sent_size = _content_sizes(value[kept:middle])
        comma = COMMA_BYTES if kept and isinstance(value, list) else 0
        if stored_size + comma > stored or sent_size + comma > sent:
            most = middle - 1
        else:
            kept, stored, sent = middle, stored - stored_size - comma, sent - sent_size - comma
    return value[:kept]


def _content_sizes(part: Any) -> tuple[int, int]:
    """The sizes of a text or list without its quotes or brackets."""
    stored, sent = _sizes(part)
    empty_stored, empty_sent = _sizes(part[:0])
    return stored - empty_stored, sent - empty_sent


def _sizes(value: Any) -> tuple[int, int]:
    """The size in bytes of a value's JSON, in DynamoDB and in the function's response."""
    text = dumps(value)
    return len(text.encode()), size_as_json(text)
