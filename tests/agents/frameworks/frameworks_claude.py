"""Agents of the Claude Agent SDK, whose command-line program is played by a script."""

import json
from collections.abc import AsyncIterator
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ResultMessage,
    TextBlock,
    Transport,
    query,
)
from common import ANSWER, FOUND, SEARCHING, pieces

REQUIREMENTS = "claude-agent-sdk==0.2.189"


def assistant(*content: Any, **more: Any) -> dict[str, Any]:
    message = {
        "id": f"msg_{len(str(content))}",
        "role": "assistant",
        "model": "fake",
        "type": "message",
        "content": list(content),
    }
    return {
        "type": "assistant",
        "message": message,
        "session_id": "s",
        "parent_tool_use_id": None,
    } | more


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def result(**more: Any) -> dict[str, Any]:
    return {
        "type": "result",
        "subtype": "success",
        "duration_ms": 5,
        "duration_api_ms": 4,
        "is_error": False,
        "num_turns": 2,
        "session_id": "s",
        "total_cost_usd": 0.01,
        "usage": {"input_tokens": 1},
        "result": ANSWER,
    } | more


def partial(said: str) -> list[dict[str, Any]]:
    def event(value: Any) -> dict[str, Any]:
        return {
            "type": "stream_event",
            "uuid": "u",
            "session_id": "s",
            "event": value,
            "parent_tool_use_id": None,
        }

    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": one}}
        for one in pieces(said)
    ]
    return [
        event(
            {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": []}}
        ),
        event(
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            }
        ),
        *map(event, deltas),
        event({"type": "content_block_stop", "index": 0}),
        event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        event({"type": "message_stop"}),
    ]


INIT = {
    "type": "system",
    "subtype": "init",
    "session_id": "s",
    "tools": ["Bash"],
    "model": "fake",
    "cwd": "/",
}
USE = {"type": "tool_use", "id": "t1", "name": "find_vendors", "input": {"city": "Charlotte"}}
THINKING = {"type": "thinking", "thinking": "Who is cheap?", "signature": "x"}
BACK = {
    "type": "user",
    "message": {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": FOUND, "is_error": False}
        ],
    },
    "session_id": "s",
    "parent_tool_use_id": None,
}
BROKEN = {
    "type": "user",
    "message": {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "t1",
                "content": "no such city",
                "is_error": True,
            }
        ],
    },
    "session_id": "s",
    "parent_tool_use_id": None,
}
RUN = [
    INIT,
    assistant(THINKING),
    assistant(text(SEARCHING)),
    assistant(USE),
    BACK,
    assistant(text(ANSWER)),
    result(),
]
RUNS = {
    "": RUN,
    "tool that fails": [
        INIT,
        assistant(text(SEARCHING), USE),
        BROKEN,
        assistant(text(ANSWER)),
        result(),
    ],
    "partial": [
        INIT,
        *partial(SEARCHING),
        assistant(text(SEARCHING)),
        assistant(USE),
        BACK,
        *partial(ANSWER),
        assistant(text(ANSWER)),
        result(),
    ],
    "subagent": [
        INIT,
        assistant(text(SEARCHING), USE),
        assistant(text("Two vendors work there."), parent_tool_use_id="t1"),
        BACK,
        assistant(text(ANSWER)),
        result(),
    ],
    "structured": [
        *RUN[:-1],
        result(
            structured_output={"response": ANSWER, "vendors": [{"id": "v1", "name": "Green Fern"}]}
        ),
    ],
    "too many turns": [*RUN[:5], result(subtype="error_max_turns", is_error=True, result=None)],
    "API error": [
        INIT,
        assistant(text("API Error: 529 overloaded_error"), error="server_error"),
        result(is_error=True, result="API Error: 529 overloaded_error"),
    ],
}


class Script(Transport):
    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self.messages = messages
        self.asked: list[dict[str, Any]] = []

    async def connect(self) -> None: ...
    async def write(self, data: str) -> None:
        one = json.loads(data)
        if one.get("type") == "control_request":
            self.asked.append(
                {
                    "type": "control_response",
                    "response": {
                        "subtype": "success",
                        "request_id": one["request_id"],
                        "response": {},
                    },
                }
            )

    async def read_messages(self) -> Any:
        import anyio

        while not self.asked:
            await anyio.sleep(0.01)
        yield self.asked.pop(0)
        for message in self.messages:
            yield message

    async def close(self) -> None: ...
    def is_ready(self) -> bool:
        return True

    async def end_input(self) -> None: ...


async def messages(payload: dict[str, Any], name: str) -> AsyncIterator[Any]:
    async for message in query(
        prompt=payload["prompt"], options=ClaudeAgentOptions(), transport=Script(RUNS[name])
    ):
        yield message


def streamed(give: Any = lambda it: it, name: str = "") -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        async for message in messages(payload, name):
            if (given := give(message)) is not None:
                yield given

    return invoke


def returned(give: Any, name: str = "") -> Any:
    async def invoke(payload: dict[str, Any]) -> Any:
        return give([message async for message in messages(payload, name)])

    return invoke


def raw(name: str) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        for message in RUNS[name]:
            yield message

    return invoke


def texts(message: Any) -> Any:
    if isinstance(message, AssistantMessage):
        return "".join(one.text for one in message.content if isinstance(one, TextBlock)) or None
    return None


AGENTS = {
    "return messages": returned(lambda them: them),
    "return result message": returned(lambda them: them[-1]),
    "return result.result": returned(lambda them: them[-1].result),
    "return texts": returned(lambda them: "\n".join(filter(None, map(texts, them)))),
    "return result message, too many turns": returned(lambda them: them[-1], "too many turns"),
    **{f"stream messages, {name}": streamed(name=name) for name in RUNS},
    **{f"stream what the program says, {name}": raw(name) for name in RUNS},
    "stream str(message)": streamed(str),
    "stream type and text": streamed(
        lambda it: (
            {"type": "text", "text": texts(it)}
            if texts(it)
            else {"type": "result", "result": it.result}
            if isinstance(it, ResultMessage)
            else None
        )
    ),
}
