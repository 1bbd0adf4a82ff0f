"""Strands' agents behind AG-UI's adapter, and the SDK's own AGUIApp."""

from collections.abc import AsyncIterator
from typing import Any

from ag_ui.core import (
    CustomEvent,
    RunFinishedEvent,
    RunStartedEvent,
    StateSnapshotEvent,
    TextMessageChunkEvent,
    ToolCallChunkEvent,
)
from ag_ui_strands import StrandsAgent, create_strands_app
from bedrock_agentcore.runtime.ag_ui import AGUIApp
from common import ANSWER, BOOK, FIND, OBJECT, QUESTION, SEARCHING, STRIKE, find_vendors, pieces
from strands import Agent, tool

from tests.agents.model import Call, ScriptedModel


@tool(context=True)
def book(tool_context: Any, vendor: str) -> str:
    """Books a vendor, if a person agrees."""
    return str(tool_context.interrupt("approval", reason=QUESTION))


def strands(*turns: Any) -> Any:
    """A server of an agent that says these turns."""
    model = ScriptedModel(*turns)
    made = Agent(model=model, tools=[tool(find_vendors), book], callback_handler=None)
    return create_strands_app(StrandsAgent(agent=made, name="finder"), path="/invocations")


def app(*events: Any, **end: Any) -> AGUIApp:
    """A server that sends these events, and ends like this, if it does."""
    made = AGUIApp()

    @made.entrypoint
    async def run(asked: Any) -> AsyncIterator[Any]:
        about = {"thread_id": asked.thread_id, "run_id": asked.run_id}
        yield RunStartedEvent(**about)
        for event in events:
            yield event
        if end:
            yield RunFinishedEvent(**about, **end)

    return made


def said(text: str, message_id: str) -> list[Any]:
    """A message in pieces."""
    return [TextMessageChunkEvent(message_id=message_id, delta=piece) for piece in pieces(text)]


USED = [
    *said(SEARCHING, "m1"),
    ToolCallChunkEvent(tool_call_id="c1", tool_call_name="find_vendors", delta='{"city": '),
    ToolCallChunkEvent(tool_call_id="c1", delta='"Charlotte"}'),
]
ANSWERED = said(ANSWER, "m2")
STATE = StateSnapshotEvent(snapshot=OBJECT)
EARLIER = StateSnapshotEvent(snapshot={"response": "Painted.", "vendors": [{"name": "Lone Brush"}]})
ASKED = {"id": "i1", "reason": "input_required", "message": QUESTION}
INTERRUPT = {"type": "interrupt", "interrupts": [ASKED]}
SUCCESS = {"type": "success"}
AGENTS = {
    "Strands": strands([SEARCHING, Call(*FIND)], ANSWER),
    "Strands: failing": strands([SEARCHING, Call(*FIND)], STRIKE),
    "Strands: interrupt": strands([SEARCHING, Call(*BOOK)]),
    "chunks": app(*USED, *ANSWERED, outcome=SUCCESS),
    "result": app(*USED, result=OBJECT),
    "text and result": app(*USED, *ANSWERED, result=OBJECT),
    "result that is a text": app(*USED, result=ANSWER),
    "state": app(EARLIER, *USED, STATE, outcome=SUCCESS),
    "state of an earlier run": app(EARLIER, *USED, *ANSWERED, EARLIER, outcome=SUCCESS),
    "custom": app(CustomEvent(name="status", value="Comparing quotes"), *ANSWERED, outcome=SUCCESS),
    "cancelled": app(*USED, outcome={"type": "cancelled"}),
    "interrupt": app(*said(SEARCHING, "m1"), outcome=INTERRUPT),
    "no end": app(*USED),
}
