"""Following over HTTP: what POST /tasks answers, and whole conversations on the local AWS."""

# ruff: noqa: F811  fixtures are imported, and named again by who uses them
import hashlib
import io
import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from dynamodb_helpers import TaskStore
from lambda_function import lambda_handler
from tests.conftest import serve_from
from tests.product.test_conversations import (  # noqa: F401  pytest finds the fixtures here
    ANN,
    QUESTIONS,
    asking,
    clock,
    ended,
    follow,
    network,
    store,
)
from tests.product.test_dynamodb_helpers import everything
from valro.tasks import PUBLIC_OWNER

Answered = tuple[int, dict[str, Any], dict[str, str]]


class TestRoute:
    """What POST /tasks answers of a task that follows another one."""

    @pytest.fixture(autouse=True)
    def api(self, store: TaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[dict[str, Any]] = []
        self.is_worker_gone = False

        def invoke(**request: Any) -> dict[str, Any]:
            if self.is_worker_gone:
                raise ClientError({"Error": {"Code": "TooManyRequestsException"}}, "Invoke")
            self.events.append(json.loads(request["Payload"]))
            return {"Payload": io.BytesIO()}

        serve_from(monkeypatch, store, SimpleNamespace(invoke=invoke))

    def call(
        self, method: str, path: str, body: Any = None, user: str | None = "ann", **headers: str
    ) -> Answered:
        authorizer = {"jwt": {"claims": {"sub": user}}} if user else None
        context = {"http": {"method": method, "path": path}, "authorizer": authorizer}
        event = {"version": "2.0", "rawPath": path, "requestContext": context}
        event["headers"] = {name.replace("_", "-"): value for name, value in headers.items()}
        event |= {"body": json.dumps(body)} if body is not None else {}
        response = lambda_handler(event, None)
        return response["statusCode"], json.loads(response.get("body") or "{}"), response["headers"]

    def follow(self, key: str = "", **body: Any) -> Answered:
        body = {"description": "Yes", "follows": "task-1"} | body
        return self.call("POST", "/tasks", body, **({"idempotency_key": key} if key else {}))

    def test_it_is_accepted_and_dispatched_as_any_task(self, store: TaskStore):
        asking(store)
        status, body, headers = self.follow()
        assert (status, body["status"]) == (202, "pending")
        assert headers["Location"] == f"tasks/{body['id']}"
        (event,) = self.events
        assert event.keys() == {"task_id", "description", "created_at"}
        _, task, _ = self.call("GET", f"/tasks/{body['id']}")
        assert (task["follows"], task["thread_id"]) == ("task-1", "task-1")
        assert not {"history", "resume", "session", "session_open", "message_id"} & task.keys()

    def test_the_earlier_one_shows_it_under_another_etag(self, store: TaskStore):
        asking(store)
        _, before, headers = self.call("GET", "/tasks/task-1")
        assert (before["thread_id"], "followed_by" in before) == ("task-1", False)
        _, body, _ = self.follow()
        status, after, _ = self.call("GET", "/tasks/task-1", if_none_match=headers["ETag"])
        assert status == 200
        assert after == before | {"followed_by": body["id"]}

    def test_the_same_key_is_the_same_follow_up_though_the_earlier_one_is_gone(
        self, store: TaskStore
    ):
        asking(store)
        _, first, _ = self.follow("k", answers={"i-1": {"a": 1, "b": 2}})
        assert self.call("DELETE", "/tasks/task-1")[0] == 204
        status, again, headers = self.follow("k", answers={"i-1": {"b": 2, "a": 1}})
        assert (status, again["id"]) == (202, first["id"])
        assert headers["Idempotent-Replayed"] == "true"
        for other in ({"answers": {"i-1": 3}}, {"follows": "task-9"}, {"description": "No"}):
            assert self.follow("k", **other)[:2][1]["code"] == "idempotency_key_reused"
        assert self.call("POST", "/tasks", {"description": "Yes"}, idempotency_key="k")[0] == 422

    def test_the_fingerprint_of_a_first_task_is_what_it_ever_was(self, store: TaskStore):
        body = {"description": "Yes", "follows": None, "answers": None}
        _, made, _ = self.call("POST", "/tasks", body, idempotency_key="k")
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
        self, store: TaskStore, body: Any, code: str
    ):
        asking(store)
        store.create_task("running", "x", ANN)
        ended(store, "two", interrupts=QUESTIONS)
        ended(store, "followed")
        follow(store, "follower", "followed")
        before = everything(store)
        status, said, _ = self.follow(**body)
        assert f"{status} {said['code']}" == code
        assert said.get("interrupts") == (
            QUESTIONS if status == 400 and "two" in str(body) else None
        )
        assert said.get("followed_by") == (
            "follower" if said["code"] == "already_followed" else None
        )
        assert everything(store) == before
        assert self.events == []

    def test_a_follow_up_that_could_not_be_dispatched_leaves_the_question_open(
        self, store: TaskStore
    ):
        asking(store)
        self.is_worker_gone = True
        assert self.follow("k")[0] == 502
        self.is_worker_gone = False
        assert self.follow("k")[0] == 502
        assert self.follow("another key")[0] == 202

    def test_without_sign_in_nobody_follows_unless_the_operator_says_so(
        self, store: TaskStore, monkeypatch: pytest.MonkeyPatch
    ):
        """Whoever can answer "approve the booking?" must be its owner."""
        store.create_task("public-1", "x")
        store.cancel_task("public-1", PUBLIC_OWNER)
        body = {"description": "Yes", "follows": "public-1"}
        monkeypatch.delenv("PUBLIC_CANCEL_AND_DELETE")
        status, said, _ = self.call("POST", "/tasks", body, user=None)
        assert (status, said["code"]) == (403, "not_allowed")
        monkeypatch.setenv("PUBLIC_CANCEL_AND_DELETE", "true")
        assert self.call("POST", "/tasks", body, user="bob")[1]["code"] == "task_not_found"
        assert self.call("POST", "/tasks", body, user=None)[0] == 202
