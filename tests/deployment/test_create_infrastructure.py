"""What create-infrastructure.sh does: its calls to a stub `aws`, and its effect on a local AWS."""

import contextlib
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dynamodb_helpers
import lambda_function
import tasks
from tests.deployment.operators import ACCOUNT, AGENT, ARN, LOOKUPS, Account, Run, sha256

ROOT = Path(__file__).resolve().parents[2]
NOT_ASSUMABLE = (
    "InvalidParameterValueException: The role defined for the function cannot be assumed by Lambda."
)


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path / "project")


# ---- what it refuses before it calls anything --------------------------------------------------


def test_without_a_terminal_and_an_arn_nothing_is_called(account: Account):
    run = account.run()

    assert run.code == 2
    assert "--agent-runtime-arn" in run.said
    assert run.calls == []
    assert run.url == ""


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "my_agent",
        "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/my_agent",
        "arn:aws:bedrock-agentcore:us-east-1:12345678901:runtime/my_agent-AbCdEf1234",
        "arn:aws:lambda:us-east-1:123456789012:function:my_agent-AbCdEf1234",
        f"{ARN}\n",
        f"{ARN} --profile somebody",
        f'{ARN}"; touch /tmp/pwned; "',
        f"{ARN}$(touch /tmp/pwned)",
        f'{ARN}", "AWS_REGION": "us-east-1',
        f"{ARN}/../*",
        "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/*",
    ],
)
def test_an_arn_of_another_shape_is_rejected_before_any_call(account: Account, arn: str):
    run = account.run(f"--agent-runtime-arn={arn}")

    assert run.code == 2
    assert run.calls == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-option"],
        ["--name-prefix"],
        ["--name-prefix", "a b"],
        ["--name-prefix", "$(id)"],
        ["--api-memory-size", "64"],
        ["--worker-memory-size", "10241"],
        ["--worker-timeout", "901"],
        ["--log-retention-days", "31"],
        ["--cors-origins", "example.com"],
        ["--cors-origins", 'https://a.example"]'],
        ["--task-ttl-days", "0"],
        ["--worker-concurrency", "-1"],
        ["--jwt-issuer", "https://login.example.com/"],
        ["--jwt-audience", "valro"],
        ["--jwt-issuer", "https://a.example", "--jwt-audience", "a", "--public"],
        ["--alarm-topic-arn", "alarms"],
        ["--lambda-runtime", "nodejs22.x"],
        ["--aws-region", "moon"],
        ["surplus"],
    ],
)
def test_wrong_options_are_a_sentence_and_call_nothing(account: Account, arguments: list[str]):
    run = account.run(*AGENT, *arguments)

    assert run.code == 2
    assert run.said.startswith("error: ")
    assert "--help" in run.said
    assert run.calls == []


@pytest.mark.parametrize("script", ["create-infrastructure.sh", "destroy-infrastructure.sh"])
def test_help_names_every_option(account: Account, script: str):
    run = account.run("--help", script=script)
    listed = account.function(
        'printf "%s\\n" "${VALUE_OPTIONS[@]}" "${FLAG_OPTIONS[@]}"', script=script
    )

    assert run.code == 0
    assert set(re.findall(r"^ +--([a-z-]+)", run.url, re.MULTILINE)) == {
        *listed.stdout.split(),
        "region",
        "help",
    }
    assert run.calls == []


def test_an_option_with_a_space_and_with_an_equals_sign_mean_the_same(account: Account):
    for arguments in ("--api-memory-size 2048", "--api-memory-size=2048"):
        done = account.function(f'parse_options {arguments}; echo "$API_MEMORY_SIZE"')
        assert done.stdout == "2048\n"


