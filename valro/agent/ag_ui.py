"""AG-UI's events, of version 1.0 and before: the protocol that the inner language is named after.

    https://docs.ag-ui.com/concepts/events

Frameworks' adapters write it in camelCase; events yielded through the SDK are in snake_case.
"""

from __future__ import annotations

import re

from valro.agent import events
from valro.agent.events import Event, Speaker
from valro.agent.interrupts import questions
from valro.agent.messages import (
    NOISE,
    STATUS,
    Frame,
    message_of,
    of_this_run,
    our_names,
    run_error,
    snapshot,
    string,
    words_of,
)
from valro.agent.values import is_answer, message_text

AG_UI = re.compile(
    "(?:RUN|TEXT_MESSAGE|TOOL_CALL|STEP|STATE|MESSAGES|ACTIVITY|REASONING|THINKING|SUBAGENT)_[A-Z_]+"
    "|CUSTOM|RAW"
)


def ag_ui(frame: Frame) -> list[Event] | None:  # noqa: C901, PLR0912 - a case an event
    """An AG-UI event. A subagent's text is progress, like a tool's."""
    kind = frame.get("type")
    if not isinstance(kind, str) or not AG_UI.fullmatch(kind):
        return None
    subagent = string(frame, "subagentRunId", "subagent_run_id")
    by = Speaker(subagent, is_tool=bool(subagent))
    message_id = string(frame, "messageId", "message_id")
    # Messages with an end may overlap, so each of them is a speaker of its own.
    by_message = Speaker(f"{subagent} {message_id}", by.is_tool)
    is_heard = frame.get("role") in (None, "assistant")
    name = string(frame, "toolCallName", "tool_call_name")
    match kind, frame:
        case "TEXT_MESSAGE_START", _:
            # It ends a message in chunks, and the counting of tool calls starts again.
            ends: list[Event] = [
                events.TextMessageEnd(speaker=by),
                events.TextMessageStart(speaker=by),
            ]
            return [*ends, events.TextMessageStart(is_heard=is_heard, speaker=by_message)]
        case "TEXT_MESSAGE_CONTENT", {"delta": str(delta)}:
            return [events.TextMessageContent(delta, message_id, speaker=by_message)]
        case "TEXT_MESSAGE_END", _:
            return [events.TextMessageEnd(speaker=by_message)]
        case "TEXT_MESSAGE_CHUNK", {"delta": str(delta)} if is_heard:
            return [events.TextMessageContent(delta, message_id, speaker=by)]
        case (("TOOL_CALL_START" | "TOOL_CALL_CHUNK"), _) if name:
            call_id = string(frame, "toolCallId", "tool_call_id")
            return [events.ToolCallStart(name, call_id, speaker=by)]
        case "TOOL_CALL_RESULT", _:
            return [events.StepFinished(speaker=by)]
        case "STATE_SNAPSHOT", {"snapshot": dict(state)}:
            return [events.State(our_names(state), is_snapshot=True)]
        case (
            "RAW",
            {
                "event": {
                    "event": "on_chain_start",
                    "metadata": {"langgraph_node": _},
                    "data": {"input": dict(state)},
                }
            },
        ):  # LangGraph's only snapshot comes last: its first node's input is a first one.
            return [events.State(our_names(state), is_snapshot=True)]
        case "MESSAGES_SNAPSHOT", {"messages": list(messages)}:
            return [
                snapshot(
                    [
                        message_of(one) or []
                        for one in of_this_run(messages)
                        if isinstance(one, dict)
                    ]
                )
            ]
        case "CUSTOM", {"name": "on_interrupt"}:  # LangGraph's, with its id in the raw event
            raw = frame.get("rawEvent", frame.get("raw_event"))
            is_raw = isinstance(raw, dict) and "id" in raw
            return questions([raw if is_raw else {"value": frame.get("value")}])
        case "CUSTOM", {"value": value}:
            said = string(value, "message") if isinstance(value, dict) else value
            is_line = isinstance(value, dict) or words_of(string(frame, "name")) & STATUS
            return [events.Activity(said)] if is_line and isinstance(said, str) else NOISE
        case "RUN_ERROR", _:
            return [run_error(frame, string(frame, "message", "code"))]
        case "RUN_FINISHED", {"outcome": "cancelled" | {"type": "cancelled"}}:
            return [run_error(frame, "The agent's run was cancelled.")]
        case "RUN_FINISHED", {"outcome": {"type": "interrupt", "interrupts": list(asked)}}:
            return questions(asked) or NOISE
        case "RUN_FINISHED", {"result": dict(result)} if is_answer(result):
            return [
                *questions(result.get("interrupts")),
                events.State(result),
                events.StepFinished(),
            ]
        case "RUN_FINISHED", _:
            text = message_text(frame.get("result")) or ""
            said = [snapshot([[events.AssistantMessage([text])]])] if text else []
            return [*said, events.StepFinished()]
    return NOISE
