"""What the two operators' scripts make of a local AWS, whatever state they find it in."""

import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dynamodb_helpers
from local import REGION
from local.aws import ACCOUNT, LocalStack
from tests.deployment.operators import Run, Stack, copy_project, fast_aws_server, write_zip

pytestmark = pytest.mark.e2e

TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms"
# How many CLI calls a run may make: each costs a third of a second.
CALLS_OF_A_FIRST_RUN = 30
CALLS_OF_A_NO_CHANGE_RUN = 16

NewStack = Callable[..., Stack]


@pytest.fixture(scope="module")
def fast_port() -> Iterator[int]:
    with fast_aws_server() as port:
        yield port


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("operators") / "a project")


@pytest.fixture(scope="module")
def new_stack(ministack: LocalStack, fast_port: int, project: Path) -> NewStack:
    """Makes stacks with prefixes of their own: nothing is shared, so nothing is cleaned up."""
    numbers = itertools.count(1)

    def make(folder: Path = project) -> Stack:
        return Stack(ministack, fast_port, folder, f"stack{next(numbers)}")

    return make


@pytest.fixture(scope="module")
def first_run(new_stack: NewStack) -> tuple[Stack, Run, int]:
    """A stack, the run that deployed it, and how many CLI calls that made."""
    stack = new_stack()
    run = stack.run()
    return stack, run, stack.count_calls()


@pytest.fixture(scope="module")
def reference(first_run: tuple[Stack, Run, int]) -> Stack:
    """A stack that was deployed in one go, and that no test changes."""
    return first_run[0]


@pytest.fixture(scope="module")
def wanted(reference: Stack) -> dict[str, Any]:
    """All that a deployed stack holds."""
    return reference.state()


# ---- run once, run twice ------------------------------------------------------------------------


def test_a_first_run_deploys_an_api_that_answers(
    first_run: tuple[Stack, Run, int], wanted: dict[str, Any]
):
    stack, run, calls = first_run
    assert run.code == 0, run.said
    assert "The API answers: GET /tasks gave a list." in run.said
    assert run.url == f"{stack.api()['ApiEndpoint']}\n"
    assert calls <= CALLS_OF_A_FIRST_RUN
    assert wanted["indexes"] == dynamodb_helpers.TABLE_DEFINITION["GlobalSecondaryIndexes"]
    assert wanted["backups"] == "ENABLED"
    assert wanted["logs"] == [
        ["/aws/lambda/PREFIX-backend", 30],
        ["/aws/lambda/PREFIX-worker", 30],
    ]
    worker = wanted["PREFIX-worker"]["configuration"]
    assert (worker["Timeout"], worker["MemorySize"]) == (600, 1024)
    api = wanted["PREFIX-backend"]["configuration"]
    assert (api["Timeout"], api["MemorySize"]) == (30, 512)
    assert worker["LoggingConfig"]["LogFormat"] == "JSON"


def test_a_second_run_changes_nothing_and_says_so(reference: Stack, wanted: dict[str, Any]):
    run = reference.run()

    assert run.code == 0, run.said
    resources = run.said.partition("Nothing had to be changed.")[0].splitlines()
    assert [line for line in resources if not line.endswith(": unchanged")] == []
    assert len(resources) == 19
    assert run.url == f"{reference.api()['ApiEndpoint']}\n"
    assert reference.count_calls() <= CALLS_OF_A_NO_CHANGE_RUN
    assert reference.state() == wanted


def test_a_dry_run_in_an_empty_account_says_what_it_would_make_and_makes_nothing(
    new_stack: NewStack,
):
    stack = new_stack()
    empty = stack.state()

    run = stack.run("--dry-run", "--alarm-topic-arn", TOPIC)

    assert run.code == 0, run.said
    assert f"function {stack.prefix}-worker: would be created" in run.said
    assert f"alarm {stack.prefix}-tasks-failed: would be created" in run.said
    assert "nothing was changed" in run.said
    assert run.url == ""
    assert stack.state() == empty


def test_two_stacks_do_not_touch_each_other(
    new_stack: NewStack, reference: Stack, wanted: dict[str, Any]
):
    other = new_stack()
    other.deploy("--worker-memory-size", "2048")

    assert other.state()["PREFIX-worker"]["configuration"]["MemorySize"] == 2048
    assert reference.state() == wanted
    other.destroy("--delete-data")
    assert reference.state() == wanted


# ---- what drifted -------------------------------------------------------------------------------


