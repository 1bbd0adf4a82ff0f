"""32 people at once: nothing is lost, nothing is refused, and every agent runs once.

A request may be a 500 where DynamoDB does not answer two calls in 3 s each, which a local AWS does not
on a machine that is busy otherwise: the person asks again, a POST with its key, and the log must say
that this was why.

15 seconds by default; VALRO_LOAD_SECONDS=60 makes it a minute. `pytest -s` prints the counts.
"""

import itertools
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urljoin

import pytest

from local.aws import LocalStack, local_stack
from tests.conftest import Deployment

pytestmark = pytest.mark.e2e

# More clients are more processes of the local AWS than a small machine has memory for.
CLIENTS = 32
SECONDS = float(os.environ.get("VALRO_LOAD_SECONDS", "15"))
PROMPT = "Find me a landscaper in Charlotte under $300 [agent: quiet]"
# How long a client may wait for its task once no more are posted.
PATIENCE_SECONDS = 120.0


class People:
    """Clients that post a task, poll it to its end and post the next one; what they saw."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self.answers: list[str] = []
        self.tasks: dict[str, dict[str, Any]] = {}

    def request(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """Sends a request and returns its answer's JSON; notes the status."""
        headers = {"Idempotency-Key": key} if key else {}
        answer = self.stack.api.request(method, path, body, headers)
        self.answers.append(f"{method} {answer.status}")
        if answer.status == 500:
            return self.request(method, path, body, key)
        assert answer.status in {200, 202}, (method, path, answer.status, answer.body[:500])
        return answer.json()

    def run_tasks(self, seconds: float) -> None:
        """Runs one task after the other for so long, one at least."""
        end = time.monotonic() + seconds
        self.run_task()
        while time.monotonic() < end:
            self.run_task()

    def run_task(self) -> None:
        """Posts one task and polls until it is final."""
        task_id = self.request("POST", "/tasks", {"description": PROMPT}, uuid.uuid4().hex)["id"]
        assert task_id not in self.tasks
        end = time.monotonic() + PATIENCE_SECONDS
        events: list[Any] = []
        for pause in itertools.chain([0.1, 0.2], itertools.repeat(0.4)):
            task = self.request("GET", f"/tasks/{task_id}")
            assert task["events"][: len(events)] == events
            events = task["events"]
            self.tasks[task_id] = task
            if task["status"] in {"completed", "error"} or time.monotonic() > end:
                return
            time.sleep(pause)


@pytest.fixture(scope="module")
def stack() -> Iterator[LocalStack]:
    """The deployed stack, with the gateway's throttling out of the way."""
    rates = "--post-throttle-rate 5000 --post-throttle-burst 5000 --throttle-rate 9000"
    with local_stack() as local:
        local.deploy(arguments=tuple(f"{rates} --throttle-burst 5000".split()))
        yield local


def test_32_clients_at_once_lose_nothing_and_run_every_agent_once(
    stack: LocalStack, capsys: pytest.CaptureFixture[str]
):
    early, people = People(stack), People(stack)
    # Each more at a time is one more warm process, not 32 cold ones at the same moment.
    for count in (1, 2, 4, 8, 16, CLIENTS):
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(lambda _: early.run_task(), range(count)))

    start = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(people.run_tasks, [SECONDS] * CLIENTS))
    seconds = time.monotonic() - start

    tasks, seen = people.tasks, Counter(people.answers)
    statuses = Counter(task["status"] for task in tasks.values())
    reached = stack.agent_report()["reached"]
    with capsys.disabled():
        print(f"\n{CLIENTS} clients, {seconds:.0f} s: {dict(seen)}, tasks {dict(statuses)}")
    assert len(tasks) == seen["POST 202"] >= CLIENTS
    assert statuses == {"completed": len(tasks)}
    assert {task_id: reached.get(task_id) for task_id in tasks} == dict.fromkeys(tasks, 1)
    assert all(len(task["events"]) == 4 for task in tasks.values())
    failed = Deployment(stack).logged("valro-backend", "request failed")
    assert len(failed) == sum("500" in answer for answer in early.answers + people.answers)
    assert all("TimeoutError" in entry for entry in failed), failed[:3]
    listed = [task["id"] for page in pages(stack) for task in page]
    assert len(listed) == len(set(listed))
    assert tasks.keys() <= set(listed)


def pages(stack: LocalStack) -> Iterator[list[dict[str, Any]]]:
    """All that the list shows, page after page."""
    path = "/tasks?limit=100"
    while path:
        page = stack.api.request("GET", path)
        yield page.json()
        link = page.headers.get("Link", "").partition("<")[2].partition(">")[0]
        path = link and urljoin("/tasks", link)
