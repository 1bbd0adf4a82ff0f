"""LangGraph's agents behind AG-UI's adapter."""

from functools import partial
from typing import Any

import of_langgraph as plain
from ag_ui_langgraph import LangGraphAgent, add_langgraph_fastapi_endpoint
from common import TURNS
from fastapi import FastAPI
from langchain.agents import AgentState


def served(make: Any, **options: Any) -> FastAPI:
    """A server of an agent."""
    app = FastAPI()
    agent = LangGraphAgent(name="finder", graph=make(), **options)
    add_langgraph_fastapi_endpoint(app, agent, "/invocations")
    return app


class Known(AgentState):
    """A state in which vendors are kept."""

    vendors: list[Any]


# Found a vendor in an earlier run of the same conversation, and none in this one.
EARLIER = {"vendors": [{"name": "Lone Brush"}]}
knowing = partial(plain.remembering, TURNS[1], state=EARLIER, state_schema=Known)
silent = partial(served, emit_raw_events=False)
AGENTS = {
    "vendors of an earlier run": served(knowing),
    "remembering": served(plain.remembering),
    "without raw events: failing": silent(partial(plain.failing, keeps=True)),
    "without raw events: structured": silent(partial(plain.structured, keeps=True)),
    "without raw events: interrupt": silent(plain.asking),
    "without raw events: interrupt outcome": silent(plain.asking, emit_interrupt_outcome=True),
}
