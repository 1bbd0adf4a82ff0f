"""How bytes become frames: event streams, JSON lines, JSON and text."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.agent_reading import (
    MAYBE,
    STRANDS_FRAMES,
    UNHURRIED,
    read_stream,
    read_whole,
)
from tests.product.agent_server import STREAM, line
from valro.agent import reader
from valro.agent.answers import AgentFailed, AgentLost, Answer, UnreadableAnswer
from valro.agent.reader import AgentReader


def test_only_a_newline_ends_a_line():
    """str.splitlines() would cut these in two."""
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    answer, _ = read_stream(
        b'data: "' + json.dumps(text, ensure_ascii=False)[1:-1].encode() + b'"\n\n'
    )
    assert answer.agent_response == text


@pytest.mark.parametrize("data", [b'{"response": "x"}\n', b' data: "x"\n', b"<html>502</html>\n"])
def test_lines_that_no_event_stream_has_are_kept_for_the_log(data: bytes):
    with pytest.raises(AgentFailed) as caught:
        read_stream(data, b": a comment\nevent: x\nid: 1\ndata:\n\n")
    assert caught.value.unparsed == data.decode()


def test_an_unreadable_frame_makes_the_answer_bad_but_is_heard_out():
    """One frame may be noise and the agent at work, so what follows is not lost."""
    said: list[str] = []
    stream = AgentReader(STREAM, said.append)
    stream.feed(b'data: {"vendors": [nil]}\n' + line({"message": "one"}) + line("Hello"))
    with pytest.raises(AgentFailed) as caught:
        stream.finish()
    assert str(caught.value) == f"The agent's answer cannot be read. {MAYBE}"
    assert said == ["one"]
    assert caught.value.partial == Answer("Hello")
    assert '{"vendors": [nil]}' in caught.value.unparsed


FRAMES = st.one_of(
    st.text(max_size=8),
    st.builds(lambda text: {"data": text}, st.text(max_size=8)),
    st.builds(lambda text: {"message": text}, st.text(max_size=8)),
    st.builds(lambda text: {"response": text}, st.text(max_size=8)),
    st.builds(lambda name: {"vendors": [{"name": name}]}, st.text(max_size=8)),
    st.builds(
        lambda role, text: {"message": {"role": role, "content": [{"text": text}]}},
        st.sampled_from(["assistant", "user"]),
        st.text(max_size=8),
    ),
    st.sampled_from(STRANDS_FRAMES),
)


LINE_ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n", b"\n: comment\n\n"])


WIRE = st.lists(st.tuples(FRAMES, LINE_ENDS), max_size=6).map(
    lambda frames: b"".join(
        b"data: " + json.dumps(frame, ensure_ascii=False).encode() + end for frame, end in frames
    )
)


def feed_pieces(stream: AgentReader, data: bytes, cuts: list[int]) -> None:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, end in pairwise(places):
        stream.feed(data[start:end])


@UNHURRIED
@given(wire=WIRE, cut=st.integers(0, 600), cuts=st.lists(st.integers(0, 600), max_size=8))
def test_the_same_frames_are_read_wherever_a_stream_is_cut_and_however_it_arrives(
    wire: bytes, cut: int, cuts: list[int]
):
    """Whole lines are never lost, half ones never read, and half a character harms nothing."""
    arrived = wire[:cut]
    in_pieces: list[str] = []
    by_lines: list[str] = []
    pieces = AgentReader(STREAM, in_pieces.append)
    feed_pieces(pieces, arrived, cuts)
    lines = AgentReader(STREAM, by_lines.append)
    *whole, rest = arrived.split(b"\n")
    for one in whole:
        lines.feed(one + b"\n")
    assert in_pieces == by_lines
    assert pieces.partial() == lines.partial()
    assert pieces.unparsed() == lines.unparsed() + rest.decode(errors="replace")


@pytest.fixture
def most(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes an answer may have: fewer than in earnest, where they take a second to read."""
    assert reader.MAX_BYTES == 32 * 1024 * 1024
    monkeypatch.setattr(reader, "MAX_BYTES", 100_000)
    return 100_000


