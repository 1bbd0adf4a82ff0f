"""What agents say, as progress and an answer: JSON, event streams, and Strands' own events.

Pure: bytes in, what a person sees out. ``EventStream`` and ``WholeAnswer`` read what arrives, in
whatever pieces it comes; ``AgentError`` is what they raise, and what the call raises too.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from valro.agent.values import (
    ANSWER_KEYS,
    CONVERSE_KEYS,
    QUOTED,
    InvalidAnswer,
    Json,
    answer_in,
    from_text,
    is_acceptance,
    is_noise,
    is_python_repr,
    is_result,
    named_response,
    parse,
    replace_surrogates,
    result_text,
    text_of,
)
from valro.tasks import (
    AGENT_FAILED,
    AGENT_LOST,
    AGENT_TIMEOUT,
    ANSWER_TOO_LARGE,
    MAY_HAVE_ACTED,
    NOT_STARTED,
    UNSTARTED,
)

MAX_BYTES = 32 * 1024 * 1024  # of one frame, or of all text together; a worker has 1024 MB
MAX_VENDORS_OF_ONE_ADDRESS = 10  # each of which gets all e-mails to it

NO_ANSWER = "The agent ended without an answer."
UNREADABLE = "The agent's answer cannot be read."

BOM = b"\xef\xbb\xbf"
# Lines of event streams that mean nothing here: other fields, comments, data without any.
NO_DATA = re.compile(rb"(?:data|event|id|retry)?(?::|\Z)")
LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a last CR may be half of a CRLF
# What Strands' text events begin with, as the SDK sends them: {'data': "I'll look", 'delta': …
TEXT_EVENT = re.compile(r"\{'data': " + QUOTED + ", '", re.DOTALL)

# In the reprs of Strands' own events for each piece of a text, a thought or a tool's input. They
# repeat what the model's events say, hold all of the agent's state, and take long to parse.
REPEATED = ", 'delta': {"


@dataclass
class Answer:
    """What the agent answered, in the shape that a task keeps.

    ``interrupts`` is what it stopped to ask: [{"id", "reason"?, "message"?, "response_schema"?}].
    ``message_id`` is its own id of the message that is the response, if it gave one.
    ``unparsed`` is what it sent beside that and nobody could understand: for the operator's log.
    """

    agent_response: str
    vendors: list[Json] = field(default_factory=list)
    quotes: list[Json] = field(default_factory=list)
    emails_sent: int = 0
    unmatched_emails: list[Json] = field(default_factory=list)
    interrupts: list[dict[str, Json]] = field(default_factory=list)
    message_id: str = field(default="", compare=False)
    unparsed: str = field(default="", compare=False)

    def task_fields(self) -> dict[str, Json]:
        """What a task keeps of it."""
        names = ("agent_response", "vendors", "quotes", "emails_sent")
        return {name: getattr(self, name) for name in names}

    def __bool__(self) -> bool:
        """Whether it says anything: blank is no answer."""
        said = self.agent_response.strip() or self.vendors or self.quotes or self.unmatched_emails
        return bool(said or self.emails_sent)


class Accepted(Answer):
    """The agent works on by itself and reports: there is no answer yet."""


class AgentError(Exception):
    """The run failed; the message is fit for the person whose task it is.

    ``detail`` is for the operator's log only. ``still_running``: the agent may be at work, so its
    session ought to be stopped. ``partial`` is what it had answered by then, if anything, and
    ``unparsed`` an answer that could not be read.
    """

    still_running = False
    code = AGENT_FAILED

    def __init__(
        self, what: str, detail: str = "", partial: Answer | None = None, unparsed: str = ""
    ) -> None:
        super().__init__(f"{what} {self.consequence}")
        self.detail = detail
        self.partial = partial
        self.unparsed = unparsed

    consequence = MAY_HAVE_ACTED


class AgentNotStarted(AgentError):
    """Nothing reached the agent."""

    consequence = UNSTARTED
    code = NOT_STARTED


class AgentFailed(AgentError):
    """The agent ran and failed, or its answer cannot be used."""


class AgentLost(AgentError):
    """Contact was lost, or given up, with an agent that may still be running."""

    still_running = True
    code = AGENT_LOST


class AgentTimeout(AgentLost):
    """The agent's time was over."""

    code = AGENT_TIMEOUT


