"""Frames of AG-UI, Strands and everybody else, as events of the inner language; pure.

A dialect is a function: a frame in, its events out, or None if it does not speak that. They are
tried in the order of DIALECTS, at the end. What they read is what real agents sent (recordings:
tests/agents/recorded); a new dialect is a function here and its recordings.
"""

from __future__ import annotations

import ast
import functools
import re
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from valro.agent import events
from valro.agent.events import Event, Speaker
from valro.agent.values import (
    ANSWER_KEYS,
    QUOTED,
    TEXT_KEYS,
    Json,
    from_text,
    is_answer,
    is_python_repr,
    message_text,
    named_response,
    replace_surrogates,
)
from valro.agent.wire import events_in

Frame = dict[str, Json]
Blocks = list[str | events.ToolCallStart]

NOISE = [Event()]
FAILED = "The agent reported a failure"


def read(value: Json, name: str = "") -> list[Event]:
    """The events in one value; ``name`` is that of the SSE event that it came in."""
    if name in ("message", "data"):
        name = ""
    if isinstance(value, str):
        return (_typed({"type": name, "data": value}) if name else None) or _text(value)
    if isinstance(value, list):
        return _list(value)
    if not isinstance(value, dict) or not value:
        return [events.Unknown(value)] if value else NOISE
    frame = {"type": name} | value if name else value
    for dialect in DIALECTS:
        found = dialect(frame)
        if found is not None:
            return found
    return [events.Unknown(value)]


def _known(value: Json) -> list[Event] | None:
    found = read(value)
    return None if any(isinstance(one, events.Unknown) for one in found) else found


# --- AG-UI: https://docs.ag-ui.com/concepts/events, 1.0 and before; through the SDK in snake_case ----

AG_UI = re.compile(
    "(?:RUN|TEXT_MESSAGE|TOOL_CALL|STEP|STATE|MESSAGES|ACTIVITY|REASONING|THINKING|SUBAGENT)_[A-Z_]+"
    "|CUSTOM|RAW"
)


def ag_ui(frame: Frame) -> list[Event] | None:  # noqa: PLR0911 - a case an event
    """An event of AG-UI. A subagent's text is progress, as a tool's is."""
    kind = frame.get("type")
    if not isinstance(kind, str) or not AG_UI.fullmatch(kind):
        return None
    subagent = _string(frame, "subagentRunId", "subagent_run_id")
    by = Speaker(subagent, is_tool=bool(subagent))
    message_id = _string(frame, "messageId", "message_id")
    # Messages that have an end may overlap, so each of those is a speaker of its own.
    by_message = Speaker(f"{subagent} {message_id}", by.is_tool)
    is_heard = frame.get("role") in (None, "assistant")
    name = _string(frame, "toolCallName", "tool_call_name")
    match kind, frame:
        case "TEXT_MESSAGE_START", _:
            return [events.TextMessageStart(is_heard=is_heard, speaker=by_message)]
        case "TEXT_MESSAGE_CONTENT", {"delta": str(delta)}:
            return [events.TextMessageContent(delta, message_id, speaker=by_message)]
        case "TEXT_MESSAGE_END", _:
            return [events.TextMessageEnd(speaker=by_message)]
        case "TEXT_MESSAGE_CHUNK", {"delta": str(delta)} if is_heard:
            return [events.TextMessageContent(delta, message_id, speaker=by)]
        case (("TOOL_CALL_START" | "TOOL_CALL_CHUNK"), _) if name:
            call_id = _string(frame, "toolCallId", "tool_call_id")
            return [events.ToolCallStart(name, call_id, speaker=by)]
        case "TOOL_CALL_RESULT", _:
            return [events.ToolCallResult(speaker=by)]
        case "STATE_SNAPSHOT", {"snapshot": dict(state)}:
            return [events.State(_renamed(state), is_snapshot=True)]
        case "MESSAGES_SNAPSHOT", {"messages": list(messages)}:
            return [_fallback(_messages(messages))]
        case "CUSTOM", {"name": "on_interrupt"}:  # LangGraph's, with its id in the raw event
            raw = frame.get("rawEvent", frame.get("raw_event"))
            is_raw = isinstance(raw, dict) and "id" in raw
            return [_interrupt([raw if is_raw else {"value": frame.get("value")}])]
        case "CUSTOM", {"value": value}:
            said = _string(value, "message") if isinstance(value, dict) else value
            is_line = isinstance(value, dict) or _words(_string(frame, "name")) & STATUS
            return [events.Activity(said)] if is_line and isinstance(said, str) else NOISE
        case "RUN_ERROR", _:
            return [_error(frame, _string(frame, "message", "code"))]
        case "RUN_FINISHED", {"outcome": "cancelled" | {"type": "cancelled"}}:
            return [_error(frame, "The agent's run was cancelled.")]
        case "RUN_FINISHED", {"outcome": {"type": "interrupt", "interrupts": list(asked)}}:
            return [_interrupt(asked)]
        case "RUN_FINISHED", {"result": dict(result)} if is_answer(result):
            return [*_answer(result), events.RunFinished()]
        case "RUN_FINISHED", _:
            text = message_text(frame.get("result")) or ""
            said = [_fallback([events.AssistantMessage([text])])] if text else []
            return [*said, events.RunFinished()]
    return NOISE


