"""What the API promises to those who call it: an HTTP event in, an HTTP response out, always."""

import base64
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer
from urllib3.exceptions import IncompleteRead

import lambda_function
from dynamodb_helpers import TaskStore
from lambda_function import lambda_handler, main
from tests.product.lambda_function.function import (
    DESCRIPTION,
    EVENTS,
    WORKER_ARN,
    Api,
    Context,
    error_of,
    event,
)
from valro import aws
from valro.dynamodb_items import TABLE_DEFINITION
from valro.tasks import PUBLIC_OWNER


class TestPost:
    def test_a_task_is_written_its_worker_started_and_202_said_at_once(self, api: Api):
        answer = api.post(f" {DESCRIPTION}\n")
        task_id = answer.body["id"]
        message = "Task created and processing started"
        assert answer.status == 202
        assert answer.body == {"id": task_id, "status": "pending", "message": message}
        assert answer.headers["Location"] == f"tasks/{task_id}"
        assert answer.headers["Retry-After"] == "1"
        assert "Idempotent-Replayed" not in answer.headers
        task = api.read(task_id)
        assert (task["status"], task["description"]) == ("pending", DESCRIPTION)
        sent = {name: task[name] for name in ("description", "created_at")} | {"task_id": task_id}
        assert api.worker.invocations == [
            {"FunctionName": WORKER_ARN, "InvocationType": "Event", "event": sent}
        ]
        # Left unread, it would cost the next request a new connection.
        api.worker.payload.read.assert_called_once_with()
        (line,) = api.log()
        assert (line["outcome"], line["task_id"]) == ("accepted", task_id)
        assert line["request_id"] == Context.aws_request_id
        assert "status" not in line

    @pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*_post*.json")))
    def test_events_of_every_shape_are_understood(self, api: Api, name: str):
        answer = api.send(event(name))
        owner = "jwt#user-1" if "jwt" in name or "cognito" in name else PUBLIC_OWNER
        assert answer.status == 202
        assert answer.headers["Location"] == f"tasks/{answer.body['id']}"
        assert api.store.get_task(answer.body["id"], owner)["description"] == DESCRIPTION

    def test_a_byte_order_mark_before_the_body_is_no_part_of_it(self, api: Api):
        assert api.request("POST", "/tasks", '\ufeff{"description": "x"}').status == 202

    @pytest.mark.parametrize(
        "body, reason",
        [
            (None, "it is empty"),
            ({"description": "x"}, "it is empty"),
            ("", "it is empty"),
            ("\ud800", "it is not the valid base64 or text"),
            ("{", "it is not JSON"),
            ('{"description": "x"} and more', "it is not JSON"),
            ("[" * 60_000, "it is not JSON"),
            ("1" * 5_000, "it is not JSON"),
            ("null", "it is not an object"),
            ('["description"]', "it is not an object"),
            ("{}", "it has no 'description'"),
            ('{"description": "x", "webhok": "y"}', "it has the unknown field 'webhok'"),
            ('{"description": "x", "id": "y"}', "it has the unknown field 'id'"),
            ('{"description": null}', "must be a string"),
            ('{"description": " \\n\\u2003"}', "must not be blank"),
            ('{"description": "\\ud800"}', "half of a surrogate pair"),
            (json.dumps({"description": "x" * 4001}), "at most 4,000 characters, not 4,001"),
        ],
    )
    def test_a_body_that_cannot_be_used_is_400_says_why_and_writes_nothing(
        self, api: Api, body: Any, reason: str
    ):
        """A field that is ignored in silence is worse: a misspelt one, or one of a later version."""
        answer = api.request("POST", "/tasks", body)
        assert answer.error in ("400 invalid_description", "400 invalid_body")
        assert reason in answer.body["error"]
        assert (api.items(), api.worker.events) == ([], [])

    @pytest.mark.parametrize(
        "body, reason",
        [
            ("not base64!", "it is not the valid base64"),
            ("YWJ", "it is not the valid base64"),
            (base64.b64encode(b"\xff\xfe").decode(), "it is not UTF-8"),
        ],
    )
    def test_nor_can_an_encoded_one(self, api: Api, body: str, reason: str):
        answer = api.request("POST", "/tasks", body, is_base64=True)
        assert answer.error == "400 invalid_body"
        assert reason in answer.body["error"]

    @pytest.mark.parametrize("is_base64", [False, True])
    @pytest.mark.parametrize("size, status", [(65_536, 202), (65_537, 413)])
    def test_a_body_has_64_kb_at_most(self, api: Api, is_base64: bool, size: int, status: int):
        text = '{"description": "é"}'.encode()
        data = text + b" " * (size - len(text))
        body = base64.b64encode(data).decode() if is_base64 else data.decode()
        assert api.request("POST", "/tasks", body, is_base64=is_base64).status == status
        assert len(api.items()) == (1 if status == 202 else 0)

    def test_without_a_workers_arn_nothing_is_written_and_tasks_are_shown(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ):
        name, task_id = "WORKER_LAMBDA_ARN", api.create()
        for change in (partial(monkeypatch.setenv, name, ""), partial(monkeypatch.delenv, name)):
            change()
            answer = api.post()
            assert answer.status == 500
            assert answer.body == {"error": f"{name} not set", "code": "not_configured"}
            assert len(api.items()) == 1
        assert api.read(task_id)["status"] == api.request("GET").body[0]["status"] == "pending"


