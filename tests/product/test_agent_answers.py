"""What agent_answers makes of what agents say: bytes in, progress and an answer out."""

import json
import re
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.product.agent_server import ARN, STREAM, line
from valro.agent import reader
from valro.agent.answers import (
    AgentError,
    AgentFailed,
    AgentLost,
    AgentNotStarted,
    Answer,
)
from valro.agent.reader import AgentReader
from valro.agent.values import from_text, is_python_repr

NO_VENDOR = "The agent was not started, so no vendor was contacted."
MAYBE = "The agent may already have contacted vendors."
UNHURRIED = settings(deadline=None)  # other work on the machine must not fail a property


def read_stream(*pieces: bytes) -> tuple[Answer, list[str]]:
    said: list[str] = []
    stream = AgentReader(STREAM, said.append)
    for piece in pieces:
        stream.feed(piece)
    return stream.finish(), said


def read_frames(*frames: Any) -> tuple[Answer, list[str]]:
    return read_stream(*map(line, frames))


def read_whole(body: bytes, *, is_text: bool = False) -> Answer:
    whole = AgentReader("text/plain" if is_text else "application/json", lambda _: None)
    whole.feed(body)
    return whole.finish()


def read_json(value: Any) -> Answer:
    return read_whole(json.dumps(value).encode())


def test_what_a_broken_strands_run_wrote_after_its_last_turn_is_kept_too():
    stream = AgentReader(STREAM, print)
    stream.feed(line({"message": {"role": "assistant", "content": [{"text": "I look."}]}}))
    stream.feed(line({"event": {"contentBlockDelta": {"delta": {"text": "I found"}}}}))
    partial = stream.partial()
    assert partial is not None
    assert "I look." in partial.agent_response
    assert "I found" in partial.agent_response


# --- the stream's frames --------------------------------------------------------------------------


def test_pieces_of_text_are_put_together():
    answer, said = read_frames("Hello ", {"data": "wor"}, "ld", "\u2028🏠")
    assert answer == Answer("Hello world\u2028🏠")
    assert said == []


def test_messages_are_progress_trimmed_and_never_blank():
    answer, said = read_frames({"message": " one\n"}, {"message": "  "}, {"message": "two"}, "x")
    assert said == ["one", "two"]
    assert answer == Answer("x")


def test_an_answer_object_wins_over_pieces():
    answer, _ = read_frames("thinking…", {"response": "done", "vendors": [{"name": "Ann"}]})
    assert answer.agent_response == "done"
    assert answer.vendors == [{"name": "Ann", "emails": []}]


def test_pieces_are_the_response_of_an_answer_object_that_has_none():
    answer, _ = read_frames("I found Ann.", {"vendors": [{"name": "Ann"}]})
    assert answer.agent_response == "I found Ann."
    assert answer.vendors == [{"name": "Ann", "emails": []}]


def test_an_answer_in_several_objects_is_one_answer():
    answer, _ = read_frames({"vendors": [{"name": "Ann"}]}, {"quotes": [{"price": 5}]}, "x")
    assert (answer.vendors[0]["name"], answer.quotes) == ("Ann", [{"price": 5}])


def test_a_message_beside_result_keys_is_the_response_and_not_progress():
    answer, said = read_frames({"message": "All done", "vendors": []})
    assert answer.agent_response == "All done"
    assert said == []


@pytest.mark.parametrize(
    "frame",
    [
        *(None, True, 5, 1.5, [], ["x"], {}, {"start": True}, {"event": 3}, {"message": 3}),
        *(
            {"event": {"date": "Monday"}},
            {"start": "Monday"},
            {"delta": "x"},
            {"message": {"a": 1}},
        ),
    ],
)
def test_frames_that_mean_nothing_are_passed_over(frame: Any):
    answer, said = read_frames(frame, "x")
    assert (answer, said) == (Answer("x"), [])