# --- Strands: https://strandsagents.com/latest/documentation/docs/user-guide/concepts/streaming/ -----

# Keys of its events that say nothing to a person, or what another event has said: those that are
# true, those with what it is about, and the model's own events, which it wraps in {"event": …}.
STRANDS_FLAGS = ("init_event_loop", "start", "start_event_loop", "force_stop", "reasoning")
STRANDS_KEYS = frozenset(
    "current_tool_use tool_cancel_event event_loop_throttled_delay citation".split()
)
CONVERSE_KEYS = frozenset(
    "messageStart messageStop contentBlockStart contentBlockDelta contentBlockStop metadata".split()
)
# What its text events begin with, as the SDK sends them: {'data': "I'll look", 'delta': …, and what
# its other events have for each piece of a thought or of a tool's input, with all of its state.
TEXT_EVENT = re.compile(r"\{'data': " + QUOTED + ", '", re.DOTALL)
REPEATED = ", 'delta': {"


def strands(frame: Frame) -> list[Event] | None:  # noqa: C901, PLR0911, PLR0912 - a case an event
    """An event of Strands for Python, as it is or of what somebody chose of it."""
    if len(frame) == 1 and CONVERSE_KEYS & frame.keys():
        frame = {"event": frame}
    match frame:
        case {"event": {"contentBlockDelta": {"delta": {"text": str(text)}}}}:
            return [events.TextMessageContent(text, "")]
        case {"event": {"contentBlockStart": {"start": {"toolUse": dict(use)}}}}:
            return [events.ToolCallStart(str(use.get("name")), _string(use, "toolUseId"))]
        case {"event": {"messageStart": _}}:
            return [events.TextMessageStart()]
        case {"event": {"messageStop": _}}:
            return [events.TextMessageEnd()]
        case {"event": dict(event)} if CONVERSE_KEYS & event.keys():
            return NOISE
        case {"tool_stream_event": {"tool_use": {"toolUseId": str(use)}, "data": data}}:
            return _by(Speaker(f"tool {use}", is_tool=True), _streamed_by_tool(data))
        case {"type": "multiagent_node_stream", "node_id": str(node), "event": dict(event)}:
            found = _known(event)
            return found and _by(Speaker(f"node {node}"), found)
        case {"type": "multiagent_result", "result": str(text)}:
            return [_fallback([events.AssistantMessage([text])])]
        case {"type": "multiagent_handoff", "message": str(text)}:
            # What one agent tells the next follows what it told everybody.
            return [events.AssistantMessage([text], speaker=Speaker("handoff", is_tool=True))]
        case {"result": str(text)} if text.startswith("[{'id': ") and "'reason': " in text:
            return read(text)
        case {"tool_interrupt_event": {"interrupts": [*asked]}}:
            return [_interrupt(asked)]
        case {"result": dict(result)} | dict(result) if _is_strands_result(result):
            return _strands_result(result)
        case {"message": {"role": "assistant", "content": content}}:
            return [events.AssistantMessage(_blocks(content))]
        case {"message": {"role": "user"}}:
            return [events.ToolCallResult()]
        case {"data": str(text), "delta": _}:
            return [events.TextMessageContent(text, is_duplicate=True)]
    is_noise = STRANDS_KEYS & frame.keys() or any(frame.get(one) is True for one in STRANDS_FLAGS)
    is_noise = is_noise or str(frame.get("type")).startswith("multiagent_")
    return NOISE if is_noise or "tool_interrupt_event" in frame else None


