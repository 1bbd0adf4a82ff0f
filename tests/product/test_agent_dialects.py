"""What the frames of each dialect mean: a case a rule; whole runs are in tests/agents."""

import json
import re
import time
from typing import Any

import pytest
from ag_ui import core as ag
from hypothesis import given
from hypothesis import strategies as st

from tests.product.agent_reading import (
    MAYBE,
    UNHURRIED,
    read_frames,
    read_json,
    read_stream,
)
from tests.product.agent_server import STREAM, line
from valro.agent.answers import AgentFailed, Answer, UnreadableAnswer
from valro.agent.reader import AgentReader


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


@pytest.mark.parametrize("said", ["[]", "{}", "[1]"])
def test_a_piece_of_text_that_is_json_by_itself_is_a_piece(said: str):
    pieces = ('{"response": "I asked", "quotes": ', said, ', "vendors": [', "{}", "]}")
    answer, _ = read_frames(*pieces)
    assert (answer.agent_response, len(answer.vendors)) == ("I asked", 1)
    assert read_frames(*({"data": piece} for piece in pieces))[0] == answer


@pytest.mark.parametrize(
    "sent",
    [
        {"role": "assistant", "content": [{"text": "Ann: $250"}], "stop_reason": "x"},
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


ANSWER = "Green Fern asks $240."
SAID = "Let me look."
USED = [SAID, "Using find"]
TOKENS = re.findall(r"\s*\S+", ANSWER)
GENERAL: dict[str, tuple[list[Any], list[str]]] = {
    "a message beside result keys": ([{"message": ANSWER, "vendors": []}], []),
    "typed tokens": ([{"type": "token", "content": one} for one in TOKENS], []),
    "the event's name in the object": (
        [*({"event": "token", "data": {"text": one}} for one in TOKENS), {"event": "end"}],
        [],
    ),
    "status, then the result": (
        [{"type": "status", "message": "Asking"}, {"type": "result", "data": {"response": ANSWER}}],
        ["Asking"],
    ),
    "a tool that fails": ([{"type": "tool-error", "toolName": "x", "error": "no"}, ANSWER], []),
    "a tool without a type": ([{"tool": "find", "output": "secret"}, ANSWER], []),
    "a null": ([{"output": None, "x": 1}, ANSWER], []),
    "texts before a tool": ([SAID, {"tool": "find"}, ANSWER], USED),
    "Lambda's form": ([{"statusCode": 200, "body": json.dumps({"response": ANSWER})}], []),
    "a message in an output": ([{"output": {"message": {"content": [{"text": ANSWER}]}}}], []),
    "a text in an output": ([{"output": {"text": ANSWER}}], []),
    "MCP's": ([{"content": [{"type": "text", "text": ANSWER}], "isError": False}], []),
    "A2A's": (
        [
            {
                "jsonrpc": "2.0",
                "result": {
                    "status": {"state": "completed"},
                    "artifacts": [{"parts": [{"text": ANSWER}]}],
                },
            }
        ],
        [],
    ),
    "A2A's message": (
        [{"jsonrpc": "2.0", "result": {"role": "agent", "parts": [{"text": ANSWER}]}}],
        [],
    ),
    **{
        key: ([{key: ANSWER}], [])
        for key in ("answer", "text", "completion", "reply", "raw", "content")
    },
}


@pytest.mark.parametrize("name", GENERAL)
def test_the_general_rules_find_the_text_and_what_was_done(name: str):
    frames, timeline = GENERAL[name]
    answer, said = read_frames(*frames)
    assert (answer.agent_response, said) == (ANSWER, timeline)
    assert answer.vendors == []


FAILURES: dict[str, Any] = {
    "error": {"error": "down"},
    "type": {"type": "error", "message": "down"},
    "type in another writing": {"type": "runFailed", "errorText": "down"},
    "event": {"event": "error", "data": {"message": "down"}},
    "is_error": {"subtype": "success", "is_error": True, "result": "down"},
    "isError": {"content": [{"type": "text", "text": "down"}], "isError": True},
    "status": {"status": "FAILED", "reason": "down"},
    "success": {"success": False, "message": "down"},
    "Lambda's": {"errorMessage": "down", "errorType": "X"},
    "ADK's": {"content": None, "error_code": "X", "error_message": "down"},
    "A2A's": {"status": {"state": "failed", "message": {"parts": [{"text": "down"}]}}},
    "a block of a message": {
        "role": "assistant",
        "contents": [{"type": "error", "message": "down"}],
    },
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_never_an_answer(name: str):
    for read in (read_json, lambda frame: read_frames(SAID, frame)):
        with pytest.raises(AgentFailed) as caught:
            read(FAILURES[name])
        assert str(caught.value) == f"down. {MAYBE}"


def test_an_sse_event_called_error_is_a_failure():
    for data in (b"down", b'{"message": "down"}', b'{"error": "down"}'):
        with pytest.raises(AgentFailed, match="down"):
            read_stream(line(SAID), b"event: error\ndata: " + data + b"\n\n")


ASKED = {"id": "i1", "reason": "approval", "message": "May I?"}


def test_a_question_is_an_answer_with_interrupts():
    answer, _ = read_frames({"interrupts": [ASKED]})
    assert answer.interrupts == [ASKED]
    assert answer.task_fields()["agent_response"] == "May I?"


SCHEMA = {"type": "string", "enum": ["Tuesday", "Thursday"]}
GIVEN = {"message": "Which day?", "response_schema": SCHEMA}


WITH_SCHEMA: dict[str, Any] = {
    "LangGraph": {"value": GIVEN},
    "LangGraph, as text": {"value": json.dumps(GIVEN)},
    "LangGraph by AG-UI": {"message": "Which day?", "metadata": {"langgraph": {"raw": GIVEN}}},
    "Strands": {"reason": GIVEN},
    "Strands by AG-UI": {"metadata": {"reason": GIVEN}},
    "in camelCase": {"value": {"question": "Which day?", "responseSchema": SCHEMA}},
}


@pytest.mark.parametrize("framework", WITH_SCHEMA)
def test_a_question_s_schema_is_found_where_its_framework_puts_it(framework: str):
    answer, _ = read_frames({"__interrupt__": [{"id": "i1"} | WITH_SCHEMA[framework]]})
    assert answer.interrupts == [{"id": "i1", "message": "Which day?", "response_schema": SCHEMA}]


def test_two_questions_of_one_name_are_a_failure_and_one_that_is_told_again_is_one():
    with pytest.raises(AgentFailed, match="two questions under the same id"):
        read_frames({"interrupts": [{"id": "a", "message": "1"}, {"id": "a", "message": "2"}]})
    twice = [{"interrupts": [{"id": "a", "message": text}]} for text in ("Book? true", "Book?")]
    answer, _ = read_frames(*twice)
    assert answer.interrupts == [{"id": "a", "message": "Book?"}]
    many = [{"interrupts": [{"id": str(number)}]} for number in range(1_000)]
    with pytest.raises(AgentFailed, match="asked too many"):
        read_frames(*many)


def test_an_answer_that_only_a_snapshot_has_has_its_id_too():
    said = {"id": "m2", "role": "assistant", "content": "Done."}
    asked = {"id": "t1", "role": "user", "content": "Find"}
    answer, _ = read_frames({"type": "MESSAGES_SNAPSHOT", "messages": [asked, said]})
    assert (answer.agent_response, answer.message_id) == ("Done.", "m2")


def test_a_question_without_its_words_or_beside_an_error_fails():
    with pytest.raises(AgentFailed, match="did not say what"):
        read_json({"type": "agentResult", "stopReason": "interrupt"})
    with pytest.raises(AgentFailed, match="down") as caught:
        read_json({"error": "down", "interrupts": [ASKED]})
    assert "May I?" in caught.value.detail
    answer, _ = read_frames({"tool_interrupt_event": {"interrupts": None}}, "Hello")
    assert answer == Answer("Hello")


def test_a_question_tells_all_that_it_is_about():
    answer = read_json(
        {"__interrupt__": [{"value": {"to": {"name": "Ann"}, "question": "Send it?", "n": 2}}]}
    )
    assert answer.interrupts == [{"id": "1", "message": "Send it? Ann 2"}]


@pytest.mark.parametrize(
    "sent", ["<coroutine object f at 0x7f00>", "A(b='c')", "[A(b=[]), C()]", "a=[B(c=1)] d=None"]
)
def test_what_python_writes_of_objects_is_no_answer(sent: str):
    for read in (read_json, read_frames):
        with pytest.raises(UnreadableAnswer, match="Python object"):
            read(sent)
    with pytest.raises(UnreadableAnswer):
        read_json({"result": sent})


@pytest.mark.parametrize(
    "sent",
    [
        {"seven": "Hello", "of": "nine"},
        [1, 2],
        5,
        "{'agent': <x.Agent object at 0x7f>, 'tokens': 5}",
        "<x.Agent object at 0x7f>",
        "{'a': " + "<x.Y object at 0x7f>, " * 50_000 + "}",
    ],
    ids=lambda sent: str(sent)[:30],
)
def test_what_nobody_understands_is_kept_for_the_log(sent: Any):
    with pytest.raises(AgentFailed) as caught:
        read_frames(sent)
    assert json.loads(caught.value.unparsed) == sent
    said = "a Python object" if isinstance(sent, str) else "ended without an answer"
    assert said in str(caught.value)


@pytest.mark.parametrize("escaped", ["\\x", "\\N{no}", "\\d", "\n", "\\ud800", "\\"])
def test_what_looks_like_a_text_event_of_strands_breaks_nothing(escaped: str):
    answer, _ = read_frames(f"{{'data': 'a{escaped}b', 'delta': {{}}}}", "x")
    assert answer.agent_response.endswith("x")
    answer.agent_response.encode()


@pytest.mark.parametrize("error", ["", None, " "])
def test_an_exception_without_text_is_a_failure_with_what_came_before(error: str | None):
    """TimeoutError(), AssertionError(), anyio.ClosedResourceError: half an answer is no success."""
    said = "An error occurred during streaming"
    frame = {"error": error, "error_type": "TimeoutError", "message": said}
    with pytest.raises(AgentFailed, match=said) as caught:
        read_frames("I wrote to ", frame)
    assert caught.value.partial == Answer("I wrote to ")
    with pytest.raises(AgentFailed, match=said):
        read_json(frame)


def test_no_nesting_of_envelopes_takes_long_or_breaks_the_reader():
    for key in ("data", "message", "result", "output", "node", "event", "update"):
        value: Any = {"x": 1}
        for _ in range(400):
            value = {key: value, "type": "x"} if key == "data" else {key: value}
        started = time.process_time()
        assert read_frames(value, "Hello")[0].agent_response.endswith("Hello")
        assert time.process_time() - started < 5


# --- AG-UI, with its own models as generator ------------------------------------------------------

WORDS = st.text("ab cä🏠\n", max_size=8)
NAMES = st.sampled_from(["find", "mail"])


def message_events(message_id: str, texts: list[str], is_chunked: bool) -> list[Any]:
    if is_chunked:
        return [ag.TextMessageChunkEvent(message_id=message_id, delta=one) for one in texts]
    content = [ag.TextMessageContentEvent(message_id=message_id, delta=one) for one in texts]
    start = ag.TextMessageStartEvent(message_id=message_id, role="assistant")
    return [start, *content, ag.TextMessageEndEvent(message_id=message_id)]


def call_events(call_id: str, name: str, is_chunked: bool) -> list[Any]:
    result = ag.ToolCallResultEvent(
        message_id=f"r{call_id}", tool_call_id=call_id, content="secret"
    )
    if is_chunked:
        chunk = ag.ToolCallChunkEvent(tool_call_id=call_id, tool_call_name=name, delta="{")
        return [chunk, ag.ToolCallChunkEvent(tool_call_id=call_id, delta="}"), result]
    start = ag.ToolCallStartEvent(tool_call_id=call_id, tool_call_name=name)
    args = ag.ToolCallArgsEvent(tool_call_id=call_id, delta="{}")
    return [start, args, ag.ToolCallEndEvent(tool_call_id=call_id), result]


PATCH: list[Any] = [{"op": "add", "path": "/x", "value": 1}]
SILENT = st.sampled_from(
    [
        [ag.StepStartedEvent(step_name="model")],
        [ag.StepFinishedEvent(step_name="model")],
        [ag.StateSnapshotEvent(snapshot={"found": 2})],
        [ag.StateDeltaEvent(delta=PATCH)],
        [ag.RawEvent(event={"response": "secret"})],
        [ag.CustomEvent(name="x", value={"secret": 1})],
        [ag.ReasoningMessageContentEvent(message_id="r", delta="secret")],
        [ag.SubagentErrorEvent(subagent_run_id="s", message="secret")],
        [
            ag.TextMessageStartEvent(message_id="u", role="user"),
            ag.TextMessageContentEvent(message_id="u", delta="secret"),
            ag.TextMessageEndEvent(message_id="u"),
        ],
    ]
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("says"), st.lists(WORDS, max_size=4), st.booleans()),
        st.tuples(st.just("uses"), NAMES, st.booleans()),
        st.tuples(st.just("silent"), SILENT, st.just(False)),
    ),
    max_size=7,
)


@UNHURRIED
@given(
    steps=STEPS, is_snake=st.booleans(), ends=st.sampled_from(["success", "error", "cancelled", ""])
)
def test_any_run_of_ag_ui_comes_out_as_it_was_put_in(steps: list[Any], is_snake: bool, ends: str):
    """Texts, tools and the end, whatever else is said between."""
    about: dict[str, Any] = {"thread_id": "t", "run_id": "r"}
    sent: list[Any] = [ag.RunStartedEvent(**about)]
    told: list[tuple[str, str]] = []
    for number, (kind, what, is_chunked) in enumerate(steps):
        if kind == "says":
            sent += message_events(f"m{number}", what, is_chunked)
            told += [("text", "".join(what))] if "".join(what).strip() else []
        elif kind == "uses":
            sent += call_events(f"c{number}", what, is_chunked)
            told.append(("tool", what))
        else:
            sent += what
    if ends == "error":
        sent.append(ag.RunErrorEvent(message="down"))
    elif ends:
        about["outcome"] = {"type": ends}
        sent.append(ag.RunFinishedEvent(**about))
    said: list[str] = []
    reader = AgentReader(STREAM, said.append)
    options = {"mode": "json", "by_alias": not is_snake, "exclude_none": True}
    failure, answer = "", None
    try:
        for event in sent:
            reader.feed(line(event.model_dump(**options)))
        answer = reader.finish()
    except AgentFailed as error:
        failure, answer = str(error).removesuffix(f" {MAYBE}"), error.partial
    texts = [text for kind, text in told if kind == "text"]
    nothing = "" if texts else "The agent ended without an answer."
    ended = {"error": "down.", "cancelled": "The agent's run was cancelled."}
    assert failure == ended.get(ends, nothing)
    # The last message is the response, and all before it is progress.
    lines = [f"Using {what}" if kind == "tool" else what.strip() for kind, what in told]
    heard = [re.sub(r" \(\d\)$", "", one) for one in said]
    rest = lines[len(heard) :]
    assert heard == lines[: len(heard)]
    assert bool(rest) == (bool(told) and told[-1][0] == "text")
    response = answer.agent_response if answer else ""
    assert response.endswith(texts[-1] if texts else "")
    assert " ".join(response.split()).endswith(" ".join(" ".join(rest).split()))
    assert "secret" not in f"{said}{answer}{failure}"