STRANDS_FRAMES: list[Any] = [
    {"init_event_loop": True},
    {"start": True},
    {"start_event_loop": True},
    {"event": {"messageStart": {"role": "assistant"}}},
    {"event": {"contentBlockDelta": {"delta": {"text": "Let me "}, "contentBlockIndex": 0}}},
    "{'data': 'Let me ', 'agent': <strands.agent.agent.Agent object at 0x7fa1>, 'id': UUID('5f')}",
    {"event": {"contentBlockDelta": {"delta": {"text": "look."}}}},
    {
        "event": {
            "contentBlockStart": {"start": {"toolUse": {"name": "getVendors", "toolUseId": "t1"}}}
        }
    },
    {"event": {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"city": "Charl'}}}}},
    {"event": {"contentBlockStop": {}}},
    {"event": {"messageStop": {"stopReason": "tool_use"}}},
    {
        "message": {
            "role": "assistant",
            "content": [
                {"text": "Let me look."},
                {"toolUse": {"toolUseId": "t1", "name": "getVendors", "input": {}}},
            ],
        }
    },
    {
        "message": {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "secret"}]}}],
        }
    },
    {"message": {"role": "assistant", "content": [{"toolUse": {"name": "sendEmail"}}]}},
    {"message": {"role": "assistant", "content": []}},
    {"event": {"metadata": {"usage": {"inputTokens": 5}}}},
    {"event": {"contentBlockDelta": {"delta": {"text": "I e-mailed "}}}},
    {"event": {"contentBlockDelta": {"delta": {"text": "Ann."}}}},
    {"message": {"role": "assistant", "content": [{"text": "I e-mailed "}, {"text": "Ann."}]}},
    "{'result': AgentResult(stop_reason='end_turn', message={'role': 'assistant'}, state={})}",
]


def test_a_strands_agent_s_raw_events_give_its_last_turn_and_its_tools():
    answer, said = read_frames(*STRANDS_FRAMES)
    assert answer == Answer("I e-mailed Ann.")
    assert said == ["Let me look.", "Using getVendors", "Using sendEmail"]


def test_a_turn_without_text_is_not_the_response():
    """A strands run that ends in a tool call: the last turn *with text* is the response."""
    answer, _ = read_frames(*STRANDS_FRAMES[:15])
    assert answer == Answer("Let me look.")


def test_a_strands_run_without_whole_turns_gives_the_text_after_its_last_tool():
    answer, said = read_frames(*(frame for frame in STRANDS_FRAMES if "message" not in frame))
    assert answer == Answer("I e-mailed Ann.")
    assert said == ["Let me look.", "Using getVendors"]


# What bedrock-agentcore 1.24.2 sent for an async generator's "Hello ", {"data": "Hi", "agent": an
# object}, {"message": "Looking"}, {"a": {1, 2}}, "line\u2028sep é", None and b"x".
SDK_STREAM = (
    b'data: "Hello "\n\n'
    b"data: \"{'data': 'Hi', 'agent': <__main__.Agent object at 0x7fa139d4dd90>}\"\n\n"
    b'data: {"message": "Looking"}\n\n'
    b'data: {"a": [1, 2]}\n\n'
    b'data: "line\xe2\x80\xa8sep \xc3\xa9"\n\n'
    b"data: null\n\n"
    b"data: \"b'x'\"\n\n"
)
SDK_STREAM_ERROR = (
    b'data: "Hello "\n\n'
    b'data: {"error": "boom", "error_type": "RuntimeError", '
    b'"message": "An error occurred during streaming"}\n\n'
)


def test_an_error_in_a_stream_is_one_although_its_text_is_empty():
    """So the SDK sends TimeoutError() and AssertionError(): not half an answer, completed."""
    message = "An error occurred during streaming"
    frame = line({"error": "", "error_type": "TimeoutError", "message": message})
    with pytest.raises(AgentFailed, match=message) as failure:
        read_stream(line("Hello "), frame)
    assert failure.value.partial == Answer("Hello ")
    with pytest.raises(AgentFailed, match=message):
        read_json({"error": "", "error_type": "TimeoutError", "message": message})


