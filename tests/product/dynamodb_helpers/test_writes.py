"""Every write of the store, whatever the network does to it and whoever was faster."""

import copy
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from dynamodb_helpers import Claim, TaskStore
from tests.product.dynamodb_helpers.fakes import (
    ANSWER,
    BEGUN,
    COMPLETED,
    NOW,
    Clock,
    Network,
    accepted,
    after,
    answer_lost,
    arrives,
    cancelled,
    claimed,
    conflict,
    create,
    everything,
    messages,
    refused,
    reported,
    request_lost,
    resent,
    runs_forward,
    seen,
    throttled,
)
from valro.dynamodb_items import TABLE_DEFINITION
from valro.store_errors import CancelRequested, ClaimLost, TaskNotFound
from valro.tasks import EXPIRED, PUBLIC_OWNER, Outcome, timestamp

LONG = {"agent_response": "x" * 400_000}
FAILED = Outcome.of(ANSWER, "agent_failed", "No vendors")
UNSTARTED = Outcome.of({}, "not_started", "No time.")
TWIN = "twin-of-the-table"


class Write(NamedTuple):
    """A write, what comes before it, and the operation that it is."""

    before: Callable[[TaskStore], Any]
    act: Callable[[TaskStore, Any], Any]
    operation: str = "update_item"


def at_work(store: TaskStore) -> Claim:
    """A task whose agent has said something that is not written yet."""
    claim = claimed(store)
    claim.timeline.add_progress(timestamp(NOW), "Looking for painters")
    return claim


def at_work_and_cancelled(store: TaskStore) -> Claim:
    claim = at_work(store)
    cancelled(store)
    return claim


def accepted_and_cancelled(store: TaskStore) -> None:
    accepted(store)
    cancelled(store)


def ahead(store: TaskStore) -> None:
    """A task whose worker has a clock that is ahead."""
    claim = claimed(store)
    claim.timeline.add_progress(timestamp(NOW + 900), "Looking for painters")
    store.record_progress(claim)


def ended(store: TaskStore) -> None:
    store.end_task(claimed(store), Outcome.of(LONG))


def late(before: Callable[[TaskStore], Any], seconds: float) -> Callable[[TaskStore], Any]:
    """The same, so much time ago."""

    def made(store: TaskStore) -> Any:
        claim = before(store)
        store.clock.now += seconds  # type: ignore[attr-defined]
        return claim

    return made


def read(store: TaskStore, _: Any) -> dict[str, Any]:
    return seen(store)


def cancel(store: TaskStore, _: Any) -> dict[str, Any]:
    return cancelled(store)


def delete(store: TaskStore, claim: Claim | None = None) -> None:
    """Deletes the task, if it is at work once it has completed."""
    if claim:
        COMPLETE(store, copy.deepcopy(claim))
    store.delete_task("task-1", PUBLIC_OWNER)


def end(outcome: Outcome) -> Callable[[TaskStore, Claim], None]:
    return lambda store, claim: store.end_task(claim, outcome)


def report(outcome: Outcome | None) -> Callable[[TaskStore, Claim], Any]:
    return lambda store, _: reported(store, "r-1", "Found two", outcome=outcome)


def claim(store: TaskStore, task: dict[str, Any]) -> Claim:
    return store.claim_task("task-1", "mine", NOW + 1_600, task["created_at"])


def fail_pending(store: TaskStore, task: dict[str, Any]) -> Any:
    return store.fail_pending_task("task-1", "Error", "No.", "dispatch_failed", task["created_at"])


