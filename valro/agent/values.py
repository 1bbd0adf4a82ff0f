"""The values that agents send: JSON that a browser can read, or text with JSON or Python reprs.

Pure, and knows no streams and no frameworks.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import math
import re
from collections import Counter, defaultdict
from contextlib import suppress
from typing import Any

Json = Any

MAX_VALUES = 600_000  # in one JSON text: some take 300 bytes of memory, and only two of text
MAX_REPR_CHARACTERS = 200_000  # longer ones are not parsed
MAX_VENDORS_OF_ONE_ADDRESS = 10  # each of them gets all e-mails to that address
MAX_DEPTH = 500  # of nesting; Python's own parser stops at about 1,000

BOM = b"\xef\xbb\xbf"
TEXT_KEYS = ("response", "result", "output", "message", "structured_output")
ANSWER_KEYS = frozenset(
    "structured_output response result output vendors quotes emails emails_sent".split()
)

DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # NaN and the infinities
# What may be half of a surrogate pair, or an infinity.
TO_CLEAN = re.compile(rb"\\u[dD]|\d[eE]\+?\d\d\d")
STARTS_AS_JSON = re.compile(r"\s*[\[{]")
OBJECT_START = re.compile(r"(?:```\w*+\s*+)?(?=\{\s*\")")
# Up to the beginning of a value, or to the end: linear, even if a string never ends.
TO_VALUE = re.compile(rb'(?:[^",\[{]|"(?:[^"\\]|\\.)*+"?)*+(?:[,\[{]|\Z)', re.DOTALL)
# Inside the repr of a dict: <strands.agent.agent.Agent object at 0x7f…>, UUID('…'), AgentResult(…
PYTHON_OBJECT = re.compile(r"[:\[(=,] ?(?:<[^<>]+ at 0x[0-9a-f]+>|[A-Za-z_][\w.]*\()")
# A whole repr: <x.Agent object at 0x7f…>, [TextPart(content='…, and Pydantic's models as text:
# messages=[…] stop_reason=None
OBJECT_REPR = re.compile(
    r"<[^<>]+ at 0x[0-9a-f]+>\Z|\[?[A-Z]\w*\([a-z_]\w*=.*\)\]?\Z|[a-z_]\w*=[\['\"A-Z{].* \w+=",
    re.DOTALL,
)
# The objects in a repr that count as values.
PYTHON_VALUES = frozenset("Decimal UUID datetime date time".split())
QUOTED = r"""('(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")"""
# Also linear: a string that never ends goes to the end of the text.
QUOTED_OR_OBJECT = re.compile(
    QUOTED.replace("+'", "+'?").replace('+"', '+"?') + "|<[^<>]*>", re.DOTALL
)


class InvalidAnswer(Exception):
    """Text that is not an answer; the message says why in a few words."""


def parse(text: bytes | bytearray) -> Json:
    """Reads JSON that a browser can read too; raises InvalidAnswer.

    Halves of surrogate pairs become U+FFFD, NaN and infinities null. Refused are nesting over 500,
    and more values than memory holds.
    """
    begun = text.count(b",") + (nests := text.count(b"[") + text.count(b"{"))
    if begun > MAX_VALUES and _has_too_many_values(text):
        raise InvalidAnswer(f"more than {MAX_VALUES:,} values")
    try:
        value = DECODER.decode(text.decode("utf-8-sig" if text.startswith(BOM) else "utf-8"))
        return _clean(value, MAX_DEPTH) if nests > MAX_DEPTH or TO_CLEAN.search(text) else value
    except (ValueError, RecursionError) as error:
        raise InvalidAnswer(f"not JSON: {error}") from error


def from_text(text: str, *, with_objects: bool = False) -> Json:
    """The object or list in a text, as JSON or as Python writes it; None if it is neither.

    Of Python's objects, only decimals, dates and UUIDs are read. ``with_objects``, all are: as a
    dict of their arguments, or None.
    """
    if STARTS_AS_JSON.match(text):
        with suppress(InvalidAnswer):
            return parse(text.encode(errors="replace"))
    if text.startswith(("{'", "[{'")) and len(text) <= MAX_REPR_CHARACTERS:
        # TypeError: Python can write it and JSON cannot. Warning: it is not a repr at all.
        with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError, Warning):
            if with_objects:
                text = QUOTED_OR_OBJECT.sub(lambda one: one[1] or "None", text)
            values = _ObjectsAsValues(with_objects=with_objects)
            value = ast.literal_eval(values.visit(ast.parse(text, mode="eval")))
            return _clean(json.loads(json.dumps(value)), MAX_DEPTH)
    return None


def is_python_repr(text: str) -> bool:
    """Whether a text is the repr of a Python object, which people should never see."""
    if text.startswith("{'") and text.endswith("}"):
        return bool(PYTHON_OBJECT.search(text))
    return bool(OBJECT_REPR.match(text))


def is_answer(value: Json) -> bool:
    """Whether a value is an object with any field of an answer."""
    return isinstance(value, dict) and any(value.get(key) is not None for key in ANSWER_KEYS)


def answer_in(value: Json) -> dict[str, Json] | None:
    """The answer object that a value is, contains, or has as text; None if there is none."""
    if not is_answer(value) and (text := message_text(value)) is not None:
        value = from_text(text) or object_at_end(text)
    if not is_answer(value):
        return None
    inner = answer_in(named_response(value))
    return {key: value[key] for key in value if key not in TEXT_KEYS} | inner if inner else value


