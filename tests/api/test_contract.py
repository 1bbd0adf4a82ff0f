"""What the API promises to its clients, at the sizes and crowds that small tests leave out.

The function runs on the local AWS's DynamoDB; what only the gateway can show is asked of the deployed
stack.
"""

import io
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

import botocore.session
import pytest

import lambda_function
from dynamodb_helpers import TaskStore
from local import REGION
from local.aws import LocalStack
from tests.api import contract
from tests.conftest import Deployment, eventually, serve_from
from valro.dynamodb_items import TABLE_DEFINITION
from valro.tasks import PENDING_SECONDS, Outcome, epoch, timestamp

pytestmark = pytest.mark.e2e

EXPOSED = {"apigw-requestid", "location", "retry-after", "etag", "link", "idempotent-replayed"}


class Calls:
    """Counts the calls of one botocore client, and the items that they went through."""

    def __init__(self, client: Any) -> None:
        self.made: list[tuple[str, int]] = []
        client.meta.events.register("after-call.dynamodb", self._note)

    def _note(self, model: Any, parsed: dict[str, Any], **_: Any) -> None:
        found = sum(len(items) for items in parsed.get("Responses", {}).values())
        self.made.append((model.name, parsed.get("ScannedCount", found)))

    def take(self) -> list[tuple[str, int]]:
        made, self.made = self.made, []
        return made


class Workers:
    """Takes the place of the Lambda service."""

    def invoke(self, **_arguments: Any) -> dict[str, Any]:
        return {"Payload": io.BytesIO()}


def reference_in(link: str) -> str:
    """The URI reference that a Link header has between its brackets."""
    return link.partition("<")[2].partition(">")[0]


class Api:
    """The API's function on a table of its own in the local AWS; every answer is judged."""

    def __init__(self, store: TaskStore, calls: Calls) -> None:
        self.store = store
        self.calls = calls

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        url = urlsplit(path)
        event = {
            "rawPath": url.path,
            "queryStringParameters": dict(parse_qsl(url.query)),
            "headers": headers or {},
            "requestContext": {"http": {"method": method}},
            "body": None if body is None else json.dumps(body),
        }
        response = lambda_function.lambda_handler(event, None)
        contract.validate_response(*contract.response_of_handler(method, url.path, response))
        return response

    def walk(self, path: str) -> Iterator[list[dict[str, Any]]]:
        """Follows Link from page to page."""
        while True:
            response = self("GET", path)
            yield json.loads(response["body"])
            if "Link" not in response["headers"]:
                return
            path = urljoin(path, reference_in(response["headers"]["Link"]))


