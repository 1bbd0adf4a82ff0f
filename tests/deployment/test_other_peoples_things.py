"""What the two scripts do in an account that has other things in it, and how they pass on AWS's words.

Run for real against the local AWS. What that cannot say, stub_aws says as AWS documents it.
"""

import itertools
import json
import re
import subprocess
from typing import Any

import pytest

from tests.deployment.conftest import ROOT, STUB_AWS, MakeStack, Stack, make_table
from valro import dynamodb_items

CREATE, DESTROY = "create-infrastructure.sh", "destroy-infrastructure.sh"
INDEX = dynamodb_items.TABLE_DEFINITION["GlobalSecondaryIndexes"][0]

SOMEBODYS = {
    "Resources": {
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
def test_a_switch_is_true_or_false_in_any_writing_or_a_usage_error(script: str):
    read = f"source '{ROOT / script}'; read_environment; parse_options \"$@\"; echo ${{GIVEN[DRY_RUN]}}"
    ways = {"--dry-run": ["--dry-run", "{}"], "--dry-run=": ["--dry-run={}"], "DRY_RUN": []}
    for words, value in (
        ("1 yes Y true TRUE on t", "true"),
        ("0 no N false False off f", "false"),
        ("maybe 2 positional -", ""),
    ):
        for word, (name, arguments) in itertools.product(words.split(), ways.items()):
            done = subprocess.run(
                ["/bin/bash", "-c", read, script, *[each.format(word) for each in arguments]],
                env={"PATH": "/usr/bin:/bin"} | ({} if arguments else {name: word}),
                capture_output=True,
                text=True,
            )
            assert (done.stdout.strip(), done.returncode) == (value, 0 if value else 2), done
            wrong = f"error: {name.rstrip('=')} is true or false, not '{word}'\n"
            assert value or wrong in done.stderr


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
    assert "this would replace the tasks' table (Table) with an empty one" in refused.said
    assert "mean that: --allow-replacing Table. Nothing was changed." in refused.said
    make_table(stack, "new-tasks")
    taken = stack.run(*change, *allowed)
    assert (taken.code, "the table new-tasks is there already" in taken.said) == (1, True)
    assert stack.variables("worker")["DYNAMODB_TABLE_NAME"] == "living-tasks"

    dynamodb.delete_table(TableName="new-tasks")
    stack.deploy(*change, *allowed)
    assert stack.variables("worker")["DYNAMODB_TABLE_NAME"] == "new-tasks"
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


# ---- tables


@e2e
def test_a_table_is_taken_in_with_its_protections(make_stack: MakeStack):
    stack, table = make_stack("kept"), "kept-tasks"
    dynamodb = stack.client("dynamodb")
    key = stack.client("kms").create_key()["KeyMetadata"]["Arn"]
    make_table(
        stack,
        table,
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 3},
        DeletionProtectionEnabled=True,
        SSESpecification={"Enabled": True, "SSEType": "KMS", "KMSMasterKeyId": key},
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )
    task = {"id": {"S": "test-123"}, "created_at": {"S": "2025-10-31T00:00:00Z"}}
    dynamodb.put_item(TableName=table, Item=task)
    before = dynamodb.describe_table(TableName=table)["Table"]

    dry = stack.deploy("--dry-run")
    assert (stack.status(), dynamodb.describe_table(TableName=table)["Table"]) == ("", before)
    run = stack.deploy()

    for said in (dry.said, run.said):
        kept = f"TableDeletionProtection true, TableKmsKeyArn {key}, TableStream KEYS_ONLY"
        assert f"is adopted with its tasks. It keeps {kept}\n" in said
        assert (
            "  It gets the index, time to live, on-demand capacity, point-in-time recovery\n"
            in said
        )
    after = dynamodb.describe_table(TableName=table)["Table"]
    assert [index["IndexName"] for index in after["GlobalSecondaryIndexes"]] == [INDEX["IndexName"]]
    for name in ("SSEDescription", "DeletionProtectionEnabled", "StreamSpecification", "TableId"):
        assert after[name] == before[name], name
    assert after["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert dynamodb.scan(TableName=table)["Items"] == [task]
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
    "prefix, properties, options, why",
    [
        ("pk", {"key": "pk"}, [], "other keys than id (pk), which this stack cannot keep"),
        (
            "whole",
            {
                "attributes": ["owner", "created_at"],
                "GlobalSecondaryIndexes": [INDEX | {"Projection": {"ProjectionType": "ALL"}}],
            },
            [],
            "indexes of its own (owner-created_at-index), which this stack cannot keep",
        ),
        ("timed", {}, [], "another time to live (gone_at), which this stack cannot keep"),
        (
            "streamed",
            {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}},
            ["--task-events"],
            "a stream of another kind: KEYS_ONLY, not NEW_AND_OLD_IMAGES",
        ),
    ],
)
def test_a_table_with_what_a_stack_cannot_keep_is_left_alone(
    make_stack: MakeStack, prefix: str, properties: Any, options: list[str], why: str
):
    stack, table = make_stack(prefix), f"{prefix}-tasks"
    dynamodb = stack.client("dynamodb")
    make_table(stack, table, **properties)
    if prefix == "timed":
        specification = {"Enabled": True, "AttributeName": "gone_at"}
        dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=specification)
    before = dynamodb.describe_table(TableName=table)["Table"]

    for arguments in ([], ["--dry-run"]):
        run = stack.run(*arguments, *options)
        assert run.code == 1
        assert f"the table {table} has {why}" in run.said
    removed = stack.run("--yes", "--delete-data", script=DESTROY)
    assert removed.code == 1
    assert f"the table {table} is not one that create-infrastructure.sh made" in removed.said
    assert dynamodb.describe_table(TableName=table)["Table"] == before
    assert stack.status() == ""


