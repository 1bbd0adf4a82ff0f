"""The page that was there before this backend: it knows nothing of what came later, and must work.

It is a React page. It posts a description, asks for the task every 3 seconds until its status is
`completed` or `error`, and finds a vendor's price by the quote whose `vendor_id` is the vendor's `id`.
"""

import http.client
import json
import time
from contextlib import closing
from typing import Any

import pytest

from tests.conftest import Deployment

pytestmark = pytest.mark.e2e

ORIGIN = "http://127.0.0.1:3000"
STATUSES = ["pending", "processing", "completed", "error"]
EVERY_SECONDS = 0.3  # 3 in the page


class FrontendInUse:
    """Plays the page: only the requests, headers and fields that it knows."""

    def __init__(self, stack: Deployment) -> None:
        self.port = stack.api.port
        self.base = stack.api.url.partition(str(self.port))[2]

    def submit(self, description: str) -> str:
        """What the button does: `const { id } = await response.json()`."""
        task = self.fetch("POST", "/tasks", {"description": description})
        assert task["status"] == "pending"
        return str(task["id"])

    def watch(self, task_id: str) -> Any:
        """What it does then, until there is nothing to wait for any more; returns the task."""
        seen, end = 0, time.monotonic() + 60
        while time.monotonic() < end:
            task = self.fetch("GET", f"/tasks/{task_id}")
            assert STATUSES.index(task["status"]) >= seen, "it knows no others, and no way back"
            seen = STATUSES.index(task["status"])
            if task["status"] in {"completed", "error"}:
                return task
            time.sleep(EVERY_SECONDS)
        pytest.fail("still polling after 60 s")

    def fetch(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Origin": ORIGIN} | ({"Content-Type": "application/json"} if body else {})
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, self.base + path, body and json.dumps(body), headers)
            response = connection.getresponse()
            # `if (!response.ok) throw …`, and what the browser would not hand to it.
            assert 200 <= response.status < 300, response.read()
            assert response.headers["Access-Control-Allow-Origin"] in {"*", ORIGIN}
            return json.loads(response.read())


@pytest.fixture
def page(stack: Deployment) -> FrontendInUse:
    return FrontendInUse(stack)


@pytest.mark.parametrize("behaviour", ["", " [agent: report]"], ids=["waiting", "reporting"])
def test_it_shows_a_task_from_its_beginning_to_the_prices(page: FrontendInUse, behaviour: str):
    task = page.watch(page.submit(f"Find me a landscaper in Charlotte under $300{behaviour}"))

    assert task["status"] == "completed"
    assert task["agent_response"]
    amounts = {quote["vendor_id"]: quote["amount"] for quote in task["quotes"]}
    prices = [amounts[vendor["id"]] for vendor in task["vendors"]]
    assert len(prices) == task["emails_sent"] == 3
    assert all(0 < price <= 300 for price in prices)
    lines = [event["message"] for event in task["events"]]
    assert (lines[0], lines[-1]) == ("Task created", "Agent completed task successfully")
    assert page.fetch("GET", "/tasks")[0].keys() >= {"id", "description", "status", "created_at"}


def test_it_shows_why_a_task_failed(page: FrontendInUse):
    task = page.watch(page.submit("Find me a painter in Austin [agent: error]"))

    assert task["status"] == "error"
    assert "The vendor directory is closed today." in task["error_message"]


def test_a_task_that_was_cancelled_elsewhere_ends_for_it_and_a_deleted_one_leaves_its_list(
    stack: Deployment, page: FrontendInUse
):
    task_id = page.submit("Find me a painter in Austin [agent: stall 60]")
    assert stack.api.request("POST", f"/tasks/{task_id}/cancel").status in {200, 202}

    task = page.watch(task_id)

    assert task["status"] == "error"
    assert task["error_message"].startswith("Cancelled")
    assert task_id in [task["id"] for task in page.fetch("GET", "/tasks")]
    assert stack.api.request("DELETE", f"/tasks/{task_id}").status == 204
    assert task_id not in [task["id"] for task in page.fetch("GET", "/tasks")]