class AnswerTooLong(AgentLost):
    """The agent was given up for all that it sends."""

    code = ANSWER_TOO_LARGE

    def __init__(self, partial: Answer | None = None, unparsed: str = "") -> None:
        super().__init__("The agent's answer is too long.", partial=partial, unparsed=unparsed)


@dataclass
class Turn:
    """What one agent writes between two whole turns: the agent itself, a node, or a tool's agent."""

    is_tool: bool = False  # what it says is progress, and never the answer
    pieces: list[str] = field(default_factory=list)
    streams: bool = False  # its text came in pieces, so the whole turn says it again
    calls: set[str] = field(default_factory=set)  # the ids of the tools that it uses
    uses: Counter[str] = field(default_factory=Counter)  # how many of them have a name

    def text(self) -> str:
        """What is written of it so far."""
        return "".join(self.pieces)

    def forget_calls(self) -> None:
        """Begins to count its tools anew: a model's next message."""
        self.calls.clear()
        self.uses.clear()


class EventStream:
    """Reads an agent's event stream, in whatever pieces its bytes arrive.

    The SDK sends lines ``data: <json>`` with no event names, ids or end mark. ``message`` texts,
    tools, what these say, and turns that others follow are progress. The response is, in this
    order: the answer object's, the last turn of a Strands agent, the pieces of text put together.
    """

    def __init__(self, on_progress: Callable[[str], None]) -> None:
        self.on_progress = on_progress
        self.buffer = bytearray()
        self.event: list[bytes] = []  # the data of an event that is not JSON line by line
        self.frames = 0
        self.turns: defaultdict[str, Turn] = defaultdict(Turn)
        self.turn = ""  # the last one with text
        self.unsaid = ""  # the same, while it may be the response: progress if another one follows
        self.pieces: list[str] = []
        self.echo: list[str] = []  # what Strands sends a second time, in another shape
        self.answer: dict[str, Json] = {}
        self.is_acceptance = False
        self.question = ""
        self.unreadable = False
        self.invalid = ""  # what is wrong with what was unreadable
        self.unread = bytearray()
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Reads the lines that ``data`` completes; raises AgentFailed if one says ``error``."""
        # Not splitlines(): U+2028 and others may stand inside a line, unescaped.
        may_end = b"\n" in data or b"\r" in data or self.buffer.endswith(b"\r")
        self.buffer += data
        if may_end:
            *lines, rest = LINE_END.split(self.buffer)
            self.buffer = bytearray(rest)
            for line in lines:
                self._line(bytes(line))
        if len(self.buffer) > MAX_BYTES:
            raise AnswerTooLong(self.partial(), self.unparsed())

    def finish(self, whole: Json = None) -> Answer:
        """The answer, once the stream has ended; raises AgentFailed if there is none.

        ``whole`` is what to show as it is, should no frame have been an answer.
        """
        self._end()
        for turn in list(self.turns.values()):
            self._end_turn(turn)
        answer = self.partial()
        if self.unreadable:
            raise AgentFailed(UNREADABLE, self.invalid, answer, self.unparsed())
        if self.question:
            raise AgentFailed(self.question, "it was interrupted", answer, self.unparsed())
        if answer is None and whole not in (None, "", [], {}):
            answer = make_answer({"response": whole}, "")
        if not answer:
            raise AgentFailed(NO_ANSWER, unparsed=self.unparsed())
        return answer

    def accepted(self) -> bool:
        """Whether all that the agent said is that it accepted the task."""
        self._end()
        return self.is_acceptance and self.frames == 1 and not self.unreadable

    def partial(self) -> Answer | None:
        """What there is of an answer so far: an unfinished turn too, if the run has failed."""
        turns = [self.turn, *(turn.text() for turn in self.turns.values() if not turn.is_tool)]
        text = "\n\n".join(text for text in turns if text.strip())
        text = text or "".join(self.pieces) or "".join(self.echo)
        value = self.answer or answer_in(text) or {}
        answer = make_answer(value, text) if value else Answer(text)
        answer.unparsed = self.unparsed()
        return answer or None

    def unparsed(self) -> str:
        """What of the stream nobody understood, and the line in which it ended."""
        return (self.unread + b"".join(self.event) + self.buffer).decode(errors="replace")

    def _end(self) -> None:
        last, self.buffer = bytes(self.buffer).rstrip(b"\r"), bytearray()
        self._line(last)
        self._line(b"")

    def _line(self, line: bytes) -> None:
        """Reads one line: data that is JSON by itself is a frame, other data part of an event."""
        line = line.removeprefix(BOM)
        if not line:
            lines, self.event = self.event, []
            if lines and not self._frame(b"".join(lines)):
                # No JSON of several lines: some of them may be, and the others are noise. The agent
                # may be at work, so hear it out and then say so.
                noise = [one for one in lines if len(lines) == 1 or not self._frame(one)]
                self.unreadable = True
                self._not_understood(b"".join(noise))
        elif line.startswith(b"data:") and line[5:].strip() not in (b"", b"[DONE]"):
            data = line[5:] + b"\n"
            if self.event or not self._frame(data):
                self.event.append(data)
                self._grow(len(data))
        elif not NO_DATA.match(line):
            self._not_understood(line + b"\n")

    def _frame(self, data: bytes) -> bool:
        """Reads a frame; False if it is not JSON."""
        try:
            frame = parse(data)
        except InvalidAnswer as error:
            self.invalid = str(error)
            return False
        if not self.take(frame):
            self._not_understood(data)
        return True

    def take(self, frame: Json) -> bool:
        """Takes a frame; False if nobody understands it. Raises AgentFailed if it says so."""
        self.frames += 1
        self.is_acceptance = is_acceptance(frame)
        return self._read(frame, self.turns[""])

    def _read(self, frame: Json, turn: Turn) -> bool:
        """Reads a frame, or a text: of the answer, or of a frame that somebody made a string of."""
        if not isinstance(frame, str):
            return self._object(frame, turn)
        echo = TEXT_EVENT.match(frame)
        if echo and (event := from_text(f"{echo[0]}delta': None}}")):
            return self._object(event, turn)
        if REPEATED in frame and not frame.startswith("{'result'") and is_python_repr(frame):
            return True
        inner = from_text(frame)
        if inner and self._object(inner, turn):
            return True
        if is_python_repr(frame) or (inner and turn.is_tool):
            return False
        if turn.is_tool:
            self._progress(frame)
        else:
            self.pieces.append(frame)
        self._grow(len(frame))
        return True

    def _object(self, frame: Json, turn: Turn) -> bool:  # noqa: C901, PLR0912 - a case a shape
        """Takes a frame; False if it means nothing."""
        if isinstance(frame, dict) and len(frame) == 1 and CONVERSE_KEYS & frame.keys():
            frame = {"event": frame}
        match frame:
            case {"error": error} if (error or frame.get("error_type")) and not turn.is_tool:
                self.answer |= _answered(frame)
                raise AgentFailed(error_text(frame), repr(frame), self.partial(), self.unparsed())
            case {"tool_stream_event": {"tool_use": {"toolUseId": str(use)}, "data": data}}:
                tool = self.turns[f"tool {use}"]
                tool.is_tool = True
                if not self._read(data, tool):
                    self._not_understood(json.dumps(data).encode() + b"\n")
            case {"type": "multiagent_node_stream", "node_id": str(node), "event": dict(event)}:
                return self._object(event, self.turns[f"node {node}"])
            case [{"id": _, "name": _, "reason": _, "response": _}, *_]:
                self.question = question(frame)
            case {"result": str(text)} if text.startswith("[{'id': ") and "'reason': " in text:
                return self._read(text, turn)
            case {"type": "multiagent_result", "result": str(text)}:
                self.turn = self.turn or text
            case {"interrupts": [_, *_] as asked} | {"tool_interrupt_event": {"interrupts": asked}}:
                self.question = question(asked)
            case {"result": dict(result)} | dict(result) if is_result(result):
                if not turn.is_tool:
                    self._result(result)
            case dict() if ANSWER_KEYS & frame.keys():
                if not turn.is_tool:
                    self.answer |= frame
            case {"event": {"contentBlockDelta": {"delta": {"text": str(text)}}}}:
                turn.streams = True
                self._write(text, turn)
            case {"event": {"contentBlockStart": {"start": {"toolUse": dict(use)}}}}:
                self._tool_use(use, turn)
            case {"event": {"messageStart": _}}:
                turn.forget_calls()
            case {"event": {"messageStop": _}}:
                self._end_turn(turn)
            case {"message": {"role": "assistant", "content": content}}:
                self._whole_turn(content, turn)
            case {"role": "assistant", "content": content} | ([{"text": str()}, *_] as content):
                self._whole_turn(content, turn)
            case {"data": str(text), "delta": _}:
                if not turn.is_tool:
                    self.echo.append(text)
                    self._grow(len(text))
            case {"data": str(text)}:
                return self._read(text, turn)
            case {"message": str(message)}:
                self._progress(message)
            case _:
                return is_noise(frame)
        return True

    def _result(self, result: dict[str, Json]) -> None:
        """Reads the result of an agent, a swarm or a graph: of its text there may be more before."""
        match result:
            case {"interrupts": [_, *_] as asked}:
                self.question = question(asked)
            case {"stop_reason": "interrupt"}:
                self.question = question([])
            case {"structured_output": dict(answer)}:
                self.answer["structured_output"] = answer
            case _:
                self.turn = self.turn or result_text(result)

    def _write(self, text: str, turn: Turn) -> None:
        turn.pieces.append(text)
        self._grow(len(text))

    def _tool_use(self, use: dict[str, Json], turn: Turn) -> None:
        """Says what was written before a tool, and the tool: parallel calls of one are numbered."""
        name = str(use.get("name"))
        call = str(use.get("toolUseId") or name)
        if call not in turn.calls:
            self._end_turn(turn)
            turn.calls.add(call)
            turn.uses[name] += 1
            number = f" ({turn.uses[name]})" if turn.uses[name] > 1 else ""
            self._progress(f"Using {name}{number}")

    def _whole_turn(self, content: Json, turn: Turn) -> None:
        """Reads a turn of which some may have come in pieces before."""
        for block in content if isinstance(content, list) else [{"text": content}]:
            match block:
                case {"text": str(text)} if not turn.streams:
                    self._write(text, turn)
                case {"toolUse": dict(use)}:
                    self._tool_use(use, turn)
        self._end_turn(turn)
        turn.streams = False
        turn.forget_calls()

    def _end_turn(self, turn: Turn) -> None:
        """Keeps what a turn said as the response, or says it if a tool's agent wrote it."""
        text = turn.text()
        turn.pieces.clear()
        if text.strip() and not turn.is_tool:
            self._progress("")
            self.turn = self.unsaid = text
        elif text.strip():
            self._progress(text)

    def _progress(self, message: str) -> None:
        for text in (self.unsaid, message):
            if text.strip():
                self.on_progress(text.strip())
        self.unsaid = ""

    def _not_understood(self, data: bytes) -> None:
        self.unread += data
        self._grow(len(data))

    def _grow(self, size: int) -> None:
        self.size += size
        if self.size > MAX_BYTES:
            raise AnswerTooLong(self.partial(), self.unparsed())


