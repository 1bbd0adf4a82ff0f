"""What the two scripts do in an account that has other things in it, and how they pass on AWS's words.

Run for real against the local AWS. What that cannot say, stub_aws says as AWS documents it.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.conftest import MakeStack
from tests.deployment.operators import ROOT, STUB_AWS, Stack, make_table
from valro import dynamodb_items

CREATE, DESTROY = "create-infrastructure.sh", "destroy-infrastructure.sh"
INDEX = dynamodb_items.TABLE_DEFINITION["GlobalSecondaryIndexes"][0]

SOMEBODYS = {
    "Resources": {
        "Orders": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "orders"}},
        "Users": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "TableName": "shop-users",
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "BillingMode": "PAY_PER_REQUEST",
            },
        },
    }
}

e2e = pytest.mark.e2e


# ---- true or false


@pytest.mark.parametrize("script", [CREATE, DESTROY])
@pytest.mark.parametrize(
    "words, value",
    [
        ("1 yes Y true TRUE on t", "true"),
        ("0 no N false False off f", "false"),
        ("maybe 2 positional -", ""),
    ],
)
def test_a_switch_is_true_or_false_in_any_writing_or_a_usage_error(
    tmp_path: Path, script: str, words: str, value: str
):
    """Neither curl nor the AWS CLI is here, so that nothing can have happened."""
    for name in ("awk", "bash", "cat", "dirname", "sed", "tr"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    told = f"source '{ROOT / script}'; read_environment; parse_options \"$@\"; echo ${{GIVEN[DRY_RUN]}}"
    for word in words.split():
        for arguments, variables in (
            ([f"--dry-run={word}"], {}),
            (["--dry-run", word], {}),
            ([], {"DRY_RUN": word}),
        ):
            done = subprocess.run(
                ["/bin/bash", "-c", told, script, *arguments],
                env={"PATH": str(tmp_path), **variables},
                capture_output=True,
                text=True,
            )
            assert done.stdout.strip() == value, (word, done.stderr)
            assert (done.returncode == 0) == (value != "")
            name = "DRY_RUN" if variables else "--dry-run"
            assert value or f"error: {name} is true or false, not '{word}'\n" in done.stderr


# ---- stacks


@e2e
@pytest.mark.parametrize("kind", ["deployed", "reviewed"])
def test_somebody_elses_stack_is_left_alone(make_stack: MakeStack, kind: str):
    stack = make_stack("shop")
    cloudformation = stack.client("cloudformation")
    name, body = f"{stack.prefix}-backend", json.dumps(SOMEBODYS)
    if kind == "deployed":
        cloudformation.create_stack(StackName=name, TemplateBody=body)
    else:
        change = {"ChangeSetName": "theirs", "ChangeSetType": "CREATE"}
        cloudformation.create_change_set(StackName=name, TemplateBody=body, **change)
    before = stack.status()
    try:
        for script, *arguments in (
            (CREATE,),
            (CREATE, "--dry-run"),
            (DESTROY, "--yes", "--delete-data"),
        ):
            run = stack.run(*arguments, script=script)
            assert (run.code, run.url) == (1, "")
            assert "the stack shop-backend is not Valro's" in run.said
            assert "Nothing was touched." in run.said
        assert stack.status() == before
        sets = cloudformation.list_change_sets(StackName=name)["Summaries"]
        assert [each["ChangeSetName"] for each in sets] == ["theirs"] * (kind == "reviewed")
        tables = stack.client("dynamodb").list_tables()["TableNames"]
        assert ("shop-users" in tables) == (kind == "deployed")
    finally:
        cloudformation.delete_stack(StackName=name)


@e2e
def test_the_table_of_a_living_stack_is_replaced_only_if_the_operator_says_so(
    make_stack: MakeStack,
):
    stack = make_stack("living")
    dynamodb = stack.client("dynamodb")
    stack.deploy()
    dynamodb.put_item(TableName="living-tasks", Item={"id": {"S": "a"}})
    change, allowed = ("--dynamodb-table-name", "new-tasks"), ("--allow-replacing", "Table")

    refused = stack.run(*change)
    assert refused.code == 1
    assert "this would replace the table with the tasks (Table) by an empty one" in refused.said
    assert "mean that: --allow-replacing Table. Nothing was changed." in refused.said
    make_table(stack, "new-tasks")
    taken = stack.run(*change, *allowed)
    assert (taken.code, "the table new-tasks is there already" in taken.said) == (1, True)
    assert variables(stack, "worker")["DYNAMODB_TABLE_NAME"] == "living-tasks"

    dynamodb.delete_table(TableName="new-tasks")
    stack.deploy(*change, *allowed)
    assert variables(stack, "worker")["DYNAMODB_TABLE_NAME"] == "new-tasks"
    assert dynamodb.scan(TableName="living-tasks")["Count"] == 1


@e2e
def test_two_regions_have_their_own_roles_and_a_stack_from_before_keeps_its_own(
    make_stack: MakeStack,
):
    here, there, old = make_stack("twice"), make_stack("twice"), make_stack("older")
    there.region = "eu-west-1"
    for stack in (here, there):
        stack.deploy()
    assert (role(here), role(there)) == ("twice-worker-us-east-1", "twice-worker-eu-west-1")
    for stack in (here, there):
        policy = {"RoleName": role(stack), "PolicyName": "ValroWorkerPolicy"}
        document = json.dumps(stack.client("iam").get_role_policy(**policy)["PolicyDocument"])
        assert set(re.findall(r"dynamodb:([\w-]+)", document)) >= {stack.region}

    # A template from before this option.
    path = old.folder / "template.yaml"
    now = path.read_text()
    path.write_text(
        re.sub(
            r"(?m)^  RegionInRoleNames:.*\n.*\n|^  HasRegionInRoleNames.*\n"
            r"|!If \[HasRegionInRoleNames, .*, (?=!Sub)|(?<=-role\")\]$",
            "",
            now,
        )
    )
    old.deploy()
    path.write_text(now)
    run = old.deploy("--worker-memory-size", "256")
    assert "anew" not in run.said
    assert role(old) == "older-worker-role"
    assert "Nothing had to be changed." in old.deploy().said


def role(stack: Stack) -> str:
    """Returns the name of the worker's role."""
    return str(stack.function("worker")["Role"]).rpartition("/")[2]


