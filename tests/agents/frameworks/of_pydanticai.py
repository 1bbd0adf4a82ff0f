"""Agents of PydanticAI, and behind its adapters for AG-UI and the Vercel AI SDK."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import common
from ag_ui.core import RunAgentInput
from common import EARLIER, FAILING, OBJECT, TURNS, each, next_of, pieces, same
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

    model = FunctionModel(whole, stream_function=stream)
    return Agent(model, name="finder", tools=[common.find_vendors], **options)


structured = partial(agent, TURNS[0], ("", [("final_result", OBJECT)]), output_type=common.Found)
failing = partial(agent, *FAILING)


def returned(give: Any, make: Any = agent, **options: Any) -> Any:
    """Returns what is given of the result."""
    return common.returned(lambda prompt: make().run(prompt, **options), give)


def streamed(make: Any = agent) -> Any:
    """Yields each event."""

    async def events(prompt: str) -> AsyncIterator[Any]:
        async with make().run_stream_events(prompt) as stream:
            async for event in stream:
                yield event

    return each(events)


async def text(prompt: str) -> AsyncIterator[Any]:
    """The text, each time all of it that there is."""
    async with agent(TURNS[1]).run_stream(prompt) as result:
        async for piece in result.stream_text(debounce_by=None):
            yield piece


def encoded(adapter: Any) -> AsyncIterator[Any]:
    """An adapter's events as lines of an event stream."""
    return adapter.encode_stream(adapter.run_stream())


def ag_ui(prompt: str) -> AsyncIterator[Any]:
    asked = {"threadId": "t", "runId": "r", "state": {}, "tools": [], "context": []}
    message = {"id": "m", "role": "user", "content": prompt}
    run = RunAgentInput.model_validate(asked | {"forwardedProps": {}, "messages": [message]})
    return encoded(AGUIAdapter(agent=agent(), run_input=run, accept=None))


def vercel(prompt: str) -> AsyncIterator[Any]:
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": prompt}]}
    asked = {"trigger": "submit-message", "id": "t", "messages": [message]}
    run = VercelAIAdapter.build_run_input(json.dumps(asked).encode())
    return encoded(VercelAIAdapter(agent=agent(), run_input=run))


AGENTS = {
    "return result": returned(same),
    "return result.output": returned(lambda it: it.output),
    "return result.output: structured": returned(lambda it: it.output, structured),
    "return all_messages(): remembering": returned(
        lambda it: json.loads(it.all_messages_json()), message_history=BEFORE
    ),
    "events": streamed(),
    "events: structured": streamed(structured),
    "events: failing": streamed(failing),
    "stream_text()": each(text),
    "AG-UI, encoded": each(ag_ui),
    "Vercel AI, encoded": each(vercel),
}
