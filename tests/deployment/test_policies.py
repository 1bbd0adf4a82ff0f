"""The functions' policies: enough, and nothing in them that could be taken away.

Every action and every resource of the narrowed policies is removed in turn, and each time a request
that passed before must fail. What the local AWS does not enforce (StopRuntimeSession, logs and
X-Ray) is asserted on the text, in test_template.py.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from dynamodb_helpers import TaskStore
from local import REGION
from local.aws import ACCOUNT, AGENT_RUNTIME_ARN
from tests.conftest import TABLE_NAME, Deployment
from tests.deployment.conftest import as_list, without
from valro import dynamodb_items

ROLES = {
    "api": {"RoleName": f"valro-lambda-{REGION}", "PolicyName": "ValroAPIPolicy"},
    "worker": {"RoleName": f"valro-worker-{REGION}", "PolicyName": "ValroWorkerPolicy"},
}
NOT_ENFORCED = {"Logs": None, "Agent": "bedrock-agentcore:StopRuntimeSession"}
DESCRIPTION = "Find me a landscaper in Charlotte under $300"

pytestmark = pytest.mark.e2e


# ---- what the policies are for


def make_task(stack: Deployment, **attributes: dict[str, str]) -> str:
    """Makes a task behind the API's back, with other values of some attributes."""
    task_id = str(uuid.uuid4())
    TaskStore(stack.client("dynamodb"), TABLE_NAME).create_task(task_id, DESCRIPTION)
    stack.client("dynamodb").update_item(
        TableName=TABLE_NAME,
        Key={"id": {"S": task_id}},
        AttributeUpdates={name: {"Value": value} for name, value in attributes.items()},
    )
    return task_id


def status_of(stack: Deployment, task_id: str) -> str:
    """Returns a task's status, or nothing where the API fails."""
    answer = stack.api.request("GET", f"/tasks/{task_id}")
    return str(answer.json()["status"]) if answer.status == 200 else ""


def invoke_worker(stack: Deployment, **event: str) -> Any:
    return stack.client("lambda").invoke(FunctionName="valro-worker", Payload=json.dumps(event))


def posts(stack: Deployment) -> bool:
    """Writes a task and starts the worker."""
    return stack.api.request("POST", "/tasks", {"description": DESCRIPTION}).status == 202


def lists(stack: Deployment) -> bool:
    """Queries the index for keys and fetches the tasks."""
    task_id = make_task(stack)
    answer = stack.api.request("GET", "/tasks?limit=100")
    return answer.status == 200 and task_id in answer.body.decode()


def lists_without_an_index(stack: Deployment) -> bool:
    """Scans, as for a table whose index is still being filled."""
    dynamodb, definition = stack.client("dynamodb"), dynamodb_items.TABLE_DEFINITION
    (index,) = definition["GlobalSecondaryIndexes"]

    def update(**change: Any) -> None:
        dynamodb.update_table(
            TableName=TABLE_NAME,
            AttributeDefinitions=definition["AttributeDefinitions"],
            GlobalSecondaryIndexUpdates=[change],
        )

    update(Delete={"IndexName": index["IndexName"]})
    try:
        return lists(stack)
    finally:
        update(Create=index)


def repairs(stack: Deployment) -> bool:
    """Reads a task, and expires it since its worker never came."""
    task_id = make_task(stack, deadline={"S": "2020-01-01T00:00:00.000000Z"})
    return status_of(stack, task_id) == "error"


def deletes(stack: Deployment) -> bool:
    """Deletes a task with an answer that was kept in chunks."""
    task_id = make_task(stack, chunks={"N": "1"})
    TaskStore(stack.client("dynamodb"), TABLE_NAME).cancel_task(task_id, "public")
    return stack.api.request("DELETE", f"/tasks/{task_id}").status == 204


def works_by_hand(stack: Deployment) -> bool:
    """Makes a task that the API has not made, claims it and completes it."""
    task_id = f"by-hand-{uuid.uuid4()}"
    invoke_worker(stack, task_id=task_id, description=DESCRIPTION)
    return status_of(stack, task_id) == "completed"


def looks_before_it_stops(stack: Deployment) -> bool:
    """Reads the task whose agent it is told to stop."""
    return "FunctionError" not in invoke_worker(stack, stop="no-such-task")


def reaches_the_agent(stack: Deployment, arn: str = AGENT_RUNTIME_ARN) -> bool:
    """Calls an agent with the worker's role; whether it is there is past the policy."""
    role = f"arn:aws:iam::{ACCOUNT}:role/{ROLES['worker']['RoleName']}"
    session = stack.client("sts").assume_role(RoleArn=role, RoleSessionName="test")
    client = boto3.client(
        "bedrock-agentcore",
        region_name=REGION,
        endpoint_url=stack.stack.endpoint,
        aws_access_key_id=session["Credentials"]["AccessKeyId"],
        aws_secret_access_key=session["Credentials"]["SecretAccessKey"],
        aws_session_token=session["Credentials"]["SessionToken"],
    )
    try:
        client.invoke_agent_runtime(agentRuntimeArn=arn, payload=b"{}")
    except ClientError as error:
        return error.response["Error"]["Code"] != "AccessDeniedException"
    return True


PROBES = {
    "api": (posts, lists, lists_without_an_index, repairs, deletes),
    "worker": (works_by_hand, looks_before_it_stops, reaches_the_agent),
}


# ---- what can be taken from them


def mutants(policy: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the policy without each one of its actions and resources that are enforced."""
    for statement in policy["Statement"]:
        unenforced = NOT_ENFORCED.get(statement["Sid"], "")
        for part in ("Action", "Resource"):
            for taken in as_list(statement[part]):
                if unenforced not in {None, taken}:
                    yield f"{statement['Sid']} without {taken}", without(policy, part, taken)


@pytest.mark.parametrize("key, count", [("api", 11), ("worker", 7)])
def test_nothing_can_be_taken_from_a_policy(stack: Deployment, key: str, count: int):
    iam = stack.client("iam")
    policy = iam.get_role_policy(**ROLES[key])["PolicyDocument"]

    def fails() -> bool:
        return not all(probe(stack) for probe in PROBES[key])

    assert not fails()
    tried, survivors = 0, list[str]()
    try:
        for name, mutant in mutants(policy):
            tried += 1
            iam.put_role_policy(**ROLES[key], PolicyDocument=json.dumps(mutant))
            survivors += [] if fails() else [name]
    finally:
        iam.put_role_policy(**ROLES[key], PolicyDocument=json.dumps(policy))

    assert survivors == []
    assert tried == count
    assert not fails()


def test_the_worker_may_call_no_other_agent(stack: Deployment):
    other = AGENT_RUNTIME_ARN.replace("valro_sample_agent", "another_agent")
    assert not reaches_the_agent(stack, other)
