"""Agents of the Microsoft Agent Framework."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import common
from agent_framework import (
    Agent,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
    tool,
)
from common import ASKING, FAILING, TURNS, each, next_of, pieces, same


@tool(approval_mode="always_require")
def book(vendor: str) -> str:
    """Books a vendor."""
    return "booked"


TOOLS = [tool(common.find_vendors, approval_mode="never_require"), book]


class Scripted(FunctionInvocationLayer, BaseChatClient):
    """Says what it is told, turn by turn."""

    def __init__(self, *turns: Any) -> None:
        super().__init__()
        self.turns = list(turns)

    def _contents(self) -> tuple[list[Content], list[Content]]:
        text, calls = next_of(self.turns)
        uses = [
            Content.from_function_call(f"c{name}", name, arguments=json.dumps(args))
            for name, args in calls
        ]
        return [Content.from_text(piece) for piece in pieces(text)], uses

    def _inner_get_response(self, *, stream: bool, **_: Any) -> Any:
        async def updates() -> AsyncIterator[ChatResponseUpdate]:
            texts, calls = self._contents()
            for one in texts + calls:
                about = {"message_id": f"m{len(self.turns)}", "response_id": "r"}
                yield ChatResponseUpdate(role="assistant", contents=[one], **about)

        async def whole() -> ChatResponse:
            texts, calls = self._contents()
            said = Content.from_text("".join(one.text for one in texts))
            return ChatResponse(messages=[Message("assistant", [said, *calls])], response_id="r")

        if stream:
            return ResponseStream(updates(), finalizer=ChatResponse.from_updates)
        return whole()


def agent(*turns: Any) -> Agent:
    """An agent that says these turns."""
    return Agent(client=Scripted(*(turns or TURNS)), name="finder", tools=TOOLS)


failing = partial(agent, *FAILING)
asking = partial(agent, *ASKING)


def returned(give: Any, make: Any = agent) -> Any:
    """Returns what is given of the response."""
    return common.returned(lambda prompt: make().run(prompt), give)


def streamed(give: Any, make: Any = agent) -> Any:
    """Yields what is given of each update."""
    return each(lambda prompt: make().run(prompt, stream=True), give)


def as_dict(value: Any) -> Any:
    """A response or an update as JSON."""
    return value.to_dict()


AGENTS = {
    "return response": returned(same),
    "return response.to_dict()": returned(as_dict),
    "return response.to_dict(): approval": returned(as_dict, asking),
    "return messages as dicts": returned(lambda it: [one.to_dict() for one in it.messages]),
    "updates": streamed(same),
    "update.to_dict()": streamed(as_dict),
    "update.to_dict(): failing": streamed(as_dict, failing),
    "update.to_dict(): approval": streamed(as_dict, asking),
}
