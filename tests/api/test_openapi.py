"""openapi.yaml says what the API does: all of it, and nothing else."""

import hashlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lambda_function
from dynamodb_helpers import TaskStore
from lambda_function import POLLING, SLOWEST_POLLING
from tests.api import contract
from tests.api.contract import (
    ContractBroken,
    document,
    operations,
    reference,
    resolved,
    validate_response,
)
from tests.conftest import Deployment, serve_from
from tests.deployment.test_template import read_template
from valro import http_events, tasks
from valro.agent import values
from valro.agent.answers import AgentError, Answer
from valro.agent.reader import read_answer
from valro.api_requests import NewTask
from valro.dynamodb_items import from_item, kept_answer, to_item
from valro.dynamodb_pages import LISTED_ATTRIBUTES, StoreBusy
from valro.tasks import PUBLIC_FIELDS, PUBLIC_FIELDS_ONCE_KNOWN, Outcome, public_task

SCHEMATHESIS_CONFIG = Path(__file__).with_name("schemathesis.toml")
TOKEN = "the-agents-token"
JWT = {"jwt": {"claims": {"sub": "alice"}}}


TEXT = st.text(st.characters(), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ANSWER_KEYS = (
    "response result output message error error_type vendors quotes emails emails_sent interrupts "
    "structured_output role content data accepted"
).split()
PART_KEYS = (
    "id name email phone rating price emails vendor vendor_id amount currency text recipient "
    "subject body timestamp message reason response_schema"
).split()
PARTS = JSON | st.lists(
    st.recursive(
        JSON,
        lambda inner: st.dictionaries(st.sampled_from(PART_KEYS), inner | st.lists(inner)),
        max_leaves=6,
    ),
    max_size=3,
)
ANSWERS = JSON | st.dictionaries(st.sampled_from(ANSWER_KEYS), PARTS, max_size=5)


class Api:
    """The API's function on moto; what it answers is judged, and which kinds there were is kept."""

    def __init__(self, store: TaskStore, start_worker: mock.Mock) -> None:
        self.store = store
        self.start_worker = start_worker
        self.seen: set[tuple[str, str, int]] = set()
        self.codes: set[str] = set()

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
        **event: Any,
    ) -> dict[str, Any]:
        event = {
            "version": "2.0",
            "rawPath": path,
            "headers": headers or {},
            "queryStringParameters": query or {},
            "requestContext": {"http": {"method": method}, "stage": "$default"},
            "body": body if isinstance(body, str) or body is None else json.dumps(body),
            "isBase64Encoded": False,
        } | event
        # As API Gateway has it: text inside JSON.
        response: dict[str, Any] = json.loads(
            json.dumps(lambda_function.lambda_handler(event, None))
        )
        validate_response(*contract.response_of_handler(method, path, response))
        status = response["statusCode"]
        template = re.sub(r"(?<=^/tasks/)[^/]+", "{id}", path)
        self.seen.add((template, method.lower(), status))
        if status >= 400:
            self.codes.add(json.loads(response["body"])["code"])
        return response

    def create(self, description: str = "Find me a painter", **headers: str) -> str:
        response = self("POST", "/tasks", {"description": description}, headers)
        return str(json.loads(response["body"])["id"])


@pytest.fixture
def api(dynamodb: Any, table_name: str, monkeypatch: pytest.MonkeyPatch) -> Api:
    store, client = TaskStore(dynamodb, table_name), mock.Mock(spec=["invoke"])
    client.invoke.return_value = {"Payload": io.BytesIO()}
    serve_from(monkeypatch, store, client)
    return Api(store, client.invoke)


def test_the_document_is_valid_openapi():
    from openapi_spec_validator import validate

    validate(document())


def test_every_example_fits_its_schema():
    examples = list(_examples(document()))

    assert len(examples) > 50
    for place, schema, example in examples:
        errors = [error.message for error in contract.validator(schema).iter_errors(example)]
        assert errors == [], place


