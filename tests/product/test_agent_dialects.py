"""What the frames of each dialect mean: a case a rule; whole runs are in tests/agents."""

import json
import re
import time
from contextlib import suppress
from typing import Any

import pytest
from ag_ui import core as ag
from hypothesis import given
from hypothesis import strategies as st

from tests.agents.replay import FOLDER
from tests.product.agent_reading import (
    MAYBE,
    UNHURRIED,
    read_frames,
    read_json,
    read_stream,
)
from tests.product.agent_server import STREAM, line
from valro.agent import dialects
from valro.agent.answers import AgentError, AgentFailed, Answer, Run, UnreadableAnswer
from valro.agent.reader import AgentReader


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


def pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


ANSWER = "Green Fern asks $240."
SAID = "Let me look."
USED = [SAID, "Using find"]
FIND = {"type": "function_call", "call_id": "c1", "name": "find", "arguments": "{}"}
TOKENS = pieces(ANSWER)
GENERAL: dict[str, tuple[list[Any], list[str]]] = {
    "typed tokens": ([{"type": "token", "content": one} for one in TOKENS], []),
    "the event's name in the object": (
        [*({"event": "token", "data": {"text": one}} for one in TOKENS), {"event": "end"}],
        [],
    ),
    "status, then the result": (
        [{"type": "status", "message": "Asking"}, {"type": "result", "data": {"response": ANSWER}}],
        ["Asking"],
    ),
    "thoughts": ([{"type": "thinking", "content": "Hm"}, {"type": "text", "content": ANSWER}], []),
    "a tool's output": ([{"type": "tool-result", "toolName": "x", "output": "secret"}, ANSWER], []),
    "a tool that fails": ([{"type": "tool-error", "toolName": "x", "error": "no"}, ANSWER], []),
    "a tool without a type": ([{"tool": "find", "output": "secret"}, ANSWER], []),
    "a null": ([{"output": None, "x": 1}, ANSWER], []),
    "texts that grow": (["Green", "Green Fern", ANSWER], []),
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
    "AutoGen's": (
        [
            {"source": "x", "type": "ToolCallRequestEvent", "content": [FIND]},
            {"source": "x", "type": "ThoughtEvent", "content": "secret"},
            {"source": "x", "content": "[FunctionExecutionResult(content='secret', name='find')]"},
            {"source": "x", "type": "ToolCallSummaryMessage", "content": ANSWER}
            | {"tool_calls": [FIND], "results": [{"content": "secret"}]},
        ],
        ["Using find"],
    ),
    "Agent Framework's": (
        [
            {"type": "agent_response_update", "role": "assistant", "contents": [block]}
            for block in (FIND, *({"type": "text", "text": one} for one in TOKENS))
        ],
        ["Using find"],
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
    "error with a code": {"error": {"code": 5, "message": "down"}},
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
    "AG-UI's": {"type": "RUN_ERROR", "message": "down", "code": "X"},
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
QUESTIONS: dict[str, list[Any]] = {
    "our own": [{"interrupts": [ASKED]}],
    "Strands' event": [
        {
            "tool_interrupt_event": {
                "interrupts": [{"id": "i1", "name": "approval", "reason": "May I?"}]
            }
        }
    ],
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_is_an_answer_with_interrupts(name: str):
    answer, _ = read_frames(*QUESTIONS[name])
    assert answer.interrupts == [ASKED]
    assert answer.task_fields()["agent_response"] == "May I?"


SCHEMA = {"type": "string", "enum": ["Tuesday", "Thursday"]}
GIVEN = {"message": "Which day?", "response_schema": SCHEMA}


@pytest.mark.parametrize(
    "asked",
    [
        {"id": "i1", "value": GIVEN},
        {"id": "i1", "value": json.dumps(GIVEN)},
        {"id": "i1", "reason": GIVEN},
        {"id": "i1", "metadata": {"reason": GIVEN}},
        {
            "id": "i1",
            "message": "Which day?",
            "metadata": {"langgraph": {"raw": GIVEN, "ns": None}},
        },
        {"id": "i1", "value": {"question": "Which day?", "responseSchema": SCHEMA}},
    ],
    ids=[
        "LangGraph",
        "LangGraph, as text",
        "Strands",
        "Strands by AG-UI",
        "LangGraph by AG-UI",
        "camel",
    ],
)
def test_a_question_s_schema_is_found_where_its_framework_puts_it(asked: dict[str, Any]):
    answer, _ = read_frames({"__interrupt__": [asked]})
    assert answer.interrupts == [{"id": "i1", "message": "Which day?", "response_schema": SCHEMA}]


def test_two_questions_of_one_name_are_a_failure_and_one_that_is_told_again_is_one():
    with pytest.raises(AgentFailed, match="two things under the same name"):
        read_frames({"interrupts": [{"id": "a", "message": "1"}, {"id": "a", "message": "2"}]})
    twice = [{"interrupts": [{"id": "a", "message": text}]} for text in ("Book? true", "Book?")]
    answer, _ = read_frames(*twice)
    assert answer.interrupts == [{"id": "a", "message": "Book?"}]
    many = [{"interrupts": [{"id": str(number)}]} for number in range(1_000)]
    with pytest.raises(AgentFailed, match="more than can be answered"):
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


def test_no_nesting_of_envelopes_takes_long_or_breaks_the_reader():
    for key in ("data", "message", "result", "output", "node", "event", "update"):
        value: Any = {"x": 1}
        for _ in range(400):
            value = {key: value, "type": "x"} if key == "data" else {key: value}
        started = time.process_time()
        assert read_frames(value, "Hello")[0].agent_response.endswith("Hello")
        assert time.process_time() - started < 5


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
    inner = (
        enumerate(value)
        if isinstance(value, list)
        else value.items()
        if isinstance(value, dict)
        else ()
    )
    return [(), *((key, *path) for key, one in inner for path in places(one))]


def with_at(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    if not path:
        return put
    changed = value.copy()
    changed[path[0]] = with_at(value[path[0]], path[1:], put)
    return changed


KNOWN = known_frames()
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
)
KEYS = st.sampled_from("id type role content text message data error parts name event x".split())
ANY_JSON = st.recursive(
    LEAVES,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(KEYS, one, max_size=3),
    max_leaves=6,
)


@UNHURRIED
@given(data=st.data(), put=ANY_JSON)
def test_any_json_in_any_place_of_a_known_frame_breaks_nothing(data: st.DataObject, put: Any):
    """Not even where a frame that breaks the reader would cost the others nothing."""
    frame = data.draw(st.sampled_from(KNOWN))
    frame = with_at(frame, data.draw(st.sampled_from(places(frame))), put)
    run = Run(lambda _: None)
    with suppress(AgentError):
        for event in dialects.read(frame):
            run.take(event)
        run.partial()
        run.finish()


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
    if ends in ("error", "cancelled"):
        assert failure == {"error": "down.", "cancelled": "The agent's run was cancelled."}[ends]
    else:
        assert failure == ("" if texts else "The agent ended without an answer.")
    assert (answer.agent_response if answer else "").endswith(texts[-1] if texts else "")
    assert [text for text in said if not text.startswith("Using ")] == [
        text.strip() for text in texts[: len([one for one in said if not one.startswith("Using ")])]
    ]
    uses = [re.sub(r" \(\d\)$", "", text) for text in said if text.startswith("Using ")]
    assert uses == [f"Using {name}" for kind, name in told if kind == "tool"]
    assert "secret" not in f"{said}{answer}{failure}"
