"""The documents' commands, pasted in order into an operator's shell, and their transcripts."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.addresses import shell_lines
from local.aws import ROOT, local_stack
from tests.conftest import eventually

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]
}
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^\n]+) -->\n)?```(?P<kind>\w*)\n(?P<code>.*?)```", re.DOTALL)
BLOCKS = [match for page in PAGES.values() for match in BLOCK.finditer(page)]
AWS_V2 = os.environ.get("VALRO_AWS_V2", "")
CLIS = ["v1", *(["v2"] if AWS_V2 else [])]
# What the two say alike is pasted with one of them.
with_one_cli = pytest.mark.parametrize("operator", CLIS[-1:], indirect=True)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n", re.MULTILINE)


class Operator:
    """Somebody at one shell, in a copy of the project, that has read what `make run` prints."""

    def __init__(self, folder: Path, environment: dict[str, str], cli: str, aws: str) -> None:
        self.folder = folder
        self.is_version_1 = cli == "v1"
        self.environment = environment
        if not self.is_version_1:
            self.environment["PATH"] = f"{Path(AWS_V2).parent}{os.pathsep}{environment['PATH']}"
        self.state = folder / "shell.sh"
        self.state.write_text(aws)

    def paste(self, name: str, table: str = "valro-tasks") -> str:
        """Pastes the blocks of a name; fails unless every command succeeds, returns what is said."""
        code = "\n".join(match["code"] for match in BLOCKS if match["mark"] == f"test: {name}")
        if self.is_version_1:
            # As the documents say for version 1.
            code = code.replace("  --cli-binary-format raw-in-base64-out \\\n", "")
            tail, older = r"aws logs tail (\S+) --since 1h", r"aws logs filter-log-events"
            code = re.sub(tail, older + r" --log-group-name \1", code)
        return self.run(code.replace("/tmp/", f"{self.folder}/").replace("valro-tasks", table))

    def run(self, code: str) -> str:
        """Runs commands in a shell that knows the variables of those before."""
        assert code
        run = subprocess.run(
            [
                "bash",
                "-c",
                f". {self.state}\nset -euo pipefail -a\n{code}\nexport -p >{self.state}",
            ],
            cwd=self.folder / "project",
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert run.returncode == 0, f"{code}\n{run.stdout}\n{run.stderr}"
        return run.stdout


@pytest.fixture(params=CLIS, scope="module")
def operator(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator who has deployed by hand, in an account that enforces policies."""
    missing = [tool for tool in ("curl", "jq") if shutil.which(tool) is None]
    if missing:
        pytest.skip(
            f"The documents call {' and '.join(missing)}: install with your package manager"
        )
    folder = tmp_path_factory.mktemp("operator")
    kept_out = shutil.ignore_patterns(".venv*", ".git", "build", "node_modules", "__pycache__")
    shutil.copytree(ROOT, folder / "project", ignore=kept_out)
    with local_stack(authorization=True) as stack:
        environment = stack.environment() | {"VALRO_SDK_CACHE": str(ROOT / "build" / "sdk")}
        aws = shell_lines(stack.aws_environment(), None, Path(environment["PYTHON"]).parent)
        operator = Operator(folder, environment, request.param, aws)
        operator.paste("deploy by hand")
        operator.paste("cancel and delete by hand")
        operator.paste("reports by hand")
        yield operator


@pytest.mark.e2e
def test_a_deployment_by_hand_runs_tasks_and_shows_what_becomes_of_them(operator: Operator):
    operator.paste("update by hand")

    called = operator.paste("call directly")
    assert '"statusCode": 200' in called
    assert '"outcome": "completed"' in called
    assert '"description": "Find me a painter in Austin"' in operator.paste("follow a task")
    assert "Task created and processing started" in operator.paste("call the code")
    assert "Agent completed task successfully" in operator.paste("look into the table")
    assert "Label" in operator.paste("metrics")
    eventually(lambda: operator.paste("logs"), lambda said: "outcome" in said, seconds=30)
    assert operator.paste("ask the log")


@pytest.mark.e2e
@with_one_cli
@pytest.mark.parametrize("page", ["README.md", "docs/frontend.md"])
def test_the_transcripts_come_true(operator: Operator, page: str):
    found = [
        match["code"] for match in BLOCK.finditer(PAGES[page]) if match["mark"] == "transcript"
    ]
    _, *parts = COMMAND.split("".join(found))
    commands, expected = parts[::2], parts[1::2]

    script = "".join(f"printf '\\x1e'\n{command}\n" for command in commands)
    said = operator.run(f"set +e\nexec 2>&1\n{script}").split("\x1e")[1:]

    for command, wanted, seen in zip(commands, expected, said, strict=True):
        assert re.fullmatch(pattern_of(wanted), comparable(seen)), f"$ {command}\n{seen}"