def test_every_operation_has_a_name_a_summary_and_an_example_of_each_answer_with_a_body():
    names = [operation["operationId"] for _, _, operation in operations()]

    assert len(set(names)) == len(names) == 6
    for path, method, operation in operations():
        assert operation["summary"]
        for status, each in operation["responses"].items():
            response = resolved(each)
            assert response["description"]
            for media in response.get("content", {}).values():
                assert media["examples"], (path, method, status)


def test_the_codes_and_their_statuses_are_the_functions():
    assert contract.known_codes("ErrorCode") == http_events.STATUS_OF.keys()
    for path, method, operation in operations():
        for status, response in operation["responses"].items():
            named = re.findall(r"`([a-z_]+)`", resolved(response)["description"])
            statuses = {http_events.STATUS_OF.get(name, int(status)) for name in named}
            assert statuses <= {int(status)} or int(status) < 400, (path, method, status)


def test_the_function_the_document_and_the_template_have_the_same_routes():
    source = inspect.getsource(lambda_function.route)
    cases = re.findall(r'case \[([^]|]+)\], "([A-Z]+)":', source)
    in_function = {
        f"{method} {'/'.join(p.strip(chr(34)) if chr(34) in p else '{id}' for p in path.split(', '))}"
        for path, method in cases
    }
    resources = read_template()["Resources"]
    loops = [each for name, each in resources.items() if name.startswith("Fn::ForEach::")]
    in_template = {key for _, keys, _ in loops for key in keys if "/tasks" in key}
    in_template |= {
        each["Properties"]["RouteKey"]
        for each in resources.values()
        if "Type" in each and each["Type"] == "AWS::ApiGatewayV2::Route"
    }

    described = {f"{method.upper()} {path}" for path, method, _ in operations()}
    assert in_function == described == in_template


def test_a_description_is_blank_for_the_document_if_it_is_for_the_function():
    pattern = document()["components"]["schemas"]["NewTask"]["properties"]["description"]["pattern"]

    # All of the BMP; Unicode has no white space beyond it.
    for letter in map(chr, range(0x10000)):
        assert bool(re.search(pattern, letter)) == bool(letter.strip()), hex(ord(letter))
    assert not [hex(code) for code in range(0x10000, sys.maxunicode) if chr(code).isspace()]


def test_every_answer_that_the_function_gives_is_described_and_every_described_one_is_given(
    api: Api, monkeypatch: pytest.MonkeyPatch
):
    _ask_everything(api, monkeypatch)

    described = {
        (path, method, int(status))
        for path, method, operation in operations()
        for status in operation["responses"]
    }
    elsewhere = {
        ("/elsewhere", "get", 404),
        ("/tasks", "delete", 405),
        ("/tasks/{id}", "put", 405),
        ("/tasks/{id}/cancel", "get", 405),
        ("/tasks/{id}/reports", "get", 405),
        *((path, "options", 204) for path in document()["paths"]),
    }
    reports = ("/tasks/{id}/reports", "post")
    by_gateway_only = {
        entry for entry in described if entry[2] in {401, 429, 503} and entry[:2] != reports
    } | {(*reports, 404), (*reports, 429)}
    assert api.seen == (described - by_gateway_only) | elsewhere
    # An event that is no HTTP request comes from no HTTP client.
    assert api.codes == contract.known_codes("ErrorCode") - {"invalid_event"}


