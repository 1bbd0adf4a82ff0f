"""What the task store promises: at most one agent run, an end for every task, whole answers.

A network that loses answers is played by ``Network``, which stands between the store and moto.
"""

import base64
import functools
import json
import random
import string
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import dynamodb_helpers
from dynamodb_helpers import (
    CancelRequested,
    Claim,
    ClaimLost,
    NotAccepted,
    TaskNotClaimable,
    TaskNotFinal,
    TaskNotFound,
    TaskStore,
)
from valro import aws, dynamodb_pages, tasks
from valro.dynamodb_items import TABLE_DEFINITION, InvalidCursor, decode_cursor, encode_cursor
from valro.dynamodb_pages import StoreBusy
from valro.tasks import (
    CHUNK_CHARACTERS,
    DEADLINE_MARGIN_SECONDS,
    MAX_AGENT_EVENT_BYTES,
    MAX_AGENT_EVENTS,
    MAX_ANSWER_BYTES,
    MAX_ANSWER_RESPONSE_BYTES,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_INLINE_ANSWER_BYTES,
    MAXIMUM_EVENT_AGE_SECONDS,
    PUBLIC_OWNER,
    InvalidDescription,
    Outcome,
    Report,
    clean_description,
    epoch,
    fit_answer,
    is_task_id,
    make_event,
    timestamp,
)

NOW = 1_761_912_000.0
BARE_TABLE = "bare-tasks"
ITEM_LIMIT = 400 * 1024
ANSWER: dict[str, Any] = {
    "agent_response": "I've contacted 3 landscaping vendors",
    "vendors": [{"name": "Queen City Lawns", "price": 275.5, "emails": []}],
    "quotes": [{"vendor": "Queen City Lawns", "amount": 275.5}],
    "emails_sent": 3,
}
LONG = {"agent_response": "x" * 400_000}
COMPLETED = [
    "Task created",
    "Worker Lambda invoked - processing started",
    "Agent processing started",
    "Agent completed task successfully",
]


class Clock:
    """Epoch seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Network:
    """A DynamoDB client on a network that can lose an answer, resend a request, or let others in.

    Each plan is for one operation's next call only; ``always`` is for every other one.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.plans: dict[str, list[Callable[..., Any]]] = {}
        self.always: dict[str, Callable[..., Any]] = {}
        self.writes: list[str] = []

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        real = getattr(self.client, operation)

        def call(**request: Any) -> Any:
            if operation in ("put_item", "update_item", "transact_write_items"):
                self.writes.append(operation)
            plans = self.plans.get(operation)
            happening = plans.pop(0) if plans else self.always.get(operation, arrives)
            return happening(real, request)

        return call

    def plan(self, operation: str, happening: Callable[..., Any]) -> None:
        self.plans.setdefault(operation, []).append(happening)


def arrives(real: Callable[..., Any], request: dict[str, Any]) -> Any:
    """Nothing happens to this one."""
    return real(**request)


def answer_lost(real: Callable[..., Any], request: dict[str, Any]) -> Any:
    """DynamoDB does the write; the caller never learns."""
    real(**request)
    raise ReadTimeoutError(endpoint_url="https://dynamodb")


def request_lost(_real: Callable[..., Any], _request: dict[str, Any]) -> Any:
    """The request never arrives."""
    raise ReadTimeoutError(endpoint_url="https://dynamodb")


def resent(real: Callable[..., Any], request: dict[str, Any]) -> Any:
    """The answer is lost, and botocore sends the same request again."""
    real(**request)
    return real(**request)


def throttled(_real: Callable[..., Any], _request: dict[str, Any]) -> Any:
    raise ClientError(
        {"Error": {"Code": "ThrottlingException", "Message": "Slow down"}}, "AnyOperation"
    )


def too_large(_real: Callable[..., Any], _request: dict[str, Any]) -> Any:
    message = "Item size has exceeded the maximum allowed size"
    raise ClientError({"Error": {"Code": "ValidationException", "Message": message}}, "UpdateItem")


def too_large_together(_real: Callable[..., Any], _request: dict[str, Any]) -> Any:
    """What a transaction says of the same."""
    error = {"Code": "TransactionCanceledException", "Message": "Transaction cancelled"}
    reasons = [{"Code": "None"}, {"Code": "ValidationError", "Message": "Item size"}]
    raise ClientError({"Error": error, "CancellationReasons": reasons}, "TransactWriteItems")


def after(action: Callable[[], Any]) -> Callable[..., Any]:
    """Somebody else is faster: ``action`` happens just before the request arrives."""

    def happening(real: Callable[..., Any], request: dict[str, Any]) -> Any:
        action()
        return real(**request)

    return happening


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def network(dynamodb: Any, table_name: str) -> Network:
    return Network(dynamodb)


@pytest.fixture
def store(network: Network, table_name: str, clock: Clock) -> TaskStore:
    return TaskStore(network, table_name, clock=clock, sleep=lambda _: None)


