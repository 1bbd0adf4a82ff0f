"""What the API promises to those who call it: an HTTP event in, an HTTP response out, always."""

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from urllib3.exceptions import IncompleteRead, ProtocolError

import lambda_function
from dynamodb_helpers import TaskStore
from lambda_function import lambda_handler, main
from tests.product.lambda_function.function import (
    DESCRIPTION,
    EVENTS,
    POSTS,
    WORKER_ARN,
    Context,
    Payload,
    Worker,
    checked,
    claim,
    code_of,
    complete,
    error_of,
    event,
    items,
    let_pass,
    log_lines,
    post,
    read,
    request,
    said,
)
from valro import aws
from valro.dynamodb_items import TABLE_DEFINITION
from valro.tasks import PUBLIC_OWNER


class TestPost:
    def test_a_task_is_written_its_worker_started_and_202_said_at_once(
        self, store: TaskStore, worker: Worker
    ):
        response = post()
        body = said(response)
        assert response["statusCode"] == 202
        assert body == {
            "id": body["id"],
            "status": "pending",
            "message": "Task created and processing started",
        }
        assert response["headers"]["Location"] == f"tasks/{body['id']}"
        assert response["headers"]["Retry-After"] == "1"
        assert "Idempotent-Replayed" not in response["headers"]
        (item,) = items(store)
        assert item["id"]["S"] == body["id"]
        assert item["status"]["S"] == "pending"
        assert item["description"]["S"] == DESCRIPTION

    def test_the_worker_gets_the_task_asynchronously(self, store: TaskStore, worker: Worker):
        task_id = said(post())["id"]
        (invocation,) = worker.invocations
        assert invocation == {
            "FunctionName": WORKER_ARN,
            "InvocationType": "Event",
            "event": {
                "task_id": task_id,
                "description": DESCRIPTION,
                "created_at": read(task_id)["created_at"],
            },
        }

    def test_the_invocations_answer_is_read_so_that_the_connection_lives_on(self, worker: Worker):
        post()
        assert [payload.was_read for payload in worker.payloads] == [True]

    def test_the_description_is_trimmed(self, worker: Worker):
        assert read(said(post("  x\n"))["id"])["description"] == "x"
        assert worker.events[0]["description"] == "x"

    def test_the_outcome_is_logged_with_both_ids(
        self, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        task_id = said(post())["id"]
        (line,) = log_lines(capsys)
        assert line["outcome"] == "accepted"
        assert line["task_id"] == task_id
        assert line["request_id"] == Context.aws_request_id
        assert "status" not in line

    @pytest.mark.parametrize("field", ["webhok", "id", "status", "owner", "Description"])
    def test_a_field_that_there_is_not_is_named(self, worker: Worker, field: str):
        """One that is ignored in silence is worse: a misspelt one, or one of a later version."""
        response = request("POST", "/tasks", json.dumps({"description": "x", field: "mine"}))
        assert code_of(response) == (400, "invalid_body")
        assert f"'{field}'" in said(response)["error"]

    def test_a_byte_order_mark_before_the_body_is_no_part_of_it(self, worker: Worker):
        body = json.dumps({"description": "x"})
        assert request("POST", "/tasks", f"\ufeff{body}")["statusCode"] == 202

    @pytest.mark.parametrize("name", POSTS)
    def test_events_of_every_shape_are_understood(
        self, store: TaskStore, worker: Worker, name: str
    ):
        response = checked(lambda_handler(event(name), Context()))
        body = said(response)
        owner = "jwt#user-1" if "jwt" in name or "cognito" in name else PUBLIC_OWNER
        assert response["statusCode"] == 202
        assert response["headers"]["Location"] == f"tasks/{body['id']}"
        assert store.get_task(body["id"], owner)["description"] == DESCRIPTION

    @pytest.mark.parametrize(
        "body",
        [
            *(None, {"description": "x"}, 7, ["x"], True),
            "",
            " ",
            "not json",
            "{",
            "null",
            "7",
            '"description"',
            "[]",
            '["description"]',
            "{}",
            '{"Description": "x"}',
            '{"description": "x", "follow": "y"}',
            '{"description": null}',
            '{"description": 7}',
            '{"description": ["x"]}',
            '{"description": ""}',
            '{"description": " \\n\\u2003"}',
            '{"description": "\\ud800"}',
            json.dumps({"description": "x" * 4001}),
            "\ud800",
            "\ufeff{}",
            "[" * 60_000,
            '{"description": "x"} and more',
            "1" * 5_000,
        ],
    )
    def test_a_body_that_cannot_be_used_is_400_and_writes_nothing(
        self, store: TaskStore, worker: Worker, body: Any
    ):
        response = request("POST", "/tasks", body)
        assert response["statusCode"] == 400
        assert said(response)["code"] in ("invalid_body", "invalid_description")
        assert items(store) == []
        assert worker.events == []

    @pytest.mark.parametrize(
        "body,reason",
        [
            ("not base64!", "it is not base64"),
            ("é", "it is not base64"),
            ("YWJ", "it is not base64"),
            (base64.b64encode(b"\xff\xfe").decode(), "it is not UTF-8"),
            (base64.b64encode(b'{"description": "\xe9"}').decode(), "it is not UTF-8"),
            (base64.b64encode(b"{").decode(), "it is not JSON"),
            ("", "it is empty"),
        ],
    )
    def test_an_encoded_body_that_cannot_be_used_says_why(
        self, store: TaskStore, worker: Worker, body: Any, reason: Any
    ):
        response = request("POST", "/tasks", body, is_base64=True)
        assert response["statusCode"] == 400
        assert reason in said(response)["error"]
        assert items(store) == []

    def test_the_length_of_a_description_is_told(self, worker: Worker):
        assert "at most 4,000 characters, not 4,001" in said(post("x" * 4001))["error"]

    @pytest.mark.parametrize("is_base64", [False, True])
    @pytest.mark.parametrize("size,status", [(65_536, 202), (65_537, 413)])
    def test_a_body_has_64_kb_at_most(
        self, store: TaskStore, worker: Worker, is_base64: Any, size: int, status: Any
    ):
        text = '{"description": "é"}'.encode()
        data = text + b" " * (size - len(text))
        body = base64.b64encode(data).decode() if is_base64 else data.decode()
        assert request("POST", "/tasks", body, is_base64=is_base64)["statusCode"] == status
        assert len(items(store)) == (1 if status == 202 else 0)

    @pytest.mark.parametrize("value", [None, ""])
    def test_without_a_workers_arn_nothing_is_written(
        self, store: TaskStore, worker: Worker, monkeypatch: pytest.MonkeyPatch, value: Any
    ):
        if value is None:
            monkeypatch.delenv("WORKER_LAMBDA_ARN")
        else:
            monkeypatch.setenv("WORKER_LAMBDA_ARN", value)
        response = post()
        assert response["statusCode"] == 500
        assert said(response) == {"error": "WORKER_LAMBDA_ARN not set", "code": "not_configured"}
        assert items(store) == []

    def test_without_a_workers_arn_tasks_are_shown(
        self, store: TaskStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ):
        task_id = said(post())["id"]
        monkeypatch.delenv("WORKER_LAMBDA_ARN")
        assert read(task_id)["status"] == "pending"
        assert request("GET")["statusCode"] == 200


class TestWorkerUnavailable:
    # Lambda's answer to Invoke streams, so that urllib3's errors come out as they are.
    CUTS = (IncompleteRead(10, 20), ProtocolError("Connection broken"))

    @pytest.mark.parametrize(
        "failure, reason",
        [
            (error_of("AccessDeniedException"), "AccessDeniedException"),
            (error_of("TooManyRequestsException"), "TooManyRequestsException"),
            (ConnectTimeoutError(endpoint_url="https://lambda"), "no connection"),
            (ReadTimeoutError(endpoint_url="https://lambda"), "no connection"),
            *((cut, "no connection") for cut in CUTS),
        ],
    )
    def test_the_task_is_kept_as_error_and_502_names_it(
        self, worker: Worker, failure: Any, reason: str, capsys: pytest.CaptureFixture[str]
    ):
        worker.failure = failure
        response = post()
        body = said(response)
        assert response["statusCode"] == 502
        assert body["code"] == "worker_unavailable"
        assert response["headers"]["Location"] == f"tasks/{body['id']}"
        task = read(body["id"])
        assert (task["status"], task["error_code"]) == ("error", "dispatch_failed")
        assert f"({reason})" in task["error_message"]
        assert task["events"][-1]["message"] == f"Error invoking worker: {task['error_message']}"
        assert task["events"][-1]["type"] == "error"
        assert "arn:" not in json.dumps([response, task])
        (line,) = log_lines(capsys)
        assert line["outcome"] == "dispatch_failed"
        assert line["task_id"] == body["id"]
        assert str(failure) in line["detail"]  # the operator learns all of it

    @pytest.mark.parametrize("failure", CUTS, ids=lambda error: type(error).__name__)
    def test_a_cut_acceptance_is_one_since_the_event_was_taken(
        self, worker: Worker, monkeypatch: pytest.MonkeyPatch, failure: Exception
    ):
        def cut(_payload: Payload, amt: int | None = None) -> bytes:
            raise failure

        monkeypatch.setattr(Payload, "read", cut)
        response = post()
        assert response["statusCode"] == 202
        assert read(said(response)["id"])["status"] == "pending"

    def test_a_worker_that_has_the_task_after_all_makes_it_202(
        self, store: TaskStore, worker: Worker
    ):
        """Only the answer to the invocation was lost."""
        worker.meanwhile = lambda task_id: store.claim_task(task_id, "t", 4e9)
        worker.failure = ReadTimeoutError(endpoint_url="https://lambda")
        response = post()
        assert response["statusCode"] == 202
        assert said(response)["status"] == "processing"
        assert read(said(response)["id"])["status"] == "processing"

    def test_if_the_failure_cannot_be_written_either_it_stays_pending_and_its_deadline_ends_it(
        self,
        store: TaskStore,
        worker: Worker,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        def refuse(*_: Any, **__: Any) -> Any:
            raise error_of("ProvisionedThroughputExceededException")

        worker.failure = error_of("TooManyRequestsException")
        with monkeypatch.context() as patch:
            patch.setattr(store, "fail_pending_task", refuse)
            response = post()
        assert response["statusCode"] == 202
        assert said(response)["status"] == "pending"
        assert [line["message"] for line in log_lines(capsys)][:2] == [
            "worker not started",
            "failure not written",
        ]
        task_id = said(response)["id"]
        assert read(task_id)["status"] == "pending"
        let_pass(store, task_id, 961)
        assert read(task_id)["status"] == "error"


class TestIdempotency:
    def test_the_same_key_and_body_are_one_task(
        self, store: TaskStore, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        first, second = post(idempotency_key="k-1"), post(idempotency_key="k-1")
        assert [line["outcome"] for line in log_lines(capsys)] == ["accepted", "replayed"]
        assert said(first) == said(second)
        assert second["statusCode"] == 202
        assert second["headers"]["Location"] == first["headers"]["Location"]
        assert second["headers"]["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first["headers"]
        assert len(items(store)) == len(worker.events) == 1

    def test_a_body_that_only_looks_different_is_the_same(self, worker: Worker):
        first = request("POST", "/tasks", '{"description":"x"}', idempotency_key="k")
        second = request("POST", "/tasks", '{ "description": " \\u0078 "}', idempotency_key="k")
        assert said(first)["id"] == said(second)["id"]

    def test_another_description_is_422_and_changes_nothing(self, store: TaskStore, worker: Worker):
        post(idempotency_key="k-1")
        before = items(store)
        response = post("Something else", idempotency_key="k-1")
        assert response["statusCode"] == 422
        assert said(response)["code"] == "idempotency_key_reused"
        assert items(store) == before
        assert len(worker.events) == 1

    def test_another_users_key_is_another_task(self, store: TaskStore, worker: Worker):
        ids = {said(post(idempotency_key="k", user=user))["id"] for user in (None, "a", "b", "a")}
        assert len(ids) == len(items(store)) == 3

    def test_the_current_status_is_told(self, store: TaskStore, worker: Worker):
        task_id = said(post(idempotency_key="k-1"))["id"]
        complete(store, task_id)
        response = post(idempotency_key="k-1")
        assert response["statusCode"] == 202
        assert said(response)["status"] == "completed"
        assert "Retry-After" not in response["headers"]

    @pytest.mark.parametrize("seconds,starts", [(25, 1), (35, 2)])
    def test_a_task_still_pending_after_30_s_is_dispatched_again(
        self, store: TaskStore, worker: Worker, seconds: Any, starts: Any
    ):
        """The client that made it may have died before it started the worker."""
        task_id = said(post(idempotency_key="k-1"))["id"]
        let_pass(store, task_id, seconds)
        before = items(store)
        assert said(post(idempotency_key="k-1"))["id"] == task_id
        assert [sent["task_id"] for sent in worker.events] == [task_id] * starts
        assert items(store) == before

    def test_a_second_dispatch_that_fails_leaves_the_task_to_its_first_event(
        self, store: TaskStore, worker: Worker
    ):
        """Which may be queued still."""
        task_id = said(post(idempotency_key="k"))["id"]
        let_pass(store, task_id, 31)
        worker.failure = error_of("TooManyRequestsException")
        response = post(idempotency_key="k")
        assert response["statusCode"] == 202
        assert said(response)["status"] == "pending"
        assert len(worker.events) == 2
        assert claim(store, task_id).is_fresh

    def test_a_running_task_is_not_dispatched_again(self, store: TaskStore, worker: Worker):
        task_id = said(post(idempotency_key="k-1"))["id"]
        store.claim_task(task_id, "t", 4e9)
        let_pass(store, task_id, 60)
        assert said(post(idempotency_key="k-1"))["status"] == "processing"
        assert len(worker.events) == 1

    def test_an_overdue_task_is_not_dispatched_again_but_ended(
        self, store: TaskStore, worker: Worker
    ):
        task_id = said(post(idempotency_key="k-1"))["id"]
        let_pass(store, task_id, 961)
        assert said(post(idempotency_key="k-1"))["status"] == "error"
        assert len(worker.events) == 1

    def test_a_failed_dispatch_stays_failed_with_the_same_502(
        self, store: TaskStore, worker: Worker
    ):
        worker.failure = error_of("TooManyRequestsException")
        first = post(idempotency_key="k-1")
        worker.failure = None
        second = post(idempotency_key="k-1")
        assert (second["statusCode"], said(second)) == (502, said(first))
        assert second["headers"]["Idempotent-Replayed"] == "true"
        assert len(worker.events) == 1

    @pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb", "a\nb", "\x7f", "a\n"])
    def test_a_malformed_key_is_400_and_writes_nothing(
        self, store: TaskStore, worker: Worker, key: Any
    ):
        response = post(idempotency_key=key)
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_idempotency_key"
        assert items(store) == []

    @pytest.mark.parametrize("key", ["x", "x" * 255, '"quoted key"', "~!@ #"])
    def test_any_printable_key_will_do(self, worker: Worker, key: Any):
        assert said(post(idempotency_key=key))["id"] == said(post(idempotency_key=key))["id"]

    @pytest.mark.e2e
    def test_200_threads_with_one_key_and_two_bodies_make_one_task_and_start_it_once(
        self, store: TaskStore, worker: Worker, monkeypatch: pytest.MonkeyPatch
    ):
        """Since moto is not thread-safe, a lock makes each of its calls atomic, as DynamoDB's are."""
        lock, real = threading.Lock(), store.client

        class Atomic:
            def __getattr__(self, operation: str) -> Callable[..., Any]:
                def call(**arguments: Any) -> Any:
                    with lock:
                        return getattr(real, operation)(**arguments)

                return call

        monkeypatch.setattr(store, "client", Atomic())
        with ThreadPoolExecutor(200) as pool:
            responses = list(
                pool.map(lambda n: post(f"Body {n % 2}", idempotency_key="k-1"), range(200))
            )
        taken = [response for response in responses if response["statusCode"] == 202]
        assert sorted(response["statusCode"] for response in responses) == [202] * 100 + [422] * 100
        assert len({said(response)["id"] for response in taken}) == 1
        assert len(items(store)) == len(worker.events) == 1
        replays = [response["headers"].get("Idempotent-Replayed") for response in taken]
        assert sorted(replays, key=str) == [None] + ["true"] * 99


class TestOwner:
    @pytest.mark.parametrize(
        "name",
        [
            "http_api_v2_lambda_authorizer",
            "http_api_v2_iam_authorizer",
            "rest_api_v1_custom_authorizer",
        ],
    )
    def test_an_authorizer_that_names_no_user_is_403(self, store: TaskStore, name: str):
        response = checked(lambda_handler(event(name), None))
        assert response["statusCode"] == 403
        assert said(response)["code"] == "no_subject"

    @pytest.mark.parametrize(
        "authorizer",
        [
            {"jwt": {"claims": {}}},
            {"jwt": {"claims": {"sub": ""}}},
            {"jwt": {"claims": {"sub": None}}},
            {"jwt": {"claims": {"sub": 7}}},
            {"jwt": {"claims": {"sub": "x" * 256}}},
            {"jwt": {"claims": {"sub": "\ud800"}}},
            {"jwt": {"claims": None}},
            {"jwt": None},
            {"jwt": "x"},
            {"claims": {}},
            {"claims": {"email": "a@example.com"}},
            {"claims": "sub"},
            {"lambda": {}},
            {"principalId": "a"},
            "somebody",
            ["a"],
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_strange_authorizer_never_opens_what_is_public(
        self, store: TaskStore, worker: Worker, authorizer: Any, method: str
    ):
        sent = event("http_api_v2_post")
        sent["requestContext"]["http"]["method"] = method
        sent["requestContext"]["authorizer"] = authorizer
        assert checked(lambda_handler(sent, None))["statusCode"] == 403
        assert items(store) == []

    @pytest.mark.parametrize("authorizer", [None, {}, {"claims": None, "scopes": None}])
    def test_a_caller_whom_only_iam_knows_is_403(self, store: TaskStore, authorizer: Any):
        sent = event("rest_api_v1_get_list")
        sent["requestContext"]["authorizer"] = authorizer
        sent["requestContext"]["identity"]["userArn"] = "arn:aws:iam::123456789012:user/ann"
        assert code_of(checked(lambda_handler(sent, None))) == (403, "no_subject")

    @pytest.mark.parametrize("authorizer", [None, {}, {"claims": None, "scopes": None}])
    def test_no_authorizer_is_the_public(self, store: TaskStore, worker: Worker, authorizer: Any):
        sent = event("http_api_v2_post")
        sent["requestContext"]["authorizer"] = authorizer
        assert checked(lambda_handler(sent, None))["statusCode"] == 202
        assert items(store)[0]["owner"]["S"] == PUBLIC_OWNER

    def test_a_user_called_public_is_not_the_public(self, store: TaskStore, worker: Worker):
        post(user="public")
        assert items(store)[0]["owner"]["S"] == "jwt#public"

    def test_the_user_is_named_to_nobody(self, worker: Worker):
        response = post(user="user-1")
        task = read(said(response)["id"], user="user-1")
        assert "user-1" not in json.dumps([response, task])


class TestRoutes:
    @pytest.mark.parametrize(
        "method,path,allowed",
        [
            ("DELETE", "/tasks", "GET, POST, OPTIONS"),
            ("PUT", "/tasks/", "GET, POST, OPTIONS"),
            ("HEAD", "/tasks", "GET, POST, OPTIONS"),
            ("POST", "/tasks/x", "GET, DELETE, OPTIONS"),
            ("PUT", "/tasks/x", "GET, DELETE, OPTIONS"),
            ("GET", "/tasks/x/cancel", "POST, OPTIONS"),
            ("", "/tasks", "GET, POST, OPTIONS"),
        ],
    )
    def test_another_method_is_405_and_says_which_are_allowed(
        self, method: str, path: str, allowed: Any
    ):
        response = checked(lambda_handler({"httpMethod": method, "path": path}, None))
        assert response["statusCode"] == 405
        assert response["headers"]["Allow"] == allowed
        assert said(response)["code"] == "method_not_allowed"

    @pytest.mark.parametrize(
        "path", ["", "/", "//", "/task", "/Tasks", "tasks", "/tasks/a/b", "/x/tasks", "//tasks"]
    )
    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    def test_another_path_is_404(self, method: str, path: str):
        response = checked(lambda_handler({"httpMethod": method, "path": path}, None))
        assert response["statusCode"] == 404
        assert said(response)["code"] == "not_found"

    @pytest.mark.parametrize(
        "path", ["/tasks", "/tasks/", "/tasks/x", "/tasks/x/cancel", "/tasks/x/reports"]
    )
    def test_a_preflight_allows_what_the_api_takes(self, path: str):
        response = request("OPTIONS", path)
        assert response["statusCode"] == 204
        assert "body" not in response
        headers = response["headers"]
        assert headers["Access-Control-Allow-Methods"] == "GET,POST,DELETE,OPTIONS"
        # To a browser, * is every header but authorization, and to an old one none.
        allowed = headers["Access-Control-Allow-Headers"].split(",")
        assert set(allowed) > {"*", "authorization", "content-type", "traceparent", "baggage"}

    @pytest.mark.parametrize(
        "sent",
        [
            None,
            [],
            "GET /tasks",
            7,
            {},
            {"httpMethod": "GET"},
            {"path": "/tasks"},
            {"httpMethod": None, "path": "/tasks"},
            {"httpMethod": "GET", "path": ["tasks"]},
            {"task_id": "test-123", "description": "Find me a painter"},
            {"Records": []},
        ],
    )
    def test_an_event_that_is_no_request_is_400(self, sent: Any):
        response = checked(lambda_handler(sent, None))
        assert response["statusCode"] == 400
        assert said(response)["code"] == "invalid_event"

    def test_a_stage_called_tasks_is_told_from_the_path(self, store: TaskStore, worker: Worker):
        sent = event("http_api_v2_post")
        sent["rawPath"] = "/tasks/tasks"
        sent["requestContext"]["stage"] = "tasks"
        response = checked(lambda_handler(sent, None))
        assert response["statusCode"] == 202
        assert response["headers"]["Location"].startswith("tasks/")
        task_id = said(response)["id"]
        rest = event("rest_api_v1_get_list") | {"path": f"/tasks/{task_id}"}
        rest["requestContext"] |= {"stage": "tasks", "path": f"/tasks/tasks/{task_id}"}
        assert said(checked(lambda_handler(rest, None)))["id"] == task_id

    def test_headers_of_any_case_are_understood(self, worker: Worker):
        for name in ("Idempotency-Key", "IDEMPOTENCY-KEY", "idempotency-key"):
            lambda_handler(event("bare_post") | {"headers": {name: "k-1"}}, None)
        lambda_handler(
            event("bare_post") | {"multiValueHeaders": {"Idempotency-Key": ["k-1"]}}, None
        )
        assert len({sent["task_id"] for sent in worker.events}) == 1

    def test_headers_and_parameters_without_a_value_are_not_there(self, worker: Worker):
        for empty in (None, {}, {"Idempotency-Key": None}):
            lambda_handler(event("bare_post") | {"headers": empty}, None)
        assert len({sent["task_id"] for sent in worker.events}) == 3
        listing = event("bare_get") | {"queryStringParameters": {"limit": None, "cursor": None}}
        assert len(said(lambda_handler(listing, None))) == 3


class TestMappings:
    """A custom domain's mapping stands before the path; the route says how much is ours."""

    @pytest.mark.parametrize("before", ["", "/v1", "/prod/v1", "/tasks", "/tasks/tasks"])
    @pytest.mark.parametrize("version", ["2.0", "1.0"])
    @pytest.mark.parametrize("catch_all", ["", "$default", "ANY /{proxy+}"])
    def test_whatever_stands_before_it_every_route_is_found(
        self, store: TaskStore, worker: Worker, before: str, version: str, catch_all: str
    ):
        task_id = said(post(user="a"))["id"]

        def ask(method: str, route: str, path: str, body: str | None = None) -> dict[str, Any]:
            claims = {"claims": {"sub": "a"}}
            sent: dict[str, Any] = {"headers": {"authorization": "Bearer x"}, "body": body}
            if version == "2.0":
                context = {"http": {"method": method}, "stage": "$default"}
                sent |= {"rawPath": f"{before}{path}", "routeKey": catch_all or f"{method} {route}"}
                context["authorizer"] = {"jwt": claims}
            else:
                context = {"stage": "prod", "authorizer": claims}
                resource = catch_all.removeprefix("ANY ") or route
                sent |= {"path": f"{before}{path}", "resource": resource, "httpMethod": method}
            return lambda_handler(sent | {"requestContext": context}, Context())

        made = ask("POST", "/tasks", "/tasks", json.dumps({"description": "x"}))
        assert made["statusCode"] == 202
        assert made["headers"]["Location"] == f"tasks/{said(made)['id']}"
        assert ask("POST", "/tasks", "/tasks/", '{"description": "x"}')["statusCode"] == 202
        assert len(said(ask("GET", "/tasks", "/tasks"))) == 3
        assert said(ask("GET", "/tasks/{id}", f"/tasks/{task_id}"))["id"] == task_id
        reports = ask("POST", "/tasks/{id}/reports", f"/tasks/{task_id}/reports", "{}")
        assert code_of(reports) == (401, "invalid_token")
        cancelled = ask("POST", "/tasks/{id}/cancel", f"/tasks/{task_id}/cancel")
        assert cancelled["statusCode"] == 200
        assert ask("DELETE", "/tasks/{id}", f"/tasks/{task_id}/")["statusCode"] == 204


class TestOrigins:
    @pytest.mark.parametrize(
        "origins, origin, allowed",
        [
            ("", "https://a.example", "*"),
            ("*", "", "*"),
            ("https://a.example,https://b.example", "https://b.example", "https://b.example"),
            ("https://a.example", "https://a.example.evil", None),
            ("https://a.example", "", None),
            ("https://a.example", "null", None),
        ],
    )
    @pytest.mark.usefixtures("worker")
    def test_pages_of_these_and_no_others_may_read_an_answer(
        self, monkeypatch: pytest.MonkeyPatch, origins: str, origin: str, allowed: str | None
    ):
        monkeypatch.setenv("CORS_ORIGINS", origins)
        for method, path in (("GET", "/tasks"), ("GET", "/nothing"), ("OPTIONS", "/tasks")):
            sent = {"httpMethod": method, "path": path, "headers": {"Origin": origin}}
            headers = lambda_handler(sent, Context())["headers"]
            assert headers.get("Access-Control-Allow-Origin") == allowed
            assert headers.get("Vary") == (None if allowed == "*" else "Origin")


class TestTrouble:
    def test_dynamodbs_failure_is_500_without_internals_and_logged_with_all(
        self,
        store: TaskStore,
        worker: Worker,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        def refuse(**_: Any) -> Any:
            raise error_of("AccessDeniedException")

        for operation in ("put_item", "query", "get_item"):
            monkeypatch.setattr(store.client, operation, refuse)
        for response in (post(), request("GET"), request("GET", "/tasks/x")):
            assert response["statusCode"] == 500
            assert said(response)["code"] == "internal_error"
            assert "arn:" not in response["body"]
            assert "AccessDenied" not in response["body"]
        lines = log_lines(capsys)
        assert len(lines) == 3
        assert all(WORKER_ARN in line["stack"] for line in lines)
        assert all(line["request_id"] == Context.aws_request_id for line in lines)

    def test_a_refused_request_is_not_logged_as_our_trouble(
        self, store: TaskStore, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        request("POST", "/tasks", "nonsense")
        request("GET", "/tasks/x")
        assert log_lines(capsys) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
    max_leaves=8,
)
REAL_EVENTS = [json.loads(path.read_text("utf-8")) for path in sorted(EVENTS.glob("*.json"))]
ANY_TEXT = st.text(st.characters(), max_size=30)
ANSWERED = {200, 202, 204, 304, 400, 401, 403, 404, 405, 413, 422}


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    if place:
        yield place
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*place, name))


@st.composite
def mutated_events(draw: st.DrawFn) -> Any:
    """An event as AWS sends it, with up to three of its values replaced by any JSON."""
    mutated: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(REAL_EVENTS))))
    for _ in range(draw(st.integers(1, 3))):
        *parents, name = draw(st.sampled_from(sorted(places(mutated), key=str)))
        target = mutated
        for parent in parents:
            target = target[parent]
        target[name] = draw(JSON | ANY_TEXT)
    return mutated


UNHURRIED = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@given(JSON | mutated_events() | mutated_events())
@UNHURRIED
def test_no_event_whatsoever_makes_it_raise_or_answer_500(worker: Worker, sent: Any):
    response = checked(lambda_handler(sent, None))
    assert response["statusCode"] in ANSWERED


@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "OPTIONS", "PATCH"]),
    path=st.sampled_from(["/tasks", "/tasks/", "/prod/tasks"])
    | st.builds("/tasks/{}{}".format, ANY_TEXT, st.sampled_from(["", "/cancel", "/reports", "/x"])),
    body=st.none()
    | ANY_TEXT
    | JSON.map(json.dumps)
    | ANY_TEXT.map(lambda text: json.dumps({"description": text}))
    | st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode()),
    query=st.dictionaries(st.sampled_from(["limit", "cursor", "status"]), ANY_TEXT),
    headers=st.dictionaries(
        st.sampled_from(["idempotency_key", "if_none_match", "authorization"]), ANY_TEXT
    ),
    is_base64=st.booleans(),
)
@UNHURRIED
def test_no_request_whatsoever_does(
    worker: Worker, method: str, path: str, headers: Any, **options: Any
):
    assert request(method, path, **options, **headers)["statusCode"] in ANSWERED