def test_a_task_is_described_at_every_moment_of_its_life(api: Api):
    task_id = api.create()
    claim = api.store.claim_task(task_id, "token", function_end=2_000_000_000)
    claim.timeline.add_progress(claim.timeline.last_ts, "Looking for painters")
    api.store.record_progress(claim)
    api("GET", f"/tasks/{task_id}")
    answer = {
        "agent_response": "x" * 4_000_000,
        "vendors": [{"name": "A", "rating": "high", "emails": ["one", {"recipient": 1}]}],
        "quotes": [{"text": "about $300"}, {}],
        "emails_sent": 2,
    }
    api.store.end_task(claim, Outcome.of(answer))
    shown = api("GET", f"/tasks/{task_id}")
    assert json.loads(shown["body"])["agent_response_truncated"] is True

    outcome = Outcome.of({"agent_response": "I have only begun"}, "agent_failed", "It failed.")
    failed = api.store.claim_task(api.create("failed"), "token", function_end=2_000_000_000)
    api.store.end_task(failed, outcome)
    api("GET", f"/tasks/{failed.task['id']}")

    running = api.store.claim_task(api.create("running"), "token", function_end=2_000_000_000)
    for task_id, status in ((running.task["id"], 202), (api.create("pending"), 200)):
        shown = api("POST", f"/tasks/{task_id}/cancel")
        assert shown["statusCode"] == status
        api("GET", f"/tasks/{task_id}")
    api("GET", "/tasks")
    api.store.end_task(running, Outcome.of(answer).cancelled())
    shown = api("GET", f"/tasks/{running.task['id']}")
    assert json.loads(shown["body"])["error_code"] == "cancelled"


def test_a_poll_is_one_read_and_a_large_answers_parts_are_read_only_when_they_are_sent(api: Api):
    claim = api.store.claim_task(api.create(), "token", function_end=2_000_000_000)
    api.store.end_task(claim, Outcome.of({"agent_response": "x" * 1_000_000}))
    path, client = f"/tasks/{claim.task['id']}", api.store.client

    with mock.patch.object(client, "_make_api_call", wraps=client._make_api_call) as called:
        etag = api("GET", path)["headers"]["ETag"]
        assert api("GET", path, headers={"if-none-match": etag})["statusCode"] == 304

    names = [call.args[0] for call in called.call_args_list]
    assert names == ["GetItem", "BatchGetItem", "GetItem"]


@pytest.mark.parametrize("url", ["https://a.example/tasks", "https://a.example/home/v2/tasks/"])
def test_location_and_link_lead_from_any_url_to_the_task_and_the_next_page(api: Api, url: str):
    """Whatever stands before the path: a stage, a custom domain's mapping, a local gateway."""
    event: dict[str, Any] = {"rawPath": urlsplit(url).path, "routeKey": "ANY /tasks"}

    ids = []
    for _ in range(2):
        posted = api("POST", "/tasks", {"description": "One"}, **event)
        ids.append(json.loads(posted["body"])["id"])
        location = urljoin(url, posted["headers"]["Location"])
        assert location == f"{url.rstrip('/')}/{ids[-1]}"
    page = api("GET", "/tasks", query={"limit": "1"}, **event)
    link = page["headers"]["Link"].partition("<")[2].partition(">")[0]
    following = urlsplit(urljoin(url, link))

    assert following._replace(query="").geturl() == url
    page = api("GET", "/tasks", query=dict(parse_qsl(following.query)), **event)
    assert [task["id"] for task in json.loads(page["body"])] == [ids[0]]


@given(ANSWERS)
def test_whatever_an_agent_sends_is_shown_as_described(sent: Any):
    try:
        outcome = Outcome.of(read_answer(values.parse(json.dumps(sent).encode())).task_fields())
    except AgentError as error:
        outcome = Outcome.of((error.partial or Answer("")).task_fields(), error.code, str(error))
    task = tasks.new_task("abc", "Find me a painter", tasks.PUBLIC_OWNER, 1e9, 0)
    ended = task | outcome.attributes() | kept_answer(task, outcome.parts)[0]

    shown = public_task(from_item(to_item(ended)))

    errors = contract.validator(reference("Task")).iter_errors(shown)
    assert [error.message for error in errors] == []