def _streamed_by_tool(data: Json) -> list[Event]:
    """What a tool says while it works: texts, or the events of an agent that it uses."""
    if not isinstance(data, dict):
        found = read(data)
        is_text = isinstance(data, str) and found == [events.TextMessageContent(data)]
        return [events.Unknown(data)] if is_text and from_text(data) else found
    found = next((one for one in (strands(data), own(data)) if one is not None), None)
    return NOISE if not data else found or [events.Unknown(data)]


def _is_strands_result(value: Frame) -> bool:
    """Whether an object is what Strands gives as the result of an agent, a swarm or a graph."""
    if {"response", "result", "output", "role", "content"} & value.keys():
        return False
    match value:
        case {"stop_reason": _, "message": dict() | None}:
            return True
        case {"status": _, "results": dict(nodes)}:
            return all(isinstance(node, dict) for node in nodes.values())
    return False


def _strands_result(result: Frame) -> list[Event]:
    match result:
        case {"interrupts": [_, *_] as asked}:
            return [_interrupt(asked)]
        case {"stop_reason": "interrupt"}:
            return [events.Interrupt([])]
        case {"structured_output": dict(answer)}:
            return [events.State({"structured_output": answer}), events.RunFinished()]
    said = events.AssistantMessage([_result_text(result)])
    return [_fallback([said]), events.RunFinished()]


def _result_text(result: Json) -> str:
    """The text in an agent's result, or those in a swarm's or graph's, one after the other."""
    match result:
        case {"results": dict(nodes)}:
            return "\n\n".join(filter(None, map(_result_text, nodes.values())))
        case {"result": inner}:
            return _result_text(inner)
        case {"message": message}:
            return message_text(message) or ""
    return ""


def strands_typescript(frame: Frame) -> list[Event] | None:  # noqa: PLR0911 - a case an event
    """An event of Strands for TypeScript, whose messages have a ``trackingId``."""
    match frame:
        case {"type": "modelStreamUpdateEvent", "event": dict(event)}:
            return strands_typescript(event) or NOISE
        case {
            "type": "modelContentBlockDeltaEvent",
            "delta": {"type": "textDelta", "text": str(text)},
        }:
            return [events.TextMessageContent(text, "")]
        case {"type": "modelContentBlockStartEvent", "start": {"name": str(name)} as use}:
            return [events.ToolCallStart(name, _string(use, "toolUseId"))]
        case {"type": "modelMessageEvent" | "messageAddedEvent", "message": dict(message)}:
            return message_of(message)
        case {"type": "toolResultEvent"}:
            return [events.ToolCallResult()]
        case {"type": "interruptEvent", "interrupt": dict(asked)}:
            return [_interrupt([asked])]
        case {"type": "agentResultEvent", "result": dict(result)}:
            return strands_typescript(result)
        case {"type": "agentResult", "stopReason": "interrupt"}:
            return [events.Interrupt([])]
        case {"type": "agentResult", "structuredOutput": dict(answer)}:
            return [events.State({"structured_output": answer}), events.RunFinished()]
        case {"type": "agentResult", "lastMessage": dict(message)}:
            return [*(message_of(message) or []), events.RunFinished()]
        case {"type": str(kind)} if re.fullmatch(
            r"(?:before|after|model|content|tool)\w+Event", kind
        ):
            return NOISE
    return None


# --- our own four lines of JSON: docs/agents.md ------------------------------------------------------


def own(frame: Frame) -> list[Event] | None:
    """A failure, an answer or a part of it, a piece of text, a line."""
    if not _is_about_tool(frame) and (failure := _failure(frame)):
        return [failure]
    if _is_own_answer(frame):
        return _answer(frame)
    if _kind(frame):
        return None
    match frame:
        case {"data": str(text)}:
            return read(text)
        case {"message": str(text)}:
            return [events.Activity(text)]
    return None


def _is_own_answer(frame: Frame) -> bool:
    if not (is_answer(frame) or frame.get("interrupts")) or _is_about_tool(frame):
        return False
    if {"jsonrpc", "delta"} & frame.keys() or isinstance(frame.get("output"), list):
        return False
    # ``output`` and ``result`` are everybody's words.
    said = {key: value for key, value in frame.items() if key not in ("result", "output")}
    is_ours = is_answer(said) and not isinstance(frame.get("response"), dict)
    return is_ours and not _words(_kind(frame)) & PIECE if _kind(frame) else True


