"""Agents of LlamaIndex."""

from collections.abc import AsyncIterator
from typing import Any

from common import ANSWER, FINDING, FOUND, SEARCHING, pieces
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, FunctionAgent, ToolCall
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    LLMMetadata,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Event, StartEvent, StopEvent, Workflow, step
from pydantic import BaseModel

REQUIREMENTS = "llama-index-core==0.14.25"


class Scripted(FunctionCallingLLM):
    turns: list[Any]

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_function_calling_model=True, model_name="fake")

    def _prepare_chat_with_tools(
        self, tools: Any, user_msg: Any = None, chat_history: Any = None, **_: Any
    ) -> dict[str, Any]:
        return {"messages": chat_history or []}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **_: Any
    ) -> list[ToolSelection]:
        return [
            ToolSelection(
                tool_id=one.tool_call_id, tool_name=one.tool_name, tool_kwargs=one.tool_kwargs
            )
            for one in response.message.blocks
            if isinstance(one, ToolCallBlock)
        ]

    def _turn(self) -> Any:
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    async def achat(self, messages: Any, **_: Any) -> ChatResponse:
        text, calls = self._turn()
        return self._response(text, calls)

    def _response(self, text: str, calls: Any, delta: str = "") -> ChatResponse:
        blocks: list[Any] = [TextBlock(text=text)]
        blocks += [
            ToolCallBlock(tool_call_id=f"c{name}", tool_name=name, tool_kwargs=args)
            for name, args in calls
        ]
        return ChatResponse(message=ChatMessage(role="assistant", blocks=blocks), delta=delta)

    async def astream_chat(self, messages: Any, **_: Any) -> Any:
        text, calls = self._turn()

        async def gen() -> AsyncIterator[ChatResponse]:
            said = ""
            for piece in pieces(text):
                said += piece
                yield self._response(said, [], piece)
            yield self._response(text, calls)

        return gen()

    def chat(self, messages: Any, **_: Any) -> Any:
        raise NotImplementedError

    def stream_chat(self, messages: Any, **_: Any) -> Any:
        raise NotImplementedError

    def complete(self, prompt: str, **_: Any) -> Any:
        raise NotImplementedError

    def stream_complete(self, prompt: str, **_: Any) -> Any:
        raise NotImplementedError

    async def acomplete(self, prompt: str, **_: Any) -> Any:
        raise NotImplementedError

    async def astream_complete(self, prompt: str, **_: Any) -> Any:
        raise NotImplementedError


def find_vendors(city: str) -> str:
    """Finds vendors."""
    return FOUND


class Found(BaseModel):
    response: str
    vendors: list[dict[str, Any]]


def agent(*turns: Any, **options: Any) -> FunctionAgent:
    turns = turns or ((SEARCHING, [FINDING]), (ANSWER, []))
    return FunctionAgent(
        name="finder",
        tools=[FunctionTool.from_defaults(find_vendors)],
        llm=Scripted(turns=list(turns)),
        **({"streaming": True} | options),
    )


def structured() -> FunctionAgent:
    return agent(
        structured_output_fn=lambda _: {
            "response": ANSWER,
            "vendors": [{"id": "v1", "name": "Green Fern"}],
        }
    )


def failing() -> FunctionAgent:
    return agent((SEARCHING, [FINDING]), RuntimeError("The model is on strike."))


def workflow() -> AgentWorkflow:
    return AgentWorkflow(agents=[agent()], root_agent="finder")


def returned(give: Any, make: Any = agent) -> Any:
    async def invoke(payload: dict[str, Any]) -> Any:
        return give(await make().run(payload["prompt"]))

    return invoke


def streamed(give: Any = lambda it: it, make: Any = agent, last: bool = False) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        handler = make().run(payload["prompt"])
        async for event in handler.stream_events():
            if (given := give(event)) is not None:
                yield given
        result = await handler
        if last:
            yield result

    return invoke


class Said(Event):
    msg: str


class Own(Workflow):
    @step
    async def answer(self, ctx: Any, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Said(msg=SEARCHING))
        return StopEvent(result=ANSWER)


async def own(payload: dict[str, Any]) -> AsyncIterator[Any]:
    handler = Own().run()
    async for event in handler.stream_events():
        yield event
    yield await handler


AGENTS = {
    "return output": returned(lambda it: it),
    "return str(output)": returned(str),
    "return output.response": returned(lambda it: it.response),
    "return output.response.content": returned(lambda it: it.response.content),
    'return {"response": str(output)}': returned(lambda it: {"response": str(it)}),
    "return output, structured": returned(lambda it: it, structured),
    "return failing": returned(str, failing),
    "stream events": streamed(),
    "stream events, model_dump": streamed(lambda it: it.model_dump()),
    "stream events and result": streamed(last=True),
    "stream events, structured": streamed(make=structured),
    "stream events, not streaming": streamed(make=lambda: agent(streaming=False)),
    "stream events, failing": streamed(make=failing),
    "stream events, workflow": streamed(make=workflow),
    "stream event.delta": streamed(lambda it: it.delta if isinstance(it, AgentStream) else None),
    "stream chosen": streamed(
        lambda it: (
            {"delta": it.delta}
            if isinstance(it, AgentStream)
            else {"tool": it.tool_name}
            if type(it) is ToolCall
            else None
        )
    ),
    "stream own workflow": own,
}