class WholeAnswer:
    """Reads an answer that comes in one piece: JSON, or plain text if its content type says so."""

    def __init__(self, *, is_text: bool = False) -> None:
        self.is_text = is_text
        self.body = bytearray()

    def feed(self, data: bytes) -> None:
        """Adds what has arrived."""
        self.body += data
        if len(self.body) > MAX_BYTES:
            raise AnswerTooLong(unparsed=self.unparsed())

    def finish(self) -> Answer:
        """The answer, once all of it is there; raises AgentFailed if it is none."""
        try:
            value = parse(self.body)
        except InvalidAnswer as error:
            value = replace_surrogates(self.unparsed()) if self.is_text else None
            if self.body.strip() and not self.is_text:
                raise AgentFailed(UNREADABLE, str(error), unparsed=self.unparsed()) from error
        return read_answer(value)

    def accepted(self) -> bool:
        """Whether all that the agent said is that it accepted the task."""
        with suppress(InvalidAnswer):
            return is_acceptance(parse(self.body))
        return False

    def partial(self) -> None:
        """Half a document is no answer."""

    def unparsed(self) -> str:
        """All that has arrived, readable or not."""
        return self.body.decode(errors="replace")


def read_answer(value: Json) -> Answer:
    """The answer that one value is, as if it were a stream's only frame; raises AgentFailed."""
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        value = {"response": value["message"]} | value  # of a whole answer, not progress
    stream = EventStream(lambda _: None)
    if not stream.take(value) and isinstance(value, str) and is_python_repr(value):
        raise AgentFailed(UNREADABLE, "a Python object", unparsed=value)
    return stream.finish(value)


