# mypy: ignore-errors
"""What the APIs with pydantic take and answer."""

from typing import Any

from pydantic import BaseModel


class NewTask(BaseModel):
    """A POST's body."""

    description: str


class Accepted(BaseModel):
    """A POST's answer."""

    id: str
    status: str
    message: str


class Event(BaseModel):
    """One line of a timeline."""

    ts: str
    message: str
    type: str


class Task(BaseModel):
    """A task."""

    id: str
    description: str
    status: str
    vendors: list[dict[str, Any]] = []
    quotes: list[dict[str, Any]] = []
    emails_sent: int = 0
    events: list[Event]
    created_at: str
    updated_at: str


class WholeTask(Task):
    """A task with its answer."""

    agent_response: str | None = None