OF_WORKERS = {
    "progress": Write(at_work, TaskStore.record_progress),
    "confirm": Write(claimed, TaskStore.confirm_claim),
    "accept": Write(at_work, TaskStore.accept_task),
    "complete": Write(at_work, end(Outcome.of(ANSWER))),
    "complete in chunks": Write(at_work, end(Outcome.of(LONG)), "transact_write_items"),
    "fail": Write(at_work, end(FAILED)),
}
WRITES = OF_WORKERS | {
    "create": Write(lambda _: None, lambda store, _: create(store), "put_item"),
    "claim": Write(create, claim),
    "end as cancelled": Write(at_work_and_cancelled, end(FAILED.cancelled())),
    "end as cancelled, unstarted": Write(at_work_and_cancelled, end(UNSTARTED.cancelled())),
    "end as cancelled in chunks": Write(
        at_work_and_cancelled, end(Outcome.of(LONG).cancelled()), "transact_write_items"
    ),
    "fail, unstarted": Write(at_work, end(UNSTARTED)),
    "fail pending": Write(create, fail_pending),
    "cancel pending": Write(create, cancel),
    "request the end": Write(claimed, cancel),
    "report": Write(accepted, report(None)),
    "last report": Write(accepted, report(Outcome.of(ANSWER))),
    "last report in chunks": Write(accepted, report(Outcome.of(LONG)), "transact_write_items"),
    "expire": Write(late(create, 970), read),
    "expire worker": Write(late(ahead, 670), read),
    "expire agent": Write(late(accepted, 610), read),
    "expire cancelled": Write(late(accepted_and_cancelled, 70), read),
    "follow": Write(
        ended,
        lambda store, _: store.follow_task("task-2", "And?", "public", "f", follows="task-1"),
        "transact_write_items",
    ),
    "delete": Write(ended, delete, "transact_write_items"),
}


@pytest.fixture(params=WRITES)
def write(request: pytest.FixtureRequest) -> Write:
    return WRITES[request.param]


def kept(store: TaskStore) -> list[dict[str, Any]]:
    """What the table has, without the marks by which a write is known again."""
    marks = ("creation_token", "last_report")
    items = [{name: item[name] for name in item if name not in marks} for item in everything(store)]
    return sorted(items, key=lambda item: item["id"]["S"])


@pytest.mark.parametrize("happening", [answer_lost, request_lost, resent])
def test_it_is_there_once_whether_it_had_arrived_or_not(
    store: TaskStore, network: Network, clock: Clock, write: Write, happening: Any
):
    dynamodb = network.client
    dynamodb.create_table(TableName=TWIN, **TABLE_DEFINITION)
    twin = TaskStore(Network(dynamodb), TWIN, clock=clock)
    write.act(twin, write.before(twin))
    clock.now = NOW
    before = write.before(store)
    network.plan(write.operation, happening)
    try:
        write.act(store, before)
    except ReadTimeoutError:
        with suppress(TaskNotFound):  # of a task that is deleted already
            write.act(store, before)
    assert kept(store) == kept(twin)


def test_what_is_no_refusal_of_dynamodbs_goes_through_and_refuses_nothing(
    store: TaskStore, network: Network, write: Write
):
    """Whoever stands in between can answer under another status, and its body can have any code."""
    before = write.before(store)
    there = everything(store)
    condition = partial(refused, "ConditionalCheckFailedException", "ConditionalCheckFailed")
    others = [condition(status=status) for status in (403, 424, 500, 502, 503)]
    for happening in (throttled, *others):
        network.plan(write.operation, happening)
        with pytest.raises(ClientError):
            write.act(store, before)
    assert everything(store) == there


def test_one_that_meets_a_transaction_is_tried_four_times_more(
    store: TaskStore, network: Network, write: Write
):
    before = write.before(store)
    for conflicts, outcome in ((5, pytest.raises(ClientError)), (4, nullcontext())):
        network.writes.clear()
        for _ in range(conflicts):
            network.plan(write.operation, conflict)
        with outcome:
            write.act(store, before)
        assert network.writes == [write.operation] * 5


def test_a_clock_that_is_behind_does_not_turn_the_timeline_round(
    store: TaskStore, clock: Clock, write: Write
):
    before = write.before(store)
    clock.now -= 5
    write.act(store, before)
    with suppress(TaskNotFound):
        assert runs_forward(seen(store))


