"""Agents of PydanticAI, and behind its adapters for AG-UI and the Vercel AI SDK."""

import json
from collections.abc import AsyncIterator
from typing import Any

from ag_ui.core import RunAgentInput
from common import EARLIER, FOUND, OBJECT, STRIKE, TURNS, each, next_of, pieces, same
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.ui.ag_ui import AGUIAdapter
from pydantic_ai.ui.vercel_ai import VercelAIAdapter

THOUGHT = "Hmm, who is cheap?"
BEFORE = [
    ModelRequest(parts=[UserPromptPart("Find me a painter")]),
    ModelResponse(parts=[TextPart(EARLIER)]),
]


class Found(BaseModel):
    """What was found."""

    response: str
    vendors: list[dict[str, Any]]


def agent(*script: Any, **options: Any) -> Agent:
    """An agent that says these turns."""
    turns = list(script or TURNS)

    def whole(*_: Any) -> ModelResponse:
        text, calls = next_of(turns)
        said = [TextPart(text)] if text else []
        calls = [ToolCallPart(name, args) for name, args in calls]
        return ModelResponse(parts=[ThinkingPart(THOUGHT), *said, *calls])

    async def stream(*_: Any) -> AsyncIterator[Any]:
        text, calls = next_of(turns)
        yield {0: DeltaThinkingPart(content=THOUGHT)}
        for piece in pieces(text):
            yield piece
        for number, (name, args) in enumerate(calls):
            yield {number + 2: DeltaToolCall(name=name, json_args=json.dumps(args))}

    made: Agent = Agent(FunctionModel(whole, stream_function=stream), name="finder", **options)
    made.tool_plain(find_vendors)
    return made


def find_vendors(city: str) -> str:
    """Finds vendors."""
    return FOUND


def structured() -> Agent:
    """An agent with a structured output."""
    return agent(TURNS[0], ("", [("final_result", OBJECT)]), output_type=Found)


def failing() -> Agent:
    """An agent whose model fails."""
    return agent(TURNS[0], STRIKE)


def returned(give: Any, make: Any = agent, **options: Any) -> Any:
    """Returns what is given of the result."""

    async def invoke(payload: dict[str, Any]) -> Any:
        return give(await make().run(payload["prompt"], **options))

    return invoke


def streamed(make: Any = agent) -> Any:
    """Yields each event."""

    async def events(prompt: str) -> AsyncIterator[Any]:
        async with make().run_stream_events(prompt) as stream:
            async for event in stream:
                yield event

    return each(events, same)


async def text(prompt: str) -> AsyncIterator[Any]:
    """The text, each time all of it that there is."""
    async with agent(TURNS[1]).run_stream(prompt) as result:
        async for piece in result.stream_text(debounce_by=None):
            yield piece


async def outputs(prompt: str) -> AsyncIterator[Any]:
    """The structured output, each time as much as there is."""
    async with structured().run_stream(prompt) as result:
        async for piece in result.stream_output(debounce_by=None):
            yield piece


def ag_ui(is_encoded: bool) -> Any:
    """Yields AG-UI's events, as they are or as lines of an event stream."""
    asked = {"threadId": "t", "runId": "r", "state": {}, "messages": [], "tools": [], "context": []}

    def events(prompt: str) -> AsyncIterator[Any]:
        message = {"id": "m", "role": "user", "content": prompt}
        run = RunAgentInput.model_validate(asked | {"forwardedProps": {}, "messages": [message]})
        adapter = AGUIAdapter(agent=agent(), run_input=run, accept=None)
        return adapter.encode_stream(adapter.run_stream()) if is_encoded else adapter.run_stream()

    return each(events, same)


def vercel(prompt: str) -> AsyncIterator[Any]:
    """The Vercel AI SDK's events, as lines of an event stream."""
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": prompt}]}
    asked = {"trigger": "submit-message", "id": "t", "messages": [message]}
    run = VercelAIAdapter.build_run_input(json.dumps(asked).encode())
    adapter = VercelAIAdapter(agent=agent(), run_input=run)
    return adapter.encode_stream(adapter.run_stream())


def all_messages(result: Any) -> Any:
    """All messages as JSON."""
    return json.loads(result.all_messages_json())


AGENTS = {
    "return result": returned(same),
    "return result.output": returned(lambda it: it.output),
    "return result.output: structured": returned(lambda it: it.output, structured),
    "return all_messages(): remembering": returned(all_messages, message_history=BEFORE),
    "events": streamed(),
    "events: structured": streamed(structured),
    "events: failing": streamed(failing),
    "stream_text()": each(text, same),
    "stream_output(): structured": each(outputs, same),
    "AG-UI, encoded": ag_ui(True),
    "AG-UI": ag_ui(False),
    "Vercel AI, encoded": each(vercel, same),
}