def variables(stack: Stack, function: str) -> dict[str, str]:
    found: dict[str, str] = stack.function(function)["Environment"]["Variables"]
    return found


# ---- buckets


@e2e
def test_an_operators_bucket_stays_with_everything_else_that_is_in_it(make_stack: MakeStack):
    stack = make_stack("guest")
    s3 = stack.client("s3")
    s3.create_bucket(Bucket="company-artifacts")
    theirs = {"guest/report.pdf", "guest/notes.zip", f"guest/{'a' * 63}.zip", "other.txt"}
    for key in theirs:
        s3.put_object(Bucket="company-artifacts", Key=key, Body=b"theirs")
    stack.deploy("--code-bucket", "company-artifacts")
    assert len(s3.list_objects_v2(Bucket="company-artifacts")["Contents"]) == len(theirs) + 2

    run = stack.destroy()

    assert "zips in company-artifacts: deleted" in run.said
    assert "bucket company-artifacts: kept" in run.said
    found = s3.list_objects_v2(Bucket="company-artifacts")["Contents"]
    assert {each["Key"] for each in found} == theirs
    for key in theirs:
        s3.delete_object(Bucket="company-artifacts", Key=key)
    stack.deploy("--code-bucket", "company-artifacts")
    stack.destroy("--delete-data")
    s3.head_bucket(Bucket="company-artifacts")