@pytest.mark.parametrize(
    "name, end",
    [
        ("complete", {}),
        ("last report in chunks", {}),
        ("fail", {"error_code": "agent_failed", "may_have_acted": True}),
        ("end as cancelled", {"error_code": "cancelled", "may_have_acted": True}),
        ("end as cancelled, unstarted", {"error_code": "cancelled", "may_have_acted": False}),
        ("fail, unstarted", {"error_code": "not_started", "may_have_acted": False}),
        ("fail pending", {"error_code": "dispatch_failed", "may_have_acted": False}),
        ("cancel pending", {"error_code": "cancelled", "may_have_acted": False}),
        ("expire", {"error_code": "not_started", "may_have_acted": False}),
        ("expire worker", {"error_code": "worker_lost", "may_have_acted": True}),
        ("expire agent", {"error_code": "agent_lost", "may_have_acted": True}),
        ("expire cancelled", {"error_code": "cancelled", "may_have_acted": True}),
    ],
)
def test_every_end_says_when_the_run_began_and_ended_and_whether_the_agent_may_have_acted(
    store: TaskStore, clock: Clock, name: str, end: dict[str, Any]
):
    before = WRITES[name].before(store)
    clock.now += 1
    WRITES[name].act(store, before)
    task = seen(store)
    names = ("error_code", "may_have_acted", "started_at", "completed_at")
    started = {"started_at": timestamp(NOW)} if len(task["events"]) > 2 else {}
    shown = end | started | {"completed_at": task["events"][-1]["ts"]}
    assert {name: task[name] for name in names if name in task} == shown
    (listed,), _ = store.list_tasks(PUBLIC_OWNER, 1)
    assert {name: listed[name] for name in names if name in listed} == shown


# --- somebody else is faster --------------------------------------------------------------------------


def listed(store: TaskStore, _: Any) -> dict[str, Any]:
    ((task,), _) = store.list_tasks(PUBLIC_OWNER, 10)
    assert "agent_response" not in task
    return task


class Race(NamedTuple):
    """What comes before a write, the write, what overtakes it, and the last lines in the end."""

    before: Callable[[TaskStore], Any]
    act: Callable[[TaskStore, Any], Any]
    meanwhile: Callable[[TaskStore, Any], Any]
    lines: tuple[str, ...]
    is_cancelled: bool = False


COMPLETE, DONE, CANCELLED = end(Outcome.of(ANSWER)), COMPLETED[-1], EXPIRED["cancelled"]
RACES = {
    # The reader judged the pending deadline; the claim moved it.
    "expire, claimed": Race(late(create, 961), read, claim, ()),
    "expire, completed": Race(late(claimed, 661), listed, COMPLETE, (DONE,)),
    "expire, cancelled": Race(late(claimed, 661), read, cancel, (CANCELLED,), True),
    "expire, reported": Race(
        late(accepted_and_cancelled, 61), read, report(None), ("Found two", CANCELLED), True
    ),
    # Never told to have ended unstarted: its agent may start at this moment.
    "cancel, claimed": Race(create, cancel, claim, (), True),
    "cancel, completed": Race(claimed, cancel, COMPLETE, (DONE,)),
    "report, completed": Race(
        accepted,
        report(FAILED),
        lambda other, _: reported(other, "first", outcome=Outcome.of(ANSWER)),
        (DONE,),
    ),
    "report, cancelled": Race(
        accepted, report(Outcome.of(ANSWER)), cancel, ("Found two", CANCELLED), True
    ),
}


@pytest.fixture
def other(store: TaskStore, network: Network, clock: Clock) -> TaskStore:
    """Somebody else's store, whose clock is two seconds behind."""
    return TaskStore(Network(network.client), store.table_name, clock=lambda: clock.now - 2)


@pytest.mark.parametrize("name", RACES)
def test_a_write_that_loses_a_race_leaves_and_returns_what_the_winner_made_of_the_task(
    store: TaskStore, other: TaskStore, network: Network, name: str
):
    race = RACES[name]
    before = race.before(store)
    network.plan("update_item", after(lambda: race.meanwhile(other, before)))
    told = race.act(store, before)
    task = seen(store)
    assert messages(task) == [*BEGUN, *race.lines]
    assert ("cancel_requested_at" in task) == race.is_cancelled
    assert (told["status"], told.get("error_code")) == (task["status"], task.get("error_code"))


def removed(store: TaskStore, _: Claim | None = None) -> None:
    """By time to live, or by somebody at the console: no tombstone keeps its id."""
    client = store.client.client
    client.delete_item(TableName=store.table_name, Key={"id": {"S": "task-1"}})


@pytest.mark.parametrize(
    "act, operation, meanwhile",
    [
        ("get_task", "update_item", delete),
        ("cancel_task", "update_item", delete),
        ("delete_task", "update_item", delete),
        ("delete_task", "transact_write_items", removed),
    ],
)
def test_a_task_that_is_over_and_then_gone_in_between_is_not_found(
    store: TaskStore, other: TaskStore, act: str, operation: str, meanwhile: Any
):
    late(create, 970)(store)
    store.client.plan(operation, after(lambda: meanwhile(other)))
    with pytest.raises(TaskNotFound):
        getattr(store, act)("task-1", PUBLIC_OWNER)


