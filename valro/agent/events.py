"""The inner language: what an agent's run consists of, whatever framework it was written with.

The names are AG-UI's (https://docs.ag-ui.com/concepts/events), reduced to what a task shows.
dialects.py makes events from frames, and answers.py a timeline and an answer from events. They are
never changed; freezing them would double the time that a cold worker spends on these classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from valro.agent.values import Json


class Speaker(NamedTuple):
    """Who is speaking: the agent, one of several agents or a message by name, or a tool."""

    name: str = ""
    is_tool: bool = False  # what it says is progress, never the answer


MAIN = Speaker()


@dataclass(kw_only=True)
class Event:
    """Anything that happens in a run; by itself, something known to be of no interest."""

    speaker: Speaker = MAIN


@dataclass
class TextMessageStart(Event):
    """A message begins; one that is not the assistant's is ignored."""

    is_heard: bool = True


@dataclass
class TextMessageContent(Event):
    """A piece of a message, or of the answer outside of messages, if its id is None.

    ``is_duplicate``: the framework may say it again, in another shape.
    """

    delta: str
    message_id: str | None = None
    is_duplicate: bool = False


class TextMessageEnd(Event):
    """A message is complete."""


@dataclass
class AssistantMessage(Event):
    """A whole message, with texts and tool calls; part of it may have come in pieces."""

    content: Sequence[str | ToolCallStart]
    message_id: str = ""


@dataclass
class MessagesSnapshot(Event):
    """The messages of this run so far, in case they were not sent before."""

    messages: Sequence[AssistantMessage]


@dataclass
class ToolCallStart(Event):
    """A tool is called; the same id means the same call."""

    name: str
    call_id: str = ""


class StepFinished(Event):
    """A tool call or the run has ended; what a tool returned is not shown."""


@dataclass
class Activity(Event):
    """A line in the timeline, for the person whose task it is."""

    message: str


@dataclass
class State(Event):
    """Fields of the answer; a snapshot's may have been there before this run."""

    fields: dict[str, Json]
    is_snapshot: bool = False


@dataclass
class Interrupt(Event):
    """The agent ends its run to ask: [{"id"?, "reason"?, "message"?, "response_schema"?}]."""

    asked: Sequence[dict[str, Json]]


@dataclass
class RunError(Event):
    """The run has failed; ``fields`` are what it had answered."""

    message: str
    detail: str
    fields: dict[str, Json]


@dataclass
class Unknown(Event):
    """Something not understood; ``is_repr``: because it is the repr of a Python object."""

    value: Json
    is_repr: bool = False
