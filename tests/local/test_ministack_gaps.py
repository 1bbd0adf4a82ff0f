"""What MiniStack's CloudFormation gets wrong and local/ministack_gaps.py sets right.

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

pytestmark = pytest.mark.e2e


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


def runs_of_a_function_that_reports_failures(port: int) -> int:
    """Counts to two how often it is brought a change of a table that it reports as failed."""
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
        TableName="gaps-stream",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification=stream,
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
    return min(2, len(found["events"]))


@pytest.mark.parametrize(
    "look, wrong, right",
    [
        (names_what_is_not_made, True, False),
        (preflights, [403, 403], [204, 204]),
        (runs_of_a_function_that_reports_failures, 1, 2),
    ],
)
def test_it_is_wrong_until_it_is_mended(
    ministack: LocalStack, plain_ministack: int, look: Callable[[int], Any], wrong: Any, right: Any
):
    assert look(plain_ministack) == wrong
    assert look(ministack.port) == right