def test_a_page_can_rely_on_what_it_shows_of_vendors_and_quotes():
    vendor = {
        "name": {"first": "Ivy"},
        "phone": 7045550100,
        "email": None,
        "rating": None,
        "x": None,
    }
    emails = ["Hello", None, 3, {"subject": ["a"], "body": "b"}, {}]

    shown = tasks.displayable("vendors", [vendor | {"emails": emails}, "Oak", {"emails": {}}, None])

    kept = [{"body": "Hello"}, {"body": "3"}, {"body": "b"}, {}]
    assert shown == [
        {"phone": "7045550100", "x": None, "emails": kept},
        {"name": "Oak", "emails": []},
        {"emails": [{}]},
        {"emails": []},
    ]
    assert tasks.displayable("quotes", ["$5", {"vendor": True, "price": 5}]) == [
        {"text": "$5"},
        {"price": 5},
    ]
    plain: dict[str, Any] = {"name": "Oak", "phone": None, "x": None, "emails": []}
    answer = {"vendors": [{"name": ["Ivy"]}, plain], "quotes": [{"text": 5}]}
    assert tasks.displayed_otherwise(answer) == [{"name": ["Ivy"]}, {"text": 5}]


@pytest.mark.e2e
@given(
    st.fixed_dictionaries(
        {"report_id": st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1)},
        optional={"messages": st.lists(st.text()) | JSON, "answer": ANSWERS, "error": JSON},
    )
    | JSON
)
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_no_report_whatsoever_is_answered_otherwise_than_described(api: Api, body: Any):
    """And its task is described afterwards, whatever has become of it."""
    task_id = f"task-{uuid.uuid4()}"
    api.store.create_task(task_id, "Find me a painter")
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    claim = api.store.claim_task(task_id, "claim", 2_000_000_000, report_hash=digest)
    api.store.accept_task(claim)

    path, token = f"/tasks/{task_id}/reports", {"authorization": f"Bearer {TOKEN}"}
    first = api("POST", path, json.dumps(body), token)
    again = api("POST", path, json.dumps(body), token)

    assert first["statusCode"] in {200, 400}
    assert (again["statusCode"], again["body"]) == (first["statusCode"], first["body"])
    task = json.loads(api("GET", f"/tasks/{task_id}")["body"])
    if first["statusCode"] == 400:
        assert task["status"] == "processing", "the task goes on"
    else:
        assert task["status"] == json.loads(first["body"])["status"]
    api("GET", "/tasks", query={"limit": "1"})
    # The next example finds the table as this one did: moto's lists cost what is in it.
    for item in api.store.client.scan(TableName=api.store.table_name)["Items"]:
        api.store.client.delete_item(TableName=api.store.table_name, Key={"id": item["id"]})


def test_the_two_tasks_of_the_document_have_the_fields_that_the_function_shows():
    shown = {*PUBLIC_FIELDS, *PUBLIC_FIELDS_ONCE_KNOWN}
    listed = shown & {*LISTED_ATTRIBUTES}

    assert contract.properties("Task") == shown
    assert contract.properties("ListedTask") == listed == shown - {"agent_response"}
    schema = document()["components"]["schemas"]["ListedTask"]
    assert set(schema["required"]) == set(PUBLIC_FIELDS)


def test_a_post_may_have_the_fields_that_the_function_reads():
    assert contract.properties("NewTask") == {*NewTask._fields}


def test_the_error_codes_are_those_with_which_a_task_can_end():
    names = vars(tasks).items()
    codes = {value for name, value in names if name.isupper() and value == name.lower()}

    assert contract.known_codes("TaskErrorCode") == codes - {tasks.DELETED}


def test_the_retry_after_of_the_document_has_the_functions_bounds():
    schema = document()["components"]["headers"]["RetryAfter"]["schema"]

    waits = [wait for _, wait in POLLING]
    assert (schema["minimum"], schema["maximum"]) == (waits[0], SLOWEST_POLLING)