# ---- AWS's words

STUCK = "The following resource(s) failed to update: [WorkerFunction]."
STUCK_STACK = {
    "StackId": "arn:aws:cloudformation:us-east-1:000000000000:stack/words-backend/1",
    "StackStatus": "UPDATE_ROLLBACK_FAILED",
    "StackStatusReason": STUCK,
}
EARLY = {
    "Status": "FAILED",
    "StatusReason": "The following hook(s)/validation failed: [AWS::EarlyValidation::"
    "ResourceExistenceCheck]. To troubleshoot Early Validation errors, use the DescribeEvents API",
}
EXISTS = {
    "EventType": "VALIDATION_ERROR",
    "LogicalResourceId": "WorkerFunction",
    "ValidationName": "NAME_CONFLICT_VALIDATION",
    "ValidationStatus": "FAILED",
    "ValidationStatusReason": "Resource of type 'AWS::Lambda::Function' already exists.",
}
OTHER_EVENT = {"EventType": "STACK_EVENT", "OperationStatus": "FAILED"}
REJECTED = f"AWS rejects this change: {EARLY['StatusReason']}\n"
BUSY = "Stack:words is in UPDATE_IN_PROGRESS state and can not be updated."


@e2e
@pytest.mark.parametrize(
    "answers, said, hint",
    [
        (
            {
                "describe-change-set": EARLY,
                "describe-events": {"OperationEvents": [OTHER_EVENT, EXISTS]},
            },
            f"{REJECTED}WorkerFunction: {EXISTS['ValidationStatusReason']}\n",
            "--name-prefix",
        ),
        (
            {"describe-change-set": EARLY, "describe-events": "aws: error: Invalid choice"},
            f"{REJECTED}The reasons could not be read: ",
            "newest AWS CLI: aws cloudformation describe-events --region us-east-1 --change-set-name arn:",
        ),
        (
            {
                "describe-stacks": {"Stacks": [STUCK_STACK]},
                "get-template-summary": {"Description": "Valro backend - what it was"},
            },
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
                "describe-stacks": 'Could not connect to the endpoint URL: "https://us-esat-1.example"'
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
                "create-change-set": "An error occurred (AccessDenied) when calling the CreateChangeSet"
                " operation: User is not authorized to perform: cloudformation:CreateChangeSet"
            },
            "error: An error occurred (AccessDenied)",
            "Are these the right credentials?",
        ),
        (
            {
                "create-change-set": "An error occurred (ValidationError) when calling the"
                f" CreateChangeSet operation: {BUSY}"
            },
            f"{BUSY}\n",
            "Somebody else is working on words-backend. Run this again later.",
        ),
    ],
    ids=["exists", "old CLI", "stuck", "no profile", "no network", "expired", "denied", "busy"],
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