def break_everything(stack: Stack) -> list[str]:
    """Changes each setting by hand, and returns the lines that its repair must print."""
    prefix = stack.prefix
    functions, logs = stack.client("lambda"), stack.client("logs")
    iam, gateway = stack.client("iam"), stack.client("apigatewayv2")
    dynamodb = stack.client("dynamodb")
    api_id = stack.api()["ApiId"]

    functions.update_function_configuration(
        FunctionName=f"{prefix}-worker",
        Timeout=3,
        MemorySize=128,
        Environment={"Variables": {"DYNAMODB_TABLE_NAME": "other", "DEBUG": "1"}},
    )
    zip_file = stack.folder.parent / "other.zip"
    write_zip(zip_file, "lambda_function", "changed")
    functions.update_function_code(FunctionName=f"{prefix}-backend", ZipFile=zip_file.read_bytes())
    functions.put_function_event_invoke_config(
        FunctionName=f"{prefix}-worker", MaximumRetryAttempts=0, MaximumEventAgeInSeconds=60
    )
    functions.put_function_concurrency(
        FunctionName=f"{prefix}-worker", ReservedConcurrentExecutions=1
    )
    functions.remove_permission(FunctionName=f"{prefix}-backend", StatementId=f"{prefix}-api")
    functions.add_permission(
        FunctionName=f"{prefix}-backend",
        StatementId=f"{prefix}-api",
        Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com",
    )
    logs.put_retention_policy(logGroupName=f"/aws/lambda/{prefix}-worker", retentionInDays=1)
    logs.delete_retention_policy(logGroupName=f"/aws/lambda/{prefix}-backend")
    iam.put_role_policy(
        RoleName=f"{prefix}-worker-role",
        PolicyName="ValroWorkerPolicy",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
            }
        ),
    )
    iam.update_assume_role_policy(
        RoleName=f"{prefix}-lambda-role",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"AWS": ACCOUNT},
                        "Action": "sts:AssumeRole",
                    }
                ],
            }
        ),
    )
    gateway.update_api(ApiId=api_id, CorsConfiguration={"AllowOrigins": ["https://evil.example"]})
    (integration,) = gateway.get_integrations(ApiId=api_id)["Items"]
    gateway.update_integration(
        ApiId=api_id, IntegrationId=integration["IntegrationId"], PayloadFormatVersion="1.0"
    )
    gateway.update_stage(
        ApiId=api_id,
        StageName="$default",
        AutoDeploy=False,
        DefaultRouteSettings={"ThrottlingRateLimit": 9999, "ThrottlingBurstLimit": 9999},
    )
    dynamodb.update_continuous_backups(
        TableName=f"{prefix}-tasks",
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False},
    )
    return [
        f"function {prefix}-worker: updated (Timeout 3 -> 600, MemorySize 128 -> 1024, ",
        f"function {prefix}-backend: updated (code)",
        f"asynchronous settings of {prefix}-worker: updated (MaximumEventAgeInSeconds 60 -> 900,",
        f"reserved concurrency of {prefix}-worker: removed (was 1)",
        f"permission of {prefix}-api to invoke {prefix}-backend: updated (",
        f"log group /aws/lambda/{prefix}-worker: updated (retention 1 -> 30 days)",
        f"log group /aws/lambda/{prefix}-backend: updated (retention for ever -> 30 days)",
        f"policy ValroWorkerPolicy of {prefix}-worker-role: updated (",
        f"role {prefix}-lambda-role: updated (trust policy)",
        f"API {prefix}-api: updated (",
        f"integration of {prefix}-api: updated (",
        f"stage $default of {prefix}-api: updated (AutoDeploy False -> True, ",
        f"point-in-time recovery of {prefix}-tasks: updated (switched on)",
    ]


