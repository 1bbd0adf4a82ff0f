"""Agents of PydanticAI."""

import json
from collections.abc import AsyncIterator
from typing import Any

from ag_ui.core import RunAgentInput
from common import ANSWER, EARLIER, FINDING, FOUND, SEARCHING, pieces
from pydantic import BaseModel
from pydantic_ai import Agent, AgentRunResultEvent
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

REQUIREMENTS = "pydantic-ai-slim[ag-ui]==2.68.0"


class Found(BaseModel):
    response: str
    vendors: list[dict[str, Any]]


OBJECT = {"response": ANSWER, "vendors": [{"id": "v1", "name": "Green Fern"}]}


def agent(*turns: Any, **options: Any) -> Agent:
    turns = list(turns or ((SEARCHING, [FINDING]), (ANSWER, [])))

    def next_turn() -> Any:
        turn = turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    def whole(_: Any, info: AgentInfo) -> ModelResponse:
        text, calls = next_turn()
        parts: list[Any] = [ThinkingPart("Hmm, who is cheap?")]
        parts += [TextPart(text)] if text else []
        return ModelResponse(parts=parts + [ToolCallPart(name, args) for name, args in calls])

    async def stream(_: Any, info: AgentInfo) -> AsyncIterator[Any]:
        text, calls = next_turn()
        yield {0: DeltaThinkingPart(content="Hmm, who is cheap?")}
        for piece in pieces(text):
            yield piece
        for number, (name, args) in enumerate(calls):
            yield {number + 2: DeltaToolCall(name=name, json_args=json.dumps(args))}

    made: Agent = Agent(FunctionModel(whole, stream_function=stream), name="finder", **options)

    @made.tool_plain
    def find_vendors(city: str) -> str:
        return FOUND

    return made


def structured() -> Agent:
    return agent((SEARCHING, [FINDING]), ("", [("final_result", OBJECT)]), output_type=Found)


def failing() -> Agent:
    return agent((SEARCHING, [FINDING]), RuntimeError("The model is on strike."))


BEFORE = [
    ModelRequest(parts=[UserPromptPart("Find me a painter")]),
    ModelResponse(parts=[TextPart(EARLIER)]),
]


def returned(give: Any, make: Any = agent, **options: Any) -> Any:
    async def invoke(payload: dict[str, Any]) -> Any:
        return give(await make().run(payload["prompt"], **options))

    return invoke


def streamed(give: Any, make: Any = agent) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        async with make().run_stream_events(payload["prompt"]) as events:
            async for event in events:
                if (given := give(event)) is not None:
                    yield given

    return invoke


def text(delta: bool) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        async with agent().run_stream(payload["prompt"]) as result:
            async for piece in result.stream_text(delta=delta, debounce_by=None):
                yield piece

    return invoke


async def nodes(payload: dict[str, Any]) -> AsyncIterator[Any]:
    async with agent().iter(payload["prompt"]) as run:
        async for node in run:
            yield node


async def partial_outputs(payload: dict[str, Any]) -> AsyncIterator[Any]:
    async with structured().run_stream(payload["prompt"]) as result:
        async for piece in result.stream_output(debounce_by=None):
            yield piece


def run_input(payload: dict[str, Any]) -> RunAgentInput:
    message = {"id": "m", "role": "user", "content": payload["prompt"]}
    return RunAgentInput.model_validate(
        {
            "threadId": "t",
            "runId": "r",
            "state": {},
            "messages": [message],
            "tools": [],
            "context": [],
            "forwardedProps": {},
        }
    )


def agui(encoded: bool) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        from pydantic_ai.ui.ag_ui import AGUIAdapter

        adapter = AGUIAdapter(agent=agent(), run_input=run_input(payload), accept=None)
        events = adapter.run_stream()
        async for event in adapter.encode_stream(events) if encoded else events:
            yield event

    return invoke


async def vercel(payload: dict[str, Any]) -> AsyncIterator[Any]:
    from pydantic_ai.ui.vercel_ai import VercelAIAdapter

    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": payload["prompt"]}]}
    asked = {"trigger": "submit-message", "id": "t", "messages": [message]}
    adapter = VercelAIAdapter(
        agent=agent(), run_input=VercelAIAdapter.build_run_input(json.dumps(asked).encode())
    )
    async for event in adapter.encode_stream(adapter.run_stream()):
        yield event


AGENTS = {
    "return result": returned(lambda it: it),
    "return result.output": returned(lambda it: it.output),
    "return result, structured": returned(lambda it: it, structured),
    "return result.output, structured": returned(lambda it: it.output, structured),
    'return {"output"}': returned(lambda it: {"output": it.output}),
    "return all_messages()": returned(lambda it: it.all_messages()),
    "return all_messages_json()": returned(lambda it: json.loads(it.all_messages_json())),
    "return all_messages_json(), remembering": returned(
        lambda it: json.loads(it.all_messages_json()), message_history=BEFORE
    ),
    "return failing": returned(lambda it: it.output, failing),
    "stream events": streamed(lambda it: it),
    "stream events, no result": streamed(
        lambda it: None if isinstance(it, AgentRunResultEvent) else it
    ),
    "stream events, structured": streamed(lambda it: it, structured),
    "stream events, failing": streamed(lambda it: it, failing),
    "stream text": text(False),
    "stream text, deltas": text(True),
    "stream output, structured": partial_outputs,
    "stream nodes": nodes,
    "AG-UI, encoded": agui(True),
    "AG-UI, events": agui(False),
    "Vercel AI, encoded": vercel,
}
