"""LangGraph's agents behind AG-UI's adapter."""

from typing import Any

import frameworks_langgraph as plain
from ag_ui_langgraph import LangGraphAgent, add_langgraph_fastapi_endpoint
from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver

REQUIREMENTS = "langgraph==1.2.24 langchain==1.5.2 ag-ui-langgraph==0.0.47 fastapi"


def served(make: Any) -> FastAPI:
    app = FastAPI()
    add_langgraph_fastapi_endpoint(app, LangGraphAgent(name="finder", graph=make()), "/invocations")
    return app


def agent() -> Any:
    return plain.agent(checkpointer=InMemorySaver())


def failing() -> Any:
    return plain.agent(
        (plain.SEARCHING, [plain.FINDING]),
        RuntimeError("The model is on strike."),
        checkpointer=InMemorySaver(),
    )


def saying() -> Any:
    turns = (plain.SEARCHING, [("slow_search", plain.FINDING[1])]), (plain.ANSWER, [])
    return plain.agent(*turns, tools=[plain.slow_search], checkpointer=InMemorySaver())


def remembering() -> Any:
    made = agent()
    from langchain_core.messages import AIMessage, HumanMessage

    before = {
        "messages": [
            HumanMessage("Find me a painter", id="t-0"),
            AIMessage(plain.EARLIER, id="m-0"),
        ]
    }
    made.update_state({"configurable": {"thread_id": "t-1"}}, before, as_node="model")
    return made


def structured() -> Any:
    turns = (plain.SEARCHING, [plain.FINDING]), ("", [("Found", plain.OBJECT)])
    return plain.agent(
        *turns, response_format=plain.ToolStrategy(plain.Found), checkpointer=InMemorySaver()
    )


AGENTS = {
    "tools": served(agent),
    "failing": served(failing),
    "interrupt": served(plain.asking),
    "custom": served(saying),
    "structured": served(structured),
    "remembering": served(remembering),
}
