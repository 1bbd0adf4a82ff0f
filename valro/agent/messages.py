"""What messages, tool calls and failures look like in any framework; pure.

The words and fields are those of real agents (recordings: tests/agents/recorded). dialects.py knows
which frames they come in.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

from valro.agent import events
from valro.agent.events import Event, Speaker
from valro.agent.values import (
    ANSWER_KEYS,
    Json,
    is_answer,
    is_python_repr,
    message_text,
)

Frame = dict[str, Json]
Blocks = list[str | events.ToolCallStart]

NOISE = [Event()]
FAILED = "The agent reported a failure"

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
SAID = ("message", "error_message", "errorMessage", "errorText", "detail", "reason")
PARTS = ("part", "item", "content_block", "start")
CALLS = ("tool_calls", "toolCalls", "tool_call_chunks")
CALL_IDS = ("toolUseId", "toolCallId", "tool_call_id", "call_id", "tool_id", "id")
MESSAGE_IDS = ("full_message_id", "message_id", "messageId", "trackingId", "item_id", "id")
TOOL_FIELDS = frozenset(
    ("tool", "tool_name", "toolName", "tool_use_id", "tool_kwargs", *CALL_IDS[:4])
)
# Fields whose only text is what a frame says, and fields that contain an answer.
TEXTS = ("delta", "text", "content", "token", "chunk", "answer", "completion", "generated_text")
NAMED = ("structured_response", "final_output", "final_answer", "raw", "reply")


def message_of(frame: Frame) -> list[Event] | None:
    """A message of any framework: the assistant's is read, all others are ignored."""
    role, content = _role_and_content(frame)
    calls: list[Json] = next((frame[key] for key in CALLS if isinstance(frame.get(key), list)), [])
    if not role or (content is None and not calls):
        return None
    if role in PEOPLE | SILENT:
        return NOISE if role in PEOPLE and blocks_of(content) else [events.StepFinished()]
    if isinstance(content, str) and is_python_repr(content):
        return [events.Unknown(content, is_repr=True)]
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict) and block.get("type") == "error":
            return [run_error(block, string(block, "message"))]
    blocks = blocks_of(content)
    if "results" not in frame:  # in which AutoGen sums up its tools' results
        blocks += [call for call in calls_of(calls) if call not in blocks]
    message_id = string(frame, *MESSAGE_IDS)
    kind = string(frame, "type")
    if frame.get("partial") is True or kind.endswith(("Chunk", "ChunkEvent", "_update")):
        text = "".join(block for block in blocks if isinstance(block, str))
        uses = [block for block in blocks if not isinstance(block, str)]
        return [events.TextMessageContent(text, message_id), *uses]
    if "parent_tool_use_id" not in frame:
        return [events.AssistantMessage(blocks, message_id)]
    # The Claude Agent SDK sends a message block by block under one id; a subagent's has a parent.
    parent = string(frame, "parent_tool_use_id")
    return said_by(Speaker(parent, is_tool=bool(parent)), [events.AssistantMessage(blocks)])


def of_this_run(messages: list[Json]) -> list[Json]:
    """The part of a conversation after the last message that a person wrote."""
    ends = (number for number, one in enumerate(messages, 1) if is_persons(one))
    return messages[max(ends, default=0) :]


def is_persons(message: Json) -> bool:
    """Whether a person wrote a message: tools answer in a person's name too, but without text."""
    if not isinstance(message, dict):
        return False
    role, content = _role_and_content(message)
    parts = content if isinstance(content, list) else ()
    kinds = [string(one, "part_kind") for one in parts if isinstance(one, dict)]
    has_text = any(isinstance(block, str) for block in blocks_of(content))
    return role in PEOPLE and (has_text or "user-prompt" in kinds)


def _role_and_content(frame: Frame) -> tuple[str, Json]:
    """A message's role, in lower case, and its content; no role if it is not a message."""
    inner = frame.get("content")
    inner = inner if isinstance(inner, dict) else frame  # the ADK's and Gemini's
    content = next((inner[key] for key in CONTENT if key in inner), None)
    role = inner.get("role") or frame.get("role")
    role = role.get("value") if isinstance(role, dict) else role
    kind = string(frame, "type").lower()
    source = string(frame, "source", "author", "sender")
    if isinstance(role, str):
        return role.lower(), content
    if kind in ASSISTANTS | PEOPLE | SILENT:
        return kind, content
    if source or kind.endswith("message"):
        is_silent = words_of(string(frame, "type")) & (REASONING | {"execution"})
        is_persons = source.lower() in PEOPLE
        return "tool" if is_silent else "user" if is_persons else "assistant", content
    if "parent_tool_use_id" in frame:  # the Claude Agent SDK's
        return "assistant" if "model" in frame else "user", content
    is_request = frame.get("kind") == "request"  # PydanticAI's
    return "" if "parts" not in inner else "user" if is_request else "assistant", content


