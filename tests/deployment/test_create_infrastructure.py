"""What create-infrastructure.sh does, run for real against the local AWS."""

import itertools
import os
import re
import signal
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from local.aws import CLI, Api
from tests.deployment.conftest import ARN, MakeStack, Stack, edit_template, write_zip

OTHER_ARN = ARN.replace("my_agent", "your_agent")
OTHER_ACCOUNT = "111111111111"
BUCKET = "valro-zips-000000000000-us-east-1"
# What AWS refuses: a function URL for a function that does not exist, and a wait that nobody ends.
NO_SUCH_FUNCTION = """
  Broken:
    Type: AWS::Lambda::Url
    Properties: {AuthType: NONE, TargetFunctionArn: no-such-function}
"""
WAIT_IN_VAIN = """
  Handle: {Type: AWS::CloudFormation::WaitConditionHandle}
  Wait: {Type: AWS::CloudFormation::WaitCondition, Properties: {Handle: !Ref Handle, Timeout: "5"}}
"""

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def deployed(make_stack: MakeStack) -> Stack:
    """A stack that is deployed. Tests change it, and none counts on what another has changed."""
    stack = make_stack("deployed")
    stack.deploy()
    return stack


def answers_at(stack: Stack, url: str) -> bool:
    """Tells whether the API's address was printed, and the deployed code answers there."""
    api = Api(stack.ministack.port, stack.api()["ApiId"])
    return url == f"http://{api.host}\n" and api.request("GET", "/tasks").body == b"[]"


# ---- wrong options


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--no-such-option"],
        ["--agent-runtime-arn"],
        ["surplus"],
        ["--worker-memory-size", "64"],
        ["--jwt-issuer", "https://login.example.com/"],
        ["--task-events", "--table-stream", "KEYS_ONLY"],
        ["--tags", "team"],
        ["--agent-runtime-arn", f'{ARN}", "x'],
        ["--agent-runtime-arn", f"{ARN}\n"],
    ],
)
def test_wrong_options_are_a_sentence_and_make_nothing(make_stack: MakeStack, arguments: list[str]):
    stack = make_stack("wrong")

    run = stack.run(*arguments, AGENT_RUNTIME_ARN=ARN if arguments else "")

    assert (run.code, run.url) == (2, "")
    assert re.match("error: .*\nSee create-infrastructure.sh --help.\n", run.said, re.DOTALL)
    assert arguments or "--agent-runtime-arn" in run.said
    assert (stack.status(), stack.api()) == ("", {})


@pytest.mark.parametrize("script", ["create-infrastructure.sh", "destroy-infrastructure.sh"])
def test_help_is_the_usage_and_every_option(deployed: Stack, script: str):
    run = deployed.run("--help", script=script)

    assert run.code == 0
    assert run.url.startswith(f"Usage: ./{script}")
    options = set(re.findall(r"^  --([a-z-]+): \w", run.url, re.MULTILINE))
    assert {"dry-run", "aws-region", "name-prefix", "dynamodb-table-name"} <= options
    if script.startswith("create"):
        template = (deployed.folder / "template.yaml").read_text().split("\nRules:")[0]
        parameters = re.findall(r"^  ([A-Z]\w+): {", template, re.MULTILINE)
        assert {re.sub("(?<!^)([A-Z])", r"-\1", name).lower() for name in parameters} < options


# ---- a deployment


def keys_in_bucket(stack: Stack, bucket: str = BUCKET) -> set[str]:
    """Returns the keys of this stack's zips in a bucket, by default that of all stacks."""
    found = stack.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{stack.prefix}/")
    return {each["Key"] for each in found.get("Contents", [])}