def _answer(frame: Frame) -> list[Event]:
    """An answer object: its questions, and the rest of it. What it wraps may be a framework's."""
    asked = frame.get("interrupts")
    said: list[Event] = [_interrupt(asked)] if isinstance(asked, list) and asked else []
    structured = frame.get("structured_output", frame.get("structured_response"))
    named = structured if is_answer(structured) else named_response(frame)
    inner = None
    if isinstance(named, str) and is_python_repr(named):
        inner = [events.Unknown(frame, is_repr=True)]
    elif isinstance(named, (dict, list)) and message_text(named) is None:
        inner = _answer(named) if is_answer(named) else _known(named)
    rest = {key: frame[key] for key in ANSWER_KEYS.difference(TEXT_KEYS) & frame.keys()}
    return said + ([*inner, events.State(rest)] if inner else [events.State(frame)])


def _failure(frame: Frame) -> Event | None:
    """What a frame says of a failure, if it does: by its error, its flags, its type, its status."""
    error, last = frame.get("error"), (_split(_kind(frame)) or ("",))[-1]
    said = _string(
        frame, "message", "error_message", "errorMessage", "errorText", "detail", "reason"
    )
    if error not in (None, "", False, {}) or frame.get("error_type"):
        text = _string(error, "message") if isinstance(error, dict) else error
        return _error(frame, message_text(frame.get("content")) or text, said)
    if True in (frame.get("is_error"), frame.get("isError")):
        reason = f"{FAILED} ({_string(frame, 'subtype')})."
        return _error(frame, _string(frame, "result"), message_text(frame), said, reason)
    status = str(frame.get("status")).casefold()
    has_status = status in FAILURES or frame.get("success") is False
    if isinstance(frame.get("error_message", frame.get("errorMessage")), str) or last in FAILURES:
        data = frame.get("data")
        text = _string(data, "message", "error") if isinstance(data, dict) else data
        return _error(frame, said, text, _string(frame, "text", "content"))
    return _error(frame, said) if has_status and said and not is_answer(frame) else None


# --- the general rules for everybody else: a message is a message, a text is a piece of one, and an
# --- envelope is opened ------------------------------------------------------------------------------

PEOPLE = frozenset("user human humanmessage".split())
SILENT = frozenset("tool system function developer toolmessage systemmessage".split())
ASSISTANTS = frozenset("assistant ai model agent bot aimessage aimessagechunk".split())
FAILURES = frozenset("error failed failure exception".split())
REASONING = frozenset("reasoning thinking thought thoughts signature json".split())
TOOL = frozenset("tool tools function".split())
TOOL_RESULT = frozenset("result output error end return response execution finished done".split())
PIECE = frozenset("delta token chunk partial".split())
STATUS = frozenset("status progress info log notification update activity step custom".split())
START = frozenset("start started begin created added metadata usage ping heartbeat".split())
END = frozenset("end ended done finish finished complete completed stop final".split())
FINAL = (END | {"result"}) - {"end", "ended", "stop"}
TEXT = frozenset("text content message answer response data output assistant stream".split())

CONTENT = ("content", "parts", "contents", "blocks")
CALLS = ("tool_calls", "toolCalls", "tool_call_chunks")
CALL_IDS = ("toolUseId", "toolCallId", "tool_call_id", "call_id", "tool_id", "id")
MESSAGE_IDS = ("full_message_id", "message_id", "messageId", "trackingId", "item_id", "id")
TOOL_FIELDS = frozenset(
    ("tool", "tool_name", "toolName", "tool_use_id", "tool_kwargs", *CALL_IDS[:4])
)
# Fields whose one text is what a frame says, and those in which somebody's answer is.
TEXTS = ("delta", "text", "content", "token", "chunk", "answer", "completion", "generated_text")
NAMED = ("final_output", "final_answer", "raw", "reply", "structured_response")
OPENED = ("message", "event", "data", "chunk", "update", "artifact", "item", "output", "result")
MODES = frozenset("values updates messages custom debug tasks checkpoints".split())
OPENAI_RESULT = re.compile(r"RunResult\w*:\n.*?\n- Final output \(\w+\):\n(.*?)\n- \d+ ", re.DOTALL)


def general(frame: Frame) -> list[Event] | None:
    """Whatever has a message or a text in it, or is a known envelope."""
    for rule in (_envelope, message_of, _typed, _one_text, _opened, _nodes):
        if (found := rule(frame)) is not None:
            return found
    return None


