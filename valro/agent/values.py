"""What the values that agents send are: JSON, texts of it or of Python's, messages, results, noise.

Pure, and knows no stream: answers.py puts together what comes in pieces.
"""

from __future__ import annotations

import ast
import json
import math
import re
from contextlib import suppress
from typing import Any

Json = Any

MAX_VALUES = 600_000  # of one JSON text: some take 300 bytes of memory, and two of text
MAX_REPR_CHARACTERS = 200_000  # longer ones are not parsed to see what they are
MAX_DEPTH = 500  # of nesting; Python's own JSON stops at about 1,000

TEXT_KEYS = ("response", "result", "output", "message", "structured_output")
ANSWER_KEYS = frozenset(
    "structured_output response result output vendors quotes emails emails_sent".split()
)

# Keys of Strands' events that say nothing to a person, or that say again what another one has said:
# those that are true, and those with what it is about.
STRANDS_FLAGS = ("init_event_loop", "start", "start_event_loop", "force_stop", "reasoning")
STRANDS_KEYS = frozenset(
    "current_tool_use tool_cancel_event event_loop_throttled_delay citation".split()
)
# The model's own events, which Strands wraps in {"event": …}.
CONVERSE_KEYS = frozenset(
    "messageStart messageStop contentBlockStart contentBlockDelta contentBlockStop metadata".split()
)
ACCEPTED_TEXT = re.compile(r'\s*\{\s*"accepted"\s*:\s*true\s*\}\s*')
STARTS_AS_JSON = re.compile(r"\s*[\[{]")
OBJECT_START = re.compile(r"(?:```\w*+\s*+)?(?=\{\s*\")")
# Up to what begins a value, or to the end: all linear, also where a string never ends.
TO_VALUE = re.compile(rb'(?:[^",\[{]|"(?:[^"\\]|\\.)*+"?)*+(?:[,\[{]|\Z)', re.DOTALL)
# Inside the repr of a dict: <strands.agent.agent.Agent object at 0x7f…>, UUID('…'), AgentResult(…
PYTHON_OBJECT = re.compile(r"[:\[(=,] ?(?:<[^<>]+ at 0x[0-9a-f]+>|[A-Za-z_][\w.]*\()")
LONE_OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-f]+>")
QUOTED = r"""('(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")"""
# Linear too: a string that never ends goes to the end of the text.
QUOTED_OR_OBJECT = re.compile(
    QUOTED.replace("+'", "+'?").replace('+"', '+"?') + "|<[^<>]*>", re.DOTALL
)


class InvalidAnswer(Exception):
    """Text that is not an answer; the message says why, in a few words."""


def answer_in(value: Json) -> dict[str, Json] | None:
    """The answer object that a value is, holds or is the text of; None if there is none."""
    if not is_answer(value) and (text := message_text(value)) is not None:
        value = from_text(text) or object_at_end(text)
    if not is_answer(value):
        return None
    inner = answer_in(named_response(value))
    return {key: value[key] for key in value if key not in TEXT_KEYS} | inner if inner else value


def is_answer(value: Json) -> bool:
    """Whether a value is an object with any of the fields of an answer."""
    return isinstance(value, dict) and bool(ANSWER_KEYS & value.keys())


def object_at_end(text: str) -> Json:
    """The answer object with which a model ends what it says, in a code block or not, if it does.

    What it says before that is put before the response.
    """
    end = text.rstrip().removesuffix("```").rstrip()
    start = OBJECT_START.search(text)
    if not start or not end.endswith("}"):
        return None
    value = from_text(end[start.end() :])
    if not is_answer(value):
        return None
    said = [text[: start.start()].strip(), text_of(named_response(value) or "")]
    return value | {"response": "\n\n".join(filter(None, said))}


def from_text(text: str) -> Json:
    """The object or list that a text is, as JSON or as Python writes it; None if it is neither.

    Objects in what Python writes are dicts of what they are made of, or None.
    """
    if STARTS_AS_JSON.match(text):
        with suppress(InvalidAnswer):
            return parse(text.encode())
    if text.startswith(("{'", "[{'", "Interrupt(")) and len(text) <= MAX_REPR_CHARACTERS:
        # TypeError: of what Python can write and JSON cannot. Warning: of no repr at all.
        with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError, Warning):
            tree = ast.parse(QUOTED_OR_OBJECT.sub(lambda one: one[1] or "None", text), mode="eval")
            value = ast.literal_eval(_ObjectsAsDicts().visit(tree))
            return _clean(json.loads(json.dumps(value)), MAX_DEPTH)
    return None


