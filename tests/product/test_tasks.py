"""What a task is, without its store: when it is over, its timeline's limits, its ends, what fits."""

import json
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from valro import tasks
from valro.tasks import (
    ANSWER_TOO_LARGE,
    CANCELLED,
    DISPATCH_FAILED,
    EXPIRED,
    MAX_AGENT_EVENT_BYTES,
    MAX_ANSWER_BYTES,
    MAX_ANSWER_RESPONSE_BYTES,
    MIN_ANSWER_BYTES,
    Outcome,
    Timeline,
    dumps,
    epoch,
    expiry_code,
    fit_answer,
    is_task_id,
    redact,
    timestamp,
)

NOW = 1_761_912_000.0
MAYBE = "The agent may already have contacted vendors."
PARTS = {"agent_response": "Done.", "vendors": [{"name": "Ann"}], "quotes": [{"price": 250.5}]}


def at(seconds: float) -> str:
    return timestamp(NOW + seconds)


def processing(**attributes: Any) -> dict[str, Any]:
    task = {"status": "processing", "created_at": at(-5), "deadline": at(660)}
    return task | attributes


class TestOverdue:
    @pytest.mark.parametrize(
        "task, last, code",
        [
            ({"status": "pending", "created_at": at(0), "deadline": at(960)}, 960, "not_started"),
            (processing(), 660, "worker_lost"),
            (processing(last_report="a", report_until=at(29_400)), 660, "agent_lost"),
            (
                processing(last_report="a", deadline=at(900), report_until=at(900)),
                900,
                "agent_timeout",
            ),
            (processing(cancel_requested_at=at(10)), 70, "cancelled"),
            (processing(cancel_requested_at=at(10), last_report="a"), 70, "cancelled"),
            # The worker's own end comes sooner.
            (processing(cancel_requested_at=at(630)), 660, "cancelled"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_task_is_over_just_after_its_deadline_and_the_code_says_how(
        self, task: dict[str, Any], last: float, code: str
    ):
        assert expiry_code(task, at(last)) == ""
        assert expiry_code(task, at(last + 0.001)) == code

    @pytest.mark.parametrize("status", ["completed", "error", "deleted", "paused"])
    def test_what_neither_waits_nor_runs_is_never_overdue(self, status: str):
        assert expiry_code(processing(status=status, cancel_requested_at=at(0)), at(9e8)) == ""

    @pytest.mark.parametrize("deadline", [None, 7, ["x"], "soon", ""])
    @pytest.mark.parametrize("status, seconds", [("pending", 960), ("processing", 1860)])
    def test_without_a_deadline_its_age_says_when(self, status: str, seconds: float, deadline: Any):
        """As long as the slowest of our own might take."""
        task = {"status": status, "created_at": at(0), "deadline": deadline}
        assert expiry_code(task, at(seconds)) == ""
        assert expiry_code(task, at(seconds + 1))

    @pytest.mark.parametrize("created_at", [None, "yesterday", 7, "9999-12-31T23:59:59Z", ["x"]])
    def test_without_any_time_that_can_be_read_it_is_over(self, created_at: Any):
        assert expiry_code({"status": "pending", "created_at": created_at}, at(0)) == "not_started"
        assert expiry_code({"status": "processing"}, at(0)) == "worker_lost"

    @pytest.mark.parametrize("requested", [7, "soon", ["x"]])
    def test_a_request_whose_time_cannot_be_read_is_long_ago(self, requested: Any):
        assert expiry_code(processing(cancel_requested_at=requested), at(0)) == "cancelled"

    def test_each_code_has_words_that_say_whether_vendors_were_contacted(self):
        assert set(EXPIRED) == {
            "cancelled",
            "not_started",
            "worker_lost",
            "agent_lost",
            "agent_timeout",
        }
        for code, text in EXPIRED.items():
            assert (MAYBE in text) != (code == "not_started")
            assert len(text) < tasks.MAX_EVENT_CHARACTERS


class TestTimeline:
    def test_lines_are_counted_on_from_what_was_noted_before(self):
        timeline = Timeline(7, at(0), noted=199, noted_bytes=500)
        for number in range(3):
            timeline.add_progress(at(number), f"line {number}")
        said = [event["message"] for event in timeline.unwritten]
        assert said == ["line 0", "further progress not recorded"]
        assert timeline.noted == 201
        timeline.mark_written(1)
        assert timeline.event_seq == 8
        assert len(timeline.unwritten) == 1

    def test_a_line_over_64_kb_in_all_is_the_last_whatever_follows(self):
        timeline = Timeline(3, at(0), noted=1, noted_bytes=MAX_AGENT_EVENT_BYTES - 65)
        for text in ("", "é", "", ""):
            timeline.add_progress(at(1), text)
        assert [event["message"] for event in timeline.unwritten] == [
            "",
            "further progress not recorded",
        ]


class TestOutcome:
    def test_a_completed_one_says_so_once(self):
        outcome = Outcome.of(PARTS | {"emails_sent": 2})
        assert outcome.attributes() == {
            "status": "completed",
            "emails_sent": 2,
            "session_open": True,
        }
        assert outcome.lines() == [("Agent completed task successfully", "success")]
        assert outcome.parts == PARTS

    def test_a_failed_one_says_which_kind_and_keeps_what_was_answered(self):
        outcome = Outcome.of(PARTS, "agent_lost", f"Lost. {MAYBE}")
        assert outcome.attributes() == {
            "status": "error",
            "error_code": "agent_lost",
            "error_message": f"Lost. {MAYBE}",
            "may_have_acted": True,
            "emails_sent": 0,
        }
        assert outcome.lines() == [(f"Agent error: Lost. {MAYBE}", "error")]
        assert outcome.parts == PARTS

    def test_a_cancelled_one_is_no_error_of_the_agents(self):
        outcome = Outcome.of(PARTS | {"emails_sent": 2}).cancelled()
        assert outcome.lines() == [(f"Cancelled. {MAYBE}", "error")]
        assert outcome.attributes()["error_code"] == CANCELLED
        assert outcome.attributes()["emails_sent"] == 2
        assert outcome.parts == PARTS

    def test_what_was_cut_is_said_before_the_end_and_marked(self):
        outcome = Outcome.of({"agent_response": "x" * (MAX_ANSWER_BYTES + 1_000)})
        assert outcome.attributes()["agent_response_truncated"] is True
        (cut, kind), last = outcome.lines()
        assert kind == "info"
        assert cut.startswith("The agent's answer was too long: 1,0")
        assert last == ("Agent completed task successfully", "success")

    def test_a_shorter_one_has_half_as_much_again_and_again_and_counts_what_is_cut(self):
        whole = {"agent_response": "x" * 40_000, "vendors": [{"n": 1}] * 1_000, "quotes": []}
        outcome, sizes = Outcome.of(whole | {"emails_sent": 5}), []
        while outcome.parts:
            size = len(dumps(outcome.parts))
            assert outcome.cut == len(dumps(whole)) - size
            assert outcome.emails_sent == 5
            sizes.append(size)
            outcome = outcome.shorter()
        assert sizes[0] == len(dumps(whole))
        assert all(after <= before // 2 for before, after in pairwise(sizes))
        assert sizes[-1] < MIN_ANSWER_BYTES

    def test_when_next_to_nothing_is_left_to_cut_the_task_ends_without_its_answer(self):
        outcome = Outcome.of(PARTS).shorter()
        assert outcome.parts == {}
        assert outcome.error_code == ANSWER_TOO_LARGE
        assert outcome.error_message == f"The agent's answer cannot be kept. {MAYBE}"

    def test_a_message_is_cut_to_2000_characters(self):
        outcome = Outcome.of({}, DISPATCH_FAILED, "x" * 3_000)
        assert outcome.attributes()["error_message"] == "x" * 2_000


class TestRedact:
    SECRET = "0123456789abcdef0123456789abcdef"

    def test_a_secret_is_hidden_wherever_it_stands(self):
        value = {
            "text": f"token={self.SECRET}.",
            self.SECRET: [1.5, None, True, {"deep": f"{self.SECRET}{self.SECRET}"}],
        }
        assert redact(self.SECRET, value) == {
            "text": "token=[token].",
            "[token]": [1.5, None, True, {"deep": "[token][token]"}],
        }
        assert redact(self.SECRET, self.SECRET) == "[token]"

    def test_what_does_not_hold_it_is_handed_back_itself(self):
        value = {"text": "nothing", "n": [1, "🏠\u2028\x7f"]}
        assert redact(self.SECRET, value) is value

    def test_without_a_secret_nothing_is_looked_for(self):
        value = {"": ""}
        assert redact("", value) is value


class TestFitAnswer:
    def fits(self, answer: dict[str, Any]) -> bool:
        text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        stored_bytes, response_bytes = len(text.encode()), len(json.dumps(text))
        return stored_bytes <= MAX_ANSWER_BYTES and response_bytes <= MAX_ANSWER_RESPONSE_BYTES

    def test_up_to_3_500_000_bytes_nothing_is_cut(self):
        answer = {"agent_response": "x" * (MAX_ANSWER_BYTES - len('{"agent_response":""}'))}
        assert fit_answer(answer) == (answer, 0)

    @pytest.mark.parametrize("character", ["é", "\U0001f3e1", '"', "\\", "\x01", "\u2028"])
    def test_what_grows_in_a_response_is_cut_to_what_a_response_holds(self, character: str):
        """Lambda's response is JSON in JSON: an é of 2 bytes takes 6 there."""
        fitted, cut = fit_answer({"agent_response": character * 3_000_000})
        assert self.fits(fitted)
        longer = {"agent_response": fitted["agent_response"] + character}
        assert not self.fits(longer)
        assert cut > 0

    def test_the_text_goes_first_then_quotes_then_vendors(self):
        items = ["x" * 1000] * 2000
        fitted, _ = fit_answer({"agent_response": "x" * 10**6, "quotes": items, "vendors": items})
        # What is left of the room is less than one more quote would take.
        assert len(fitted["agent_response"]) < len(items[0]) + 3
        assert 0 < len(fitted["quotes"]) < len(items)
        assert fitted["vendors"] == items
        fitted, _ = fit_answer({"agent_response": "", "quotes": items, "vendors": items * 2})
        assert fitted["quotes"] == []
        assert 0 < len(fitted["vendors"]) < 2 * len(items)

    def test_one_vendor_that_is_too_large_alone_is_left_out(self):
        fitted, cut = fit_answer({"agent_response": "", "quotes": [], "vendors": ["x" * 4_000_000]})
        assert fitted == {"agent_response": "", "quotes": [], "vendors": []}
        assert cut == 4_000_002

    @given(
        response=st.text(max_size=60),
        vendors=st.lists(st.text(max_size=20) | st.integers(), max_size=5),
        limit=st.integers(min_value=60, max_value=300),
    )
    @settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_whatever_the_answer_what_is_left_fits_and_the_rest_is_counted(
        self, monkeypatch: pytest.MonkeyPatch, response: str, vendors: list[Any], limit: int
    ):
        with monkeypatch.context() as patch:
            patch.setattr(tasks, "MAX_ANSWER_BYTES", limit)
            answer = {"agent_response": response, "quotes": [], "vendors": vendors}
            fitted, cut = fit_answer(answer)
        size = {
            name: len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
            for name, value in (("whole", answer), ("fitted", fitted))
        }
        assert size["fitted"] <= limit
        assert cut == size["whole"] - size["fitted"]
        for name, kept in fitted.items():
            assert answer[name][: len(kept)] == kept


class TestFitting:
    """Whatever an agent answers, cutting it costs about one look at it."""

    @pytest.mark.parametrize(
        "part",
        [
            [{"price": 1.5}] * 80_000,
            [1, 2] * 250_000,
            ["x" * 1_000] * 1_000,
            ["x" * 1_000_000, "y"],
            "x" * 1_000_000,
            "\U0001f3e1" * 250_000,
        ],
        ids=["objects", "numbers", "texts", "one text", "text", "emoji"],
    )
    def test_ten_times_too_much_is_fitted_in_few_looks_at_little_more_than_itself(
        self, monkeypatch: pytest.MonkeyPatch, part: Any
    ):
        """Counted, not timed: 10 MB of quotes took 8 s, element by element."""
        monkeypatch.setattr(tasks, "MAX_ANSWER_BYTES", 100_000)
        monkeypatch.setattr(tasks, "MAX_ANSWER_RESPONSE_BYTES", 160_000)
        looks: list[int] = []

        def counted(value: Any) -> tuple[int, int]:
            text = dumps(value)
            looks.append(len(text))
            return len(text.encode()), len(json.dumps(text))

        monkeypatch.setattr(tasks, "_sizes", counted)
        name = "agent_response" if isinstance(part, str) else "quotes"
        fitted, cut = fit_answer({name: part})
        kept = fitted[name]
        assert len(looks) < 100
        assert sum(looks) < 2.2 * len(dumps(part))
        assert part[: len(kept)] == kept
        assert cut == len(dumps(part).encode()) - len(dumps(kept).encode())
        assert len(dumps(fitted).encode()) <= 100_000
        assert len(json.dumps(dumps(fitted))) <= 160_000

    @pytest.mark.parametrize("part", [["é" * n for n in range(60)], 'é"\n\x7f🏡' * 40, [[]] * 50])
    def test_not_one_more_would_have_fitted(self, part: Any):
        """At every size that there could be."""
        name = "agent_response" if isinstance(part, str) else "vendors"
        for room in range(30, len(dumps(part).encode()), 7):
            kept = fit_answer({name: part}, room)[0][name]
            assert len(dumps({name: kept}).encode()) <= room
            more = part[: len(kept) + 1]
            assert len(dumps({name: more}).encode()) > room


class TestTimes:
    @given(st.floats(min_value=0, max_value=4e9), st.floats(min_value=0, max_value=4e9))
    @example(NOW, NOW + 0.000_001)
    @example(999_999_999.999_999_9, 1_000_000_000.0)
    def test_the_order_of_the_text_is_the_order_of_time(self, one: float, other: float):
        first, second = sorted((one, other))
        assert timestamp(first) <= timestamp(second)
        assert len(timestamp(one)) == 27

    @given(st.floats(min_value=0, max_value=4e9))
    def test_a_text_is_read_back_to_the_microsecond(self, moment: float):
        assert abs(epoch(timestamp(moment)) - moment) < 2e-6

    def test_it_is_rfc_3339_in_utc(self):
        assert timestamp(NOW) == "2025-10-31T12:00:00.000000Z"

    @pytest.mark.parametrize(
        "text", ["2025-10-31T12:00:00", "2025-10-31T12:00:00+00:00", "2025-10-31T14:00:00+02:00"]
    )
    def test_other_forms_are_read_too(self, text: str):
        assert epoch(text) == datetime(2025, 10, 31, 12, tzinfo=UTC).timestamp()


class TestIds:
    @pytest.mark.parametrize("value", [None, 7, b"a", ["a"], "", "a#b", "a.b", "ä", "٣", "a\n"])
    def test_what_cannot_be_an_id(self, value: Any):
        assert not is_task_id(value)