def message_of(frame: Frame) -> list[Event] | None:
    """A message of whatever framework: the assistant's is read, all others are silent."""
    inner = frame.get("content")
    inner = inner if isinstance(inner, dict) else frame  # of the ADK and of Gemini's API
    content = next((inner[key] for key in CONTENT if key in inner), None)
    calls = [frame[key] for key in CALLS if isinstance(frame.get(key), list)]
    role = _role(frame, inner) if content is not None or any(calls) else ""
    if not role:
        return None
    if role in PEOPLE | SILENT:
        return NOISE if role in PEOPLE and _blocks(content) else [events.ToolCallResult()]
    if isinstance(content, str) and is_python_repr(content):
        return [events.Unknown(content, is_repr=True)]
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict) and block.get("type") == "error":
            return [_error(block, _string(block, "message"))]
    blocks = _blocks(content)
    if "results" not in frame:  # with which AutoGen sums up what its tools gave
        found = [
            _call({"type": "tool_call"} | one) for one in sum(calls, []) if isinstance(one, dict)
        ]
        blocks += [call for call in found if call and call not in blocks]
    message_id = _string(frame, *MESSAGE_IDS)
    kind = _string(frame, "type")
    if frame.get("partial") is True or kind.endswith(("Chunk", "ChunkEvent", "_update")):
        pieces = [
            events.TextMessageContent(it, message_id) if isinstance(it, str) else it
            for it in blocks
        ]
        return pieces or NOISE
    if "parent_tool_use_id" not in frame:
        return [events.AssistantMessage(blocks, message_id)]
    # The Claude Agent SDK sends a message block by block under one id, and a subagent's with a parent.
    parent = _string(frame, "parent_tool_use_id")
    return _by(Speaker(parent, is_tool=bool(parent)), [events.AssistantMessage(blocks)])


def _role(frame: Frame, inner: Frame) -> str:
    """Who a message is of, in lower case; empty if it is no message."""
    role = inner.get("role") or frame.get("role")
    role = role.get("value") if isinstance(role, dict) else role
    kind = _string(frame, "type").lower()
    source = _string(frame, "source", "author", "sender")
    if isinstance(role, str):
        return role.lower()
    if kind in ASSISTANTS | PEOPLE | SILENT:
        return kind
    if source or kind.endswith("message"):
        is_silent = _words(_string(frame, "type")) & (REASONING | {"execution"})
        return "tool" if is_silent else "user" if source.lower() in PEOPLE else "assistant"
    if "parent_tool_use_id" in frame:
        return "assistant" if "model" in frame else "user"
    is_request = frame.get("kind") == "request"  # of PydanticAI
    return "" if "parts" not in inner else "user" if is_request else "assistant"


def _blocks(content: Json) -> Blocks:
    """The texts and tool calls in a message's content."""
    blocks: Blocks = []
    for block in content if isinstance(content, list) else [content]:
        if isinstance(block, str):
            blocks.append(block)
        elif isinstance(block, dict):
            kind = _string(block, "type", "block_type", "part_kind", "kind")
            text = block.get("text", block.get("content" if kind == "text" else "refusal"))
            if _words(kind) & REASONING or block.get("thought") is True:
                continue
            if call := _call(block):
                blocks.append(call)
            elif isinstance(text, str) and not _words(kind) & TOOL:
                blocks.append(text)
    return blocks


def _call(block: Frame) -> events.ToolCallStart | None:
    """The tool call that a block is, in any of the frameworks' forms."""
    for key in ("toolUse", "function_call", "functionCall", "function"):
        if isinstance(inner := block.get(key), dict):
            name = str(inner.get("name", ""))
            call_id = _string(inner, *CALL_IDS) or _string(block, *CALL_IDS)
            return events.ToolCallStart(name, call_id) if name or key == "toolUse" else None
    words = _words(_string(block, "type", "block_type", "part_kind"))
    name = _string(block, "toolName", "tool_name", "name", "tool")
    is_use = {"input", "arguments", "args", "tool_kwargs"} & block.keys() and "output" not in block
    is_call = words & TOOL and not words & TOOL_RESULT if words else is_use
    return events.ToolCallStart(name, _string(block, *CALL_IDS)) if is_call and name else None


def _messages(messages: list[Json]) -> list[Event]:
    """What a list of messages tells of this run: what follows the last that a person wrote."""
    start = max((n for n, one in enumerate(messages, 1) if _is_persons(one)), default=0)
    said = [
        read(one) if isinstance(one, dict) else [events.AssistantMessage(_blocks(one))]
        for one in messages[start:]
    ]
    return sum(said, []) or NOISE


