"""The recordings, and what the reader makes of them: the timeline and answer a person sees."""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from valro.agent.answers import AgentError, Answer
from valro.agent.reader import AgentReader

FOLDER = Path(__file__).parent / "recorded"
TABLE = Path(__file__).parent / "what_people_see.md"
HEAD = """# What people see of each agent

One block an agent: what it is and how it hands out what it says, the lines of the timeline (-),
then the task's answer or error. Written by `python -m tests.agents.record`, judged by eye: nothing
raw, no repr, no metrics, nothing twice, no answer lost. A line that begins with "log:" is no part
of it: the operator's log has that many bytes which nobody understood.
"""
BLOCK = re.compile(r"^## `(.+?)`\n\n```text\n(.*?)```\n(?=\n## |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Recording:
    """What the SDK's server answered."""

    status: int
    content_type: str
    body: bytes

    @classmethod
    def read(cls, name: str) -> "Recording":
        """The recording of an agent."""
        head, _, body = file_of(name).read_bytes().partition(b"\n\n")
        status, content_type = head.decode().split(" ", 1)
        return cls(int(status), content_type, body)


def framework_of(name: str) -> str:
    """The framework that an agent is made with."""
    return name.partition(", ")[0]


def file_of(name: str) -> Path:
    """Where an agent's recording is."""
    framework, _, rest = name.partition(", ")
    return FOLDER / framework / (re.sub(r"\W+", "_", rest).strip("_") + ".txt")


@dataclass
class Seen:
    """What a person sees of a run, and what only the log has."""

    timeline: list[str]
    answer: Answer | None
    error: str = ""
    unparsed: str = ""

    def __str__(self) -> str:
        """One block of the table."""
        lines = [f"- {line}" for line in self.timeline]
        lines += [f"error: {self.error}"] if self.error else []
        if answer := self.answer:
            kept = answer.task_fields()
            lines += [kept["agent_response"]] if kept["agent_response"] else []
            lines += [f"asks: {asked}" for asked in answer.interrupts]
            lines += [f"vendor: {vendor}" for vendor in answer.vendors]
            lines += [f"quote: {quote}" for quote in answer.quotes]
            lines += [f"e-mails: {answer.emails_sent}"] if answer.emails_sent else []
        lines += [f"log: {len(self.unparsed)} bytes"] if self.unparsed else []
        return "\n".join(lines) + "\n"


def replay(recording: Recording, cuts: Iterable[int] = ()) -> Seen:
    """Reads a recording as the runtime does, in pieces that are cut at these places."""
    if recording.status != 200:  # AgentCore makes a 424 of it, which the runtime says this of
        return Seen([], None, "The agent failed. The agent may already have contacted vendors.")
    timeline: list[str] = []
    reader = AgentReader(recording.content_type, timeline.append)
    try:
        places = sorted({0, *cuts, len(recording.body)})
        for start, end in pairwise(places):
            reader.feed(recording.body[start:end])
        answer = reader.finish()
    except AgentError as error:
        return Seen(timeline, error.partial, str(error), error.unparsed)
    return Seen(timeline, answer, unparsed=answer.unparsed)


@functools.cache
def seen_of(name: str) -> Seen:
    """What people see of an agent: the same for each who asks."""
    return replay(Recording.read(name))


def table(names: Iterable[str]) -> str:
    """The whole table."""
    blocks = [f"## `{name}`\n\n```text\n{seen_of(name)}```\n" for name in names]
    return HEAD + "\n" + "\n".join(blocks)


def blocks() -> dict[str, str]:
    """The blocks of the table, as it is written, by the names of their agents."""
    return dict(BLOCK.findall(TABLE.read_text(encoding="utf-8")))
