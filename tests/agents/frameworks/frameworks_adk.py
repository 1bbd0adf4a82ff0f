"""Agents of Google's ADK."""

import json
from collections.abc import AsyncIterator
from typing import Any

from common import ANSWER, EARLIER, FINDING, FOUND, SEARCHING, pieces
from google.adk.agents import LlmAgent, RunConfig, SequentialAgent
from google.adk.agents.run_config import StreamingMode
from google.adk.events import Event
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types

REQUIREMENTS = "google-adk==2.13.0"


class Scripted(BaseLlm):
    turns: list[Any]

    async def generate_content_async(
        self, llm_request: Any, stream: bool = False
    ) -> AsyncIterator[LlmResponse]:
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        if isinstance(turn, LlmResponse):
            yield turn
            return
        text, calls = turn
        if stream:
            for piece in pieces(text):
                yield LlmResponse(
                    content=types.Content(role="model", parts=[types.Part(text=piece)]),
                    partial=True,
                )
        parts = [types.Part(text="Who is cheap?", thought=True)]
        parts += [types.Part(text=text)] if text else []
        parts += [
            types.Part(function_call=types.FunctionCall(name=name, args=args))
            for name, args in calls
        ]
        yield LlmResponse(content=types.Content(role="model", parts=parts))


def find_vendors(city: str) -> dict[str, Any]:
    """Finds vendors."""
    return {"status": "success", "report": FOUND}


def broken(city: str) -> dict[str, Any]:
    """Finds nothing."""
    return {"status": "error", "error_message": "no such city"}


def agent(*turns: Any, **options: Any) -> LlmAgent:
    turns = turns or ((SEARCHING, [FINDING]), (ANSWER, []))
    options = {"name": "finder", "tools": [find_vendors, broken]} | options
    return LlmAgent(model=Scripted(model="fake", turns=list(turns)), **options)


def team() -> SequentialAgent:
    return SequentialAgent(
        name="team",
        sub_agents=[
            agent((SEARCHING, [FINDING]), ("Two vendors work there.", [])),
            agent((ANSWER, []), name="writer", tools=[]),
        ],
    )


def failing() -> LlmAgent:
    return agent((SEARCHING, [FINDING]), RuntimeError("The model is on strike."))


def refused() -> LlmAgent:
    return agent(
        (SEARCHING, [FINDING]),
        LlmResponse(error_code="SAFETY", error_message="The model refused to answer."),
    )


def recovering() -> LlmAgent:
    return agent((SEARCHING, [("broken", {"city": "x"})]), (ANSWER, []))


async def events(
    payload: dict[str, Any], make: Any, mode: StreamingMode, before: bool = False
) -> AsyncIterator[Any]:
    runner = InMemoryRunner(make(), app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="u")
    if before:
        for author, role, text in (
            ("user", "user", "Find me a painter"),
            ("finder", "model", EARLIER),
        ):
            content = types.Content(role=role, parts=[types.Part(text=text)])
            await runner.session_service.append_event(
                session, Event(author=author, content=content)
            )
    asked = types.Content(role="user", parts=[types.Part(text=payload["prompt"])])
    config = RunConfig(streaming_mode=mode)
    async for event in runner.run_async(
        user_id="u", session_id=session.id, new_message=asked, run_config=config
    ):
        yield event


def streamed(
    give: Any = lambda it: it, make: Any = agent, mode: StreamingMode = StreamingMode.NONE
) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        async for event in events(payload, make, mode):
            if (given := give(event)) is not None:
                yield given

    return invoke


def final(give: Any, make: Any = agent) -> Any:
    async def invoke(payload: dict[str, Any]) -> Any:
        last = None
        async for event in events(payload, make, StreamingMode.NONE):
            if event.is_final_response():
                last = event
        return give(last)

    return invoke


async def all_events(payload: dict[str, Any]) -> Any:
    return [event async for event in events(payload, agent, StreamingMode.NONE)]


def dump(event: Any) -> Any:
    return event.model_dump(mode="json", exclude_none=True)


def camel(event: Any) -> Any:
    return json.loads(event.model_dump_json(exclude_none=True, by_alias=True))


SSE = StreamingMode.SSE
AGENTS = {
    "return final text": final(lambda it: it.content.parts[-1].text),
    "return final event": final(lambda it: it),
    "return final content": final(lambda it: it.content),
    "return final camelCase": final(camel),
    "return events": all_events,
    "stream events": streamed(),
    "stream events, streaming": streamed(mode=SSE),
    "stream dumps": streamed(dump),
    "stream dumps, streaming": streamed(dump, mode=SSE),
    "stream camelCase, streaming": streamed(camel, mode=SSE),
    "stream model_dump_json, streaming": streamed(
        lambda it: it.model_dump_json(exclude_none=True, by_alias=True), mode=SSE
    ),
    "stream dumps, team": streamed(dump, team),
    "stream dumps, failing": streamed(dump, failing),
    "stream dumps, refused": streamed(dump, refused),
    "stream dumps, tool that fails": streamed(dump, recovering),
    "stream text": streamed(lambda it: it.content.parts[-1].text if it.partial else None, mode=SSE),
}