def blocks_of(content: Json) -> Blocks:
    """The texts and tool calls in a message's content."""
    blocks: Blocks = []
    for block in content if isinstance(content, list) else [content]:
        if isinstance(block, str):
            blocks.append(block)
        elif isinstance(block, dict):
            kind = string(block, "type", "block_type", "part_kind", "kind")
            text = block.get("text", block.get("content" if kind == "text" else "refusal"))
            if words_of(kind) & REASONING or block.get("thought") is True:
                continue
            if call := call_of(block):
                blocks.append(call)
            elif isinstance(text, str) and not words_of(kind) & TOOL:
                blocks.append(text)
    return blocks


def call_of(block: Frame) -> events.ToolCallStart | None:
    """The tool call in a block, in any framework's form."""
    for key in ("toolUse", "function_call", "functionCall", "function"):
        if isinstance(inner := block.get(key), dict):
            name = str(inner.get("name", ""))
            call_id = string(inner, *CALL_IDS) or string(block, *CALL_IDS)
            return events.ToolCallStart(name, call_id) if name or key == "toolUse" else None
    words = words_of(string(block, "type", "block_type", "part_kind"))
    name = string(block, "toolName", "tool_name", "name", "tool")
    is_use = {"input", "arguments", "args", "tool_kwargs"} & block.keys() and "output" not in block
    is_call = words & TOOL and not words & TOOL_RESULT if words else is_use
    return events.ToolCallStart(name, string(block, *CALL_IDS)) if is_call and name else None


def calls_of(calls: Iterable[Json]) -> list[events.ToolCallStart]:
    """The tool calls in a list that contains nothing else."""
    found = [call_of({"type": "tool_call"} | one) for one in calls if isinstance(one, dict)]
    return [call for call in found if call]


def typed(frame: Frame) -> list[Event] | None:  # noqa: C901, PLR0912 - a case a word
    """Something that says what it is by the words in its type."""
    words = words_of(kind_of(frame))
    part = next((frame[key] for key in PARTS if key in frame), None)
    text = string(frame, *TEXTS, "message", "data", "output")
    message_id = string(frame, *MESSAGE_IDS)
    if words & REASONING:
        return NOISE
    if isinstance(part, dict):
        return _part(words, part)
    if words & TOOL or (not words and is_about_tool(frame)):
        given = {"output", "result", "tool_output", "content", "parent_ids"} & frame.keys()
        is_result = words & TOOL_RESULT or given
        return [events.StepFinished()] if is_result else [*calls_of([frame])] or NOISE
    if not words:
        return None
    if (failure := failure_of(frame)) is not None:
        return [failure]
    if words & {"text", "message"} and words & (START | END) and "content" not in frame:
        return [events.TextMessageEnd() if words & END else events.TextMessageStart()]
    if words & FINAL and not words & PIECE:
        whole = string(frame, "result", "response", "output") or text
        if whole:
            return [events.State({"response": whole})]
    elif words & STATUS and not words & PIECE:
        said = string(frame, "message", "text", "status", "content", "data", "progress")
        return [events.Activity(said)] if said else None
    elif text and "message" in words and not words & PIECE:
        return [events.AssistantMessage([text], message_id)]
    elif words & (PIECE | TEXT):
        delta = frame.get("delta")
        if isinstance(delta, dict):
            kind = words_of(string(delta, "type", "part_delta_kind"))
            text = string(delta, "text", "content_delta", "content")
            is_text = text and not kind & (REASONING | TOOL)
            return [events.TextMessageContent(text, "")] if is_text else NOISE
        if text:
            has_id = message_id or "index" in frame or "content_index" in frame
            return [events.TextMessageContent(text, message_id if has_id else None)]
    return None


def _part(words: frozenset[str], part: Frame) -> list[Event]:
    """What begins or ends a part of a message: OpenAI's, Anthropic's and PydanticAI's events."""
    if "role" in part:
        return message_of(part) or NOISE if words & END else NOISE
    blocks = blocks_of([part])
    if not blocks:
        is_result = words_of(string(part, "type", "part_kind")) & TOOL_RESULT
        return [events.StepFinished()] if is_result else NOISE
    if not isinstance(blocks[0], str):
        return [blocks[0]]
    whole, piece = events.AssistantMessage(blocks), events.TextMessageContent(blocks[0], "")
    return [whole if words & END else piece]