@pytest.fixture
def bare(dynamodb: Any, clock: Clock) -> TaskStore:
    """A store on the table that is made by hand with a key and nothing else."""
    dynamodb.create_table(
        TableName=BARE_TABLE,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    network = Network(dynamodb)
    network.always["query"] = no_index
    return TaskStore(network, BARE_TABLE, clock=clock, sleep=lambda _: None)


def create(store: TaskStore, task_id: str = "task-1", owner: str = PUBLIC_OWNER) -> dict[str, Any]:
    task, _ = store.create_task(task_id, "Find me a painter", owner)
    return task


def claimed(store: TaskStore, task_id: str = "task-1", seconds: float = 600) -> Claim:
    """A task that one worker has just claimed, with ``seconds`` left to run."""
    create(store, task_id)
    return store.claim_task(task_id, f"token-of-{task_id}", store.clock() + seconds)


def stored(store: TaskStore, task_id: str = "task-1") -> dict[str, Any]:
    """What the table holds, as DynamoDB types."""
    client = store.client.client
    item: dict[str, Any] = client.get_item(
        TableName=store.table_name, Key={"id": {"S": task_id}}
    ).get("Item", {})
    return item


def everything(store: TaskStore) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = store.client.client.scan(TableName=store.table_name)["Items"]
    return items


def seen(store: TaskStore, task_id: str = "task-1") -> dict[str, Any]:
    """What a reader gets, answer and all."""
    return store.with_answer(store.get_task(task_id, PUBLIC_OWNER))


def seen_by(store: TaskStore, owner: str, task_id: str = "task-1") -> dict[str, Any]:
    return store.get_task(task_id, owner)


def messages(task: dict[str, Any]) -> list[str]:
    return [event["message"] for event in task["events"]]


def runs_forward(task: dict[str, Any]) -> bool:
    times = [event["ts"] for event in task["events"]]
    return times == sorted(times) and task["created_at"] <= times[0] <= task["updated_at"]


@functools.cache
def noise(characters: int, alphabet: str = string.printable) -> str:
    return "".join(random.Random(7).choices(alphabet, k=characters))


def no_index(real: Callable[..., Any], request: dict[str, Any]) -> Any:
    """AWS's answer to a Query of an index that is not there; moto's has another code."""
    message = f"The table does not have the specified index: {request['IndexName']}"
    raise ClientError({"Error": {"Code": "ValidationException", "Message": message}}, "Query")


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

    def test_a_resent_creation_is_recognised_as_its_own(self, store: TaskStore, network: Network):
        network.plan("put_item", resent)
        task, created = store.create_task("task-1", "Find me a painter")
        assert created
        assert seen(store) == task

    def test_a_creation_whose_answer_was_lost_is_found_by_the_next_try(
        self, store: TaskStore, network: Network
    ):
        network.plan("put_item", answer_lost)
        with pytest.raises(ReadTimeoutError):
            create(store)
        task, created = store.create_task("task-1", "Find me a painter")
        assert not created
        assert task["status"] == "pending"

    def test_the_second_comer_finds_an_overdue_task_ended(self, store: TaskStore, clock: Clock):
        create(store)
        clock.now += 961
        task, created = store.create_task("task-1", "Find me a painter")
        assert not created
        assert task["status"] == "error"

    def test_an_error_that_is_no_refusal_goes_through(self, store: TaskStore, network: Network):
        network.plan("put_item", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            create(store)
        assert stored(store) == {}

    def test_a_fingerprint_is_kept_for_whoever_compares(self, store: TaskStore):
        store.create_task("task-1", "Find me a painter", fingerprint="abc")
        again, _ = store.create_task("task-1", "Find me a painter")
        assert again["fingerprint"] == "abc"

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

    def test_the_deadline_becomes_the_functions_end_and_a_margin(self, store: TaskStore):
        create(store)
        store.claim_task("task-1", "mine", NOW + 600)
        assert seen(store)["deadline"] == timestamp(NOW + 600 + DEADLINE_MARGIN_SECONDS)

    def test_of_two_workers_one_wins(self, store: TaskStore):
        claimed(store)
        before = stored(store)
        with pytest.raises(TaskNotClaimable) as refusal:
            store.claim_task("task-1", "theirs", NOW + 600)
        assert refusal.value.task["status"] == "processing"
        assert stored(store) == before

    def test_a_resent_claim_is_still_held(self, store: TaskStore, network: Network):
        create(store)
        network.plan("update_item", resent)
        claim = store.claim_task("task-1", "mine", NOW + 600)
        store.end_task(claim, Outcome.of(ANSWER))
        assert messages(seen(store)) == COMPLETED

    def test_a_claim_whose_answer_was_lost_is_held_by_the_same_token(
        self, store: TaskStore, network: Network
    ):
        create(store)
        network.plan("update_item", answer_lost)
        with pytest.raises(ReadTimeoutError):
            store.claim_task("task-1", "mine", NOW + 600)
        claim = store.claim_task("task-1", "mine", NOW + 600)
        store.end_task(claim, Outcome.of(ANSWER))
        assert messages(seen(store)) == COMPLETED

    def test_a_lost_answer_does_not_give_another_worker_the_claim(
        self, store: TaskStore, network: Network
    ):
        create(store)
        network.plan("update_item", answer_lost)
        with pytest.raises(ReadTimeoutError):
            store.claim_task("task-1", "mine", NOW + 600)
        with pytest.raises(TaskNotClaimable):
            store.claim_task("task-1", "theirs", NOW + 600)

    @pytest.mark.parametrize("end", ["complete", "fail"])
    def test_a_final_task_is_never_claimed_not_even_with_its_own_token(
        self, store: TaskStore, end: str
    ):
        claim = claimed(store)
        if end == "complete":
            store.end_task(claim, Outcome.of(ANSWER))
        else:
            store.end_task(claim, Outcome.of({}, "agent_failed", "No vendors"))
        before = stored(store)
        for token in (claim.token, "theirs"):
            with pytest.raises(TaskNotClaimable):
                store.claim_task("task-1", token, NOW + 600)
        assert stored(store) == before

    def test_a_task_that_is_not_there_is_not_found(self, store: TaskStore):
        with pytest.raises(TaskNotFound, match="task-1"):
            store.claim_task("task-1", "mine", NOW + 600)
        assert everything(store) == []

    def test_an_error_that_is_no_refusal_goes_through(self, store: TaskStore, network: Network):
        create(store)
        network.plan("update_item", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            store.claim_task("task-1", "mine", NOW + 600)
        assert seen(store)["status"] == "pending"

    def test_it_is_possible_until_just_before_the_deadline(self, store: TaskStore, clock: Clock):
        create(store)
        clock.now = NOW + 960 - 0.000_001
        store.claim_task("task-1", "mine", clock.now + 600)
        assert seen(store)["status"] == "processing"

    @pytest.mark.parametrize("late", [0, 0.000_001, 3600])
    def test_from_the_deadline_on_it_is_refused(self, store: TaskStore, clock: Clock, late: float):
        """A reader may show the task as given up at any moment from then on."""
        create(store)
        clock.now = NOW + 960 + late
        with pytest.raises(TaskNotClaimable):
            store.claim_task("task-1", "mine", clock.now + 600)
        assert stored(store)["status"] == {"S": "pending"}

    def test_a_worker_whose_clock_is_behind_does_not_turn_the_timeline_round(
        self, store: TaskStore, clock: Clock
    ):
        task = create(store)
        clock.now -= 2
        claim = store.claim_task("task-1", "mine", NOW + 600, task["created_at"])
        claim.timeline.add_progress(timestamp(clock.now), "Looking for painters")
        store.end_task(claim, Outcome.of(ANSWER))
        task = seen(store)
        assert runs_forward(task)
        assert task["updated_at"] == timestamp(NOW)


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

    @pytest.mark.parametrize("loss", [answer_lost, request_lost])
    @pytest.mark.parametrize("later", [0, 2])
    def test_lines_of_a_failed_write_stand_once_whether_it_had_arrived_or_not(
        self, store: TaskStore, network: Network, loss: Callable[..., Any], later: int
    ):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "first")
        claim.timeline.add_progress(timestamp(NOW), "second")
        network.plan("update_item", loss)
        with pytest.raises(ReadTimeoutError):
            store.record_progress(claim)
        for number in range(later):
            claim.timeline.add_progress(timestamp(NOW), f"later {number}")
        store.record_progress(claim)
        assert messages(seen(store))[3:] == ["first", "second", "later 0", "later 1"][: 2 + later]

    @pytest.mark.parametrize("loss", [answer_lost, request_lost])
    def test_lines_of_a_failed_write_ride_in_the_outcome(
        self, store: TaskStore, network: Network, loss: Callable[..., Any]
    ):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "first")
        network.plan("update_item", loss)
        with pytest.raises(ReadTimeoutError):
            store.record_progress(claim)
        claim.timeline.add_progress(timestamp(NOW), "second")
        store.end_task(claim, Outcome.of(ANSWER))
        assert messages(seen(store)) == [*COMPLETED[:3], "first", "second", COMPLETED[3]]

    def test_lines_ride_in_an_outcome_too_large_for_one_item(
        self, store: TaskStore, network: Network
    ):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "first")
        network.plan("update_item", answer_lost)
        with pytest.raises(ReadTimeoutError):
            store.record_progress(claim)
        claim.timeline.add_progress(timestamp(NOW), "second")
        store.end_task(claim, Outcome.of({"agent_response": noise(MAX_INLINE_ANSWER_BYTES + 1)}))
        assert messages(seen(store)) == [*COMPLETED[:3], "first", "second", COMPLETED[3]]

    def test_a_resent_write_appends_its_lines_once(self, store: TaskStore, network: Network):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "first")
        network.plan("update_item", resent)
        store.record_progress(claim)
        claim.timeline.add_progress(timestamp(NOW), "second")
        store.record_progress(claim)
        assert messages(seen(store))[3:] == ["first", "second"]

    def test_two_lost_answers_in_a_row_lose_and_double_nothing(
        self, store: TaskStore, network: Network
    ):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "first")
        network.plan("update_item", answer_lost)
        with pytest.raises(ReadTimeoutError):
            store.record_progress(claim)
        claim.timeline.add_progress(timestamp(NOW), "second")
        # The next write meets the first one's line; the one after it goes on behind that line.
        network.plan("update_item", arrives)
        network.plan("update_item", answer_lost)
        with pytest.raises(ReadTimeoutError):
            store.record_progress(claim)
        store.end_task(claim, Outcome.of(ANSWER))
        assert messages(seen(store)) == [*COMPLETED[:3], "first", "second", COMPLETED[3]]

    def test_a_task_that_ended_meanwhile_takes_no_more_lines(self, store: TaskStore, clock: Clock):
        claim = claimed(store)
        clock.now += 700
        ended = seen(store)
        claim.timeline.add_progress(timestamp(clock.now), "Still here")
        with pytest.raises(ClaimLost) as lost:
            store.record_progress(claim)
        assert lost.value.task == ended
        assert seen(store) == ended

    def test_a_deleted_task_takes_no_more_lines(self, store: TaskStore, dynamodb: Any):
        claim = claimed(store)
        dynamodb.delete_item(TableName=store.table_name, Key={"id": {"S": "task-1"}})
        claim.timeline.add_progress(timestamp(NOW), "Still here")
        with pytest.raises(ClaimLost, match="gone"):
            store.record_progress(claim)
        assert everything(store) == []

    def test_an_error_that_is_no_refusal_goes_through_and_keeps_the_lines(
        self, store: TaskStore, network: Network
    ):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "first")
        network.plan("update_item", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            store.record_progress(claim)
        assert [event["message"] for event in claim.timeline.unwritten] == ["first"]

    def test_a_clock_that_is_set_back_does_not_turn_the_timeline_round(self, store: TaskStore):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW + 10), "later")
        claim.timeline.add_progress(timestamp(NOW - 10), "earlier")
        store.record_progress(claim)
        assert runs_forward(seen(store))

    def test_after_200_lines_one_says_that_no_more_are_kept(self, store: TaskStore):
        claim = claimed(store)
        for number in range(MAX_AGENT_EVENTS + 50):
            claim.timeline.add_progress(timestamp(NOW), f"line {number}")
        store.end_task(claim, Outcome.of(ANSWER))
        said = messages(seen(store))[3:-1]
        assert said[:-1] == [f"line {number}" for number in range(MAX_AGENT_EVENTS)]
        assert said[-1] == "further progress not recorded"

    def test_exactly_200_lines_are_kept_and_no_more_is_said(self, store: TaskStore):
        claim = claimed(store)
        for number in range(MAX_AGENT_EVENTS):
            claim.timeline.add_progress(timestamp(NOW), f"line {number}")
        store.end_task(claim, Outcome.of(ANSWER))
        assert messages(seen(store))[-2] == f"line {MAX_AGENT_EVENTS - 1}"

    def test_the_cap_counts_across_writes(self, store: TaskStore):
        claim = claimed(store)
        for number in range(MAX_AGENT_EVENTS + 5):
            claim.timeline.add_progress(timestamp(NOW), f"line {number}")
            if number % 40 == 0:
                store.record_progress(claim)
        store.end_task(claim, Outcome.of(ANSWER))
        said = messages(seen(store))[3:-1]
        assert len(said) == MAX_AGENT_EVENTS + 1
        assert said.count("further progress not recorded") == 1

    @pytest.mark.parametrize("character", ["x", "\U0001f3e1"])
    def test_the_lines_weigh_64_kb_at_most(self, store: TaskStore, character: str):
        claim = claimed(store)
        for _ in range(MAX_AGENT_EVENTS):
            claim.timeline.add_progress(timestamp(NOW), character * 1000)
        store.end_task(claim, Outcome.of(ANSWER))
        said = messages(seen(store))[3:-1]
        assert said[-1] == "further progress not recorded"
        weight = sum(len(message.encode()) for message in said)
        assert MAX_AGENT_EVENT_BYTES * 0.9 < weight <= MAX_AGENT_EVENT_BYTES

    def test_a_line_is_cut_at_1000_characters(self, store: TaskStore):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "é" * 1001)
        store.record_progress(claim)
        assert messages(seen(store))[-1] == "é" * 1000


