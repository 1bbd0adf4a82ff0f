"""What agents say, as progress and an answer: JSON, event streams, and Strands' own events.

Pure: bytes in, what a person sees out. ``EventStream`` and ``WholeAnswer`` read what arrives, in
whatever pieces it comes; ``AgentError`` is what they raise, and what the call raises too.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Json = Any

MAX_BYTES = 32 * 1024 * 1024  # of one frame, or of all text together; a worker has 1024 MB
MAX_REPR_CHARACTERS = 100_000  # longer ones are not parsed to see what they are
MAX_DEPTH = 500  # of nesting; Python's own JSON stops at about 1,000

TEXT_KEYS = ("response", "result", "output", "message")
ANSWER_KEYS = frozenset(
    {"response", "result", "output", "vendors", "quotes", "emails", "emails_sent"}
)

NOT_STARTED = "The agent was not started, so no vendor was contacted."
MAY_HAVE_ACTED = "The agent may already have contacted vendors."


@dataclass
class Answer:
    """What the agent answered, in the shape that a task keeps."""

    agent_response: str
    vendors: list[Json] = field(default_factory=list)
    quotes: list[Json] = field(default_factory=list)
    emails_sent: int = 0
    unmatched_emails: list[Json] = field(default_factory=list)


class AgentError(Exception):
    """The run failed; the message is fit for the person whose task it is.

    ``detail`` is for the operator's log only. ``still_running``: the agent may be at work, so its
    session ought to be stopped. ``partial`` is what it had answered by then, if anything, and
    ``raw`` an answer that could not be read.
    """

    still_running = False

    def __init__(
        self, what: str, detail: str = "", partial: Answer | None = None, raw: str = ""
    ) -> None:
        super().__init__(f"{what} {self.consequence}")
        self.detail = detail
        self.partial = partial
        self.raw = raw

    consequence = MAY_HAVE_ACTED


class AgentNotStarted(AgentError):
    """Nothing reached the agent."""

    consequence = NOT_STARTED


class AgentFailed(AgentError):
    """The agent ran and failed, or its answer cannot be used."""


class AgentLost(AgentError):
    """Contact was lost, or given up, with an agent that may still be running."""

    still_running = True


class InvalidAnswer(Exception):
    """Text that is not an answer; the message says why, in a few words."""


class EventStream:
    """Reads an agent's event stream, in whatever pieces its bytes arrive.

    The SDK sends lines ``data: <json>`` with no event names, ids or end mark. ``message`` texts are
    progress. The response is, in this order: the answer object's, the last whole turn of a Strands
    agent, the pieces of text put together.
    """

    def __init__(self, on_progress: Callable[[str], None]) -> None:
        self.on_progress = on_progress
        self.buffer = bytearray()
        self.pieces: list[str] = []
        self.turn: str | None = None
        self.pieces_before = 0  # how many pieces are older than the last whole turn
        self.answer: dict[str, Json] = {}
        self.unreadable: InvalidAnswer | None = None
        self.unread = bytearray()
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Reads the lines that ``data`` completes; raises AgentFailed if one says ``error``."""
        # Not splitlines(): U+2028 and others may stand inside a line, unescaped.
        self.buffer += data
        if b"\n" in data:
            *lines, self.buffer = self.buffer.split(b"\n")
            for line in lines:
                self._line(bytes(line))
        if len(self.buffer) > MAX_BYTES:
            raise AgentLost("The agent's answer is too long.", partial=self.partial())

    def finish(self) -> Answer:
        """The answer, once the stream has ended; raises AgentFailed if there is none."""
        last, self.buffer = bytes(self.buffer), bytearray()
        self._line(last)
        if self.unreadable:
            what = "The agent's answer cannot be read."
            raise AgentFailed(what, str(self.unreadable), self.partial(), self.raw())
        answer = self._gathered(self.turn if self.turn is not None else "".join(self.pieces))
        if answer is None:
            raise AgentFailed("The agent ended without an answer.")
        return answer

    def partial(self) -> Answer | None:
        """What there is of an answer so far, for a run that failed: an unfinished turn too."""
        unfinished = "".join(self.pieces[self.pieces_before :])
        return self._gathered("\n\n".join(text for text in (self.turn, unfinished) if text))

    def raw(self) -> str:
        """What of the stream no frame holds: unreadable lines, and the one in which it ended."""
        return (self.unread + self.buffer).decode(errors="replace")

    def _gathered(self, text: str) -> Answer | None:
        if self.answer:
            return make_answer(self.answer, text)
        return Answer(text) if text else None

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:") or not line[5:].strip():
            return
        try:
            self._frame(parse(line[5:]))
        except InvalidAnswer as error:
            # One frame may be noise and the agent at work: hear it out, then say so.
            self.unreadable = error
            self.unread += line + b"\n"
            self._grow(len(line))

    def _frame(self, frame: Json) -> None:  # noqa: C901 - a case for each shape there is
        match frame:
            case str():
                if not is_python_repr(frame):
                    self._piece(frame)
            case {"error": error} if error:
                self.answer |= _answered(frame)
                raise AgentFailed(error_text(frame), repr(frame), self.partial())
            case dict() if ANSWER_KEYS & frame.keys():
                self.answer |= frame
            case {"event": {"contentBlockDelta": {"delta": {"text": str(text)}}}}:
                self._piece(text)
            case {"event": {"contentBlockStart": {"start": {"toolUse": {"name": str(name)}}}}}:
                self._progress(f"Using {name}")
            case {"message": {"role": "assistant", "content": list()} as message}:
                if text := text_of(message):
                    self.turn = text
                    self.pieces_before = len(self.pieces)
                    self._grow(len(text))
            case {"data": str(text)}:
                self._piece(text)
            case {"message": str(message)}:
                self._progress(message)

    def _piece(self, text: str) -> None:
        self.pieces.append(text)
        self._grow(len(text))

    def _progress(self, message: str) -> None:
        if message.strip():
            self.on_progress(message.strip())

    def _grow(self, size: int) -> None:
        self.size += size
        if self.size > MAX_BYTES:
            raise AgentLost("The agent's answer is too long.", partial=self.partial())