def judge(
    name: str, status: int = 0, headers: dict[str, Any] | None = None, body: Any = None
) -> None:
    """Has a good answer judged, but for what is given; a None in it leaves something out."""
    good: dict[str, Any] = {"Content-Type": "application/json"}
    if name == "accepted":
        request = ("POST", "/tasks", status or 202)
        good |= {"Cache-Control": "no-store", "Location": "tasks/abc", "Retry-After": "1"}
        example = {"id": "abc", "status": "pending", "message": lambda_function.ACCEPTED}
    else:
        request = ("GET", "/tasks/abc", status or 200)
        good |= {"Cache-Control": "private, no-cache", "ETag": '"1"'}
        content = document()["paths"]["/tasks/{id}"]["get"]["responses"]["200"]["content"]
        example = content["application/json"]["examples"]["error"]["value"]
    if not isinstance(body, str):
        changed = (example | (body or {})).items()
        body = json.dumps({key: value for key, value in changed if value is not None})
    good |= headers or {}
    given = {key: value for key, value in good.items() if value is not None}
    validate_response(*request, given, body)


def test_the_judge_accepts_a_good_answer_and_the_gateways_own():
    judge("accepted")
    judge("failed")
    for method, path in (("PUT", "/tasks"), ("GET", "/nowhere"), ("GET", "/tasks/a/b")):
        validate_response(
            method, path, 404, {"Content-Type": "application/json"}, b'{"message": "Not Found"}'
        )


@pytest.mark.parametrize(
    "name, change, reason",
    [
        ("accepted", {"status": 200}, "no such status"),
        ("accepted", {"headers": {"Location": None}}, "lacks Location"),
        ("accepted", {"headers": {"Location": "/tasks/abc"}}, "Location"),
        ("accepted", {"headers": {"Retry-After": "soon"}}, "Retry-After"),
        ("accepted", {"headers": {"Retry-After": "3600"}}, "Retry-After"),
        ("accepted", {"headers": {"Content-Type": "text/html"}}, "Content-Type"),
        ("accepted", {"headers": {"Cache-Control": None}}, "Cache-Control"),
        ("accepted", {"headers": {"Access-Control-Allow-Origin": "*"}}, "Expose-Headers"),
        ("accepted", {"body": {"owner": "public"}}, "not described"),
        ("accepted", {"body": {"status": None}}, '"status" is a required'),
        ("accepted", {"body": ""}, "not JSON"),
        ("accepted", {"status": 400, "body": '{"error": "No.", "code": "tired"}'}, "tired"),
        ("failed", {"body": {"error_code": None}}, "has no error_code"),
        ("failed", {"body": {"error_code": "tired"}}, "error_code"),
        ("failed", {"body": {"status": "completed"}}, "no agent_response"),
        ("failed", {"body": {"status": "pending"}}, "pending has error_code and error_message"),
        ("failed", {"body": {"claim": "secret"}}, "not described"),
        ("failed", {"body": {"cancel_requested_at": "just now"}}, "cancel_requested_at"),
    ],
)
def test_the_judge_refuses_what_is_not_described(name: str, change: dict[str, Any], reason: str):
    with pytest.raises(ContractBroken, match=reason):
        judge(name, **change)


@pytest.mark.e2e
def test_schemathesis_finds_no_fault_over_http(stack: Deployment):
    command: list[str | Path] = [Path(sys.executable).parent / "schemathesis"]
    command += ["--config-file", SCHEMATHESIS_CONFIG]
    command += ["run", contract.DOCUMENT, "--url", stack.api.url]
    command += ["--seed", "1", "--max-examples", "10", "--no-shrink", "--request-timeout", "20"]
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            command,
            cwd=folder,  # it leaves a cache behind
            env=os.environ | {"REPORT_TASK": _reporting_task(stack), "REPORT_TOKEN": TOKEN},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]

    assert "No issues found" in run.stdout
    links = re.search(r"API Links: +(\d+) covered / (\d+) selected", run.stdout)
    assert links
    assert int(links[1]) == int(links[2]) == 4