def test_a_stream_recorded_from_the_sdk_is_read():
    answer, said = read_stream(SDK_STREAM)
    assert answer == Answer("Hello line\u2028sep éb'x'")
    assert answer.unparsed == '{"a": [1, 2]}\n'
    assert said == ["Looking"]


def test_an_exception_in_the_middle_of_a_stream_is_a_failure_with_what_came_before():
    """It comes with HTTP status 200."""
    with pytest.raises(AgentFailed) as caught:
        read_stream(SDK_STREAM_ERROR)
    assert str(caught.value) == f"boom. {MAYBE}"
    assert caught.value.partial == Answer("Hello ")


@pytest.mark.parametrize(
    "text",
    [
        "{'data': 'Hi', 'agent': <strands.agent.agent.Agent object at 0x7fa139d4dd90>}",
        "{'result': AgentResult(stop_reason='end_turn')}",
        "{'data': '" + "x" * 200_000 + "', 'id': UUID('5f')}",
        "{'a': [<__main__.Agent object at 0x7fa139d4dd90>]}",
    ],
    ids=lambda text: text[:20],
)
def test_the_repr_of_a_dict_with_python_objects_never_reaches_a_person(text: str):
    assert is_python_repr(text)
    answer, said = read_frames(text, "x")
    assert (answer, said) == (Answer("x"), [])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"a": 1}',
        "{ 'a': 1}",
        "Dear {'name'}",
        "{'a', 'b'}",
        "{'Greenline': 250}",
        "{'role': 'user'}",
        "{'a': {'b': [1, None, True]}, 'c': 1.5}",
        "{'data': 'cut off in the mid",
        "{'a': 1, []: 2}",
        "{'a': '\\d'}",
        "{'" + "(" * 10_000,
        "{'a': " + "[" * 100_000,
        "{'a': " + "-" * 100_000 + "1}",
        "[" * 10_000,
        "[1, 2]",
    ],
    ids=lambda text: text[:20],
)
def test_other_text_with_braces_is_text(text: str):
    """Whatever it begins with: a person would miss it."""
    assert not is_python_repr(text)
    assert read_frames("Prices: ", text, " for mowing")[0] == Answer(f"Prices: {text} for mowing")
    assert read_json(text) == Answer(text)


# --- the stream's lines ---------------------------------------------------------------------------


def test_only_a_newline_ends_a_line():
    """str.splitlines() would cut these in two."""
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    answer, _ = read_stream(
        b'data: "' + json.dumps(text, ensure_ascii=False)[1:-1].encode() + b'"\n\n'
    )
    assert answer.agent_response == text


@pytest.mark.parametrize("said", ["[]", "{}", "[1]"])
def test_a_piece_of_text_that_is_json_by_itself_is_a_piece(said: str):
    pieces = ('{"response": "I asked", "quotes": ', said, ', "vendors": [', "{}", "]}")
    answer, _ = read_frames(*pieces)
    assert (answer.agent_response, len(answer.vendors)) == ("I asked", 1)
    assert read_frames(*({"data": piece} for piece in pieces))[0] == answer


@pytest.mark.parametrize(
    "sent",
    [
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Ann: $250"}],
            "stop_reason": "x",
        },
        {"status": "success", "results": {"vendors": [{"name": "Ann: $250"}]}},
        {"start": "Monday", "vendor": "Ann: $250"},
        {"delta": "Ann: $250"},
        {"event": {"vendor": "Ann: $250"}},
        {"message": {"vendor": "Ann: $250"}},
        {"error": None, "error_type": None, "response": "Ann: $250"},
    ],
)
def test_an_answer_that_looks_like_something_of_strands_is_shown_whole(sent: Any):
    assert "Ann: $250" in read_json(sent).agent_response
    assert "Ann: $250" in read_json(json.dumps(sent)).agent_response