class TestComplete:
    def test_three_writes_take_a_task_from_nothing_to_completed(
        self, store: TaskStore, network: Network
    ):
        store.end_task(claimed(store), Outcome.of(ANSWER))
        assert network.writes == ["put_item", "update_item", "update_item"]
        task = seen(store)
        assert messages(task) == COMPLETED
        assert [event["type"] for event in task["events"]] == ["info", "info", "info", "success"]
        assert task["status"] == "completed"

    def test_the_answer_comes_back_as_it_was(self, store: TaskStore):
        store.end_task(claimed(store), Outcome.of(ANSWER))
        task = seen(store)
        assert {name: task[name] for name in ANSWER} == ANSWER

    @pytest.mark.parametrize("answer", [ANSWER, ANSWER | {"agent_response": noise(400_000)}])
    def test_a_resent_completion_is_recognised_as_its_own(
        self, store: TaskStore, network: Network, answer: dict[str, Any]
    ):
        claim = claimed(store)
        network.plan("update_item", resent)
        network.plan("transact_write_items", resent)
        store.end_task(claim, Outcome.of(answer))
        task = seen(store)
        assert messages(task) == COMPLETED
        assert task["agent_response"] == answer["agent_response"]

    @pytest.mark.parametrize("loss", [answer_lost, request_lost])
    @pytest.mark.parametrize("answer", [ANSWER, ANSWER | {"agent_response": noise(400_000)}])
    def test_a_completion_is_tried_again_whether_it_had_arrived_or_not(
        self, store: TaskStore, network: Network, loss: Callable[..., Any], answer: dict[str, Any]
    ):
        claim = claimed(store)
        network.plan("update_item", loss)
        network.plan("transact_write_items", loss)
        with pytest.raises(ReadTimeoutError):
            store.end_task(claim, Outcome.of(answer))
        store.end_task(claim, Outcome.of(answer))
        task = seen(store)
        assert messages(task) == COMPLETED
        assert task["agent_response"] == answer["agent_response"]

    @pytest.mark.parametrize("answer", [ANSWER, ANSWER | {"agent_response": noise(400_000)}])
    def test_an_answer_after_the_deadline_was_read_is_refused_whole(
        self, store: TaskStore, clock: Clock, answer: dict[str, Any]
    ):
        """Final means final, and no chunk of the late answer is left behind."""
        claim = claimed(store)
        clock.now += 661
        ended = seen(store)
        with pytest.raises(ClaimLost) as lost:
            store.end_task(claim, Outcome.of(answer))
        assert lost.value.task == ended
        assert [item["id"] for item in everything(store)] == [{"S": "task-1"}]
        assert seen(store) == ended

    def test_an_answer_after_the_deadline_counts_while_nobody_has_read_the_task(
        self, store: TaskStore, clock: Clock
    ):
        claim = claimed(store)
        clock.now += 3600
        store.end_task(claim, Outcome.of(ANSWER))
        assert seen(store)["status"] == "completed"

    def test_a_foreign_claim_writes_nothing(self, store: TaskStore):
        claim = claimed(store)
        foreign = Claim(claim.task, "theirs", claim.timeline)
        before = stored(store)
        with pytest.raises(ClaimLost):
            store.end_task(foreign, Outcome.of(ANSWER))
        with pytest.raises(ClaimLost):
            store.end_task(foreign, Outcome.of({}, "agent_failed", "No vendors"))
        assert stored(store) == before

    def test_a_task_that_failed_by_the_same_claim_is_not_completed(self, store: TaskStore):
        claim = claimed(store)
        store.end_task(claim, Outcome.of({}, "agent_failed", "No vendors"))
        before = stored(store)
        with pytest.raises(ClaimLost):
            store.end_task(claim, Outcome.of(ANSWER))
        assert stored(store) == before

    def test_a_deleted_task_is_not_made_again(self, store: TaskStore, dynamodb: Any):
        claim = claimed(store)
        dynamodb.delete_item(TableName=store.table_name, Key={"id": {"S": "task-1"}})
        with pytest.raises(ClaimLost, match="gone"):
            store.end_task(claim, Outcome.of(ANSWER | {"agent_response": noise(400_000)}))
        assert everything(store) == []

    @pytest.mark.parametrize("operation", ["update_item", "transact_write_items"])
    def test_an_error_that_is_no_refusal_goes_through(
        self, store: TaskStore, network: Network, operation: str
    ):
        claim = claimed(store)
        network.plan(operation, throttled)
        size = 10 if operation == "update_item" else 400_000
        with pytest.raises(ClientError, match="Slow down"):
            store.end_task(claim, Outcome.of({"agent_response": "x" * size}))
        assert seen(store)["status"] == "processing"


class TestFail:
    def test_the_error_is_told_in_the_status_the_field_and_the_timeline(self, store: TaskStore):
        store.end_task(claimed(store), Outcome.of({}, "agent_failed", "The agent found nobody"))
        task = seen(store)
        assert task["status"] == "error"
        assert task["error_message"] == "The agent found nobody"
        assert messages(task) == [*COMPLETED[:3], "Agent error: The agent found nobody"]
        assert task["events"][-1]["type"] == "error"

    def test_what_the_agent_had_answered_is_kept(self, store: TaskStore):
        store.end_task(claimed(store), Outcome.of(ANSWER, "agent_failed", "The stream was cut"))
        task = seen(store)
        assert task["status"] == "error"
        assert {name: task[name] for name in ANSWER} == ANSWER

    def test_a_large_part_of_an_answer_is_kept_too(self, store: TaskStore):
        text = noise(MAX_INLINE_ANSWER_BYTES + 1)
        store.end_task(
            claimed(store),
            Outcome.of({"agent_response": text}, "agent_failed", "The stream was cut"),
        )
        task = seen(store)
        assert task["status"] == "error"
        assert task["agent_response"] == text

    @pytest.mark.parametrize("loss", [answer_lost, request_lost])
    def test_a_failure_is_tried_again_whether_it_had_arrived_or_not(
        self, store: TaskStore, network: Network, loss: Callable[..., Any]
    ):
        claim = claimed(store)
        network.plan("update_item", loss)
        with pytest.raises(ReadTimeoutError):
            store.end_task(claim, Outcome.of({}, "agent_failed", "No vendors"))
        store.end_task(claim, Outcome.of({}, "agent_failed", "No vendors"))
        assert messages(seen(store)) == [*COMPLETED[:3], "Agent error: No vendors"]

    def test_a_reader_that_gave_the_task_up_first_is_told_from_the_workers_own_failure(
        self, store: TaskStore, clock: Clock
    ):
        """Both end in error: only the claim, which expiry takes away, tells whose end it was."""
        claim = claimed(store)
        clock.now += 661
        ended = seen(store)
        with pytest.raises(ClaimLost) as lost:
            store.end_task(claim, Outcome.of(ANSWER, "agent_failed", "No vendors"))
        assert lost.value.task == ended
        assert seen(store) == ended

    def test_a_completed_task_does_not_fail(self, store: TaskStore):
        claim = claimed(store)
        store.end_task(claim, Outcome.of(ANSWER))
        before = stored(store)
        with pytest.raises(ClaimLost):
            store.end_task(claim, Outcome.of({}, "agent_failed", "No vendors"))
        assert stored(store) == before

    def test_a_long_message_is_cut_to_2000_characters_and_its_event_to_1000(self, store: TaskStore):
        store.end_task(claimed(store), Outcome.of({}, "agent_failed", "é" * 5000))
        task = seen(store)
        assert task["error_message"] == "é" * 2000
        assert task["events"][-1]["message"] == f"Agent error: {'é' * 5000}"[:1000]


def accepted(store: TaskStore, **more: Any) -> Claim:
    """A task whose agent has said that it works on and reports."""
    claim = claimed(store, **more)
    store.accept_task(claim)
    return claim


def reported(
    store: TaskStore, report_id: str, *lines: str, outcome: Outcome | None = None
) -> dict[str, Any]:
    """What a task is after a report as the API takes it: read, then judged."""
    return store.report(store.find_task("task-1"), Report(report_id, lines, outcome))


def cancelled(store: TaskStore, task_id: str = "task-1") -> dict[str, Any]:
    return store.cancel_task(task_id, PUBLIC_OWNER)


def tombstone(store: TaskStore, clock: Clock, days: int = 0) -> None:
    """A task that was cancelled while it waited, and then deleted."""
    store.ttl_days = days
    create(store)
    cancelled(store)
    store.delete_task("task-1", PUBLIC_OWNER)


def deleted(store: TaskStore) -> None:
    store.delete_task("task-1", PUBLIC_OWNER)


def conflict(_real: Any, request: dict[str, Any]) -> Any:
    """Another transaction is at the item just then."""
    if "TransactItems" in request:
        reasons = [{"Code": "TransactionConflict"}, *[{"Code": "None"}] * 2]
        error = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
    else:
        error = {"Error": {"Code": "TransactionConflictException"}}
    raise ClientError(error, "AnyOperation")


@pytest.mark.parametrize(
    "operation, act",
    [
        ("put_item", create),
        ("update_item", cancelled),
        ("update_item", lambda store: reported(store, "end", outcome=Outcome.of(ANSWER))),
        ("transact_write_items", lambda store: reported(store, "end", outcome=Outcome.of(LONG))),
        ("transact_write_items", deleted),
    ],
)
def test_a_write_that_meets_a_transaction_is_tried_again_like_a_throttled_one(
    store: TaskStore, network: Network, operation: str, act: Callable[[TaskStore], Any]
):
    if operation != "put_item":
        accepted(store)
    if act is deleted:
        reported(store, "end", outcome=Outcome.of(ANSWER))
    for conflicts, outcome in ((5, pytest.raises(ClientError)), (4, nullcontext())):
        network.writes.clear()
        for _ in range(conflicts):
            network.plan(operation, conflict)
        with outcome:
            act(store)
        assert network.writes == [operation] * 5


ENDED_BY_WORKER = {
    "completed": Outcome.of(ANSWER),
    "failed": Outcome.of({}, "agent_failed", "No."),
    "not started": Outcome.of({}, "not_started", "No."),
}


@pytest.mark.parametrize("is_cancelled", [False, True])
@pytest.mark.parametrize(
    "how, end",
    [
        ("dispatch", ("dispatch_failed", False)),
        ("pending", ("not_started", False)),
        ("processing", ("worker_lost", True)),
        ("reporting", ("agent_lost", True)),
        ("completed", (None, None)),
        ("failed", ("agent_failed", True)),
        ("not started", ("not_started", False)),
        ("reported", ("agent_failed", True)),
    ],
)
def test_every_end_says_when_the_run_began_and_ended_and_whether_the_agent_may_have_acted(
    store: TaskStore,
    clock: Clock,
    how: str,
    end: tuple[str | None, bool | None],
    is_cancelled: bool,
):
    create(store)
    clock.now += 1
    claim = None if how in ("dispatch", "pending") else store.claim_task("task-1", "t", NOW + 600)
    if claim and how.startswith("report"):
        store.accept_task(claim)
    clock.now += 1
    if is_cancelled:
        cancelled(store)
        end = ("cancelled", how not in ("dispatch", "pending", "not started"))
    clock.now += 1
    if how == "dispatch":
        store.fail_pending_task("task-1", "Error invoking worker", "No.", "dispatch_failed")
    elif how == "reported":
        reported(store, "end", outcome=ENDED_BY_WORKER["failed"])
    elif claim and how in ENDED_BY_WORKER:
        outcome = ENDED_BY_WORKER[how]
        store.end_task(claim, outcome.cancelled() if is_cancelled else outcome)
    else:
        clock.now += 1_000
    task = seen(store)
    assert (task.get("error_code"), task.get("may_have_acted")) == end
    assert task.get("started_at") == (timestamp(NOW + 1) if claim else None)
    assert task["completed_at"] == task["events"][-1]["ts"] == task["updated_at"]
    (listed,), _ = store.list_tasks(PUBLIC_OWNER, 1)
    names = ("may_have_acted", "started_at", "completed_at")
    assert [listed.get(name) for name in names] == [task.get(name) for name in names]


