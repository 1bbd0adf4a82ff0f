"""The functions' policies: enough, and nothing in them that could be taken away.

Every action and every resource of the narrowed policies is removed in turn, and each time a request
that passed before must fail. What the local AWS does not enforce (StopRuntimeSession, logs and
X-Ray) is asserted on the text, in test_template.py.
"""

import copy
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from dynamodb_helpers import TaskStore
from local import REGION
from local.aws import ACCOUNT, AGENT_RUNTIME_ARN
from tests.conftest import TABLE_NAME, Deployment
from valro import dynamodb_items

ROLES = {
    "api": (f"valro-lambda-{REGION}", "ValroAPIPolicy"),
    "worker": (f"valro-worker-{REGION}", "ValroWorkerPolicy"),
}
NOT_ENFORCED = {"Logs": None, "Agent": "bedrock-agentcore:StopRuntimeSession"}
DESCRIPTION = "Find me a landscaper in Charlotte under $300"

pytestmark = pytest.mark.e2e


@dataclass
class Backend:
    """The deployed backend and the requests that its policies are for."""

    stack: Deployment
    task_id: str = ""

    @property
    def store(self) -> TaskStore:
        return TaskStore(self.stack.client("dynamodb"), TABLE_NAME)

    def make_task_with(self, name: str, value: dict[str, str]) -> str:
        """Makes a task behind the API's back, with another value of an attribute."""
        task_id = str(uuid.uuid4())
        self.store.create_task(task_id, DESCRIPTION)
        self.stack.client("dynamodb").update_item(
            TableName=TABLE_NAME,
            Key={"id": {"S": task_id}},
            AttributeUpdates={name: {"Value": value}},
        )
        return task_id

    def invoke_worker(self, **event: str) -> Any:
        return self.stack.client("lambda").invoke(
            FunctionName="valro-worker", Payload=json.dumps(event)
        )

    def posts(self) -> bool:
        """Writes a task and starts the worker."""
        answer = self.stack.api.request("POST", "/tasks", {"description": DESCRIPTION})
        self.task_id = self.task_id or answer.json().get("id", "")
        return answer.status == 202

    def reads(self) -> bool:
        return self.stack.api.request("GET", f"/tasks/{self.task_id}").status == 200

    def lists(self) -> bool:
        """Queries the index for keys and fetches the tasks."""
        answer = self.stack.api.request("GET", "/tasks?limit=100")
        return answer.status == 200 and self.task_id in answer.body.decode()

    def repairs(self) -> bool:
        """Expires a task whose worker never came."""
        task_id = self.make_task_with("deadline", {"S": "2020-01-01T00:00:00.000000Z"})
        answer = self.stack.api.request("GET", f"/tasks/{task_id}")
        return answer.status == 200 and answer.json()["status"] == "error"

    def lists_without_an_index(self) -> bool:
        """Scans, as for a table whose index is still being filled."""
        dynamodb = self.stack.client("dynamodb")
        index = dynamodb_items.TABLE_DEFINITION["GlobalSecondaryIndexes"][0]
        dynamodb.update_table(
            TableName=TABLE_NAME,
            GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": index["IndexName"]}}],
        )
        try:
            return self.lists()
        finally:
            dynamodb.update_table(
                TableName=TABLE_NAME,
                AttributeDefinitions=dynamodb_items.TABLE_DEFINITION["AttributeDefinitions"],
                GlobalSecondaryIndexUpdates=[{"Create": index}],
            )

    def deletes(self) -> bool:
        """Deletes a task with an answer that was kept in chunks."""
        task_id = self.make_task_with("chunks", {"N": "1"})
        self.store.cancel_task(task_id, "public")
        return self.stack.api.request("DELETE", f"/tasks/{task_id}").status == 204

    def works_by_hand(self) -> bool:
        """Makes a task that the API has not made, claims it and completes it."""
        task_id = f"by-hand-{uuid.uuid4()}"
        self.invoke_worker(task_id=task_id, description=DESCRIPTION)
        answer = self.stack.api.request("GET", f"/tasks/{task_id}")
        return answer.status == 200 and answer.json()["status"] == "completed"

    def looks_before_it_stops(self) -> bool:
        """Reads the task whose agent it is told to stop."""
        return "FunctionError" not in self.invoke_worker(stop="no-such-task")

    def reaches_the_agent(self) -> bool:
        """Calls the agent with the worker's role; whether it is there is past the policy."""
        role = f"arn:aws:iam::{ACCOUNT}:role/{ROLES['worker'][0]}"
        session = self.stack.client("sts").assume_role(RoleArn=role, RoleSessionName="test")
        client = boto3.client(
            "bedrock-agentcore",
            region_name=REGION,
            endpoint_url=self.stack.stack.endpoint,
            aws_access_key_id=session["Credentials"]["AccessKeyId"],
            aws_secret_access_key=session["Credentials"]["SecretAccessKey"],
            aws_session_token=session["Credentials"]["SessionToken"],
        )
        try:
            client.invoke_agent_runtime(agentRuntimeArn=AGENT_RUNTIME_ARN, payload=b"{}")
        except ClientError as error:
            return error.response["Error"]["Code"] != "AccessDeniedException"
        return True

    def policy(self, key: str) -> dict[str, Any]:
        """Returns a policy as CloudFormation put it on the role."""
        role, name = ROLES[key]
        answer = self.stack.client("iam").get_role_policy(RoleName=role, PolicyName=name)
        policy: dict[str, Any] = answer["PolicyDocument"]
        return policy

    def put_policy(self, key: str, policy: dict[str, Any]) -> None:
        role, name = ROLES[key]
        self.stack.client("iam").put_role_policy(
            RoleName=role,
            PolicyName=name,
            PolicyDocument=json.dumps(policy),
        )


PROBES = {
    "api": "posts reads lists repairs lists_without_an_index deletes",
    "worker": "works_by_hand looks_before_it_stops reaches_the_agent",
}


@pytest.fixture
def backend(stack: Deployment) -> Backend:
    return Backend(stack)


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def mutants(policy: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the policy without each one of its actions and resources that are enforced."""
    for place, statement in enumerate(policy["Statement"]):
        unenforced = NOT_ENFORCED.get(statement["Sid"], "")
        for part in ("Action", "Resource"):
            for taken in as_list(statement[part]):
                if unenforced is None or taken == unenforced:
                    continue
                mutant = copy.deepcopy(policy)
                left = [each for each in as_list(statement[part]) if each != taken]
                if left:
                    mutant["Statement"][place][part] = left
                else:
                    del mutant["Statement"][place]
                yield f"{statement['Sid']} without {taken}", mutant


def failed(backend: Backend, key: str) -> str:
    """Returns the first request that fails under the policies that are there now."""
    return next((name for name in PROBES[key].split() if not getattr(backend, name)()), "")


@pytest.mark.parametrize("key, count", [("api", 11), ("worker", 7)])
def test_nothing_can_be_taken_from_a_policy(backend: Backend, key: str, count: int):
    policy = backend.policy(key)
    assert failed(backend, key) == ""
    tried, survivors = 0, list[str]()
    try:
        for name, mutant in mutants(policy):
            tried += 1
            backend.put_policy(key, mutant)
            survivors += [] if failed(backend, key) else [name]
    finally:
        backend.put_policy(key, policy)

    assert survivors == []
    assert tried == count
    assert failed(backend, key) == ""
