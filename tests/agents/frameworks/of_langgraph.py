"""Agents of LangGraph and LangChain."""

import json
from collections.abc import AsyncIterator
from typing import Any, TypedDict

from common import (
    ANSWER,
    BOOK,
    EARLIER,
    FIND,
    FOUND,
    OBJECT,
    QUESTION,
    SEARCHING,
    STRIKE,
    TURNS,
    Chunks,
    each,
    next_of,
    pieces,
    same,
)
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel

CONFIG = {"configurable": {"thread_id": "t-1"}}


class Scripted(BaseChatModel):
    """Says what it is told, turn by turn; in content blocks, as some providers do."""

    turns: list[Any]
    in_blocks: bool = False

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, *_: Any, **__: Any) -> "Scripted":
        return self

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text, "index": 0}] if self.in_blocks else text

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        text, calls = next_of(self.turns)
        calls = [{"name": name, "args": args, "id": f"c{name}"} for name, args in calls]
        message = AIMessage(content=self._content(text), tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, *_: Any, **__: Any) -> Chunks:
        text, calls = next_of(self.turns)
        for piece in pieces(text):
            yield ChatGenerationChunk(message=AIMessageChunk(content=self._content(piece)))
        chunks = [
            {"name": name, "args": json.dumps(args), "id": f"c{name}", "index": number}
            for number, (name, args) in enumerate(calls)
        ]
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=chunks))


@tool
def find_vendors(city: str) -> str:
    """Finds vendors."""
    return FOUND


@tool
def book(vendor: str) -> str:
    """Books a vendor, if a person agrees."""
    return str(interrupt({"question": QUESTION}))


@tool
def slow_search(city: str) -> str:
    """Searches and says how far it is."""
    get_stream_writer()({"progress": "Asked the first directory"})
    return FOUND


class Found(BaseModel):
    """What was found."""

    response: str
    vendors: list[dict[str, Any]]


def agent(*turns: Any, in_blocks: bool = False, **options: Any) -> Any:
    """An agent that says these turns."""
    model = Scripted(turns=list(turns or TURNS), in_blocks=in_blocks)
    return create_agent(model, [find_vendors, book, slow_search], name="finder", **options)


def remembering(**options: Any) -> Any:
    """An agent that had another conversation in this session before."""
    made = agent(checkpointer=InMemorySaver(), **options)
    before = [HumanMessage("Find me a painter", id="t-0"), AIMessage(EARLIER, id="m-0")]
    made.update_state(CONFIG, {"messages": before}, as_node="model")
    return made


def asking() -> Any:
    """An agent that stops to ask."""
    return agent((SEARCHING, [BOOK]), checkpointer=InMemorySaver())


def failing(**options: Any) -> Any:
    """An agent whose model fails."""
    return agent(TURNS[0], STRIKE, **options)


def saying() -> Any:
    """An agent whose tool says how far it is."""
    return agent((SEARCHING, [("slow_search", FIND[1])]), TURNS[1], checkpointer=InMemorySaver())


def structured(**options: Any) -> Any:
    """An agent with a structured response."""
    return agent(
        TURNS[0], ("", [("Found", OBJECT)]), response_format=ToolStrategy(Found), **options
    )


def in_blocks() -> Any:
    """An agent whose model gives content blocks."""
    return agent(in_blocks=True)


def two_agents() -> Any:
    """Two agents as nodes of a graph."""
    graph = StateGraph(MessagesState)
    graph.add_node("finder", agent(TURNS[0], ("Two vendors work there.", [])))
    graph.add_node("writer", agent((ANSWER, [])))
    graph.add_edge(START, "finder")
    graph.add_edge("finder", "writer")
    graph.add_edge("writer", END)
    return graph.compile()


class Own(TypedDict, total=False):
    """A state of one's own."""

    messages: list[Any]
    city: str
    response: str


def own_state() -> Any:
    """A graph without messages."""
    graph = StateGraph(Own)
    graph.add_node("read", lambda _: {"city": "Charlotte"})
    graph.add_node("answer", lambda _: {"response": ANSWER})
    graph.add_edge(START, "read")
    graph.add_edge("read", "answer")
    return graph.compile()


def streamed(mode: Any, make: Any = agent, give: Any = same, **options: Any) -> Any:
    """Yields what is given of a stream in some modes."""

    def events(prompt: str) -> AsyncIterator[Any]:
        asked = {"messages": [HumanMessage(prompt)]}
        return make().astream(asked, CONFIG, stream_mode=mode, **options)

    return each(events, give)


def all_events(make: Any) -> Any:
    """Yields all that ``astream_events`` tells."""
    asked = {"messages": [HumanMessage("Find me a landscaper")]}
    return each(lambda _: make().astream_events(asked, CONFIG, version="v2"), same)


def returned(make: Any = agent, give: Any = same) -> Any:
    """Returns what is given of the last state."""

    async def invoke(payload: dict[str, Any]) -> Any:
        return give(await make().ainvoke({"messages": [HumanMessage(payload["prompt"])]}, CONFIG))

    return invoke


ALL_MODES = ["updates", "messages", "custom"]
AGENTS = {
    "return state": returned(),
    "return state: blocks": returned(in_blocks),
    "return state: remembering": returned(remembering),
    "return state: structured": returned(structured),
    "return state: interrupt": returned(asking),
    "return state: own state": returned(own_state),
    "return state: failing": returned(failing),
    'return state["messages"][-1]': returned(give=lambda it: it["messages"][-1]),
    'return {"result": content}': returned(
        in_blocks, lambda it: {"result": it["messages"][-1].content}
    ),
    "updates": streamed("updates"),
    "updates: structured": streamed("updates", structured),
    "updates: interrupt": streamed("updates", asking),
    "updates: own state": streamed("updates", own_state),
    "updates: two agents": streamed("updates", two_agents),
    "updates: two agents, subgraphs": streamed("updates", two_agents, subgraphs=True),
    "updates: failing": streamed("updates", failing),
    "values: remembering": streamed("values", remembering),
    "values: interrupt": streamed("values", asking),
    "messages": streamed("messages"),
    "messages: blocks": streamed("messages", in_blocks),
    "messages: two agents, subgraphs": streamed("messages", two_agents, subgraphs=True),
    "messages: failing": streamed("messages", failing),
    "messages: chunk": streamed("messages", give=lambda it: it[0]),
    "updates, messages, custom": streamed(ALL_MODES, saying),
    "updates, messages, custom: version 2": streamed(ALL_MODES, saying, version="v2"),
    "values: version 2, remembering": streamed("values", remembering, version="v2"),
    "astream_events": all_events(agent),
    "astream_events: remembering": all_events(remembering),
}