def make_answer(value: dict[str, Json], text: str) -> Answer:
    """Puts an answer object into a task's shape; ``text`` is the response if it names none.

    Each vendor gets the e-mails whose recipient it is; the others are ``unmatched_emails``.
    """
    if not value and (value := answer_in(text) or {}):
        text = ""
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
    return Answer(
        agent_response=text,
        vendors=vendors,
        quotes=[_as_object(quote, "text") for quote in _as_list(value.get("quotes"))],
        emails_sent=_count(value.get("emails_sent"), len(emails)),
        unmatched_emails=unmatched,
    )


def error_text(answer: dict[str, Json]) -> str:
    """What an agent says of its failure, without the ARNs and accounts of AWS's own messages."""
    error = answer["error"]
    if isinstance(error, dict):
        error = error.get("message")
    candidates = (error, answer.get("message"), "The agent reported a failure.")
    return _public(next(text for text in candidates if isinstance(text, str) and text.strip()))


def question(interrupts: list[Json]) -> str:
    """What an agent said that stopped to ask the person who runs it (an interrupt of Strands)."""
    objects = [from_text(asked) if isinstance(asked, str) else asked for asked in interrupts]
    reasons = [asked.get("reason") for asked in objects if isinstance(asked, dict)]
    texts = [text_of(value) for reason in reasons for value in _values(reason)]
    said = f": {' '.join(texts)}" if texts else ""
    return _public(f"The agent stopped to ask what nobody can answer here{said}")