def _is_persons(message: Json) -> bool:
    if not isinstance(message, dict):
        return False
    inner = message.get("content")
    inner = inner if isinstance(inner, dict) else message
    content = next((inner[key] for key in CONTENT if key in inner), None)
    is_prompt = '"user-prompt"' in str(content).replace("'", '"')
    return _role(message, inner) in PEOPLE and (
        is_prompt or any(isinstance(one, str) for one in _blocks(content))
    )


def _list(values: list[Json]) -> list[Event]:
    """A list: LangGraph's pairs, questions, content blocks, messages, or events."""
    match values:
        case []:
            return NOISE
        case [str(mode), inner] | [list(), str(mode), inner] if mode in MODES:
            return _mode(mode, inner)
        case [list(place), dict() | list() as inner] if all(isinstance(one, str) for one in place):
            return read(inner)
        case [dict(message), dict(about)] if any(key.startswith("langgraph_") for key in about):
            return read(message)
        case [{"id": _, "name": _, "reason": _}, *_] | [{"id": _, "value": _}, *_]:
            return [_interrupt(values)]
        case [{"text": str()}, *_]:
            return [events.AssistantMessage(_blocks(values))]
    found = _messages(values) if all(isinstance(one, dict) for one in values) else []
    is_known = any(not isinstance(one, events.Unknown) for one in found)
    return found if is_known else [events.Unknown(values)]


def _mode(mode: str, inner: Json) -> list[Event]:
    """What LangGraph streams: https://docs.langchain.com/oss/python/langgraph/streaming."""
    if mode in ("debug", "tasks", "checkpoints"):
        return NOISE
    if mode == "custom":
        fields = ("message", "progress", "status", "text")
        said = inner if isinstance(inner, str) else _string(inner, *fields) if inner else ""
        return [events.Activity(said)] if said else [events.Unknown(inner)]
    if mode == "values" and isinstance(inner, dict) and "messages" not in inner:
        return [events.State(_renamed(inner), is_snapshot=True), *_questions(inner)]
    return read(inner)


def _questions(state: Frame) -> list[Event]:
    asked = state.get("__interrupt__")
    return [_interrupt(asked)] if isinstance(asked, list) and asked else []


def _envelope(frame: Frame) -> list[Event] | None:  # noqa: PLR0911 - a case an envelope
    """What is told by its own fields, before anything in it is looked at."""
    match frame:
        case {"messages": list(messages)}:
            state = {key: frame[key] for key in (*ANSWER_KEYS, *NAMED) if frame.get(key)}
            fields = [events.State(_renamed(state))] if state else []
            return [*_messages(messages), *fields, *_questions(frame)]
        case {"__interrupt__": [_, *_]}:
            return _questions(frame)
        case {"type": str(mode), "ns": list(), "data": inner} if mode in MODES:
            return _mode(mode, inner)
        case {"choices": list(choices)}:
            return read(choices[0]) if choices else NOISE
        case {"candidates": [first, *_]} | {"jsonrpc": _, "result": first}:
            return read(first)
        case {"output": list(items)}:
            return _messages(items)
        case {"status": {"state": str(state)} as status}:
            return _a2a(state, status, frame)
        case {"delta": str(text), "response": str(), "tool_calls": list(calls)}:  # LlamaIndex's
            return [events.TextMessageContent(text, ""), *(one for one in map(_call, calls) if one)]
        case {"statusCode": _, "body": str(body)}:
            return read(body)
        case {"input": list(), "current_agent_name": _} | {"subtype": str(), "data": dict()}:
            return NOISE
        case {"type": "system", "subtype": str()}:
            return NOISE
    return None


def _a2a(state: str, status: Frame, frame: Frame) -> list[Event]:
    """A task of the A2A protocol: https://a2a-protocol.org/latest/specification/."""
    message, artifacts = status.get("message"), frame.get("artifacts")
    said = message_text(message.get("parts")) if isinstance(message, dict) else ""
    if state in ("failed", "rejected", "canceled"):
        return [_error(frame, said, f"{FAILED} ({state}).")]
    texts = [message_text(one.get("parts")) for one in artifacts or [] if isinstance(one, dict)]
    is_final = state in ("completed", "input-required")
    if text := "\n\n".join(filter(None, texts)) or (said if is_final else ""):
        return [events.State({"response": text})]
    return [events.Activity(said)] if said else NOISE