class TestConfirm:
    def test_it_succeeds_while_the_task_waits_for_its_agent_and_shows_nothing(
        self, store: TaskStore
    ):
        claim = claimed(store)
        before = stored(store)
        store.confirm_claim(claim)
        assert stored(store) == before

    def test_a_resent_one_succeeds(self, store: TaskStore, network: Network):
        claim = claimed(store)
        network.plan("update_item", resent)
        store.confirm_claim(claim)

    def test_it_is_refused_once_a_cancellation_was_requested(self, store: TaskStore):
        claim = claimed(store)
        cancelled(store)
        with pytest.raises(CancelRequested):
            store.confirm_claim(claim)

    def test_it_is_refused_past_the_deadline_though_nobody_has_looked(
        self, store: TaskStore, clock: Clock
    ):
        claim = claimed(store)
        clock.now += 660
        with pytest.raises(ClaimLost):
            store.confirm_claim(claim)
        clock.now -= 0.001
        store.confirm_claim(claim)

    def test_it_is_refused_once_a_reader_has_ended_the_task(self, store: TaskStore, clock: Clock):
        claim = claimed(store)
        clock.now += 661
        seen(store)
        with pytest.raises(ClaimLost):
            store.confirm_claim(claim)

    def test_a_foreign_claim_or_a_deleted_task_is_refused(self, store: TaskStore):
        claim = claimed(store)
        with pytest.raises(ClaimLost):
            store.confirm_claim(Claim(claim.task, "theirs", claim.timeline))
        store.end_task(claim, Outcome.of(ANSWER))
        store.delete_task("task-1", PUBLIC_OWNER)
        with pytest.raises(ClaimLost) as lost:
            store.confirm_claim(claim)
        assert lost.value.task is None

    def test_an_error_that_is_no_refusal_goes_through(self, store: TaskStore, network: Network):
        claim = claimed(store)
        network.plan("update_item", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            store.confirm_claim(claim)

    def test_a_claim_says_whether_its_own_write_was_answered(
        self, store: TaskStore, network: Network
    ):
        """Found again it may be as old as the outage."""
        assert claimed(store).is_fresh
        create(store, "task-2")
        network.plan("update_item", resent)
        assert not store.claim_task("task-2", "mine", NOW + 600).is_fresh


@pytest.mark.parametrize("status", [403, 424, 500, 502, 503])
@pytest.mark.parametrize(
    "code", ["ConditionalCheckFailedException", "TransactionCanceledException"]
)
def test_a_refusal_under_a_status_of_somebody_elses_refuses_nothing(
    store: TaskStore, network: Network, status: int, code: str
):
    """Whoever stands in between can answer, and its body can have any code."""
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    response["CancellationReasons"] = [{"Code": "ConditionalCheckFailed"}]

    def refuse(*_: Any) -> None:
        raise ClientError(response, "UpdateItem")

    claim = claimed(store)
    for operation, write in (
        ("put_item", lambda: create(store)),
        ("update_item", lambda: store.claim_task("task-1", "theirs", NOW + 600)),
        ("update_item", lambda: store.end_task(claim, Outcome.of({"agent_response": "Done"}))),
        ("transact_write_items", lambda: store.delete_task("task-1", PUBLIC_OWNER)),
    ):
        network.plan(operation, refuse)
        with pytest.raises(ClientError):
            write()
        store.end_task(claim, Outcome.of({"agent_response": "Done"}))
    assert seen(store)["agent_response"] == "Done"


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

    @pytest.mark.parametrize("happening", [answer_lost, request_lost, resent])
    def test_it_is_tried_again_whether_it_had_arrived_or_not(
        self, store: TaskStore, network: Network, happening: Any
    ):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "one")
        network.plan("update_item", happening)
        try:
            store.accept_task(claim)
        except ReadTimeoutError:
            store.accept_task(claim)
        assert messages(seen(store))[3:] == ["one"]
        assert "last_report" in stored(store)

    @pytest.mark.parametrize("final", [False, True])
    def test_a_second_try_sets_nothing_back_that_was_reported_meanwhile(
        self, store: TaskStore, network: Network, clock: Clock, final: bool
    ):
        claim = claimed(store)
        network.plan("update_item", answer_lost)
        with pytest.raises(ReadTimeoutError):
            store.accept_task(claim)
        clock.now += 60
        reported(store, "r-1", "found two", outcome=Outcome.of(ANSWER) if final else None)
        before = stored(store)
        store.accept_task(claim)
        assert stored(store) == before

    def test_it_is_refused_once_a_cancellation_was_requested(self, store: TaskStore):
        claim = claimed(store)
        cancelled(store)
        with pytest.raises(CancelRequested):
            store.accept_task(claim)
        assert "last_report" not in stored(store)

    def test_it_is_refused_once_the_task_has_ended(self, store: TaskStore, clock: Clock):
        claim = claimed(store)
        clock.now += 661
        seen(store)
        with pytest.raises(ClaimLost):
            store.accept_task(claim)


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

    @pytest.mark.parametrize("happening", [answer_lost, resent])
    def test_the_same_one_again_is_received_already(
        self, store: TaskStore, network: Network, happening: Any
    ):
        accepted(store)
        network.plan("update_item", happening)
        try:
            reported(store, "r-1", "once")
        except ReadTimeoutError:
            reported(store, "r-1", "once")
        reported(store, "r-2", "twice")
        reported(store, "r-1", "once")
        assert messages(seen(store))[3:] == ["once", "twice"]

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
        reported(store, "r-1", "line 1")
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

    def test_the_cap_of_64_kb_counts_across_reports(self, store: TaskStore):
        accepted(store)
        for number in range(9):
            reported(store, f"r-{number}", *["é" * 1000] * 5)
        said = messages(seen(store))[3:]
        assert len(said) == MAX_AGENT_EVENT_BYTES // 2064 + 1
        assert said[-1] == "further progress not recorded"

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

    @pytest.mark.parametrize("happening", [answer_lost, resent, request_lost])
    @pytest.mark.parametrize("size", [100, 500_000])
    def test_a_last_one_is_the_outcome_once_whatever_the_network_does(
        self, store: TaskStore, network: Network, happening: Any, size: int
    ):
        accepted(store)
        outcome = Outcome.of(ANSWER | {"agent_response": "x" * size})
        network.plan("update_item" if size == 100 else "transact_write_items", happening)
        try:
            reported(store, "end", "last", outcome=outcome)
        except ReadTimeoutError:
            reported(store, "end", "last", outcome=outcome)
        task = seen(store)
        assert task["agent_response"] == "x" * size
        assert messages(task)[3:] == ["last", COMPLETED[-1]]

    def test_after_the_end_nothing_changes_it(self, store: TaskStore):
        accepted(store)
        reported(store, "end", outcome=Outcome.of(ANSWER))
        before = stored(store)
        for outcome in (None, Outcome.of(ANSWER), Outcome.of({}, "agent_failed", "No.")):
            assert reported(store, "late", "late", outcome=outcome)["status"] == "completed"
        assert stored(store) == before

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
        size = 200_000 if kind == "ClientError" else 500_000
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

    def test_an_error_that_is_no_refusal_goes_through(self, store: TaskStore, network: Network):
        accepted(store)
        network.plan("update_item", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            reported(store, "r-1")


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

    @pytest.mark.parametrize("is_running", [False, True])
    def test_a_resent_one_stands_once(self, store: TaskStore, network: Network, is_running: bool):
        _ = claimed(store) if is_running else create(store)
        network.plan("update_item", resent)
        task = cancelled(store)
        assert task["status"] == ("processing" if is_running else "error")
        assert task == seen(store)
        assert ("cancel_requested_at" in task) == is_running

    @pytest.mark.parametrize("is_running", [False, True])
    def test_one_whose_answer_was_lost_is_found_by_the_next_try(
        self, store: TaskStore, network: Network, is_running: bool
    ):
        _ = claimed(store) if is_running else create(store)
        network.plan("update_item", answer_lost)
        with pytest.raises(ReadTimeoutError):
            cancelled(store)
        before = stored(store)
        cancelled(store)
        assert stored(store) == before

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

    @pytest.mark.parametrize("status", ["completed", "error"])
    def test_a_task_that_has_ended_stays_as_it_is(self, store: TaskStore, status: str):
        failure = ("agent_failed", "No.") if status == "error" else ()
        store.end_task(claimed(store), Outcome.of(ANSWER, *failure))
        before = stored(store)
        assert cancelled(store)["status"] == status
        assert stored(store) == before

    def test_what_is_not_there_or_somebody_elses_is_not_found_and_not_touched(
        self, store: TaskStore
    ):
        create(store, owner="jwt#ann")
        for task_id in ("task-1", "task-2", "task-1#0"):
            with pytest.raises(TaskNotFound):
                cancelled(store, task_id)
        assert seen_by(store, "jwt#ann")["status"] == "pending"

    def test_a_clock_that_is_behind_does_not_turn_the_timeline_round(
        self, store: TaskStore, clock: Clock
    ):
        create(store)
        clock.now -= 5
        assert runs_forward(cancelled(store))

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

    @pytest.mark.parametrize("happening", [answer_lost, request_lost, resent])
    @pytest.mark.parametrize("size", [10, 500_000])
    def test_the_end_is_tried_again_whether_it_had_arrived_or_not(
        self, store: TaskStore, network: Network, happening: Any, size: int
    ):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "one")
        cancelled(store)
        outcome = Outcome.of(ANSWER | {"agent_response": "x" * size}).cancelled()
        network.plan("update_item" if size == 10 else "transact_write_items", happening)
        try:
            store.end_task(claim, outcome)
        except ReadTimeoutError:
            store.end_task(claim, outcome)
        task = seen(store)
        assert messages(task)[3:] == ["one", tasks.EXPIRED["cancelled"]]
        assert task["agent_response"] == "x" * size

    def test_lines_that_had_arrived_before_the_request_stand_once(
        self, store: TaskStore, network: Network
    ):
        claim = claimed(store)
        claim.timeline.add_progress(timestamp(NOW), "one")
        network.plan("update_item", answer_lost)
        with pytest.raises(ReadTimeoutError):
            store.record_progress(claim)
        cancelled(store)
        claim.timeline.add_progress(timestamp(NOW), "two")
        with pytest.raises(CancelRequested):
            store.end_task(claim, Outcome.of(ANSWER))
        store.end_task(claim, Outcome.of(ANSWER).cancelled())
        assert messages(seen(store))[3:] == ["one", "two", tasks.EXPIRED["cancelled"]]

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

    def test_an_error_that_is_no_refusal_goes_through(self, store: TaskStore, network: Network):
        create(store)
        network.plan("update_item", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            cancelled(store)
        assert seen(store)["status"] == "pending"


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

    @pytest.mark.parametrize("happening", [resent, answer_lost, request_lost])
    def test_it_is_tried_again_whether_it_had_arrived_or_not(
        self, store: TaskStore, network: Network, happening: Any
    ):
        store.end_task(claimed(store), Outcome.of(ANSWER))
        network.plan("transact_write_items", happening)
        try:
            store.delete_task("task-1", PUBLIC_OWNER)
        except ReadTimeoutError:
            with suppress(TaskNotFound):
                store.delete_task("task-1", PUBLIC_OWNER)
        assert stored(store) == {"id": {"S": "task-1"}, "status": {"S": "deleted"}}

    def test_of_two_at_once_both_are_right(self, store: TaskStore, network: Network):
        create(store)
        cancelled(store)
        other = TaskStore(network.client, store.table_name, clock=store.clock)
        network.plan(
            "transact_write_items", after(lambda: other.delete_task("task-1", PUBLIC_OWNER))
        )
        store.delete_task("task-1", PUBLIC_OWNER)
        assert stored(store)["status"] == {"S": "deleted"}

    def test_what_is_not_there_or_somebody_elses_is_not_found_and_not_touched(
        self, store: TaskStore
    ):
        create(store, owner="jwt#ann")
        store.cancel_task("task-1", "jwt#ann")
        for task_id in ("task-1", "task-2"):
            with pytest.raises(TaskNotFound):
                store.delete_task(task_id, PUBLIC_OWNER)
        assert seen_by(store, "jwt#ann")["status"] == "error"

    def test_an_error_that_is_no_refusal_goes_through(self, store: TaskStore, network: Network):
        create(store)
        cancelled(store)
        network.plan("transact_write_items", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            store.delete_task("task-1", PUBLIC_OWNER)
        assert stored(store)["status"] == {"S": "error"}


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

    def test_its_id_stays_taken_and_whoever_comes_second_sees_why(self, store: TaskStore):
        task, created = store.create_task("task-1", "Find me a painter")
        assert not created
        assert task == {"id": "task-1", "status": "deleted"}

    @pytest.mark.parametrize("seconds", [0, 1e9])
    def test_no_time_wakes_it(self, store: TaskStore, clock: Clock, seconds: float):
        clock.now += seconds
        with pytest.raises(TaskNotFound):
            seen(store)


def test_a_task_that_is_deleted_while_it_is_read_is_not_found(
    store: TaskStore, network: Network, clock: Clock
):
    """Read overdue, ended by somebody else, deleted by its owner: then this reader's own try."""
    claimed(store)
    clock.now += 661
    other = TaskStore(network.client, store.table_name, clock=clock)
    network.plan("update_item", after(lambda: other.delete_task("task-1", PUBLIC_OWNER)))
    with pytest.raises(TaskNotFound):
        store.get_task("task-1", PUBLIC_OWNER)


def test_who_has_to_know_hears_of_each_task_that_a_read_has_ended(
    store: TaskStore, clock: Clock, network: Network
):
    heard: list[str] = []
    store.on_expired = lambda task: heard.append(task["error_code"])
    accepted(store)
    clock.now += 601
    seen(store)
    seen(store)
    assert heard == ["agent_lost"]


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

    def test_a_resent_failure_stands_once(self, store: TaskStore, network: Network):
        create(store)
        network.plan("update_item", resent)
        assert self.fail(store)["error_code"] == "dispatch_failed"
        assert messages(seen(store)) == ["Task created", "Error invoking worker: no connection"]

    def test_a_worker_that_comes_later_does_not_get_the_task(self, store: TaskStore):
        create(store)
        self.fail(store)
        with pytest.raises(TaskNotClaimable):
            store.claim_task("task-1", "mine", NOW + 600)

    def test_a_task_that_is_not_there_is_not_found(self, store: TaskStore):
        with pytest.raises(TaskNotFound):
            self.fail(store)
        assert everything(store) == []

    def test_an_error_that_is_no_refusal_goes_through(self, store: TaskStore, network: Network):
        create(store)
        network.plan("update_item", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            self.fail(store)

    def test_a_clock_that_is_behind_does_not_turn_the_timeline_round(
        self, store: TaskStore, clock: Clock
    ):
        task = create(store)
        clock.now -= 60
        assert runs_forward(self.fail(store, task["created_at"]))


class TestExpiry:
    @pytest.mark.parametrize("late", [-1, 0])
    def test_up_to_its_deadline_a_task_is_left_alone(
        self, store: TaskStore, clock: Clock, late: float
    ):
        create(store)
        clock.now = NOW + 960 + late
        assert seen(store)["status"] == "pending"
        assert stored(store)["status"] == {"S": "pending"}

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

    def test_a_processing_task_ends_a_minute_after_its_worker_must_have(
        self, store: TaskStore, clock: Clock
    ):
        """A worker was killed: the agent may have acted, and that is said."""
        claimed(store, seconds=600)
        clock.now = NOW + 660
        assert seen(store)["status"] == "processing"
        clock.now = NOW + 660.000_001
        task = seen(store)
        assert task["status"] == "error"
        assert "may already have contacted vendors" in task["error_message"]
        assert messages(task) == [*COMPLETED[:3], task["error_message"]]

    def test_an_expired_task_is_never_claimed_again(self, store: TaskStore, clock: Clock):
        claimed(store)
        clock.now += 661
        seen(store)
        for token in ("token-of-task-1", "theirs"):
            with pytest.raises(TaskNotClaimable):
                store.claim_task("task-1", token, clock.now + 600)

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

    def test_a_list_expires_what_it_finds(self, store: TaskStore, clock: Clock):
        create(store)
        clock.now += 961
        assert store.list_tasks(PUBLIC_OWNER, 10)[0][0]["status"] == "error"
        assert stored(store)["status"] == {"S": "error"}

    @pytest.mark.parametrize("final", ["completed", "error"])
    def test_a_final_task_stays_as_it_is(self, store: TaskStore, clock: Clock, final: str):
        claim = claimed(store)
        if final == "completed":
            store.end_task(claim, Outcome.of(ANSWER))
        else:
            store.end_task(claim, Outcome.of({}, "agent_failed", "No vendors"))
        before = stored(store)
        clock.now += 10**8
        assert seen(store)["status"] == final
        assert stored(store) == before

    def test_a_resent_expiry_stands_once(self, store: TaskStore, clock: Clock, network: Network):
        create(store)
        clock.now += 961
        network.plan("update_item", resent)
        assert len(seen(store)["events"]) == 2
        assert len(seen(store)["events"]) == 2

    def test_a_reader_that_loses_the_race_shows_what_the_worker_wrote(
        self, store: TaskStore, clock: Clock, network: Network
    ):
        claim = claimed(store)
        clock.now += 661
        network.plan("update_item", after(lambda: network.client.update_item(**completing)))
        completing = completion_of(store, claim)
        assert seen(store)["status"] == "completed"
        assert messages(seen(store)) == COMPLETED

    def test_a_list_that_loses_the_race_leaves_the_answers_text_out_as_ever(
        self, store: TaskStore, clock: Clock, network: Network
    ):
        claim = claimed(store)
        clock.now += 661
        completing = completion_of(store, claim)
        network.plan("update_item", after(lambda: network.client.update_item(**completing)))
        ((task,), _) = store.list_tasks(PUBLIC_OWNER, 10)
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

    def test_an_error_that_is_no_refusal_goes_through(
        self, store: TaskStore, clock: Clock, network: Network
    ):
        create(store)
        clock.now += 961
        network.plan("update_item", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            seen(store)
        assert seen(store)["status"] == "error"


def completion_of(store: TaskStore, claim: Claim) -> dict[str, Any]:
    """The very request that would complete the task, taken before it leaves."""
    requests: list[dict[str, Any]] = []
    recorder = Network(store.client.client)

    def record(_real: Any, request: dict[str, Any]) -> Any:
        requests.append(request)
        return {}

    recorder.plan("update_item", record)
    TaskStore(recorder, store.table_name, clock=store.clock).end_task(claim, Outcome.of(ANSWER))
    return requests[0]


class TestGetOne:
    def test_a_task_that_is_not_there_is_not_found(self, store: TaskStore):
        with pytest.raises(TaskNotFound):
            store.get_task("task-1", PUBLIC_OWNER)

    def test_somebody_elses_task_is_not_found_and_not_touched(self, store: TaskStore, clock: Clock):
        create(store, owner="jwt#somebody")
        clock.now += 961
        for owner in (PUBLIC_OWNER, "jwt#nobody"):
            with pytest.raises(TaskNotFound):
                store.get_task("task-1", owner)
        assert stored(store)["status"] == {"S": "pending"}

    @pytest.mark.parametrize(
        "task_id", ["", "task-1#0", "#", "a b", "a/b", "-a", "é", "x" * 101, "a\n", "../a"]
    )
    def test_an_id_that_no_task_can_have_is_not_found_without_asking(
        self, store: TaskStore, network: Network, task_id: str
    ):
        network.plan("get_item", lambda _real, _request: pytest.fail("DynamoDB was asked"))
        with pytest.raises(TaskNotFound):
            store.get_task(task_id, PUBLIC_OWNER)

    @pytest.mark.parametrize("task_id", ["test-123", "A", "x" * 100, "a_b-c"])
    def test_an_id_made_by_hand_is_found(self, store: TaskStore, task_id: str):
        create(store, task_id)
        assert store.get_task(task_id, PUBLIC_OWNER)["id"] == task_id

    def test_a_replica_that_lags_is_never_asked(self, store: TaskStore, network: Network):
        """A client may read a task, and its answer's chunks, right after they were written."""

        def lagging(real: Callable[..., Any], request: dict[str, Any]) -> Any:
            (wanted,) = request.get("RequestItems", {"": request}).values()
            return real(**request) if wanted.get("ConsistentRead") is True else {"Responses": {}}

        network.always |= {"get_item": lagging, "batch_get_item": lagging}
        store.end_task(claimed(store), Outcome.of({"agent_response": "x" * 400_000}))
        assert seen(store)["agent_response"] == "x" * 400_000
        assert store.list_tasks(PUBLIC_OWNER, 10)[0][0]["status"] == "completed"

    def test_an_error_goes_through(self, store: TaskStore, network: Network):
        network.plan("get_item", throttled)
        with pytest.raises(ClientError, match="Slow down"):
            store.get_task("task-1", PUBLIC_OWNER)


class TestAnswers:
    @pytest.mark.parametrize(
        "size", [1_048_576, MAX_INLINE_ANSWER_BYTES + 1, 4 * CHUNK_CHARACTERS + 1]
    )
    def test_a_large_answer_comes_back_whole(self, store: TaskStore, size: int):
        text = noise(size, string.ascii_letters + string.digits)
        store.end_task(claimed(store), Outcome.of(ANSWER | {"agent_response": text}))
        task = seen(store)
        assert task["agent_response"] == text
        assert task["vendors"] == ANSWER["vendors"]
        assert "agent_response_truncated" not in task
        assert messages(task) == COMPLETED

    def test_up_to_300_kb_an_answer_is_part_of_its_item(self, store: TaskStore):
        text = "x" * (MAX_INLINE_ANSWER_BYTES - 4)
        store.end_task(
            claimed(store), Outcome.of({"agent_response": text, "vendors": [], "quotes": []})
        )
        assert len(everything(store)) == 1
        store.end_task(
            claimed(store, "task-2"),
            Outcome.of({"agent_response": f"{text}x", "vendors": [], "quotes": []}),
        )
        ids = {item["id"]["S"] for item in everything(store)}
        assert ids == {"task-1", "task-2", *(f"task-2#{number}" for number in range(4))}

    def test_characters_that_chunks_split_are_put_together_again(self, store: TaskStore):
        text = "x" + "\U0001f3e1" * 200_000
        store.end_task(claimed(store), Outcome.of({"agent_response": text}))
        assert seen(store)["agent_response"] == text

    def test_vendors_and_quotes_can_be_the_large_part(self, store: TaskStore):
        vendors = [{"name": f"Vendor {number}", "price": number / 3} for number in range(15_000)]
        store.end_task(claimed(store), Outcome.of(ANSWER | {"vendors": vendors}))
        assert seen(store)["vendors"] == vendors

    def test_no_item_is_ever_larger_than_dynamodb_takes(self, store: TaskStore):
        """Everything at its largest at once, in the dearest characters."""
        house = "\U0001f3e1"
        store.create_task(
            "task-1", house * MAX_DESCRIPTION_CHARACTERS, "jwt#" + "x" * 255, "f" * 64
        )
        claim = store.claim_task("task-1", "t" * 32, NOW + 600)
        for _ in range(MAX_AGENT_EVENTS + 1):
            claim.timeline.add_progress(timestamp(NOW), house * 1000)
        response = house * (MAX_INLINE_ANSWER_BYTES // 4)
        store.end_task(
            claim, Outcome.of({"agent_response": response}, "agent_failed", house * 5000)
        )
        (item,) = everything(store)
        assert 380_000 < weight_of(item) < ITEM_LIMIT

    def test_a_task_with_the_largest_answer_is_within_a_transaction(
        self, store: TaskStore, network: Network
    ):
        requests: list[dict[str, Any]] = []

        def look(real: Callable[..., Any], request: dict[str, Any]) -> Any:
            requests.append(request)
            return real(**request)

        network.plan("transact_write_items", look)
        claim = claimed(store)
        for _ in range(MAX_AGENT_EVENTS + 1):
            claim.timeline.add_progress(timestamp(NOW), "\U0001f3e1" * 1000)
        store.end_task(claim, Outcome.of({"agent_response": "x" * MAX_ANSWER_BYTES}))
        items = everything(store)
        assert all(weight_of(item) < ITEM_LIMIT for item in items)
        assert sum(map(weight_of, items)) < 4 * 1024 * 1024
        assert len(requests[0]["TransactItems"]) <= 100

    def test_what_is_too_long_is_cut_and_said(self, store: TaskStore):
        whole = {"agent_response": "x" * 4_000_000, "vendors": ANSWER["vendors"], "quotes": []}
        store.end_task(claimed(store), Outcome.of(whole))
        task = seen(store)
        cut = 4_000_000 - len(task["agent_response"])
        assert task["status"] == "completed"
        assert task["agent_response_truncated"] is True
        assert task["vendors"] == ANSWER["vendors"]
        assert messages(task)[-2:] == [
            f"The agent's answer was too long: {cut:,} bytes of it were cut",
            COMPLETED[-1],
        ]

    def test_chunks_carry_the_tasks_ttl_and_no_owner(self, store: TaskStore):
        store.ttl_days = 7
        store.end_task(claimed(store), Outcome.of({"agent_response": "x" * 400_000}))
        expires_at = {"N": str(int(NOW) + 7 * 86_400)}
        assert len(everything(store)) == 1 + 5
        assert all(item["expires_at"] == expires_at for item in everything(store))
        assert [item["id"]["S"] for item in everything(store) if "owner" in item] == ["task-1"]

    def test_a_task_whose_chunks_ttl_has_removed_is_not_found(
        self, store: TaskStore, dynamodb: Any
    ):
        store.end_task(claimed(store), Outcome.of({"agent_response": "x" * 400_000}))
        dynamodb.delete_item(TableName=store.table_name, Key={"id": {"S": "task-1#1"}})
        with pytest.raises(TaskNotFound):
            seen(store)

    @pytest.mark.parametrize("size", [10, 400_000])
    def test_no_retention_means_no_ttl(self, store: TaskStore, size: int):
        store.end_task(claimed(store), Outcome.of({"agent_response": "x" * size}))
        assert not any("expires_at" in item for item in everything(store))

    @pytest.mark.parametrize(
        "value",
        [
            0.1,
            1e300,
            -1e-300,
            12345678901234567890123456789012345678901234567890,
            True,
            None,
            "",
            [],
            {},
            {"": ""},
            "emoji 👩‍🌾, line\u2028separator, nul \x00, backslash \\",
            [[], [[]], {"a": [{"b": None}]}],
        ],
    )
    @pytest.mark.parametrize("padding", [0, 400_000])
    def test_any_json_survives_in_vendors_and_quotes(
        self, store: TaskStore, value: Any, padding: int
    ):
        answer = {"agent_response": "x" * padding, "vendors": [value], "quotes": [{"q": value}]}
        store.end_task(claimed(store), Outcome.of(answer))
        task = seen(store)
        assert task["vendors"] == [value]
        assert task["quotes"] == [{"q": value}]
        assert type(task["vendors"][0]) is type(value)

    def test_nesting_that_dynamodb_would_refuse_survives(self, store: TaskStore):
        value: Any = "deep"
        for _ in range(500):
            value = [value]
        store.end_task(claimed(store), Outcome.of({"agent_response": "", "vendors": [value]}))
        assert seen(store)["vendors"] == [value]

    def test_an_empty_answer_is_an_answer(self, store: TaskStore):
        empty = {"agent_response": "", "vendors": [], "quotes": [], "emails_sent": 0}
        store.end_task(claimed(store), Outcome.of(empty))
        task = seen(store)
        assert {name: task[name] for name in empty} == empty


def weight_of(item: dict[str, Any]) -> int:
    """An item's size by DynamoDB's rules: names and values in UTF-8, 3 bytes a container.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """

    def value_weight(value: dict[str, Any]) -> int:
        ((kind, content),) = value.items()
        if kind == "L":
            return 3 + sum(1 + value_weight(element) for element in content)
        if kind == "M":
            return 3 + sum(1 + len(name) + value_weight(part) for name, part in content.items())
        if kind == "N":
            return len(content) // 2 + 2
        if kind == "BOOL":
            return 1
        return len(content.encode() if isinstance(content, str) else content)

    return sum(len(name) + value_weight(value) for name, value in item.items())


class TestFitAnswer:
    def fits(self, answer: dict[str, Any]) -> bool:
        text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        stored_bytes, response_bytes = len(text.encode()), len(json.dumps(text))
        return stored_bytes <= MAX_ANSWER_BYTES and response_bytes <= MAX_ANSWER_RESPONSE_BYTES

    def test_up_to_3_500_000_bytes_nothing_is_cut(self):
        answer = {"agent_response": "x" * (MAX_ANSWER_BYTES - len('{"agent_response":""}'))}
        assert fit_answer(answer) == (answer, 0)

    def test_one_byte_more_is_cut_and_counted(self):
        answer = {"agent_response": "x" * (MAX_ANSWER_BYTES + 1 - len('{"agent_response":""}'))}
        fitted, cut = fit_answer(answer)
        assert cut == 1
        assert fitted == {"agent_response": answer["agent_response"][:-1]}

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

    def test_an_answer_without_parts_is_left_as_it_is(self):
        assert fit_answer({}) == ({}, 0)

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


class TestForeignItems:
    """Items that an older version, or a person with the AWS CLI, has put into the table."""

    ITEM: ClassVar[dict[str, Any]] = {
        "id": {"S": "old-1"},
        "description": {"S": "Find me a landscaper"},
        "status": {"S": "completed"},
        "agent_response": {"S": "Done"},
        "vendors": {"L": [{"M": {"name": {"S": "A"}, "price": {"N": "275.5"}, "n": {"N": "3"}}}]},
        "quotes": {"L": []},
        "emails_sent": {"N": "3"},
        "events": {
            "L": [
                {"M": {"ts": {"S": "t"}, "message": {"S": "Task created"}, "type": {"S": "info"}}}
            ]
        },
        "created_at": {"S": "2025-10-31T12:00:00.123456"},
        "updated_at": {"S": "2025-10-31T12:00:00.123456"},
    }

    def test_native_lists_and_decimals_are_read_as_json_numbers(
        self, store: TaskStore, dynamodb: Any
    ):
        dynamodb.put_item(TableName=store.table_name, Item=self.ITEM)
        task = seen(store, "old-1")
        assert task["vendors"] == [{"name": "A", "price": 275.5, "n": 3}]
        assert task["emails_sent"] == 3
        assert json.loads(json.dumps(task)) == task

    @pytest.mark.parametrize("chunks", ["-1", "100", "5000", "1.5"])
    def test_chunks_that_no_task_can_have_are_none(
        self, store: TaskStore, dynamodb: Any, chunks: str
    ):
        dynamodb.put_item(TableName=store.table_name, Item=self.ITEM | {"chunks": {"N": chunks}})
        assert store.with_answer(seen(store, "old-1"))["agent_response"] == "Done"
        store.delete_task("old-1", PUBLIC_OWNER)

    def test_a_tombstone_that_says_when_it_was_made_is_in_no_list_of_a_bare_table(
        self, bare: TaskStore, dynamodb: Any
    ):
        tombstone = {name: self.ITEM[name] for name in ("id", "created_at")}
        tombstone["status"] = {"S": "deleted"}
        dynamodb.put_item(TableName=bare.table_name, Item=tombstone)
        create(bare)
        assert [task["id"] for task in bare.list_tasks(PUBLIC_OWNER, 10)[0]] == ["task-1"]

    def test_one_that_no_write_can_end_does_not_look_as_it_was(
        self, store: TaskStore, dynamodb: Any, clock: Clock
    ):
        odd = {"status": {"S": "pending"}, "events": {"S": "none"}}
        odd["deadline"] = {"S": timestamp(NOW)}
        clock.now += 60
        dynamodb.put_item(TableName=store.table_name, Item=self.ITEM | odd)
        task = seen(store, "old-1")
        assert task["status"] == "error"
        assert task["updated_at"] > self.ITEM["updated_at"]["S"]

    def test_one_whose_expiry_is_no_time_is_ended_and_deleted_like_any(
        self, store: TaskStore, dynamodb: Any
    ):
        pending = {"status": {"S": "pending"}, "expires_at": {"NULL": True}}
        pending["deadline"] = {"S": timestamp(NOW + 60)}
        dynamodb.put_item(TableName=store.table_name, Item=self.ITEM | pending)
        claim = store.claim_task("old-1", "claim", NOW + 60)
        store.end_task(claim, Outcome.of({"agent_response": "x" * 400_000}))
        assert seen(store, "old-1")["status"] == "completed"
        store.delete_task("old-1", "public")
        assert [set(item) for item in everything(store)] == [{"id", "status"}]

    def test_without_an_owner_they_are_everybodys(self, store: TaskStore, dynamodb: Any):
        dynamodb.put_item(TableName=store.table_name, Item=self.ITEM)
        assert seen(store, "old-1")["owner"] == PUBLIC_OWNER
        with pytest.raises(TaskNotFound):
            store.get_task("old-1", "jwt#somebody")

    def test_without_a_deadline_they_do_not_expire(self, store: TaskStore, dynamodb: Any):
        item = self.ITEM | {"status": {"S": "processing"}}
        dynamodb.put_item(TableName=store.table_name, Item=item)
        assert seen(store, "old-1")["status"] == "processing"

    def test_without_a_deadline_no_worker_gets_them(self, store: TaskStore, dynamodb: Any):
        """Whether their agent has run is not known."""
        item = self.ITEM | {"status": {"S": "pending"}}
        dynamodb.put_item(TableName=store.table_name, Item=item)
        with pytest.raises(TaskNotClaimable):
            store.claim_task("old-1", "mine", NOW + 600)

    def test_a_bare_table_lists_them(self, bare: TaskStore, dynamodb: Any, clock: Clock):
        dynamodb.put_item(TableName=BARE_TABLE, Item=self.ITEM)
        clock.now += 3600
        create(bare, "new-1")
        tasks, _ = bare.list_tasks(PUBLIC_OWNER, 10)
        assert [task["id"] for task in tasks] == ["new-1", "old-1"]
        assert "agent_response" not in tasks[1]

    def test_a_cursor_at_a_time_of_another_form_leads_on(self, bare: TaskStore, dynamodb: Any):
        for number in range(3):
            changes = {
                "id": {"S": f"old-{number}"},
                "created_at": {"S": f"2025-10-31 12:00:0{number}"},
            }
            dynamodb.put_item(TableName=BARE_TABLE, Item=self.ITEM | changes)
        first, cursor = bare.list_tasks(PUBLIC_OWNER, 2)
        rest, more = bare.list_tasks(PUBLIC_OWNER, 2, cursor)
        assert [task["id"] for task in first + rest] == ["old-2", "old-1", "old-0"]
        assert more is None

    def test_a_bare_table_skips_what_is_no_task_as_an_index_would(
        self, bare: TaskStore, dynamodb: Any
    ):
        dynamodb.put_item(TableName=BARE_TABLE, Item={"id": {"S": "note"}, "x": {"S": "y"}})
        dynamodb.put_item(
            TableName=BARE_TABLE, Item={"id": {"S": "no-date"}, "status": {"S": "completed"}}
        )
        create(bare, "new-1")
        tasks, more = bare.list_tasks(PUBLIC_OWNER, 1)
        assert [task["id"] for task in tasks] == ["new-1"]
        assert more is None

    @pytest.mark.parametrize(
        "value,plain",
        [
            ({"N": "1"}, 1),
            ({"N": "-1.50"}, -1.5),
            ({"N": "1E+2"}, 100.0),
            (
                {"N": "12345678901234567890123456789012345678"},
                12345678901234567890123456789012345678,
            ),
            ({"BOOL": False}, False),
            ({"NULL": True}, None),
            ({"SS": ["a"]}, ["a"]),
            ({"NS": ["1", "2.5"]}, [1, 2.5]),
            ({"M": {"a": {"L": [{"S": ""}]}}}, {"a": [""]}),
        ],
    )
    def test_every_type_of_dynamodbs_that_json_has_is_read(
        self, store: TaskStore, dynamodb: Any, value: Any, plain: Any
    ):
        item = self.ITEM | {"vendors": {"L": [value]}}
        dynamodb.put_item(TableName=store.table_name, Item=item)
        (found,) = seen(store, "old-1")["vendors"]
        assert found == plain
        assert type(found) is type(plain)
        assert not isinstance(found, Decimal)


class TestListing:
    def fill(self, store: TaskStore, clock: Clock, count: int, owner: str = PUBLIC_OWNER) -> None:
        for number in range(count):
            clock.now += 1
            create(store, f"{owner.replace('#', '-')}-{number:03}", owner)

    def walk(self, store: TaskStore, limit: int, owner: str = PUBLIC_OWNER) -> list[list[str]]:
        pages, cursor = [], None
        while True:
            tasks, cursor = store.list_tasks(owner, limit, cursor)
            pages.append([task["id"] for task in tasks])
            if cursor is None:
                return pages

    @pytest.fixture(params=["index", "scan"])
    def either(self, request: pytest.FixtureRequest, store: TaskStore, bare: TaskStore) -> Any:
        """The table with its index, and the one without."""
        return store if request.param == "index" else bare

    def test_an_empty_table_lists_nothing(self, either: TaskStore):
        assert either.list_tasks(PUBLIC_OWNER, 50) == ([], None)

    def test_the_newest_comes_first(self, either: TaskStore, clock: Clock):
        self.fill(either, clock, 3)
        assert self.walk(either, 50) == [["public-002", "public-001", "public-000"]]

    @pytest.mark.parametrize("count,sizes", [(4, [4]), (5, [4, 1]), (8, [4, 4]), (9, [4, 4, 1])])
    def test_pages_hold_each_task_once_and_the_last_names_no_next(
        self, either: TaskStore, clock: Clock, count: int, sizes: list[int]
    ):
        self.fill(either, clock, count)
        pages = self.walk(either, 4)
        assert [len(page) for page in pages] == sizes
        assert [task_id for page in pages for task_id in page] == [
            f"public-{number:03}" for number in reversed(range(count))
        ]

    def test_pages_stay_where_they_are_while_tasks_are_created(
        self, either: TaskStore, clock: Clock
    ):
        self.fill(either, clock, 6)
        first, cursor = either.list_tasks(PUBLIC_OWNER, 3)
        clock.now += 1
        create(either, "newcomer")
        second, cursor = either.list_tasks(PUBLIC_OWNER, 3, cursor)
        assert cursor is None
        assert [task["id"] for task in first + second] == [
            f"public-{number:03}" for number in (5, 4, 3, 2, 1, 0)
        ]

    def test_a_cursor_whose_task_is_gone_leads_on(
        self, either: TaskStore, clock: Clock, dynamodb: Any
    ):
        self.fill(either, clock, 4)
        _, cursor = either.list_tasks(PUBLIC_OWNER, 2)
        dynamodb.delete_item(TableName=either.table_name, Key={"id": {"S": "public-002"}})
        tasks, _ = either.list_tasks(PUBLIC_OWNER, 2, cursor)
        assert [task["id"] for task in tasks] == ["public-001", "public-000"]

    def test_everyone_sees_their_own_tasks_only(self, either: TaskStore, clock: Clock):
        for owner in ("jwt#a", "jwt#b", PUBLIC_OWNER):
            self.fill(either, clock, 3, owner)
        assert self.walk(either, 2, "jwt#a") == [["jwt-a-002", "jwt-a-001"], ["jwt-a-000"]]
        assert self.walk(either, 2, "jwt#c") == [[]]

    def test_somebody_elses_cursor_reaches_nobody_elses_tasks(
        self, either: TaskStore, clock: Clock
    ):
        for owner in ("jwt#a", "jwt#b"):
            self.fill(either, clock, 3, owner)
        _, cursor = either.list_tasks("jwt#b", 1)
        tasks, _ = either.list_tasks("jwt#a", 50, cursor)
        assert {task["owner"] for task in tasks} <= {"jwt#a"}

    def test_the_text_of_the_answer_is_left_out_and_chunks_are_no_tasks(self, either: TaskStore):
        either.end_task(claimed(either, "small"), Outcome.of(ANSWER))
        either.end_task(
            claimed(either, "large"), Outcome.of(ANSWER | {"agent_response": "x" * 400_000})
        )
        tasks, _ = either.list_tasks(PUBLIC_OWNER, 50)
        by_id = {task["id"]: task for task in tasks}
        assert set(by_id) == {"small", "large"}
        assert not any("agent_response" in task for task in tasks)
        assert by_id["small"]["vendors"] == ANSWER["vendors"]
        assert "vendors" not in by_id["large"]
        assert by_id["large"]["emails_sent"] == 3

    def test_with_and_without_an_index_the_same_pages_come(
        self, store: TaskStore, bare: TaskStore, clock: Clock
    ):
        self.fill(store, clock, 7)
        clock.now = NOW
        self.fill(bare, clock, 7)
        assert self.walk(store, 3) == self.walk(bare, 3)

    def test_a_cursor_of_the_one_serves_for_the_other(
        self, store: TaskStore, bare: TaskStore, clock: Clock
    ):
        """The index may become usable between two pages."""
        self.fill(store, clock, 5)
        clock.now = NOW
        self.fill(bare, clock, 5)
        for here, there in ((store, bare), (bare, store)):
            first, cursor = here.list_tasks(PUBLIC_OWNER, 2)
            rest, _ = there.list_tasks(PUBLIC_OWNER, 50, cursor)
            assert [task["id"] for task in first + rest] == [
                f"public-{number:03}" for number in (4, 3, 2, 1, 0)
            ]

    def test_an_index_whose_pages_end_early_is_read_on(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        """Somebody's own index may hold whole items, which fill 1 MB; here it is two keys."""
        self.fill(store, clock, 5)
        for _ in range(3):
            network.plan("query", lambda real, request: real(**request | {"Limit": 2}))
        tasks, cursor = store.list_tasks(PUBLIC_OWNER, 4)
        assert [task["id"] for task in tasks] == [f"public-{number:03}" for number in (4, 3, 2, 1)]
        assert cursor is not None

    def test_an_index_that_is_still_backfilling_is_scanned_around(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        def backfilling(_real: Any, _request: Any) -> Any:
            message = f"Cannot read from backfilling global secondary index: {self}"
            text = {"Code": "ValidationException", "Message": message}
            raise ClientError({"Error": text}, "Query")

        self.fill(store, clock, 3)
        network.plan("query", backfilling)
        tasks, _ = store.list_tasks(PUBLIC_OWNER, 50)
        assert [task["id"] for task in tasks] == ["public-002", "public-001", "public-000"]

    @pytest.mark.parametrize("operation", ["query", "batch_get_item"])
    def test_any_other_error_goes_through(
        self, store: TaskStore, network: Network, clock: Clock, operation: str
    ):
        self.fill(store, clock, 1)
        network.plan(operation, throttled)
        with pytest.raises(ClientError, match="Slow down"):
            store.list_tasks(PUBLIC_OWNER, 50)

    def test_a_scan_reads_every_page_of_the_table(self, bare: TaskStore, clock: Clock):
        """DynamoDB ends a page at 1 MB; here at two items."""
        self.fill(bare, clock, 7)
        for _ in range(4):
            bare.client.plan("scan", lambda real, request: real(**request, Limit=2))
        assert self.walk(bare, 50) == [[f"public-{number:03}" for number in reversed(range(7))]]

    def test_keys_that_dynamodb_leaves_unprocessed_are_asked_for_again(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        self.fill(store, clock, 5)

        def two_at_a_time(real: Callable[..., Any], request: dict[str, Any]) -> Any:
            wanted = request["RequestItems"][store.table_name]
            now, later = wanted["Keys"][:2], wanted["Keys"][2:]
            answer = real(RequestItems={store.table_name: wanted | {"Keys": now}})
            unprocessed = {store.table_name: wanted | {"Keys": later}} if later else {}
            return answer | {"UnprocessedKeys": unprocessed}

        for _ in range(3):
            network.plan("batch_get_item", two_at_a_time)
        assert self.walk(store, 50) == [[f"public-{number:03}" for number in (4, 3, 2, 1, 0)]]

    def test_keys_that_stay_unprocessed_are_an_error_not_a_shorter_list(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        def nothing(_real: Any, request: dict[str, Any]) -> Any:
            return {"Responses": {}, "UnprocessedKeys": request["RequestItems"]}

        self.fill(store, clock, 2)
        waits: list[float] = []
        store.sleep = waits.append
        for _ in range(dynamodb_pages.BATCH_GET_ATTEMPTS):
            network.plan("batch_get_item", nothing)
        with pytest.raises(StoreBusy, match="2 of 2"):
            store.list_tasks(PUBLIC_OWNER, 50)
        assert len(waits) == dynamodb_pages.BATCH_GET_ATTEMPTS - 1
        assert sum(waits) < 15

    def test_100_tasks_are_one_page_and_one_batch(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        self.fill(store, clock, 101)
        assert [len(page) for page in self.walk(store, 100)] == [100, 1]

    def test_a_task_that_is_deleted_while_the_index_still_has_it_is_left_out(
        self, store: TaskStore, network: Network, clock: Clock
    ):
        self.fill(store, clock, 3)
        key = {"id": {"S": "public-001"}}
        network.plan(
            "batch_get_item",
            after(lambda: network.client.delete_item(TableName=store.table_name, Key=key)),
        )
        assert self.walk(store, 50) == [["public-002", "public-000"]]


class TestCursors:
    @given(
        moment=st.floats(min_value=0, max_value=4e9),
        task_id=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", fullmatch=True),
    )
    def test_they_round_trip(self, moment: float, task_id: str):
        key = {"created_at": timestamp(moment), "id": task_id}
        cursor = encode_cursor(key)
        assert decode_cursor(cursor) == key
        assert cursor.isascii()
        assert cursor.replace("-", "").replace("_", "").isalnum()

    @pytest.mark.parametrize("created_at", ["2025-10-31", "Oct 31, 2025, 12:00 (UTC)", "é"])
    @pytest.mark.parametrize("task_id", ["task:1", "my task", "_"])
    def test_they_lead_past_items_of_other_peoples_making(
        self, store: TaskStore, dynamodb: Any, created_at: str, task_id: str
    ):
        names = {"id": task_id, "created_at": created_at, "owner": "jwt#z", "status": "completed"}
        for ours in (names, names | {"id": "last", "created_at": "!"}):
            item = {name: {"S": text} for name, text in ours.items()}
            dynamodb.put_item(TableName=store.table_name, Item=item)
        (first,), cursor = store.list_tasks("jwt#z", 1)
        (last,), more = store.list_tasks("jwt#z", 1, cursor)
        assert (first["id"], last["id"], more) == (task_id, "last", None)

    @given(st.text() | st.binary().map(lambda data: base64.urlsafe_b64encode(data).decode()))
    @example("")
    @example("é")
    @example("\ud800")
    @example("W10=")
    @example("A" * 10_000)
    @example(base64.urlsafe_b64encode(b"[" * 100_000).decode())
    def test_anything_else_is_malformed(self, text: str):
        with pytest.raises(InvalidCursor):
            decode_cursor(text)

    @pytest.mark.parametrize(
        "value",
        [
            None,
            7,
            "12",
            [],
            ["2025-10-31T12:00:00.000000Z"],
            ["2025-10-31T12:00:00.000000Z", "a", "b"],
            ["2025-10-31T12:00:00.000000Z", 7],
            ["2025-10-31T12:00:00.000000Z", "a#0"],
            ["", "a"],
            ["x" * 2000, "a"],
            [None, "a"],
            {"2025": 1, "a": 2},
            [{"S": "x"}, "a"],
        ],
    )
    def test_json_that_is_no_place_in_a_list_is_malformed(self, value: Any):
        cursor = base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
        with pytest.raises(InvalidCursor, match="'cursor' is not one that this API gave"):
            decode_cursor(cursor)

    @pytest.mark.parametrize("cursor", ["", "nonsense", "e30"])
    def test_a_list_refuses_them(self, store: TaskStore, cursor: str):
        with pytest.raises(InvalidCursor):
            store.list_tasks(PUBLIC_OWNER, 50, cursor)


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

    def test_an_events_message_is_cut_at_1000_characters(self):
        event = make_event("t", "x" * 1001, "error")
        assert event == {"ts": "t", "message": "x" * 1000, "type": "error"}


class TestIds:
    @pytest.mark.parametrize("value", [None, 7, b"a", ["a"], "", "a#b", "a.b", "ä", "٣", "a\n"])
    def test_what_cannot_be_an_id(self, value: Any):
        assert not is_task_id(value)


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def forget(self) -> Any:
        dynamodb_helpers.task_store.cache_clear()
        yield
        dynamodb_helpers.task_store.cache_clear()

    @pytest.mark.parametrize("value", [None, "", "other-tasks"])
    def test_the_table_is_the_one_that_is_named_or_valro_tasks(
        self, monkeypatch: pytest.MonkeyPatch, value: Any
    ):
        if value is None:
            monkeypatch.delenv("DYNAMODB_TABLE_NAME", raising=False)
        else:
            monkeypatch.setenv("DYNAMODB_TABLE_NAME", value)
        assert dynamodb_helpers.task_store().table_name == (value or "valro-tasks")

    @pytest.mark.parametrize("value,days", [(None, 0), ("", 0), ("0", 0), ("30", 30)])
    def test_tasks_are_kept_as_long_as_is_said_or_for_ever(
        self, monkeypatch: pytest.MonkeyPatch, table_name: str, value: Any, days: int
    ):
        if value is None:
            monkeypatch.delenv("TASK_TTL_DAYS", raising=False)
        else:
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


class TestTable:
    def test_the_definition_makes_a_table_whose_index_holds_keys_only(
        self, dynamodb: Any, table_name: str
    ):
        table = dynamodb.describe_table(TableName=table_name)["Table"]
        (index,) = table["GlobalSecondaryIndexes"]
        assert index["IndexName"] == "owner-created_at-index"
        assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
        assert [key["AttributeName"] for key in index["KeySchema"]] == ["owner", "created_at"]
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert "TableName" not in TABLE_DEFINITION


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