def _answered(failure: dict[str, Json]) -> dict[str, Json]:
    """What a failure says beside its error: whom the agent had contacted by then, for one."""
    return {key: value for key, value in failure.items() if key in ANSWER_KEYS}


def _as_list(value: Json) -> list[Json]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _as_object(value: Json, key: str) -> dict[str, Json]:
    return value if isinstance(value, dict) else {key: value}


def _give_emails(vendors: list[dict[str, Json]], emails: list[Json]) -> list[Json]:
    """Adds to each vendor the e-mails sent to it; returns those that were sent to none."""
    sent: defaultdict[str, list[Json]] = defaultdict(list)
    for email in emails:
        sent[_recipient(email)].append(email)
    sharing: Counter[str] = Counter({"": MAX_VENDORS_OF_ONE_ADDRESS})
    for index, vendor in enumerate(vendors):
        address = _address(vendor.get("email"))
        sharing[address] += 1
        vendor["emails"] = _as_list(vendor.get("emails"))
        if address in sent and sharing[address] <= MAX_VENDORS_OF_ONE_ADDRESS:
            # A copy, since an answer may be put into shape twice.
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


def _values(reason: Json) -> list[Json]:
    if isinstance(reason, dict):
        return list(reason.values())
    return [] if reason is None else [reason]


def _public(said: str) -> str:
    """A sentence for anybody to read, without the ARNs and accounts of AWS's own messages."""
    text = " ".join(said.split())
    text = re.sub(r"arn:aws[^\s\"'<>]*", "(an AWS resource)", text)
    text = re.sub(r"(?<!\d)\d{12}(?!\d)", "(an AWS account)", text)[:1_500]
    return text if text.endswith((".", "!", "?")) else text + "."
