"""Agents of the Microsoft Agent Framework."""

import json
from collections.abc import AsyncIterator
from typing import Any

from agent_framework import (
    Agent,
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
    WorkflowBuilder,
    tool,
)
from common import ANSWER, FINDING, FOUND, SEARCHING, pieces

REQUIREMENTS = "agent-framework-core==1.23.0"


@tool(approval_mode="never_require")
def find_vendors(city: str) -> str:
    """Finds vendors."""
    return FOUND


@tool(approval_mode="always_require")
def book(vendor: str) -> str:
    """Books a vendor."""
    return "booked"


class Scripted(FunctionInvocationLayer, BaseChatClient):
    def __init__(self, *turns: Any) -> None:
        super().__init__()
        self.turns = list(turns)

    def _contents(self) -> Any:
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        text, calls = turn
        return text, [
            Content.from_function_call(f"c{name}", name, arguments=json.dumps(args))
            for name, args in calls
        ]

    def _inner_get_response(self, *, messages: Any, stream: bool, options: Any, **_: Any) -> Any:
        if stream:

            async def updates() -> AsyncIterator[ChatResponseUpdate]:
                text, calls = self._contents()
                number = len(self.turns)
                for piece in pieces(text):
                    yield ChatResponseUpdate(
                        role="assistant",
                        contents=[Content.from_text(piece)],
                        message_id=f"m{number}",
                        response_id="r",
                    )
                if calls:
                    yield ChatResponseUpdate(
                        role="assistant", contents=calls, message_id=f"m{number}", response_id="r"
                    )

            return ResponseStream(updates(), finalizer=lambda them: ChatResponse.from_updates(them))

        async def whole() -> ChatResponse:
            text, calls = self._contents()
            return ChatResponse(
                messages=[Message("assistant", [Content.from_text(text), *calls])], response_id="r"
            )

        return whole()


def agent(*turns: Any, **options: Any) -> Agent:
    turns = turns or ((SEARCHING, [FINDING]), (ANSWER, []))
    return Agent(
        client=Scripted(*turns), name="finder", **({"tools": [find_vendors, book]} | options)
    )


def failing() -> Agent:
    return agent((SEARCHING, [FINDING]), RuntimeError("The model is on strike."))


def asking() -> Agent:
    return agent((SEARCHING, [("book", {"vendor": "Green Fern"})]))


def returned(give: Any, make: Any = agent) -> Any:
    async def invoke(payload: dict[str, Any]) -> Any:
        return give(await make().run(payload["prompt"]))

    return invoke


def streamed(give: Any = lambda it: it, make: Any = agent) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        async for update in make().run(payload["prompt"], stream=True):
            if (given := give(update)) is not None:
                yield given

    return invoke


def workflow(give: Any) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        writer = agent((ANSWER, []))
        writer.name = "writer"
        finder = agent((SEARCHING, [FINDING]), ("Two vendors work there.", []))
        built = WorkflowBuilder(start_executor=finder).add_edge(finder, writer).build()
        async for event in built.run(payload["prompt"], stream=True):
            yield give(event)

    return invoke


AGENTS = {
    "return response": returned(lambda it: it),
    "return response.text": returned(lambda it: it.text),
    "return response.to_dict()": returned(lambda it: it.to_dict()),
    "return messages as dicts": returned(lambda it: [one.to_dict() for one in it.messages]),
    "return response.to_dict(), approval": returned(lambda it: it.to_dict(), asking),
    "return failing": returned(lambda it: it.text, failing),
    "stream updates": streamed(),
    "stream update.text": streamed(lambda it: it.text or None),
    "stream update.to_dict()": streamed(lambda it: it.to_dict()),
    "stream update.to_dict(), failing": streamed(lambda it: it.to_dict(), failing),
    "stream update.to_dict(), approval": streamed(lambda it: it.to_dict(), asking),
    "stream update.to_json()": streamed(lambda it: it.to_json()),
    "stream workflow": workflow(lambda it: it),
}
