"""What the task store promises: at most one agent run, and an end for every task."""

import json
from contextlib import nullcontext
from typing import Any

import pytest

import dynamodb_helpers
from dynamodb_helpers import TaskStore
from tests.product.dynamodb_helpers.fakes import (
    ANSWER,
    COMPLETED,
    NOW,
    Clock,
    Network,
    after,
    claimed,
    create,
    everything,
    messages,
    resent,
    runs_forward,
    seen,
    stored,
)
from valro import aws
from valro.store_errors import TaskNotClaimable, TaskNotFound
from valro.tasks import (
    DEADLINE_MARGIN_SECONDS,
    MAX_DESCRIPTION_CHARACTERS,
    MAXIMUM_EVENT_AGE_SECONDS,
    PUBLIC_OWNER,
    InvalidDescription,
    Outcome,
    clean_description,
    epoch,
    timestamp,
)


class TestCreate:
    def test_a_new_task_is_pending_and_its_timeline_begins(self, store: TaskStore):
        task, created = store.create_task("task-1", "  Find me a painter ")
        assert created
        assert seen(store) == task
        assert task["description"] == "Find me a painter"
        assert task["status"] == "pending"
        assert task["events"] == [{"ts": timestamp(NOW), "message": "Task created", "type": "info"}]
        assert task["created_at"] == task["updated_at"] == timestamp(NOW)

    def test_the_deadline_is_the_event_age_and_a_margin_after_creation(self, store: TaskStore):
        """Lambda drops an event after that age, so no worker can still come."""
        deadline = create(store)["deadline"]
        assert MAXIMUM_EVENT_AGE_SECONDS + DEADLINE_MARGIN_SECONDS == 960
        assert deadline == timestamp(NOW + 960)

    def test_an_id_is_used_once_and_the_second_comer_gets_what_is_there(self, store: TaskStore):
        first = create(store)
        task, created = store.create_task("task-1", "Something else", "jwt#somebody")
        assert not created
        assert task == first
        assert seen(store) == first

    def test_the_second_comer_finds_an_overdue_task_ended(self, store: TaskStore, clock: Clock):
        create(store)
        clock.now += 961
        task, created = store.create_task("task-1", "Find me a painter")
        assert not created
        assert task["status"] == "error"

    @pytest.mark.parametrize(
        "description", ["", "  \n\t\u2003", None, 7, ["x"], {"a": 1}, "x\ud800y", "x" * 4001]
    )
    def test_an_invalid_description_writes_nothing(self, store: TaskStore, description: Any):
        with pytest.raises(InvalidDescription, match="'description' must"):
            store.create_task("task-1", description)
        assert everything(store) == []

    @pytest.mark.parametrize("character", ["x", "é", "\U0001f3e1"])
    def test_the_longest_description_is_counted_in_characters_after_trimming(self, character: str):
        longest = character * MAX_DESCRIPTION_CHARACTERS
        assert clean_description(f" {longest} ") == longest

    @pytest.mark.parametrize("text", ["a\u2028b", "\x00", "👩‍🌾 лес", "\ufffe", "a\r\nb"])
    def test_odd_text_comes_back_as_it_was(self, store: TaskStore, text: str):
        store.create_task("task-1", text)
        assert seen(store)["description"] == text


class TestClaim:
    def test_a_claim_makes_the_task_processing_and_says_so_twice(
        self, store: TaskStore, clock: Clock
    ):
        create(store)
        clock.now += 5
        claim = store.claim_task("task-1", "mine", NOW + 605)
        task = seen(store)
        assert task["status"] == "processing"
        assert messages(task) == COMPLETED[:3]
        assert {event["type"] for event in task["events"]} == {"info"}
        assert task["updated_at"] == timestamp(NOW + 5)
        assert claim.task == task

    def test_of_two_workers_one_wins(self, store: TaskStore):
        claimed(store)
        before = stored(store)
        with pytest.raises(TaskNotClaimable) as refusal:
            store.claim_task("task-1", "theirs", NOW + 600)
        assert refusal.value.task["status"] == "processing"
        assert stored(store) == before

    def test_a_final_task_is_never_claimed_not_even_with_its_own_token(self, store: TaskStore):
        claim = claimed(store)
        store.end_task(claim, Outcome.of(ANSWER))
        before = stored(store)
        for token in (claim.token, "theirs"):
            with pytest.raises(TaskNotClaimable):
                store.claim_task("task-1", token, NOW + 600)
        assert stored(store) == before

    def test_a_task_that_is_not_there_is_not_found(self, store: TaskStore):
        with pytest.raises(TaskNotFound, match="task-1"):
            store.claim_task("task-1", "mine", NOW + 600)
        assert everything(store) == []

    @pytest.mark.parametrize("late", [-0.000_001, 0, 3600])
    def test_from_the_deadline_on_it_is_refused(self, store: TaskStore, clock: Clock, late: float):
        """A reader may show the task as given up at any moment from then on."""
        create(store)
        clock.now = NOW + 960 + late
        with nullcontext() if late < 0 else pytest.raises(TaskNotClaimable):
            store.claim_task("task-1", "mine", clock.now + 600)
        assert stored(store)["status"] == {"S": "processing" if late < 0 else "pending"}