def delete_much(stack: Stack) -> list[str]:
    """Deletes what can be deleted by hand, and returns the lines that its repair must print."""
    prefix = stack.prefix
    functions, logs = stack.client("lambda"), stack.client("logs")
    iam, gateway = stack.client("iam"), stack.client("apigatewayv2")
    api_id = stack.api()["ApiId"]

    functions.delete_function_event_invoke_config(FunctionName=f"{prefix}-worker")
    functions.delete_function(FunctionName=f"{prefix}-backend")
    logs.delete_log_group(logGroupName=f"/aws/lambda/{prefix}-worker")
    iam.delete_role_policy(RoleName=f"{prefix}-lambda-role", PolicyName="ValroAPIPolicy")
    routes = {each["RouteKey"]: each for each in gateway.get_routes(ApiId=api_id)["Items"]}
    gateway.delete_route(ApiId=api_id, RouteId=routes["POST /tasks"]["RouteId"])
    gateway.delete_stage(ApiId=api_id, StageName="$default")
    return [
        f"asynchronous settings of {prefix}-worker: created (",
        f"function {prefix}-backend: created",
        f"permission of {prefix}-api to invoke {prefix}-backend: created",
        f"log group /aws/lambda/{prefix}-worker: created (",
        f"policy ValroAPIPolicy of {prefix}-lambda-role: created",
        "route POST /tasks: created",
        f"stage $default of {prefix}-api: created (",
    ]


@pytest.mark.parametrize("damage", [break_everything, delete_much])
def test_whatever_drifted_is_named_and_brought_back(
    new_stack: NewStack, wanted: dict[str, Any], damage: Callable[[Stack], list[str]]
):
    stack = new_stack()
    stack.deploy()
    lines = damage(stack)
    damaged = stack.state()
    assert damaged != wanted

    foretold = stack.run("--dry-run")
    assert stack.state() == damaged
    run = stack.deploy()

    assert [line for line in lines if line not in run.said] == []
    would = [line.replace(": ", ": would be ", 1) for line in lines]
    assert [line for line in would if line not in foretold.said] == []
    assert stack.state() == wanted
    assert "Nothing had to be changed." in stack.deploy().said


def test_a_protection_put_on_by_hand_is_taken_off_only_on_purpose(
    new_stack: NewStack, wanted: dict[str, Any]
):
    stack = new_stack()
    stack.deploy()
    gateway, api_id = stack.client("apigatewayv2"), stack.api()["ApiId"]
    routes = {each["RouteKey"]: each for each in gateway.get_routes(ApiId=api_id)["Items"]}
    gateway.update_route(
        ApiId=api_id, RouteId=routes["GET /tasks"]["RouteId"], AuthorizationType="AWS_IAM"
    )
    protected = stack.state()

    refused = stack.run()
    assert refused.code == 1
    assert "this run would make it public" in refused.said
    assert stack.state() == protected

    run = stack.deploy("--public")
    assert "route GET /tasks: updated (" in run.said
    assert stack.state() == wanted


def test_a_role_that_was_deleted_and_made_again_is_given_to_its_function_again(
    new_stack: NewStack, wanted: dict[str, Any]
):
    stack = new_stack()
    stack.deploy()
    iam = stack.client("iam")
    role = f"{stack.prefix}-worker-role"
    iam.delete_role_policy(RoleName=role, PolicyName="ValroWorkerPolicy")
    iam.delete_role(RoleName=role)

    run = stack.deploy()

    assert f"role {role}: created" in run.said
    assert f"function {stack.prefix}-worker: updated (role made again)" in run.said
    assert stack.state() == wanted


def test_new_code_is_deployed(new_stack: NewStack, tmp_path: Path):
    stack = new_stack(copy_project(tmp_path / "project"))
    stack.deploy()
    write_zip(stack.folder / "valro-worker-lambda.zip", "worker_lambda", "new")

    run = stack.deploy()

    assert f"function {stack.prefix}-worker: updated (code)" in run.said
    assert f"function {stack.prefix}-backend: unchanged" in run.said


# ---- interrupted --------------------------------------------------------------------------------


def killed_after_each_change(stack: Stack, *arguments: str, script: str) -> int:
    """Runs a script that dies after every single change, until one run has nothing left to do."""
    for deaths in range(40):
        run = stack.run(*arguments, script=script, kill_at=1)
        if run.code == 0:
            return deaths
        assert run.code == -signal.SIGKILL, run.said
    return pytest.fail("It never came to an end.")


def test_killed_after_each_change_and_run_again_it_arrives_at_the_same_state(
    new_stack: NewStack, wanted: dict[str, Any]
):
    stack = new_stack()

    deaths = killed_after_each_change(stack, script="create-infrastructure.sh")

    # A few changes go on side by side, and are made before the first of them kills the run.
    assert deaths >= 5
    assert stack.state() == wanted


@pytest.mark.parametrize("number", [3, 9, 14])
def test_killed_in_the_middle_one_more_run_is_enough(
    new_stack: NewStack, wanted: dict[str, Any], number: int
):
    stack = new_stack()
    killed = stack.run(kill_at=number)
    assert killed.code == -signal.SIGKILL

    stack.deploy()

    assert stack.state() == wanted


