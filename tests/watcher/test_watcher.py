"""Tasks that nobody reads, on the local AWS: each ends, is told of, and its session is stopped."""

import copy
import functools
import json
import time
from typing import Any

import pytest

from local import REGION
from tests.conftest import eventually
from tests.watcher.conftest import Watched
from valro.dynamodb_items import to_item
from valro.tasks import Outcome

pytestmark = pytest.mark.e2e

ROLE = f"valro-watcher-{REGION}"
POLICY = "ValroWatcherPolicy"
KINDS = {
    "never started": "not_started",
    "worker lost": "worker_lost",
    "silent": "agent_lost",
    "cancelled and forgotten": "cancelled",
}


def test_each_kind_of_overdue_task_ends_though_nobody_reads_it(watched: Watched):
    tasks = {kind: watched.overdue(kind) for kind in KINDS}
    late = time.time() + 2
    assert {watched.item(task_id)["status"] for task_id in tasks.values()} == {
        "pending",
        "processing",
    }

    for kind, task_id in tasks.items():
        watched.ends(task_id, KINDS[kind], is_stopped=kind != "never started")
        ((told, detail),) = watched.told(task_id)
        assert told == ("Task Cancelled" if kind == "cancelled and forgotten" else "Task Failed")
        assert detail["may_have_acted"] == (kind != "never started")
    # A second of the timer's, and one of this machine's other work.
    assert time.time() < late + 15
    eventually(watched.is_quiet, bool)


def test_a_task_that_an_agent_completes_is_told_of_once_whatever_becomes_of_it(watched: Watched):
    task_id = watched.create("Find me a painter in Austin")
    big = watched.claimed()
    watched.store.end_task(big, Outcome.of({"agent_response": "a" * 500_000}))
    assert watched.item(big.task["id"])["chunks"]
    for one in (task_id, big.task["id"]):
        eventually(functools.partial(watched.told, one), bool)
        watched.store.delete_task(one, "public")
    after = watched.overdue("worker lost")
    watched.ends(after, "worker_lost")
    for one in (task_id, big.task["id"]):
        ((kind, detail),) = watched.told(one)
        assert (kind, "error_code" in detail) == ("Task Completed", False)
    assert [watched.stopped(one) for one in (task_id, big.task["id"])] == [0, 0]


@pytest.mark.parametrize(
    "action, seen",
    [
        ("dynamodb:GetItem", (None, False, False)),
        ("dynamodb:UpdateItem", (None, False, False)),
        ("sqs:SendMessage", (None, False, False)),
        ("events:PutEvents", ("agent_lost", False, True)),
        ("lambda:InvokeFunction", ("agent_lost", True, False)),
    ],
)
def test_without_a_right_something_waits_and_nothing_is_lost(
    watched: Watched, action: str, seen: tuple[str | None, bool, bool]
):
    """Which is also: none of the rights that are checked here can be taken from the role."""
    iam, place = watched.client("iam"), {"RoleName": ROLE, "PolicyName": POLICY}
    policy = iam.get_role_policy(**place)["PolicyDocument"]
    mutant = copy.deepcopy(policy)
    for statement in mutant["Statement"]:
        actions = statement["Action"]
        listed = [actions] if isinstance(actions, str) else actions
        statement["Action"] = [each for each in listed if each != action] or ["none:None"]
    iam.put_role_policy(**place, PolicyDocument=json.dumps(mutant))
    try:
        task_id = watched.overdue("silent", seconds=0)
        time.sleep(4)
        item, told = watched.item(task_id), watched.told(task_id)
        assert (item.get("error_code"), bool(told), watched.stopped(task_id) > 0) == seen
    finally:
        iam.put_role_policy(**place, PolicyDocument=json.dumps(policy))
    watched.ends(task_id, "agent_lost")


def test_while_the_function_fails_nothing_is_lost(watched: Watched):
    functions = watched.client("lambda")
    functions.update_function_configuration(
        FunctionName="valro-watcher", Handler="watcher_lambda.x"
    )
    try:
        tasks = {kind: watched.overdue(kind, seconds=0) for kind in KINDS}
        time.sleep(3)
        assert not any("error_code" in watched.item(task_id) for task_id in tasks.values())
    finally:
        handler = "watcher_lambda.lambda_handler"
        functions.update_function_configuration(FunctionName="valro-watcher", Handler=handler)
    for kind, task_id in tasks.items():
        watched.ends(task_id, KINDS[kind], is_stopped=kind != "never started")


def test_a_slow_queue_is_late_and_loses_nothing(watched: Watched):
    queue = {"QueueUrl": watched.queue_url}
    watched.client("sqs").set_queue_attributes(**queue, Attributes={"DelaySeconds": "6"})
    try:
        task_id = watched.overdue("worker lost", seconds=0)
        time.sleep(3)
        assert watched.item(task_id)["status"] == "processing"
    finally:
        watched.client("sqs").set_queue_attributes(**queue, Attributes={"DelaySeconds": "1"})
    watched.ends(task_id, "worker_lost")


def change(watched: Watched, task_id: str, number: str, **fields: Any) -> dict[str, Any]:
    """What the stream says of a task, with these fields in the place of those that it has now."""
    image = to_item({"id": task_id}) | to_item(watched.item(task_id) | {"events": []} | fields)
    about = {"SequenceNumber": number, "Keys": to_item({"id": task_id}), "NewImage": image}
    return {"eventSource": "aws:dynamodb", "dynamodb": about}


def test_changes_that_come_twice_out_of_order_and_hours_late_end_and_tell_all_the_same(
    watched: Watched,
):
    task_id = watched.overdue("worker lost", seconds=-7200)
    watched.ends(task_id, "worker_lost")
    ended, began = change(watched, task_id, "2"), change(watched, task_id, "1", status="pending")

    assert watched.invoke(ended, began, ended, began) == []
    told = eventually(lambda: watched.told(task_id), lambda told: len(told) >= 3)
    assert all(each == told[0] for each in told)  # at least once: its id tells repeats apart
    eventually(watched.is_quiet, bool)
    assert watched.item(task_id)["event_seq"] == 4  # and ended once


def test_a_change_that_can_never_be_handled_is_logged_and_does_not_stop_the_others(
    watched: Watched,
):
    junk = {
        "SequenceNumber": "1",
        "Keys": {"id": {"S": "junk"}},
        "NewImage": {"status": "completed"},
    }
    behind = watched.claimed()
    watched.store.end_task(behind, Outcome())
    end = change(watched, behind.task["id"], "2")
    assert watched.invoke({"eventSource": "aws:dynamodb", "dynamodb": junk}, end) == []
    eventually(lambda: watched.told(behind.task["id"]), lambda told: len(told) == 2)
    watched.client("sqs").send_message(QueueUrl=watched.queue_url, MessageBody="junk")
    task_id = watched.overdue("worker lost", seconds=0)

    watched.ends(task_id, "worker_lost")
    eventually(watched.is_quiet, bool)
    lines = eventually(
        lambda: watched.logged("valro-backend", "watch_failed"), lambda lines: len(lines) > 1
    )
    assert {json.loads(line)["of"] for line in lines} == {"junk"}
