"""How bytes become frames: event streams, JSON lines, JSON and text."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.product.agent_reading import MAYBE, UNHURRIED, read, read_stream, read_whole
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


@pytest.mark.parametrize(
    "wire",
    [
        b'\xef\xbb\xbfdata: "Hello"\n\n',
        b'data: "Hello"\r\rdata: [DONE]\r\r',
        b'data: "Hello"\r\n\r\ndata: [DONE]\r\n\r\n',
        b'data: {\ndata: "response":\ndata: "Hello"\ndata: }\n\n',
        b'data: {\rdata:"response":\rdata:"Hello"}\r\r',
        b"event: message\nid: 7\nretry: 3\n: comment\n" + line("Hello") + b"data: [DONE]\n\n",
        b"data:\n\n" + line("Hello") + b"data: \n\ndata\n\n",
        b'database: 1\n:\n\ndata:"Hel"\n\ndata: "lo"',
    ],
)
def test_every_shape_of_an_event_stream_is_read(wire: bytes):
    for size in (1, 2, 3, len(wire)):
        pieces = (wire[start : start + size] for start in range(0, len(wire), size))
        assert read_stream(*pieces)[0] == Answer("Hello")


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


KEYS = st.sampled_from(["data", "message", "response", "vendors"])
FRAMES = st.text(max_size=8) | st.dictionaries(KEYS, st.text(max_size=8), max_size=1)
LINE_ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n", b"\n: comment\n\n"])
WIRE = st.lists(st.tuples(FRAMES, LINE_ENDS), max_size=6).map(
    lambda frames: b"".join(line(frame).rstrip(b"\n") + end for frame, end in frames)
)


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
    for start, end in pairwise(sorted({0, *cuts, len(arrived)})):
        pieces.feed(arrived[start:end])
    lines = AgentReader(STREAM, by_lines.append)
    *whole, rest = arrived.split(b"\n")
    for one in whole:
        lines.feed(one + b"\n")
    assert in_pieces == by_lines
    assert pieces.partial() == lines.partial()
    assert pieces.unparsed() == lines.unparsed() + rest.decode(errors="replace")


def test_an_answer_without_end_is_given_up_and_the_agent_may_still_run(
    monkeypatch: pytest.MonkeyPatch,
):
    assert reader.MAX_BYTES == 32 * 1024 * 1024
    most = 100_000  # fewer than in earnest, which take a second to read
    monkeypatch.setattr(reader, "MAX_BYTES", most)
    read_stream(line("x" * (most // 2 - 100)) * 2)
    for body in (line("x" * (most // 2 + 1)) * 2, b"x" * (most + 1)):
        with pytest.raises(AgentLost, match="too long"):
            read_stream(body)
    with pytest.raises(AgentLost, match="too long"):
        read_whole(b" " * (most + 1))


def read_bytes(content_type: str, body: bytes) -> Answer:
    return read(content_type, *(bytes([byte]) for byte in body))[0]


@pytest.mark.parametrize(
    "body, text",
    [
        (b"data: 3\n\ndata:  vendors ask $\n\ndata: 240\n\ndata: .\n\n", "3 vendors ask $240."),
        (b"data: true\n\ndata: , null\n\ndata: null\n\n", "true, nullnull"),
        (b"data: a\ndata: \ndata: b\n\ndata: \ndata: \n\ndata: c\n\n", "a\n\nb\nc"),
        (b'data: "Yes\n\ndata: " she said\n\n', '"Yes" she said'),
        (b'data: {"response": \n\ndata: "Hello"}\n\n', "Hello"),
        (b"data: caf\xff\n\ndata: [DONE]\n\n", "caf\ufffd"),
        # A text may begin with a quote, or lack its end.
        (b'data: "Hel\n\n', '"Hel'),
        (b'data: "Hello" she said', '"Hello" she said'),
        (b"data: Hel", "Hel"),
    ],
)
def test_the_typescript_sdk_sends_texts_as_they_are(body: bytes, text: str):
    """One leading space is the protocol's, numbers are words, and a line end is one of the text."""
    assert read_bytes(STREAM, body).agent_response == text


@pytest.mark.parametrize(
    "sent",
    [
        'data: {"message": "x"}\n\ndata: {"response": "Hello"}\n\n',
        'event: result\ndata: {"response": "Hello"}\n\n',
    ],
)
def test_an_event_stream_inside_a_text_is_opened(sent: str):
    for body in (sent.encode(), json.dumps(sent).encode()):
        assert read_bytes("application/json", body) == Answer("Hello")
    assert read_bytes(STREAM, line(sent)) == Answer("Hello")


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
    assert read_bytes(content_type, body) == Answer("Hello")


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("application/json", b"<html>502</html>"),
        ("application/json", b"<!DOCTYPE html>"),
        ("application/json", b'{"response": nil}'),
        (STREAM, b'data: {"accepted": true}\xff\n\n'),
        (STREAM, b'data: {"response": "Hello"}\xff \n\n'),
        (STREAM, b'data: "Hel'),
        (STREAM, b'data: "'),
        (STREAM, line("Hello") + b'data: {"response": "half\n\n'),
    ],
)
def test_somebody_s_page_and_json_that_broke_are_kept_and_not_shown_as_text(
    content_type: str, body: bytes
):
    with pytest.raises(UnreadableAnswer) as caught:
        read_bytes(content_type, body)
    unparsed = body.removeprefix(line("Hello")).removeprefix(b"data: ").decode(errors="replace")
    assert caught.value.unparsed.strip() == unparsed.strip()
