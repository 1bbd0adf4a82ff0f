"""What MiniStack's CloudFormation gets wrong and local/ministack_gaps.py sets right.

A test that fails here is good news: MiniStack has mended that gap. Then its line goes from
local/ministack_gaps.py, and so does the test.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
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


def cloudformation_at(port: int) -> Any:
    return boto3.client(
        "cloudformation",
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        config=Config(retries={"total_max_attempts": 20, "mode": "standard"}),
    )


def names_what_is_not_made(port: int) -> bool:
    """Tells whether a change set names a resource whose condition is false."""
    cloudformation = cloudformation_at(port)
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
    cloudformation = cloudformation_at(port)
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