def one_text(frame: Frame) -> list[Event] | None:
    """An object with a single text, in a field that anybody would choose for it."""
    if kind_of(frame):
        return None
    named = {key: frame[key] for key in NAMED if frame.get(key) not in (None, "", {})}
    if named:
        objects = (frame.get("json_dict"), frame.get("pydantic"))  # CrewAI's
        better = next((one for one in objects if is_answer(one)), None)
        return [events.State(better or our_names(named))]
    if string(frame, "node", "langgraph_node", "name") in TOOL:
        return [events.StepFinished()]
    text = next((frame[key] for key in TEXTS if key in frame), None)
    if isinstance(text, dict) and "delta" in frame:  # OpenAI's
        return message_of({"type": "Chunk", **text, "role": "assistant"}) or NOISE
    if isinstance(text, str):
        return [events.TextMessageContent(text)]
    if isinstance(text, list) and (blocks := blocks_of(text)):
        return [events.AssistantMessage(blocks)]
    said = string(frame, "progress", "status") if len(frame) == 1 else ""
    return [events.Activity(said)] if said else None


def mark(frame: Frame) -> list[Event] | None:
    """Something that begins or ends, and says nothing else."""
    words = words_of(kind_of(frame))
    return [events.StepFinished()] if words & END else NOISE if words & (START | STATUS) else None


def our_names(fields: Frame) -> Frame:
    """The fields of an answer under our own names, and nothing else."""
    named = next((fields[key] for key in NAMED if fields.get(key) is not None), None)
    key = "structured_output" if isinstance(named, dict) else "response"
    ours = {key: named} if named is not None else {}
    return ours | {key: fields[key] for key in ANSWER_KEYS & fields.keys()}


def failure_of(frame: Frame) -> Event | None:
    """The failure that a frame reports, if it does: by its error, flags, type or status."""
    error, last = frame.get("error"), (_split(kind_of(frame)) or ("",))[-1]
    said = string(frame, *SAID)
    message = frame.get("message")
    if error or frame.get("error_type"):
        text = string(error, "message") if isinstance(error, dict) else error
        body = message_text(message) if isinstance(message, dict) else frame.get("content")
        return run_error(frame, message_text(body), text, said)
    if True in (frame.get("is_error"), frame.get("isError")):
        reason = f"{FAILED} ({string(frame, 'subtype')})."
        return run_error(frame, string(frame, "result"), message_text(frame), said, reason)
    status = str(frame.get("status")).casefold()
    has_status = status in FAILURES or frame.get("success") is False
    if isinstance(frame.get("error_message", frame.get("errorMessage")), str) or last in FAILURES:
        data = frame.get("data")
        text = string(data, "message", "error") if isinstance(data, dict) else data
        return run_error(frame, said, text, string(frame, "text", "content"))
    return run_error(frame, said) if has_status and said and not is_answer(frame) else None


def run_error(frame: Frame, *texts: Json) -> Event:
    """A failure, with the first of these texts that is not empty."""
    said = next((one for one in texts if isinstance(one, str) and one.strip()), f"{FAILED}.")
    fields = {key: frame[key] for key in ANSWER_KEYS & frame.keys() if frame[key] != said}
    return events.RunError(said, repr(frame), fields)


def snapshot(said: list[list[Event]]) -> Event:
    """Events that count only if nobody else spoke."""
    whole = [one for one in chain(*said) if isinstance(one, events.AssistantMessage)]
    return events.MessagesSnapshot(whole)


def said_by(speaker: Speaker, found: list[Event]) -> list[Event]:
    """The same events, of another speaker."""
    return [replace(one, speaker=speaker) for one in found]


def a2a_task(state: str, status: Frame, frame: Frame) -> list[Event]:
    """A task of the A2A protocol: https://a2a-protocol.org/latest/specification/."""
    message, artifacts = status.get("message"), frame.get("artifacts")
    said = message_text(message.get("parts")) if isinstance(message, dict) else ""
    if state in ("failed", "rejected", "canceled"):
        return [run_error(frame, said, f"{FAILED} ({state}).")]
    texts = [message_text(one.get("parts")) for one in artifacts or [] if isinstance(one, dict)]
    is_final = state in ("completed", "input-required")
    if text := "\n\n".join(filter(None, texts)) or (said if is_final else ""):
        return [events.State({"response": text})]
    return [events.Activity(said)] if said else NOISE


def is_about_tool(frame: Frame) -> bool:
    """Whether a frame is about a tool call, whose failure and output are not the run's."""
    return bool(TOOL_FIELDS & frame.keys() or words_of(kind_of(frame)) & TOOL)


def kind_of(frame: Frame) -> str:
    """The type that a frame gives itself."""
    return string(frame, "type", "event_kind", "event", "chunk_type", "kind")


def string(frame: Frame, *keys: str) -> str:
    """The first of some fields that is text and not empty."""
    for key in keys:
        if isinstance(value := frame.get(key), str) and value:
            return value
    return ""


@functools.lru_cache(maxsize=1_000)
def _split(kind: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", kind[:200]))


def words_of(kind: str) -> frozenset[str]:
    """The words in a name, in whatever case it is written."""
    return frozenset(_split(kind))
