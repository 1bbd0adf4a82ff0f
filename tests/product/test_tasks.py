"""What a task is, without its store: when it is over, its timeline's limits, its ends, what fits."""

import json
from itertools import pairwise
from typing import Any

import pytest

from valro import tasks
from valro.tasks import (
    ANSWER_TOO_LARGE,
    CANCELLED,
    DISPATCH_FAILED,
    EXPIRED,
    MAX_AGENT_EVENT_BYTES,
    MAX_ANSWER_BYTES,
    MIN_ANSWER_BYTES,
    Outcome,
    Timeline,
    dumps,
    expiry_code,
    fit_answer,
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
        assert outcome.attributes() == {"status": "completed", "emails_sent": 2}
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
