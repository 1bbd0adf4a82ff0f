"""Agents of LangGraph and LangChain."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypedDict

import common
from common import ANSWER, ASKING, EARLIER, FAILING, FOUND, OBJECT, SEARCHING, TURNS, each, same
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import MessagesState, StateGraph
from langgraph.types import interrupt

CONFIG = {"configurable": {"thread_id": "t-1"}}
BEFORE = [HumanMessage("Find me a painter", id="t-0"), AIMessage(EARLIER, id="m-0")]


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
        return generate_from_stream(self._stream())

    def _stream(self, *_: Any, **__: Any) -> Iterator[Any]:
        text, calls = common.next_of(self.turns)
        for piece in common.pieces(text):
            yield ChatGenerationChunk(message=AIMessageChunk(content=self._content(piece)))
        chunks = [
            {"name": name, "args": json.dumps(args), "id": f"c{name}", "index": number}
            for number, (name, args) in enumerate(calls)
        ]
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=chunks))


@tool
def book(vendor: str) -> str:
    """Books a vendor, if a person agrees."""
    return str(interrupt({"question": common.QUESTION}))


@tool
def slow_search(city: str) -> str:
    """Searches and says how far it is."""
    get_stream_writer()({"progress": "Asked the first directory"})
    return FOUND


TOOLS = [tool(common.find_vendors), book, slow_search]


def agent(*turns: Any, in_blocks: bool = False, keeps: bool = False, **options: Any) -> Any:
    """An agent that says these turns, and keeps its conversation."""
    model = Scripted(turns=list(turns or TURNS), in_blocks=in_blocks)
    kept = InMemorySaver() if keeps else None
    return create_agent(model, TOOLS, name="finder", checkpointer=kept, **options)


def remembering(*turns: Any, state: Any = None, **options: Any) -> Any:
    """An agent that had another conversation in this session before."""
    made = agent(*turns, keeps=True, **options)
    made.update_state(CONFIG, {"messages": BEFORE} | (state or {}), as_node="model")
    return made


in_blocks = partial(agent, in_blocks=True)
asking = partial(agent, *ASKING, keeps=True)
failing = partial(agent, *FAILING)
saying = partial(agent, (SEARCHING, [("slow_search", common.FIND[1])]), TURNS[1], keeps=True)
structured = partial(
    agent, TURNS[0], ("", [("Found", OBJECT)]), response_format=ToolStrategy(common.Found)
)


def graph(state: Any, **nodes: Any) -> Any:
    """A graph of nodes that come one after the other."""
    made = StateGraph(state).add_sequence([*nodes.items()])
    return made.set_entry_point(next(iter(nodes))).compile()


def two_agents() -> Any:
    finder, writer = agent(TURNS[0], ("Two vendors work there.", [])), agent(TURNS[1])
    return graph(MessagesState, finder=finder, writer=writer)


class Own(TypedDict, total=False):
    """A state of one's own, without messages."""

    messages: list[Any]
    city: str
    response: str


def own_state() -> Any:
    return graph(Own, read=lambda _: {"city": "Charlotte"}, answer=lambda _: {"response": ANSWER})


def asked(prompt: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(prompt)]}


def streamed(mode: Any, make: Any = agent, give: Any = same, **options: Any) -> Any:
    """Yields what is given of a stream in some modes."""
    options |= {"stream_mode": mode}
    return each(lambda prompt: make().astream(asked(prompt), CONFIG, **options), give)


def all_events(make: Callable[[], Any]) -> Any:
    """Yields all that ``astream_events`` tells."""
    return each(
        lambda _: make().astream_events(asked("Find me a landscaper"), CONFIG, version="v2")
    )


def returned(make: Any = agent, give: Any = same) -> Any:
    """Returns what is given of the last state."""
    return common.returned(lambda prompt: make().ainvoke(asked(prompt), CONFIG), give)


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
