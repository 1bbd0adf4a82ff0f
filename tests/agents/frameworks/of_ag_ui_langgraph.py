"""LangGraph's agents behind AG-UI's adapter."""

from typing import Any

import of_langgraph as plain
from ag_ui_langgraph import LangGraphAgent, add_langgraph_fastapi_endpoint
from common import ANSWER, EARLIER
from fastapi import FastAPI
from langchain.agents import AgentState
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver


def served(make: Any, **options: Any) -> FastAPI:
    """A server of an agent."""
    app = FastAPI()
    graph = (
        make(checkpointer=InMemorySaver())
        if make in (plain.failing, plain.structured, knowing)
        else make()
    )
    agent = LangGraphAgent(name="finder", graph=graph, **options)
    add_langgraph_fastapi_endpoint(app, agent, "/invocations")
    return app


class Known(AgentState):
    """A state in which vendors are kept."""

    vendors: list[Any]


def knowing(checkpointer: Any) -> Any:
    """An agent that found a vendor in an earlier run of the same conversation, and none in this one."""
    made = plain.agent((ANSWER, []), checkpointer=checkpointer, state_schema=Known)
    before = [HumanMessage("Find me a painter", id="t-0"), AIMessage(EARLIER, id="m-0")]
    known = {"messages": before, "vendors": [{"name": "Lone Brush"}]}
    made.update_state(plain.CONFIG, known, as_node="model")
    return made


AGENTS = {
    "vendors of an earlier run": served(knowing),
    "remembering": served(plain.remembering),
    "without raw events: failing": served(plain.failing, emit_raw_events=False),
    "without raw events: structured": served(plain.structured, emit_raw_events=False),
    "without raw events: interrupt": served(plain.asking, emit_raw_events=False),
    "without raw events: interrupt outcome": served(
        plain.asking, emit_raw_events=False, emit_interrupt_outcome=True
    ),
}