@e2e
def test_a_bucket_that_was_made_for_the_zips_has_a_mark_and_the_tags(make_stack: MakeStack):
    stack = make_stack("tagged")
    stack.deploy("--code-bucket", "tagged-zips", "--tags", "team=homes and gardens")

    tags = stack.client("s3").get_bucket_tagging(Bucket="tagged-zips")["TagSet"]
    assert {each["Key"]: each["Value"] for each in tags} == {
        "made-by": "valro/create-infrastructure.sh",
        "team": "homes and gardens",
    }


# ---- tables


@e2e
def test_a_table_is_taken_in_with_its_protections(make_stack: MakeStack):
    stack, table = make_stack("kept"), "kept-tasks"
    dynamodb = stack.client("dynamodb")
    key = stack.client("kms").create_key()["KeyMetadata"]["Arn"]
    make_table(
        stack,
        table,
        DeletionProtectionEnabled=True,
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key},
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )
    dynamodb.put_item(TableName=table, Item={"id": {"S": "a"}})
    before = dynamodb.describe_table(TableName=table)["Table"]

    dry = stack.deploy("--dry-run")
    assert (stack.status(), dynamodb.describe_table(TableName=table)["Table"]) == ("", before)
    run = stack.deploy()

    for said in (dry.said, run.said):
        kept = f"TableDeletionProtection true, TableKmsKeyArn {key}, TableStream KEYS_ONLY"
        assert f"is adopted with its tasks. It keeps {kept}\n" in said
        assert "  It gets the index, time to live, point-in-time recovery\n" in said
    after = dynamodb.describe_table(TableName=table)["Table"]
    assert [index["IndexName"] for index in after["GlobalSecondaryIndexes"]] == [INDEX["IndexName"]]
    for name in ("SSEDescription", "DeletionProtectionEnabled", "StreamSpecification", "TableId"):
        assert after[name] == before[name], name
    assert dynamodb.scan(TableName=table)["Count"] == 1
    ttl = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")
    backups = dynamodb.describe_continuous_backups(TableName=table)["ContinuousBackupsDescription"]
    recovery = backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]
    assert recovery == "ENABLED"
    policies = stack.client("iam").list_role_policies(RoleName=role(stack))["PolicyNames"]
    assert "ValroTableKey" in policies
    assert "Nothing had to be changed." in stack.deploy().said

    protected = stack.run("--yes", "--delete-data", script=DESTROY)
    assert (protected.code, stack.status()) == (1, "UPDATE_COMPLETE")
    assert "the table kept-tasks is protected from deletion. Nothing was removed." in protected.said
    assert "--name-prefix kept --table-deletion-protection=false" in protected.said
    stack.deploy("--table-deletion-protection=false")
    stack.destroy("--delete-data")
    assert table not in dynamodb.list_tables()["TableNames"]


@e2e
@pytest.mark.parametrize(
    "prefix, properties, why",
    [
        ("pk", {"key": "pk"}, "other keys than id (pk)"),
        (
            "indexed",
            {
                "attributes": ["email"],
                "GlobalSecondaryIndexes": [
                    {
                        "IndexName": "by-email",
                        "KeySchema": [{"AttributeName": "email", "KeyType": "HASH"}],
                        "Projection": {"ProjectionType": "ALL"},
                    }
                ],
            },
            "indexes of its own (by-email)",
        ),
        (
            "whole",
            {
                "attributes": ["owner", "created_at"],
                "GlobalSecondaryIndexes": [INDEX | {"Projection": {"ProjectionType": "ALL"}}],
            },
            "indexes of its own (owner-created_at-index)",
        ),
        ("timed", {}, "another time to live (gone_at)"),
    ],
)
def test_a_table_with_what_a_stack_cannot_keep_is_left_alone(
    make_stack: MakeStack, prefix: str, properties: dict[str, Any], why: str
):
    stack, table = make_stack(prefix), f"{prefix}-tasks"
    dynamodb = stack.client("dynamodb")
    make_table(stack, table, **properties)
    if prefix == "timed":
        specification = {"Enabled": True, "AttributeName": "gone_at"}
        dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)
    before = dynamodb.describe_table(TableName=table)["Table"]

    for arguments in ([], ["--dry-run"]):
        run = stack.run(*arguments)
        assert run.code == 1
        assert f"the table {table} has {why}, which this stack cannot keep." in run.said
    removed = stack.run("--yes", "--delete-data", script=DESTROY)
    assert removed.code == 1
    assert f"the table {table} is not one that create-infrastructure.sh made" in removed.said
    assert dynamodb.describe_table(TableName=table)["Table"] == before
    assert stack.status() == ""


