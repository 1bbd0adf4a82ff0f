"""LangGraph's agents behind AG-UI's adapter."""

from typing import Any

import of_langgraph as plain
from ag_ui_langgraph import LangGraphAgent, add_langgraph_fastapi_endpoint
from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver


def served(make: Any, **options: Any) -> FastAPI:
    """A server of an agent."""
    app = FastAPI()
    graph = (
        make(checkpointer=InMemorySaver()) if make in (plain.failing, plain.structured) else make()
    )
    agent = LangGraphAgent(name="finder", graph=graph, **options)
    add_langgraph_fastapi_endpoint(app, agent, "/invocations")
    return app


AGENTS = {
    "remembering": served(plain.remembering),
    "without raw events: failing": served(plain.failing, emit_raw_events=False),
    "without raw events: structured": served(plain.structured, emit_raw_events=False),
    "without raw events: interrupt": served(plain.asking, emit_raw_events=False),
    "without raw events: interrupt outcome": served(
        plain.asking, emit_raw_events=False, emit_interrupt_outcome=True
    ),
}