def object_at_end(text: str) -> Json:
    """The answer object at the end of a model's text, in a code block or not, if there is one.

    The text before it is put in front of the response.
    """
    end = text.rstrip().removesuffix("```").rstrip()
    start = OBJECT_START.search(text)
    if not start or not end.endswith("}"):
        return None
    value = from_text(end[start.end() :])
    if not is_answer(value):
        return None
    named = named_response(value)
    said = [text[: start.start()].strip(), "" if named is None else text_of(named)]
    return value | {"response": "\n\n".join(filter(None, said))}


def named_response(answer: dict[str, Json]) -> Json:
    """The response that an answer object names."""
    return next((answer[key] for key in TEXT_KEYS if answer.get(key) is not None), None)


def text_of(value: Json) -> str:
    """The text of a response: itself, or that of a message or content blocks, or else JSON."""
    text = message_text(value)
    return json.dumps(value, ensure_ascii=False) if text is None else text


def message_text(value: Json) -> str | None:
    """The text of a text, a message or content blocks; None if it is none of these."""
    blocks = value.get("content") if isinstance(value, dict) else value
    if isinstance(blocks, str):
        return blocks
    if isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks):
        texts = [block["text"] for block in blocks if isinstance(block.get("text"), str)]
        if texts or "role" in value:
            return "".join(texts)
    return None


def answer_fields(value: dict[str, Json], text: str) -> dict[str, Json]:
    """An answer object in the shape of a task's fields; ``text`` is the response if it names none.

    Each vendor gets the e-mails that were sent to it; the others are ``unmatched_emails``.
    """
    value = answer_in(value) or value
    named = named_response(value)
    if named is not None:
        said = text_of(named)
        text = said if said.strip() or not text else text
    elif value and not text and not ANSWER_KEYS & value.keys():
        text = json.dumps(value, ensure_ascii=False)
    vendors = [_as_object(vendor, "name") for vendor in _as_list(value.get("vendors"))]
    emails = _as_list(value.get("emails"))
    unmatched = _give_emails(vendors, emails)
    return {
        "agent_response": text,
        "vendors": vendors,
        "quotes": [_as_object(quote, "text") for quote in _as_list(value.get("quotes"))],
        "emails_sent": _count(value.get("emails_sent"), len(emails)),
        "unmatched_emails": unmatched,
    }


def replace_surrogates(text: str) -> str:
    """The text without halves of surrogate pairs, which UTF-8 cannot carry."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _as_list(value: Json) -> list[Json]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _as_object(value: Json, key: str) -> dict[str, Json]:
    return value if isinstance(value, dict) else {key: value}


def _give_emails(vendors: list[dict[str, Json]], emails: list[Json]) -> list[Json]:
    """Adds to each vendor the e-mails sent to it; returns those sent to nobody among them."""
    sent: defaultdict[str, list[Json]] = defaultdict(list)
    for email in emails:
        sent[_recipient(email)].append(email)
    sharing: Counter[str] = Counter({"": MAX_VENDORS_OF_ONE_ADDRESS})
    for index, vendor in enumerate(vendors):
        address = _address(vendor.get("email"))
        sharing[address] += 1
        vendor["emails"] = _as_list(vendor.get("emails"))
        if address in sent and sharing[address] <= MAX_VENDORS_OF_ONE_ADDRESS:
            # A copy, since this may be done twice with one answer.
            vendors[index] = vendor | {"emails": [*vendor["emails"], *sent[address]]}
    del sharing[""]
    return [email for email in emails if _recipient(email) not in sharing]


def _recipient(email: Json) -> str:
    return _address(email.get("recipient")) if isinstance(email, dict) else ""


def _address(value: Json) -> str:
    return value.strip().casefold() if isinstance(value, str) else ""


def _count(value: Json, otherwise: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return otherwise
    return int(value) if 0 <= value < 1_000_000_000 else otherwise


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


class _ObjectsAsValues(ast.NodeTransformer):
    """Turns a repr into a literal; raises ValueError if it has objects that it may not have."""

    def __init__(self, *, with_objects: bool) -> None:
        self.with_objects = with_objects

    def visit_Call(self, call: ast.Call) -> ast.expr:
        """Decimal('390') as 390, UUIDs and dates as text, A(x=1) as {'x': 1}."""
        name = ast.unparse(call.func).rpartition(".")[2]
        if self.with_objects and name not in PYTHON_VALUES:
            self.generic_visit(call)
            names: list[ast.expr | None] = [ast.Constant(one.arg) for one in call.keywords]
            return ast.Dict(names, [one.value for one in call.keywords])
        given = [ast.literal_eval(one) for one in call.args]
        match name, given:
            case "Decimal", [str(number)]:
                return ast.Constant(int(number) if number.isdecimal() else float(number))
            case "UUID", [str(text)]:
                return ast.Constant(text)
            case (("datetime" | "date" | "time"), _):
                moment = getattr(dt, name)(*given).isoformat()
                return ast.Constant(moment + ("+00:00" if call.keywords else ""))
        raise ValueError("it holds an object")

    def visit_Set(self, objects: ast.Set) -> ast.List:
        """A set as a list, since JSON has no sets."""
        self.generic_visit(objects)
        return ast.List(objects.elts)
