"""What all agents say, whatever framework they are made with."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

SEARCHING = "Let me look for landscapers."
ANSWER = "I've e-mailed Green Fern and Dogwood Care. Both can come on Friday."
FOUND = "Green Fern and Dogwood Care work in Charlotte."
EARLIER = "Lone Brush painted your fence."  # of an earlier task in the same session
QUESTION = "May I book Green Fern for $240?"
FIND = ("find_vendors", {"city": "Charlotte"})
BOOK = ("book", {"vendor": "Green Fern"})
OBJECT = {"response": ANSWER, "vendors": [{"id": "v1", "name": "Green Fern"}]}
STRIKE = RuntimeError("The model is on strike.")
TURNS = ((SEARCHING, [FIND]), (ANSWER, []))  # texts, and the tools that are called with them


def pieces(text: str) -> list[str]:
    """A text as models stream it, in a few pieces."""
    return re.findall(r"\s*\S+(?:\s+\S+)?", text)


def next_of(turns: list[Any]) -> Any:
    """What a model says next, or how it fails."""
    turn = turns.pop(0)
    if isinstance(turn, Exception):
        raise turn
    return turn


def each(events: Callable[[str], AsyncIterator[Any]], give: Callable[[Any], Any]) -> Any:
    """An entrypoint that yields what is given of each event; None is not yielded."""

    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        async for event in events(payload["prompt"]):
            if (given := give(event)) is not None:
                yield given

    return invoke


def same(value: Any) -> Any:
    """A value as it is."""
    return value


def dumped(value: Any) -> Any:
    """A model of Pydantic's as JSON has it, without what it lacks."""
    return value.model_dump(mode="json", exclude_none=True)


Entrypoint = Callable[[dict[str, Any]], Any]
Chunks = Iterator[Any]
