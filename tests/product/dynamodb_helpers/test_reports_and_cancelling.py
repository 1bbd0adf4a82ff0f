"""What the store promises of confirming, accepting, reporting, cancelling and deleting."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dynamodb_helpers import TaskStore
from tests.product.dynamodb_helpers.fakes import (
    ANSWER,
    COMPLETED,
    NOW,
    Clock,
    Network,
    accepted,
    after,
    cancelled,
    claimed,
    create,
    everything,
    messages,
    reported,
    resent,
    runs_forward,
    seen,
    stored,
    tombstone,
    too_large,
    too_large_together,
)
from valro import tasks
from valro.dynamodb_pages import StoreBusy
from valro.store_errors import (
    CancelRequested,
    ClaimLost,
    NotAccepted,
    TaskNotClaimable,
    TaskNotFinal,
    TaskNotFound,
)
from valro.tasks import (
    MAX_AGENT_EVENTS,
    MAX_ANSWER_BYTES,
    PUBLIC_OWNER,
    Outcome,
    Report,
    timestamp,
)


class TestConfirm:
    def test_it_succeeds_while_the_task_waits_for_its_agent_and_shows_nothing(
        self, store: TaskStore
    ):
        claim = claimed(store)
        before = stored(store)
        store.confirm_claim(claim)
        assert stored(store) == before

    def test_it_is_refused_past_the_deadline_though_nobody_has_looked(
        self, store: TaskStore, clock: Clock
    ):
        claim = claimed(store)
        clock.now += 660
        with pytest.raises(ClaimLost):
            store.confirm_claim(claim)
        clock.now -= 0.001
        store.confirm_claim(claim)

    def test_a_claim_says_whether_its_own_write_was_answered(
        self, store: TaskStore, network: Network
    ):
        """Found again it may be as old as the outage."""
        assert claimed(store).is_fresh
        create(store, "task-2")
        network.plan("update_item", resent)
        assert not store.claim_task("task-2", "mine", NOW + 600).is_fresh


class TestAccept:
    def test_the_task_stays_processing_and_its_silence_is_bounded(
        self, store: TaskStore, clock: Clock
    ):
        claim = claimed(store)
        clock.now += 5
        store.accept_task(claim)
        task = seen(store)
        assert task["status"] == "processing"
        assert messages(task) == COMPLETED[:3]
        assert task["deadline"] == timestamp(clock.now + 600)
        assert task["report_until"] == timestamp(NOW + 8 * 3600 + 600)

    def test_unwritten_lines_ride_along_and_are_counted(self, store: TaskStore):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "Using getVendors")
        store.accept_task(claim)
        assert messages(seen(store))[3:] == ["Using getVendors"]
        assert stored(store)["noted"] == {"N": "1"}


class TestReport:
    def test_its_lines_are_appended_and_the_silence_begins_anew(
        self, store: TaskStore, clock: Clock
    ):
        accepted(store)
        clock.now += 300
        task = reported(store, "r-1", "Found two painters", "E-mailed Ann")
        assert task["status"] == "processing"
        shown = seen(store)
        assert messages(shown)[3:] == ["Found two painters", "E-mailed Ann"]
        assert shown["updated_at"] == shown["events"][-1]["ts"] == timestamp(clock.now)
        assert shown["deadline"] == timestamp(clock.now + 600)

    def test_a_sign_of_life_costs_one_write_and_shows_nothing(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        accepted(store)
        before, network.writes = seen(store), []
        clock.now += 60
        reported(store, "r-1")
        after = seen(store)
        assert network.writes == ["update_item"]
        assert after["deadline"] > before["deadline"]
        for name in ("events", "event_seq", "updated_at"):
            assert after[name] == before[name]

    def test_a_resent_one_learns_what_was_asked_for_meanwhile(
        self, store: TaskStore, network: Network
    ):
        accepted(store)

        def then_cancelled(real: Callable[..., Any], request: dict[str, Any]) -> Any:
            real(**request)
            cancelled(store)
            return real(**request)

        network.plan("update_item", then_cancelled)
        assert "cancel_requested_at" in reported(store, "r-1", "once")
        assert messages(seen(store))[3:] == ["once"]

    def test_the_last_32_ids_are_kept(self, store: TaskStore):
        accepted(store)
        for number in range(33):
            reported(store, f"r-{number}", f"line {number}")
        assert reported(store, "r-1", "line 1")["status"] == "processing"
        assert len(messages(seen(store))) == 3 + 33
        assert len(seen(store)["report_ids"]) == 32
        reported(store, "r-0", "line 0")
        assert len(messages(seen(store))) == 3 + 34

    def test_of_reports_at_once_each_is_taken_once(self, store: TaskStore, network: Network):
        accepted(store)
        for number in range(4):
            network.plan(
                "update_item", after(partial(reported, store, f"o-{number}", f"o {number}"))
            )
        # Each of the others sends a write too, which finds the next plan: they nest.
        reported(store, "mine", "mine")
        said = messages(seen(store))[3:]
        assert sorted(said) == ["mine", "o 0", "o 1", "o 2", "o 3"]

    def test_after_five_tries_it_is_busy_and_nothing_of_it_is_there(
        self, store: TaskStore, network: Network
    ):
        accepted(store)
        other = TaskStore(network.client, store.table_name, clock=store.clock)
        tries = 0

        def overtaken(real: Callable[..., Any], request: dict[str, Any]) -> Any:
            nonlocal tries
            tries += 1
            other.report(other.find_task("task-1"), Report(f"other-{tries}"))
            return real(**request)

        network.always["update_item"] = overtaken
        with pytest.raises(StoreBusy):
            reported(store, "mine", "mine")
        assert tries == 5
        network.always.clear()
        assert messages(seen(store)) == COMPLETED[:3]
        reported(store, "mine", "mine")
        assert messages(seen(store))[3:] == ["mine"]

    def test_it_is_not_taken_before_the_agent_was_accepted(self, store: TaskStore):
        claimed(store)
        before = stored(store)
        with pytest.raises(NotAccepted):
            reported(store, "r-1", "too soon", outcome=Outcome.of(ANSWER))
        assert stored(store) == before
        create(store, "task-2")
        with pytest.raises(NotAccepted):
            store.report(store.find_task("task-2"), Report("r-1"))

    def test_a_task_whose_worker_died_before_it_could_accept_ends_for_its_agent_too(
        self, store: TaskStore, clock: Clock
    ):
        """Else the agent would be asked to come again for ever."""
        claimed(store)
        clock.now += 661
        task = reported(store, "r-1", "still here")
        assert (task["status"], task["error_code"]) == ("error", "worker_lost")

    def test_the_cap_of_200_lines_counts_across_reports_and_the_stream_before(
        self, store: TaskStore
    ):
        claim = claimed(store)
        for number in range(3):
            claim.timeline.add_progress(timestamp(NOW), f"streamed {number}")
        store.accept_task(claim)
        for number in range(5):
            reported(store, f"r-{number}", *[f"line {number}.{n}" for n in range(50)])
        said = messages(seen(store))[3:]
        assert len(said) == MAX_AGENT_EVENTS + 1
        assert said[-2:] == ["line 3.46", "further progress not recorded"]
        reported(store, "last", "more", outcome=Outcome.of(ANSWER))
        assert messages(seen(store))[-2:] == ["further progress not recorded", COMPLETED[-1]]

    def test_an_answer_completes_the_task_with_the_lines_before_it(
        self, store: TaskStore, clock: Clock
    ):
        accepted(store)
        clock.now += 60
        task = reported(store, "r-1", "done soon", outcome=Outcome.of(ANSWER))
        assert task["status"] == "completed"
        shown = seen(store)
        assert messages(shown)[3:] == ["done soon", COMPLETED[-1]]
        assert {name: shown[name] for name in ANSWER} == ANSWER
        assert runs_forward(shown)

    def test_of_two_ends_at_once_one_is_the_outcome(self, store: TaskStore, network: Network):
        accepted(store)
        first = Outcome.of(ANSWER)
        network.plan("update_item", after(lambda: reported(store, "first", outcome=first)))
        task = reported(store, "second", outcome=Outcome.of({}, "agent_failed", "No."))
        assert task["status"] == "completed"
        assert messages(seen(store)) == COMPLETED

    @pytest.mark.parametrize("kind", ["ClientError", "Transaction"])
    def test_an_answer_that_dynamodb_refuses_for_its_size_is_cut_shorter(
        self, store: TaskStore, network: Network, kind: str
    ):
        """Else the agent would send it again and again, and the task would end without any."""
        accepted(store)
        size = 150_000 if kind == "ClientError" else 500_000
        name = "update_item" if kind == "ClientError" else "transact_write_items"
        for _ in range(2):
            network.plan(name, too_large if kind == "ClientError" else too_large_together)
        outcome = Outcome.of(ANSWER | {"agent_response": "x" * size})
        task = reported(store, "end", outcome=outcome)
        assert task["status"] == "completed"
        shown = seen(store)
        assert shown["vendors"] == ANSWER["vendors"]
        assert size / 8 < len(shown["agent_response"]) < size / 2
        assert shown["agent_response_truncated"] is True

    def test_an_answer_that_dynamodb_never_takes_ends_the_task_without_it_and_is_in_the_log(
        self, store: TaskStore, network: Network, capsys: pytest.CaptureFixture[str]
    ):
        accepted(store)

        def never(real: Callable[..., Any], request: dict[str, Any]) -> Any:
            values = request["ExpressionAttributeValues"]
            return too_large(real, request) if ":agent_response" in values else real(**request)

        network.always["update_item"] = never
        outcome = Outcome.of(ANSWER | {"agent_response": "x" * 5_000})
        report = Report("end", ["I found"], outcome, sent={"answer": "Ann: $250"})
        task = store.report(store.find_task("task-1"), report)
        assert (task["status"], task["error_code"]) == ("error", "answer_too_large")
        assert "Ann: $250" in capsys.readouterr().err

    def test_what_is_refused_for_good_and_no_answer_goes_through_and_an_end_is_in_the_log(
        self, store: TaskStore, network: Network, capsys: pytest.CaptureFixture[str]
    ):
        accepted(store)
        network.plan("update_item", too_large)
        with pytest.raises(ClientError, match="size"):
            reported(store, "r-1", "hello")
        network.always["update_item"] = too_large
        report = Report("end", outcome=Outcome.of({}, "agent_failed", "No."), sent={"error": "No."})
        with pytest.raises(ClientError, match="size"):
            store.report(store.find_task("task-1"), report)
        assert '"No."' in json.loads(capsys.readouterr().err)["text"]

    def test_a_silence_of_ten_minutes_ends_it_for_whoever_reads(
        self, store: TaskStore, clock: Clock
    ):
        accepted(store)
        clock.now += 600
        assert seen(store)["status"] == "processing"
        clock.now += 1
        task = seen(store)
        assert (task["status"], task["error_code"]) == ("error", "agent_lost")
        assert reported(store, "late", "late")["status"] == "error"
        assert "late" not in messages(seen(store))

    def test_a_silence_that_nobody_saw_is_forgiven(self, store: TaskStore, clock: Clock):
        accepted(store)
        clock.now += 3_000
        assert reported(store, "r-1", "back")["status"] == "processing"
        assert messages(seen(store))[3:] == ["back"]

    def test_8_hours_and_10_minutes_after_the_claim_it_ends_whatever_is_reported(
        self, store: TaskStore, clock: Clock
    ):
        accepted(store)
        clock.now = NOW + 8 * 3600 + 500
        assert reported(store, "r-1")["status"] == "processing"
        clock.now = NOW + 8 * 3600 + 600
        assert reported(store, "r-2", "almost")["status"] == "processing"
        clock.now += 1
        task = reported(store, "r-3", "too late", outcome=Outcome.of(ANSWER))
        assert (task["status"], task["error_code"]) == ("error", "agent_timeout")
        assert messages(seen(store))[3:] == ["almost", tasks.EXPIRED["agent_timeout"]]

    def test_nor_does_a_silence_that_nobody_saw_outlast_them(self, store: TaskStore, clock: Clock):
        accepted(store)
        clock.now = NOW + 8 * 3600 + 601
        task = reported(store, "r-1", "back", outcome=Outcome.of(ANSWER))
        assert (task["status"], task["error_code"]) == ("error", "agent_lost")

    def test_on_a_task_whose_end_was_requested_it_is_kept_and_the_agent_is_told(
        self, store: TaskStore
    ):
        accepted(store)
        cancelled(store)
        task = reported(store, "r-1", "one more")
        assert task["status"] == "processing"
        assert "cancel_requested_at" in task
        assert messages(seen(store))[3:] == ["one more"]

    @pytest.mark.parametrize("seconds", [10, 61])
    def test_the_answer_of_a_cancelled_one_is_kept_but_does_not_complete_it(
        self, store: TaskStore, clock: Clock, seconds: float
    ):
        accepted(store)
        cancelled(store)
        clock.now += seconds
        task = reported(store, "end", outcome=Outcome.of(ANSWER))
        assert (task["status"], task["error_code"]) == ("error", "cancelled")
        shown = seen(store)
        assert shown["vendors"] == ANSWER["vendors"]
        assert shown["emails_sent"] == 3
        assert messages(shown)[-1] == tasks.EXPIRED["cancelled"]

    def test_a_sign_of_life_does_not_keep_a_cancelled_one_alive(
        self, store: TaskStore, clock: Clock
    ):
        accepted(store)
        cancelled(store)
        clock.now += 59
        reported(store, "r-1")
        clock.now += 2
        task = reported(store, "r-2")
        assert (task["status"], task["error_code"]) == ("error", "cancelled")

    def test_a_cancellation_that_comes_in_between_turns_the_end_into_its_own(
        self, store: TaskStore, network: Network
    ):
        accepted(store)
        other = TaskStore(network.client, store.table_name, clock=store.clock)
        network.plan("update_item", after(lambda: cancelled(other)))
        task = reported(store, "end", outcome=Outcome.of(ANSWER))
        assert (task["status"], task["error_code"]) == ("error", "cancelled")
        assert seen(store)["vendors"] == ANSWER["vendors"]


class TestCancel:
    def test_a_pending_task_ends_at_once_and_no_worker_gets_it(
        self, store: TaskStore, clock: Clock
    ):
        create(store)
        clock.now += 5
        task = cancelled(store)
        assert task == seen(store)
        assert (task["status"], task["error_code"]) == ("error", "cancelled")
        assert task["error_message"] == "Cancelled before the agent was started"
        assert task["events"][1:] == [
            {
                "ts": timestamp(NOW + 5),
                "message": "Cancelled before the agent was started",
                "type": "error",
            }
        ]
        with pytest.raises(TaskNotClaimable):
            store.claim_task("task-1", "late", clock.now + 600)

    def test_a_running_one_is_asked_to_end_and_nothing_else_changes(
        self, store: TaskStore, clock: Clock
    ):
        claimed(store)
        before = seen(store)
        clock.now += 5
        task = cancelled(store)
        assert task == before | {"cancel_requested_at": timestamp(NOW + 5)} == seen(store)

    def test_the_first_request_counts(self, store: TaskStore, clock: Clock, network: Network):
        claimed(store)
        first = cancelled(store)
        clock.now += 5
        network.writes = []
        assert cancelled(store) == first
        assert network.writes == []

    def test_a_task_that_is_claimed_in_between_is_asked_to_end(
        self, store: TaskStore, network: Network
    ):
        """Never told to have ended unstarted: its agent may start at this moment."""
        create(store)
        network.plan("update_item", after(lambda: store.claim_task("task-1", "mine", NOW + 600)))
        task = cancelled(store)
        assert task["status"] == "processing"
        assert "cancel_requested_at" in task

    def test_a_task_that_ends_in_between_stays_as_it_ended(
        self, store: TaskStore, network: Network
    ):
        claim = claimed(store)
        network.plan("update_item", after(lambda: store.end_task(claim, Outcome.of(ANSWER))))
        assert cancelled(store)["status"] == "completed"
        assert "cancel_requested_at" not in stored(store)

    def test_the_worker_writes_nothing_but_that_end(self, store: TaskStore, clock: Clock):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "one")
        cancelled(store)
        with pytest.raises(CancelRequested):
            store.record_progress(claim)
        with pytest.raises(CancelRequested):
            store.end_task(claim, Outcome.of(ANSWER))
        assert seen(store)["status"] == "processing"
        store.end_task(claim, Outcome.of(ANSWER).cancelled())
        task = seen(store)
        assert (task["status"], task["error_code"]) == ("error", "cancelled")
        assert messages(task)[3:] == ["one", tasks.EXPIRED["cancelled"]]
        assert task["vendors"] == ANSWER["vendors"]

    def test_nothing_ends_as_cancelled_that_nobody_asked_to(self, store: TaskStore):
        claim = claimed(store)
        with pytest.raises(ClaimLost):
            store.end_task(claim, Outcome.of(ANSWER).cancelled())
        assert seen(store)["status"] == "processing"

    @pytest.mark.parametrize("is_reporting", [False, True])
    def test_60_seconds_after_the_request_any_reader_ends_it(
        self, store: TaskStore, clock: Clock, is_reporting: bool
    ):
        claim = accepted(store) if is_reporting else claimed(store)
        clock.now += 5
        cancelled(store)
        clock.now += 60
        assert seen(store)["status"] == "processing"
        clock.now += 1
        task = seen(store)
        assert (task["status"], task["error_code"]) == ("error", "cancelled")
        assert task["error_message"] == tasks.EXPIRED["cancelled"]
        with pytest.raises(ClaimLost):
            store.end_task(claim, Outcome.of(ANSWER).cancelled())

    def test_a_report_in_between_does_not_keep_a_reader_from_ending_it(
        self, store: TaskStore, clock: Clock, network: Network
    ):
        accepted(store)
        cancelled(store)
        task = store.find_task("task-1")
        clock.now += 61
        other = TaskStore(network.client, store.table_name, clock=lambda: NOW + 59)
        network.plan("update_item", after(lambda: other.report(task, Report("r-1"))))
        found = seen(store)
        assert (found["status"], found["error_code"]) == ("error", "cancelled")


class TestDelete:
    def test_a_tombstone_without_anything_of_the_task_is_left(self, store: TaskStore):
        store.end_task(claimed(store), Outcome.of(ANSWER))
        store.delete_task("task-1", PUBLIC_OWNER)
        assert everything(store) == [{"id": {"S": "task-1"}, "status": {"S": "deleted"}}]

    def test_it_stays_as_long_as_the_task_would_have(self, store: TaskStore, clock: Clock):
        tombstone(store, clock, days=30)
        assert everything(store) == [
            {
                "id": {"S": "task-1"},
                "status": {"S": "deleted"},
                "expires_at": {"N": str(int(NOW) + 30 * 86_400)},
            }
        ]

    def test_its_chunks_go_with_it_and_nobody_elses(self, store: TaskStore):
        for task_id in ("task-1", "task-10"):
            outcome = Outcome.of({"agent_response": "x" * 500_000})
            store.end_task(claimed(store, task_id), outcome)
        store.delete_task("task-1", PUBLIC_OWNER)
        ids = sorted(item["id"]["S"] for item in everything(store))
        assert ids == ["task-1", "task-10", *[f"task-10#{n}" for n in range(6)]]
        assert len(seen(store, "task-10")["agent_response"]) == 500_000

    def test_the_longest_answer_is_within_a_transaction(self, store: TaskStore):
        outcome = Outcome.of({"agent_response": "x" * MAX_ANSWER_BYTES})
        store.end_task(claimed(store), outcome)
        store.delete_task("task-1", PUBLIC_OWNER)
        assert len(everything(store)) == 1

    @pytest.mark.parametrize("is_running", [False, True])
    def test_a_task_that_has_not_ended_is_refused_and_not_touched(
        self, store: TaskStore, is_running: bool
    ):
        _ = claimed(store) if is_running else create(store)
        before = stored(store)
        with pytest.raises(TaskNotFinal):
            store.delete_task("task-1", PUBLIC_OWNER)
        assert stored(store) == before

    def test_a_task_that_is_over_for_whoever_reads_can_go(self, store: TaskStore, clock: Clock):
        claimed(store)
        clock.now += 661
        store.delete_task("task-1", PUBLIC_OWNER)
        assert stored(store)["status"] == {"S": "deleted"}


class TestTombstones:
    """What is deleted is nobody's, stays deleted, and never runs."""

    @pytest.fixture(autouse=True)
    def deleted(self, store: TaskStore, clock: Clock) -> Any:
        tombstone(store, clock)
        before = everything(store)
        yield
        assert everything(store) == before

    @pytest.mark.parametrize(
        "act",
        [
            lambda store: store.find_task("task-1"),
            seen,
            cancelled,
            lambda store: store.delete_task("task-1", PUBLIC_OWNER),
            lambda store: store.claim_task("task-1", "mine", NOW + 600),
            lambda store: store.fail_pending_task("task-1", "", "No.", "dispatch_failed"),
            lambda store: reported(store, "r-1", "late"),
        ],
        ids=["find", "get", "cancel", "delete", "claim", "fail pending", "report"],
    )
    def test_it_is_not_found(self, store: TaskStore, act: Any):
        with pytest.raises(TaskNotFound):
            act(store)

    def test_a_list_does_not_show_it(self, store: TaskStore):
        for statuses in ((), ("error",), ("pending", "processing", "completed", "error")):
            assert store.list_tasks(PUBLIC_OWNER, 10, statuses=statuses) == ([], None)

    @pytest.mark.parametrize("seconds", [0, 1e9])
    def test_no_time_wakes_it(self, store: TaskStore, clock: Clock, seconds: float):
        clock.now += seconds
        with pytest.raises(TaskNotFound):
            seen(store)
