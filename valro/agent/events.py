"""The inner language: what an agent's run consists of, whatever framework it was written with.

The names are AG-UI's (https://docs.ag-ui.com/concepts/events), cut down to what a task shows.
dialects.py makes these of frames, and answers.py a timeline and an answer of these. Nobody changes
one; they are not frozen, since that takes half of the time that a cold worker spends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from valro.agent.values import Json


class Speaker(NamedTuple):
    """Who says something: the agent, an agent of many or a message by its name, or a tool."""

    name: str = ""
    is_tool: bool = False  # what it says is progress, and never the answer


MAIN = Speaker()


@dataclass(kw_only=True)
class Event:
    """Anything that happens in a run; by itself noise, known as such."""

    speaker: Speaker = MAIN


@dataclass
class TextMessageStart(Event):
    """A message begins; one that is not the assistant's is not heard."""

    is_heard: bool = True


@dataclass
class TextMessageContent(Event):
    """A piece of a message, or of the answer outside of messages: then its id is None.

    ``is_duplicate``: the framework may say it again, in another shape.
    """

    delta: str
    message_id: str | None = None
    is_duplicate: bool = False


class TextMessageEnd(Event):
    """A message is complete."""


@dataclass
class AssistantMessage(Event):
    """A whole message, of which some may have come in pieces; it has texts and tool calls."""

    content: Sequence[str | ToolCallStart]
    message_id: str = ""


@dataclass
class MessagesSnapshot(Event):
    """The messages of this run so far, for whoever has not heard them."""

    messages: Sequence[AssistantMessage]


@dataclass
class ToolCallStart(Event):
    """A tool is used; the same id is the same use."""

    name: str
    call_id: str = ""


class StepFinished(Event):
    """What had begun has ended: the use of a tool, whose result is the agent's to tell, or the run."""


@dataclass
class Activity(Event):
    """A line of the timeline, for the person whose task it is."""

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
    """The run has failed; ``fields`` is what it had answered."""

    message: str
    detail: str
    fields: dict[str, Json]


@dataclass
class Unknown(Event):
    """What nobody understands; ``is_repr``: since it is what Python writes of objects."""

    value: Json
    is_repr: bool = False