@pytest.mark.parametrize("version", [1, 2])
def test_deploys_changes_and_finds_nothing_to_change_with_both_clis(
    make_stack: MakeStack, version: int
):
    path = CLI / "aws"
    if version == 2:
        path = Path(os.environ.get("VALRO_AWS_V2") or pytest.skip("VALRO_AWS_V2 names no AWS CLI"))
    stack = make_stack(f"cli{version}")
    tags = ("--tags", "team=homes and gardens,stage=test")

    first = stack.run(*tags, "--worker-memory-size", "512", cli=path.parent, TASK_TTL_DAYS="90")

    assert first.code == 0, first.said
    assert answers_at(stack, first.url)
    assert "The API answers.\nwarning: this API is public" in first.said
    assert "  Add WorkerFunction\n" in first.said
    assert "ReportRoute" not in first.said
    assert stack.function("worker")["MemorySize"] == 512
    again = stack.run(cli=path.parent)
    assert (again.code, again.url) == (0, first.url)
    assert again.said.startswith("Nothing had to be changed.\nThe API answers.\n")
    change = stack.run("--worker-memory-size=256", "--tracing", cli=path.parent)
    assert (change.code, change.url) == (0, first.url)
    assert "  WorkerMemorySize 512 -> 256\n" in change.said
    assert re.search(r"  Modify WorkerFunction, .*MemorySize", change.said)
    worker = stack.function("worker")
    assert (worker["MemorySize"], worker["TracingConfig"]["Mode"]) == (256, "Active")
    assert stack.variables("worker")["TASK_TTL_DAYS"] == "90"
    assert stack.tags() == {"team": "homes and gardens", "stage": "test"}


def test_new_code_is_deployed_and_the_old_kept(deployed: Stack):
    before = keys_in_bucket(deployed)
    write_zip(deployed.folder / "valro-api-lambda.zip", "lambda_function", '[{"id": "new"}]')

    run = deployed.deploy()

    assert "uploading valro-api-lambda.zip" in run.said
    assert "uploading valro-worker-lambda.zip" not in run.said
    answer = deployed.client("lambda").invoke(FunctionName="deployed-backend")
    assert b"new" in answer["Payload"].read()
    assert before < keys_in_bucket(deployed)


def test_a_zip_that_is_missing_or_older_than_its_sources_is_built_first(make_stack: MakeStack):
    stack = make_stack("stale")
    script = stack.folder / "deploy.sh"
    for path in stack.folder.glob("*.zip"):
        path.rename(path.with_suffix(".kept"))
    script.write_text(
        '#!/bin/sh\ncd "$(dirname "$0")"\n'
        "for kept in *.kept; do cat $kept > ${kept%.kept}.zip; done\n"
    )
    script.chmod(0o755)

    assert "api-lambda.zip is missing or older than its sources" in stack.deploy("--dry-run").said
    assert "running deploy.sh" not in stack.deploy("--dry-run").said
    (stack.folder / "valro").mkdir()
    for seconds, name in ((5, "worker_lambda.py"), (10, "valro/tasks.py")):
        (stack.folder / name).write_text("")
        os.utime(stack.folder / name, (time.time() + seconds, time.time() + seconds))
        assert "running deploy.sh" in stack.deploy("--dry-run").said
    script.write_text("#!/bin/sh\nexit 1\n")
    failed = stack.run()
    assert (failed.code, "deploy.sh failed" in failed.said) == (1, True)


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    make_stack: MakeStack, deployed: Stack
):
    run = deployed.deploy("--dry-run", "--worker-timeout", "300")

    assert "  WorkerTimeout 600 -> 300\n" in run.said
    assert "  Modify WorkerFunction, Timeout\n" in run.said
    assert "This was a dry run: nothing was changed." in run.said
    assert run.url == ""
    assert deployed.function("worker")["Timeout"] == 600
    nothing_yet = make_stack("dry")
    assert "  Add Table\n" in nothing_yet.deploy("--dry-run").said
    assert (nothing_yet.status(), nothing_yet.api()) == ("", {})


