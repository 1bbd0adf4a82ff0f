"""Frames of AG-UI, Strands and everybody else, as events of the inner language; pure.

A dialect is a function: a frame in, its events out, or None if the frame is not in that dialect.
They are tried in the order of DIALECTS, at the end. What they read is what real agents sent
(recordings: tests/agents/recorded); a new dialect is a function here and its recordings.
"""

from __future__ import annotations

import ast
import re
import textwrap
from contextlib import suppress
from itertools import chain
from types import NoneType

from valro.agent import events
from valro.agent.ag_ui import ag_ui
from valro.agent.events import Event, Speaker
from valro.agent.interrupts import questions
from valro.agent.messages import (
    NAMED,
    NOISE,
    PIECE,
    Frame,
    a2a_task,
    blocks_of,
    calls_of,
    failure_of,
    is_about_tool,
    kind_of,
    mark,
    message_of,
    of_this_run,
    one_text,
    our_names,
    said_by,
    snapshot,
    string,
    typed,
    words_of,
)
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


def read(value: Json, name: str = "") -> list[Event]:
    """The events in one value; ``name`` is that of its SSE event."""
    if name in ("message", "data"):
        name = ""
    if isinstance(value, str):
        return (typed({"type": name, "data": value}) if name else None) or _text(value)
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


# --- Strands: https://strandsagents.com/latest/documentation/docs/user-guide/concepts/streaming/ -----

# Keys of events that tell a person nothing, or nothing new: flags, those that say what an event is
# about, and the model's own events, which Strands wraps in {"event": …}.
STRANDS_FLAGS = ("init_event_loop", "start", "start_event_loop", "force_stop", "reasoning")
STRANDS_KEYS = frozenset(
    "current_tool_use tool_cancel_event event_loop_throttled_delay citation".split()
)
CONVERSE_KEYS = frozenset(
    "messageStart messageStop contentBlockStart contentBlockDelta contentBlockStop metadata".split()
)
# How its text events begin, as the SDK sends them: {'data': "I'll look", 'delta': …, and what other
# events, with the agent's whole state, have for each piece of a thought or a tool's input.
TEXT_EVENT = re.compile(r"\{'data': " + QUOTED + ", '", re.DOTALL)
REPEATED = ", 'delta': {"
OTHERS_RESULTS = frozenset("response result output role content".split())


def strands(frame: Frame) -> list[Event] | None:  # noqa: C901, PLR0912 - a case an event
    """An event of Strands for Python, whole or in the parts that somebody chose."""
    if len(frame) == 1 and CONVERSE_KEYS & frame.keys():
        frame = {"event": frame}
    match frame:
        case {"event": {"contentBlockDelta": {"delta": {"text": str(text)}}}}:
            return [events.TextMessageContent(text, "")]
        case {"event": {"contentBlockStart": {"start": {"toolUse": dict(use)}}}}:
            return [events.ToolCallStart(str(use.get("name")), string(use, "toolUseId"))]
        case {"event": {"messageStart": _}}:
            return [events.TextMessageStart()]
        case {"event": {"messageStop": _}}:
            return [events.TextMessageEnd()]
        case {"event": dict(event)} if CONVERSE_KEYS & event.keys():
            return NOISE
        case {"tool_stream_event": {"tool_use": {"toolUseId": str(use)}, "data": data}}:
            return said_by(Speaker(f"tool {use}", is_tool=True), _streamed_by_tool(data))
        case {"type": "multiagent_node_stream", "node_id": str(node), "event": dict(event)}:
            found = _known(event)
            node_said = said_by(Speaker(f"node {node}"), found or [])
            return node_said or [events.Unknown(frame)]
        case {"type": "multiagent_result", "result": str(text)}:
            return [snapshot([[events.AssistantMessage([text])]])]
        case {"type": "multiagent_handoff", "message": str(text)}:
            # An agent's message to the next one follows its message to everybody.
            return [events.AssistantMessage([text], speaker=Speaker("handoff", is_tool=True))]
        case {"result": str(text)} if text.startswith("[{'id': ") and "'reason': " in text:
            return read(text)
        case {"tool_interrupt_event": {"interrupts": [*asked]}}:
            return questions(asked) or NOISE
        case {"result": dict(result)} | dict(result) if found := _strands_result(result):
            return found
        case {"message": {"role": _, "content": _} as message} if "parent_tool_use_id" not in frame:
            return message_of(message)
        case {"data": str(text), "delta": _}:
            return [events.TextMessageContent(text, is_duplicate=True)]
    is_noise = STRANDS_KEYS & frame.keys() or any(frame.get(one) is True for one in STRANDS_FLAGS)
    is_noise = is_noise or str(frame.get("type")).startswith("multiagent_")
    return NOISE if is_noise or "tool_interrupt_event" in frame else None


