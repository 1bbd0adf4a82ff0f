"""How tests read what an agent says: bytes in, an answer and the timeline out."""

import copy
import functools
import json
import operator
import re
from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from tests.agents.replay import FOLDER
from tests.product.agent_server import STREAM, line
from valro.agent.answers import Answer
from valro.agent.reader import AgentReader

MAYBE = "The agent may already have contacted vendors."
UNHURRIED = settings(deadline=None)  # other work on the machine must not fail a property


def read(content_type: str, *pieces: bytes) -> tuple[Answer, list[str]]:
    said: list[str] = []
    reader = AgentReader(content_type, said.append)
    for piece in pieces:
        reader.feed(piece)
    return reader.finish(), said


def read_stream(*pieces: bytes) -> tuple[Answer, list[str]]:
    return read(STREAM, *pieces)


def read_frames(*frames: Any) -> tuple[Answer, list[str]]:
    return read_stream(*map(line, frames))


def read_whole(body: bytes, content_type: str = "application/json") -> Answer:
    return read(content_type, body)[0]


def read_json(value: Any) -> Answer:
    return read_whole(json.dumps(value).encode())


# --- what properties are about --------------------------------------------------------------------


def known_frames() -> list[Any]:
    """Frames of all recordings, one of each shape."""
    shapes: dict[str, Any] = {}
    for file in sorted(FOLDER.glob("**/*.txt")):
        for data in file.read_bytes().partition(b"\n\n")[2].split(b"\n"):
            with suppress(ValueError):
                frame = json.loads(data.removeprefix(b"data: "))
                if isinstance(frame, (dict, list)) and len(data) < 4_000:
                    shapes.setdefault(re.sub(rb'"[^"]*"(?!:)|\d+', b"", data).decode(), frame)
    return list(shapes.values())


def places(value: Any) -> list[tuple[Any, ...]]:
    """The paths to everything in a value."""
    inner: Any = ()
    if isinstance(value, (dict, list)):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [(), *((key, *path) for key, one in inner for path in places(one))]


@st.composite
def odd_frames(draw: st.DrawFn) -> Any:
    """Frames of a recording, with anything in any place of them."""
    whole: Any = [copy.deepcopy(draw(st.sampled_from(KNOWN)))]  # since a reader may change it
    path = (0, *draw(st.sampled_from(places(whole[0]))))
    functools.reduce(operator.getitem, path[:-1], whole)[path[-1]] = draw(ANY_JSON)
    return whole[0]


KNOWN = known_frames()
KEYS = (
    "id type role content text message data error parts name event response result vendors quotes "
    "emails emails_sent email recipient delta"
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS.split()) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
ODD_FRAMES = odd_frames()
