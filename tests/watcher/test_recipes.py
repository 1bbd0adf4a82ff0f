"""The recipes of docs/events.md, pasted as they stand: who is told of a task's end, and what."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import eventually
from tests.project.test_readme import AWS_V2, BLOCKS
from tests.servers import Quiet, serving
from tests.watcher.conftest import Watched

pytestmark = pytest.mark.e2e


@pytest.fixture
def hook() -> Iterator[tuple[str, list[tuple[dict[str, str], Any]]]]:
    """Somebody's address, and what came there: headers and bodies."""
    calls: list[tuple[dict[str, str], Any]] = []

    class Hook(Quiet):
        def reply(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            calls.append((headers, json.loads(self.body())))
            self.send(204)

    with serving(Hook) as address:
        yield f"{address}/hook", calls


def paste(watched: Watched, *names: str, **variables: str) -> None:
    """Pastes the blocks of these names into a shell, which must like all of them."""
    code = "\n".join(
        match["code"] for name in names for match in BLOCKS if match["mark"] == f"test: {name}"
    )
    assert code
    environment = watched.stack.environment() | variables
    if AWS_V2:  # which is what people have
        environment["PATH"] = f"{Path(AWS_V2).parent}{os.pathsep}{environment['PATH']}"
    run = subprocess.run(
        ["bash", "-euc", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr


def received(watched: Watched, url: str) -> list[str]:
    found = watched.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    return [message["Body"] for message in found.get("Messages", [])]


def queue_of(watched: Watched, name: str) -> str:
    return str(watched.client("sqs").get_queue_url(QueueName=name)["QueueUrl"])


def test_a_queue_gets_every_end(watched: Watched):
    paste(watched, "events to a queue")
    url = queue_of(watched, "task-ends")
    task_id = watched.overdue("worker lost", seconds=0)

    (body,) = eventually(lambda: received(watched, url), bool)
    event = json.loads(body)
    assert (event["source"], event["detail-type"]) == ("valro", "Task Failed")
    assert (event["detail"]["id"], event["detail"]["error_code"]) == (task_id, "worker_lost")


def test_an_email_tells_of_failures_only(watched: Watched):
    paste(watched, "events by e-mail")
    sns, sqs = watched.client("sns"), watched.client("sqs")
    (topic,) = [each["TopicArn"] for each in sns.list_topics()["Topics"]]
    subscriptions = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert [(each["Protocol"], each["Endpoint"]) for each in subscriptions] == [
        ("email", "you@example.com")
    ]
    # What the e-mail says, to where a test can read it.
    anybody = {"Effect": "Allow", "Principal": "*", "Action": "sqs:SendMessage", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [anybody]})
    mail = sqs.create_queue(QueueName="mail", Attributes={"Policy": policy})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=mail, AttributeNames=["QueueArn"])["Attributes"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"])

    watched.ends(watched.overdue("cancelled and forgotten", seconds=0), "cancelled")
    task_id = watched.overdue("worker lost", seconds=0)
    (body,) = eventually(lambda: received(watched, mail), bool)
    assert json.loads(body)["Message"].strip('"') == f"Task {task_id} has failed: worker_lost"


def test_a_webhook_gets_the_event_with_the_secret_and_a_chat_gets_a_text(
    watched: Watched, hook: tuple[str, list[tuple[dict[str, str], Any]]]
):
    url, calls = hook
    names = ("events to a webhook", "events to a chat")
    paste(watched, *names, WEBHOOK_URL=url, WEBHOOK_SECRET="s3cret", CHAT_URL=f"{url}/chat")
    task_id = watched.overdue("worker lost", seconds=0)

    eventually(lambda: len(calls), lambda count: count == 2)
    bodies = sorted((body for _, body in calls), key=len)
    assert bodies[0] == {"text": f"Task Failed: {task_id}"}
    assert bodies[1]["detail"]["id"] == task_id
    assert {headers["x-webhook-secret"] for headers, _ in calls} == {"s3cret"}