def parse(text: bytes | bytearray) -> Json:
    """Reads JSON that a browser can read too; raises InvalidAnswer.

    Halves of surrogate pairs become U+FFFD, NaN and infinities null. Nesting over 500 is refused,
    and more values than there is memory for.
    """
    if _begin_values(text) > MAX_VALUES and _has_too_many_values(text):
        raise InvalidAnswer(f"more than {MAX_VALUES:,} values")
    try:
        return _clean(json.loads(text.decode("utf-8-sig")), MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        raise InvalidAnswer(f"not JSON: {error}") from error


def text_of(value: Json) -> str:
    """The text in a response: itself, a Strands message's or its content blocks', else as JSON."""
    text = message_text(value)
    return json.dumps(value, ensure_ascii=False) if text is None else text


def message_text(value: Json) -> str | None:
    """A text, or that of a Strands message or of its content blocks; None if it is none of them."""
    blocks = value.get("content") if isinstance(value, dict) else value
    if isinstance(blocks, str):
        return blocks
    if isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks):
        texts = [block["text"] for block in blocks if isinstance(block.get("text"), str)]
        if texts or "role" in value:
            return "".join(texts)
    return None


def is_result(value: dict[str, Json]) -> bool:
    """Whether an object is what Strands gives as the result of an agent, a swarm or a graph."""
    match value:
        case {"stop_reason": _, "role": _}:
            return False  # a message as the model's own API has it
        case {"stop_reason": _}:
            return not {"response", "result", "output"} & value.keys()
        case {"status": _, "results": dict(nodes)}:
            is_nodes = all(isinstance(node, dict) for node in nodes.values())
            return is_nodes and not {"response", "result", "output"} & value.keys()
    return False


def is_acceptance(value: Json) -> bool:
    """Whether an agent says that it works on by itself: ``{"accepted": true}``, or the text of it."""
    if isinstance(value, str):
        return bool(ACCEPTED_TEXT.fullmatch(value))
    return isinstance(value, dict) and len(value) == 1 and value.get("accepted") is True


def is_noise(frame: Json) -> bool:
    """Whether a frame says nothing to a person, or what another one of Strands' has said."""
    match frame:
        case {"event": dict(event)}:
            return bool(CONVERSE_KEYS & event.keys())
        case {"message": {"role": "user"}} | {"role": "user", "content": _}:
            return True
        case {"type": str(kind)} if kind.startswith("multiagent_"):
            return True
        case dict() if STRANDS_KEYS & frame.keys():
            return True
        case dict() if any(frame.get(flag) is True for flag in STRANDS_FLAGS):
            return True
    return not frame


def result_text(result: Json) -> str:
    """The text in an agent's result, or those in a swarm's or graph's, one after the other."""
    match result:
        case {"results": dict(nodes)}:
            return "\n\n".join(filter(None, map(result_text, nodes.values())))
        case {"result": inner}:
            return result_text(inner)
        case {"message": message}:
            return message_text(message) or ""
    return ""


def is_python_repr(text: str) -> bool:
    """Whether a text is the SDK's repr of a dict that holds objects: never for a person to see."""
    is_dict = text.startswith("{'") and text.endswith("}")
    return bool(PYTHON_OBJECT.search(text) if is_dict else LONE_OBJECT.fullmatch(text))


def named_response(answer: dict[str, Json]) -> Json:
    """What an answer object gives as its response."""
    return next((answer[key] for key in TEXT_KEYS if answer.get(key) is not None), None)


def replace_surrogates(text: str) -> str:
    """The text without halves of surrogate pairs, which UTF-8 cannot carry."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _begin_values(text: bytes | bytearray) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _has_too_many_values(text: bytes | bytearray) -> bool:
    """Whether there are too many commas and brackets outside of strings."""
    return any(count > MAX_VALUES for count, _ in enumerate(TO_VALUE.finditer(text)))


def _clean(value: Json, depth: int) -> Json:
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (dict, list)) and not depth:
        raise ValueError("it is nested too deeply")
    if isinstance(value, list):
        for index, element in enumerate(value):
            value[index] = _clean(element, depth - 1)
    elif isinstance(value, dict):
        for key in list(value):
            element = _clean(value.pop(key), depth - 1)
            value[replace_surrogates(key)] = element
    return value


class _ObjectsAsDicts(ast.NodeTransformer):
    """Makes a repr a literal: each object becomes a dict of what it was made with."""

    def visit_Call(self, call: ast.Call) -> ast.Dict:
        """Interrupt(id='…', reason='…') as {'id': '…', 'reason': '…'}."""
        self.generic_visit(call)
        names: list[ast.expr | None] = [ast.Constant(keyword.arg) for keyword in call.keywords]
        return ast.Dict(names, [keyword.value for keyword in call.keywords])

    def visit_Set(self, objects: ast.Set) -> ast.List:
        """A set as a list, since dicts cannot be in a set."""
        self.generic_visit(objects)
        return ast.List(objects.elts)