def _typed(frame: Frame) -> list[Event] | None:  # noqa: C901, PLR0911, PLR0912 - a case a word
    """Something that says what it is, by the words in its type."""
    words = _words(_kind(frame))
    part = next((frame[key] for key in ("part", "item", "content_block") if key in frame), None)
    text = _string(frame, *TEXTS, "message", "data", "output")
    message_id = _string(frame, *MESSAGE_IDS)
    if words & REASONING:
        return NOISE
    if isinstance(part, dict):
        return _part(words, part)
    if words & TOOL or (not words and _is_about_tool(frame)):
        given = {"output", "result", "tool_output", "content", "parent_ids"} & frame.keys()
        is_result = words & TOOL_RESULT or given
        call = None if is_result else _call({"type": "tool_call"} | frame)
        return [events.ToolCallResult()] if is_result else [call] if call else NOISE
    if not words:
        return None
    if (failure := _failure(frame)) is not None:
        return [failure]
    if words & {"text", "message"} and words & (START | END) and "content" not in frame:
        return [events.TextMessageEnd() if words & END else events.TextMessageStart()]
    if words & FINAL and not words & PIECE:
        whole = _string(frame, "result", "response", "output") or text
        if whole:
            return [events.State({"response": whole})]
    elif words & STATUS and not words & PIECE:
        said = _string(frame, "message", "text", "status", "content", "data", "progress")
        return [events.Activity(said)] if said else _opened(frame) or NOISE
    elif text and "message" in words and not words & PIECE:
        return [events.AssistantMessage([text], message_id)]
    elif words & (PIECE | TEXT):
        delta = frame.get("delta")
        if isinstance(delta, dict):
            kind = _words(_string(delta, "type", "part_delta_kind"))
            text = (
                ""
                if kind & (REASONING | TOOL)
                else _string(delta, "text", "content_delta", "content")
            )
            return [events.TextMessageContent(text, "")] if text else NOISE
        if text:
            has_id = message_id or "index" in frame or "content_index" in frame
            return [events.TextMessageContent(text, message_id if has_id else None)]
    if (found := _opened(frame)) is not None:
        return found
    return [events.RunFinished()] if words & END else NOISE if words & START else None


def _part(words: frozenset[str], part: Frame) -> list[Event]:
    """What begins or ends in a message: of OpenAI's, Anthropic's and PydanticAI's streams."""
    if "role" in part:
        return message_of(part) or NOISE if words & END else NOISE
    blocks = _blocks([part])
    if not blocks:
        is_result = _words(_string(part, "type", "part_kind")) & TOOL_RESULT
        return [events.ToolCallResult()] if is_result else NOISE
    if isinstance(blocks[0], str):
        is_whole = words & END
        return [
            events.AssistantMessage(blocks)
            if is_whole
            else events.TextMessageContent(blocks[0], "")
        ]
    return list(blocks[:1])  # type: ignore[arg-type]


def _one_text(frame: Frame) -> list[Event] | None:
    """An object with one text, in a field that everybody would call so."""
    named = {key: frame[key] for key in NAMED if frame.get(key) not in (None, "", {})}
    if named:
        objects = (frame.get("json_dict"), frame.get("pydantic"))  # of CrewAI
        better = next((one for one in objects if is_answer(one)), None)
        return [events.State(better or _renamed(named))]
    if _string(frame, "node", "langgraph_node", "name") in TOOL:
        return [events.ToolCallResult()]
    text = next((frame[key] for key in TEXTS if key in frame), None)
    if isinstance(text, dict) and "delta" in frame:  # OpenAI's
        return message_of({"type": "Chunk", **text, "role": "assistant"}) or NOISE
    if isinstance(text, str):
        return [events.TextMessageContent(text)]
    if isinstance(text, list) and (blocks := _blocks(text)):
        return [events.AssistantMessage(blocks)]
    said = _string(frame, "progress", "status") if len(frame) == 1 else ""
    return [events.Activity(said)] if said else None


def _opened(frame: Frame) -> list[Event] | None:
    for key in OPENED:
        inner = frame.get(key)
        if key == "message" and isinstance(inner, dict):
            inner = {"role": "assistant", **inner}
        if isinstance(inner, dict) and (found := _known(inner)) is not None:
            return found
    return None


def _nodes(frame: Frame) -> list[Event] | None:
    """What nodes of a graph have changed, by their names."""
    inner = [value for value in frame.values() if value is not None]
    if not inner or not all(isinstance(value, (dict, list)) for value in inner):
        return None
    found = [_known(value) for value in inner]
    return None if None in found else sum(filter(None, found), [])