def test_routes_that_could_harm_others_are_made_only_where_the_operator_says_so(
    make_stack: MakeStack,
):
    stack = make_stack("routes")
    plain = {"POST /tasks": "NONE", "GET /tasks": "NONE", "GET /tasks/{id}": "NONE"}
    harmful = ("POST /tasks/{id}/cancel", "DELETE /tasks/{id}")
    reports = {"POST /tasks/{id}/reports": "NONE"}
    first = stack.deploy()
    assert stack.routes() == plain

    stack.deploy("--public-cancel-and-delete", "--agent-reports")
    assert stack.routes() == plain | dict.fromkeys(harmful, "NONE") | reports
    assert stack.variables("worker")["REPORTS_BASE_URL"] == stack.api()["ApiEndpoint"]

    tokens = ("--jwt-issuer", "https://login.example.com/", "--jwt-audience", "web")
    change = stack.deploy(*tokens, "--public-cancel-and-delete=false")
    assert stack.routes() == dict.fromkeys([*plain, *harmful], "JWT") | reports
    warning = 'gets the tasks of the old one\'s user with the same "sub"'
    assert warning not in first.said + change.said
    other = stack.deploy("--dry-run", "--jwt-issuer", "https://other.example.com/")
    assert warning in other.said

    stack.deploy("--jwt-issuer=", "--jwt-audience=", "--agent-reports=false")
    assert stack.routes() == plain


def test_on_a_terminal_it_asks_for_the_agent_with_the_deployed_one_as_the_default(
    make_stack: MakeStack,
):
    stack = make_stack("asked")
    first = stack.run(answer=ARN, AGENT_RUNTIME_ARN="")
    assert first.code == 0, first.said
    assert "AgentCore Runtime ARN: " in first.said
    assert stack.variables("worker")["AGENT_RUNTIME_ARN"] == ARN
    second = stack.run(answer="", AGENT_RUNTIME_ARN="")
    assert f"AgentCore Runtime ARN [{ARN}]: " in second.said
    assert "Nothing had to be changed." in second.said
    third = stack.run(answer=OTHER_ARN, AGENT_RUNTIME_ARN="")
    assert third.code == 0
    assert stack.variables("worker")["AGENT_RUNTIME_ARN"] == OTHER_ARN
    # Without a terminal, what is deployed is what is meant.
    assert "Nothing had to be changed." in stack.deploy(AGENT_RUNTIME_ARN="").said


@pytest.mark.parametrize(
    "answer, tokens",
    [
        ("<html>", ()),
        ("[]", ("--jwt-issuer", "https://login.example.com/", "--jwt-audience", "web")),
    ],
    ids=["not the code's", "without a token"],
)
def test_an_api_that_answers_what_it_should_not_is_an_error(
    make_stack: MakeStack, answer: str, tokens: tuple[str, ...]
):
    stack = make_stack("mute")
    curl = stack.folder / "curl"
    curl.write_text(
        '#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\n'
        f'echo "{answer}" >"$2"; printf 200\n'
    )
    curl.chmod(0o755)

    run = stack.run(*tokens, PATH=f"{stack.folder}{os.pathsep}{stack.environment()['PATH']}")

    assert (run.code, run.url) == (1, "")
    assert f"got 200: {answer}\naws logs tail /aws/lambda/mute-backend may say why." in run.said
    assert "The API answers" not in run.said


# ---- what AWS refuses, and what is interrupted


def test_a_change_that_aws_refuses_is_taken_back_and_explained(deployed: Stack):
    before = deployed.function("worker")
    edit_template(deployed, "\nOutputs:", f"{NO_SUCH_FUNCTION}\nOutputs:")
    run = deployed.run("--worker-memory-size", "333")
    edit_template(deployed, NO_SUCH_FUNCTION, "")

    assert (run.code, run.url) == (1, "")
    why = "what was there before is still running. Why:\nBroken: .*no-such-function"
    assert re.search(why, run.said)
    assert deployed.status() == "UPDATE_ROLLBACK_COMPLETE"
    after = deployed.function("worker")
    assert [after[key] == before[key] for key in ("MemorySize", "CodeSha256")] == [True, True]
    assert "Nothing had to be changed." in deployed.deploy().said


