"""What those who deploy must be allowed to do, and that it is no more: the files in docs/policies."""

import fnmatch
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from local.aws import AGENT_RUNTIME_ARN, CLI
from tests.deployment.conftest import ROOT, MakeStack, Stack, as_list, make_table, without
from tests.deployment.test_template import RESOURCES, TEMPLATE

POLICIES = {path.stem: json.loads(path.read_text()) for path in ROOT.glob("docs/policies/*.json")}
# Commands of the CLI that are not named as the action that they need.
ACTIONS = {
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadObject": "GetObject",
    "DeleteObjects": "DeleteObject",
}
# Called, and answered by the local agent's runtime, which knows no rights.
NOT_ENFORCED = {"bedrock-agentcore:GetAgentRuntime"}
# Needed where this test does not go: a change that AWS rejects, a role for CloudFormation, tags.
NOT_CALLED = {"cloudformation:DescribeEvents", "iam:PassRole", "cloudformation:TagResource"}
# Of what AWS's schemas list for a type, what serves properties that this template does not have.
NOT_NEEDED = {
    "AWS::ApiGatewayV2::Api": "s3:*",
    "AWS::ApiGatewayV2::Authorizer": "iam:PassRole",
    "AWS::ApiGatewayV2::Integration": "iam:PassRole",
    "AWS::DynamoDB::Table": "*Item *Replica *:PutResourcePolicy *:DeleteResourcePolicy *Import*"
    " *:EnableKinesis* *:DisableKinesis* *:UpdateKinesis* *:UpdateContributorInsights *:Query *:Scan"
    " iam:* kinesis:* logs:* s3:* kms:ListAliases",
    "AWS::IAM::Policy": "*GroupPolicy *UserPolicy",
    "AWS::IAM::Role": "*:Update* *:DeleteRolePermissionsBoundary",
    "AWS::Lambda::EventSourceMapping": "kms:*",
    "AWS::Lambda::Function": "ec2:* elasticfilesystem:* s3files:* kms:* *RuntimeAlias *LayerVersion"
    " *CapacityProvider *:PublishVersion *:GetCodeSigningConfig *:PutFunctionCodeSigningConfig"
    " *:DeleteFunctionCodeSigningConfig *:PutFunctionRecursionConfig *:PutFunctionScalingConfig"
    " *:PutRuntimeManagementConfig s3:GetObjectVersion",
    "AWS::Logs::LogGroup": "firehose:* s3:* *:DeleteRetentionPolicy *IndexPolicy"
    " *:PutDataProtectionPolicy *:DeleteDataProtectionPolicy *:DeleteResourcePolicy"
    " *BearerTokenAuthentication *DeletionProtection",
}
# What API Gateway documents for access logs, and for tags.
ALSO_NEEDED = {f"logs:{each}LogDelivery" for each in ("Get", "Update", "Delete")}
ALSO_NEEDED |= {"logs:ListLogDeliveries"}


def actions(policy: dict[str, Any]) -> set[str]:
    # In the template a statement may depend on a condition.
    statements = [each.get("Fn::If", [None, each])[1] for each in policy["Statement"]]
    return {each for statement in statements for each in as_list(statement["Action"])}


# ---- the scripts


