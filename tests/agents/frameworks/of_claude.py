"""Agents of the Claude Agent SDK, whose command-line program is played by a script."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

from claude_agent_sdk import ClaudeAgentOptions, Transport, query
from common import ANSWER, FOUND, OBJECT, SEARCHING, each, pieces, returned

SESSION = {"session_id": "s", "parent_tool_use_id": None}


def assistant(*content: Any, **more: Any) -> dict[str, Any]:
    """A message of the model's."""
    about = {"id": "msg_1", "role": "assistant", "model": "fake", "type": "message"}
    return {"type": "assistant", "message": about | {"content": [*content]}} | SESSION | more


def result(**more: Any) -> dict[str, Any]:
    """The last message."""
    numbers = {"duration_ms": 5, "duration_api_ms": 4, "num_turns": 2, "total_cost_usd": 0.01}
    about = {"type": "result", "subtype": "success", "is_error": False, "result": ANSWER}
    return about | numbers | SESSION | more


def used(content: str, is_error: bool) -> dict[str, Any]:
    """What a tool gave."""
    block = {"type": "tool_result", "tool_use_id": "t1", "content": content, "is_error": is_error}
    return {"type": "user", "message": {"role": "user", "content": [block]}} | SESSION


def in_pieces(text: str) -> list[dict[str, Any]]:
    """A message in pieces, as ``include_partial_messages`` has it."""
    said = [{"type": "text_delta", "text": one} for one in pieces(text)]
    events = [
        {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": one} for one in said),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]
    return [{"type": "stream_event", "uuid": "u", "event": one} | SESSION for one in events]


INIT = {"type": "system", "subtype": "init", "tools": ["Bash"], "model": "fake"} | SESSION
THOUGHT = assistant({"type": "thinking", "thinking": "Who is cheap?", "signature": "x"})
SAID = assistant({"type": "text", "text": SEARCHING})
USE = {"type": "tool_use", "id": "t1", "name": "find_vendors", "input": {"city": "Charlotte"}}
USED = [assistant(USE), used(FOUND, False)]
ANSWERED = assistant({"type": "text", "text": ANSWER})
SUBAGENT = assistant({"type": "text", "text": "Two work there."}, parent_tool_use_id="t1")
RUNS = {
    "": [INIT, THOUGHT, SAID, *USED, ANSWERED, result()],
    ": tool that fails": [INIT, assistant(USE), used("no such city", True), ANSWERED, result()],
    ": partial": [*in_pieces(SEARCHING), SAID, *USED, *in_pieces(ANSWER), ANSWERED, result()],
    ": subagent": [INIT, assistant(USE), SUBAGENT, used(FOUND, False), ANSWERED, result()],
    ": structured": [INIT, SAID, *USED, result(structured_output=OBJECT)],
    ": too many turns": [SAID, result(subtype="error_max_turns", is_error=True, result=None)],
}


class Script(Transport):
    """Plays the program's part."""

    connect = close = end_input = AsyncMock()

    def __init__(self, run: str) -> None:
        self.run = run
        self.asked: asyncio.Queue[Any] = asyncio.Queue()

    def is_ready(self) -> bool:
        return True

    async def write(self, data: str) -> None:
        """Takes what the SDK asks the program."""
        asked = json.loads(data)
        if asked["type"] == "control_request":
            answer = {"subtype": "success", "request_id": asked["request_id"], "response": {}}
            await self.asked.put({"type": "control_response", "response": answer})

    async def read_messages(self) -> AsyncIterator[Any]:
        """Answers that, then says what it has to say."""
        yield await self.asked.get()
        for message in RUNS[self.run]:
            yield message


def messages(run: str) -> Any:
    """The SDK's messages of a run."""
    return lambda prompt: query(prompt=prompt, options=ClaudeAgentOptions(), transport=Script(run))


async def raw(_: str, run: str) -> AsyncIterator[Any]:
    """What the program says, as it is."""
    for message in RUNS[run]:
        yield message


async def all_messages(prompt: str) -> list[Any]:
    return [message async for message in messages("")(prompt)]


AGENTS = {
    "return messages": returned(all_messages),
    "str(message)": each(messages(""), str),
    **{f"messages{run}": each(messages(run)) for run in RUNS},
    **{f"what the program says{run}": each(partial(raw, run=run)) for run in RUNS},
}