@pytest.mark.parametrize("pieces", [1, 2], ids=["a line without end", "pieces without end"])
def test_an_answer_without_end_is_given_up_and_the_agent_may_still_run(most: int, pieces: int):
    read_stream(line("x" * (most // pieces - 100)) * pieces)
    with pytest.raises(AgentLost, match="too long"):
        read_stream(line("x" * (most // pieces + 1)) * pieces)
    with pytest.raises(AgentLost, match="too long"):
        read_stream(b"x" * (most + 1))


def test_a_document_without_end_is_given_up(most: int):
    with pytest.raises(AgentLost, match="too long"):
        read_whole(b" " * (most + 1))


def read(content_type: str, body: bytes) -> Answer:
    reader = AgentReader(content_type, lambda _: None)
    for byte in body:
        reader.feed(bytes([byte]))
    return reader.finish()


@pytest.mark.parametrize(
    "body, text",
    [
        (b"data: I've\n\ndata:  e-mailed\n\n", "I've e-mailed"),
        (b"data: 3\n\ndata:  vendors ask $\n\ndata: 240\n\ndata: .\n\n", "3 vendors ask $240."),
        (b"data: true\n\ndata: , null\n\ndata: null\n\n", "true, nullnull"),
        (b"data: a\ndata: \ndata: b\n\ndata: \ndata: \n\ndata: c\n\n", "a\n\nb\nc"),
        (b'data: "Yes\n\ndata: " she said\n\n', '"Yes" she said'),
        (b'data: {"response": \n\ndata: "Hello"}\n\n', "Hello"),
        (b"data: caf\xff\n\ndata: [DONE]\n\n", "caf\ufffd"),
    ],
)
def test_the_typescript_sdk_sends_texts_as_they_are(body: bytes, text: str):
    """One leading space is the protocol's, numbers are words, and a line end is one of the text."""
    assert read(STREAM, body).agent_response == text


@pytest.mark.parametrize(
    "sent",
    [
        'data: {"message": "x"}\n\ndata: {"response": "Hello"}\n\n',
        'event: result\ndata: {"response": "Hello"}\n\n',
    ],
)
def test_an_event_stream_inside_a_text_is_opened(sent: str):
    for body in (sent.encode(), json.dumps(sent).encode()):
        assert read("application/json", body) == Answer("Hello")
    assert read(STREAM, line(sent)) == Answer("Hello")


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("application/x-ndjson", b'{"data": "Hel"}\n\n{"data": "lo"}\n'),
        ("application/jsonl; charset=utf-8", b'{"data": "Hel"}\r\n{"data": "lo"}'),
        ("application/json", b'{"data": "Hel"}\n{"data": "lo"}\n'),
        ("", b'data: "Hel"\n\ndata: "lo"\n\n'),
        ("application/json", b"Hello"),
        ("text/plain", b"Hello"),
        ("", b'\xef\xbb\xbf{"response": "Hello"}'),
    ],
)
def test_what_an_answer_is_shows_in_itself_if_its_content_type_is_wrong(
    content_type: str, body: bytes
):
    assert read(content_type, body) == Answer("Hello")


@pytest.mark.parametrize("body", [b"<html>502</html>", b"<!DOCTYPE html>", b'{"response": nil}'])
def test_somebody_s_page_and_broken_json_are_no_answer(body: bytes):
    with pytest.raises(UnreadableAnswer) as caught:
        read("application/json", body)
    assert caught.value.unparsed == body.decode()


def test_json_that_breaks_after_other_json_is_not_shown_as_text():
    with pytest.raises(UnreadableAnswer) as caught:
        read(STREAM, line("Hello") + b'data: {"response": "half\n\n')
    assert caught.value.partial == Answer("Hello")
    assert "half" in caught.value.unparsed


@pytest.mark.parametrize(
    "event", [b'{"accepted": true}\xff\n\n', b'{"response": "Hello"}\xff \n\n', b'"Hel', b'"']
)
def test_json_that_broke_on_its_way_is_not_shown_as_text(event: bytes):
    with pytest.raises(UnreadableAnswer):
        read(STREAM, b"data: " + event)


@pytest.mark.parametrize("event", [b'"Hel\n\n', b'"Hello" she said', b"Hel"])
def test_a_text_may_begin_with_a_quote_or_lack_its_end(event: bytes):
    assert read(STREAM, b"data: " + event).agent_response == event.decode().strip()
