"""The deployed stack with its watcher, whose timer goes off every second here, and an ear on the bus."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from dynamodb_helpers import Claim, TaskStore
from local import REGION
from local.aws import LocalStack, local_stack
from tests.conftest import TABLE_NAME, Deployment, eventually
from valro.agent.runtime import session_id
from valro.dynamodb_items import to_item
from valro.tasks import Task, timestamp


class Watched(Deployment):
    """A stack on which nobody reads: what becomes of tasks is looked up in the table."""

    def __init__(self, stack: LocalStack) -> None:
        super().__init__(stack)
        self.store = TaskStore(self.client("dynamodb"), TABLE_NAME)
        self.queue_url = self.client("sqs").get_queue_url(QueueName="valro-watch")["QueueUrl"]
        self.client("sqs").set_queue_attributes(
            QueueUrl=self.queue_url, Attributes={"DelaySeconds": "1", "VisibilityTimeout": "1"}
        )
        self._heard: list[tuple[str, dict[str, Any]]] = []
        self._ear = self.client("sqs").create_queue(QueueName="ear")["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:000000000000:ear"
        events = self.client("events")
        events.put_rule(Name="ear", EventPattern=json.dumps({"source": ["valro"]}))
        events.put_targets(Rule="ear", Targets=[{"Id": "ear", "Arn": arn}])

    def claimed(self, seconds: float = 600) -> Claim:
        """Makes a task that a worker has, which dies; its deadline is in so many seconds."""
        task_id = str(uuid.uuid4())
        self.store.create_task(task_id, "Find me a painter")
        return self.store.claim_task(task_id, "claim", time.time() + seconds - 60)

    def overdue(self, kind: str, seconds: float = 2) -> str:
        """Makes a task that will be overdue soon; returns its id."""
        if kind == "never started":
            task_id = str(uuid.uuid4())
            self.store.create_task(task_id, "Find me a painter")
        else:
            claim = self.claimed(seconds if kind == "worker lost" else 600)
            task_id = str(claim.task["id"])
            if kind == "silent":
                self.store.accept_task(claim)
        if kind == "cancelled and forgotten":
            self.store.cancel_task(task_id, "public")
            self.set(task_id, "cancel_requested_at", timestamp(time.time() + seconds - 60))
        if kind in ("never started", "silent"):
            self.set(task_id, "deadline", timestamp(time.time() + seconds))
        return task_id

    def set(self, task_id: str, name: str, value: Any) -> None:
        self.client("dynamodb").update_item(
            TableName=TABLE_NAME,
            Key={"id": {"S": task_id}},
            AttributeUpdates={name: {"Value": to_item({name: value})[name]}},
        )

    def item(self, task_id: str) -> Task:
        return self.store.find_item(task_id)

    def told(self, task_id: str) -> list[tuple[str, dict[str, Any]]]:
        """What the bus has been told of a task so far."""
        sqs = self.client("sqs")
        while found := sqs.receive_message(QueueUrl=self._ear, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in found:
                event = json.loads(message["Body"])
                self._heard.append((event["detail-type"], event["detail"]))
                sqs.delete_message(QueueUrl=self._ear, ReceiptHandle=message["ReceiptHandle"])
        return [(kind, detail) for kind, detail in self._heard if detail["id"] == task_id]

    def stopped(self, task_id: str) -> int:
        """How often the session of a task's agent was stopped."""
        return int(self.stack.agent_report()["stopped"].count(session_id(task_id)))

    def ends(self, task_id: str, error_code: str, *, is_stopped: bool = True) -> None:
        """Waits until a task has ended, was told of, and its session is stopped."""
        wanted = (error_code, True, is_stopped)
        eventually(
            lambda: (
                self.item(task_id).get("error_code"),
                bool(self.told(task_id)),
                self.stopped(task_id) > 0,
            ),
            lambda seen: seen == wanted,
        )

    def invoke(self, *records: dict[str, Any]) -> list[str]:
        """Calls the function with records; returns which are to come again."""
        answer = self.client("lambda").invoke(
            FunctionName="valro-watcher", Payload=json.dumps({"Records": records})
        )
        assert "FunctionError" not in answer
        failures = json.load(answer["Payload"])["batchItemFailures"]
        return [failure["itemIdentifier"] for failure in failures]

    def is_quiet(self) -> bool:
        """Tells whether no message is in the queue, of those who wait and those who are looked at."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        names.append("ApproximateNumberOfMessagesDelayed")
        attributes = self.client("sqs").get_queue_attributes(
            QueueUrl=self.queue_url, AttributeNames=names
        )["Attributes"]
        return {int(attributes[name]) for name in names} == {0}


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with local_stack(authorization=True) as local:
        local.deploy(arguments=("--task-events", "true"))
        yield Watched(local)