@pytest.mark.parametrize("data", [b'{"response": "x"}\n', b' data: "x"\n', b"<html>502</html>\n"])
def test_lines_that_no_event_stream_has_are_kept_for_the_log(data: bytes):
    with pytest.raises(AgentFailed) as caught:
        read_stream(data, b": a comment\nevent: x\nid: 1\ndata:\n\n")
    assert caught.value.unparsed == data.decode()


def test_crlf_comments_and_other_fields_are_allowed():
    answer, said = read_stream(
        b": hello\r\nretry: 5\r\nevent: message\r\nid: 1\r\n"
        b'data: {"message": "one"}\r\n\r\ndata:"x"\r\n\r\ndatabase: 1\n:\n\n'
    )
    assert (answer, said) == (Answer("x"), ["one"])


def test_a_last_line_without_a_newline_is_read():
    answer, _ = read_stream(b'data: "Hello "\n\ndata: "world"')
    assert answer == Answer("Hello world")


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


# --- JSON answers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, response",
    [
        ("Hello", "Hello"),
        ({"response": "Hello"}, "Hello"),
        ({"result": "Hello"}, "Hello"),
        ({"output": "Hello"}, "Hello"),
        ({"message": "Hello"}, "Hello"),
        ({"response": None, "result": "Hello"}, "Hello"),
        ({"response": "", "emails_sent": 1}, ""),
        ({"vendors": [{"name": "Ann"}]}, ""),
        ({"result": {"role": "assistant", "content": [{"text": "Hel"}, {"text": "lo"}]}}, "Hello"),
        ({"result": {"role": "assistant", "content": "Hello"}}, "Hello"),
        ({"result": [{"text": "Hel"}, {"toolUse": {}}, {"text": "lo"}]}, "Hello"),
        ({"result": {"role": "assistant", "content": [{"toolUse": {}}]}, "emails_sent": 1}, ""),
        ({"result": {"price": 5}}, '{"price": 5}'),
        ({"result": 5}, "5"),
        ({"result": False}, "false"),
        ({"something": "else"}, '{"something": "else"}'),
        (["a", "b"], '["a", "b"]'),
        (5, "5"),
        ({"response": "Hello", "error": None}, "Hello"),
        ({"response": "Hello", "error": ""}, "Hello"),
    ],
)
def test_every_shape_of_response_is_text(value: Any, response: str):
    assert read_json(value).agent_response == response


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" \n", b"null", b"{}", b"[]", b'""', b'" \\n"', b'{"response": "\\t "}'),
        *(b'{"vendors": [], "emails_sent": 0}', b'{"role": "assistant", "content": []}'),
    ],
)
def test_an_answer_of_nothing_is_a_failure(body: bytes):
    """Blank is nothing, as the only frame of a stream too."""
    with pytest.raises(AgentFailed, match="ended without an answer"):
        read_whole(body)
    with pytest.raises(AgentFailed, match="ended without an answer"):
        read_whole(body, is_text=True)
    with pytest.raises(AgentFailed, match="ended without an answer"):
        read_stream(b"data: " + body.strip() + b"\n\n")


def test_vendors_get_the_emails_sent_to_them_whatever_the_case():
    answer = read_json(
        {
            "response": "x",
            "vendors": [{"name": "Ann", "email": "Ann@X.com"}, {"name": "Bob", "email": "bob@x"}],
            "emails": [
                {"recipient": "ann@x.COM ", "subject": "1"},
                {"recipient": "BOB@x", "subject": "2"},
                {"recipient": "ANN@x.com", "subject": "3"},
            ],
        }
    )
    subjects = [[email["subject"] for email in vendor["emails"]] for vendor in answer.vendors]
    assert subjects == [["1", "3"], ["2"]]
    assert answer.emails_sent == 3
    assert answer.unmatched_emails == []