# ---- a table from before ------------------------------------------------------------------------


def old_table(stack: Stack, tasks: int) -> None:
    """Makes a table as it was made by hand once, with tasks that have no owner."""
    dynamodb = stack.client("dynamodb")
    name = f"{stack.prefix}-tasks"
    dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(tasks):
        item = {"id": {"S": f"task {number}"}, "created_at": {"S": f"2025-10-31T10:00:{number:06}"}}
        dynamodb.put_item(TableName=name, Item=item)
    dynamodb.put_item(TableName=name, Item={"id": {"S": "task 1#part"}})
    dynamodb.put_item(
        TableName=name,
        Item={
            "id": {"S": "mine"},
            "owner": {"S": "jwt#me"},
            "created_at": {"S": "2025-10-31T11"},
        },
    )


def listed(stack: Stack, owner: str) -> set[str]:
    """Returns the ids that the index gives for an owner."""
    pages = (
        stack.client("dynamodb")
        .get_paginator("query")
        .paginate(
            TableName=f"{stack.prefix}-tasks",
            IndexName=dynamodb_helpers.INDEX_NAME,
            KeyConditionExpression="#owner = :owner",
            ExpressionAttributeNames={"#owner": "owner"},
            ExpressionAttributeValues={":owner": {"S": owner}},
        )
    )
    return {item["id"]["S"] for page in pages for item in page["Items"]}


def test_an_old_table_gets_the_index_and_its_tasks_an_owner(
    new_stack: NewStack, wanted: dict[str, Any]
):
    stack = new_stack()
    old_table(stack, tasks=130)

    foretold = stack.run("--dry-run")
    run = stack.deploy()

    assert "tasks from before the index: would be updated (130 without an owner" in foretold.said
    assert "tasks from before the index: updated (130 without an owner" in run.said
    assert f"index owner-created_at-index of {stack.prefix}-tasks: created" in run.said
    assert listed(stack, "public") == {f"task {number}" for number in range(130)}
    assert listed(stack, "jwt#me") == {"mine"}
    assert stack.state() == wanted
    assert "Nothing had to be changed." in stack.deploy().said


def test_killed_between_owners_and_index_it_starts_over_with_the_owners(new_stack: NewStack):
    stack = new_stack()
    stack.deploy()
    stack.client("dynamodb").delete_table(TableName=f"{stack.prefix}-tasks")
    old_table(stack, tasks=130)

    # The first change is to switch on the backups, the second gives 100 tasks an owner.
    killed = stack.run(kill_at=2)
    assert killed.code == -signal.SIGKILL
    assert "transact-write-items" in stack.log.read_text()
    stack.deploy()

    assert listed(stack, "public") == {f"task {number}" for number in range(130)}


def test_tasks_without_an_owner_in_a_table_that_has_the_index_are_found_when_asked_for(
    new_stack: NewStack,
):
    stack = new_stack()
    stack.deploy()
    stack.client("dynamodb").put_item(
        TableName=f"{stack.prefix}-tasks",
        Item={"id": {"S": "late"}, "created_at": {"S": "2025-10-31"}},
    )

    assert "Nothing had to be changed." in stack.deploy().said
    assert "1 without an owner" in stack.deploy("--backfill").said
    assert listed(stack, "public") == {"late"}


# ---- options that come and go -------------------------------------------------------------------


def test_options_are_put_on_and_taken_off_again(new_stack: NewStack, wanted: dict[str, Any]):
    stack = new_stack()
    options = ("--tracing", "--worker-concurrency", "5", "--api-concurrency", "20")
    on = stack.deploy(*options, "--alarm-topic-arn", TOPIC)
    assert f"alarm {stack.prefix}-worker-event-age: created" in on.said
    state = stack.state()
    assert state["PREFIX-worker"]["concurrency"] == {"ReservedConcurrentExecutions": 5}
    assert state["PREFIX-backend"]["configuration"]["TracingConfig"] == {"Mode": "Active"}
    assert state["alarms"] == [
        f"PREFIX-{name}"
        for name in (
            "api-5xx",
            "api-throttles",
            "tasks-expired",
            "tasks-failed",
            "worker-errors",
            "worker-event-age",
            "worker-events-dropped",
            "worker-throttles",
        )
    ]
    assert len(state["filters"]) == 4

    again = stack.deploy(*options, "--alarm-topic-arn", TOPIC)
    assert "Nothing had to be changed." in again.said

    stack.deploy("--alarm-topic-arn", "none")
    assert stack.state() == wanted


