"""Agents of LangGraph and LangChain, in the ways in which people return and stream them."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypedDict

from common import ANSWER, BOOK, EARLIER, FINDING, FOUND, QUESTION, SEARCHING, pieces
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

REQUIREMENTS = "langgraph==1.2.24 langchain==1.5.2"


class Scripted(BaseChatModel):
    """Says what it is told, turn by turn."""

    turns: list[Any]
    blocks: bool = False

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, tools: Any, **_: Any) -> "Scripted":
        return self

    def _turn(self) -> AIMessage:
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        text, calls = turn
        calls = [{"name": name, "args": args, "id": f"c{name}"} for name, args in calls]
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        content = [{"type": "text", "text": text}] if self.blocks else text
        return AIMessage(content=content, tool_calls=calls, usage_metadata=usage)

    def _generate(self, messages: Any, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._turn())])

    def _stream(self, messages: Any, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        turn = self._turn()
        for piece in pieces(turn.text):
            content = [{"type": "text", "text": piece, "index": 0}] if self.blocks else piece
            yield ChatGenerationChunk(message=AIMessageChunk(content=content))
        calls = [
            {"name": one["name"], "args": json.dumps(one["args"]), "id": one["id"], "index": n}
            for n, one in enumerate(turn.tool_calls)
        ]
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=calls))


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
    write = get_stream_writer()
    write("Asked the first directory")
    write({"progress": "Asked the second directory"})
    return FOUND


class Found(BaseModel):
    """What was found."""

    response: str
    vendors: list[dict[str, Any]]


OBJECT = {"response": ANSWER, "vendors": [{"id": "v1", "name": "Green Fern"}]}


def agent(*turns: Any, **options: Any) -> Any:
    blocks = options.pop("blocks", False)
    turns = turns or ((SEARCHING, [FINDING]), (ANSWER, []))
    tools = options.pop("tools", [find_vendors])
    return create_agent(Scripted(turns=list(turns), blocks=blocks), tools, name="finder", **options)


def asked(payload: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [HumanMessage(payload["prompt"])]}


CONFIG = {"configurable": {"thread_id": "t"}}


async def warm(payload: dict[str, Any]) -> Any:
    """An agent that remembers an earlier task of the same session."""
    made = agent(("", []), (SEARCHING, [FINDING]), (ANSWER, []), checkpointer=InMemorySaver())
    made.update_state(CONFIG, {"messages": [HumanMessage("Find me a painter"), AIMessage(EARLIER)]})
    return made


def remembering(*turns: Any, **options: Any) -> Any:
    """An agent that has had another conversation in this session before."""
    made = agent(*turns, checkpointer=InMemorySaver(), **options)
    before = {"messages": [HumanMessage("Find me a painter"), AIMessage(EARLIER)]}
    made.update_state(CONFIG, before, as_node="model")
    return made


def streamed(mode: Any, make: Any = agent, give: Any = lambda it: it, **options: Any) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        async for it in make().astream(asked(payload), CONFIG, stream_mode=mode, **options):
            yield give(it)

    return invoke


def returned(give: Any, make: Any = agent) -> Any:
    async def invoke(payload: dict[str, Any]) -> Any:
        return give(await make().ainvoke(asked(payload), CONFIG))

    return invoke


def events(version: str, make: Any = agent, keep: Any = lambda it: True) -> Any:
    async def invoke(payload: dict[str, Any]) -> AsyncIterator[Any]:
        async for it in make().astream_events(asked(payload), CONFIG, version=version):
            if keep(it):
                yield it

    return invoke


class State(TypedDict):
    prompt: str
    city: str
    response: str


def plain_graph() -> Any:
    """A graph of a state of one's own, without messages."""
    graph = StateGraph(State)
    graph.add_node("read", lambda _: {"city": "Charlotte"})
    graph.add_node("answer", lambda _: {"response": ANSWER})
    graph.add_edge(START, "read")
    graph.add_edge("read", "answer")
    graph.add_edge("answer", END)
    return graph.compile()