def test_an_email_to_no_vendor_is_counted_and_kept():
    emails: list[Any] = [{"recipient": "eve@x"}, {"subject": "?"}, "text", {"recipient": ["a"]}]
    answer = read_json({"vendors": [{"name": "Ann"}, {"email": ""}, 7], "emails": emails})
    assert answer.unmatched_emails == emails
    assert answer.emails_sent == 4
    assert [vendor["emails"] for vendor in answer.vendors] == [[], [], []]


@pytest.mark.parametrize(
    "said, counted",
    [(5, 5), (0, 0), (2.0, 2), (None, 1), ("3", 1), (True, 1), (-1, 1), (10**30, 1), ([], 1)],
)
def test_emails_sent_is_the_agent_s_number_if_it_is_one(said: Any, counted: int):
    answer = read_json({"emails": [{"recipient": "a@x"}], "emails_sent": said})
    assert answer.emails_sent == counted


@pytest.mark.parametrize(
    "value, vendors",
    [
        (None, []),
        ({"name": "Ann"}, [{"name": "Ann", "emails": []}]),
        (["Ann"], [{"name": "Ann", "emails": []}]),
        ("Ann", [{"name": "Ann", "emails": []}]),
    ],
)
def test_vendors_in_other_shapes_become_objects(value: Any, vendors: list[Any]):
    assert read_json({"response": "x", "vendors": value}).vendors == vendors


def test_values_survive_as_they_were():
    quote = {
        "price": 1.5,
        "large": 1e300,
        "tiny": 5e-324,
        "digits": 10**40,
        "empty": "",
        "no": None,
    }
    assert read_json({"quotes": [quote]}).quotes == [quote]


# --- odd bytes ------------------------------------------------------------------------------------

