"""Agents of several frameworks with fake models, each at a path of one server.

python agents.py <port>, in the environment of environments.py, from the root of the project.
"""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from ag_ui.core import RunAgentInput, RunFinishedEvent, RunStartedEvent, TextMessageChunkEvent
from ag_ui_langgraph import LangGraphAgent, add_langgraph_fastapi_endpoint
from ag_ui_strands import StrandsAgent, create_strands_app
from bedrock_agentcore import BedrockAgentCoreApp
from bedrock_agentcore.runtime.ag_ui import AGUIApp
from fastapi import FastAPI
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, AnyMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.tools import tool as langchain_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Mount
from strands import Agent, ToolContext, tool

from tests.agents.model import Call, ScriptedModel

QUESTION = {"message": "May I book Green Fern?", "response_schema": {"type": "boolean"}}
BOOK = {"vendor": "Green Fern"}
LOOKING = "Let me look for landscapers."


def recounted(texts: list[str]) -> str:
    """What a model says that is asked what was said so far."""
    return f"I read: {' / '.join(texts)}" if texts[-1].startswith("What") else ""


# ---- the SDK's servers, and FastAPI's

returning, agui, fastapi = BedrockAgentCoreApp(), AGUIApp(), FastAPI()


@returning.entrypoint
def answer(payload: dict[str, Any]) -> dict[str, Any]:
    return {"response": json.dumps([sorted(payload), payload["prompt"]])}


@agui.entrypoint
async def run(asked: RunAgentInput) -> AsyncIterator[Any]:
    about = {"thread_id": asked.thread_id, "run_id": asked.run_id}
    yield RunStartedEvent(**about)
    said = [str(message.content) for message in asked.messages]
    yield TextMessageChunkEvent(message_id="m-1", delta=f"Heard {' / '.join(said)}")
    yield RunFinishedEvent(**about)


class Asked(BaseModel):
    """What this agent takes; FastAPI refuses a body without a content type, and one that lacks these."""

    prompt: str
    task_id: str


@fastapi.post("/invocations")
def invoke(asked: Asked) -> dict[str, Any]:
    return {"output": {"message": {"role": "assistant", "content": [{"text": asked.prompt}]}}}


# ---- Strands: as AWS's own template for it does it, and by its AG-UI adapter

template = BedrockAgentCoreApp()


class Echo(ScriptedModel):
    """Says the last prompt."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        self.turns = [[messages[-1]["content"][0]["text"]]]
        async for event in super().stream():
            yield event


@template.entrypoint
async def stream(payload: dict[str, Any]) -> AsyncIterator[Any]:
    # It takes messages of Strands' own form, where there are any, before the prompt.
    prompt = payload["messages"] if "messages" in payload else payload.get("prompt", "")
    async for event in Agent(Echo(), callback_handler=None).stream_async(prompt):
        if isinstance(event, dict) and "event" in event:
            yield event


class Asking(ScriptedModel):
    """Has a vendor booked, and says what became of that."""

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        content = messages[-1]["content"][0]
        result = content.get("toolResult", {}).get("content")
        texts = [block.get("text", "-") for one in messages for block in one["content"]]
        said = result[0]["text"] if result else recounted(texts)
        self.called, self.turns = 0, [[said] if said else [LOOKING, Call("book", BOOK)]]
        async for event in super().stream():
            yield event


@tool(context=True)
def book(vendor: str, tool_context: ToolContext) -> str:
    """Books a vendor, if a person agrees."""
    answer = tool_context.interrupt("booking", reason=QUESTION)
    return f"{vendor}: {answer.get('response', answer)}"


strands = create_strands_app(
    StrandsAgent(Agent(Asking(), tools=[book], callback_handler=None), name="finder"),
    path="/invocations",
    cors_enabled=False,
)

# ---- LangGraph, by its AG-UI adapter, with its old way to tell an interrupt and with AG-UI's


class AskingToo(BaseChatModel):
    """The same model for LangChain."""

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, *_: Any, **__: Any) -> "AskingToo":
        return self

    def _generate(self, messages: list[AnyMessage], *_: Any, **__: Any) -> ChatResult:
        return generate_from_stream(self._stream(messages))

    def _stream(self, messages: list[AnyMessage], *_: Any, **__: Any) -> Iterator[Any]:
        call: dict[str, Any] = {"name": "book_too", "args": json.dumps(BOOK), "index": 0}
        calls = [call | {"id": f"call-{len(messages)}"}]
        said = recounted([str(message.content) for message in messages])
        if isinstance(messages[-1], ToolMessage) or said:
            said, calls = said or str(messages[-1].content), []
        message = AIMessageChunk(content=said or LOOKING, tool_call_chunks=calls)
        yield ChatGenerationChunk(message=message)


@langchain_tool
def book_too(vendor: str) -> str:
    """Books a vendor, if a person agrees."""
    answer = interrupt(QUESTION)
    return f"{vendor}: {answer if isinstance(answer, bool) else sorted(answer)}"


def langgraph(streams: bool = True, **options: Any) -> FastAPI:
    model = AskingToo(disable_streaming=not streams)
    graph = create_agent(model, [book_too], checkpointer=InMemorySaver())
    app = FastAPI()
    agent = LangGraphAgent(name="finder", graph=graph, **options)
    add_langgraph_fastapi_endpoint(app, agent, "/invocations")
    return app


SERVERS = {
    "returning": returning,
    "agui": agui,
    "fastapi": fastapi,
    "template": template,
    "strands": strands,
    "langgraph": langgraph(),
    "langgraph-whole": langgraph(streams=False),
    "langgraph-outcome": langgraph(emit_interrupt_outcome=True),
}

if __name__ == "__main__":
    routes = [Mount(f"/{name}", app=app) for name, app in SERVERS.items()]
    uvicorn.run(Starlette(routes=routes), port=int(sys.argv[1]), log_level="warning")
