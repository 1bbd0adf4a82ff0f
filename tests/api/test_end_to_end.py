"""The whole backend on a local AWS: the real scripts, zips, policies, HTTP and agent.

The local AWS enforces the two roles' policies (AUTH=true), so that whatever works here works with
what iam-policy.json and worker-iam-policy.json grant.
"""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import boto3
import pytest
from botocore.exceptions import ClientError

from local import REGION, faults
from local.aws import AGENT_RUNTIME_ARN
from local.vendors import build_answer
from tests.conftest import TABLE_NAME, Deployment, eventually

pytestmark = pytest.mark.e2e

PROMPT = "Find me a landscaper in Charlotte under $300"
CREATED = "Task created"
STARTED = ["Worker Lambda invoked - processing started", "Agent processing started"]
COMPLETED = "Agent completed task successfully"
PUBLIC_KEYS = {
    "id",
    "description",
    "status",
    "vendors",
    "quotes",
    "emails_sent",
    "events",
    "created_at",
    "updated_at",
    "thread_id",
    "started_at",
    "completed_at",
}


def messages(task: dict[str, Any]) -> list[str]:
    """The texts of a task's events, in order."""
    return [event["message"] for event in task["events"]]


# The journey of a task


def test_a_task_runs_from_post_to_completed_as_its_poller_sees_it(stack: Deployment):
    accepted = stack.api.request("POST", "/tasks", {"description": PROMPT})

    assert accepted.status == 202
    task_id = accepted.json()["id"]
    assert accepted.json() == {
        "id": task_id,
        "status": "pending",
        "message": "Task created and processing started",
    }
    assert urljoin("/tasks", accepted.headers["Location"]) == f"/tasks/{task_id}"
    assert int(accepted.headers["Retry-After"]) >= 1

    task = stack.finish(task_id)

    assert task["status"] == "completed"
    assert messages(task) == [
        CREATED,
        *STARTED,
        "Looking for landscapers in Charlotte within $300",
        "Found 3 landscapers within $300",
        "E-mailed Green Fern Landscaping at green-fern-landscaping@example.com",
        "E-mailed Queen City Lawn & Garden at queen-city-lawn-garden@example.com",
        "E-mailed Dogwood Outdoor Care at dogwood-outdoor-care@example.com",
        "Comparing quotes",
        COMPLETED,
    ]
    assert [event["type"] for event in task["events"]] == ["info"] * 9 + ["success"]
    assert [event["ts"] for event in task["events"]] == sorted(e["ts"] for e in task["events"])
    assert set(task) == PUBLIC_KEYS | {"agent_response"}
    assert task["description"] == PROMPT
    assert task["agent_response"] == build_answer(PROMPT)["response"]
    assert task["emails_sent"] == 3
    assert [vendor["price"] for vendor in task["vendors"]] == [240, 275.5, 195]
    assert [[e["recipient"] for e in v["emails"]] for v in task["vendors"]] == [
        [vendor["email"]] for vendor in task["vendors"]
    ]
    assert task["quotes"] == build_answer(PROMPT)["quotes"]
    assert stack.agent_runs(task_id) == 1


def test_progress_is_seen_while_the_agent_is_still_at_work(stack: Deployment):
    task_id = stack.create(f"{PROMPT} [agent: stall 5]")

    seen = eventually(lambda: stack.task(task_id), lambda task: len(task["events"]) > 3)

    assert seen["status"] == "processing"
    assert messages(seen) == [CREATED, *STARTED, "Waiting for a vendor to answer"]
    assert stack.finish(task_id)["status"] == "completed"


def test_the_list_shows_the_newest_first_and_pages(stack: Deployment):
    older, newer = (stack.run(f"{PROMPT} [agent: quiet]")["id"] for _ in range(2))

    first = eventually(
        lambda: stack.api.request("GET", "/tasks?limit=1"),
        lambda answer: answer.json()[0]["id"] == newer,
    )
    link = first.headers["Link"].partition("<")[2].partition(">")[0]
    second = stack.api.request("GET", urljoin("/tasks?limit=1", link))

    assert [task["id"] for task in second.json()] == [older]
    assert set(first.json()[0]) == PUBLIC_KEYS


# What agents answer


@pytest.mark.parametrize("behaviour", ["json", "text", "pieces", "quiet", "strands"])
def test_every_form_of_answer_completes_the_task(stack: Deployment, behaviour: str):
    task = stack.run(f"{PROMPT} [agent: {behaviour}]")

    assert task["status"] == "completed"
    assert task["agent_response"] == build_answer(PROMPT)["response"]
    assert stack.agent_runs(task["id"]) == 1


def test_what_strands_cannot_serialize_never_reaches_a_person(stack: Deployment):
    task = stack.run(f"{PROMPT} [agent: strands]")

    assert messages(task) == [CREATED, *STARTED, "Using getVendors", COMPLETED]
    assert "{'" not in json.dumps(task, ensure_ascii=False)


def test_odd_values_come_back_as_the_agent_gave_them(stack: Deployment):
    task = stack.run("[agent: odd]")

    given = faults.odd_answer()
    assert task["status"] == "completed"
    assert task["agent_response"] == given["response"]
    assert task["vendors"] == [{**vendor, "emails": []} for vendor in given["vendors"]]
    assert task["quotes"] == given["quotes"]