def comparable(text: str) -> str:
    """Without what is another each time: times, and zeros that depend on the version of jq."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "(a time)", text.replace("\r", ""))
    return re.sub(r"(\d)\.0\b", r"\1", text).rstrip("\n") + "\n"


def pattern_of(text: str) -> str:
    """What a transcript promises: … on a line of its own is any lines, elsewhere any text."""
    lines = comparable(text).splitlines()
    promised = [re.escape(line).replace("…", ".*") + "\n" for line in lines]
    return "".join(
        "(?:.*\n)*" if line.strip() == "…" else pattern
        for line, pattern in zip(lines, promised, strict=True)
    )


@pytest.mark.e2e
@with_one_cli
def test_what_stands_around_a_stack_can_be_pasted_too(operator: Operator):
    operator.paste("let GitHub deploy")
    operator.paste("budget")
    certificate = "aws acm request-certificate --domain-name api.example.com --query CertificateArn"
    operator.run(f'CERTIFICATE_ARN="$({certificate} --output text)"')
    assert operator.paste("domain").strip()


@pytest.mark.e2e
@with_one_cli
def test_a_table_of_before_the_index_is_upgraded_by_hand(operator: Operator):
    operator.run(
        "aws dynamodb create-table --table-name valro-old --billing-mode PAY_PER_REQUEST"
        " --attribute-definitions AttributeName=id,AttributeType=S"
        " --key-schema AttributeName=id,KeyType=HASH\n"
        "aws dynamodb put-item --table-name valro-old"
        """ --item '{"id": {"S": "old"}, "created_at": {"S": "2025-10-31T12:00:00Z"}}'"""
    )
    operator.paste("upgrade a table by hand", table="valro-old")

    names = '--expression-attribute-names \'{"#owner": "owner"}\''
    listed = operator.run(
        "aws dynamodb query --table-name valro-old --index-name owner-created_at-index"
        f" --key-condition-expression '#owner = :owner' {names} --query 'Items[].id.S'"
        """ --expression-attribute-values '{":owner": {"S": "public"}}' --output text"""
    )
    assert listed.strip() == "old"

    operator.run(
        "aws dynamodb put-item --table-name valro-old"
        """ --item '{"id": {"S": "a-users"}, "owner": {"S": "jwt#auth0|7"}}'"""
    )
    operator.paste("part the issuers", table="valro-old")
    owners = operator.run(
        "aws dynamodb scan --table-name valro-old --query 'Items[].owner.S' --output text"
    )
    assert set(owners.split()) == {"public", "former-jwt#auth0|7"}


@pytest.mark.e2e
@with_one_cli
def test_what_was_made_by_hand_gives_way_to_the_script_and_the_tasks_stay(operator: Operator):
    before = operator.run('curl -s "$API_URL/tasks?limit=100" | jq -r ".[].id" | sort')

    operator.paste("remove by hand")
    url = operator.paste("by script").splitlines()[-1]
    operator.paste("alarms")
    operator.paste("fewer rights")
    old_alarm = "--period 300 --evaluation-periods 1 --threshold 1 --comparison-operator"
    old_alarm += " GreaterThanOrEqualToThreshold --metric-name Errors --namespace AWS/Lambda"
    for name in ("tasks-failed", "api-5xx"):
        operator.run(
            f"aws cloudwatch put-metric-alarm --alarm-name valro-{name} --statistic Sum {old_alarm}"
        )
    operator.paste("remove old alarms")
    names = "aws cloudwatch describe-alarms --query 'MetricAlarms[].AlarmName' --output text"
    assert not {"valro-tasks-failed", "valro-api-5xx"} & set(operator.run(names).split())

    after = operator.run(f'curl -s "{url}/tasks?limit=100" | jq -r ".[].id" | sort')
    assert after == before != ""


@pytest.mark.e2e
def test_the_other_cli_is_tested_too():
    if not AWS_V2:
        pytest.skip(
            "AWS CLI v2 is not here: run .ci/install-aws-v2 build/aws-cli-v2, "
            "and set VALRO_AWS_V2 to the path that it prints"
        )


def test_every_command_is_run_by_a_test_or_says_why_not():
    tests = Path(__file__).parents[1]
    here = "".join(path.read_text() for path in tests.glob("*/test_*.py"))
    for page in ["README.md", *(name for name in PAGES if name.startswith("docs/"))]:
        for mark in (
            match["mark"] or "" for match in BLOCK.finditer(PAGES[page]) if match["kind"] == "bash"
        ):
            kind, _, name = mark.partition(": ")
            assert kind == "not tested" or (kind == "test" and f'"{name}"' in here), (
                f"{page}: {mark}"
            )