# ---- AWS's words

STACK_ID = "arn:aws:cloudformation:us-east-1:000000000000:stack/words-backend/1"
OURS = {"Description": "Valro backend - what it was"}
EARLY = (
    "The following hook(s)/validation failed: [AWS::EarlyValidation::ResourceExistenceCheck]. To"
    " troubleshoot Early Validation errors, use the DescribeEvents API for detailed failure"
    " information."
)
EXISTS = "Resource of type 'AWS::Lambda::Function' with identifier 'words-worker' already exists."
STUCK = "The following resource(s) failed to update: [WorkerFunction]."


def stack_in(status: str) -> dict[str, Any]:
    """Returns what describe-stacks says of a stack of ours."""
    found = {"StackId": STACK_ID, "StackStatus": status, "StackStatusReason": STUCK}
    return {"describe-stacks": {"Stacks": [found]}, "get-template-summary": OURS}


def change_set_failed(events: Any) -> dict[str, Any]:
    """Returns how a change set fails in its early validation."""
    return {
        "describe-change-set": {"Status": "FAILED", "StatusReason": EARLY},
        "describe-events": events,
    }


@e2e
@pytest.mark.parametrize(
    "answers, said, hint",
    [
        (
            change_set_failed(
                {
                    "OperationEvents": [
                        {"EventType": "STACK_EVENT", "OperationStatus": "FAILED"},
                        {
                            "EventType": "VALIDATION_ERROR",
                            "LogicalResourceId": "WorkerFunction",
                            "ValidationName": "NAME_CONFLICT_VALIDATION",
                            "ValidationStatus": "FAILED",
                            "ValidationStatusReason": EXISTS,
                        },
                    ]
                }
            ),
            f"AWS rejects this change: {EARLY}\nWorkerFunction: {EXISTS}\n",
            "--name-prefix",
        ),
        (
            change_set_failed("aws: error: argument operation: Invalid choice"),
            f"AWS rejects this change: {EARLY}\nThe reasons could not be read: ",
            "newest AWS CLI: aws cloudformation describe-events --region us-east-1 --change-set-name arn:",
        ),
        (
            stack_in("UPDATE_ROLLBACK_FAILED"),
            f"AWS could not roll words-backend back (UPDATE_ROLLBACK_FAILED): {STUCK}\n",
            "aws cloudformation continue-update-rollback --region us-east-1 --stack-name words-backend",
        ),
        (
            {"describe-stacks": "The config profile (nope) could not be found"},
            "error: The config profile (nope) could not be found\n",
            "aws configure list-profiles",
        ),
        (
            {
                "describe-stacks": "Could not connect to the endpoint URL:"
                ' "https://cloudformation.us-esat-1.amazonaws.com/"'
            },
            "error: Could not connect to the endpoint URL",
            "Is us-east-1 the name of a region, and is the network up?",
        ),
        (
            {
                "describe-stacks": "An error occurred (ExpiredToken) when calling the DescribeStacks"
                " operation: The security token included in the request is expired"
            },
            "error: An error occurred (ExpiredToken)",
            "Are the credentials right, and is us-east-1 enabled?",
        ),
        (
            {
                "create-change-set": "An error occurred (ValidationError) when calling the"
                f" CreateChangeSet operation: Stack:{STACK_ID} is in UPDATE_IN_PROGRESS state and"
                " can not be updated."
            },
            "is in UPDATE_IN_PROGRESS state and can not be updated.\n",
            "Somebody else is working on words-backend. Run this again later.",
        ),
        (
            {
                "create-change-set": "An error occurred (AccessDenied) when calling the"
                " CreateChangeSet operation: User is not authorized to perform:"
                " cloudformation:CreateChangeSet"
            },
            "error: An error occurred (AccessDenied)",
            "Are these the right credentials?",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_aws_speaks_for_itself_and_the_script_says_what_helps(
    make_stack: MakeStack, answers: dict[str, Any], said: str, hint: str
):
    run = make_stack("words").run(cli=STUB_AWS, STUB_AWS=json.dumps(answers))

    assert (run.code, run.url) == (1, "")
    assert said in run.said
    assert hint in run.said


@e2e
def test_a_rollback_that_fails_is_not_said_to_have_brought_the_old_stack_back(
    make_stack: MakeStack,
):
    stack = make_stack("stuck")
    stack.deploy()
    events = [
        ("stuck-backend", "UPDATE_ROLLBACK_FAILED", STUCK),
        ("WorkerFunction", "UPDATE_FAILED", "Resource handler returned message: no"),
    ]
    answers = json.dumps({"describe-stack-events": events})

    run = stack.run("--worker-memory-size", "256", cli=STUB_AWS, STUB_AWS=answers)

    assert run.code == 1
    assert "AWS could not roll stuck-backend back (UPDATE_ROLLBACK_FAILED)" in run.said
    assert "WorkerFunction: Resource handler returned message: no\n" in run.said
    assert "still running" not in run.said


@e2e
def test_a_protected_stack_is_not_removed_and_the_command_that_allows_it_is_said(
    make_stack: MakeStack,
):
    stack = make_stack("protected")
    stack.deploy()
    cloudformation = stack.client("cloudformation")
    protection = {"StackName": "protected-backend", "EnableTerminationProtection": True}
    cloudformation.update_termination_protection(**protection)

    run = stack.run("--yes", script=DESTROY)

    assert (run.code, stack.status()) == (1, "CREATE_COMPLETE")
    assert "cannot be deleted while TerminationProtection is enabled" in run.said
    command = "aws cloudformation update-termination-protection --region us-east-1"
    assert (
        f"{command} --stack-name protected-backend --no-enable-termination-protection" in run.said
    )


# ---- tokens


@e2e
def test_a_token_is_said_to_be_asked_for_only_where_a_request_without_one_was_refused(
    make_stack: MakeStack,
):
    stack = make_stack("open")
    (stack.folder / "curl").write_text(
        '#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done; echo "[]" >"$2"; printf 200\n'
    )
    (stack.folder / "curl").chmod(0o755)
    path = f"{stack.folder}{os.pathsep}{stack.environment()['PATH']}"
    tokens = ("--jwt-issuer", "https://login.example.com/", "--jwt-audience", "web")

    run = stack.run(*tokens, PATH=path)

    assert run.code == 1
    assert "got 200: []" in run.said
    assert "asks for a token" not in run.said


@e2e
def test_a_change_of_the_issuer_warns_of_users_who_would_inherit_tasks(make_stack: MakeStack):
    stack, warning = (
        make_stack("issuer"),
        'gets the tasks of the old one\'s user with the same "sub"',
    )
    issuer = ("--jwt-issuer", "https://login.example.com/")
    first = stack.deploy(*issuer, "--jwt-audience", "web")

    change = stack.deploy("--dry-run", "--jwt-issuer", "https://other.example.com/")

    assert warning in change.said
    for run in (first, stack.deploy(*issuer, "--worker-memory-size", "256")):
        assert warning not in run.said


def test_the_runtimes_are_those_that_the_zips_can_be_built_for():
    script = (ROOT / "deploy.sh").read_text()
    template = (ROOT / "template.yaml").read_text()
    built = re.findall(r'^LAMBDA_PYTHONS="(.*)"$', script, re.MULTILINE)[0].split()
    assert f"AllowedValues: [{', '.join(f'python{each}' for each in built)}]" in template