ODD = {
    "no value": b"NULL",
    "5,000 digits": b"1" * 5_000,
    "600 deep": b"[" * 600 + b"]" * 600,
    "100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "100,000 deep, cut": b'{"a":' * 100_000,
    "invalid UTF-8": b'"\xff\xfe"',
    "an encoded surrogate": b'"\xed\xa0\x80"',
    "UTF-16": '"x"'.encode("utf-16"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_no_browser_could_read_makes_a_json_answer_bad_and_is_kept(name: str):
    body = b'{"response": "x", "quotes": [' + ODD[name] + b"]}"
    with pytest.raises(AgentFailed) as caught:
        read_whole(body)
    assert str(caught.value) == f"The agent's answer cannot be read. {MAYBE}"
    assert caught.value.unparsed == body.decode(errors="replace")


@pytest.mark.parametrize("name", ODD)
def test_what_no_browser_could_read_makes_a_streamed_answer_bad_and_is_kept(name: str):
    body = b'{"response": "x", "quotes": [' + ODD[name].replace(b"\n", b"") + b"]}"
    with pytest.raises(AgentFailed) as caught:
        read_stream(line("Hello"), b"data: " + body + b"\n\n")
    assert caught.value.partial == Answer("Hello")
    assert body.decode(errors="replace") in caught.value.unparsed


def test_halves_of_surrogate_pairs_become_replacement_characters():
    body = rb'{"response": "a\ud800b\udc00", "vendors": [{"\udfff": "\ud83c\udfe0 \ud83c"}]}'
    for answer in (read_whole(body), read_stream(b"data: " + body + b"\n\n")[0]):
        assert answer.agent_response == "a\ufffdb\ufffd"
        assert answer.vendors == [{"\ufffd": "🏠 \ufffd", "emails": []}]


def test_nesting_up_to_490_is_kept():
    value: Any = []
    for _ in range(490):
        value = [value]
    assert read_json({"quotes": [{"deep": value}]}).quotes == [{"deep": value}]


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


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "response result message vendors quotes emails emails_sent error event data role "
                "content text email recipient contentBlockDelta contentBlockStart delta start "
                "toolUse name".split()
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def strict_json(value: Any) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(json.dumps(value, ensure_ascii=False).encode(), parse_constant=refuse)


def check_fit_for_a_task(answer: Answer) -> None:
    """Text is text, lists are lists of objects, and all of it is JSON that UTF-8 can carry."""
    assert isinstance(answer.agent_response, str)
    strict_json([answer.agent_response, answer.unmatched_emails])
    for kept in (answer.vendors, answer.quotes):
        assert strict_json(kept) == kept
        assert all(isinstance(element, dict) for element in kept)
    assert 0 <= answer.emails_sent < 1_000_000_000


@UNHURRIED
@given(body=st.binary(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
@example(body=b"\x00")
@example(body=b'{"error": {"message": 5}}')
@example(body=b'"\\ud800"')
def test_no_document_raises_anything_but_agent_error(body: bytes):
    for is_text in (False, True):
        with suppress(AgentError):
            check_fit_for_a_task(read_whole(body, is_text=is_text))


@UNHURRIED
@given(
    frames=st.lists(
        st.binary(max_size=30) | JSON_VALUES.map(lambda value: json.dumps(value).encode()),
        max_size=5,
    )
)
@example(frames=[b"\"{'a', []}\""])
def test_no_stream_raises_anything_but_agent_error(frames: list[bytes]):
    said: list[str] = []
    stream = AgentReader(STREAM, said.append)
    with suppress(AgentError):
        for frame in frames:
            stream.feed(b"data: " + frame + b"\n")
            assert stream.partial() == stream.partial()
            check_fit_for_a_task(stream.partial() or Answer(""))
        check_fit_for_a_task(stream.finish())
    assert all(one == one.strip() != "" for one in said)


# --- what a person reads --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, text",
    [
        ({"error": "No vendors today"}, "No vendors today."),
        ({"error": "Really?"}, "Really?"),
        ({"error": {"message": "Nested"}}, "Nested."),
        ({"error": True, "message": "Beside"}, "Beside."),
        ({"error": {"code": 5}}, "The agent reported a failure."),
        ({"error": ["x"], "message": " "}, "The agent reported a failure."),
        ({"error": "two\n\nlines  "}, "two lines."),
        ({"error": "x" * 2_000}, "x" * 1_500 + "."),
    ],
)
def test_an_agent_s_own_words_are_the_error(answer: dict[str, Any], text: str):
    for read in (read_json, read_frames):
        with pytest.raises(AgentFailed) as caught:
            read(answer)
        assert str(caught.value) == f"{text} {MAYBE}"


def test_what_a_failure_says_beside_its_error_is_kept():
    """A person must see whom the agent had written to before it failed."""
    said = {"error": "Out of paper", "response": "I wrote to Ann", "vendors": [{"name": "Ann"}]}
    for read in (read_json, read_frames):
        with pytest.raises(AgentFailed) as caught:
            read(said)
        assert str(caught.value) == f"Out of paper. {MAYBE}"
        assert caught.value.partial == Answer("I wrote to Ann", [{"name": "Ann", "emails": []}])


SECRETS = re.compile(r"arn:|123456789012|AgentCoreRole|valro-AbC")


@pytest.mark.parametrize(
    "text",
    [
        f"No access to {ARN}",
        'User: "arn:aws:sts::123456789012:assumed-role/AgentCoreRole/x" may not',
        "account 123456789012 is closed",
        "x" * 1_490 + " 123456789012",
        "x" * 1_490 + f" {ARN}",
    ],
)
def test_an_error_names_no_arn_and_no_account(text: str):
    with pytest.raises(AgentFailed) as caught:
        read_json({"error": text})
    assert not SECRETS.search(str(caught.value))
    assert not re.search(r"\d{8}", str(caught.value))


def test_every_error_says_whether_vendors_may_have_been_contacted():
    assert str(AgentNotStarted("No.")) == f"No. {NO_VENDOR}"
    for kind in (AgentError, AgentFailed, AgentLost):
        assert str(kind("No.")) == f"No. {MAYBE}"


# --- texts and values -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"response": "Hello", "stop_reason": "end_turn"},
        {"response": "Hello", "content": "internal"},
        {"message": "Hello", "stop_reason": "end_turn"},
        {"result": "Hello", "status": "done", "results": [1]},
        {"response": "Hello", "message": {"content": [{"text": "Bye"}]}},
    ],
)
def test_an_answer_may_have_fields_that_strands_has_too(value: Any):
    assert read_json(value).agent_response == "Hello"


OBJECT = '{"vendors": [{"name": "Ann"}], "response": "She is free."}'


@pytest.mark.parametrize(
    "text, response",
    [
        (OBJECT, "She is free."),
        (f"```json\n{OBJECT}\n```", "She is free."),
        (f"```\n{OBJECT}```\n", "She is free."),
        (f"I found Ann. {OBJECT}", "I found Ann.\n\nShe is free."),
        (f"I found Ann:\n```JSON\n{OBJECT}\n```", "I found Ann:\n\nShe is free."),
        ('I found Ann:\n{"vendors": [{"name": "Ann"}]}', "I found Ann:"),
    ],
)
def test_an_answer_object_at_the_end_of_a_text_is_the_answer(text: str, response: str):
    for answer in (read_json(text), read_frames(text)[0], read_frames(*text)[0]):
        assert answer.agent_response == response
        assert answer.vendors == [{"name": "Ann", "emails": []}]


@pytest.mark.parametrize(
    "text",
    [
        f"{OBJECT} That is all.",
        'Ask for {"size": 5}',
        'Type {"response": 5',
        '{"a": 1} and {"response": 5}',
        "```\ncode\n```",
        "```",
        "}",
    ],
)
def test_other_text_with_objects_stays_as_it_is(text: str):
    assert read_json(text) == read_frames(text)[0] == Answer(text)


@pytest.mark.parametrize(
    "text, frame",
    [
        (str({"result": 5}), {"result": 5}),
        ("{'a': Decimal('390'), 'b': [Decimal('1.5')]}", {"a": 390, "b": [1.5]}),
        ("{'a': datetime.date(2026, 1, 2), 'b': UUID('5f')}", {"a": "2026-01-02", "b": "5f"}),
        (
            "{'a': datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.timezone.utc)}",
            {"a": "2026-01-02T03:04:00+00:00"},
        ),
        ("{'a': {'b', 'c'} and 1}", None),
        ("{'a': {'b'}}", {"a": ["b"]}),
        ("{'a': A(x=1)}", None),
        ("{'a': <x.Y object at 0x7f>}", None),
        ("{'a': Decimal('many')}", None),
        ("{'a': lambda: 1}", None),
        ("{'a': __import__('os').getcwd()}", None),
        ("{'a': x}", None),
    ],
)
def test_a_python_repr_is_read_and_never_run(text: str, frame: Any):
    """Of objects only decimals, dates and UUIDs are values; where one is wanted, each is a dict."""
    assert from_text(text) == frame


@pytest.mark.parametrize(
    "text, frame",
    [
        ("{'a': UUID('5f'), 'b': [<x.Y object at 0x7f>]}", {"a": "5f", "b": [None]}),
        ("{'a': A(x=1, y=B(z='<b> at 0x7f'))}", {"a": {"x": 1, "y": {"z": "<b> at 0x7f"}}}),
        ("{'a': {A(x=1)}, 'b': <S.DONE: 'done'>}", {"a": [{"x": 1}], "b": None}),
        ("{'a': __import__('os').getcwd()}", {"a": {}}),
    ],
)
def test_objects_in_a_repr_may_be_what_they_were_made_with(text: str, frame: Any):
    assert from_text(text, with_objects=True) == frame
