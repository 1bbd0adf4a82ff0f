"""What an agent sends, as frames: event streams, JSON lines, JSON or text; pure.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

The Python SDK sends lines ``data: <json>``; the TypeScript SDK sends texts without quotes. So data
that is not JSON is text, unless it is damaged JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from valro.agent.values import BOM, InvalidAnswer, Json, parse

# Lines of event streams that do not matter here: other fields, comments.
NO_DATA = re.compile(rb"(?:data|event|id|retry)?(?::|\Z)")
LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a last CR may be half of a CRLF
LOOKS_LIKE_JSON = re.compile(rb"\s*[\[{\"]")
LOOKS_LIKE_EVENTS = re.compile(rb"\s*(?:data|event|id|retry)?:")
# Pages of something between us and the agent.
PAGE = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)


class Frame(NamedTuple):
    """One value that an agent sent, or what is wrong with it."""

    value: Json
    data: bytes
    event: str = ""  # the name of its event
    is_text: bool = False  # it came as plain text, not as JSON
    invalid: str = ""


class EventStream:
    """Frames of ``text/event-stream``."""

    def __init__(self) -> None:
        self.event = ""
        self.lines: list[bytes] = []  # the data lines of an event that are not JSON by themselves
        self.size = 0  # of these lines
        self.unparsed = bytearray()  # lines that no event stream has
        self.has_json = False
        self.has_text = False

    def line(self, line: bytes) -> Iterator[Frame]:
        """Reads one line: data that is JSON by itself is a frame, other data is part of an event."""
        if line.startswith(b"data:"):
            data = line[6:] if line[5:6] == b" " else line[5:]
            if not self.lines and LOOKS_LIKE_JSON.match(data):
                frame = self._json(data)
                if not frame.invalid:
                    self.has_json = True
                    yield frame
                    return
            self.lines.append(data)
            self.size += len(data)
        elif not line:
            yield from self.end()
            self.event = ""
        elif line.startswith(b"event:"):
            self.event = line[6:].strip().decode(errors="replace")
        elif not NO_DATA.match(line):
            self.unparsed += line + b"\n"
            self.size += len(line)

    def end(self) -> Iterator[Frame]:
        """Ends an event: its data is JSON, text of several lines, or damaged JSON."""
        lines, self.lines, self.size = self.lines, [], len(self.unparsed)
        data = b"\n".join(lines)
        if data == b"" or data.strip() == b"[DONE]":
            return
        frame = self._json(data)
        if not frame.invalid:
            yield frame
        elif not LOOKS_LIKE_JSON.match(data) or (
            not self.has_json and (self.has_text or data.strip()[-1:] not in b']}"')
        ):
            self.has_text = self.has_text or bool(data.strip())
            yield _text_frame(data, self.event)
        else:
            # Some of the lines may be JSON and the others noise.
            each = [self._json(one) for one in lines if one.strip()] if len(lines) > 1 else []
            yield from (one for one in each if not one.invalid)
            noise = b"".join(one.data + b"\n" for one in each if one.invalid)
            yield frame._replace(data=noise if each else b" " + data + b"\n")

    def rest(self) -> bytes:
        """What has not become a frame."""
        return bytes(self.unparsed) + b"".join(b" " + one + b"\n" for one in self.lines)

    def _json(self, data: bytes) -> Frame:
        return _json_frame(data)._replace(event=self.event) if self.event else _json_frame(data)


class JsonLines:
    """Frames of ``application/x-ndjson``."""

    size = 0

    def line(self, line: bytes) -> Iterator[Frame]:
        """Reads one line."""
        if line.strip():
            frame = _json_frame(line)
            is_text = frame.invalid and not LOOKS_LIKE_JSON.match(line)
            yield _text_frame(line + b"\n") if is_text else frame

    def end(self) -> Iterator[Frame]:
        """Nothing: every line is complete."""
        return iter(())

    def rest(self) -> bytes:
        """Nothing, either."""
        return b""


class Wire:
    """Turns bytes into frames, in whatever pieces they arrive."""

    def __init__(self, content_type: str) -> None:
        kind = content_type.partition(";")[0].strip().lower()
        self.is_json = not kind.startswith("text/")
        self.buffer = bytearray()
        self.lines: EventStream | JsonLines | None = None
        if kind == "text/event-stream":
            self.lines = EventStream()
        elif re.search(r"ndjson|jsonl|json-?lines|json-seq", kind):
            self.lines = JsonLines()

    @property
    def is_stream(self) -> bool:
        """Whether frames come one by one, instead of as one document."""
        return self.lines is not None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Reads the lines that ``data`` completes."""
        # Not splitlines(): U+2028 and others may occur inside a line, unescaped.
        may_end = b"\n" in data or b"\r" in data or self.buffer.endswith(b"\r")
        self.buffer += data
        if self.lines and may_end:
            *lines, rest = LINE_END.split(self.buffer)
            self.buffer = bytearray(rest)
            for line in lines:
                yield from self.lines.line(bytes(line).removeprefix(BOM))

    def end(self) -> Iterator[Frame]:
        """Reads what is left, once everything has arrived."""
        last, self.buffer = bytes(self.buffer), bytearray()
        if self.lines:
            yield from self.lines.line(last.rstrip(b"\r").removeprefix(BOM))
            for frame in self.lines.end():
                # An event without an empty line after it was cut: here, inside a JSON string.
                is_cut = frame.is_text and frame.data[:1] == b'"' and frame.data.count(b'"') == 1
                yield frame._replace(invalid="cut") if is_cut else frame
        else:
            yield from self._document(last)

    def size(self) -> int:
        """How much has not become a frame."""
        return len(self.buffer) + (self.lines.size if self.lines else 0)

    def rest(self) -> bytes:
        """What has not become a frame."""
        return (self.lines.rest() if self.lines else b"") + bytes(self.buffer)

    def _document(self, body: bytes) -> Iterator[Frame]:
        frame = _json_frame(body)
        if not body.strip():
            return
        lines = [*_each(JsonLines().line, body)] if frame.invalid else []
        if not frame.invalid:
            yield frame
        elif LOOKS_LIKE_EVENTS.match(body) and (frames := events_in(body)):
            yield from frames
        elif not any(one.invalid or one.is_text for one in lines):
            yield from lines
        elif PAGE.match(body) or (self.is_json and LOOKS_LIKE_JSON.match(body)):
            yield frame
        else:
            yield _text_frame(body)


def events_in(body: bytes) -> list[Frame]:
    """The frames of a text that is itself an event stream; none if it is not."""
    stream = EventStream()
    frames = [*_each(stream.line, body), *stream.end()]
    return [] if stream.unparsed else frames


def _each(read: Callable[[bytes], Iterator[Frame]], body: bytes) -> Iterator[Frame]:
    for line in LINE_END.split(body.removeprefix(BOM)):
        yield from read(line)


def _json_frame(data: bytes) -> Frame:
    try:
        return Frame(parse(data), data)
    except InvalidAnswer as error:
        return Frame(None, data, invalid=str(error))


def _text_frame(data: bytes, event: str = "") -> Frame:
    text = data.decode(errors="replace")
    # Bytes that were damaged on their way may leave nothing.
    invalid = "" if text.strip("\ufffd \n") or not text.strip() else "not text"
    return Frame(text, data, event, is_text=True, invalid=invalid)