def two_nodes() -> Any:
    """Two agents as nodes of a graph."""
    first = agent((SEARCHING, [FINDING]), ("Two vendors work there.", []))
    second = agent((ANSWER, []))
    graph = StateGraph(MessagesState)
    graph.add_node("finder", first)
    graph.add_node("writer", second)
    graph.add_edge(START, "finder")
    graph.add_edge("finder", "writer")
    graph.add_edge("writer", END)
    return graph.compile()


async def of_a_plain_graph(payload: dict[str, Any]) -> Any:
    return await plain_graph().ainvoke({"prompt": payload["prompt"]})


async def stream_of_a_plain_graph(payload: dict[str, Any]) -> AsyncIterator[Any]:
    async for it in plain_graph().astream({"prompt": payload["prompt"]}):
        yield it


def asking() -> Any:
    return agent((SEARCHING, [BOOK]), tools=[book], checkpointer=InMemorySaver())


def blocks() -> Any:
    return agent(blocks=True)


def failing() -> Any:
    return agent((SEARCHING, [FINDING]), RuntimeError("The model is on strike."))


def saying() -> Any:
    return agent((SEARCHING, [("slow_search", FINDING[1])]), (ANSWER, []), tools=[slow_search])


def structured() -> Any:
    turns = (SEARCHING, [FINDING]), ("", [("Found", OBJECT)])
    return agent(*turns, response_format=ToolStrategy(Found))


def last(state: dict[str, Any]) -> Any:
    return state["messages"][-1]


AGENTS = {
    "return state": returned(lambda it: it),
    "return state, blocks": returned(lambda it: it, blocks),
    "return state, remembering": returned(lambda it: it, remembering),
    'return state["messages"][-1]': returned(last),
    'return {"result": message.content}': returned(lambda it: {"result": last(it).content}),
    'return {"result": message.content}, blocks': returned(
        lambda it: {"result": last(it).content}, blocks
    ),
    'return {"messages": [text]}': returned(lambda it: {"messages": [last(it).content]}),
    "return state, structured": returned(lambda it: it, structured),
    "return state, interrupt": returned(lambda it: it, asking),
    "return state, plain graph": of_a_plain_graph,
    "return state, failing": returned(lambda it: it, failing),
    "stream updates": streamed("updates"),
    "stream updates, structured": streamed("updates", structured),
    "stream updates, remembering": streamed("updates", remembering),
    "stream updates, interrupt": streamed("updates", asking),
    "stream updates, plain graph": stream_of_a_plain_graph,
    "stream updates, subgraphs": streamed("updates", two_nodes, subgraphs=True),
    "stream updates, two agents": streamed("updates", two_nodes),
    "stream updates, failing": streamed("updates", failing),
    "stream values": streamed("values"),
    "stream values, remembering": streamed("values", remembering),
    "stream values, interrupt": streamed("values", asking),
    "stream messages": streamed("messages"),
    "stream messages, blocks": streamed("messages", blocks),
    "stream messages, remembering": streamed("messages", remembering),
    "stream messages, failing": streamed("messages", failing),
    "stream messages, chunk only": streamed("messages", agent, lambda it: it[0]),
    "stream messages, content only": streamed("messages", agent, lambda it: it[0].content),
    "stream messages, json.dumps": streamed(
        "messages",
        agent,
        lambda it: json.dumps({"content": it[0].content, "node": it[1]["langgraph_node"]}),
    ),
    "stream updates and messages": streamed(["updates", "messages"]),
    "stream updates, messages, custom": streamed(["updates", "messages", "custom"], saying),
    "stream messages, two agents, subgraphs": streamed("messages", two_nodes, subgraphs=True),
    "stream custom": streamed("custom", saying),
    "stream v2": streamed(["updates", "messages", "custom"], saying, version="v2"),
    "stream v2 values, remembering": streamed("values", remembering, version="v2"),
    "stream v2, interrupt": streamed(["updates", "values"], asking, version="v2"),
    "stream events": events("v2"),
    "stream events, chat model only": events(
        "v2", agent, lambda it: it["event"].startswith("on_chat_model")
    ),
    "stream events, remembering": events("v2", remembering),
    "stream debug": streamed("debug"),
}
