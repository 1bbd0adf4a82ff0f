"""What a task is, without its store: when it is over, its timeline's limits, its ends, what fits."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from valro import tasks
from valro.tasks import (
    ANSWER_TOO_LARGE,
    DISPATCH_FAILED,
    EXPIRED,
    MAX_AGENT_EVENT_BYTES,
    MAX_ANSWER_BYTES,
    MAX_DESCRIPTION_CHARACTERS,
    MIN_ANSWER_BYTES,
    InvalidDescription,
    Outcome,
    Report,
    Timeline,
    clean_description,
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
        for code, text in EXPIRED.items():
            assert (MAYBE in text) != (code == "not_started")
            assert len(text) < tasks.MAX_EVENT_CHARACTERS


class TestTimeline:
    @pytest.mark.parametrize(
        "noted, size, texts, said",
        [
            (199, 500, ["a", "b", "c"], ["a"]),
            (1, MAX_AGENT_EVENT_BYTES - 65, ["", "é", "", ""], [""]),
        ],
        ids=["200 lines", "64 KB"],
    )
    def test_lines_are_counted_on_until_it_is_full_which_is_said_once(
        self, noted: int, size: int, texts: list[str], said: list[str]
    ):
        timeline = Timeline(7, at(0), noted=noted, noted_bytes=size)
        for text in texts:
            timeline.add_progress(at(1), text)
        unwritten = [event["message"] for event in timeline.unwritten]
        assert unwritten == [*said, "further progress not recorded"]
        timeline.mark_written(1)
        assert (timeline.event_seq, len(timeline.unwritten), timeline.noted) == (8, 1, 201)


def test_of_reports_the_last_32_ids_are_kept():
    ids = [f"r-{number}" for number in range(32)]
    task = {"event_seq": 3, "updated_at": at(0), "report_until": at(9), "report_ids": ids}
    assert Report("new").apply_to(task, NOW)[0]["report_ids"] == [*ids[1:], "new"]


class TestOutcome:
    def test_what_was_cut_is_said_before_the_end_and_marked(self):
        outcome = Outcome.of({"agent_response": "x" * (MAX_ANSWER_BYTES + 1_000)})
        assert outcome.attributes()["agent_response_truncated"] is True
        (cut, kind), last = outcome.lines()
        assert kind == "info"
        assert cut.startswith("The agent's answer was too long: 1,0")
        assert last == ("Agent completed task successfully", "success")

    def test_a_shorter_one_has_half_as_much_again_and_again_until_the_task_ends_without(self):
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

    @pytest.mark.parametrize("secret", [SECRET, ""])
    def test_what_does_not_hold_it_is_handed_back_itself(self, secret: str):
        value = {"text": "nothing", "n": [1, "🏠\u2028\x7f"], "": ""}
        assert redact(secret, value) is value


class TestFitAnswer:
    def sizes(self, value: Any) -> tuple[int, int]:
        """The bytes of its JSON, and of that in a response."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return len(text.encode()), len(json.dumps(text))

    def fits(self, answer: dict[str, Any]) -> bool:
        stored, sent = self.sizes(answer)
        return stored <= tasks.MAX_ANSWER_BYTES and sent <= tasks.MAX_ANSWER_RESPONSE_BYTES

    def test_up_to_3_500_000_bytes_nothing_is_cut(self):
        answer = {"agent_response": "x" * (MAX_ANSWER_BYTES - len('{"agent_response":""}'))}
        assert fit_answer(answer) == (answer, 0)

    @pytest.mark.parametrize("character", ["é", "\U0001f3e1", '"', "\x01", "\x7f"])
    def test_what_grows_in_a_response_is_cut_to_what_a_response_holds(self, character: str):
        """Lambda's response is JSON in JSON: an é of 2 bytes takes 6 there."""
        fitted, cut = fit_answer({"agent_response": character * 3_000_000})
        assert self.fits(fitted)
        assert not self.fits({"agent_response": fitted["agent_response"] + character})
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

    @given(
        text=st.text(max_size=60),
        vendors=st.lists(st.text(max_size=20) | st.integers(), max_size=5),
        room=st.integers(min_value=60, max_value=300),
    )
    @example("", ["x" * 300], 60)
    def test_whatever_the_answer_the_most_that_fits_is_left_and_the_rest_is_counted(
        self, text: str, vendors: list[Any], room: int
    ):
        answer = {"agent_response": text, "quotes": [], "vendors": vendors}
        fitted, cut = fit_answer(answer, room)
        assert self.sizes(fitted)[0] <= room
        assert cut == self.sizes(answer)[0] - self.sizes(fitted)[0]
        for name, kept in fitted.items():
            assert answer[name][: len(kept)] == kept
            if len(kept) < len(answer[name]):
                more = fitted | {name: answer[name][: len(kept) + 1]}
                more |= {"agent_response": ""} if name == "vendors" else {}
                assert self.sizes(more)[0] > room

    @pytest.mark.parametrize(
        "part",
        [
            [{"price": 1.5}] * 80_000,
            [1, 2] * 250_000,
            ["x" * 1_000_000, "y"],
            "x" * 1_000_000,
            "\U0001f3e1" * 250_000,
        ],
        ids=["objects", "numbers", "one text", "text", "emoji"],
    )
    def test_ten_times_too_much_is_fitted_in_few_looks_at_little_more_than_itself(
        self, monkeypatch: pytest.MonkeyPatch, part: Any
    ):
        """Counted, not timed: 10 MB of quotes took 8 s, element by element."""
        monkeypatch.setattr(tasks, "MAX_ANSWER_BYTES", 100_000)
        monkeypatch.setattr(tasks, "MAX_ANSWER_RESPONSE_BYTES", 160_000)
        looks: list[int] = []

        def counted(value: Any) -> tuple[int, int]:
            looks.append(len(dumps(value)))
            return self.sizes(value)

        monkeypatch.setattr(tasks, "_sizes", counted)
        fitted, _ = fit_answer({"agent_response" if isinstance(part, str) else "quotes": part})
        assert len(looks) < 100
        assert sum(looks) < 2.2 * len(dumps(part))
        assert self.fits(fitted)