class TestProgress:
    def test_lines_are_appended_as_they_come(self, store: TaskStore, clock: Clock):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW + 1), "Found 3 vendors")
        store.record_progress(claim)
        claim.timeline.add_progress(timestamp(NOW + 2), "Wrote to Queen City Lawns")
        claim.timeline.add_progress(timestamp(NOW + 3), "Wrote to Myers Park Gardens")
        clock.now += 4
        store.record_progress(claim)
        task = seen(store)
        assert messages(task)[3:] == [
            "Found 3 vendors",
            "Wrote to Queen City Lawns",
            "Wrote to Myers Park Gardens",
        ]
        assert task["status"] == "processing"
        assert task["events"][-1] == {
            "ts": timestamp(NOW + 3),
            "message": "Wrote to Myers Park Gardens",
            "type": "info",
        }

    def test_nothing_to_say_writes_nothing(self, store: TaskStore, network: Network):
        claim = claimed(store)
        network.writes.clear()
        store.record_progress(claim)
        assert network.writes == []


class TestComplete:
    def test_an_answer_after_the_deadline_counts_while_nobody_has_read_the_task(
        self, store: TaskStore, clock: Clock
    ):
        claim = claimed(store)
        clock.now += 3600
        store.end_task(claim, Outcome.of(ANSWER))
        assert seen(store)["status"] == "completed"


class TestFail:
    def test_the_error_is_told_and_what_the_agent_had_answered_is_kept(self, store: TaskStore):
        store.end_task(claimed(store), Outcome.of(ANSWER, "agent_failed", "The agent found nobody"))
        task = seen(store)
        assert task["status"] == "error"
        assert task["error_message"] == "The agent found nobody"
        assert messages(task) == [*COMPLETED[:3], "Agent error: The agent found nobody"]
        assert task["events"][-1]["type"] == "error"
        assert {name: task[name] for name in ANSWER} == ANSWER


class TestFailPending:
    def fail(self, store: TaskStore, created_at: str = "") -> dict[str, Any]:
        return store.fail_pending_task(
            "task-1", "Error invoking worker", "no connection", "dispatch_failed", created_at
        )

    def test_a_task_that_nobody_has_claimed_ends(self, store: TaskStore):
        create(store)
        task = self.fail(store)
        assert task == seen(store)
        assert task["status"] == "error"
        assert task["error_message"] == "no connection"
        assert task["error_code"] == "dispatch_failed"
        assert task["events"][-1]["message"] == "Error invoking worker: no connection"
        assert task["events"][-1]["type"] == "error"

    def test_a_claimed_task_goes_on_and_is_returned(self, store: TaskStore):
        """The invocation had arrived after all; its answer was lost."""
        claim = claimed(store)
        assert self.fail(store)["status"] == "processing"
        store.end_task(claim, Outcome.of(ANSWER))
        assert self.fail(store)["status"] == "completed"
        assert messages(seen(store)) == COMPLETED


