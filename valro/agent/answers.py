"""The result of an agent's run: a timeline and an answer, made of the inner language's events.

Pure, and knows no framework. Both the run and the call raise ``AgentError``.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

from valro import tasks
from valro.agent import events, values
from valro.agent.events import Event, Speaker
from valro.agent.interrupts import MAX_INTERRUPTS, MAX_INTERRUPTS_BYTES, added
from valro.agent.values import ANSWER_KEYS, TEXT_KEYS, Json

MAX_MESSAGE_ID_CHARACTERS = 200  # a longer one might not fit into the task


@dataclass
class Answer:
    """What the agent answered, in the shape that a task keeps.

    ``interrupts`` is what it stopped to ask: [{"id", "reason"?, "message"?, "response_schema"?}].
    ``message_id`` is the agent's id of the message that is the response, if it gave one.
    ``unparsed`` is whatever else it sent and nobody understood: for the operator's log.
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
        """The fields that are stored with a task."""
        names = ("agent_response", "vendors", "quotes", "emails_sent")
        fields = {name: getattr(self, name) for name in names}
        if self.interrupts:
            fields["interrupts"] = self.interrupts
            if not self.agent_response.strip():
                fields["agent_response"] = "\n".join(map(tasks.question_in, self.interrupts))
        is_id = 0 < len(self.message_id) <= MAX_MESSAGE_ID_CHARACTERS
        return fields | ({"message_id": self.message_id} if is_id else {})

    def __bool__(self) -> bool:
        """Whether it says anything: a blank one is no answer."""
        said = self.agent_response.strip() or self.vendors or self.quotes or self.unmatched_emails
        return bool(said or self.emails_sent or self.interrupts)


class Accepted(Answer):
    """The agent keeps working by itself and reports: there is no answer yet."""


class AgentError(Exception):
    """The run failed; the message is meant for the person whose task it is.

    ``detail`` is only for the operator's log. ``still_running``: the agent may still be working, so
    its session should be stopped. ``partial`` is what it had answered by then, if anything, and
    ``unparsed`` an answer that could not be read.
    """

    still_running = False
    code = tasks.AGENT_FAILED

    def __init__(
        self, what: str, detail: str = "", partial: Answer | None = None, unparsed: str = ""
    ) -> None:
        super().__init__(f"{what} {self.consequence}")
        self.detail = detail
        self.partial = partial
        self.unparsed = unparsed

    consequence = tasks.MAY_HAVE_ACTED


class AgentNotStarted(AgentError):
    """Nothing reached the agent."""

    consequence = tasks.UNSTARTED
    code = tasks.NOT_STARTED


class AgentFailed(AgentError):
    """The agent ran and failed, or its answer cannot be used."""


class UnreadableAnswer(AgentFailed):
    """The agent ran, but its answer cannot be read."""


class AgentLost(AgentError):
    """Contact was lost, or given up, with an agent that may still be running."""

    still_running = True
    code = tasks.AGENT_LOST


class AgentTimeout(AgentLost):
    """The agent's time ran out."""

    code = tasks.AGENT_TIMEOUT


class AnswerTooLong(AgentLost):
    """The agent was given up because it sent too much."""

    code = tasks.ANSWER_TOO_LARGE

    def __init__(self, partial: Answer | None = None, unparsed: str = "") -> None:
        super().__init__("The agent's answer is too long.", partial=partial, unparsed=unparsed)


@dataclass
class Turn:
    """What one speaker writes between two whole messages."""

    pieces: list[str] = field(default_factory=list)
    message_id: str = ""
    has_streamed: bool = False  # its text came in pieces, and the whole message repeats it
    streamed: str = ""  # the last text that came in pieces
    calls: set[str] = field(default_factory=set)  # the tools that it uses, by id or otherwise name
    uses: Counter[str] = field(default_factory=Counter)  # how many of them, by name

    def text(self) -> str:
        """The text so far."""
        return "".join(self.pieces)