def _renamed(fields: Frame) -> Frame:
    """The fields of an answer by our own names for them, and nothing else."""
    ours = {"response": fields[key] for key in NAMED if fields.get(key) is not None}
    if isinstance(structured := fields.get("structured_response"), dict):
        ours = {"structured_output": structured}
    return ours | {key: fields[key] for key in ANSWER_KEYS & fields.keys()}


# --- texts, questions, failures ----------------------------------------------------------------------


def _text(text: str) -> list[Event]:
    """A text: of the answer, or of a frame that somebody made a string of."""
    if text.startswith("{'data': ") and (echo := TEXT_EVENT.match(text)):
        with suppress(ValueError, SyntaxError, Warning):
            said = replace_surrogates(ast.literal_eval(echo[1]))
            return [events.TextMessageContent(said, is_duplicate=True)]
    is_repr = is_python_repr(text)
    if is_repr and text.startswith("{'") and REPEATED in text:
        return NOISE
    if inner := from_text(text):
        found = read(inner)
        if not any(isinstance(one, events.Unknown) and one.value is inner for one in found):
            return found
    if result := OPENAI_RESULT.match(text):
        return [events.State({"output": textwrap.dedent(result[1])})]
    if text.startswith(("data:", "event:", "id:", ":")) and (frames := events_in(text.encode())):
        return sum((read(one.value, one.event) for one in frames), [])
    if is_repr:
        # Strands' own objects are read, since many hand them out as they are.
        inner = from_text(text, with_objects=True)
        found = strands(inner) if isinstance(inner, dict) else None
        return [events.Unknown(text, is_repr=True)] if found is None else found
    return [events.TextMessageContent(text)]


def _interrupt(asked: Iterable[Json]) -> Event:
    """Questions, by AG-UI's names, out of AG-UI's, Strands', LangGraph's and our own."""
    questions = []
    for one in asked:
        given = from_text(one) if isinstance(one, str) else one
        if isinstance(given, dict):
            about = (given.get(key) for key in ("message", "value", "metadata", "reason"))
            question = {
                "id": given.get("id"),
                "reason": _string(given, "name", "reason"),
                "message": next(filter(None, map(_question_text, about)), ""),
                "response_schema": given.get("response_schema", given.get("responseSchema")),
            }
            questions.append({key: it for key, it in question.items() if it not in (None, "")})
    return events.Interrupt(questions)


def _question_text(value: Json) -> str:
    """What a question says: all the texts and numbers in it, the one that asks first."""
    if isinstance(value, str):
        inner = from_text(value)
        return _question_text(inner) if inner else value
    if isinstance(value, dict):
        first = ("message", "question", "prompt", "text", "reason", "description")
        value = [value[key] for key in sorted(value, key=lambda key: key not in first)]
    if isinstance(value, list):
        return " ".join(filter(None, map(_question_text, value)))
    return "" if value is None or isinstance(value, bool) else str(value)


def _error(frame: Frame, *texts: Json) -> Event:
    said = next((one for one in texts if isinstance(one, str) and one.strip()), f"{FAILED}.")
    fields = {key: frame[key] for key in ANSWER_KEYS & frame.keys() if frame[key] != said}
    return events.RunError(said, repr(frame), fields)


def _fallback(said: list[Event]) -> Event:
    return events.MessagesSnapshot(
        [one for one in said if isinstance(one, events.AssistantMessage)]
    )


# --- helpers -----------------------------------------------------------------------------------------


def _by(speaker: Speaker, found: list[Event]) -> list[Event]:
    return [replace(one, speaker=speaker) for one in found]


def _is_about_tool(frame: Frame) -> bool:
    """Whether a frame is about the use of a tool, whose failure and output are not the run's."""
    return bool(TOOL_FIELDS & frame.keys() or _words(_kind(frame)) & TOOL)


def _kind(frame: Frame) -> str:
    """What a frame says that it is."""
    return _string(frame, "type", "event_kind", "event", "chunk_type", "kind")


def _string(frame: Frame, *keys: str) -> str:
    """The first of some fields that is a text and not empty."""
    for key in keys:
        if isinstance(value := frame.get(key), str) and value:
            return value
    return ""


@functools.lru_cache(maxsize=1_000)
def _split(kind: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", kind[:200]))


def _words(kind: str) -> frozenset[str]:
    return frozenset(_split(kind))


DIALECTS = (ag_ui, strands_typescript, strands, own, general)