@pytest.fixture
def api(ministack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    client = botocore.session.Session().create_client(
        "dynamodb",
        region_name=REGION,
        endpoint_url=ministack.endpoint,
    )
    table = f"contract-{uuid.uuid4().hex}"
    client.create_table(TableName=table, **TABLE_DEFINITION)
    store = TaskStore(client, table)
    serve_from(monkeypatch, store, Workers())
    yield Api(store, Calls(client))
    client.delete_table(TableName=table)
    client.close()


def test_10_000_tasks_are_walked_once_each_at_the_same_cost_per_page(api: Api):
    """New tasks come meanwhile, and do not disturb the walk."""
    ids = _write_tasks(api.store, 10_000)
    api.calls.take()
    seen, costs = [], []

    for number, page in enumerate(api.walk("/tasks?limit=100")):
        costs.append(api.calls.take())
        seen += [task["id"] for task in page]
        if number % 10 == 0:
            api("POST", "/tasks", {"description": "Meanwhile"})
            api.calls.take()

    assert seen == ids[::-1]
    # One key more than the page holds tells whether there is another page.
    usual = [("Query", 101), ("BatchGetItem", 100)]
    assert costs == [usual] * 99 + [[("Query", 100), ("BatchGetItem", 100)]]


def test_a_poll_is_one_read_and_a_large_answers_parts_are_read_only_when_they_are_sent(api: Api):
    task_id = _created(api)
    claim = api.store.claim_task(task_id, "token", time.time() + 600)
    answer = {"agent_response": "x" * 1_000_000, "vendors": [], "quotes": [], "emails_sent": 0}
    api.store.end_task(claim, Outcome.of(answer))
    api.calls.take()

    shown = api("GET", f"/tasks/{task_id}")
    assert [name for name, _ in api.calls.take()] == ["GetItem", "BatchGetItem"]
    etag = shown["headers"]["ETag"]
    again = api("GET", f"/tasks/{task_id}", headers={"if-none-match": etag})

    assert again["statusCode"] == 304
    assert [name for name, _ in api.calls.take()] == ["GetItem"]


def test_a_status_is_kept_from_page_to_page_and_pages_without_a_match_lead_on(api: Api):
    """300 tasks are looked at for a page: the oldest ones are found on the fourth."""
    ids = _write_tasks(api.store, 1_005)
    oldest, newer = ids[:5], ids[5:]
    for task_id in newer:
        api.store.cancel_task(task_id, "public")
    api.calls.take()

    pages = list(api.walk("/tasks?limit=3&status=pending,processing"))

    assert [[task["id"] for task in page] for page in pages] == [
        [],
        [],
        [],
        oldest[:1:-1],
        oldest[1::-1],
    ]
    looked_at = [count for name, count in api.calls.take() if name == "Query"]
    assert max(looked_at) == 301
    assert sum(len(page) for page in api.walk("/tasks?limit=100&status=error")) == 1_000


@pytest.mark.parametrize(
    "url",
    [
        "https://abc.execute-api.us-east-1.amazonaws.com/tasks",
        "https://abc.execute-api.us-east-1.amazonaws.com/prod/tasks",
        "https://api.example.com/home/v2/tasks/",
        "http://127.0.0.1:4566/_aws/execute-api/10ca1a91/tasks",
    ],
)
@pytest.mark.parametrize("shape", ["2.0", "1.0", "bare"])
def test_location_and_link_lead_from_any_url_to_the_task_and_the_next_page(
    api: Api, url: str, shape: str
):
    """Whatever stands before the path: a stage, a custom domain's mapping, a local gateway."""
    parts = urlsplit(url)
    path = "/tasks/" if parts.path.endswith("/") else "/tasks"
    shapes: dict[str, dict[str, Any]] = {
        "2.0": {"rawPath": parts.path, "routeKey": "ANY /tasks", "requestContext": {"http": {}}},
        "1.0": {"path": parts.path, "resource": "/tasks", "requestContext": {}},
        "bare": {"path": path},
    }

    def ask(method: str, **event: Any) -> dict[str, Any]:
        event |= shapes[shape] | {"httpMethod": method}
        if shape == "2.0":
            event["requestContext"] = {"http": {"method": method}}
        response = lambda_function.lambda_handler(event, None)
        contract.validate_response(*contract.response_of_handler(method, path, response))
        return response

    ids = []
    for _ in range(2):
        answer = ask("POST", body=json.dumps({"description": "One"}))
        ids.append(json.loads(answer["body"])["id"])
        task_url = urljoin(url, answer["headers"]["Location"])
        assert task_url == f"{url.rstrip('/')}/{ids[-1]}"
    page = ask("GET", queryStringParameters={"limit": "1"})
    following = urlsplit(urljoin(f"{url}?limit=1", reference_in(page["headers"]["Link"])))

    assert following._replace(query="").geturl() == url
    page = ask("GET", queryStringParameters=dict(parse_qsl(following.query)))
    assert [task["id"] for task in json.loads(page["body"])] == [ids[0]]


def test_a_poller_over_http_sees_its_headers_at_every_moment(stack: Deployment):
    task_id = stack.create("Find me a plumber in Denver [agent: stall 2]")
    etag, status, created, statuses, waits = "", "", 0.0, [], []

    def is_final() -> bool:
        nonlocal etag, status, created
        asked = time.time()
        answer = stack.api.request("GET", f"/tasks/{task_id}", headers={"If-None-Match": etag})
        statuses.append(answer.status)
        assert answer.headers["Cache-Control"] == "private, no-cache"
        etag = answer.headers["ETag"]
        if answer.status == 200:
            status, created = answer.json()["status"], epoch(answer.json()["created_at"])
        if "Retry-After" not in answer.headers:
            return True
        waits.append(int(answer.headers["Retry-After"]))
        # The task's age as the function saw it lies between these two, however slow the machine.
        ages = (asked - created, time.time() - created)
        assert waits[-1] in {1 if age < 10 else 2 for age in ages}
        return False

    eventually(is_final, bool)  # faster than it says, to see what does not change
    assert status == "completed"
    assert statuses[-1] == 200, "the last change was seen"
    assert waits, "it was polled before its end"
    assert 304 in statuses


def test_a_page_may_read_every_header_that_it_needs(stack: Deployment):
    origin = {"Origin": "http://127.0.0.1:8000"}
    task_id = stack.create("Find me a plumber in Denver")
    for method, path in (("POST", "/tasks"), ("GET", "/tasks"), ("GET", f"/tasks/{task_id}")):
        body = {"description": "x"} if method == "POST" else None
        answer = stack.api.request(method, path, body, origin)
        exposed = answer.headers["Access-Control-Expose-Headers"].lower().replace(" ", "")
        assert set(exposed.split(",")) == EXPOSED
        assert answer.headers["Access-Control-Allow-Origin"] == "*"

    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,idempotency-key,if-none-match",
    }
    preflight = stack.api.request("OPTIONS", "/tasks", None, origin | asked)
    allowed = preflight.headers["Access-Control-Allow-Headers"].lower().replace(" ", "")
    assert preflight.status == 204
    assert allowed == "*"
    assert {"GET", "POST", "DELETE"} <= set(
        preflight.headers["Access-Control-Allow-Methods"].split(",")
    )


def _created(api: Api) -> str:
    response = api("POST", "/tasks", {"description": "One"})
    return str(json.loads(response["body"])["id"])


def _write_tasks(store: TaskStore, count: int) -> list[str]:
    """Writes tasks, each a second younger than the one before; returns their ids, oldest first."""
    begin = time.time() - count
    items = []
    for number in range(count):
        created_at = timestamp(begin + number)
        item: dict[str, Any] = {
            "id": {"S": f"task-{uuid.uuid4()}"},
            "owner": {"S": "public"},
            "description": {"S": f"Task {number}"},
            "status": {"S": "pending"},
            "event_seq": {"N": "1"},
            "created_at": {"S": created_at},
            "updated_at": {"S": created_at},
            "deadline": {"S": timestamp(begin + count + PENDING_SECONDS)},
            "events": {
                "L": [
                    {
                        "M": {
                            "ts": {"S": created_at},
                            "message": {"S": "Task created"},
                            "type": {"S": "info"},
                        }
                    }
                ]
            },
        }
        items.append(item)
    for start in range(0, count, 25):
        requests = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        answer = store.client.batch_write_item(RequestItems={store.table_name: requests})
        assert not answer.get("UnprocessedItems")
    return [item["id"]["S"] for item in items]
