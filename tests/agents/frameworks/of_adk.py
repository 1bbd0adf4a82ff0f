"""Agents of Google's ADK."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import common
from common import FAILING, FOUND, TURNS, dumped, each, pieces, same
from google.adk.agents import LlmAgent, RunConfig
from google.adk.agents.run_config import StreamingMode
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types


def content(*parts: types.Part, role: str = "model") -> types.Content:
    """A message."""
    return types.Content(role=role, parts=list(parts))


class Scripted(BaseLlm):
    """Says what it is told, turn by turn."""

    turns: list[Any]

    async def generate_content_async(self, _: Any, stream: bool = False) -> AsyncIterator[Any]:
        turn = common.next_of(self.turns)
        if isinstance(turn, LlmResponse):
            yield turn
            return
        text, calls = turn
        for piece in pieces(text) if stream else ():
            yield LlmResponse(content=content(types.Part(text=piece)), partial=True)
        uses = [types.FunctionCall(name=name, args=args) for name, args in calls]
        parts = [types.Part(text="Who is cheap?", thought=True), types.Part(text=text)]
        parts += [types.Part(function_call=use) for use in uses]
        yield LlmResponse(content=content(*parts))


def find_vendors(city: str) -> dict[str, Any]:
    """Finds vendors."""
    return {"status": "success", "report": FOUND}


def agent(*turns: Any) -> LlmAgent:
    """An agent that says these turns."""
    model = Scripted(model="fake", turns=list(turns or TURNS))
    return LlmAgent(name="finder", model=model, tools=[find_vendors])


REFUSAL = LlmResponse(error_code="SAFETY", error_message="The model refused to answer.")
failing = partial(agent, *FAILING)
refused = partial(agent, TURNS[0], REFUSAL)


async def events(
    prompt: str, make: Any = agent, mode: StreamingMode = StreamingMode.NONE
) -> AsyncIterator[Any]:
    """All events of a run."""
    runner = InMemoryRunner(make(), app_name="app")
    session = await runner.session_service.create_session(app_name="app", user_id="u")
    asked = content(types.Part(text=prompt), role="user")
    about = {"user_id": "u", "session_id": session.id, "new_message": asked}
    async for event in runner.run_async(**about, run_config=RunConfig(streaming_mode=mode)):
        yield event


async def all_events(prompt: str) -> list[Any]:
    return [event async for event in events(prompt)]


def streamed(give: Any, make: Any = agent, mode: StreamingMode = StreamingMode.NONE) -> Any:
    """Yields what is given of each event."""
    return each(partial(events, make=make, mode=mode), give)


def camel(event: Any) -> Any:
    """An event as ADK's own server has it."""
    return json.loads(event.model_dump_json(exclude_none=True, by_alias=True))


returned = partial(common.returned, all_events)
AGENTS = {
    "return final text": returned(lambda them: them[-1].content.parts[-1].text),
    "return final content": returned(lambda them: them[-1].content),
    "return events": returned(lambda them: [dumped(one) for one in them]),
    "events": streamed(same),
    "events dumped, streaming": streamed(dumped, mode=StreamingMode.SSE),
    "events in camelCase, streaming": streamed(camel, mode=StreamingMode.SSE),
    "events dumped: failing": streamed(dumped, failing),
    "events dumped: refused": streamed(dumped, refused),
}