class WholeAnswer:
    """Reads an answer that comes in one piece: JSON, or plain text if its content type says so."""

    def __init__(self, *, is_text: bool = False) -> None:
        self.is_text = is_text
        self.body = bytearray()

    def feed(self, data: bytes) -> None:
        """Adds what has arrived."""
        self.body += data
        if len(self.body) > MAX_BYTES:
            raise AgentLost("The agent's answer is too long.", raw=self.raw())

    def finish(self) -> Answer:
        """The answer, once all of it is there; raises AgentFailed if it is none."""
        if not self.body.strip():
            raise AgentFailed("The agent ended without an answer.")
        try:
            return self._read(parse(self.body))
        except InvalidAnswer as error:
            if self.is_text:
                return Answer(_mended(self.raw()))
            what = "The agent's answer cannot be read."
            raise AgentFailed(what, str(error), raw=self.raw()) from error

    def partial(self) -> None:
        """Half a document is no answer."""

    def raw(self) -> str:
        """All that has arrived, readable or not."""
        return self.body.decode(errors="replace")

    def _read(self, value: Json) -> Answer:
        match value:
            case {"error": error} if error:
                answered = _answered(value)
                partial = make_answer(answered, "") if answered else None
                raise AgentFailed(error_text(value), repr(value), partial)
            case None | "" | [] | {} if not value:
                raise AgentFailed("The agent ended without an answer.", repr(value))
            case dict():
                return make_answer(value, "")
        return make_answer({"response": value}, "")


def make_answer(value: dict[str, Json], text: str) -> Answer:
    """Puts an answer object into a task's shape; ``text`` is the response if it names none.

    Each vendor gets the e-mails whose recipient it is; the others are ``unmatched_emails``.
    """
    named = next((value[key] for key in TEXT_KEYS if value.get(key) is not None), None)
    if named is not None:
        text = text_of(named)
    elif not text and not ANSWER_KEYS & value.keys():
        text = json.dumps(value, ensure_ascii=False)
    vendors = [_as_object(vendor, "name") for vendor in _as_list(value.get("vendors"))]
    emails = _as_list(value.get("emails"))
    unmatched = _give_emails(vendors, emails)
    return Answer(
        agent_response=text,
        vendors=vendors,
        quotes=[_as_object(quote, "text") for quote in _as_list(value.get("quotes"))],
        emails_sent=_count(value.get("emails_sent"), len(emails)),
        unmatched_emails=unmatched,
    )