class TestWorkerUnavailable:
    @pytest.mark.parametrize(
        "failure, reason",
        [
            (error_of("TooManyRequestsException"), "TooManyRequestsException"),
            (ReadTimeoutError(endpoint_url="https://lambda"), "no connection"),
            # Lambda's answer to Invoke streams, so that urllib3's errors come out as they are.
            (IncompleteRead(10, 20), "no connection"),
        ],
    )
    def test_the_task_is_kept_as_error_and_502_names_it_each_time(
        self, api: Api, failure: Exception, reason: str
    ):
        api.worker.failure = failure
        answer = api.post(idempotency_key="k")
        task_id = answer.body["id"]
        assert answer.error == "502 worker_unavailable"
        assert answer.headers["Location"] == f"tasks/{task_id}"
        (line,) = api.log()
        assert (line["outcome"], line["task_id"]) == ("dispatch_failed", task_id)
        assert str(failure) in line["detail"]  # the operator learns all of it
        task = api.read(task_id)
        assert (task["status"], task["error_code"]) == ("error", "dispatch_failed")
        assert f"({reason})" in task["error_message"]
        last = task["events"][-1]
        assert last["message"] == f"Error invoking worker: {task['error_message']}"
        assert last["type"] == "error"
        assert "arn:" not in json.dumps([answer.body, task])
        api.worker.failure = None
        again = api.post(idempotency_key="k")
        assert (again.status, again.body) == (502, answer.body)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert len(api.worker.events) == 1

    def test_a_cut_acceptance_is_one_since_the_event_was_taken(self, api: Api):
        api.worker.payload.read.side_effect = IncompleteRead(10, 20)
        assert api.read(api.create())["status"] == "pending"

    def test_a_worker_that_has_the_task_after_all_makes_it_202(self, api: Api):
        """Only the answer to the invocation was lost."""
        api.worker.meanwhile = lambda event: api.claim(event["task_id"])
        api.worker.failure = ReadTimeoutError(endpoint_url="https://lambda")
        answer = api.post()
        assert (answer.status, answer.body["status"]) == (202, "processing")
        assert api.read(answer.body["id"])["status"] == "processing"

    def test_if_the_failure_cannot_be_written_either_it_stays_pending_and_its_deadline_ends_it(
        self, api: Api, monkeypatch: pytest.MonkeyPatch
    ):
        api.worker.failure = error_of("TooManyRequestsException")
        with monkeypatch.context() as patch:
            patch.setattr(api.store, "fail_pending_task", refuse)
            answer = api.post()
        assert (answer.status, answer.body["status"]) == (202, "pending")
        messages = [line["message"] for line in api.log()]
        assert messages[:2] == ["worker not started", "failure not written"]
        task_id = answer.body["id"]
        assert api.read(task_id)["status"] == "pending"
        api.age_task(task_id, 961)
        assert api.read(task_id)["status"] == "error"


def refuse(*_: Any, **__: Any) -> Any:
    raise error_of("AccessDeniedException")


