"""How the sample agent goes wrong when its prompt says so, for tests and demonstrations.

behaviours.py lists what may stand there.
"""

import asyncio
import base64
import json
import random
import re
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response, StreamingResponse

from local.behaviours import read_behaviour
from local.vendors import build_answer, progress_lines

# Deeper than the 32 levels that DynamoDB takes.
ODD_DEPTH = 40

# Set when a session is stopped or its caller is gone; the runtime keeps it up to date.
stopped_sessions: dict[str, threading.Event] = {}


class SampleAgentError(Exception):
    """A failure that the prompt asked for."""


@dataclass(frozen=True)
class Wish:
    """What a prompt asks to go wrong."""

    behaviour: str
    number: float | None
    prompt: str
    session: str
    payload: dict[str, Any]

    def grant(self) -> Any:
        """Returns what the agent's entrypoint is to return; raises if that is the wish."""
        return _ANSWERS[self.behaviour](self)


def read_wish(payload: dict[str, Any], session: str) -> Wish | None:
    """Returns what the agent itself is to do differently, None if nothing."""
    prompt = payload["prompt"]
    behaviour, number = read_behaviour(prompt)
    return Wish(behaviour, number, prompt, session, payload) if behaviour in _ANSWERS else None


def random_text(size: int) -> str:
    """Returns text of that many bytes that does not compress; the same for the same size."""
    return base64.b64encode(random.Random(size).randbytes(size))[:size].decode()


def odd_answer() -> dict[str, Any]:
    """Returns an answer of values that stores and encoders get wrong."""
    nested: Any = "the bottom"
    for level in range(ODD_DEPTH):
        nested = {"level": level, "in": [nested]}
    vendor = {
        "name": "Ünïcode & Söhne 🌳",
        "email": "odd@example.com",
        "phone": "",
        "price": 199.99,
        "rating": 0.1,
        "big": 12345678901234567890123456789012345678901234567890,
        "tiny": 1e-300,
        "huge": 1e300,
        "none": None,
        "flag": True,
        "empty": [{}, [], ""],
        "nested": nested,
    }
    return {
        "response": 'A line\u2028separated, a par\u2029agraph, a 👩‍🌾, a tab\t and a "quote".',
        "vendors": [vendor],
        "quotes": [{"vendor": vendor["name"], "price": 199.99, "note": ""}],
        "emails": [],
        "emails_sent": 0,
    }


def _fail(_: Wish) -> Any:
    raise SampleAgentError("The sample agent was told to fail.")


async def _fail_midway(wish: Wish) -> AsyncIterator[Any]:
    for line in progress_lines(wish.prompt, build_answer(wish.prompt))[:2]:
        yield {"message": line}
    raise SampleAgentError("The sample agent was told to fail in mid-stream.")


async def _fail_wordless(_: Wish) -> AsyncIterator[Any]:
    """Fails as a library does whose errors say nothing: the SDK then sends an empty text."""
    yield {"message": "Looking for vendors"}
    yield "I have cont"
    raise TimeoutError


async def _stall(wish: Wish) -> AsyncIterator[Any]:
    """Streams one line of progress, then nothing until the time is up or the session ends."""
    yield {"message": "Waiting for a vendor to answer"}
    async for _ in _while_wanted(wish, 0.05):
        pass
    yield build_answer(wish.prompt)


async def _drip(wish: Wish) -> AsyncIterator[Any]:
    """Streams pieces of text, so that no gap is long, until the time is up or the session ends."""
    yield {"message": "Thinking aloud"}
    async for _ in _while_wanted(wish, 0.2):
        yield "Still at it. "


async def _silent(wish: Wish) -> Any:
    """Answers, with all there is, only when the time is up or the session ends."""
    async for _ in _while_wanted(wish, 0.05):
        pass
    return build_answer(wish.prompt)


async def _while_wanted(wish: Wish, pause: float) -> AsyncIterator[None]:
    stopped = stopped_sessions.setdefault(wish.session, threading.Event())
    loop = asyncio.get_running_loop()
    end = loop.time() + (300 if wish.number is None else wish.number)
    # An asyncio.Event would not do: who stops the session is in another event loop.
    while loop.time() < end and not stopped.is_set():
        await asyncio.sleep(pause)
        yield