class Deployer:
    """Somebody with keys of their own, the rights of a policy, and a CLI that writes down its calls."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._iam = stack.client("iam")
        self._iam.create_user(UserName="deployer")
        key = self._iam.create_access_key(UserName="deployer")["AccessKey"]
        self.keys = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        self.roles: list[bool] = []  # whether each change set was given one
        self._folder = stack.folder / "written"
        self._folder.mkdir()
        aws = self._folder / "aws"
        aws.write_text(
            f"#!{sys.executable}\nimport json, os, sys\nwith open({str(aws)!r} + '.calls', 'a') as file:\n"
            f"    print(json.dumps(sys.argv[1:]), file=file)\nos.execv('{CLI}/aws', sys.argv)\n"
        )
        aws.chmod(0o755)

    def allow(self, policy: dict[str, Any]) -> None:
        document = json.dumps(policy)
        self._iam.put_user_policy(UserName="deployer", PolicyName="P", PolicyDocument=document)

    def run(self, *arguments: str, script: str = "create-infrastructure.sh") -> None:
        done = self.stack.run(
            *arguments,
            script=script,
            cli=self._folder,
            **self.keys,
            AGENT_RUNTIME_ARN=AGENT_RUNTIME_ARN,
        )
        assert done.code == 0, done.said

    def calls(self) -> dict[str, list[str]]:
        """Returns the words of a call for each action."""
        found = {}
        for line in (self._folder / "aws.calls").read_text().splitlines():
            words = json.loads(line)
            # After --region REGION --output text.
            service, command = words[4:6]
            name = "".join(part.capitalize() for part in command.split("-"))
            if command == "create-change-set":
                self.roles.append("--role-arn" in words)
            if service != "sts":
                found[f"{re.sub('api$|-control$', '', service)}:{ACTIONS.get(name, name)}"] = words
        return found

    def is_denied(self, words: list[str]) -> bool:
        environment = self.stack.environment(**self.keys)
        # The files are gone with the script that wrote them.
        with_files = {
            "--template-body": "{}",
            "--delete": '{"Objects": [{"Key": "valro-least/a"}]}',
        }
        words = [
            with_files.get(before, word) for before, word in zip(["", *words], words, strict=False)
        ]
        done = subprocess.run(
            [CLI / "aws", *words], env=environment, capture_output=True, text=True
        )
        return "AccessDenied" in done.stderr or "(403)" in done.stderr


@pytest.mark.e2e
def test_nothing_can_be_taken_from_what_the_scripts_are_allowed(make_stack: MakeStack):
    """The table is there already, so that all is called that is ever called."""
    stack, policy = make_stack("valro-least"), POLICIES["deployer"]
    make_table(stack, "valro-least-tasks")
    role = "arn:aws:iam::000000000000:role/cloudformation-valro"
    deployer = Deployer(stack)
    deployer.allow(policy)
    name = ("--code-bucket", "valro-zips-least")
    deployer.run("--dry-run", *name)
    deployer.run(*name, "--no-verify", "--role-arn", role)
    deployer.run("--dry-run", "--worker-memory-size", "256")
    cloudformation = stack.client("cloudformation")
    cloudformation.create_change_set(
        StackName="valro-other-backend",
        ChangeSetName="valro-left",
        ChangeSetType="CREATE",
        TemplateBody='{"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}',
    )
    deployer.run("--yes", "--name-prefix", "valro-other", script="destroy-infrastructure.sh")
    deployer.run("--yes", "--delete-data", script="destroy-infrastructure.sh")

    calls = deployer.calls()
    assert deployer.roles == [False, True, True, False]
    assert calls.keys() == actions(policy) - NOT_CALLED
    survivors = []
    for action, words in calls.items():
        if action in NOT_ENFORCED:
            continue
        deployer.allow(without(policy, "Action", action))
        survivors += [] if deployer.is_denied(words) else [action]
        deployer.allow(policy)
        survivors += [f"{action} is there"] if deployer.is_denied(words) else []
    assert survivors == []


# ---- CloudFormation


def test_what_cloudformation_may_do_is_what_aws_says_that_its_resources_take():
    needed = set(ALSO_NEEDED)
    # Those in loops too.
    for name in set(re.findall(r'"(AWS::\w+::\w+)"', json.dumps(TEMPLATE["Resources"]))):
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", name).schema
        listed = {
            action
            for kind, handler in schema["handlers"].items()
            for action in handler["permissions"]
            if kind != "list"
        }
        unneeded = {
            pattern: fnmatch.filter(listed, pattern) for pattern in NOT_NEEDED.get(name, "").split()
        }
        assert [pattern for pattern, found in unneeded.items() if not found] == []
        needed |= listed.difference(*unneeded.values())

    assert actions(POLICIES["cloudformation"]) == needed


def test_a_role_that_cloudformation_makes_is_within_the_boundary_and_no_role_of_others():
    allowed = {}
    for statement in POLICIES["cloudformation"]["Statement"]:
        for action in as_list(statement["Action"]):
            allowed[action] = statement
    bounded = {"iam:PermissionsBoundary": "arn:aws:iam::*:policy/valro-boundary"}
    for action in ("CreateRole", "PutRolePolicy", "AttachRolePolicy", "PutRolePermissionsBoundary"):
        assert allowed[f"iam:{action}"]["Condition"] == {"ArnLike": bounded}
    for action, statement in allowed.items():
        assert (
            not action.startswith("iam:") or statement["Resource"] == "arn:aws:iam::*:role/valro-*"
        )


def test_the_boundary_lets_the_functions_do_what_their_roles_say():
    properties = [resource["Properties"] for resource in RESOURCES.values()]
    policies = [policy for each in properties for policy in each.get("Policies", [each])]
    wanted = {
        action
        for policy in policies
        if "PolicyDocument" in policy
        for action in actions(policy["PolicyDocument"])
    }

    given = actions(POLICIES["boundary"])
    assert {each for each in given if not each.startswith("xray:")} == wanted