class TestIdempotency:
    def test_the_same_key_and_description_are_one_task(self, api: Api):
        first = api.post("x", idempotency_key="k")
        body = '{ "description": " \\u0078 "}'
        second = api.request("POST", "/tasks", body, idempotency_key="k")
        assert (second.status, second.body) == (202, first.body)
        assert second.headers["Location"] == first.headers["Location"]
        assert second.headers["Idempotent-Replayed"] == "true"
        assert [line["outcome"] for line in api.log()] == ["accepted", "replayed"]
        assert len(api.items()) == len(api.worker.events) == 1

    def test_another_description_is_422_and_changes_nothing(self, api: Api):
        api.create(idempotency_key="k")
        before = api.items()
        answer = api.post("Something else", idempotency_key="k")
        assert answer.error == "422 idempotency_key_reused"
        assert api.items() == before
        assert len(api.worker.events) == 1

    def test_another_users_key_is_another_task(self, api: Api):
        ids = {api.create(idempotency_key="k", user=user) for user in ("", "a", "b", "a")}
        assert len(ids) == len(api.items()) == 3

    @pytest.mark.parametrize(
        "happens, age, status, starts",
        [
            ("", 25, "pending", 1),
            ("", 35, "pending", 2),
            ("", 961, "error", 1),
            ("claim", 60, "processing", 1),
            ("complete", 60, "completed", 1),
        ],
    )
    def test_the_current_status_is_told_and_what_is_pending_for_30_s_is_dispatched_again(
        self, api: Api, happens: str, age: float, status: str, starts: int
    ):
        """The client that made it may have died before it started the worker."""
        task_id = api.create(idempotency_key="k")
        if happens:
            getattr(api, happens)(task_id)
        api.age_task(task_id, age)
        answer = api.post(idempotency_key="k")
        assert (answer.status, answer.body["id"], answer.body["status"]) == (202, task_id, status)
        assert ("Retry-After" in answer.headers) == (status in ("pending", "processing"))
        assert [sent["task_id"] for sent in api.worker.events] == [task_id] * starts

    def test_a_second_dispatch_that_fails_leaves_the_task_to_its_first_event(self, api: Api):
        """Which may be queued still."""
        task_id = api.create(idempotency_key="k")
        api.age_task(task_id, 31)
        api.worker.failure = error_of("TooManyRequestsException")
        answer = api.post(idempotency_key="k")
        assert (answer.status, answer.body["status"]) == (202, "pending")
        assert len(api.worker.events) == 2
        assert api.claim(task_id).is_fresh

    @pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb", "\x7f", "a\n"])
    def test_a_malformed_key_is_400_and_writes_nothing(self, api: Api, key: str):
        assert api.post(idempotency_key=key).error == "400 invalid_idempotency_key"
        assert api.items() == []

    @pytest.mark.parametrize("key", ["x" * 255, '"quoted key"', "~!@ #"])
    def test_any_printable_key_will_do(self, api: Api, key: str):
        assert api.create(idempotency_key=key) == api.create(idempotency_key=key)


class TestOwner:
    @pytest.mark.parametrize(
        "authorizer",
        [
            *({"jwt": {"claims": {"sub": sub}}} for sub in ("", None, 7, "x" * 256, "\ud800")),
            {"jwt": {"claims": {}}},
            {"jwt": {"claims": None}},
            {"jwt": None},
            {"claims": {"email": "a@example.com"}},
            {"claims": "sub"},
            {"lambda": {}},
            "somebody",
            ["a"],
        ],
    )
    def test_a_strange_authorizer_never_opens_what_is_public(self, api: Api, authorizer: Any):
        for method in ("GET", "POST"):
            sent = event("http_api_v2_post")
            sent["requestContext"]["http"]["method"] = method
            sent["requestContext"]["authorizer"] = authorizer
            assert api.send(sent).error == "403 no_subject"
        assert api.items() == []

    @pytest.mark.parametrize("authorizer", [None, {}, {"claims": None, "scopes": None}])
    def test_no_authorizer_is_the_public_but_a_caller_whom_iam_knows_is_403(
        self, api: Api, authorizer: Any
    ):
        sent = event("http_api_v2_post")
        sent["requestContext"]["authorizer"] = authorizer
        assert api.send(sent).status == 202
        assert api.items()[0]["owner"]["S"] == PUBLIC_OWNER
        sent = event("rest_api_v1_get_list")
        sent["requestContext"]["authorizer"] = authorizer
        sent["requestContext"]["identity"]["userArn"] = "arn:aws:iam::123456789012:user/ann"
        assert api.send(sent).error == "403 no_subject"

    @pytest.mark.parametrize("name", sorted(path.stem for path in EVENTS.glob("*authorizer.json")))
    def test_an_authorizer_that_names_no_user_is_403(self, api: Api, name: str):
        assert api.send(event(name)).error == "403 no_subject"

    def test_a_user_called_public_is_not_the_public_and_is_named_to_nobody(self, api: Api):
        answer = api.post("x", user="public")
        assert api.items()[0]["owner"]["S"] == "jwt#public"
        task = api.read(answer.body["id"], user="public")
        assert "public" not in f"{answer} {task}"