class Run:
    """Takes the events of a run, one by one.

    A message that is followed by another is progress. The response is the first of these: the answer
    object's, the last message, the pieces of text put together, what only snapshots say.
    """

    def __init__(self, on_progress: Callable[[str], None]) -> None:
        self.on_progress = on_progress
        self.turns: defaultdict[Speaker, Turn] = defaultdict(Turn)
        self.speakers: dict[str, Speaker] = {}  # who is streaming a message, by its id
        self.silent: set[Speaker] = set()
        self.streamed_ids: set[str] = set()
        self.whole_ids: set[str] = set()
        self.last_turn = self.last_id = ""
        self.pending_turn = ""  # the last one, until another follows and makes it progress
        self.pieces: list[str] = []  # of the answer, outside of messages
        self.has_loose_turns = False  # some of them were followed by tools
        self.duplicate_text: list[str] = []
        self.answer: dict[str, Json] = {}
        self.first_state: dict[str, Json] | None = None
        self.last_state: dict[str, Json] = {}
        self.last_messages = events.MessagesSnapshot(())
        self.interrupts: list[dict[str, Json]] | None = None
        self.tool_in_use = ""
        self.replaced: list[str] = []  # what was said but is not shown
        self.size = 0

    def take(self, event: Event) -> bool:  # noqa: C901, PLR0912 - a case an event
        """Takes an event; False if nobody understands it. Raises AgentFailed if it says so."""
        is_tool = event.speaker.is_tool
        ends_tool = not is_tool
        match event:
            case events.TextMessageContent():
                self._write(event)
            case events.ToolCallStart():
                self._tool_call(event, self.turns[event.speaker])
                return True
            case events.TextMessageStart():
                turn = self.turns[event.speaker]
                turn.calls, turn.uses = set(), Counter()
                self.silent |= set() if event.is_heard else {event.speaker}
            case events.TextMessageEnd():
                self._end_turn(event.speaker)
                return True
            case events.AssistantMessage():
                self._whole_message(event)
                uses = [block for block in event.content if not isinstance(block, str)]
                ends_tool = ends_tool and not uses
            case events.Activity():
                # Only this: the message before it may be the response.
                self._say(event.message)
                return True
            case events.State(is_snapshot=True):
                self._keep_state(event.fields)
            case events.State() if not is_tool:
                self._add_to_answer(event.fields)
            case events.MessagesSnapshot():
                self.last_messages = event
                return True
            case events.Interrupt():
                self.interrupts = added(self.interrupts or [], event.asked)
            case events.RunError() if not is_tool:
                self.answer |= event.fields
                raise AgentFailed(_public(event.message), event.detail)
            case events.StepFinished():
                pass
            case _:
                return not isinstance(event, events.Unknown)
        self.tool_in_use = "" if ends_tool else self.tool_in_use
        return True

    def finish(self) -> Answer | None:
        """The answer, once the run has ended; raises AgentFailed if it ended too soon."""
        for speaker in list(self.turns):
            self._end_turn(speaker)
        if self.has_loose_turns:
            self._end_pieces()
        answer = self.partial()
        if self.interrupts is not None:
            return self._interrupted(answer or Answer(""), self.interrupts)
        if self.tool_in_use:
            raise AgentFailed(f"The agent stopped while it was using {self.tool_in_use}.")
        return answer

    def partial(self) -> Answer | None:
        """The answer so far, with an unfinished turn if the run has failed."""
        unfinished = [turn.text() for speaker, turn in self.turns.items() if not speaker.is_tool]
        text = "\n\n".join(filter(str.strip, (self.last_turn, *unfinished)))
        message_id = self.last_id
        # What a turn said before a tool is in the timeline: whatever came after it is the response.
        ends_in_turn = bool(self.pending_turn or any(unfinished))
        if not ends_in_turn and (loose := self._loose_text()):
            text, message_id = loose, ""
        elif not ends_in_turn and (last := self._last_of_snapshot())[0]:
            text, message_id = last
        text = text or "".join(self.duplicate_text)
        is_said = ends_in_turn or bool(self.pieces)
        fields = self.answer
        if not fields and (fields := values.answer_in(text) or {}):
            text = ""
        fields = self._state_beside(fields, text, is_said=is_said) | fields
        answer = Answer(**values.answer_fields(fields, text)) if fields else Answer(text)
        answer.message_id = message_id
        return answer or None

    def _write(self, piece: events.TextMessageContent) -> None:
        speaker, text = piece.speaker, piece.delta
        self.size += len(text)
        if speaker in self.silent:
            return
        if piece.message_id is not None:
            turn = self.turns[speaker]
            if piece.message_id not in ("", turn.message_id):
                if turn.message_id:
                    self._end_turn(speaker)
                turn.message_id = piece.message_id
                self.speakers[piece.message_id] = speaker
            turn.has_streamed = True
            turn.pieces.append(text)
        elif piece.is_duplicate:
            self.duplicate_text += [] if speaker.is_tool else [text]
        elif speaker.is_tool:
            self._progress(text)
        elif text:
            self.pieces.append(text)

    def _whole_message(self, message: events.AssistantMessage) -> None:
        """Reads a whole message, part of which may have come in pieces before."""
        message_id = message.message_id
        if message_id in self.whole_ids:
            return
        speaker = self.speakers.get(message_id, message.speaker)
        turn = self.turns[speaker]
        text = "".join(one for one in message.content if isinstance(one, str)).strip()
        is_same = not turn.message_id or message_id in ("", turn.message_id)
        is_repeated = is_same or text == (turn.text() or turn.streamed).strip()
        is_said = (
            message_id in self.streamed_ids
            or (turn.has_streamed and is_repeated)
            or (text and text == self.pending_turn.strip())
        )
        if not is_same and not is_said:
            self._end_turn(speaker)
        turn.message_id = message_id or turn.message_id
        self.size += len(text)
        for block in message.content:
            if not isinstance(block, str):
                self._tool_call(replace(block, speaker=speaker), turn)
            elif not is_said:
                turn.pieces.append(block)
        self._end_turn(speaker)
        turn.calls -= set(turn.uses)  # tools without ids may be used again
        turn.uses = Counter()
        turn.message_id, turn.has_streamed = "", False
        self.whole_ids |= {message_id} - {""}

    def _tool_call(self, call: events.ToolCallStart, turn: Turn) -> None:
        """Reports what was written before a tool, and the tool; parallel calls are numbered."""
        is_tool = call.speaker.is_tool
        self.tool_in_use = self.tool_in_use if is_tool else call.name
        key = call.call_id or call.name
        if key in turn.calls:
            return
        self._end_turn(call.speaker)
        if not is_tool:
            self._end_pieces()
        turn.calls.add(key)
        turn.uses[call.name] += 1
        number = f" ({turn.uses[call.name]})" if turn.uses[call.name] > 1 else ""
        self._progress(f"Using {call.name}{number}")

    def _end_turn(self, speaker: Speaker) -> None:
        """Keeps what a turn said as the response, or as progress if a tool's agent wrote it."""
        turn = self.turns[speaker]
        text = turn.text()
        turn.pieces.clear()
        if not text.strip():
            return
        turn.streamed = text
        self.streamed_ids |= {turn.message_id} - {""}
        self._progress(text if speaker.is_tool else "")
        if not speaker.is_tool:
            self.last_turn = self.pending_turn = text
            self.last_id = turn.message_id

    def _end_pieces(self) -> None:
        """Text outside of messages that comes before a tool is a turn too."""
        if self.pieces:
            self._progress("")
            self.last_turn = self.pending_turn = self._loose_text()
            self.pieces.clear()
            self.has_loose_turns = True

    def _loose_text(self) -> str:
        """The pieces put together, or the last one if each repeats the one before."""
        is_growing = all(later.startswith(one) for one, later in pairwise(self.pieces))
        return "".join(self.pieces[-1:] if is_growing else self.pieces)

    def _last_of_snapshot(self) -> tuple[str, str]:
        """The last message of a snapshot, and its id."""
        run = Run(lambda _: None)
        for message in self.last_messages.messages:
            run.take(message)
        return run.last_turn, run.last_id

    def _progress(self, message: str) -> None:
        pending, self.pending_turn = self.pending_turn, ""
        self._say(pending)
        self._say(message)

    def _say(self, message: str) -> None:
        if message.strip():
            self.on_progress(message.strip())

    def _add_to_answer(self, fields: dict[str, Json]) -> None:
        if values.named_response(fields) is not None:
            before = {key: self.answer.pop(key) for key in TEXT_KEYS if key in self.answer}
            if (said := _response(before)) and said != _response(fields):
                self.replaced.append(json.dumps(before, ensure_ascii=False))
        self.answer |= {key: value for key, value in fields.items() if value is not None}

    def _keep_state(self, state: dict[str, Json]) -> None:
        """Keeps the last snapshot, and also the first one if nothing of this run can be in it."""
        self.last_state = {key: state[key] for key in ANSWER_KEYS if state.get(key) is not None}
        if self.first_state is None:
            is_first = not (self.last_turn or self.pieces or self.turns)
            self.first_state = self.last_state if is_first else {}

    def _state_beside(
        self, fields: dict[str, Json], text: str, *, is_said: bool
    ) -> dict[str, Json]:
        """The state's fields that are new in this run; its texts only if nothing else was said."""
        news = _news(self.last_state, self.first_state or {})
        if fields or is_said:
            return {key: one for key, one in news.items() if key not in TEXT_KEYS}
        return news if news or text else self.last_state

    def _interrupted(self, answer: Answer, asked: list[dict[str, Json]]) -> Answer:
        """The agent's questions, with what it said that is not in the timeline."""
        if not asked:
            raise AgentFailed("The agent stopped to ask something, but did not say what.")
        if len(asked) > MAX_INTERRUPTS or len(json.dumps(asked)) > MAX_INTERRUPTS_BYTES:
            raise AgentFailed("The agent asked too many questions at once.", json.dumps(asked))
        asked = [{"id": str(number)} | one for number, one in enumerate(asked, 1)]
        if len({one["id"] for one in asked}) < len(asked):
            raise AgentFailed("The agent asked two questions under the same id.", json.dumps(asked))
        if self.last_turn and not (self.pending_turn or self.pieces or self.answer):
            answer.agent_response = ""
        answer.interrupts = asked
        return answer


def _response(fields: dict[str, Json]) -> str:
    named = values.named_response(values.answer_in(fields) or fields)
    return "" if named is None else values.text_of(named).strip()


def _news(now: dict[str, Json], before: dict[str, Json]) -> dict[str, Json]:
    """The part of a state that was not there before."""
    news = {key: value for key, value in now.items() if before.get(key) != value}
    for key, value in news.items():
        if isinstance(value, list) and isinstance(old := before.get(key), list):
            news[key] = [one for one in value if one not in old]
    return news


def _public(said: str) -> str:
    """A sentence that anybody may read, without the ARNs and account numbers in AWS's messages."""
    text = " ".join(said.split())
    text = re.sub(r"arn:aws[^\s\"'<>]*", "(an AWS resource)", text)
    text = re.sub(r"(?<!\d)\d{12}(?!\d)", "(an AWS account)", text)[:1_500]
    return text if text.endswith((".", "!", "?")) else text + "."