def _reporting_task(stack: Deployment) -> str:
    """Makes a task in the deployed table whose agent reports, with TOKEN; returns its id.

    It is somebody's own, so that Schemathesis, which finds ids everywhere, does not delete it.
    """
    store = TaskStore(stack.client("dynamodb"))
    task_id = f"reporting-{uuid.uuid4()}"
    store.create_task(task_id, "Find me a painter", "jwt#alice")
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    store.accept_task(store.claim_task(task_id, "claim", time.time() + 600, report_hash=digest))
    return task_id


def _ask_everything(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends requests of every kind; the api judges each answer."""
    task_id = api.create()
    api.create("Find me a plumber", **{"idempotency-key": "a key"})
    api.create("Find me a plumber", **{"idempotency-key": "a key"})
    api("POST", "/tasks", {"description": "Another"}, {"idempotency-key": "a key"})
    api("POST", "/tasks", {"description": "x"}, {"idempotency-key": "ü"})
    api("POST", "/tasks", "{")
    api("POST", "/tasks", {"description": " "})
    api("POST", "/tasks", {"description": "x" * 4_001})
    api("POST", "/tasks", {"description": "x" * 70_000})
    api("POST", "/tasks", {"description": "x"}, requestContext=_authorized("POST", {"claims": {}}))

    api("GET", "/tasks")
    page = api("GET", "/tasks", query={"limit": "1"})
    assert "cursor=" in page["headers"]["Link"]
    api("GET", "/tasks", query={"limit": "0"})
    api("GET", "/tasks", query={"cursor": "!"})
    page = api("GET", "/tasks", query={"status": "pending,error", "limit": "1"})
    assert "&status=pending,error&cursor=" in page["headers"]["Link"]
    api("GET", "/tasks", query={"status": "done"})
    api("GET", "/tasks", query={"limt": "1"})
    api("GET", "/tasks", requestContext=_authorized("GET", {"claims": {}}))

    etag = api("GET", f"/tasks/{task_id}")["headers"]["ETag"]
    api("GET", f"/tasks/{task_id}", headers={"if-none-match": etag})
    api("GET", "/tasks/unknown")
    api("GET", "/tasks/unknown", requestContext=_authorized("GET", {"claims": {}}))
    api("GET", f"/tasks/{task_id}", requestContext=_authorized("GET", JWT))

    _follow(api, monkeypatch)
    _cancel_and_delete(api, monkeypatch)
    _report(api, monkeypatch)

    api("OPTIONS", "/tasks")
    for path in ("/tasks/unknown", "/tasks/unknown/cancel", "/tasks/unknown/reports"):
        api("OPTIONS", path)
    api("GET", "/elsewhere")
    api("DELETE", "/tasks")
    api("PUT", "/tasks/unknown")
    api("GET", "/tasks/unknown/cancel")
    api("GET", "/tasks/unknown/reports")

    api.start_worker.side_effect = EndpointConnectionError(endpoint_url="https://lambda")
    api("POST", "/tasks", {"description": "x"})
    api.start_worker.side_effect = ClientError(
        {"Error": {"Code": "TooManyRequestsException"}}, "Invoke"
    )
    for _ in range(2):
        api("POST", "/tasks", {"description": "x"}, {"idempotency-key": "b"})
    monkeypatch.delenv("WORKER_LAMBDA_ARN")
    api("POST", "/tasks", {"description": "x"})
    monkeypatch.setattr(lambda_function, "task_store", _broken_store)
    api("GET", "/tasks")
    api("GET", "/tasks/unknown")
    api("POST", "/tasks/unknown/cancel")
    api("DELETE", "/tasks/unknown")
    api("POST", "/tasks/unknown/reports", {"report_id": "1"})


def _follow(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = api.create()
    body: dict[str, Any] = {"description": "Book it", "follows": earlier}
    api("POST", "/tasks", body)  # not yet
    claim = api.store.claim_task(earlier, "token", function_end=2_000_000_000)
    asks = [{"id": "booking", "message": "Book it?", "response_schema": {"type": "boolean"}}]
    api.store.end_task(claim, Outcome.of({"agent_response": "Book it?", "interrupts": asks}))
    api("POST", "/tasks", body)
    api("POST", "/tasks", body | {"answers": {"bocking": True}})
    api("POST", "/tasks", body | {"follows": "unknown"})
    with monkeypatch.context() as patch:
        patch.delenv("PUBLIC_CANCEL_AND_DELETE")
        api("POST", "/tasks", body)
    for _ in range(2):
        api("POST", "/tasks", body | {"answers": {"booking": True}})
    api("GET", f"/tasks/{earlier}")
    api("GET", "/tasks")


def _cancel_and_delete(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    key = {"idempotency-key": "to be deleted"}
    pending, running = api.create("Find me a roofer", **key), api.create()
    claim = api.store.claim_task(running, "token", function_end=2_000_000_000)
    api("DELETE", f"/tasks/{running}")
    for task_id in (pending, running, "unknown"):
        api("POST", f"/tasks/{task_id}/cancel")
        api("DELETE", f"/tasks/{task_id}")
    api("POST", "/tasks", {"description": "Find me a roofer"}, key)
    api.store.end_task(claim, Outcome.of({}).cancelled())
    completed = api.store.claim_task(api.create(), "token", function_end=2_000_000_000)
    api.store.end_task(completed, Outcome.of({"agent_response": "Done."}))
    api("POST", f"/tasks/{completed.task['id']}/cancel")
    for method, path in (("POST", "/tasks/unknown/cancel"), ("DELETE", "/tasks/unknown")):
        api(method, path, requestContext=_authorized(method, {"claims": {}}))
        with monkeypatch.context() as patch:
            patch.delenv("PUBLIC_CANCEL_AND_DELETE")
            api(method, path)


def _report(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = api.create()
    path, token = f"/tasks/{task_id}/reports", {"authorization": "Bearer secret"}
    digest = hashlib.sha256(b"secret").hexdigest()
    claim = api.store.claim_task(task_id, "claim", 2_000_000_000, report_hash=digest)
    api("POST", path, {"report_id": "1"}, token)
    api.store.accept_task(claim)
    api("POST", path, {"report_id": "1", "messages": ["Looking"]}, token)
    api("POST", path, {"report_id": "1"}, {"authorization": "Bearer other"})
    api("POST", "/tasks/unknown/reports", {"report_id": "1"}, token)
    api("POST", path, None, token)
    api("POST", path, {"report_id": "1", "messages": "Looking"}, token)
    api("POST", path, {"report_id": "1", "answer": "x" * 5_000_000}, token)
    with monkeypatch.context() as patch:
        patch.setattr(TaskStore, "report", _too_many)
        api("POST", path, {"report_id": "2"}, token)
    api("POST", path, {"report_id": "3", "error": "No vendor is open."}, token)
    assert json.loads(api("GET", f"/tasks/{task_id}")["body"])["error_code"] == "agent_failed"
    api("POST", path, {"report_id": "4"}, token)


def _too_many(*_: Any) -> None:
    raise StoreBusy("5 reports at once")


def _authorized(method: str, authorizer: dict[str, Any]) -> dict[str, Any]:
    return {"http": {"method": method}, "authorizer": authorizer}


def _broken_store() -> TaskStore:
    message = "the table is on fire"
    raise RuntimeError(message)


def _examples(value: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every example in the document: where it stands, its schema, and itself."""
    if isinstance(value, dict):
        if "schema" in value and "example" in value:
            yield place, value["schema"], value["example"]
        if "schema" in value and isinstance(value.get("examples"), dict):
            for name, example in value["examples"].items():
                yield f"{place}/{name}", value["schema"], example["value"]
        if isinstance(value.get("examples"), list):
            for example in value["examples"]:
                yield place, value, example
    for name, member in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(member, (dict, list)) and name not in {"examples", "example"}:
            yield from _examples(member, f"{place}/{name}")
