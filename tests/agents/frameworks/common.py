"""What all agents say, whatever framework they are made with."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from pydantic import BaseModel

SEARCHING = "Let me look for landscapers."
ANSWER = "I've e-mailed Green Fern and Dogwood Care. Both can come on Friday."
FOUND = "Green Fern and Dogwood Care work in Charlotte."
EARLIER = "Lone Brush painted your fence."  # of an earlier task in the same session
QUESTION = "May I book Green Fern for $240?"
FIND = ("find_vendors", {"city": "Charlotte"})
BOOK = ("book", {"vendor": "Green Fern"})
OBJECT = {"response": ANSWER, "vendors": [{"id": "v1", "name": "Green Fern"}]}
STRIKE = RuntimeError("The model is on strike.")
# Texts, and the tools that are called with them.
TURNS = ((SEARCHING, [FIND]), (ANSWER, []))
FAILING = (TURNS[0], STRIKE)
ASKING = ((SEARCHING, [BOOK]),)
# The SDK writes an event on one thread while a framework, on another, goes on to change what is in it.
PAUSE_SECONDS = 0.001


class Found(BaseModel):
    """What was found."""

    response: str
    vendors: list[dict[str, Any]]


def find_vendors(city: str) -> str:
    """Finds vendors."""
    return FOUND


def pieces(text: str) -> list[str]:
    """A text as models stream it, in a few pieces."""
    return re.findall(r"\s*\S+(?:\s+\S+)?", text)


def next_of(turns: list[Any]) -> Any:
    """What a model says next, or how it fails."""
    turn = turns.pop(0)
    if isinstance(turn, Exception):
        raise turn
    return turn


def same(value: Any) -> Any:
    return value


def dumped(value: Any) -> Any:
    """A model of Pydantic's as JSON has it, without what it lacks."""
    return value.model_dump(mode="json", exclude_none=True)


def each(events: Callable[[str], AsyncIterator[Any]], give: Callable[[Any], Any] = same) -> Any:
    """An entrypoint that yields what is given of each event; None is not yielded."""

    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        async for event in events(payload["prompt"]):
            if (given := give(event)) is not None:
                yield given
                await asyncio.sleep(PAUSE_SECONDS)

    return invoke


def returned(run: Callable[[str], Awaitable[Any]], give: Callable[[Any], Any] = same) -> Any:
    """An entrypoint that returns what is given of the result."""

    async def invoke(payload: dict[str, Any]) -> Any:
        return give(await run(payload["prompt"]))

    return invoke