def test_alarms_are_left_alone_by_a_run_that_does_not_speak_of_them(new_stack: NewStack):
    stack = new_stack()
    stack.deploy("--alarm-topic-arn", TOPIC)
    alarms = stack.state()["alarms"]

    assert "Nothing had to be changed." in stack.deploy().said
    assert stack.state()["alarms"] == alarms != []


def test_a_changed_alarm_is_brought_back(new_stack: NewStack):
    stack = new_stack()
    stack.deploy("--alarm-topic-arn", TOPIC)
    cloudwatch = stack.client("cloudwatch")
    name = f"{stack.prefix}-tasks-failed"
    (alarm,) = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    kept = ("Namespace", "MetricName", "Statistic", "Period", "EvaluationPeriods")
    cloudwatch.put_metric_alarm(
        AlarmName=name,
        Threshold=1000,
        ComparisonOperator=alarm["ComparisonOperator"],
        **{key: alarm[key] for key in kept},
    )

    run = stack.deploy("--alarm-topic-arn", TOPIC)

    assert f"alarm {name}: updated (" in run.said
    assert "Threshold 1000.0 -> 1" in run.said


# ---- removing -----------------------------------------------------------------------------------


class TestDestroying:
    def test_removes_all_but_the_table_and_what_is_not_ours(
        self, new_stack: NewStack, wanted: dict[str, Any]
    ):
        stack = new_stack()
        stack.deploy("--alarm-topic-arn", TOPIC)
        logs = stack.client("logs")
        logs.create_log_group(logGroupName=f"/aws/lambda/{stack.prefix}-other")

        run = stack.destroy()

        assert f"table {stack.prefix}-tasks: kept" in run.said
        left = stack.state()
        assert left == {
            **{key: wanted[key] for key in ("table", "billing", "indexes", "backups", "ttl")},
            "logs": [["/aws/lambda/PREFIX-other", None]],
            "filters": [],
            "alarms": [],
            "apis": [],
        }

        again = stack.destroy()
        assert "There is nothing to remove." in again.said
        assert stack.state() == left

    def test_removes_the_table_when_told_to_and_can_deploy_again(
        self, new_stack: NewStack, wanted: dict[str, Any]
    ):
        stack = new_stack()
        stack.deploy()

        run = stack.destroy("--delete-data")

        assert f"table {stack.prefix}-tasks: removed" in run.said
        assert "There is nothing to remove." in stack.destroy("--delete-data").said
        stack.deploy()
        assert stack.state() == wanted

    def test_killed_after_each_removal_and_run_again_it_ends_the_same(self, new_stack: NewStack):
        stack = new_stack()
        stack.deploy()

        deaths = killed_after_each_change(
            stack, "--yes", "--delete-data", script="destroy-infrastructure.sh"
        )

        assert deaths >= 5
        assert stack.state() == {"logs": [], "filters": [], "alarms": [], "apis": []}

    def test_a_dry_run_removes_nothing(self, reference: Stack, wanted: dict[str, Any]):
        run = reference.run("--dry-run", "--delete-data", script="destroy-infrastructure.sh")

        assert run.code == 0
        assert f"table {reference.prefix}-tasks: would be removed" in run.said
        assert reference.state() == wanted


# ---- both versions of the CLI -------------------------------------------------------------------


def real_cli(version: str) -> Path:
    """Returns a folder that has the real CLI of this version, or skips."""
    if version == "v1":
        return Path(os.devnull)  # the environment's own PATH begins with ours
    if not (path := os.environ.get("VALRO_AWS_V2")):
        pytest.skip("no AWS CLI v2: .ci/run installs one; or set VALRO_AWS_V2 to its `aws`")
    return Path(path).parent


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_whole_cycle_passes_with_the_real_cli(
    new_stack: NewStack, wanted: dict[str, Any], version: str
):
    cli = real_cli(version)
    stack = new_stack()

    first = stack.run(cli=cli)
    assert first.code == 0, first.said
    assert stack.state() == wanted
    assert "Nothing had to be changed." in stack.run(cli=cli).said
    run = stack.run("--yes", "--delete-data", script="destroy-infrastructure.sh", cli=cli)
    assert run.code == 0, run.said
    assert stack.state() == {"logs": [], "filters": [], "alarms": [], "apis": []}