class TestRoutes:
    @pytest.mark.parametrize(
        "method, path, allowed",
        [
            ("HEAD", "/tasks", "GET, POST, OPTIONS"),
            ("", "/tasks/", "GET, POST, OPTIONS"),
            ("PUT", "/tasks/x", "GET, DELETE, OPTIONS"),
            ("GET", "/tasks/x/cancel", "POST, OPTIONS"),
        ],
    )
    def test_another_method_is_405_and_says_which_are_allowed(
        self, api: Api, method: str, path: str, allowed: str
    ):
        answer = api.send({"httpMethod": method, "path": path})
        assert answer.error == "405 method_not_allowed"
        assert answer.headers["Allow"] == allowed

    @pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
    def test_another_path_is_404(self, api: Api, method: str):
        for path in ("", "/", "/Tasks", "tasks", "/tasks/a/b", "/x/tasks", "//tasks"):
            assert api.send({"httpMethod": method, "path": path}).error == "404 not_found"

    @pytest.mark.parametrize(
        "path", ["/tasks", "/tasks/", "/tasks/x", "/tasks/x/cancel", "/tasks/x/reports"]
    )
    def test_a_preflight_allows_what_the_api_takes(self, api: Api, path: str):
        answer = api.request("OPTIONS", path)
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Methods"] == "GET,POST,DELETE,OPTIONS"
        # To a browser, * is every header but authorization, and to an old one none.
        allowed = answer.headers["Access-Control-Allow-Headers"].split(",")
        assert set(allowed) > {"*", "authorization", "content-type", "traceparent", "baggage"}

    @pytest.mark.parametrize(
        "sent",
        [
            None,
            "GET /tasks",
            {"httpMethod": "GET"},
            {"path": "/tasks"},
            {"httpMethod": None, "path": "/tasks"},
            {"httpMethod": "GET", "path": ["tasks"]},
        ],
    )
    def test_an_event_that_is_no_request_is_400(self, api: Api, sent: Any):
        assert api.send(sent).error == "400 invalid_event"

    def test_headers_of_any_case_are_understood(self, api: Api):
        for headers in (
            {"headers": {"Idempotency-Key": "k"}},
            {"headers": {"IDEMPOTENCY-KEY": "k"}},
            {"multiValueHeaders": {"idempotency-key": ["k"]}},
        ):
            api.send(event("bare_post") | headers)
        assert len({sent["task_id"] for sent in api.worker.events}) == 1

    def test_headers_and_parameters_without_a_value_are_not_there(self, api: Api):
        for empty in (None, {}, {"Idempotency-Key": None}):
            api.send(event("bare_post") | {"headers": empty})
        assert len({sent["task_id"] for sent in api.worker.events}) == 3
        listing = event("bare_get") | {"queryStringParameters": {"limit": None, "cursor": None}}
        assert len(api.send(listing).body) == 3

    @pytest.mark.parametrize("before", ["", "/v1", "/prod/v1", "/tasks", "/tasks/tasks"])
    @pytest.mark.parametrize("version", ["2.0", "1.0"])
    @pytest.mark.parametrize("catch_all", ["", "$default", "ANY /{proxy+}"])
    def test_whatever_a_custom_domain_puts_before_it_every_route_is_found(
        self, api: Api, before: str, version: str, catch_all: str
    ):
        task_id = api.create(user="a")

        def ask(method: str, route: str, path: str, body: str | None = None) -> Any:
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
            return api.send(sent | {"requestContext": context})

        made = ask("POST", "/tasks", "/tasks", '{"description": "x"}')
        assert made.headers["Location"] == f"tasks/{made.body['id']}"
        made = ask("POST", "/tasks", "/tasks/", '{"description": "x"}')
        assert made.headers["Location"] == made.body["id"]
        assert len(ask("GET", "/tasks", "/tasks").body) == 3
        assert ask("GET", "/tasks/{id}", f"/tasks/{task_id}").body["id"] == task_id
        reports = ask("POST", "/tasks/{id}/reports", f"/tasks/{task_id}/reports", "{}")
        assert reports.error == "401 invalid_token"
        assert ask("POST", "/tasks/{id}/cancel", f"/tasks/{task_id}/cancel").status == 200
        assert ask("DELETE", "/tasks/{id}", f"/tasks/{task_id}/").status == 204

    @pytest.mark.parametrize(
        "origins, origin, allowed",
        [
            ("", "https://a.example", "*"),
            ("*", "", "*"),
            ("https://a.example,https://b.example", "https://b.example", "https://b.example"),
            ("https://a.example", "https://a.example.evil", None),
            ("https://a.example", "", None),
        ],
    )
    @pytest.mark.usefixtures("api")
    def test_pages_of_these_origins_and_no_others_may_read_an_answer(
        self, monkeypatch: pytest.MonkeyPatch, origins: str, origin: str, allowed: str | None
    ):
        monkeypatch.setenv("CORS_ORIGINS", origins)
        for method, path in (("GET", "/tasks"), ("GET", "/nothing"), ("OPTIONS", "/tasks")):
            sent = {"httpMethod": method, "path": path, "headers": {"Origin": origin}}
            headers = lambda_handler(sent, Context())["headers"]
            assert headers.get("Access-Control-Allow-Origin") == allowed
            assert headers.get("Vary") == (None if allowed == "*" else "Origin")


