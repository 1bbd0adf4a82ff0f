"""What the API sends, as it comes: dictionaries with these keys. There may be more of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

Status = Literal["pending", "processing", "completed", "error"]


class Event(TypedDict):
    """One line of a task's timeline."""

    ts: str
    message: str
    type: Literal["info", "success", "error"]


class Email(TypedDict, total=False):
    """An e-mail that the agent sent."""

    recipient: str
    subject: str
    body: str
    timestamp: str


class Vendor(TypedDict, total=False):
    """A company that the agent found. Only ``emails`` is always there; the rest is the agent's."""

    id: Any
    name: str
    email: str
    phone: str
    rating: Any
    price: Any
    emails: list[Email]


class Quote(TypedDict, total=False):
    """A price that a vendor asks, as the agent sent it: read either form."""

    vendor_id: Any
    vendor: str
    amount: Any
    price: Any
    currency: str
    text: str


class Interrupt(TypedDict):
    """What an agent asks before it goes on; a reply answers it."""

    id: str
    reason: NotRequired[str]
    message: NotRequired[str]
    response_schema: NotRequired[Any]


class Task(TypedDict):
    """A task with what is known of it by now."""

    id: str
    description: str
    status: Status
    vendors: list[Vendor]
    quotes: list[Quote]
    emails_sent: int
    events: list[Event]
    created_at: str
    updated_at: str
    started_at: NotRequired[str]
    completed_at: NotRequired[str]
    agent_response: NotRequired[str]
    agent_response_truncated: NotRequired[bool]
    error_message: NotRequired[str]
    error_code: NotRequired[str]
    may_have_acted: NotRequired[bool]
    cancel_requested_at: NotRequired[str]
    thread_id: NotRequired[str]
    follows: NotRequired[str]
    followed_by: NotRequired[str]
    interrupts: NotRequired[list[Interrupt]]


class Accepted(TypedDict):
    """What the API says of a task that it has accepted."""

    id: str
    status: Status
    message: str


@dataclass(frozen=True)
class TaskPage:
    """One page of tasks, newest first; ``next`` leads to the next one, and is None on the last."""

    tasks: list[Task]
    next: str | None


def is_final(task: Mapping[str, Any]) -> bool:
    """Whether a task has ended; then nothing in it changes any more."""
    return task["status"] in ("completed", "error")
