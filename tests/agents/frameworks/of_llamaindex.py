"""Agents and workflows of LlamaIndex."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import common
from common import ANSWER, FAILING, OBJECT, SEARCHING, TURNS, each, same
from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ToolCall
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, TextBlock, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step


class Scripted(MockFunctionCallingLLM):
    """Says what it is told, turn by turn."""

    turns: list[Any]

    def _response(self, text: str, calls: Any = (), delta: str = "") -> ChatResponse:
        blocks = [TextBlock(text=text)] + [
            ToolCallBlock(tool_call_id=f"c{name}", tool_name=name, tool_kwargs=args)
            for name, args in calls
        ]
        return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks), delta=delta)

    async def achat(self, *_: Any, **__: Any) -> ChatResponse:
        return self._response(*common.next_of(self.turns))

    async def astream_chat(self, *_: Any, **__: Any) -> AsyncIterator[ChatResponse]:
        text, calls = common.next_of(self.turns)

        async def responses() -> AsyncIterator[ChatResponse]:
            said = ""
            for piece in common.pieces(text):
                said += piece
                yield self._response(said, delta=piece)
            yield self._response(text, calls)

        return responses()


def agent(*turns: Any, **options: Any) -> FunctionAgent:
    """An agent that says these turns."""
    model = Scripted(turns=list(turns or TURNS))
    return FunctionAgent(name="finder", tools=[common.find_vendors], llm=model, **options)


structured = partial(agent, structured_output_fn=lambda _: OBJECT)
failing = partial(agent, *FAILING)


class Said(Event):
    """What a workflow says while it works."""

    msg: str


class Own(Workflow):
    """A workflow of one's own, which is run as agents are."""

    def run(self, _: Any) -> Any:
        return super().run()

    @step
    async def answer(self, ctx: Context, _: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Said(msg=SEARCHING))
        return StopEvent(result=ANSWER)


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
    "events: workflow": streamed(make=Own),
    "texts and tools": streamed(chosen),
}
