"""What a task and an answer are: statuses, limits, ids, descriptions, times, events, fitting.

Times are UTC text of fixed width (``2025-10-31T12:00:00.000000Z``), so that the order of the text is
the order of time. Not here: where a task is kept, and who moves it.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from datetime import UTC, datetime
from typing import Any, TypeGuard

Task = dict[str, Any]
Event = dict[str, str]
Answer = dict[str, Any]

# The worker's asynchronous settings. The deadlines below hold only while Lambda is told the same,
# which create-infrastructure.sh does; a test compares the two.
MAXIMUM_EVENT_AGE_SECONDS = 900
MAXIMUM_RETRY_ATTEMPTS = 2
MAX_FUNCTION_SECONDS = 900
DEADLINE_MARGIN_SECONDS = 60
PENDING_SECONDS = MAXIMUM_EVENT_AGE_SECONDS + DEADLINE_MARGIN_SECONDS

PUBLIC_OWNER = "public"
DISPATCH_FAILED = "dispatch_failed"
FINAL_STATUSES = frozenset({"completed", "error"})
MAX_DESCRIPTION_CHARACTERS = 4_000

# Together these keep the largest possible item under DynamoDB's 400 KB.
MAX_EVENT_CHARACTERS = 1_000
MAX_ERROR_CHARACTERS = 2_000
MAX_AGENT_EVENTS = 200
MAX_AGENT_EVENT_BYTES = 64_000
EVENT_OVERHEAD_BYTES = 64  # keys, timestamp, type and DynamoDB's bookkeeping of one event
MAX_INLINE_ANSWER_BYTES = 300_000
CHUNK_CHARACTERS = 87_500  # at most 350 KB of UTF-8
COMMA_BYTES = 1
# A transaction carries 4 MB, a Lambda response 6 MB. What is over them is cut, and said.
MAX_ANSWER_BYTES = 3_500_000
MAX_ANSWER_RESPONSE_BYTES = 5_500_000
ANSWER_PARTS = ("vendors", "quotes", "agent_response")  # in the order in which they are kept

PENDING_EXPIRED = (
    f"The task was not started within {PENDING_SECONDS // 60} minutes and was given up. "
    "The agent was not started, so no vendor was contacted. Please submit the task again."
)
PROCESSING_EXPIRED = (
    "The worker stopped without reporting an outcome. The agent may already have contacted vendors."
)


class InvalidDescription(ValueError):
    """A description that no task can have; the message is fit for the person who wrote it."""


def timestamp(epoch: float) -> str:
    """Epoch seconds as RFC 3339 text in UTC, always 27 characters."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def epoch(ts: str) -> float:
    """The reverse of ``timestamp``; a text without an offset is taken as UTC."""
    moment = datetime.fromisoformat(ts)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def make_event(ts: str, message: str, kind: str = "info") -> Event:
    """One line of a timeline, cut to 1,000 characters."""
    return {"ts": ts, "message": message[:MAX_EVENT_CHARACTERS], "type": kind}


def is_task_id(value: object) -> TypeGuard[str]:
    """Whether a task can have this id: what AgentCore takes as part of a session's, and no ``#``."""
    return isinstance(value, str) and bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", value))


def clean_description(description: object) -> str:
    """The description trimmed; raises InvalidDescription with a sentence for who wrote it."""
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
        raise InvalidDescription("'description' must be text: it holds half of a surrogate pair")
    return trimmed


def fit_answer(answer: Answer) -> tuple[Answer, int]:
    """Cuts an answer to what DynamoDB and a Lambda response can carry; returns the bytes cut too.

    Vendors are kept first, then quotes, then the text; what does not fit is cut at its end.
    """
    kept = {name: answer[name][:0] for name in answer}
    frame = _sizes(kept)
    stored, sent = MAX_ANSWER_BYTES - frame[0], MAX_ANSWER_RESPONSE_BYTES - frame[1]
    cut = 0
    for name in ANSWER_PARTS:
        if name in answer:
            part = kept[name] = _longest_fitting(answer[name], stored, sent)
            stored, sent = stored - _content_sizes(part)[0], sent - _content_sizes(part)[1]
            if len(part) < len(answer[name]):
                cut += _content_sizes(answer[name])[0] - _content_sizes(part)[0]
    return kept, cut


def dumps(value: Any) -> str:
    """JSON without spaces, its text as it is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _longest_fitting(value: Any, stored: int, sent: int) -> Any:
    """The longest beginning of a text or a list whose content fits into both sizes."""

    def is_over(part: Any) -> bool:
        stored_size, sent_size = _content_sizes(part)
        return stored_size > stored or sent_size > sent

    if not is_over(value):
        return value
    if isinstance(value, str):
        lengths = range(1, min(len(value), MAX_ANSWER_BYTES) + 1)
        return value[: bisect_left(lengths, 1, key=lambda length: is_over(value[:length]))]
    for count, element in enumerate(value):  # a huge list costs no more than what is kept of it
        if is_over([element]):
            return value[:count]
        stored_size, sent_size = _content_sizes([element])
        stored, sent = stored - stored_size - COMMA_BYTES, sent - sent_size - COMMA_BYTES
    return value


def _content_sizes(part: Any) -> tuple[int, int]:
    """The sizes of a text or a list, less its quotes or brackets."""
    whole, empty = _sizes(part), _sizes(part[:0])
    return whole[0] - empty[0], whole[1] - empty[1]


def _sizes(value: Any) -> tuple[int, int]:
    """The bytes of a value's JSON in DynamoDB, and in the function's response.

    Lambda's JSON holds the response's JSON as a string, and Python 3.11's runtime escapes every
    character that is not ASCII.
    """
    text = dumps(value)
    return len(text.encode()), len(json.dumps(text))
