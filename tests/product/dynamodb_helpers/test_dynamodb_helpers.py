"""What the task store promises of each transition: one agent run at most, an end for every task."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dynamodb_helpers import REPORT_ATTEMPTS, TaskStore
from tests.product.dynamodb_helpers.fakes import (
    ANSWER,
    BEGUN,
    COMPLETED,
    NOW,
    Clock,
    Network,
    accepted,
    after,
    arrives,
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
    too_large,
)
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
    CANCELLED_UNSTARTED,
    DEADLINE_MARGIN_SECONDS,
    EXPIRED,
    MAX_AGENT_EVENTS,
    MAX_ANSWER_BYTES,
    MAXIMUM_EVENT_AGE_SECONDS,
    PUBLIC_OWNER,
    Outcome,
    Report,
    timestamp,
)


class TestCreate:
    def test_a_new_task_waits_as_long_as_lambda_keeps_its_event_and_a_margin(
        self, store: TaskStore
    ):
        task, created = store.create_task("task-1", "  Find me a painter ")
        assert created
        assert seen(store) == task
        assert task["description"] == "Find me a painter"
        assert task["status"] == "pending"
        assert task["events"] == [{"ts": timestamp(NOW), "message": "Task created", "type": "info"}]
        assert task["created_at"] == task["updated_at"] == timestamp(NOW)
        assert MAXIMUM_EVENT_AGE_SECONDS + DEADLINE_MARGIN_SECONDS == 960
        assert task["deadline"] == timestamp(NOW + 960)

    def test_an_id_is_used_once_and_the_second_comer_gets_what_is_there(
        self, store: TaskStore, clock: Clock
    ):
        first = create(store)
        assert store.create_task("task-1", "Something else", "jwt#somebody") == (first, False)
        assert seen(store) == first
        clock.now += 961
        task, created = store.create_task("task-1", "Find me a painter")
        assert (task["status"], created) == ("error", False)


class TestClaim:
    def test_a_claim_makes_the_task_processing_and_says_so_twice(
        self, store: TaskStore, clock: Clock
    ):
        create(store)
        clock.now += 5
        claim = store.claim_task("task-1", "mine", NOW + 605)
        task = seen(store)
        assert claim.task == task
        assert task["status"] == "processing"
        assert messages(task) == BEGUN
        assert {event["type"] for event in task["events"]} == {"info"}
        assert task["updated_at"] == timestamp(NOW + 5)

    @pytest.mark.parametrize(
        "token, is_final", [("theirs", False), ("theirs", True), ("token-of-task-1", True)]
    )
    def test_of_two_workers_one_wins_and_a_final_task_is_never_claimed(
        self, store: TaskStore, token: str, is_final: bool
    ):
        claim = claimed(store)
        if is_final:
            store.end_task(claim, Outcome.of(ANSWER))
        before = stored(store)
        with pytest.raises(TaskNotClaimable) as refusal:
            store.claim_task("task-1", token, NOW + 600)
        assert refusal.value.task["status"] == ("completed" if is_final else "processing")
        assert stored(store) == before

    @pytest.mark.parametrize("late", [-0.000_001, 0])
    def test_from_the_deadline_on_it_is_refused(self, store: TaskStore, clock: Clock, late: float):
        """A reader may show the task as given up at any moment from then on."""
        create(store)
        clock.now = NOW + 960 + late
        with nullcontext() if late < 0 else pytest.raises(TaskNotClaimable):
            store.claim_task("task-1", "mine", clock.now + 600)
        assert stored(store)["status"] == {"S": "processing" if late < 0 else "pending"}

    def test_it_can_be_confirmed_until_its_deadline_and_that_shows_nothing(
        self, store: TaskStore, clock: Clock
    ):
        claim = claimed(store)
        before = stored(store)
        clock.now += 660
        with pytest.raises(ClaimLost):
            store.confirm_claim(claim)
        clock.now -= 0.001
        store.confirm_claim(claim)
        assert stored(store) == before

    def test_it_says_whether_its_own_write_was_answered(self, store: TaskStore, network: Network):
        """Found again it may be as old as the outage."""
        assert claimed(store).is_fresh
        create(store, "task-2")
        network.plan("update_item", resent)
        assert not store.claim_task("task-2", "mine", NOW + 600).is_fresh


class TestProgress:
    def test_lines_are_appended_as_they_come_and_nothing_to_say_writes_nothing(
        self, store: TaskStore, network: Network
    ):
        claim = claimed(store)
        network.writes.clear()
        lines = [("Found 3 vendors",), ("Wrote to Ann", "Wrote to Bob"), ()]
        for seconds, said in enumerate(lines):
            for line in said:
                claim.timeline.add_progress(timestamp(NOW + seconds), line)
            store.record_progress(claim)
        assert network.writes == ["update_item"] * 2
        task = seen(store)
        assert task["status"] == "processing"
        assert task["events"][3:] == [
            {"ts": timestamp(NOW + seconds), "message": line, "type": "info"}
            for seconds, said in enumerate(lines)
            for line in said
        ]


class TestEnds:
    @pytest.mark.parametrize("message", ["", "The agent found nobody"])
    def test_what_the_agent_answered_is_kept_however_it_ends(
        self, store: TaskStore, clock: Clock, message: str
    ):
        """After the deadline too, while nobody has read the task."""
        claim = claimed(store)
        clock.now += 3600
        store.end_task(claim, Outcome.of(ANSWER, "agent_failed" if message else "", message))
        task = seen(store)
        assert {name: task[name] for name in ANSWER} == ANSWER
        assert task["status"] == ("error" if message else "completed")
        assert task.get("error_message", "") == message
        last = f"Agent error: {message}" if message else COMPLETED[-1]
        assert messages(task) == [*BEGUN, last]
        assert task["events"][-1]["type"] == ("error" if message else "success")

    def test_a_pending_task_can_fail_but_one_that_was_claimed_goes_on(self, store: TaskStore):
        """Its invocation had arrived after all; only the answer was lost."""

        def fail(task_id: str) -> dict[str, Any]:
            why = ("Error invoking worker", "no connection", "dispatch_failed")
            return store.fail_pending_task(task_id, *why)

        create(store)
        task = fail("task-1")
        assert task == seen(store)
        assert (task["status"], task["error_code"]) == ("error", "dispatch_failed")
        assert task["error_message"] == "no connection"
        assert messages(task)[1:] == ["Error invoking worker: no connection"]
        assert task["events"][-1]["type"] == "error"
        claim = claimed(store, "task-2")
        assert fail("task-2")["status"] == "processing"
        store.end_task(claim, Outcome.of(ANSWER))
        assert fail("task-2")["status"] == "completed"
        assert messages(seen(store, "task-2")) == COMPLETED

    @pytest.mark.parametrize("happening", [arrives, resent])
    def test_a_task_that_nobody_claimed_is_ended_once_by_its_first_reader_after_16_minutes(
        self,
        store: TaskStore,
        clock: Clock,
        network: Network,
        capsys: pytest.CaptureFixture[str],
        happening: Any,
    ):
        expired: list[dict[str, Any]] = []
        store.on_expired = expired.append
        create(store)
        clock.now = NOW + 960.000_001
        network.plan("update_item", happening)
        task = seen(store)
        assert task["status"] == "error"
        assert "16 minutes" in task["error_message"]
        assert "no vendor was contacted" in task["error_message"]
        assert messages(task) == ["Task created", task["error_message"]]
        assert task["events"][-1]["type"] == "error"
        network.writes.clear()
        assert seen(store) == task
        assert store.list_tasks(PUBLIC_OWNER, 10)[0][0]["events"] == task["events"]
        assert network.writes == []
        assert expired == [task]
        (line,) = map(json.loads, capsys.readouterr().err.splitlines())
        assert (line["outcome"], line["task_id"]) == ("expired", "task-1")


class TestAccept:
    def test_the_task_stays_processing_its_silence_is_bounded_and_its_lines_are_counted(
        self, store: TaskStore, clock: Clock
    ):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "Using getVendors")
        clock.now += 5
        store.accept_task(claim)
        task = seen(store)
        assert task["status"] == "processing"
        assert messages(task) == [*BEGUN, "Using getVendors"]
        assert task["noted"] == 1
        assert task["deadline"] == timestamp(clock.now + 600)
        assert task["report_until"] == timestamp(NOW + 8 * 3600 + 600)


class TestReport:
    def test_its_lines_are_appended_and_a_sign_of_life_shows_nothing(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        accepted(store)
        clock.now += 300
        task = reported(store, "r-1", "Found two painters", "E-mailed Ann")
        assert task["status"] == "processing"
        before = seen(store)
        assert messages(before)[3:] == ["Found two painters", "E-mailed Ann"]
        assert before["updated_at"] == before["events"][-1]["ts"] == timestamp(clock.now)
        assert before["deadline"] == timestamp(clock.now + 600)
        network.writes.clear()
        clock.now += 60
        reported(store, "r-2")
        assert network.writes == ["update_item"]
        changes = {name: value for name, value in seen(store).items() if before[name] != value}
        assert set(changes) == {"deadline", "report_ids", "last_report"}
        assert changes["deadline"] == timestamp(clock.now + 600)

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

    @pytest.mark.parametrize("others", [REPORT_ATTEMPTS - 1, REPORT_ATTEMPTS])
    def test_of_reports_at_once_each_is_taken_once_or_after_five_tries_not_at_all(
        self, store: TaskStore, network: Network, others: int
    ):
        assert REPORT_ATTEMPTS == 5
        accepted(store)
        other = TaskStore(network.client, store.table_name, clock=store.clock)
        said = [f"other {number}" for number in range(others)]
        for line in said:
            network.plan("update_item", after(partial(reported, other, line, line)))
        with pytest.raises(StoreBusy) if others == REPORT_ATTEMPTS else nullcontext():
            reported(store, "mine", "mine")
        assert messages(seen(store))[3:] == said + ["mine"] * (others < REPORT_ATTEMPTS)
        reported(store, "mine", "mine")
        assert messages(seen(store))[3:] == [*said, "mine"]

    @pytest.mark.parametrize("before", [create, claimed])
    def test_it_is_not_taken_before_the_agent_was_accepted(self, store: TaskStore, before: Any):
        before(store)
        there = stored(store)
        with pytest.raises(NotAccepted):
            reported(store, "r-1", "too soon", outcome=Outcome.of(ANSWER))
        assert stored(store) == there

    def test_the_cap_of_200_lines_counts_across_reports_and_the_stream_before(
        self, store: TaskStore
    ):
        claim = claimed(store)
        claim.timeline.noted = MAX_AGENT_EVENTS - 2
        store.accept_task(claim)
        reported(store, "r-1", "199")
        reported(store, "r-2", "200", "201")
        reported(store, "end", "202", outcome=Outcome.of(ANSWER))
        said = ["199", "200", "further progress not recorded", COMPLETED[-1]]
        assert messages(seen(store))[3:] == said

    @pytest.mark.parametrize("requested, seconds", [(False, 60), (True, 10), (True, 61)])
    def test_an_answer_ends_the_task_and_is_kept_though_a_cancelled_one_does_not_complete(
        self, store: TaskStore, clock: Clock, requested: bool, seconds: float
    ):
        accepted(store)
        if requested:
            cancelled(store)
        clock.now += seconds
        task = reported(store, "r-1", "done soon", outcome=Outcome.of(ANSWER))
        end = ("error", "cancelled") if requested else ("completed", None)
        assert (task["status"], task.get("error_code")) == end
        shown = seen(store)
        last = EXPIRED["cancelled"] if requested else COMPLETED[-1]
        assert messages(shown)[3:] == ["done soon", last]
        assert {name: shown[name] for name in ANSWER} == ANSWER
        assert runs_forward(shown)

    @pytest.mark.parametrize(
        "size, operation", [(150_000, "update_item"), (500_000, "transact_write_items")]
    )
    def test_an_answer_that_dynamodb_refuses_for_its_size_is_cut_shorter(
        self, store: TaskStore, network: Network, size: int, operation: str
    ):
        """Else the agent would send it again and again, and the task would end without any."""
        accepted(store)
        for _ in range(2):
            network.plan(operation, too_large)
        outcome = Outcome.of(ANSWER | {"agent_response": "x" * size})
        assert reported(store, "end", outcome=outcome)["status"] == "completed"
        shown = seen(store)
        assert shown["vendors"] == ANSWER["vendors"]
        assert size / 8 < len(shown["agent_response"]) < size / 2
        assert shown["agent_response_truncated"] is True

    def test_an_end_that_dynamodb_never_takes_is_in_the_log_and_an_answer_costs_no_end(
        self, store: TaskStore, network: Network, capsys: pytest.CaptureFixture[str]
    ):
        accepted(store)
        network.always["update_item"] = too_large
        failure = Report("r", outcome=Outcome.of({}, "agent_failed", "No."), sent={"error": "No."})
        for report in (Report("r", ["hello"]), failure):
            with pytest.raises(ClientError, match="size"):
                store.report(store.find_task("task-1"), report)
        assert '"No."' in json.loads(capsys.readouterr().err)["text"]

        def without_answer(real: Callable[..., Any], request: dict[str, Any]) -> Any:
            values = request["ExpressionAttributeValues"]
            return (too_large if ":agent_response" in values else arrives)(real, request)

        network.always["update_item"] = without_answer
        outcome = Outcome.of(ANSWER | {"agent_response": "x" * 5_000})
        report = Report("end", ["I found"], outcome, sent={"answer": "Ann: $250"})
        task = store.report(store.find_task("task-1"), report)
        assert (task["status"], task["error_code"]) == ("error", "answer_too_large")
        assert "Ann: $250" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "requested, times, end",
        [
            (False, [3_000], ""),
            (False, [29_300, 29_400], ""),
            (False, [29_300, 29_400, 29_401], "agent_timeout"),
            (False, [29_401], "agent_lost"),
            (True, [60], ""),
            (True, [59, 61], "cancelled"),
        ],
    )
    def test_a_silence_that_nobody_saw_is_forgiven_but_8_hours_or_a_cancellation_are_the_end(
        self, store: TaskStore, clock: Clock, requested: bool, times: list[float], end: str
    ):
        accepted(store)
        if requested:
            cancelled(store)
        task: dict[str, Any] = {}
        for seconds in times:
            clock.now = NOW + seconds
            task = reported(store, f"{seconds}", f"{seconds}")
            assert ("cancel_requested_at" in task) == requested
        assert task.get("error_code", "") == end
        said = [f"{seconds}" for seconds in times]
        assert messages(seen(store))[3:] == ([*said[:-1], EXPIRED[end]] if end else said)

    @pytest.mark.parametrize(
        "before, seconds, code", [(accepted, 601, "agent_lost"), (claimed, 661, "worker_lost")]
    )
    def test_after_the_end_it_changes_nothing_whoever_sees_that_first(
        self, store: TaskStore, clock: Clock, before: Any, seconds: float, code: str
    ):
        """A worker that died before it could accept must not keep its agent coming for ever."""
        before(store)
        clock.now += seconds
        if before is accepted:
            seen(store)
        assert reported(store, "late", "late")["error_code"] == code
        assert messages(seen(store)) == [*BEGUN, EXPIRED[code]]


class TestCancel:
    def test_a_pending_task_ends_at_once(self, store: TaskStore, clock: Clock):
        create(store)
        clock.now += 5
        task = cancelled(store)
        assert task == seen(store)
        assert (task["status"], task["error_code"]) == ("error", "cancelled")
        assert task["error_message"] == CANCELLED_UNSTARTED
        line = {"ts": timestamp(NOW + 5), "message": CANCELLED_UNSTARTED, "type": "error"}
        assert task["events"][1:] == [line]

    def test_a_running_one_is_asked_to_end_once_and_nothing_else_changes(
        self, store: TaskStore, clock: Clock, network: Network
    ):
        claimed(store)
        before = seen(store)
        clock.now += 5
        task = cancelled(store)
        assert task == before | {"cancel_requested_at": timestamp(NOW + 5)} == seen(store)
        clock.now += 5
        network.writes.clear()
        assert cancelled(store) == task
        assert network.writes == []

    def test_the_worker_writes_nothing_but_that_end_and_only_if_it_was_asked_for(
        self, store: TaskStore
    ):
        claim = claimed(store)
        with pytest.raises(ClaimLost):
            store.end_task(claim, Outcome.of(ANSWER).cancelled())
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
        assert messages(task)[3:] == ["one", EXPIRED["cancelled"]]
        assert task["vendors"] == ANSWER["vendors"]

    def test_61_seconds_after_the_request_a_reader_ends_it_and_the_worker_does_not(
        self, store: TaskStore, clock: Clock
    ):
        claim = claimed(store)
        cancelled(store)
        clock.now += 61
        task = seen(store)
        assert (task["status"], task["error_message"]) == ("error", EXPIRED["cancelled"])
        with pytest.raises(ClaimLost):
            store.end_task(claim, Outcome.of(ANSWER).cancelled())


class TestDelete:
    @pytest.mark.parametrize(
        "days, kept", [(0, {}), (30, {"expires_at": {"N": f"{int(NOW) + 30 * 86_400}"}})]
    )
    def test_a_tombstone_is_left_for_as_long_as_the_task_would_have_been(
        self, store: TaskStore, days: int, kept: dict[str, Any]
    ):
        store.ttl_days = days
        store.end_task(claimed(store), Outcome.of(ANSWER))
        store.delete_task("task-1", PUBLIC_OWNER)
        assert everything(store) == [{"id": {"S": "task-1"}, "status": {"S": "deleted"}} | kept]

    def test_the_chunks_of_the_longest_answer_go_with_it_and_nobody_elses(self, store: TaskStore):
        for task_id, size in (("task-1", MAX_ANSWER_BYTES), ("task-10", 500_000)):
            outcome = Outcome.of({"agent_response": "x" * size})
            store.end_task(claimed(store, task_id), outcome)
        store.delete_task("task-1", PUBLIC_OWNER)
        ids = sorted(item["id"]["S"] for item in everything(store))
        assert ids == ["task-1", "task-10", *[f"task-10#{n}" for n in range(6)]]
        assert len(seen(store, "task-10")["agent_response"]) == 500_000

    @pytest.mark.parametrize("before", [create, claimed])
    def test_a_task_that_has_not_ended_is_not_touched_until_it_is_over_for_whoever_reads(
        self, store: TaskStore, clock: Clock, before: Any
    ):
        before(store)
        there = stored(store)
        with pytest.raises(TaskNotFinal):
            store.delete_task("task-1", PUBLIC_OWNER)
        assert stored(store) == there
        clock.now += 961
        store.delete_task("task-1", PUBLIC_OWNER)
        assert stored(store)["status"] == {"S": "deleted"}


class TestNotFound:
    """What is deleted, or never was, is nobody's, stays so, and never runs."""

    @pytest.fixture(autouse=True, params=["deleted", "never made"])
    def unchanged(self, store: TaskStore, request: pytest.FixtureRequest) -> Any:
        if request.param == "deleted":
            create(store)
            cancelled(store)
            store.delete_task("task-1", PUBLIC_OWNER)
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
            lambda store: store.report({"id": "task-1", "status": "deleted"}, Report("r")),
        ],
        ids=["find", "get", "cancel", "delete", "claim", "fail pending", "report"],
    )
    def test_it_is_not_found_however_late(self, store: TaskStore, clock: Clock, act: Any):
        for seconds in (0, 1e9):
            clock.now += seconds
            with pytest.raises(TaskNotFound):
                act(store)

    @pytest.mark.parametrize("statuses", [(), ("error",), ("pending", "processing", "completed")])
    def test_no_list_shows_it(self, store: TaskStore, statuses: tuple[str, ...]):
        assert store.list_tasks(PUBLIC_OWNER, 10, statuses=statuses) == ([], None)