def test_dynamodbs_failure_is_500_without_internals_and_logged_with_all(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    for operation in ("put_item", "query", "get_item"):
        monkeypatch.setattr(api.store.client, operation, refuse)
    for answer in (api.post(), api.request("GET"), api.get("x")):
        assert answer.error == "500 internal_error"
        assert "arn:" not in answer.body["error"]
        assert "AccessDenied" not in answer.body["error"]
    lines = api.log()
    assert len(lines) == 3
    assert all(WORKER_ARN in line["stack"] for line in lines)
    assert all(line["request_id"] == Context.aws_request_id for line in lines)


def test_a_refused_request_is_not_logged_as_our_trouble(api: Api):
    api.request("POST", "/tasks", "nonsense")
    api.get("x")
    assert api.log() == []


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


@st.composite
def mutated_events(draw: st.DrawFn) -> Any:
    """An event as AWS sends it, with up to three of its values replaced by any JSON."""
    mutated: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(REAL_EVENTS))))
    for _ in range(draw(st.integers(1, 3))):
        inside, name = mutated, draw(st.sampled_from(sorted(mutated)))
        while isinstance(inside[name], dict) and inside[name] and draw(st.booleans()):
            inside = inside[name]
            name = draw(st.sampled_from(sorted(inside)))
        inside[name] = draw(JSON | ANY_TEXT)
    return mutated


UNHURRIED = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@given(JSON | mutated_events() | mutated_events())
@UNHURRIED
def test_no_event_whatsoever_makes_it_raise_or_answer_500(api: Api, sent: Any):
    assert api.send(sent).status in ANSWERED


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
def test_no_request_whatsoever_does(api: Api, method: str, path: str, headers: Any, **options: Any):
    assert api.request(method, path, **options, **headers).status in ANSWERED


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
    def test_a_request_prints_its_body_and_without_arguments_it_lists(
        self, api: Api, capsys: pytest.CaptureFixture[str]
    ):
        api.create()
        task_id = api.create()
        capsys.readouterr()
        assert main(["GET", "/tasks?limit=1"]) == 0
        printed = capsys.readouterr()
        assert [task["id"] for task in json.loads(printed.out)] == [task_id]
        assert printed.err == "HTTP 200\n"
        assert main([]) == 0
        assert len(json.loads(capsys.readouterr().out)) == 2

    @pytest.mark.usefixtures("api")
    def test_an_error_is_printed_and_fails(self, capsys: pytest.CaptureFixture[str]):
        assert main(["GET", "/tasks/x"]) == 1
        assert json.loads(capsys.readouterr().out)["code"] == "task_not_found"
        assert main(["POST", "/tasks"]) == 1
        assert json.loads(capsys.readouterr().out)["code"] == "invalid_body"

    @pytest.mark.e2e
    def test_as_a_script_it_talks_to_the_table_that_is_named(self, tmp_path: Path):
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
            done = run_script(
                tmp_path,
                *("GET", "/tasks/by-hand"),
                AWS_ENDPOINT_URL=endpoint,
                AWS_ACCESS_KEY_ID="test",
                AWS_SECRET_ACCESS_KEY="test",
                DYNAMODB_TABLE_NAME="shell-tasks",
            )
        finally:
            server.stop()
        assert (done.returncode, done.stderr) == (0, "HTTP 200\n")
        assert json.loads(done.stdout)["created_at"] == task["created_at"]

    @pytest.mark.e2e
    def test_as_a_script_without_credentials_it_fails_and_says_so(self, tmp_path: Path):
        done = run_script(tmp_path, AWS_EC2_METADATA_DISABLED="true", HOME=str(tmp_path))
        assert done.returncode == 1
        assert json.loads(done.stdout)["code"] == "internal_error"
        assert "Unable to locate credentials" in done.stderr


def run_script(
    folder: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, lambda_function.__file__, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