def _strands_result(result: Frame) -> list[Event] | None:
    """The result of a Strands agent, swarm or graph; None if it is not one."""
    nodes = result.get("results")
    is_many = isinstance(nodes, dict) and all(isinstance(one, dict) for one in nodes.values())
    is_one = "stop_reason" in result and isinstance(result.get("message", ""), (dict, NoneType))
    if not (is_one or ("status" in result and is_many)) or OTHERS_RESULTS & result.keys():
        return None
    if asked := questions(result.get("interrupts")):
        return asked
    if result.get("stop_reason") == "interrupt":
        return [events.Interrupt([])]
    if isinstance(answer := result.get("structured_output"), dict):
        return [events.State({"structured_output": answer}), events.StepFinished()]
    said = events.AssistantMessage([_result_text(result)])
    return [snapshot([[said]]), events.StepFinished()]


def _result_text(result: Json) -> str:
    """The text in an agent's result, or all texts in a swarm's or graph's."""
    match result:
        case {"results": dict(nodes)}:
            return "\n\n".join(filter(None, map(_result_text, nodes.values())))
        case {"result": inner}:
            return _result_text(inner)
        case {"message": message}:
            return message_text(message) or ""
    return ""


def _streamed_by_tool(data: Json) -> list[Event]:
    """What a tool says while it works: text, or the events of an agent that it uses."""
    if not isinstance(data, dict):
        found = read(data)
        is_text = isinstance(data, str) and found == [events.TextMessageContent(data)]
        return [events.Unknown(data)] if is_text and from_text(data) else found
    return (strands(data) or own(data) or [events.Unknown(data)]) if data else NOISE


STRANDS_HOOKS = re.compile(r"(?:before|after)\w+Event|contentBlockEvent")


def strands_typescript(frame: Frame) -> list[Event] | None:
    """What the general rules do not read of Strands for TypeScript."""
    match frame:
        case {"type": "interruptEvent", "interrupt": dict(asked)}:
            return questions([asked])
        case {"type": "agentResult", "stopReason": "interrupt"}:
            return [events.Interrupt([])]
        case {"type": "agentResult", "structuredOutput": dict(answer)}:
            return [events.State({"structured_output": answer}), events.StepFinished()]
        case {"type": str(kind)} if STRANDS_HOOKS.fullmatch(kind):
            return NOISE
    return None


# --- our own four lines of JSON: docs/agents.md ------------------------------------------------------


def own(frame: Frame) -> list[Event] | None:
    """A failure, an answer or part of one, a piece of text, a line."""
    if not is_about_tool(frame) and (failure := failure_of(frame)):
        return [failure]
    if _is_own_answer(frame):
        return _answer(frame)
    if kind_of(frame):
        return None
    match frame:
        case {"data": str(text)}:
            return read(text)
        case {"message": str(text)}:
            return [events.Activity(text)]
    return None


def _is_own_answer(frame: Frame) -> bool:
    if not (is_answer(frame) or frame.get("interrupts")) or is_about_tool(frame):
        return False
    if {"jsonrpc", "delta"} & frame.keys() or "object" in frame:
        return False
    # ``output`` and ``result`` are common words.
    said = {key: value for key, value in frame.items() if key not in ("result", "output")}
    is_ours = is_answer(said) and not isinstance(frame.get("response"), dict)
    return is_ours and not words_of(kind_of(frame)) & PIECE if kind_of(frame) else True


def _answer(frame: Frame) -> list[Event]:
    """An answer object: its questions, and its other fields. It may wrap a framework's object."""
    said = questions(frame.get("interrupts"))
    structured = frame.get("structured_output", frame.get("structured_response"))
    named = structured if is_answer(structured) else named_response(frame)
    inner: list[Event] | None = None
    if isinstance(named, str) and is_python_repr(named):
        inner = [events.Unknown(frame, is_repr=True)]
    elif isinstance(named, (dict, list)) and message_text(named) is None:
        inner = _known(named)
    rest = {key: frame[key] for key in ANSWER_KEYS.difference(TEXT_KEYS) & frame.keys()}
    if not inner:
        inner, rest = [], {key: one for key, one in frame.items() if key != "interrupts"}
    return said + inner + ([events.State(rest)] if rest else [])


# --- the general rules for all others: a message is a message, a text is a piece of one, and an
# --- envelope is opened ------------------------------------------------------------------------------

OPENED = dict.fromkeys(
    "message event data chunk update artifact item output result lastMessage".split()
)
MODES = frozenset("values updates messages custom debug tasks checkpoints".split())


