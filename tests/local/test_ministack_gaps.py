"""What MiniStack's CloudFormation leaves out, one test for each gap.

A test that fails here is good news: MiniStack has mended that gap. Then its line goes from
local/ministack_gaps.py, and so does the test.
"""

import functools
import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from local import REGION
from local.addresses import free_port
from local.aws import Api, LocalStack
from tests.conftest import eventually
from tests.deployment.operators import Stack, copy_project

TABLE = {
    "TableName": "gaps-by-hand",
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def stack(ministack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack that asks for everything that MiniStack leaves out."""
    stack = Stack(ministack, copy_project(tmp_path_factory.mktemp("gaps") / "project"), "gaps")
    stack.deploy("--worker-concurrency", "5")
    return stack


@pytest.fixture
def make(ministack: LocalStack, stack: Stack) -> Callable[..., str]:
    """Makes a stack of one resource, and gives its state in the end."""

    def create(name: str, kind: str, properties: dict[str, Any]) -> str:
        cloudformation = stack.client("cloudformation")
        resource = {"Type": kind, "Properties": properties}
        cloudformation.create_stack(
            StackName=name, TemplateBody=json.dumps({"Resources": {"It": resource}})
        )

        def state() -> str:
            (made,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
            return str(made["StackStatus"])

        return eventually(state, lambda state: not state.endswith("_IN_PROGRESS"))

    return create


def test_point_in_time_recovery_stays_off(stack: Stack):
    backups = stack.client("dynamodb").describe_continuous_backups(TableName="gaps-tasks")
    recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]

    assert recovery["PointInTimeRecoveryStatus"] == "DISABLED"


def test_time_to_live_stays_off(stack: Stack):
    answer = stack.client("dynamodb").describe_time_to_live(TableName="gaps-tasks")

    assert answer["TimeToLiveDescription"] == {"TimeToLiveStatus": "DISABLED"}


def test_no_concurrency_is_reserved(stack: Stack):
    answer = stack.client("lambda").get_function_concurrency(FunctionName="gaps-worker")

    assert "ReservedConcurrentExecutions" not in answer


def test_the_stage_has_no_limits(stack: Stack):
    gateway = stack.client("apigatewayv2")
    stage = gateway.get_stage(ApiId=stack.api()["ApiId"], StageName="$default")

    assert (stage["DefaultRouteSettings"], stage["RouteSettings"]) == ({}, {"POST /tasks": {}})


def test_a_table_that_is_there_is_overwritten(stack: Stack, make: Callable[..., str]):
    dynamodb = stack.client("dynamodb")
    dynamodb.create_table(**TABLE)
    dynamodb.put_item(TableName="gaps-by-hand", Item={"id": {"S": "a"}})

    assert make("gaps-table", "AWS::DynamoDB::Table", TABLE) == "CREATE_COMPLETE"
    assert dynamodb.scan(TableName="gaps-by-hand")["Items"] == []


def test_a_new_function_needs_no_code(stack: Stack, make: Callable[..., str]):
    function = {
        "Runtime": "python3.11",
        "Handler": "x.y",
        "Role": stack.function("worker")["Role"],
        "Code": {"S3Bucket": "valro-zips-000000000000-us-east-1", "S3Key": "no-such-key.zip"},
    }

    assert make("gaps-function", "AWS::Lambda::Function", function) == "CREATE_COMPLETE"


def test_a_permission_needs_no_function(stack: Stack, make: Callable[..., str]):
    permission = {
        "FunctionName": "no-such-function",
        "Action": "lambda:InvokeFunction",
        "Principal": "apigateway.amazonaws.com",
    }

    assert make("gaps-permission", "AWS::Lambda::Permission", permission) == "CREATE_COMPLETE"


@pytest.fixture
def plain_ministack(ministack: LocalStack, tmp_path: Path) -> Iterator[int]:
    """The port of a MiniStack as it comes."""
    port = free_port()
    environment = ministack._ministack_environment(tmp_path) | {"GATEWAY_PORT": str(port)}
    command = [sys.executable, "-m", "ministack"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as server:
        yield port
        server.terminate()


def client_at(port: int, service: str = "cloudformation") -> Any:
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        config=Config(retries={"total_max_attempts": 20, "mode": "standard"}),
    )


def names_what_is_not_made(port: int) -> bool:
    """Tells whether a change set names a resource whose condition is false."""
    cloudformation = client_at(port)
    resource = {"Type": "AWS::SNS::Topic"}
    template = {
        "Conditions": {"Never": {"Fn::Equals": ["a", "b"]}},
        "Resources": {"Always": resource, "Not": resource | {"Condition": "Never"}},
    }
    change_set = {"StackName": "gaps-conditions", "ChangeSetName": "made"}
    cloudformation.create_change_set(
        **change_set, ChangeSetType="CREATE", TemplateBody=json.dumps(template)
    )
    changes = cloudformation.describe_change_set(**change_set)["Changes"]
    named = {each["ResourceChange"]["LogicalResourceId"] for each in changes}
    assert "Always" in named
    return "Not" in named


def test_a_change_set_names_resources_that_are_not_made_until_it_is_mended(
    ministack: LocalStack, plain_ministack: int
):
    assert names_what_is_not_made(plain_ministack)
    assert not names_what_is_not_made(ministack.port)


def preflights(port: int) -> list[int]:
    """Returns the statuses of a preflight to an API that was made so, and of one after an update."""
    cloudformation = client_at(port)
    api = Api(port, "0123abcd")
    asked = {"Origin": "http://localhost:5173", "Access-Control-Request-Method": "POST"}
    statuses = []
    for verb, seconds in (("create", 60), ("update", 3600)):
        cors = {"AllowOrigins": ["*"], "AllowMethods": ["POST"], "MaxAge": seconds}
        tags = {"ms-custom-id": api.api_id}
        properties = {"ProtocolType": "HTTP", "CorsConfiguration": cors, "Tags": tags}
        resource = {"Type": "AWS::ApiGatewayV2::Api", "Properties": properties}
        template = json.dumps({"Resources": {"It": resource}})
        getattr(cloudformation, f"{verb}_stack")(StackName="gaps-cors", TemplateBody=template)
        waiter = cloudformation.get_waiter(f"stack_{verb}_complete")
        waiter.wait(StackName="gaps-cors", WaiterConfig={"Delay": 1})
        statuses.append(api.request("OPTIONS", "/tasks", headers=asked).status)
    return statuses


def test_cors_is_refused_until_it_is_mended(ministack: LocalStack, plain_ministack: int):
    assert preflights(plain_ministack) == [403, 403]
    assert preflights(ministack.port) == [204, 204]


def runs_of_a_function_that_reports_failures(port: int) -> int:
    """Counts how often a change of a table is brought to a function that reports it as failed."""
    client = functools.partial(client_at, port)
    code = "def f(event, _):\n    number = event['Records'][0]['dynamodb']['SequenceNumber']\n"
    code += "    return {'batchItemFailures': [{'itemIdentifier': number}]}\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("f.py", code)
    trust = {"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}
    role = client("iam").create_role(
        RoleName="gaps-failing",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )
    client("lambda").create_function(
        FunctionName="gaps-failing",
        Runtime="python3.11",
        Handler="f.f",
        Role=role["Role"]["Arn"],
        Code={"ZipFile": archive.getvalue()},
    )
    stream = {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    table = client("dynamodb").create_table(
        **TABLE | {"TableName": "gaps-stream", "StreamSpecification": stream}
    )
    client("lambda").create_event_source_mapping(
        FunctionName="gaps-failing",
        EventSourceArn=table["TableDescription"]["LatestStreamArn"],
        StartingPosition="TRIM_HORIZON",
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    client("dynamodb").put_item(TableName="gaps-stream", Item={"id": {"S": "a"}})
    time.sleep(5)
    client("dynamodb").delete_table(TableName="gaps-stream")
    found = client("logs").filter_log_events(
        logGroupName="/aws/lambda/gaps-failing", filterPattern="START"
    )
    return len(found["events"])


def test_what_a_function_reports_as_failed_of_a_stream_is_lost_until_it_is_mended(
    ministack: LocalStack, plain_ministack: int
):
    assert runs_of_a_function_that_reports_failures(plain_ministack) == 1
    assert runs_of_a_function_that_reports_failures(ministack.port) > 1


def test_an_update_reports_resources_that_it_left_alone(stack: Stack):
    stack.deploy("--log-retention-days", "7")

    events = stack.client("cloudformation").describe_stack_events(StackName="gaps-backend")
    updated = {
        event["LogicalResourceId"]
        for event in events["StackEvents"]
        if event["ResourceStatus"] == "UPDATE_COMPLETE"
    }
    assert "Table" in updated