def test_an_interrupted_run_goes_on_and_the_next_waits_for_it_and_removes_what_failed(
    make_stack: MakeStack,
):
    stack = make_stack("slow")
    edit_template(stack, "\nOutputs:", f"{WAIT_IN_VAIN}\nOutputs:")
    with stack.start() as first:
        assert first.stderr is not None
        next(line for line in first.stderr if "… " in line)
        first.send_signal(signal.SIGTERM)
        assert (
            "interrupted. AWS finishes what it has begun. Run this again to continue"
            in first.stderr.read()
        )
    assert first.returncode == 130
    edit_template(stack, WAIT_IN_VAIN, "")

    with stack.start() as second:
        assert second.stderr is not None
        lines = [(time.monotonic(), line) for line in second.stderr]

    said = "".join(line for _, line in lines)
    assert second.returncode == 0, said
    assert "another run is changing slow-backend (CREATE_IN_PROGRESS)" in said
    assert "was left by a failed run (ROLLBACK_COMPLETE): removing it first" in said
    # Twice what is promised, for a busy machine.
    assert max(b - a for (a, _), (b, _) in itertools.pairwise(lines)) < 4, lines
    assert not list((stack.ministack.folder / "scripts").glob("valro.*"))


def test_another_accounts_bucket_is_an_error_and_nothing_goes_there(
    make_stack: MakeStack,
):
    stack = make_stack("squatted")
    squatter = stack.client("s3", account=OTHER_ACCOUNT)
    squatter.create_bucket(Bucket="squatted-zips")

    run = stack.run("--code-bucket", "squatted-zips")

    assert run.code == 1
    assert "the bucket squatted-zips cannot be used; is it another account's?" in run.said
    assert "Contents" not in squatter.list_objects_v2(Bucket="squatted-zips")
    assert stack.api() == {}


# ---- destroy-infrastructure.sh


def test_destroying_keeps_the_table_for_the_next_stack_unless_told_to_delete_the_data(
    make_stack: MakeStack,
):
    stack, script = make_stack("doomed"), "destroy-infrastructure.sh"
    dynamodb, s3 = stack.client("dynamodb"), stack.client("s3")
    options = ("--code-bucket", "doomed-zips", "--dynamodb-table-name", "our-tasks")
    stack.deploy(*options, "--tags", "team=homes and gardens")
    dynamodb.put_item(TableName="our-tasks", Item={"id": {"S": "a"}})
    tags = s3.get_bucket_tagging(Bucket="doomed-zips")["TagSet"]
    assert {each["Key"]: each["Value"] for each in tags} == {
        "made-by": "valro/create-infrastructure.sh",
        "team": "homes and gardens",
    }

    unasked = stack.run(script=script)
    assert (unasked.code, "give --yes" in unasked.said) == (2, True)
    refused = stack.run(script=script, answer="n")
    assert (refused.code, "Nothing was removed." in refused.said) == (1, True)
    assert "The table our-tasks is kept." in stack.destroy("--dry-run").said
    assert stack.status() == "CREATE_COMPLETE"

    protect = stack.client("cloudformation").update_termination_protection
    protect(StackName="doomed-backend", EnableTerminationProtection=True)
    protected = stack.run("--yes", "--delete-data", script=script)
    assert (protected.code, stack.status()) == (1, "CREATE_COMPLETE")
    allow = "aws cloudformation update-termination-protection --region us-east-1 --stack-name"
    assert f"{allow} doomed-backend --no-enable-termination-protection" in protected.said
    assert keys_in_bucket(stack, "doomed-zips")
    assert dynamodb.scan(TableName="our-tasks")["Items"] == [{"id": {"S": "a"}}]
    protect(StackName="doomed-backend", EnableTerminationProtection=False)

    agreed = stack.run(script=script, answer="yes")
    assert agreed.code == 0, agreed.said
    assert (stack.status(), stack.api()) == ("", {})
    with pytest.raises(ClientError, match="404"):
        s3.head_bucket(Bucket="doomed-zips")

    stack.deploy(*options)
    assert dynamodb.scan(TableName="our-tasks")["Items"] == [{"id": {"S": "a"}}]

    everything = stack.destroy("--delete-data")
    assert "the table our-tasks, WITH ALL ITS TASKS (about 1 items)" in everything.said
    assert "our-tasks" not in dynamodb.list_tables()["TableNames"]
    assert "There is nothing to remove." in stack.destroy("--delete-data").said


def test_destroying_one_stack_leaves_the_zips_of_the_others(make_stack: MakeStack, deployed: Stack):
    stack = make_stack("shared")
    stack.deploy()

    stack.destroy("--delete-data")

    assert keys_in_bucket(stack) == set()
    assert keys_in_bucket(deployed)