def general(frame: Frame) -> list[Event] | None:
    """Anything with a message or text in it, and known envelopes."""
    for rule in (_envelope, message_of, typed, one_text, _opened, _nodes, mark):
        if (found := rule(frame)) is not None:
            return found
    return None


def _messages(messages: list[Json]) -> list[Event]:
    """What a list of messages says about this run."""
    said = [
        read(one) if isinstance(one, dict) else [events.AssistantMessage(blocks_of(one))]
        for one in of_this_run(messages)
    ]
    return [*chain.from_iterable(said)] or NOISE


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
            return questions(values)
        case [{"text": str()}, *_]:
            return [events.AssistantMessage(blocks_of(values))]
    found = _messages(values) if all(isinstance(one, dict) for one in values) else []
    is_known = any(not isinstance(one, events.Unknown) for one in found)
    return found if is_known else [events.Unknown(values)]


def _mode(mode: str, inner: Json) -> list[Event]:
    """What LangGraph streams: https://docs.langchain.com/oss/python/langgraph/streaming."""
    if mode in ("debug", "tasks", "checkpoints"):
        return NOISE
    if mode == "custom":
        fields = ("message", "progress", "status", "text")
        said = string(inner, *fields) if isinstance(inner, dict) else inner
        said = said if isinstance(said, str) else ""
        return [events.Activity(said)] if said else [events.Unknown(inner)]
    if mode == "values" and isinstance(inner, dict) and "messages" not in inner:
        return [
            events.State(our_names(inner), is_snapshot=True),
            *questions(inner.get("__interrupt__")),
        ]
    return read(inner)


def _envelope(frame: Frame) -> list[Event] | None:  # noqa: C901 - a case an envelope
    """What its own fields identify, before anything in it is read."""
    match frame:
        case {"messages": list(messages)}:
            state = {key: frame[key] for key in (*ANSWER_KEYS, *NAMED) if frame.get(key)}
            fields = [events.State(our_names(state))] if state else []
            return [*_messages(messages), *fields, *questions(frame.get("__interrupt__"))]
        case {"__interrupt__": [_, *_] as asked}:
            return questions(asked)
        case {"type": str(mode), "ns": list(), "data": inner} if mode in MODES:
            return _mode(mode, inner)
        case {"choices": list(choices)}:
            return read(choices[0]) if choices else NOISE
        case {"candidates": [first, *_]} | {"jsonrpc": _, "result": first}:
            return read(first)
        case {"object": _, "output": list(items)}:
            return _messages(items)
        case {"status": {"state": str(state)} as status}:
            return a2a_task(state, status, frame)
        case {"delta": str(text), "response": str(), "tool_calls": list(calls)}:  # LlamaIndex's
            return [events.TextMessageContent(text, ""), *calls_of(calls)]
        case {"statusCode": _, "body": str(body)}:
            return read(body)
        case {"input": list(), "current_agent_name": _} | {"subtype": str(), "data": dict()}:
            return NOISE
        case {"type": "system", "subtype": str()}:
            return NOISE
    return None


def _opened(frame: Frame) -> list[Event] | None:
    for key in OPENED:
        inner = frame.get(key)
        if key == "message" and isinstance(inner, dict):
            about = {name: frame[name] for name in ("parent_tool_use_id",) if name in frame}
            inner = {"role": "assistant"} | inner | about
        if isinstance(inner, dict) and (found := _known(inner)) is not None:
            return found
    return None


def _nodes(frame: Frame) -> list[Event] | None:
    """What the nodes of a graph have changed, by their names."""
    inner = [value for value in frame.values() if value is not None]
    if (
        not inner
        or OPENED.keys() & frame.keys()
        or not all(isinstance(value, (dict, list)) for value in inner)
    ):
        return None
    found = [_known(value) for value in inner]
    return None if None in found else [*chain.from_iterable(filter(None, found))]


# --- texts, questions, failures ----------------------------------------------------------------------


OPENAI_RESULT = re.compile(r"RunResult\w*:\n.*?\n- Final output \(\w+\):\n(.*?)\n- \d+ ", re.DOTALL)


def _text(text: str) -> list[Event]:
    """A text: part of the answer, or a frame that somebody turned into a string."""
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
        return [*chain.from_iterable(read(one.value, one.event) for one in frames)]
    if is_repr:
        # Strands' own objects are read, since many agents yield them as they are.
        inner = from_text(text, with_objects=True)
        unknown: list[Event] = [events.Unknown(text, is_repr=True)]
        return (strands(inner) if isinstance(inner, dict) else None) or unknown
    return [events.TextMessageContent(text)]


DIALECTS = (ag_ui, strands_typescript, strands, own, general)