class TestTimes:
    @given(st.floats(min_value=0, max_value=4e9), st.floats(min_value=0, max_value=4e9))
    @example(NOW, NOW + 0.000_001)
    @example(999_999_999.999_999_9, 1_000_000_000.0)
    def test_the_order_of_the_text_is_the_order_of_time_to_the_microsecond(
        self, one: float, other: float
    ):
        first, second = sorted((one, other))
        assert timestamp(first) <= timestamp(second)
        assert len(timestamp(one)) == 27
        assert abs(epoch(timestamp(one)) - one) < 2e-6

    @pytest.mark.parametrize(
        "text", ["2025-10-31T12:00:00", "2025-10-31T12:00:00+00:00", "2025-10-31T14:00:00+02:00"]
    )
    def test_it_is_rfc_3339_in_utc_and_other_forms_are_read_too(self, text: str):
        assert timestamp(NOW) == "2025-10-31T12:00:00.000000Z"
        assert epoch(text) == NOW


class TestTexts:
    @pytest.mark.parametrize(
        "value", [None, 7, b"a", ["a"], "", "-a", "a#b", "a.b", "ä", "٣", "a\n"]
    )
    def test_what_cannot_be_an_id(self, value: Any):
        assert not is_task_id(value)

    @pytest.mark.parametrize(
        "description", ["", "  \n\t\u2003", None, 7, ["x"], "x\ud800y", "x" * 4001]
    )
    def test_what_cannot_be_a_description(self, description: Any):
        with pytest.raises(InvalidDescription, match="'description' must"):
            clean_description(description)

    @pytest.mark.parametrize("character", ["x", "é", "\U0001f3e1"])
    def test_the_longest_description_is_counted_in_characters_after_trimming(self, character: str):
        longest = character * MAX_DESCRIPTION_CHARACTERS
        assert clean_description(f" {longest} ") == longest
