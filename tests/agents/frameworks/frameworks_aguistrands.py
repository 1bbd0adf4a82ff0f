"""Strands' agents behind AG-UI's adapter, and the SDK's own AGUIApp."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from ag_ui.core import (
    CustomEvent,
    RunErrorEvent,
    RunFinishedEvent,
    RunStartedEvent,
    StateDeltaEvent,
    StateSnapshotEvent,
    StepFinishedEvent,
    StepStartedEvent,
    TextMessageChunkEvent,
    ToolCallChunkEvent,
)
from ag_ui_strands import StrandsAgent, create_strands_app
from bedrock_agentcore.runtime.ag_ui import AGUIApp
from common import ANSWER, FINDING, FOUND, QUESTION, SEARCHING, pieces
from strands import Agent, tool

from tests.agents.model import Call, ScriptedModel

REQUIREMENTS = "ag-ui-strands==1.0.2 strands-agents==1.62.0"


@tool
def find_vendors(city: str) -> str:
    """Finds vendors."""
    return FOUND


@tool(context=True)
def book(tool_context: Any, vendor: str) -> str:
    """Books."""
    return str(tool_context.interrupt("approval", reason=QUESTION))


def strands(*turns: Any) -> Any:
    turns = turns or ([SEARCHING, Call(*FINDING)], ANSWER)
    made = Agent(model=ScriptedModel(*turns), tools=[find_vendors, book], callback_handler=None)
    return create_strands_app(
        StrandsAgent(agent=made, name="finder"), path="/invocations", ping_path=None
    )


def app(*events: Any) -> AGUIApp:
    made = AGUIApp()

    @made.entrypoint
    async def run(asked: Any) -> AsyncIterator[Any]:
        yield RunStartedEvent(thread_id=asked.thread_id, run_id=asked.run_id)
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event(asked) if callable(event) else event

    return made


def finished(**more: Any) -> Any:
    return lambda asked: RunFinishedEvent(thread_id=asked.thread_id, run_id=asked.run_id, **more)


SAID = [TextMessageChunkEvent(message_id="m1", delta=piece) for piece in pieces(SEARCHING)]
USED = [
    ToolCallChunkEvent(tool_call_id="c1", tool_call_name="find_vendors", delta='{"city": '),
    ToolCallChunkEvent(tool_call_id="c1", delta='"Charlotte"}'),
]
ANSWERED = [
    TextMessageChunkEvent(message_id="m2", role="assistant", delta=piece)
    for piece in pieces(ANSWER)
]
OBJECT = {"response": ANSWER, "vendors": [{"id": "v1", "name": "Green Fern"}]}
EARLIER = {"vendors": [{"id": "v9", "name": "Lone Brush"}]}

AGENTS = {
    "strands": strands(),
    "strands failing": strands(
        [SEARCHING, Call(*FINDING)], RuntimeError("The model is on strike.")
    ),
    "strands interrupt": strands([SEARCHING, Call("book", {"vendor": "Green Fern"})]),
    "app chunks": app(*SAID, *USED, *ANSWERED, finished()),
    "app result": app(*SAID, *USED, finished(result=OBJECT)),
    "app text and result": app(*SAID, *USED, *ANSWERED, finished(result=OBJECT)),
    "app result text": app(*USED, finished(result=ANSWER)),
    "app state": app(
        *SAID,
        StateSnapshotEvent(snapshot=EARLIER),
        StepStartedEvent(step_name="search"),
        StepFinishedEvent(step_name="search"),
        StateSnapshotEvent(snapshot=OBJECT),
        finished(),
    ),
    "app state delta": app(
        StateSnapshotEvent(snapshot={"response": "", "vendors": []}),
        StateDeltaEvent(delta=[{"op": "replace", "path": "/response", "value": ANSWER}]),
        finished(),
    ),
    "app exception": app(*SAID, RuntimeError("The model is on strike.")),
    "app error": app(*SAID, RunErrorEvent(message="The directory of vendors is down.", code="X")),
    "app custom": app(
        CustomEvent(name="progress", value={"message": "Asked the first directory"}),
        CustomEvent(name="status", value="Asked the second directory"),
        *ANSWERED,
        finished(),
    ),
    "app cancelled": app(*SAID, finished(outcome={"type": "cancelled"})),
    "app interrupt": app(
        *SAID,
        finished(
            outcome={
                "type": "interrupt",
                "interrupts": [
                    {
                        "id": "i1",
                        "reason": "input_required",
                        "message": QUESTION,
                        "responseSchema": {"type": "boolean"},
                    }
                ],
            }
        ),
    ),
    "app no end": app(*SAID, *USED),
}