def parse(text: bytes | bytearray) -> Json:
    """Reads JSON that a browser can read too; raises InvalidAnswer.

    Halves of surrogate pairs become U+FFFD. NaN, infinities and nesting over 500 are refused.
    """
    try:
        return _clean(json.loads(text.decode(errors="strict")), MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        raise InvalidAnswer(f"not JSON: {error}") from error


def text_of(value: Json) -> str:
    """The text in a response: itself, a Strands message's or its content blocks', else as JSON."""
    if isinstance(value, str):
        return value
    blocks = value.get("content") if isinstance(value, dict) else value
    if isinstance(blocks, str):
        return blocks
    if isinstance(blocks, list) and all(isinstance(block, dict) for block in blocks):
        texts = [block["text"] for block in blocks if isinstance(block.get("text"), str)]
        if texts or "role" in value:
            return "".join(texts)
    return json.dumps(value, ensure_ascii=False)


def error_text(answer: dict[str, Json]) -> str:
    """What an agent says of its failure, without the ARNs and accounts of AWS's own messages."""
    error = answer["error"]
    if isinstance(error, dict):
        error = error.get("message")
    candidates = (error, answer.get("message"), "The agent reported a failure.")
    said = next(text for text in candidates if isinstance(text, str) and text.strip())
    text = " ".join(said.split())
    text = re.sub(r"arn:aws[^\s\"'<>]*", "(an AWS resource)", text)
    text = re.sub(r"(?<!\d)\d{12}(?!\d)", "(an AWS account)", text)[:1_500]
    return text if text.endswith((".", "!", "?")) else text + "."


def is_python_repr(text: str) -> bool:
    """Whether a frame is the SDK's repr of a dict that is no JSON: never for a person to see."""
    if not text.startswith("{'"):
        return False
    if len(text) > MAX_REPR_CHARACTERS:
        return True
    try:
        return isinstance(ast.literal_eval(text), dict)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return True


def _answered(failure: dict[str, Json]) -> dict[str, Json]:
    """What a failure says beside its error: whom the agent had contacted by then, for one."""
    return {key: value for key, value in failure.items() if key in ANSWER_KEYS}


def _clean(value: Json, depth: int) -> Json:
    if isinstance(value, str):
        return _mended(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("NaN and infinite numbers are not JSON")
    if isinstance(value, (dict, list)) and not depth:
        raise ValueError("it is nested too deeply")
    if isinstance(value, list):
        for index, element in enumerate(value):
            value[index] = _clean(element, depth - 1)
    elif isinstance(value, dict):
        for key in list(value):
            element = _clean(value.pop(key), depth - 1)
            value[_mended(key)] = element
    return value


def _mended(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _as_list(value: Json) -> list[Json]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _as_object(value: Json, key: str) -> dict[str, Json]:
    return dict(value) if isinstance(value, dict) else {key: value}


def _give_emails(vendors: list[dict[str, Json]], emails: list[Json]) -> list[Json]:
    """Adds to each vendor the e-mails sent to it; returns those that were sent to none."""
    addresses = set()
    for vendor in vendors:
        address = _address(vendor.get("email"))
        mine = [email for email in emails if address and _recipient(email) == address]
        vendor["emails"] = [*_as_list(vendor.get("emails")), *mine]
        addresses.add(address)
    return [email for email in emails if _recipient(email) not in addresses - {""}]


def _recipient(email: Json) -> str:
    return _address(email.get("recipient")) if isinstance(email, dict) else ""


def _address(value: Json) -> str:
    return value.strip().casefold() if isinstance(value, str) else ""


def _count(value: Json, otherwise: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return otherwise
    return int(value) if 0 <= value < 1_000_000_000 else otherwise