class TestExpiry:
    def test_a_pending_task_ends_16_minutes_after_it_was_made_and_no_agent_ran(
        self, store: TaskStore, clock: Clock
    ):
        create(store)
        clock.now = NOW + 960.000_001
        task = seen(store)
        assert task["status"] == "error"
        assert "16 minutes" in task["error_message"]
        assert "no vendor was contacted" in task["error_message"]
        assert messages(task) == ["Task created", task["error_message"]]
        assert task["events"][-1]["type"] == "error"
        assert seen(store) == task

    def test_it_is_written_once_and_logged_once(
        self, store: TaskStore, clock: Clock, network: Network, capsys: pytest.CaptureFixture[str]
    ):
        create(store)
        clock.now += 961
        first = seen(store)
        network.writes.clear()
        assert seen(store) == first
        assert store.list_tasks(PUBLIC_OWNER, 10)[0][0]["events"] == first["events"]
        assert network.writes == []
        (line,) = capsys.readouterr().err.splitlines()
        assert json.loads(line)["outcome"] == "expired"
        assert json.loads(line)["task_id"] == "task-1"

    def test_a_reader_whose_write_was_sent_again_tells_of_it_as_of_any(
        self, store: TaskStore, clock: Clock, network: Network, capsys: pytest.CaptureFixture[str]
    ):
        expired: list[dict[str, Any]] = []
        store.on_expired = expired.append
        create(store)
        clock.now += 961
        network.plan("update_item", resent)
        assert expired == [seen(store)]
        assert json.loads(capsys.readouterr().err)["outcome"] == "expired"

    def test_a_reader_that_loses_the_race_shows_what_the_worker_wrote(
        self, store: TaskStore, clock: Clock, network: Network
    ):
        claim = claimed(store)
        clock.now += 661
        worker = TaskStore(network.client, store.table_name, clock=clock)
        network.plan("update_item", after(lambda: worker.end_task(claim, Outcome.of(ANSWER))))
        ((task,), _) = store.list_tasks(PUBLIC_OWNER, 10)
        assert messages(seen(store)) == COMPLETED
        assert task["status"] == "completed"
        assert task["vendors"] == ANSWER["vendors"]
        assert "agent_response" not in task

    @pytest.mark.parametrize("operation", ["get_task", "cancel_task", "delete_task"])
    def test_a_task_that_is_ended_and_deleted_in_between_is_not_found(
        self, store: TaskStore, clock: Clock, network: Network, operation: str
    ):
        create(store)
        clock.now += 961
        other = TaskStore(network.client, store.table_name, clock=clock)
        network.plan("update_item", after(lambda: other.delete_task("task-1", PUBLIC_OWNER)))
        with pytest.raises(TaskNotFound):
            getattr(store, operation)("task-1", PUBLIC_OWNER)

    def test_a_task_that_is_claimed_in_between_is_not_expired(
        self, store: TaskStore, clock: Clock, network: Network
    ):
        """The reader judged the pending deadline; the claim moved it."""
        create(store)
        late_reader = TaskStore(network, store.table_name, clock=lambda: NOW + 961)
        clock.now += 959
        other = TaskStore(network.client, clock=clock)
        network.plan(
            "update_item", after(lambda: other.claim_task("task-1", "mine", clock.now + 600))
        )
        assert late_reader.get_task("task-1", PUBLIC_OWNER)["status"] == "processing"
        assert messages(seen(store)) == COMPLETED[:3]

    def test_a_task_that_is_gone_without_a_tombstone_is_not_said_to_be_deleted(
        self, store: TaskStore, clock: Clock, network: Network
    ):
        """Time to live removed it, or somebody at the console: nothing keeps its id."""
        create(store)
        clock.now += 961
        seen(store)
        key = {"id": {"S": "task-1"}}
        remove = network.client.delete_item
        network.plan(
            "transact_write_items", after(lambda: remove(TableName=store.table_name, Key=key))
        )
        with pytest.raises(TaskNotFound):
            store.delete_task("task-1", PUBLIC_OWNER)

    def test_a_task_whose_cancellation_is_requested_in_between_ends_as_cancelled(
        self, store: TaskStore, clock: Clock, network: Network
    ):
        """The reader judged the deadline of the worker; who cancels has a clock behind its own."""
        create(store)
        store.claim_task("task-1", "mine", NOW + 600)
        late_reader = TaskStore(network, store.table_name, clock=lambda: NOW + 661)
        clock.now += 659
        other = TaskStore(network.client, clock=clock)
        network.plan("update_item", after(lambda: other.cancel_task("task-1", PUBLIC_OWNER)))
        assert late_reader.get_task("task-1", PUBLIC_OWNER)["error_code"] == "cancelled"

    def test_a_reader_whose_clock_is_behind_does_not_turn_the_timeline_round(
        self, store: TaskStore, clock: Clock
    ):
        claim = claimed(store, seconds=10)
        claim.timeline.add_progress(timestamp(NOW + 900), "From a worker whose clock is ahead")
        store.record_progress(claim)
        clock.now = NOW + 71
        task = seen(store)
        assert task["status"] == "error"
        assert runs_forward(task)


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def forget(self) -> Any:
        dynamodb_helpers.task_store.cache_clear()
        yield
        dynamodb_helpers.task_store.cache_clear()

    @pytest.mark.parametrize("value", ["", "other-tasks"])
    def test_the_table_is_the_one_that_is_named_or_valro_tasks(
        self, monkeypatch: pytest.MonkeyPatch, value: str
    ):
        monkeypatch.setenv("DYNAMODB_TABLE_NAME", value)
        assert dynamodb_helpers.task_store().table_name == (value or "valro-tasks")

    @pytest.mark.parametrize("value,days", [("", 0), ("0", 0), ("30", 30)])
    def test_tasks_are_kept_as_long_as_is_said_or_for_ever(
        self, monkeypatch: pytest.MonkeyPatch, table_name: str, value: str, days: int
    ):
        monkeypatch.setenv("TASK_TTL_DAYS", value)
        store = dynamodb_helpers.task_store()
        task = create(store)
        kept = task.get("expires_at", 0) - int(epoch(task["created_at"])) if days else 0
        assert kept == days * 86_400
        assert ("expires_at" in task) == bool(days)

    def test_a_region_is_not_needed(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("AWS_REGION")
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        assert aws.aws_client("dynamodb").meta.region_name == "us-east-1"

    def test_a_hung_dynamodb_leaves_a_post_within_the_apis_30_seconds(self):
        config = aws.CLIENT_CONFIG
        attempts = config.retries["total_max_attempts"]
        one_call = attempts * (config.connect_timeout + config.read_timeout) + (attempts - 1)
        assert 3 * one_call < 30


class TestLog:
    def test_a_line_is_one_json_object_on_stderr_without_a_status(
        self, capsys: pytest.CaptureFixture[str]
    ):
        aws.log("INFO", "said\nin two lines", outcome="x", detail=ValueError("é%s"))
        captured = capsys.readouterr()
        assert captured.out == ""
        (line,) = captured.err.splitlines()
        assert json.loads(line) == {
            "level": "INFO",
            "message": "said\nin two lines",
            "outcome": "x",
            "detail": "é%s",
        }
