"""The reporter that agents copy, against an HTTP server that keeps the protocol and breaks it."""

import ast
import json
import logging
import random
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.reporting_agent import reporter
from examples.reporting_agent.reporter import Reporter, Stopped
from tests.conftest import eventually
from tests.examples.report_api import (
    TOKEN,
    Exchange,
    ReportApi,
    cut,
    garbled,
    lost_after,
    lost_before,
    refused,
    report_api,
)

ANSWER = {"response": "I found Lone Brush.", "vendors": [{"id": "v2", "name": "Lone Brush"}]}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportApi]:
    """The route of one task; the reporter hurries, so that a test takes no minute."""
    monkeypatch.setattr(reporter, "PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(reporter, "MAX_BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(reporter, "MAX_SECONDS", 15.0)  # a broken reporter fails, and does not hang
    with report_api() as server:
        yield server


def test_lines_gather_for_a_moment_when_nothing_is_on_its_way(
    api: ReportApi, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reporter, "PAUSE_SECONDS", 0.3)
    with Reporter(api.payload) as report:
        report.say("first")
        eventually(lambda: api.received, bool)
        for number in range(10):
            report.say(str(number))
            time.sleep(0.01)
        eventually(lambda: len(api.task.lines), lambda count: count == 11)
        assert len(api.received) == 2
        report.finish("Done.")


def test_saying_never_waits_for_the_network_and_lines_gather_meanwhile(api: ReportApi):
    arrived, said = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def held(exchange: Exchange) -> None:
        arrived.set()
        in_time.append(said.wait(10))
        exchange.usual()

    api.faults = [held]
    with Reporter(api.payload) as report:
        report.say("first")
        assert arrived.wait(10)
        for number in range(50):
            report.say(str(number))
        report.finish(ANSWER)
        said.set()
    assert in_time == [True]
    assert [len(sent["messages"]) for sent in api.received] == [1, 50]
    assert api.task.status == "completed"


@pytest.mark.parametrize(
    "fault",
    [lost_before, lost_after, cut, garbled]
    + [refused(status) for status in (301, 307, 403, 408, 409, 429, 500, 502, 503, 504)]
    + [refused(503, Retry_After=value) for value in ("0", "1", "Wed, 21 Oct 2026 07:28:00 GMT")],
)
def test_a_report_is_repeated_until_it_is_received_and_counted_once(api: ReportApi, fault: Any):
    api.faults = [fault, fault, fault]
    with Reporter(api.payload) as report:
        report.say("one")
        report.say("two")
        eventually(lambda: api.task.lines, lambda lines: len(lines) >= 2)
        api.faults = [fault, fault]
        report.finish(ANSWER)
    assert api.task.lines == ["one", "two"]
    assert api.task.answer == ANSWER


def test_retry_after_is_honoured(api: ReportApi, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reporter, "MAX_BACKOFF_SECONDS", 30.0)
    api.faults = [refused(503, Retry_After="1")]
    started = time.monotonic()
    with Reporter(api.payload) as report:
        report.finish(ANSWER)
    assert 1.0 <= time.monotonic() - started < 5.0


def test_a_silent_agent_gives_a_sign_of_life_every_minute(
    api: ReportApi, monkeypatch: pytest.MonkeyPatch
):
    assert reporter.SIGN_OF_LIFE_SECONDS == 60
    assert 5 * (reporter.SIGN_OF_LIFE_SECONDS + reporter.TIMEOUT_SECONDS) < 600
    monkeypatch.setattr(reporter, "SIGN_OF_LIFE_SECONDS", 0.05)
    with Reporter(api.payload) as report:
        eventually(lambda: len(api.received), lambda count: count >= 3)
        report.finish(ANSWER)
    assert api.received[0]["messages"] == []
    assert "answer" not in api.received[0]
    assert len({sent["report_id"] for sent in api.received}) == len(api.received)


@pytest.mark.parametrize("how", ["cancelled", "ended", "wrong token"])
def test_work_that_nobody_waits_for_is_stopped_and_sends_nothing_more(
    api: ReportApi, how: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reporter, "SIGN_OF_LIFE_SECONDS", 0.05)
    went_on = False
    with Reporter(api.payload) as report:
        report.say("before")
        eventually(lambda: api.task.lines, bool)
        match how:
            case "cancelled":
                api.task.cancelled = True
            case "ended":
                api.task.status = "error"
            case _:
                api.token = "another"
        assert report.stopped.wait(5)
        sent = len(api.received)
        report.finish(ANSWER)
        try:
            report.say("after")
        except Exception:  # noqa: BLE001  what frameworks do must not swallow it
            pytest.fail("Stopped was taken for an ordinary failure.")
        went_on = True
    assert not went_on
    assert len(api.received) == sent
    assert api.task.answer is None


def test_an_exception_of_the_work_is_reported_by_its_type_and_goes_on(api: ReportApi):
    with (  # noqa: PT012  the block is what is tested
        pytest.raises(ConnectionError, match="hunter2"),
        Reporter(api.payload) as report,
    ):
        report.say("Looking")
        raise ConnectionError("postgres://valro:hunter2@db is away")
    assert api.task.status == "error"
    assert api.task.error == "The agent failed (ConnectionError)."
    assert api.task.lines == ["Looking"]


def test_an_agent_can_say_itself_why_it_failed(api: ReportApi):
    with Reporter(api.payload) as report:
        report.fail("The vendor directory is closed today.")
    assert api.task.error == "The vendor directory is closed today."


def test_work_that_ends_without_an_answer_is_a_failure(api: ReportApi):
    with Reporter(api.payload):
        pass
    assert api.task.error == "The agent ended without an answer."


def test_what_goes_wrong_after_the_answer_does_not_replace_it(api: ReportApi):
    with pytest.raises(OSError), Reporter(api.payload) as report:  # noqa: PT011, PT012
        report.finish(ANSWER)
        raise OSError("could not tidy up")
    assert api.task.status == "completed"
    assert api.task.answer == ANSWER


def test_an_answer_is_taken_as_it_is_when_it_is_given(api: ReportApi):
    answer: dict[str, Any] = {"response": "ok", "vendors": [], "seen": Path("/tmp/x")}
    with Reporter(api.payload) as report:
        report.finish(answer)
        answer["vendors"].append("later")
    assert api.task.answer == {"response": "ok", "vendors": [], "seen": "/tmp/x"}


def test_an_answer_that_is_no_json_raises_where_it_is_given(api: ReportApi):
    answer: dict[str, Any] = {}
    answer["self"] = answer
    with pytest.raises(ValueError, match="Circular"), Reporter(api.payload) as report:
        report.finish(answer)
    assert api.task.error == "The agent failed (ValueError)."


@pytest.mark.e2e
@pytest.mark.parametrize(
    "answer",
    [
        {"response": "é" * 6_000_000, "vendors": [{"id": "v1"}]},
        {"response": "ok", "vendors": [{"id": str(n), "about": "x" * 90} for n in range(60_000)]},
        {"response": "x" * 3_000_000, "vendors": ["y" * 3_000_000], "map": {"z": "z" * 3_000_000}},
        {"response": '"' * 5_000_000},
    ],
)
def test_an_answer_over_4_mb_is_cut_and_the_timeline_says_so(
    api: ReportApi, answer: dict[str, Any]
):
    with Reporter(api.payload) as report:
        report.say("E-mailed Lone Brush")
        report.finish(answer)
    assert api.task.status == "completed"
    assert api.task.lines[0] == "E-mailed Lone Brush"
    assert api.task.lines[1:] == ["The agent's answer was too long, so its end was cut off."]
    kept = api.task.answer
    assert answer["response"].startswith(kept["response"])
    assert kept["vendors"] == answer["vendors"][: len(kept["vendors"])] if "vendors" in kept else 1
    assert len(json.dumps(kept, ensure_ascii=False).encode()) > 2_000_000


def test_what_a_gateway_refuses_as_too_long_is_cut_further(api: ReportApi):
    api.faults = [refused(413, lambda sent: len(sent) > 1_500_000)] * 10
    with Reporter(api.payload) as report:
        report.finish("x" * 3_000_000)
    assert api.task.status == "completed"
    assert 500_000 < len(api.task.answer["response"]) < 1_500_000


def test_an_answer_that_is_refused_whatever_its_length_ends_the_task_as_failed(api: ReportApi):
    api.faults = [refused(400, lambda sent: b'"answer"' in sent)] * 30
    with Reporter(api.payload) as report:
        report.finish(ANSWER)
    assert api.task.error == "The agent's answer could not be reported."


def test_lines_that_are_refused_are_left_out_and_the_work_goes_on(api: ReportApi):
    api.faults = [refused(400)]
    with Reporter(api.payload) as report:
        report.say("refused")
        eventually(lambda: api.faults, lambda faults: not faults)
        report.say("received")
        report.finish(ANSWER)
    assert api.task.lines == ["received"]
    assert api.task.answer == ANSWER


def test_odd_text_arrives_as_far_as_it_is_text(api: ReportApi):
    with Reporter(api.payload) as report:
        report.say("  👩‍🌾 \u2028 Ünïcode \ud800  ")
        report.say("   ")
        report.say("x" * 5_000)
        report.finish({"response": "\udfff", "rating": 4.8})
    assert api.task.lines == ["👩‍🌾 \u2028 Ünïcode ?", "x" * 1_000]
    assert api.task.answer == {"response": "?", "rating": 4.8}


def test_lines_of_two_threads_and_the_answer_arrive_in_order(api: ReportApi):
    api.faults = [random.choice([lost_before, lost_after]) for _ in range(20)]

    def work(name: str) -> None:
        for number in range(200):
            report.say(f"{name} {number}")
            time.sleep(0.0005)

    with Reporter(api.payload) as report:
        threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        report.finish(ANSWER)
    for name in ("a", "b"):
        mine = [line for line in api.task.lines if line.startswith(name)]
        assert mine == [f"{name} {number}" for number in range(200)]
    assert len(api.task.lines) == 400
    assert api.task.answer == ANSWER


def test_an_api_that_is_gone_does_not_hold_the_agent_for_ever(
    api: ReportApi, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reporter, "MAX_SECONDS", 0.3)
    payload = api.payload
    payload["report"]["url"] = "http://127.0.0.1:9/tasks/t-1/reports"
    with Reporter(payload) as report:
        report.finish(ANSWER)
    assert report.stopped.is_set()


def test_the_token_is_taken_out_of_the_payload_which_is_not_reported_on_again(api: ReportApi):
    payload = api.payload
    with Reporter(payload) as report:
        report.finish(ANSWER)
    assert payload == {"prompt": "Find me a painter in Austin", "task_id": "t-1"}
    with pytest.raises(KeyError, match="report"):
        Reporter(payload)


def failing_work(report: Reporter) -> None:
    report.say("Looking")
    raise RuntimeError("broken")


def endless_work(report: Reporter) -> None:
    while True:
        report.say("Still at it")
        time.sleep(0.01)


@pytest.mark.parametrize("token", [TOKEN, f"{TOKEN}\nX-Evil: 1", f"{TOKEN}é\u2028"])
def test_the_token_is_in_no_log_no_repr_and_no_traceback(
    api: ReportApi,
    token: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(reporter, "MAX_SECONDS", 0.5)
    api.faults = [lost_before, cut, garbled, refused(400), refused(503), refused(307)]
    payload = api.payload
    payload["report"]["token"] = token
    report = Reporter(payload)
    with pytest.raises(RuntimeError) as failure, report:
        failing_work(report)
    report.stopped.set()
    with pytest.raises(Stopped) as stop:
        endless_work(report)
    seen = [repr(report), str(payload), caplog.text, *capfd.readouterr()]
    for caught in (failure, stop):
        own = traceback.walk_tb(caught.tb.tb_next)  # without the frame of this test
        seen += traceback.StackSummary.extract(own, capture_locals=True).format()
    assert "Still at it" in "".join(seen)
    assert "A report is to be sent again" in caplog.text
    assert TOKEN not in "".join(seen)


def test_a_server_that_quotes_the_token_does_not_bring_it_into_the_log(
    api: ReportApi, caplog: pytest.LogCaptureFixture
):
    def gossip(exchange: Exchange) -> None:
        exchange.answer(400, {"message": f"Bad header: {exchange.headers['Authorization']}"})

    caplog.set_level(logging.DEBUG)
    api.faults = [gossip]
    with Reporter(api.payload) as report:
        report.say("Looking")
        eventually(lambda: api.faults, lambda faults: not faults)
        report.finish(ANSWER)
    assert "Bad header: Bearer [token]" in caplog.text
    assert TOKEN not in caplog.text


def test_a_redirect_does_not_take_the_token_to_another_server(api: ReportApi):
    with report_api() as elsewhere:
        api.faults = [refused(status, Location=elsewhere.url) for status in (301, 302, 303, 307)]
        with Reporter(api.payload) as report:
            report.finish(ANSWER)
        assert elsewhere.received == []
    assert api.task.answer == ANSWER


def test_the_reporter_needs_the_standard_library_alone():
    source = Path(reporter.__file__).read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert all(name.partition(".")[0] in sys.stdlib_module_names for name in names), names