async def _cut() -> AsyncIterator[bytes]:
    """Sends one event whole and half of the next; the server then drops the connection."""
    yield b'data: {"message": "Looking for vendors"}\n\n'
    yield b'data: {"response": "I have cont'
    # The server must have written these bytes before it learns of the failure.
    await asyncio.sleep(0.05)
    raise SampleAgentError("The sample agent was told to cut its stream.")


async def _pieces(prompt: str) -> AsyncIterator[Any]:
    for word in re.findall(r"\S+\s*", build_answer(prompt)["response"]):
        yield word


async def _only(answer: dict[str, Any]) -> AsyncIterator[Any]:
    yield answer


async def _leak(payload: dict[str, Any]) -> AsyncIterator[Any]:
    """Says all that it was given, which no agent should: there may be a token in it."""
    yield {"message": f"I was given {json.dumps(payload)}"}
    yield {"response": json.dumps(payload), "vendors": [{"name": "A vendor", **payload}]}


async def _strands(prompt: str) -> AsyncIterator[Any]:
    """Streams what a Strands agent yields, as the SDK sends it on.

    What is not JSON there arrives as a JSON string that holds a Python repr, and every piece of
    text arrives twice: once as an event and once as such a repr.
    """
    where = "<strands.agent.agent.Agent object at 0x7f3a5c1d2e50>"
    text = build_answer(prompt)["response"]
    tool = {"name": "getVendors", "toolUseId": "tooluse_1"}
    yield {"init_event_loop": True}
    yield {"start": True}
    yield {"event": {"messageStart": {"role": "assistant"}}}
    yield {"event": {"contentBlockStart": {"start": {"toolUse": tool}}}}
    yield {"event": {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"city": "Charl'}}}}}
    yield f"{{'type': 'tool_use_stream', 'current_tool_use': {tool!r}, 'agent': {where}}}"
    yield {"event": {"contentBlockStop": {}}}
    yield {"event": {"messageStop": {"stopReason": "tool_use"}}}
    yield {"message": {"role": "assistant", "content": [{"toolUse": {**tool, "input": {}}}]}}
    result = {"toolUseId": "tooluse_1", "status": "success", "content": [{"text": "3 vendors"}]}
    yield {"message": {"role": "user", "content": [{"toolResult": result}]}}
    yield {"event": {"messageStart": {"role": "assistant"}}}
    for piece in re.findall(r"\S+\s*", text):
        yield {"event": {"contentBlockDelta": {"delta": {"text": piece}}}}
        yield f"{{'data': {piece!r}, 'delta': {{'text': {piece!r}}}, 'agent': {where}}}"
    yield {"event": {"contentBlockStop": {}}}
    yield {"event": {"messageStop": {"stopReason": "end_turn"}}}
    yield {"event": {"metadata": {"usage": {"inputTokens": 120, "outputTokens": 60}}}}
    message = {"role": "assistant", "content": [{"text": text}]}
    yield {"message": message}
    yield f"{{'result': AgentResult(stop_reason='end_turn', message={message!r}, state={{}})}}"


_STREAM = "text/event-stream"
_ANSWERS: dict[str, Callable[[Wish], Any]] = {
    "fail": _fail,
    "fail-midway": _fail_midway,
    "fail-wordless": _fail_wordless,
    "error": lambda _: {"error": "The vendor directory is closed today."},
    "stall": _stall,
    "drip": _drip,
    "silent": _silent,
    # What becomes of these when their session is stopped is the runtime's doing.
    "graceful": _drip,
    "unstoppable": _drip,
    "cut": lambda _: StreamingResponse(_cut(), media_type=_STREAM),
    "json": lambda wish: build_answer(wish.prompt),
    "text": lambda wish: build_answer(wish.prompt)["response"],
    "pieces": lambda wish: _pieces(wish.prompt),
    "quiet": lambda wish: _only(build_answer(wish.prompt)),
    "odd": lambda _: _only(odd_answer()),
    "huge": lambda wish: _only({"response": random_text(int(wish.number or 1024 * 1024))}),
    "invalid-json": lambda wish: Response(
        json.dumps(build_answer(wish.prompt))[:-20], media_type="application/json"
    ),
    "invalid-utf8": lambda _: Response(b'data: {"response": "caf\xe9"}\n\n', media_type=_STREAM),
    "empty": lambda _: Response(b"", media_type="application/json"),
    "leak": lambda wish: _leak(wish.payload),
    "strands": lambda wish: _strands(wish.prompt),
}