# --- a worker whose task is not its own any more ------------------------------------------------------


def expired(store: TaskStore, _: Claim) -> None:
    store.clock.now += 661  # type: ignore[attr-defined]
    seen(store)


MEANWHILE: dict[str, Callable[[TaskStore, Claim], Any]] = {
    "complete": lambda store, claim: COMPLETE(store, copy.deepcopy(claim)),
    "fail": lambda store, claim: end(FAILED)(store, copy.deepcopy(claim)),
    "expired": expired,
    "taken": lambda _, claim: setattr(claim, "token", "theirs"),
    "deleted": delete,
    "removed": removed,
}


@pytest.mark.parametrize("name", OF_WORKERS)
@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_worker_writes_nothing_to_a_task_that_is_not_its_own_any_more(
    store: TaskStore, name: str, meanwhile: str
):
    """Final means final, no chunk of a late answer is left behind, and nothing is made again."""
    claim = OF_WORKERS[name].before(store)
    MEANWHILE[meanwhile](store, claim)
    there = everything(store)
    is_its_own = name.removesuffix(" in chunks") == meanwhile
    with nullcontext() if is_its_own else pytest.raises(ClaimLost) as lost:
        OF_WORKERS[name].act(store, claim)
    if lost:
        assert (lost.value.task is None) == (meanwhile in ("deleted", "removed"))
    assert everything(store) == there


@pytest.mark.parametrize("name", OF_WORKERS)
def test_a_worker_writes_nothing_but_its_end_to_a_task_whose_end_was_asked_for(
    store: TaskStore, name: str
):
    claim = OF_WORKERS[name].before(store)
    cancelled(store)
    there = everything(store)
    with pytest.raises(CancelRequested):
        OF_WORKERS[name].act(store, claim)
    assert everything(store) == there


# --- lines that a failed write carried ----------------------------------------------------------------


@pytest.mark.parametrize("losses", [[answer_lost], [request_lost], [answer_lost, answer_lost]])
@pytest.mark.parametrize("later", [0, 2])
@pytest.mark.parametrize("name", ["progress", "accept", "complete", "complete in chunks", "fail"])
def test_lines_of_failed_writes_ride_in_the_next_whether_they_had_arrived_or_not(
    store: TaskStore, network: Network, losses: list[Any], later: int, name: str
):
    claim = claimed(store)
    said = [f"line {number}" for number in range(len(losses) + later)]
    for number, loss in enumerate(losses):
        claim.timeline.add_progress(timestamp(NOW), said[number])
        # What meets the line of the one before goes on behind it.
        for happening in (arrives, loss) if number else (loss,):
            network.plan("update_item", happening)
        with pytest.raises(ReadTimeoutError):
            store.record_progress(claim)
    for line in said[len(losses) :]:
        claim.timeline.add_progress(timestamp(NOW), line)
    OF_WORKERS[name].act(store, claim)
    shown = messages(seen(store))[3:]
    assert shown[: len(said)] == said
    assert len(shown) == len(said) + (name not in ("progress", "accept"))


def test_lines_that_had_arrived_before_the_end_was_asked_for_stand_once(
    store: TaskStore, network: Network
):
    claim = at_work(store)
    network.plan("update_item", answer_lost)
    with pytest.raises(ReadTimeoutError):
        store.record_progress(claim)
    cancelled(store)
    claim.timeline.add_progress(timestamp(NOW), "second")
    with pytest.raises(CancelRequested):
        store.end_task(claim, Outcome.of(ANSWER))
    store.end_task(claim, Outcome.of(ANSWER).cancelled())
    said = ["Looking for painters", "second", EXPIRED["cancelled"]]
    assert messages(seen(store))[3:] == said


@pytest.mark.parametrize("is_final", [False, True])
def test_a_second_acceptance_sets_nothing_back_that_was_reported_meanwhile(
    store: TaskStore, network: Network, clock: Clock, is_final: bool
):
    claim = claimed(store)
    network.plan("update_item", answer_lost)
    with pytest.raises(ReadTimeoutError):
        store.accept_task(claim)
    clock.now += 60
    reported(store, "r-1", "found two", outcome=Outcome.of(ANSWER) if is_final else None)
    there = everything(store)
    store.accept_task(claim)
    assert everything(store) == there
