"""Agents and workflows of LlamaIndex."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import common
from common import ANSWER, FAILING, OBJECT, SEARCHING, TURNS, each, next_of, pieces, same
from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ToolCall
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    LLMMetadata,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step


class Scripted(FunctionCallingLLM):
    """Says what it is told, turn by turn."""

    turns: list[Any]

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_function_calling_model=True, model_name="fake")

    def _prepare_chat_with_tools(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"messages": []}

    def get_tool_calls_from_response(self, response: Any, *_: Any, **__: Any) -> list[Any]:
        return [
            ToolSelection(
                tool_id=one.tool_call_id, tool_name=one.tool_name, tool_kwargs=one.tool_kwargs
            )
            for one in response.message.blocks
            if isinstance(one, ToolCallBlock)
        ]

    def _response(self, text: str, calls: Any = (), delta: str = "") -> ChatResponse:
        blocks = [TextBlock(text=text)] + [
            ToolCallBlock(tool_call_id=f"c{name}", tool_name=name, tool_kwargs=args)
            for name, args in calls
        ]
        return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks), delta=delta)

    async def achat(self, *_: Any, **__: Any) -> ChatResponse:
        return self._response(*next_of(self.turns))

    async def astream_chat(self, *_: Any, **__: Any) -> AsyncIterator[ChatResponse]:
        text, calls = next_of(self.turns)

        async def responses() -> AsyncIterator[ChatResponse]:
            said = ""
            for piece in pieces(text):
                said += piece
                yield self._response(said, delta=piece)
            yield self._response(text, calls)

        return responses()

    def chat(self, *_: Any, **__: Any) -> Any:
        """Is not asked, nor are the others."""

    stream_chat = complete = stream_complete = acomplete = astream_complete = chat


class Finder(FunctionAgent):
    """Adds what its tools did to its last event, which the SDK may have written by then.

    After a stream the SDK is behind and never has; otherwise it is given time, and always has.
    """

    async def finalize(self, *args: Any) -> Any:
        if not self.streaming:
            await asyncio.sleep(100 * common.PAUSE_SECONDS)
        return await super().finalize(*args)


def agent(*turns: Any, **options: Any) -> FunctionAgent:
    """An agent that says these turns."""
    model = Scripted(turns=list(turns or TURNS))
    return Finder(name="finder", tools=[common.find_vendors], llm=model, **options)


structured = partial(agent, structured_output_fn=lambda _: OBJECT)
failing = partial(agent, *FAILING)


class Said(Event):
    """What a workflow says while it works."""

    msg: str


class Own(Workflow):
    """A workflow of one's own."""

    @step
    async def answer(self, ctx: Context, _: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Said(msg=SEARCHING))
        return StopEvent(result=ANSWER)


def own() -> Any:
    """A workflow, as agents are run."""
    made = Own()
    run = made.run
    made.run = lambda _: run()
    return made


def returned(give: Any, make: Any = agent) -> Any:
    """Returns what is given of the output."""

    async def run(prompt: str) -> Any:
        return await make().run(prompt)

    return common.returned(run, give)


def streamed(give: Any = same, make: Any = agent) -> Any:
    """Yields what is given of each event, and of the result."""

    async def events(prompt: str) -> AsyncIterator[Any]:
        handler = make().run(prompt)
        async for event in handler.stream_events():
            yield event
        yield await handler

    return each(events, give)


def chosen(event: Any) -> Any:
    """Texts and tools."""
    if isinstance(event, AgentStream):
        return {"delta": event.delta}
    return {"tool": event.tool_name} if type(event) is ToolCall else None


AGENTS = {
    "return output": returned(same),
    "return str(output)": returned(str),
    "return output.response": returned(lambda it: it.response),
    "return output: structured": returned(same, structured),
    "events": streamed(),
    "events: structured": streamed(make=structured),
    "events: not streaming": streamed(make=partial(agent, streaming=False)),
    "events: failing": streamed(make=failing),
    "events: workflow": streamed(make=own),
    "texts and tools": streamed(chosen),
}
