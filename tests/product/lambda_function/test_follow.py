"""What POST /tasks answers of a task that follows another one."""

import hashlib
import json
from typing import Any

import pytest

from tests.product.dynamodb_helpers.fakes import ANN, QUESTIONS, asking, ended, follow
from tests.product.lambda_function.function import Answer, Api
from valro.api_requests import NewTask


@pytest.fixture
def ann(api: Api) -> Api:
    """Ann's requests; the agent of her task-1 has asked something."""
    api.user = "ann"
    asking(api.store)
    return api


def follow_up(api: Api, key: str = "", user: str | None = None, **body: Any) -> Answer:
    """Has somebody follow task-1."""
    text = json.dumps({"description": "Yes", "follows": "task-1"} | body)
    headers: Any = {"idempotency_key": key} if key else {}
    return api.request("POST", "/tasks", text, user=user, **headers)


def test_it_is_accepted_and_dispatched_as_any_task_and_the_earlier_one_changes(ann: Api):
    before = ann.get("task-1")
    answer = follow_up(ann)
    task_id = answer.body["id"]
    assert (answer.status, answer.body["status"]) == (202, "pending")
    assert answer.headers["Location"] == f"tasks/{task_id}"
    (event,) = ann.worker.events
    assert event.keys() == {"task_id", "description", "created_at"}
    task = ann.read(task_id)
    assert (task["follows"], task["thread_id"]) == ("task-1", "task-1")
    assert not {"history", "resume", "session", "session_open", "message_id"} & task.keys()
    after = ann.read("task-1", if_none_match=before.headers["ETag"])
    assert after == before.body | {"followed_by": task_id}


def test_the_same_key_is_the_same_follow_up_though_the_earlier_one_is_gone(ann: Api):
    first = follow_up(ann, "k", answers={"i-1": {"a": 1, "b": 2}})
    assert ann.delete("task-1").status == 204
    again = follow_up(ann, "k", answers={"i-1": {"b": 2, "a": 1}})
    assert (again.status, again.body["id"]) == (202, first.body["id"])
    assert again.headers["Idempotent-Replayed"] == "true"
    for other in ({"answers": {"i-1": 3}}, {"follows": "task-9"}, {"description": "No"}):
        assert follow_up(ann, "k", **other).error == "422 idempotency_key_reused"
    assert ann.post("Yes", idempotency_key="k").error == "422 idempotency_key_reused"


def test_each_field_of_a_body_changes_its_fingerprint():
    body = NewTask("Yes", "task-1", {"i-1": "Yes"})
    other = NewTask("No", "task-2", {"i-1": "No"})
    changed = [body._replace(**{name: getattr(other, name)}) for name in NewTask._fields]
    assert len({one.fingerprint() for one in (body, *changed)}) == 1 + len(NewTask._fields)


def test_the_fingerprint_of_a_first_task_is_what_it_ever_was(ann: Api):
    made = follow_up(ann, "k", follows=None, answers=None)
    kept = ann.store.find_task(made.body["id"])["fingerprint"]
    assert kept == hashlib.sha256(b"Yes").hexdigest()


@pytest.mark.parametrize(
    "body, error",
    [
        ({"follows": "task-9"}, "404 task_not_found"),
        ({"follows": ""}, "404 task_not_found"),
        ({"follows": 7}, "400 invalid_body"),
        ({"follows": None, "answers": {}}, "400 invalid_answers"),
        ({"answers": ["i-1"]}, "400 invalid_answers"),
        ({"answers": {"i-9": 1}}, "400 invalid_answers"),
        ({"follows": "running"}, "409 task_not_final"),
        ({"follows": "two"}, "400 answers_required"),
        ({"follows": "followed"}, "409 already_followed"),
    ],
)
def test_each_refusal_has_its_code_and_writes_and_starts_nothing(ann: Api, body: Any, error: str):
    ann.store.create_task("running", "x", ANN)
    ended(ann.store, "two", interrupts=QUESTIONS)
    ended(ann.store, "followed")
    follow(ann.store, "follower", "followed")
    before = ann.items()
    answer = follow_up(ann, **body)
    assert answer.error == error
    assert answer.body.get("interrupts") == (QUESTIONS if "required" in error else None)
    assert answer.body.get("followed_by") == ("follower" if "followed" in error else None)
    assert (ann.items(), ann.worker.events) == (before, [])


def test_without_sign_in_nobody_follows_unless_the_operator_says_so(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    """Whoever can answer "approve the booking?" must be its owner."""
    task_id = api.create()
    api.cancel(task_id)
    with monkeypatch.context() as patch:
        patch.delenv("PUBLIC_CANCEL_AND_DELETE")
        assert follow_up(api, follows=task_id).error == "403 not_allowed"
    assert follow_up(api, follows=task_id, user="bob").error == "404 task_not_found"
    assert follow_up(api, follows=task_id).status == 202
