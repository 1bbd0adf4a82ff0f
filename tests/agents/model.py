"""A model without a network: it says its script, turn by turn, as Converse streams it."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from strands.models.model import Model


@dataclass
class Call:
    """The model calls a tool."""

    name: str
    input: dict[str, Any] = field(default_factory=dict)


# What a model says: a text, a tool call, deltas as they are, for whatever else it can say, the
# reason for which a turn ends if it is not a usual one, an exception.
Block = str | Call | list[dict[str, Any]] | dict[str, str] | Exception
Turn = list[Block] | str | Call | Exception


class ScriptedModel(Model):
    """Says one turn of its script at each call; an exception in it is raised where it stands."""

    def __init__(self, *turns: Turn, name: str = "t") -> None:
        self.turns = [turn if isinstance(turn, list) else [turn] for turn in turns]
        self.name = name
        self.called = 0

    def update_config(self, **model_config: Any) -> None:
        """Has no configuration."""

    def get_config(self) -> dict[str, Any]:
        """Has no configuration."""
        return {"model_id": "scripted"}

    def structured_output(self, *args: Any, **kwargs: Any) -> Any:
        """Is the older way, which no agent here goes."""
        raise NotImplementedError

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Yields the next turn's events."""
        self.called += 1
        turn = self.turns[self.called - 1]
        calls = any(isinstance(block, Call) for block in turn)
        stop = {"stopReason": "tool_use" if calls else "end_turn"}
        yield {"messageStart": {"role": "assistant"}}
        for index, block in enumerate(turn):
            if isinstance(block, Exception):
                raise block
            if isinstance(block, dict):
                stop = block
                continue
            for event in self._events(block, index):
                yield event
        yield {"messageStop": stop}
        usage = {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}
        yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 5}}}

    def _events(self, block: Any, index: int) -> list[dict[str, Any]]:
        start: dict[str, Any] = {}
        deltas: list[dict[str, Any]] = []
        match block:
            case str(text):
                deltas = [{"text": piece} for piece in re.findall(r"\s*\S+\s*", text) or [text]]
            case Call(name, value):
                use = f"{self.name}{self.called}-{index}"
                start = {"toolUse": {"name": name, "toolUseId": use}}
                deltas = [{"toolUse": {"input": piece}} for piece in _halves(value)]
            case [*said]:
                deltas = said
        at = {"contentBlockIndex": index}
        return [
            {"contentBlockStart": {"start": start, **at}},
            *({"contentBlockDelta": {"delta": delta, **at}} for delta in deltas),
            {"contentBlockStop": at},
        ]


def _halves(value: dict[str, Any]) -> list[str]:
    text = json.dumps(value)
    return [text[: len(text) // 2], text[len(text) // 2 :]]