@pytest.mark.parametrize(
    "variables, region",
    [
        ({"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-1"),
        ({"AWS_REGION": "", "AWS_DEFAULT_REGION": "eu-west-2"}, "eu-west-2"),
        ({"AWS_REGION": "", "CONFIGURED": "ap-south-1"}, "ap-south-1"),
        ({"AWS_REGION": ""}, "us-east-1"),
    ],
)
def test_the_region_is_the_environments_then_the_clis_then_us_east_1(
    account: Account, variables: dict[str, str], region: str
):
    account.answer("configure get", variables.pop("CONFIGURED", ""))

    assert account.function('echo "$AWS_REGION"', **variables).stdout == f"{region}\n"


# ---- what it agrees with ------------------------------------------------------------------------


def described(account: Account, name: str, **variables: str) -> Any:
    """Returns a document that the script would create something from."""
    done = account.function(
        "PARTITION=aws ACCOUNT=123456789012 LAMBDA_RUNTIME=python3.11; describe_wanted_state",
        AGENT_RUNTIME_ARN=ARN,
        **variables,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((account.stub / f"{name}.json").read_text())


def test_the_table_is_the_one_that_the_store_defines(account: Account):
    table = described(account, "table")

    assert table.pop("TableName") == dynamodb_helpers.DEFAULT_TABLE_NAME
    assert table == dynamodb_helpers.TABLE_DEFINITION


def test_the_index_for_an_old_table_is_the_one_that_the_store_defines(account: Account):
    index = described(account, "index")["GlobalSecondaryIndexUpdates"][0]["Create"]

    assert [index] == dynamodb_helpers.TABLE_DEFINITION["GlobalSecondaryIndexes"]


def test_the_asynchronous_settings_are_those_that_the_deadlines_count_on(account: Account):
    assert described(account, "worker-events") == {
        "MaximumEventAgeInSeconds": tasks.MAXIMUM_EVENT_AGE_SECONDS,
        "MaximumRetryAttempts": tasks.MAXIMUM_RETRY_ATTEMPTS,
    }


def test_the_gateway_allows_and_exposes_the_headers_that_the_function_does(account: Account):
    cors = described(account, "api")["CorsConfiguration"]
    answer = lambda_function.lambda_handler({"httpMethod": "OPTIONS", "path": "/tasks"}, None)
    headers = {name.lower(): value.lower() for name, value in answer["headers"].items()}

    def listed(header: str) -> set[str]:
        return set(re.split(r", ?", headers[f"access-control-{header}"]))

    assert set(cors["AllowHeaders"]) == listed("allow-headers")
    assert set(cors["ExposeHeaders"]) == listed("expose-headers")
    assert {method.lower() for method in cors["AllowMethods"]} == listed("allow-methods")
    assert cors["AllowOrigins"] == ["*"]


def test_several_origins_and_audiences_become_lists(account: Account):
    origins = {"CORS_ORIGINS": "https://app.example.com,http://localhost:5173"}
    tokens = {"JWT_ISSUER": "https://login.example.com/", "JWT_AUDIENCE": "web,mobile"}

    assert described(account, "api", **origins)["CorsConfiguration"]["AllowOrigins"] == [
        "https://app.example.com",
        "http://localhost:5173",
    ]
    assert described(account, "authorizer", **tokens)["JwtConfiguration"] == {
        "Issuer": "https://login.example.com/",
        "Audience": ["web", "mobile"],
    }


# ---- a first deployment -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A deployment to an empty account."""
    return Account(tmp_path_factory.mktemp("first") / "project").run(*AGENT)


@pytest.mark.e2e
class TestAFirstDeployment:
    def test_ends_well_and_prints_only_the_url_on_stdout(self, first: Run):
        assert first.code == 0, first.said
        assert first.url == "http://127.0.0.1:9\n"

    def test_makes_each_thing_once(self, first: Run):
        assert sorted(first.changes) == sorted(
            [
                "dynamodb create-table",
                "dynamodb update-continuous-backups",
                *["iam create-role", "iam put-role-policy"] * 2,
                *["lambda create-function"] * 2,
                "lambda put-function-event-invoke-config",
                "lambda add-permission",
                *["logs create-log-group", "logs put-retention-policy"] * 2,
                "apigatewayv2 create-api",
                "apigatewayv2 create-integration",
                *["apigatewayv2 create-route"] * 3,
                "apigatewayv2 create-stage",
            ]
        )

    def test_never_sets_a_variable_that_lambda_reserves(self, first: Run):
        for name in ("valro-backend", "valro-worker"):
            (function,) = [
                call.documents[0]
                for call in first.calls
                if call.command == "lambda create-function"
                and call.documents[0]["FunctionName"] == name
            ]
            assert set(function["Environment"]["Variables"]) <= {
                "DYNAMODB_TABLE_NAME",
                "WORKER_LAMBDA_ARN",
                "AGENT_RUNTIME_ARN",
            }

    @pytest.mark.parametrize("key", ["lambda", "worker"])
    def test_makes_a_function_only_when_its_role_has_its_policy(self, first: Run, key: str):
        function = {"lambda": "valro-backend", "worker": "valro-worker"}[key]
        order = first.of(f"valro-{key}-role") + first.of(function)

        assert [step for step in order if not LOOKUPS.match(step)][:3] == [
            "iam create-role",
            "iam put-role-policy",
            "lambda create-function",
        ]
        made = [(call.command, call.documents) for call in first.calls]
        policy = max(
            place
            for place, call in enumerate(first.calls)
            if call.command == "iam put-role-policy" and f"valro-{key}-role" in call.arguments
        )
        created = next(
            place
            for place, (command, documents) in enumerate(made)
            if command == "lambda create-function" and documents[0]["FunctionName"] == function
        )
        assert policy < created

    def test_waits_for_the_worker_before_it_gives_it_its_asynchronous_settings(self, first: Run):
        assert first.of("valro-worker")[-3:] == [
            "lambda create-function",
            "lambda wait",
            "lambda put-function-event-invoke-config",
        ]
        assert "function-active-v2" in first.only("lambda wait", "valro-worker").arguments

    def test_lets_the_gateway_and_nothing_else_invoke_the_function(self, first: Run):
        grant = first.only("lambda add-permission")

        assert grant.value("--function-name") == "valro-backend"
        assert grant.value("--principal") == "apigateway.amazonaws.com"
        assert grant.value("--action") == "lambda:InvokeFunction"
        assert grant.value("--source-arn") == (
            f"arn:aws:execute-api:us-east-1:{ACCOUNT}:a1b2c3d4e5/*/*"
        )

    def test_waits_for_the_table_before_it_switches_on_its_backups(self, first: Run):
        assert first.of("valro-tasks") == [
            "dynamodb describe-table",
            "dynamodb create-table",
            "dynamodb wait",
            "dynamodb update-continuous-backups",
        ]

    def test_limits_posts_only_once_their_route_is_there(self, first: Run):
        changes = [each for each in first.changes if each.startswith("apigatewayv2")]

        assert changes[-1] == "apigatewayv2 create-stage"
        stage = first.only("apigatewayv2 create-stage").documents[0]
        assert stage["RouteSettings"]["POST /tasks"] == {
            "ThrottlingRateLimit": 5,
            "ThrottlingBurstLimit": 10,
        }

    def test_says_that_the_api_is_public(self, first: Run):
        assert "warning: this API is public" in first.said

    def test_leaves_no_temp_folder(self, account: Account):
        account.run(*AGENT)

        assert not list(account.stub.glob("valro.*"))


@pytest.mark.e2e
def test_options_reach_what_is_made(account: Account):
    run = account.run(
        *AGENT,
        *("--agent-runtime-qualifier", "prod", "--stop-session-after-task"),
        *("--name-prefix", "staging", "--region", "eu-west-1", "--api-name", "My API v1.0"),
        *("--api-memory-size", "256", "--worker-memory-size", "2048", "--worker-timeout", "900"),
        *("--lambda-runtime", "python3.13", "--worker-concurrency", "20", "--task-ttl-days", "90"),
        *("--log-retention-days", "365", "--tracing"),
        *("--jwt-issuer", "https://login.example.com/", "--jwt-audience", "web"),
        TASK_TTL_DAYS="1",
    )

    assert run.code == 0, run.said
    functions = {
        call.documents[0]["FunctionName"]: call.documents[0]
        for call in run.calls
        if call.command == "lambda create-function"
    }
    worker = functions["staging-worker"]
    assert worker["Environment"]["Variables"] == {
        "DYNAMODB_TABLE_NAME": "staging-tasks",
        "TASK_TTL_DAYS": "90",
        "AGENT_RUNTIME_ARN": ARN,
        "AGENT_RUNTIME_QUALIFIER": "prod",
        "STOP_SESSION_AFTER_TASK": "true",
    }
    assert (worker["Timeout"], worker["MemorySize"], worker["Runtime"]) == (900, 2048, "python3.13")
    assert worker["TracingConfig"] == {"Mode": "Active"}
    assert functions["staging-backend"]["MemorySize"] == 256
    assert {call.value("--region") for call in run.calls} == {"eu-west-1"}
    assert run.only("apigatewayv2 create-api").documents[0]["Name"] == "My API v1.0"
    assert run.only("lambda add-permission").value("--statement-id") == "My-API-v1-0"
    assert run.only("lambda put-function-concurrency").value("--function-name") == "staging-worker"
    assert run.only("dynamodb update-time-to-live").value("--time-to-live-specification") == (
        "Enabled=true,AttributeName=expires_at"
    )
    routes = [call for call in run.calls if call.command == "apigatewayv2 create-route"]
    assert {call.value("--route-key") for call in routes} == {
        "POST /tasks",
        "GET /tasks",
        "GET /tasks/{id}",
    }
    assert {call.value("--authorizer-id") for call in routes} == {"auth12"}
    assert "public" not in run.said


@pytest.mark.e2e
def test_a_folder_with_spaces_and_quotes_in_its_name_deploys(tmp_path: Path):
    account = Account(tmp_path / 'it\'s the "new" one')

    run = account.run(*AGENT)

    assert run.code == 0, run.said
    zips = {call.value("--zip-file") for call in run.calls if "--zip-file" in call.arguments}
    assert zips == {
        f"fileb://{account.folder}/valro-api-lambda.zip",
        f"fileb://{account.folder}/valro-worker-lambda.zip",
    }


# ---- changes to what is there -------------------------------------------------------------------


def deployed_function(account: Account, name: str, **configuration: Any) -> dict[str, Any]:
    """Returns what AWS answers about a function that is as the script wants it, but for this."""
    wanted = described(account, name)
    key = name.removesuffix("-function")
    return {
        "Configuration": {
            **wanted,
            "Runtime": f"python3.{sys.version_info.minor}",
            "CodeSha256": sha256(account.folder / f"valro-{key}-lambda.zip"),
            "LastModified": "2026-11-01T10:00:00.000+0000",
            "State": "Active",
            "LastUpdateStatus": "Successful",
            **configuration,
        }
    }


@pytest.mark.e2e
class TestAnUpdate:
    def worker_run(self, account: Account, role_made: str = "", **configuration: Any) -> Run:
        """Runs the script against an account whose worker differs in this."""
        account.answer(
            "lambda get-function",
            deployed_function(account, "worker-function", **configuration),
            argument="valro-worker",
        )
        account.answer(
            "lambda get-function-event-invoke-config", described(account, "worker-events")
        )
        if role_made:
            trust = described(account, "trust")
            account.answer(
                "iam get-role",
                {"Role": {"CreateDate": role_made, "AssumeRolePolicyDocument": trust}},
                argument="valro-worker-role",
            )
        return account.run(*AGENT)

    def worker_steps(self, run: Run) -> list[str]:
        return [
            f"{call.command} {call.arguments[6]}" if call.command == "lambda wait" else call.command
            for call in run.calls
            if call.command.startswith("lambda")
            and not call.command.startswith("lambda get")
            and ("valro-worker" in call.arguments or "valro-worker" in str(call.documents))
            and "valro-backend" not in str(call.documents)
        ]

    def test_a_function_as_it_should_be_is_left_alone(self, account: Account):
        run = self.worker_run(account, role_made="2026-10-01T10:00:00+00:00")

        assert "function valro-worker: unchanged" in run.said
        assert self.worker_steps(run) == []

    def test_configuration_and_code_wait_for_each_other(self, account: Account):
        run = self.worker_run(
            account, role_made="2026-10-01T10:00:00+00:00", Timeout=3, CodeSha256="old"
        )

        assert self.worker_steps(run) == [
            "lambda update-function-configuration",
            "lambda wait function-updated-v2",
            "lambda update-function-code",
            "lambda wait function-updated-v2",
        ]
        assert "function valro-worker: updated (Timeout 3 -> 600, code)" in run.said

    @pytest.mark.parametrize(
        "state, waiter",
        [
            ({"State": "Pending"}, "function-active-v2"),
            ({"LastUpdateStatus": "InProgress"}, "function-updated-v2"),
        ],
    )
    def test_a_function_that_is_still_changing_is_waited_for_first(
        self, account: Account, state: dict[str, str], waiter: str
    ):
        run = self.worker_run(
            account, role_made="2026-10-01T10:00:00+00:00", CodeSha256="old", **state
        )

        assert self.worker_steps(run) == [
            f"lambda wait {waiter}",
            "lambda update-function-code",
            "lambda wait function-updated-v2",
        ]

    @pytest.mark.parametrize("role_made", ["", "2026-11-02T10:00:00+00:00"])
    def test_a_function_is_told_of_a_role_that_was_made_again(
        self, account: Account, role_made: str
    ):
        """To AWS a role of the same name is another one, also after an interruption."""
        run = self.worker_run(account, role_made=role_made)

        assert "lambda update-function-configuration" in self.worker_steps(run)
        assert "function valro-worker: updated (role made again)" in run.said

    def test_a_variable_that_is_not_declared_is_removed(self, account: Account):
        run = self.worker_run(
            account,
            role_made="2026-10-01T10:00:00+00:00",
            Environment={
                "Variables": {
                    "DYNAMODB_TABLE_NAME": "valro-tasks",
                    "AGENT_RUNTIME_ARN": ARN,
                    "DEBUG": "1",
                }
            },
        )

        assert "function valro-worker: updated (DEBUG removed)" in run.said

    def test_an_operators_destination_for_failed_events_is_kept(self, account: Account):
        """put-function-event-invoke-config clears what it does not name."""
        destinations = {"OnFailure": {"Destination": "arn:aws:sqs:us-east-1:123456789012:failed"}}
        account.answer(
            "lambda get-function",
            deployed_function(account, "worker-function"),
            argument="valro-worker",
        )
        account.answer(
            "lambda get-function-event-invoke-config",
            {"MaximumRetryAttempts": 0, "DestinationConfig": destinations},
        )

        run = account.run(*AGENT)

        change = run.only("lambda put-function-event-invoke-config")
        assert change.documents == [described(account, "worker-events")]
        assert json.loads(change.value("--destination-config")) == destinations


@pytest.mark.e2e
class TestTheIndex:
    KEYS = ({"AttributeName": "owner"}, {"AttributeName": "created_at"})

    def run(self, account: Account, index: dict[str, Any] | None) -> Run:
        """Runs the script against a table whose index is this."""
        table = {"TableStatus": "ACTIVE", "KeySchema": [{"AttributeName": "id"}], "Index": index}
        account.answer("dynamodb describe-table", table)
        return account.run(*AGENT)

    def test_that_is_still_being_filled_is_left_alone(self, account: Account):
        run = self.run(account, {"IndexStatus": "CREATING", "KeySchema": self.KEYS})

        assert run.code == 0, run.said
        assert "unchanged (AWS is still filling it" in run.said
        assert "dynamodb update-table" not in run.commands

    def test_that_is_there_needs_no_scan_of_the_table(self, account: Account):
        run = self.run(account, {"IndexStatus": "ACTIVE", "KeySchema": self.KEYS})

        assert "dynamodb scan" not in run.commands

    def test_with_other_keys_is_not_used(self, account: Account):
        run = self.run(account, {"IndexStatus": "ACTIVE", "KeySchema": self.KEYS[:1]})

        assert run.code == 1
        assert "other keys than owner and created_at" in run.said

    def test_comes_after_the_code_that_gives_each_task_an_owner(self, account: Account):
        """Else a task that old code makes in between would be listed never again."""
        run = self.run(account, None)

        assert run.code == 0, run.said
        order = [*run.changes, "dynamodb scan"]
        assert order.index("dynamodb update-table") > max(
            place for place, each in enumerate(order) if each == "lambda create-function"
        )
        assert run.commands.index("dynamodb scan") < run.commands.index("dynamodb update-table")

    def test_a_task_that_is_written_at_the_same_moment_gets_its_owner_in_the_next_round(
        self, account: Account
    ):
        account.answer("dynamodb scan", ["one", "two"], times=2)
        account.answer(
            "dynamodb transact-write-items",
            error="TransactionCanceledException: [None, TransactionConflict]",
            times=1,
        )

        run = self.run(account, None)

        assert run.code == 0, run.said
        assert run.commands.count("dynamodb transact-write-items") == 2
        assert "2 without an owner are now owned by public" in run.said

    def test_is_not_made_while_tasks_have_no_owner(self, account: Account):
        account.answer("dynamodb scan", ["one"])

        run = self.run(account, None)

        assert run.code == 1
        assert "1 tasks could not be given an owner" in run.said
        assert "dynamodb update-table" not in run.commands


@pytest.mark.e2e
class TestErrors:
    def test_a_role_that_cannot_be_assumed_yet_is_tried_again(self, account: Account):
        account.answer("lambda create-function", error=NOT_ASSUMABLE, times=3)

        run = account.run(*AGENT)

        assert run.code == 0, run.said
        assert run.commands.count("lambda create-function") == 3 + 2
        assert "sleep" in run.commands

    @pytest.mark.parametrize(
        "command, error",
        [
            (
                "lambda create-function",
                (
                    "InvalidParameterValueException: The provided execution role does not have"
                    " permissions to call PutTraceSegments on XRAY"
                ),
            ),
            (
                "dynamodb update-continuous-backups",
                (
                    "ContinuousBackupsUnavailableException: Backups are being enabled for the table:"
                    " valro-tasks. Please retry later"
                ),
            ),
        ],
    )
    def test_what_passes_by_itself_is_tried_again(self, account: Account, command: str, error: str):
        account.answer(command, error=error, times=1)

        assert account.run(*AGENT).code == 0

    def test_it_gives_up_on_a_role_that_stays_unassumable(self, account: Account):
        account.answer("lambda create-function", error=NOT_ASSUMABLE)

        run = account.run(*AGENT)

        assert run.code == 1
        slept = sum(int(call.arguments[0]) for call in run.calls if call.command == "sleep")
        assert 30 <= slept <= 120
        assert "cannot be assumed" in run.said

    @pytest.mark.parametrize(
        "error",
        [
            "InvalidParameterValueException: Unzipped size must be smaller than 262144000 bytes",
            "AccessDeniedException: not authorized to perform: lambda:CreateFunction",
            "ServiceException: cannot be assumed by Lambda",
        ],
    )
    def test_no_other_error_is_tried_again(self, account: Account, error: str):
        account.answer("lambda create-function", error=error)

        run = account.run(*AGENT)

        assert run.code == 1
        assert run.commands.count("lambda create-function") == 1
        assert "sleep" not in run.commands
        assert error.partition(": ")[2] in run.said
        assert run.said.strip().splitlines()[-1].endswith("it goes on where it stopped.")
        assert run.url == ""

    @pytest.mark.parametrize(
        "command",
        [
            "dynamodb describe-table",
            "iam get-role",
            "lambda get-function",
            "apigatewayv2 get-apis",
            "logs describe-log-groups",
        ],
    )
    def test_a_lookup_that_is_refused_does_not_count_as_not_there(
        self, account: Account, command: str
    ):
        account.answer(command, error="AccessDeniedException: not authorized")

        run = account.run(*AGENT)

        assert run.code == 1
        assert run.changes == []
        assert "not authorized" in run.said

    def test_missing_credentials_stop_it_before_anything_else(self, account: Account):
        account.answer("sts get-caller-identity", error="ExpiredToken: the token has expired")

        run = account.run(*AGENT)

        assert run.code == 1
        assert run.commands == ["sts get-caller-identity"]
        assert "the token has expired" in run.said
        assert "credentials" in run.said

    @pytest.mark.parametrize("limit", ["1000", "10"])
    def test_too_much_reserved_concurrency_is_explained(self, account: Account, limit: str):
        account.answer(
            "lambda put-function-concurrency",
            error="InvalidParameterValueException: Specified ReservedConcurrentExecutions for"
            " function decreases account's UnreservedConcurrentExecution below its minimum value"
            " of [100].",
        )
        account.answer("lambda get-account-settings", f"{limit}\n")

        run = account.run(*AGENT, "--worker-concurrency", "950")

        assert run.code == 1
        assert f"may run {limit} functions at once" in run.said
        assert "100" in run.said
        assert "--worker-concurrency" in run.said

    def test_two_apis_of_the_name_are_a_question_for_a_person(self, account: Account):
        account.answer("apigatewayv2 get-apis", [{"ApiId": "first"}, {"ApiId": "second"}])

        run = account.run(*AGENT)

        assert run.code == 1
        assert run.changes == []
        assert "first and second" in run.said

    def test_a_table_with_other_keys_is_not_touched(self, account: Account):
        account.answer(
            "dynamodb describe-table",
            {"TableStatus": "ACTIVE", "KeySchema": [{"AttributeName": "pk"}], "Index": None},
        )

        run = account.run(*AGENT)

        assert run.code == 1
        assert "other keys than id" in run.said
        assert not [each for each in run.changes if each.startswith("dynamodb")]


@pytest.mark.e2e
class TestAnAuthorizer:
    def deployed(self, account: Account) -> None:
        account.answer("apigatewayv2 get-apis", [{"ApiId": "a1", "ApiEndpoint": "http://x.test"}])
        account.answer("apigatewayv2 get-integrations", "int1\turi\tAWS_PROXY\t2.0\t30000\n")
        account.answer(
            "apigatewayv2 get-routes", "GET /tasks\troute1\tintegrations/int1\tJWT\tauth1\n"
        )
        account.answer("apigatewayv2 get-authorizers", [{"AuthorizerId": "auth1"}])

    def test_is_not_dropped_by_a_run_that_forgot_it(self, account: Account):
        self.deployed(account)

        run = account.run(*AGENT)

        assert run.code == 1
        assert run.changes == []
        assert "--public" in run.said

    def test_goes_when_that_is_asked_for(self, account: Account):
        self.deployed(account)

        run = account.run(*AGENT, "--public")

        assert run.code == 0, run.said
        route = run.only("apigatewayv2 update-route")
        assert route.value("--authorization-type") == "NONE"
        assert run.changes.index("apigatewayv2 update-route") < run.changes.index(
            "apigatewayv2 delete-authorizer"
        )


# ---- the zips -----------------------------------------------------------------------------------


@pytest.mark.e2e
class TestTheZips:
    def with_deploy_script(self, account: Account, body: str) -> None:
        script = account.folder / "deploy.sh"
        script.write_text(f"#!/usr/bin/env bash\n{body}\n")
        script.chmod(0o755)
        for name in ("valro-api-lambda.zip", "valro-worker-lambda.zip"):
            os.utime(account.folder / name, (2e9, 2e9))

    def test_are_left_alone_while_they_are_newer_than_their_sources(self, account: Account):
        self.with_deploy_script(account, "exit 1")

        assert account.run(*AGENT).code == 0

    @pytest.mark.parametrize("name", ["lambda_function.py", "requirements.txt", "build_zips.py"])
    def test_are_built_when_a_source_is_newer(self, account: Account, name: str):
        self.with_deploy_script(account, f'touch "{account.stub}/built"')
        (account.folder / name).touch()
        os.utime(account.folder / name, (3e9, 3e9))

        assert account.run(*AGENT).code == 0
        assert (account.stub / "built").exists()

    def test_are_built_when_one_is_missing(self, account: Account):
        self.with_deploy_script(account, "mv saved.zip valro-worker-lambda.zip")
        zips = account.folder
        (zips / "valro-worker-lambda.zip").rename(zips / "saved.zip")
        (zips / "deploy.sh").write_text(
            f'#!/usr/bin/env bash\ncd "{zips}" && mv saved.zip valro-worker-lambda.zip\n'
        )

        assert account.run(*AGENT).code == 0

    def test_that_cannot_be_built_stop_it_before_anything_is_made(self, account: Account):
        self.with_deploy_script(account, "echo 'no Python' >&2; exit 1")
        (account.folder / "valro-api-lambda.zip").unlink()

        run = account.run(*AGENT)

        assert run.code == 1
        assert "no Python" in run.said
        assert run.changes == []

    def test_say_which_runtime_the_functions_need(self, account: Account):
        for name in ("valro-api-lambda.zip", "valro-worker-lambda.zip"):
            with zipfile.ZipFile(account.folder / name, "a") as archive:
                archive.comment = b"python3.13"

        run = account.run(*AGENT)

        made = [call for call in run.calls if call.command == "lambda create-function"]
        assert {call.documents[0]["Runtime"] for call in made} == {"python3.13"}


# ---- asking and being interrupted ---------------------------------------------------------------


@pytest.mark.e2e
class TestOnATerminal:
    def test_the_arn_is_asked_for(self, account: Account):
        code, screen = account.run_on_a_terminal(ARN)

        assert code == 0, screen
        assert "AgentCore Runtime ARN: " in screen

    def test_the_deployed_arn_is_the_default(self, account: Account):
        account.answer(
            "lambda get-function",
            deployed_function(account, "worker-function"),
            argument="valro-worker",
        )

        code, screen = account.run_on_a_terminal("")

        assert code == 0, screen
        assert f"[{ARN}]" in screen

    def test_an_answer_of_another_shape_is_rejected(self, account: Account):
        code, _ = account.run_on_a_terminal("my agent")

        assert code == 2
        assert [call.command for call in account.calls()] == ["lambda get-function"]


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_finishes_the_calls_under_way(account: Account, number: signal.Signals):
    account.answer("iam create-role", "", seconds=1, times=1)
    account.prepare()
    process = subprocess.Popen(
        ["bash", str(account.folder / "create-infrastructure.sh"), *AGENT],
        env=account.environment(NO_VERIFY="true"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while "iam create-role" not in (account.stub / "calls.jsonl").read_text():
        assert process.poll() is None
    process.send_signal(number)
    output, said = process.communicate(timeout=30)

    assert process.returncode == 130
    assert output == ""
    assert said.strip().endswith("it goes on where it stopped.")
    assert "lambda create-function" not in [call.command for call in account.calls()]
    assert not list(account.stub.glob("valro.*"))


# ---- functions of the script --------------------------------------------------------------------


def test_one_failure_side_by_side_stops_no_other_and_is_not_lost(account: Account):
    done = account.function(
        "good() { sleep 1; echo good; }; bad() { echo bad; false; echo never; }; "
        "side_by_side good bad; echo never"
    )

    assert sorted(done.stdout.split()) == ["bad", "good"]
    assert done.returncode == 1


class TestPolicies:
    def narrowed(self, account: Account, name: str, **variables: str) -> dict[str, Any]:
        done = account.function(
            f'PARTITION="${{PARTITION:-aws}}" ACCOUNT={ACCOUNT}; narrow_policy "$HERE/{name}"',
            AGENT_RUNTIME_ARN=ARN,
            **variables,
        )
        assert done.returncode == 0, done.stderr
        return {each["Sid"]: each for each in json.loads(done.stdout)["Statement"]}

    def test_the_apis_policy_is_narrowed_to_this_stack(self, account: Account):
        policy = self.narrowed(account, "iam-policy.json", NAME_PREFIX="staging")

        here = f"us-east-1:{ACCOUNT}"
        assert {sid: each["Resource"] for sid, each in policy.items()} == {
            "Tasks": f"arn:aws:dynamodb:{here}:table/staging-tasks",
            "TaskList": (
                f"arn:aws:dynamodb:{here}:table/staging-tasks/index/owner-created_at-index"
            ),
            "Worker": f"arn:aws:lambda:{here}:function:staging-worker",
            "Logs": f"arn:aws:logs:{here}:log-group:/aws/lambda/staging-backend:*",
        }

    def test_the_workers_policy_is_narrowed_to_this_stack_and_agent(self, account: Account):
        policy = self.narrowed(account, "worker-iam-policy.json")

        here = f"us-east-1:{ACCOUNT}"
        assert {sid: each["Resource"] for sid, each in policy.items()} == {
            "Tasks": f"arn:aws:dynamodb:{here}:table/valro-tasks",
            "Agent": [ARN, f"{ARN}/runtime-endpoint/*"],
            "Logs": f"arn:aws:logs:{here}:log-group:/aws/lambda/valro-worker:*",
        }

    def test_other_partitions_have_other_arns(self, account: Account):
        policy = self.narrowed(
            account, "iam-policy.json", PARTITION="aws-us-gov", AWS_REGION="us-gov-west-1"
        )

        for statement in policy.values():
            assert statement["Resource"].startswith("arn:aws-us-gov:")

    @pytest.mark.parametrize("name", ["iam-policy.json", "worker-iam-policy.json"])
    def test_a_function_may_write_its_log_but_not_make_log_groups(
        self, account: Account, name: str
    ):
        assert self.narrowed(account, name)["Logs"]["Action"] == [
            "logs:CreateLogStream",
            "logs:PutLogEvents",
        ]

    @pytest.mark.parametrize("name", ["iam-policy.json", "worker-iam-policy.json"])
    def test_x_ray_is_allowed_only_when_it_is_used(self, account: Account, name: str):
        assert "Tracing" not in self.narrowed(account, name)
        assert self.narrowed(account, name, TRACING="true")["Tracing"] == {
            "Sid": "Tracing",
            "Effect": "Allow",
            "Action": ["xray:PutTraceSegments", "xray:PutTelemetryRecords"],
            "Resource": "*",
        }

    def test_the_files_grant_what_the_code_calls_and_nothing_else(self):
        granted = {
            name: sorted(
                action
                for each in json.loads((ROOT / name).read_text())["Statement"]
                for action in (
                    [each["Action"]] if isinstance(each["Action"], str) else each["Action"]
                )
            )
            for name in ("iam-policy.json", "worker-iam-policy.json")
        }
        logs = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
        assert granted == {
            "iam-policy.json": [
                "dynamodb:BatchGetItem",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:Query",
                "dynamodb:Scan",
                "dynamodb:UpdateItem",
                "lambda:InvokeFunction",
                *logs,
            ],
            "worker-iam-policy.json": [
                "bedrock-agentcore:InvokeAgentRuntime",
                "bedrock-agentcore:StopRuntimeSession",
                "dynamodb:PutItem",
                "dynamodb:UpdateItem",
                *logs,
            ],
        }


def test_the_metric_filters_count_outcomes_that_the_functions_log(account: Account):
    patterns = account.function("metric_filters").stdout
    code = "".join(
        (ROOT / name).read_text()
        for name in ("lambda_function.py", "worker_lambda.py", "dynamodb_helpers.py", "tasks.py")
    )

    outcomes = set(re.findall(r'"(\w+)"', patterns))
    assert outcomes == {"error", "lost", "expired", "dispatch_failed"}
    assert {each for each in outcomes if f'"{each}"' not in code} == set()


@contextlib.contextmanager
def api_that_answers(status: int, body: str) -> Iterator[str]:
    """Serves one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's name
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class TestTheCheckAfterwards:
    @pytest.mark.parametrize(
        "status, body, says",
        [
            (200, "[]", "gave a list"),
            (401, '{"message":"Unauthorized"}', "asks for a token"),
        ],
    )
    def test_is_content_with_an_api_that_works(
        self, account: Account, status: int, body: str, says: str
    ):
        with api_that_answers(status, body) as url:
            done = account.function("verify_api", API_URL=url)

        assert done.returncode == 0
        assert says in done.stderr

    @pytest.mark.parametrize(
        "status, body, says",
        [
            (200, '{"taskArns":[]}', "aws logs tail /aws/lambda/valro-backend"),
            (500, '{"message":"Internal Server Error"}', "may not invoke valro-backend"),
            (404, '{"message":"Not Found"}', "no such route or stage"),
            (429, '{"message":"Too Many Requests"}', "throttled"),
            (503, '{"message":"Service Unavailable"}', "reserved concurrency"),
        ],
    )
    def test_says_what_to_look_at_when_it_does_not(
        self, account: Account, status: int, body: str, says: str
    ):
        with api_that_answers(status, body) as url:
            done = account.function("verify_api", API_URL=url)

        assert done.returncode == 1
        assert body in done.stderr
        assert says in done.stderr

    def test_says_when_nothing_answers(self, account: Account):
        done = account.function("verify_api", API_URL="http://127.0.0.1:9")

        assert done.returncode == 1
        assert "no answer" in done.stderr
        assert "network" in done.stderr

    def test_alone_asks_the_deployed_api_and_changes_nothing(self, account: Account):
        with api_that_answers(200, "[]") as url:
            account.answer("apigatewayv2 get-apis", [{"ApiId": "a1", "ApiEndpoint": url}])
            run = account.run("--verify")

        assert run.code == 0, run.said
        assert run.commands == ["apigatewayv2 get-apis"]
        assert run.url == f"{url}\n"

    def test_alone_needs_an_api(self, account: Account):
        run = account.run("--verify")

        assert run.code == 1
        assert "no API named valro-api" in run.said
