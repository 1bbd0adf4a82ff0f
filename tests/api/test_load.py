"""32 people at once: nothing is lost, nothing is refused, and every agent runs once.

A request may be a 500 where DynamoDB does not answer two calls in 3 s each, which a local AWS does not
on a machine that is busy otherwise: the person asks again, a POST with its key, and the log must say
that this was why.

15 seconds by default; VALRO_LOAD_SECONDS=60 makes it a minute. `pytest -s` prints the counts.
"""

import itertools
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
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
FINAL = {"completed", "error"}
# How long a client may wait for its task once no more are posted.
PATIENCE_SECONDS = 120.0


class Person:
    """One client: posts a task, polls it to its end, and posts the next one.

    Each on a connection of its own: the gateway closes one that is idle while others warm up.
    """

    def __init__(self, stack: LocalStack, seen: Counter[str]) -> None:
        self.host = stack.api.host
        self.connection = HTTPConnection("127.0.0.1", stack.port, timeout=60)
        self.seen = seen
        self.tasks: dict[str, dict[str, Any]] = {}

    def request(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """Sends a request and returns its answer's JSON; counts the status."""
        sent = {"Host": self.host, "Content-Type": "application/json"}
        if key:
            sent["Idempotency-Key"] = key
        self.connection.request(method, path, json.dumps(body) if body else None, sent)
        response = self.connection.getresponse()
        text = response.read()
        self.seen[f"{method} {response.status}"] += 1
        if response.status == 500:
            return self.request(method, path, body, key)
        assert response.status in {200, 202}, (method, path, response.status, text[:500])
        return json.loads(text)

    def run_task(self) -> None:
        """Posts one task and polls until it is final."""
        self.connection.close()
        task_id = self.request("POST", "/tasks", {"description": PROMPT}, uuid.uuid4().hex)["id"]
        assert task_id not in self.tasks
        end = time.monotonic() + PATIENCE_SECONDS
        events: list[Any] = []
        for pause in itertools.chain([0.1, 0.2], itertools.repeat(0.4)):
            task = self.request("GET", f"/tasks/{task_id}")
            assert task["events"][: len(events)] == events
            events = task["events"]
            self.tasks[task_id] = task
            if task["status"] in FINAL or time.monotonic() > end:
                return
            time.sleep(pause)

    def run_until(self, end: float) -> None:
        """Runs one task after the other until a point of monotonic time."""
        while time.monotonic() < end:
            self.run_task()


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
    warming: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    people = [Person(stack, warming) for _ in range(CLIENTS)]
    # Each more at a time is one more warm process, not 32 cold ones at the same moment.
    for count in (1, 2, 4, 8, 16, CLIENTS):
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(Person.run_task, people[:count]))
    for person in people:
        person.seen = seen
        person.tasks.clear()

    start = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda person: person.run_until(start + SECONDS), people))
    seconds = time.monotonic() - start

    for person in people:
        person.connection.close()
    tasks = {task_id: task for person in people for task_id, task in person.tasks.items()}
    statuses = Counter(task["status"] for task in tasks.values())
    reached = stack.agent_report()["reached"]
    with capsys.disabled():
        print(f"\n{CLIENTS} clients, {seconds:.0f} s: {dict(seen)}, tasks {dict(statuses)}")
    assert len(tasks) == seen["POST 202"] >= CLIENTS
    assert statuses == {"completed": len(tasks)}
    assert {task_id: reached.get(task_id) for task_id in tasks} == dict.fromkeys(tasks, 1)
    assert all(len(task["events"]) == 4 for task in tasks.values())
    failed = Deployment(stack).logged("valro-backend", "request failed")
    told = sum(count for each in (seen, warming) for name, count in each.items() if "500" in name)
    assert len(failed) == told
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
