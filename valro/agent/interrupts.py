"""What an agent stopped to ask, from any framework, under AG-UI's names; pure.

https://docs.ag-ui.com/concepts/interrupts
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from valro.agent import events
from valro.agent.events import Event
from valro.agent.messages import Frame, string
from valro.agent.values import Json, from_text

MAX_INTERRUPTS = 20
MAX_INTERRUPTS_BYTES = 16_000

SCHEMAS = ("response_schema", "responseSchema")


def questions(asked: Json) -> list[Event]:
    """The questions in a list, if there are any, in AG-UI's, Strands', LangGraph's or our form."""
    found = []
    for one in asked if isinstance(asked, list) else ():
        given = from_text(one) if isinstance(one, str) else one
        if isinstance(given, dict):
            about = (given.get(key) for key in ("message", "value", "metadata", "reason"))
            schemas = (layer.get(key) for layer in _layers(given) for key in SCHEMAS)
            question = {
                "id": str(given["id"]) if given.get("id") is not None else None,
                "reason": string(given, "name", "reason"),
                "message": next(filter(None, map(_question_text, about)), ""),
                "response_schema": next(filter(None, schemas), None),
            }
            found.append({key: it for key, it in question.items() if it not in (None, "")})
    return [events.Interrupt(found)] if found else []


def _layers(question: Frame) -> Iterator[Frame]:
    """A question, and what its author passed to the framework, which is in one of these fields."""
    yield question
    for key in ("value", "reason", "metadata", "langgraph", "raw"):
        inner = question.get(key)
        inner = from_text(inner) if isinstance(inner, str) else inner
        if isinstance(inner, dict):
            yield from _layers(inner)


def _question_text(value: Json) -> str:
    """What a question says: all its texts and numbers, the one with the question first."""
    if isinstance(value, str):
        inner = from_text(value)
        return _question_text(inner) if inner else value
    if isinstance(value, dict):
        first = ("message", "question", "prompt", "text", "reason", "description")
        keys = dict.fromkeys((*first, *value))
        value = [value[key] for key in keys if key in value and key not in SCHEMAS]
    if isinstance(value, list):
        return " ".join(filter(None, map(_question_text, value)))
    return "" if value is None or isinstance(value, bool) else str(value)


def added(before: list[Frame], asked: Sequence[Frame]) -> list[Frame]:
    """The questions so far and new ones; a repeated one has the same id, or else the same words."""
    after = [*before]
    for one in asked:
        for known in before:
            key = "id" if "id" in known and "id" in one else "message"
            if known.get(key) == one.get(key):
                known.update(one)
                break
        else:
            if len(after) <= MAX_INTERRUPTS:  # enough to see that they are too many
                after.append(dict(one))
    return after
