"""Reads an agent's answer: bytes in, progress and an answer out, whatever the framework.

wire.py turns the bytes into frames, dialects.py the frames into events, answers.py the events into
an answer. What is not understood, and whatever breaks, is kept for the operator's log.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from valro.agent import dialects, events
from valro.agent.answers import (
    AgentError,
    AgentFailed,
    AgentLost,
    Answer,
    AnswerTooLong,
    Run,
    UnreadableAnswer,
)
from valro.agent.values import Json, answer_fields
from valro.agent.wire import Frame, Wire

MAX_BYTES = 32 * 1024 * 1024  # of one frame, or of all text; a worker has 1024 MB
OBJECT_START = re.compile(r'\s*(?=(?:\[\s*)?\{\s*"[^"]*"\s*:)')
ACCEPTED_TEXT = re.compile(r'\s*\{\s*"accepted"\s*:\s*true\s*\}\s*')
NO_ANSWER = "The agent ended without an answer."
UNREADABLE = "The agent's answer cannot be read."
IS_REPR = "The agent's answer cannot be read: it is a Python object, not text or JSON."


class AgentReader:
    """Reads an answer of some content type, in whatever pieces its bytes arrive."""

    def __init__(self, content_type: str, on_progress: Callable[[str], None]) -> None:
        self.wire = Wire(content_type)
        self.run = Run(on_progress)
        self.frames = 0
        self.is_acceptance = False
        self.is_repr = False
        self.has_text = False  # texts come without quotes, so numbers are texts too
        self.scalars: list[Frame] = []
        self.only: Frame | None = None  # the frame that nobody understood, if it is the only one
        self.line: Json = None
        self.invalid = ""  # what was wrong with an unreadable frame
        self.unparsed_data = bytearray()

    def feed(self, data: bytes) -> None:
        """Reads what has arrived; raises AgentError."""
        with self._rescuing(AgentLost):
            for frame in self.wire.feed(data):
                self.take(frame)
            self._check_size()

    def finish(self) -> Answer:
        """The answer, once it is complete; raises AgentFailed if there is none."""
        with self._rescuing(UnreadableAnswer):
            self._end()
            is_document = not self.wire.is_stream and self.frames == 1
            if self.invalid:
                raise UnreadableAnswer(UNREADABLE, self.invalid)
            if self.is_repr and self.run.tool_in_use:
                raise UnreadableAnswer(IS_REPR)
            answer = self.run.finish()
            if answer is None and is_document and isinstance(self.line, str):
                answer = Answer(self.line)
            if answer is None and is_document and self.only and not self.is_repr:
                answer = Answer(**answer_fields({"response": self.only.value}, ""))
                self.unparsed_data.clear()
            if not answer:
                raise UnreadableAnswer(IS_REPR) if self.is_repr else AgentFailed(NO_ANSWER)
            if is_broken_json(answer.agent_response):
                self.unparsed_data += answer.agent_response.encode()
                raise UnreadableAnswer(UNREADABLE, "it begins like JSON, but is not JSON")
            answer.unparsed = self.unparsed()
            return answer

    def accepted(self) -> bool:
        """Whether the agent said only that it accepted the task."""
        with self._rescuing(UnreadableAnswer):
            self._end()
        return self.is_acceptance and self.frames == 1 and not self.invalid

    def partial(self) -> Answer | None:
        """The answer so far."""
        answer = self.run.partial()
        if answer:
            answer.unparsed = self.unparsed()
        return answer

    def unparsed(self) -> str:
        """What was not understood, what was replaced, and what was not read yet."""
        replaced = "".join(f"{one}\n" for one in self.run.replaced)
        return replaced + (self.unparsed_data + self.wire.rest()).decode(errors="replace")

    def take(self, frame: Frame) -> None:
        """Takes a frame; raises AgentFailed if it says so."""
        self.frames += 1
        self.is_acceptance = is_acceptance(frame.value)
        if frame.invalid:
            # The agent may still be working, so hear it out and then report this.
            self.invalid = frame.invalid
            self.unparsed_data += frame.data
            return
        value = frame.value
        if frame.is_text and not self.has_text:
            self.has_text = True
            for scalar in self.scalars:
                self._read(scalar, scalar.data.decode(errors="replace"))
            self.scalars.clear()
        elif isinstance(value, (bool, int, float)) or (value is None and self.has_text):
            if not self.has_text:
                self.scalars.append(frame)
                return
            value = frame.data.decode(errors="replace")
        self.line = value.get("message") if isinstance(value, dict) else None
        self._read(frame, value)

    def _read(self, frame: Frame, value: Json) -> None:
        try:
            found = dialects.read(value, frame.event)
            unknown = [
                it for it in found if not self.run.take(it) and isinstance(it, events.Unknown)
            ]
        except AgentError:
            raise
        except Exception as error:  # noqa: BLE001 - one frame must not cost the others
            self.unparsed_data += f"({error!r}) ".encode()
            unknown = [events.Unknown(value)]
        for one in unknown:
            self.only = frame
            self.is_repr = self.is_repr or one.is_repr
            is_whole = one.value is value or one.is_repr
            data = frame.data if is_whole else json.dumps(one.value).encode()
            self.unparsed_data += data if data.endswith(b"\n") else data + b"\n"

    def _end(self) -> None:
        for frame in self.wire.end():
            self.take(frame)
        for scalar in self.scalars:
            self.only = scalar
            self.unparsed_data += scalar.data + b"\n"
        self.scalars.clear()
        self._check_size()

    def _check_size(self) -> None:
        if self.run.size + len(self.unparsed_data) + self.wire.size() > MAX_BYTES:
            raise AnswerTooLong

    @contextmanager
    def _rescuing(self, kind: type[AgentError]) -> Iterator[None]:
        """Adds what had been read to the error, whatever broke the reading."""
        try:
            yield
        except AgentError as error:
            self._rescue(error)
            raise
        except Exception as error:
            broken = kind(UNREADABLE, traceback.format_exc())
            self._rescue(broken)
            raise broken from error

    def _rescue(self, error: AgentError) -> None:
        partial, unparsed = self.rescued()
        error.partial = error.partial or partial
        error.unparsed = error.unparsed or unparsed

    def rescued(self) -> tuple[Answer | None, str]:
        """The answer so far, and what could not be read; never raises."""
        partial, unparsed = None, ""
        with suppress(Exception):
            unparsed = self.unparsed()
            partial = self.partial()
        return partial, unparsed


def is_acceptance(value: Json) -> bool:
    """Whether an agent says that it keeps working by itself: ``{"accepted": true}``, or its text."""
    if isinstance(value, str):
        return bool(ACCEPTED_TEXT.fullmatch(value))
    return isinstance(value, dict) and len(value) == 1 and value.get("accepted") is True


def read_answer(value: Json) -> Answer:
    """The answer in one value, read like a JSON document; raises AgentFailed."""
    reader = AgentReader("application/json", lambda _: None)
    reader.feed(json.dumps(value).encode())
    return reader.finish()


def is_broken_json(text: str) -> bool:
    """Whether a text begins like a JSON object and is not one, for example because it was cut.

    Or is one, with nothing after it but bytes that were damaged on their way.
    """
    start = OBJECT_START.match(text)
    if not start:
        return False
    with suppress(ValueError, RecursionError):
        _, end = json.JSONDecoder().raw_decode(text, start.end())
        return bool(text[end:].strip()) and not text[end:].strip("\ufffd \n")
    return True