def test_lines_that_threads_log_at_once_are_whole():
    """Text and line end as two writes: 108 of 3,000 lines were not JSON."""
    program = """
import threading
from valro.aws import log
threads = [threading.Thread(target=lambda: [log("INFO", "x" * 2000) for _ in range(500)])
           for _ in range(6)]
for each in threads: each.start()
for each in threads: each.join()
"""
    written = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    lines = written.stderr.decode().splitlines()
    assert len(lines) == 3_000
    assert {json.loads(line)["level"] for line in lines} == {"INFO"}


class TestShell:
    def test_a_get_prints_the_body_and_succeeds(
        self, store: TaskStore, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        task_id = said(post())["id"]
        capsys.readouterr()
        assert main(["GET", "/tasks?limit=1"]) == 0
        printed = capsys.readouterr()
        assert [task["id"] for task in json.loads(printed.out)] == [task_id]
        assert printed.err == "HTTP 200\n"

    def test_without_arguments_it_lists(self, store: TaskStore, capsys: pytest.CaptureFixture[str]):
        assert main([]) == 0
        assert capsys.readouterr().out == "[]\n"

    def test_an_error_is_printed_and_fails(
        self, store: TaskStore, worker: Worker, capsys: pytest.CaptureFixture[str]
    ):
        assert main(["GET", "/tasks/x"]) == 1
        assert json.loads(capsys.readouterr().out)["code"] == "task_not_found"
        assert main(["POST", "/tasks"]) == 1
        assert json.loads(capsys.readouterr().out)["code"] == "invalid_body"

    @pytest.mark.e2e
    def test_as_a_script_it_talks_to_the_table_that_is_named(self, tmp_path: Any):
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        try:
            host, port = server.get_host_and_port()
            endpoint = f"http://{host}:{port}"
            client = aws.aws_session().create_client(
                "dynamodb", region_name="us-east-1", endpoint_url=endpoint
            )
            client.create_table(TableName="shell-tasks", **TABLE_DEFINITION)
            task, _ = TaskStore(client, "shell-tasks").create_task("by-hand", "Find me a painter")
            client.close()
            done = subprocess.run(
                [sys.executable, lambda_function.__file__, "GET", "/tasks/by-hand"],
                env={
                    "AWS_ENDPOINT_URL": endpoint,
                    "AWS_ACCESS_KEY_ID": "test",
                    "AWS_SECRET_ACCESS_KEY": "test",
                    "DYNAMODB_TABLE_NAME": "shell-tasks",
                },
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        finally:
            server.stop()
        assert done.stderr == "HTTP 200\n"
        assert done.returncode == 0
        assert json.loads(done.stdout)["created_at"] == task["created_at"]

    @pytest.mark.e2e
    def test_as_a_script_without_credentials_it_fails_and_says_so(self, tmp_path: Any):
        done = subprocess.run(
            [sys.executable, lambda_function.__file__],
            env={"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1
        assert json.loads(done.stdout)["code"] == "internal_error"
        assert "Unable to locate credentials" in done.stderr
