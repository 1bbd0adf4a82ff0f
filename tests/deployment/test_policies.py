"""The functions' policies: enough, and nothing in them that could be taken away.

Every action and every resource of the narrowed policies is removed in turn, and each time a request
that passed before must fail. What the local AWS does not enforce (StopRuntimeSession, logs and
X-Ray) is asserted on the text, in test_template.py.
"""

import copy
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

import dynamodb_items
from dynamodb_helpers import TaskStore
from local import REGION
from local.aws import AGENT_RUNTIME_ARN, Api, LocalStack
from tests.deployment.operators import ROOT, Stack, building_in_turn, fast_aws_server

NOT_ENFORCED = {"Logs": None, "Agent": "bedrock-agentcore:StopRuntimeSession"}
DESCRIPTION = "Find me a landscaper in Charlotte under $300"

pytestmark = pytest.mark.e2e


@dataclass
class Backend:
    """The deployed backend and the requests that its policies are for."""

    stack: Stack
    api: Api
    task_id: str = ""

    @property
    def table(self) -> str:
        return f"{self.stack.prefix}-tasks"

    @property
    def store(self) -> TaskStore:
        return TaskStore(self.stack.client("dynamodb"), self.table)

    def posts(self) -> bool:
        """Writes a task and starts the worker."""
        answer = self.api.request("POST", "/tasks", {"description": DESCRIPTION})
        self.task_id = self.task_id or answer.json().get("id", "")
        return answer.status == 202

    def reads(self) -> bool:
        return self.api.request("GET", f"/tasks/{self.task_id}").status == 200

    def lists(self) -> bool:
        """Queries the index for keys and fetches the tasks."""
        answer = self.api.request("GET", "/tasks?limit=100")
        return answer.status == 200 and self.task_id in answer.body.decode()

    def repairs(self) -> bool:
        """Expires a task whose worker never came."""
        task_id = f"late-{uuid.uuid4()}"
        self.store.create_task(task_id, DESCRIPTION)
        self.stack.client("dynamodb").update_item(
            TableName=self.table,
            Key={"id": {"S": task_id}},
            UpdateExpression="SET deadline = :past",
            ExpressionAttributeValues={":past": {"S": "2020-01-01T00:00:00.000000Z"}},
        )
        answer = self.api.request("GET", f"/tasks/{task_id}")
        return answer.status == 200 and answer.json()["status"] == "error"

    def lists_without_an_index(self) -> bool:
        """Scans, as for a table whose index is still being filled."""
        dynamodb = self.stack.client("dynamodb")
        index = dynamodb_items.TABLE_DEFINITION["GlobalSecondaryIndexes"][0]
        dynamodb.update_table(
            TableName=self.table,
            GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": index["IndexName"]}}],
        )
        try:
            return self.lists()
        finally:
            dynamodb.update_table(
                TableName=self.table,
                AttributeDefinitions=dynamodb_items.TABLE_DEFINITION["AttributeDefinitions"],
                GlobalSecondaryIndexUpdates=[{"Create": index}],
            )

    def deletes(self) -> bool:
        """Deletes a task with an answer that was kept in chunks."""
        task_id = f"long-{uuid.uuid4()}"
        self.store.create_task(task_id, DESCRIPTION)
        self.store.cancel_task(task_id, "public")
        self.stack.client("dynamodb").update_item(
            TableName=self.table,
            Key={"id": {"S": task_id}},
            UpdateExpression="SET chunks = :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        return self.api.request("DELETE", f"/tasks/{task_id}").status == 204

    def works_by_hand(self) -> bool:
        """Makes a task that the API has not made, claims it and completes it."""
        task_id = f"by-hand-{uuid.uuid4()}"
        self.stack.client("lambda").invoke(
            FunctionName=f"{self.stack.prefix}-worker",
            Payload=json.dumps({"task_id": task_id, "description": DESCRIPTION}),
        )
        answer = self.api.request("GET", f"/tasks/{task_id}")
        return answer.status == 200 and answer.json()["status"] == "completed"

    def looks_before_it_stops(self) -> bool:
        """Reads the task whose agent it is told to stop."""
        answer = self.stack.client("lambda").invoke(
            FunctionName=f"{self.stack.prefix}-worker", Payload=json.dumps({"stop": "no-such-task"})
        )
        return "FunctionError" not in answer

    def reaches_the_agent(self) -> bool:
        """Calls the agent with the worker's role; whether it is there is past the policy."""
        role = f"arn:aws:iam::000000000000:role/{self.stack.prefix}-worker-role"
        credentials = self.stack.client("sts").assume_role(RoleArn=role, RoleSessionName="test")
        client = boto3.client(
            "bedrock-agentcore",
            region_name=REGION,
            endpoint_url=self.stack.ministack.endpoint,
            aws_access_key_id=credentials["Credentials"]["AccessKeyId"],
            aws_secret_access_key=credentials["Credentials"]["SecretAccessKey"],
            aws_session_token=credentials["Credentials"]["SessionToken"],
        )
        try:
            client.invoke_agent_runtime(agentRuntimeArn=AGENT_RUNTIME_ARN, payload=b"{}")
        except ClientError as error:
            return error.response["Error"]["Code"] != "AccessDeniedException"
        return True

    def put_policy(self, key: str, policy: dict[str, Any]) -> None:
        self.stack.client("iam").put_role_policy(
            RoleName=f"{self.stack.prefix}-{'lambda' if key == 'api' else 'worker'}-role",
            PolicyName="ValroAPIPolicy" if key == "api" else "ValroWorkerPolicy",
            PolicyDocument=json.dumps(policy),
        )


PROBES: dict[str, list[Callable[[Backend], bool]]] = {
    "api": [
        Backend.posts,
        Backend.reads,
        Backend.lists,
        Backend.repairs,
        Backend.lists_without_an_index,
        Backend.deletes,
    ],
    "worker": [Backend.works_by_hand, Backend.looks_before_it_stops, Backend.reaches_the_agent],
}


@pytest.fixture(scope="module")
def backend(ministack: LocalStack) -> Iterator[Backend]:
    with fast_aws_server() as port:
        stack = Stack(ministack, port, ROOT, "rights")
        with building_in_turn():
            stack.deploy(AGENT_RUNTIME_ARN=AGENT_RUNTIME_ARN, PUBLIC_CANCEL_AND_DELETE="true")
        yield Backend(stack, Api(ministack.port, stack.api()["ApiId"]))


@pytest.fixture(scope="module")
def policies(backend: Backend) -> dict[str, dict[str, Any]]:
    """The policies as CloudFormation put them on the roles."""
    return {
        "api": backend.stack.policy("lambda-role", "ValroAPIPolicy"),
        "worker": backend.stack.policy("worker-role", "ValroWorkerPolicy"),
    }


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
    return next((probe.__name__ for probe in PROBES[key] if not probe(backend)), "")


@pytest.mark.parametrize("key, count", [("api", 11), ("worker", 7)])
def test_nothing_can_be_taken_from_a_policy(
    backend: Backend, policies: dict[str, dict[str, Any]], key: str, count: int
):
    assert failed(backend, key) == ""
    survivors = []
    tried = 0
    for name, mutant in mutants(policies[key]):
        tried += 1
        backend.put_policy(key, mutant)
        if not failed(backend, key):
            survivors.append(name)
    backend.put_policy(key, policies[key])

    assert survivors == []
    assert tried == count
    assert failed(backend, key) == ""
