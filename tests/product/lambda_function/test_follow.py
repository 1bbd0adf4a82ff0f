"""What POST /tasks answers of a task that follows another one."""

import hashlib
import json
from typing import Any

import pytest

from dynamodb_helpers import TaskStore
from tests.product.dynamodb_helpers.test_follow import ANN, QUESTIONS, asking, ended, follow
from tests.product.lambda_function.function import Worker, error_of, items, request, said
from valro.tasks import PUBLIC_OWNER

pytestmark = pytest.mark.usefixtures("worker")


def call(
    method: str, path: str, body: Any = None, user: str | None = "ann", **headers: Any
) -> tuple[int, Any, dict[str, str]]:
    """Sends a request of Ann's; returns status, body and headers."""
    text = None if body is None else json.dumps(body)
    response = request(method, path, text, user=user, **headers)
    return (
        response["statusCode"],
        said(response) if "body" in response else None,
        response["headers"],
    )


def post_follow(key: str = "", **body: Any) -> tuple[int, Any, dict[str, str]]:
    """Has Ann follow task-1."""
    body = {"description": "Yes", "follows": "task-1"} | body
    return call("POST", "/tasks", body, **({"idempotency_key": key} if key else {}))


def test_it_is_accepted_and_dispatched_as_any_task(store: TaskStore, worker: Worker):
    asking(store)
    status, body, headers = post_follow()
    assert (status, body["status"]) == (202, "pending")
    assert headers["Location"] == f"tasks/{body['id']}"
    (event,) = worker.events
    assert event.keys() == {"task_id", "description", "created_at"}
    _, task, _ = call("GET", f"/tasks/{body['id']}")
    assert (task["follows"], task["thread_id"]) == ("task-1", "task-1")
    assert not {"history", "resume", "session", "session_open", "message_id"} & task.keys()


def test_the_earlier_one_shows_it_under_another_etag(store: TaskStore):
    asking(store)
    _, before, headers = call("GET", "/tasks/task-1")
    assert (before["thread_id"], "followed_by" in before) == ("task-1", False)
    _, body, _ = post_follow()
    status, after, _ = call("GET", "/tasks/task-1", if_none_match=headers["ETag"])
    assert status == 200
    assert after == before | {"followed_by": body["id"]}


def test_the_same_key_is_the_same_follow_up_though_the_earlier_one_is_gone(store: TaskStore):
    asking(store)
    _, first, _ = post_follow("k", answers={"i-1": {"a": 1, "b": 2}})
    assert call("DELETE", "/tasks/task-1")[0] == 204
    status, again, headers = post_follow("k", answers={"i-1": {"b": 2, "a": 1}})
    assert (status, again["id"]) == (202, first["id"])
    assert headers["Idempotent-Replayed"] == "true"
    for other in ({"answers": {"i-1": 3}}, {"follows": "task-9"}, {"description": "No"}):
        assert post_follow("k", **other)[:2][1]["code"] == "idempotency_key_reused"
    assert call("POST", "/tasks", {"description": "Yes"}, idempotency_key="k")[0] == 422


def test_the_fingerprint_of_a_first_task_is_what_it_ever_was(store: TaskStore):
    body = {"description": "Yes", "follows": None, "answers": None}
    _, made, _ = call("POST", "/tasks", body, idempotency_key="k")
    kept = store.find_task(made["id"])["fingerprint"]
    assert kept == hashlib.sha256(b"Yes").hexdigest()


@pytest.mark.parametrize(
    "body, code",
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
def test_each_refusal_has_its_code_and_writes_and_starts_nothing(
    store: TaskStore, worker: Worker, body: Any, code: str
):
    asking(store)
    store.create_task("running", "x", ANN)
    ended(store, "two", interrupts=QUESTIONS)
    ended(store, "followed")
    follow(store, "follower", "followed")
    before = items(store)
    status, said, _ = post_follow(**body)
    assert f"{status} {said['code']}" == code
    assert said.get("interrupts") == (QUESTIONS if status == 400 and "two" in str(body) else None)
    assert said.get("followed_by") == ("follower" if said["code"] == "already_followed" else None)
    assert items(store) == before
    assert worker.events == []


def test_a_follow_up_that_could_not_be_dispatched_leaves_the_question_open(
    store: TaskStore, worker: Worker
):
    asking(store)
    worker.failure = error_of("TooManyRequestsException")
    assert post_follow("k")[0] == 502
    worker.failure = None
    assert post_follow("k")[0] == 502
    assert post_follow("another key")[0] == 202


def test_without_sign_in_nobody_follows_unless_the_operator_says_so(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
):
    """Whoever can answer "approve the booking?" must be its owner."""
    store.create_task("public-1", "x")
    store.cancel_task("public-1", PUBLIC_OWNER)
    body = {"description": "Yes", "follows": "public-1"}
    monkeypatch.delenv("PUBLIC_CANCEL_AND_DELETE", raising=False)
    status, said, _ = call("POST", "/tasks", body, user=None)
    assert (status, said["code"]) == (403, "not_allowed")
    monkeypatch.setenv("PUBLIC_CANCEL_AND_DELETE", "true")
    assert call("POST", "/tasks", body, user="bob")[1]["code"] == "task_not_found"
    assert call("POST", "/tasks", body, user=None)[0] == 202
