"""What a run comes to: a timeline, an answer, a failure."""

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.product.agent_reading import (
    ANY_JSON,
    MAYBE,
    ODD_FRAMES,
    UNHURRIED,
    read,
    read_frames,
    read_json,
)
from tests.product.agent_server import ARN, STREAM, line
from valro.agent import dialects
from valro.agent.answers import (
    AgentError,
    AgentFailed,
    AgentLost,
    AgentNotStarted,
    Answer,
    Run,
)
from valro.agent.reader import AgentReader

ANN = [{"name": "Ann", "emails": []}]


def test_what_a_broken_strands_run_wrote_after_its_last_turn_is_kept_too():
    stream = AgentReader(STREAM, print)
    stream.feed(line({"message": {"role": "assistant", "content": [{"text": "I look."}]}}))
    stream.feed(line({"event": {"contentBlockDelta": {"delta": {"text": "I found"}}}}))
    assert stream.partial() == Answer("I look.\n\nI found")


@pytest.mark.parametrize(
    "frames, answer, timeline",
    [
        (["Hello ", {"data": "wor"}, "ld", "\u2028🏠"], Answer("Hello world\u2028🏠"), []),
        ([{"message": " one\n"}, {"message": "  "}, "x"], Answer("x"), ["one"]),
        (["I found Ann.", {"vendors": [{"name": "Ann"}]}], Answer("I found Ann.", ANN), []),
        (
            [{"vendors": [{"name": "Ann"}]}, {"quotes": [{"price": 5}]}, "x"],
            Answer("x", ANN, [{"price": 5}]),
            [],
        ),
    ],
)
def test_pieces_and_objects_are_one_answer_and_messages_are_progress(
    frames: list[Any], answer: Answer, timeline: list[str]
):
    assert read_frames(*frames) == (answer, timeline)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" \n", b"null", b"{}", b"[]", b'""', b'" \\n"', b'{"response": "\\t "}'),
        *(b'{"vendors": [], "emails_sent": 0}', b'{"role": "assistant", "content": []}'),
    ],
)
def test_an_answer_of_nothing_is_a_failure(body: bytes):
    """Blank is nothing, as the only frame of a stream too."""
    frame = b"data: " + body.strip() + b"\n\n"
    for kind, sent in (("application/json", body), ("text/plain", body), (STREAM, frame)):
        with pytest.raises(AgentFailed, match="ended without an answer"):
            read(kind, sent)


def strict_json(value: Any) -> Any:
    return json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def check_fit_for_a_task(answer: Answer) -> None:
    """Text is text, lists are lists of objects, and all of it is JSON that UTF-8 can carry."""
    assert isinstance(answer.agent_response, str)
    strict_json([answer.agent_response, answer.unmatched_emails])
    for kept in (answer.vendors, answer.quotes):
        assert strict_json(kept) == kept
        assert all(isinstance(element, dict) for element in kept)
    assert 0 <= answer.emails_sent < 1_000_000_000


@UNHURRIED
@given(
    frames=st.lists(st.binary(max_size=60) | (ANY_JSON | ODD_FRAMES).map(as_json), max_size=5),
    kind=st.sampled_from([STREAM, "application/json", "text/plain"]),
)
@example(frames=[b"\x00"], kind="application/json")
@example(frames=[b'{"error": {"message": 5}}'], kind="application/json")
@example(frames=[b'"\\ud800"'], kind="application/json")
@example(frames=[b"\"{'a', []}\""], kind=STREAM)
def test_nothing_that_an_agent_sends_raises_anything_but_agent_error(
    frames: list[bytes], kind: str
):
    said: list[str] = []
    reader = AgentReader(kind, said.append)
    with suppress(AgentError):
        for frame in frames:
            reader.feed(b"data: " + frame + b"\n" if kind is STREAM else frame)
            assert reader.partial() == reader.partial()
            check_fit_for_a_task(reader.partial() or Answer(""))
        check_fit_for_a_task(reader.finish())
    assert all(one == one.strip() != "" for one in said)


@UNHURRIED
@given(frame=ODD_FRAMES)
def test_no_frame_breaks_what_reads_it(frame: Any):
    """Which would cost the other frames nothing, so a reader does not show it."""
    run = Run(lambda _: None)
    with suppress(AgentError):
        for event in dialects.read(frame):
            run.take(event)
        run.partial()
        run.finish()


@pytest.mark.parametrize(
    "answer, text",
    [
        ({"error": "No vendors today"}, "No vendors today."),
        ({"error": "Really?"}, "Really?"),
        ({"error": {"message": "Nested"}}, "Nested."),
        ({"error": True, "message": "Beside"}, "Beside."),
        ({"error": ["x"], "message": " "}, "The agent reported a failure."),
        ({"error": "two\n\nlines  "}, "two lines."),
        ({"error": "x" * 2_000}, "x" * 1_500 + "."),
    ],
)
def test_an_agent_s_own_words_are_the_error(answer: dict[str, Any], text: str):
    for reads in (read_json, read_frames):
        with pytest.raises(AgentFailed) as caught:
            reads(answer)
        assert str(caught.value) == f"{text} {MAYBE}"


def test_what_a_failure_says_beside_its_error_is_kept():
    """A person must see whom the agent had written to before it failed."""
    said = {"error": "Out of paper", "response": "I wrote to Ann", "vendors": [{"name": "Ann"}]}
    for reads in (read_json, read_frames):
        with pytest.raises(AgentFailed) as caught:
            reads(said)
        assert str(caught.value) == f"Out of paper. {MAYBE}"
        assert caught.value.partial == Answer("I wrote to Ann", ANN)


SECRETS = re.compile(r"arn:|123456789012|AgentCoreRole|valro-AbC")


@pytest.mark.parametrize(
    "text",
    [
        f"No access to {ARN}",
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
    assert (
        str(AgentNotStarted("No.")) == "No. The agent was not started, so no vendor was contacted."
    )
    for kind in (AgentError, AgentFailed, AgentLost):
        assert str(kind("No.")) == f"No. {MAYBE}"


@pytest.mark.parametrize("size,is_kept", [(200, True), (201, False)])
def test_a_message_s_id_is_kept_unless_a_task_might_have_no_room_for_it(size: int, is_kept: bool):
    fields = Answer("Found.", message_id="m" * size).task_fields()
    assert ("message_id" in fields) is is_kept