# The two promises: at most one agent run, and every task ends


def test_ten_deliveries_at_once_of_a_task_by_hand_run_the_agent_once(stack: Deployment):
    task_id = f"by-hand-{uuid.uuid4()}"
    event = {"task_id": task_id, "description": f"{PROMPT} [agent: stall 1]"}

    outcomes = deliver(stack, event, 10)

    assert sorted(outcomes) == ["completed"] + ["not_claimed"] * 9
    task = stack.task(task_id)
    assert messages(task) == [
        CREATED,
        *STARTED,
        "Waiting for a vendor to answer",
        COMPLETED,
    ]
    assert stack.agent_runs(task_id) == 1


# Cancelling, deleting and reports need no more than what the policies grant


def test_a_task_is_cancelled_and_deleted_with_the_functions_own_rights(stack: Deployment):
    task_id = stack.create(f"{PROMPT} [agent: stall]")
    eventually(lambda: stack.task(task_id), lambda task: len(task["events"]) > 3)

    assert stack.api.request("POST", f"/tasks/{task_id}/cancel").status == 202

    assert stack.finish(task_id, 10)["error_code"] == "cancelled"  # sooner than a reader may
    assert any(task_id in session for session in stack.stack.agent_report()["stopped"])
    for each in (task_id, stack.run("[agent: huge 400000]")["id"]):
        assert stack.api.request("DELETE", f"/tasks/{each}").status == 204
        assert [one for one in stack.ids() if one.startswith(each)] == [each]
        assert stack.api.request("GET", f"/tasks/{each}").status == 404


def test_an_agent_reports_with_no_rights_but_its_token(stack: Deployment):
    task = stack.run(f"{PROMPT} [agent: report]")

    assert task["status"] == "completed"
    assert messages(task)[-2:] == ["Comparing quotes", COMPLETED]
    assert task["agent_response"] == build_answer(PROMPT)["response"]
    assert stack.agent_runs(task["id"]) == 1


def test_each_run_of_the_worker_logs_its_outcome_once(stack: Deployment):
    task_id = stack.run(f"{PROMPT} [agent: quiet]")["id"]

    def outcomes() -> list[Any]:
        found = stack.client("logs").filter_log_events(logGroupName="/aws/lambda/valro-worker")
        lines = [event["message"] for event in found["events"] if task_id in event["message"]]
        return [json.loads(line) for line in lines]

    (line,) = eventually(outcomes, bool)
    assert line["outcome"] == "completed"
    assert line["duration_ms"] > 0


# The deployment


@pytest.mark.parametrize("role", [f"valro-lambda-{REGION}", f"valro-worker-{REGION}"])
def test_the_local_aws_holds_the_functions_to_their_policies(stack: Deployment, role: str):
    dynamodb = as_role(stack, role, "dynamodb")
    with pytest.raises(ClientError) as refusal:
        dynamodb.describe_table(TableName=TABLE_NAME)
    assert refusal.value.response["Error"]["Code"] == "AccessDeniedException"


def test_the_worker_may_call_its_own_agent_and_no_other(stack: Deployment):
    client = as_role(stack, f"valro-worker-{REGION}", "bedrock-agentcore")
    other = AGENT_RUNTIME_ARN.replace("valro_sample_agent", "another_agent")

    def call(arn: str) -> str:
        try:
            client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "accepted"

    assert call(other) == "AccessDeniedException"
    # The sample agent is not MiniStack's own: that it is not found there is past the policy.
    assert call(AGENT_RUNTIME_ARN) in {"accepted", "ResourceNotFoundException"}


def deliver(stack: Deployment, event: dict[str, Any], times: int) -> list[str]:
    """Invokes the worker so many times at once with one event; returns the outcomes."""
    with ThreadPoolExecutor(times) as pool:
        results = list(pool.map(lambda _: invoke(stack, "valro-worker", event), range(times)))
    return [result["outcome"] for result in results]


def invoke(stack: Deployment, function: str, event: dict[str, Any]) -> dict[str, Any]:
    """Invokes a function and returns what it answers."""
    answer = stack.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event))
    result: dict[str, Any] = json.loads(answer["Payload"].read())
    return result


def as_role(stack: Deployment, role: str, service: str) -> Any:
    """A client with the credentials of one of the functions' roles."""
    sts = stack.client("sts")
    account = sts.get_caller_identity()["Account"]
    credentials = sts.assume_role(
        RoleArn=f"arn:aws:iam::{account}:role/{role}", RoleSessionName="test"
    )["Credentials"]
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=stack.stack.endpoint,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )


def function_processes(stack: Deployment, function: str) -> list[int]:
    """The processes in which MiniStack runs a function."""
    variable = f"AWS_LAMBDA_FUNCTION_NAME={function}".encode()
    gateway = f"GATEWAY_PORT={stack.stack.port}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if variable in environment and gateway in environment:
            found.append(int(folder.name))
    return found


def backdate(stack: Deployment, task_id: str) -> None:
    """Puts a task's deadline into the past."""
    stack.client("dynamodb").update_item(
        TableName=TABLE_NAME,
        Key={"id": {"S": task_id}},
        UpdateExpression="SET deadline = :past",
        ConditionExpression="attribute_exists(deadline)",
        ExpressionAttributeValues={":past": {"S": "2020-01-01T00:00:00.000000Z"}},
    )
