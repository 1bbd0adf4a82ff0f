"""What the tests of the two operators' scripts share: a stub for AWS, and a quick way to a local one."""

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from local import REGION
from local.aws import LocalStack

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "tests" / "deployment" / "stub_aws"
ARN = "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/my_agent-AbCdEf1234"
AGENT = ("--agent-runtime-arn", ARN)
ACCOUNT = "123456789012"
LOOKUPS = re.compile(r"\S+ (get-|describe-|list-|wait|scan)|sts |configure|sleep")
SCRIPTS = (
    "create-infrastructure.sh",
    "destroy-infrastructure.sh",
    "infrastructure.py",
    "iam-policy.json",
    "worker-iam-policy.json",
)


@dataclass(frozen=True)
class Call:
    """One call of the stub."""

    command: str
    arguments: list[str]
    documents: list[Any]

    def value(self, option: str) -> str:
        """Returns what follows an option."""
        return self.arguments[self.arguments.index(option) + 1]


@dataclass
class Run:
    """How the script ended and what it said and called."""

    code: int
    url: str
    said: str
    calls: list[Call] = field(default_factory=list)

    @property
    def commands(self) -> list[str]:
        return [call.command for call in self.calls]

    @property
    def changes(self) -> list[str]:
        """The calls that change something, in order."""
        return [command for command in self.commands if not LOOKUPS.match(command)]

    def only(self, command: str, argument: str = "") -> Call:
        """Returns the one call of a command (that has this argument)."""
        found = [
            call
            for call in self.calls
            if call.command == command and (not argument or argument in call.arguments)
        ]
        assert len(found) == 1, (command, argument, self.commands)
        return found[0]

    def of(self, argument: str) -> list[str]:
        """Returns the commands that name something, by an argument or in a document, in order."""
        return [
            call.command
            for call in self.calls
            if argument in call.arguments
            or any(argument in each.values() for each in call.documents if isinstance(each, dict))
        ]


class Account:
    """A copy of the project with a stub for AWS, which finds an empty account."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stub = folder.parent / "stub"
        self.stub.mkdir()
        self.rules: list[dict[str, Any]] = []
        copy_project(folder)

    def answer(self, command: str, output: Any = None, **rule: Any) -> None:
        """Scripts one answer; a dict or list is sent as JSON."""
        if output is not None:
            rule["output"] = output if isinstance(output, str) else json.dumps(output)
        self.rules.append({"command": command, **rule})

    def environment(self, **variables: str) -> dict[str, str]:
        return {
            "PATH": f"{STUB}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
            "HOME": str(self.folder.parent),
            "TMPDIR": str(self.stub),
            "STUB_AWS": str(self.stub),
            "AWS_REGION": "us-east-1",
            **variables,
        }

    def prepare(self) -> None:
        (self.stub / "rules.json").write_text(json.dumps(self.rules))
        (self.stub / "calls.jsonl").write_text("")

    def run(self, *arguments: str, script: str = "create-infrastructure.sh", **env: str) -> Run:
        """Runs a script with nobody to ask, and without the request at the end."""
        self.prepare()
        done = subprocess.run(
            ["bash", str(self.folder / script), *arguments],
            env=self.environment(NO_VERIFY="true", **env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Run(done.returncode, done.stdout, done.stderr, self.calls())

    def run_on_a_terminal(
        self, answer: str, *arguments: str, script: str = "create-infrastructure.sh"
    ) -> tuple[int, str]:
        """Runs a script on a terminal, answers its question, and returns status and screen."""
        self.prepare()
        process, terminal = pty.fork()
        if process == 0:
            command = ["bash", str(self.folder / script), *arguments]
            os.execvpe("bash", command, self.environment(NO_VERIFY="true"))  # noqa: S606  no shell
        screen = b""
        with contextlib.suppress(OSError):  # Linux: the terminal is gone once the script has ended
            while select.select([terminal], [], [], 30)[0]:
                data = os.read(terminal, 4096)
                if not data:
                    break
                screen += data
                if screen.endswith((b": ", b"[y/N] ")):
                    os.write(terminal, f"{answer}\n".encode())
        os.close(terminal)
        _, status = os.waitpid(process, 0)
        return os.waitstatus_to_exitcode(status), screen.decode()

    def calls(self) -> list[Call]:
        lines = (self.stub / "calls.jsonl").read_text().splitlines()
        return [Call(**json.loads(line)) for line in lines]

    def function(
        self, code: str, *, script: str = "create-infrastructure.sh", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a piece of bash after sourcing a script and setting the defaults."""
        self.prepare()
        source = f'source "{self.folder}/{script}"; set_defaults; {code}'
        return subprocess.run(
            ["bash", "-c", source],
            env=self.environment(WORK=str(self.stub), **variables),
            capture_output=True,
            text=True,
            timeout=60,
        )


def copy_project(folder: Path) -> Path:
    """Copies the scripts, with zips that need no building and hold a handler that answers []."""
    folder.mkdir(parents=True)
    for name in SCRIPTS:
        shutil.copy(ROOT / name, folder / name)
    for name, module in (
        ("valro-api-lambda.zip", "lambda_function"),
        ("valro-worker-lambda.zip", "worker_lambda"),
    ):
        write_zip(folder / name, module)
    return folder


def write_zip(path: Path, module: str, answer: str = "[]") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{module}.py",
            "def lambda_handler(event, context):\n"
            f"    return {{'statusCode': 200, 'body': {answer!r}}}\n",
        )
        archive.comment = f"python3.{sys.version_info.minor}".encode()


def sha256(path: Path) -> str:
    return b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()


# ---- a local AWS ------------------------------------------------------------------------------

FAST_AWS = ROOT / "tests" / "deployment" / "fast_aws"


@contextlib.contextmanager
def fast_aws_server() -> Iterator[int]:
    """Runs the loaded AWS CLI and gives its port, for `aws` in tests/deployment/fast_aws."""
    server = subprocess.Popen(
        [sys.executable, str(FAST_AWS / "server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        assert server.stdin is not None
        server.stdin.close()


@contextlib.contextmanager
def building_in_turn() -> Iterator[None]:
    """Keeps other test workers from building the zips at the same time."""
    with (ROOT / "deploy.sh").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Stack:
    """One stack on the local AWS, told from others by its prefix, and what is in it."""

    def __init__(self, ministack: LocalStack, fast_port: int, folder: Path, prefix: str) -> None:
        self.ministack = ministack
        self.prefix = prefix
        self.folder = folder
        self.log = folder.parent / f"{prefix}-calls"
        self._fast_port = fast_port

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.ministack.endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def run(
        self,
        *arguments: str,
        script: str = "create-infrastructure.sh",
        kill_at: int = 0,
        cli: Path = FAST_AWS,
        **variables: str,
    ) -> Run:
        """Runs a script against this stack; kill_at ends it after so many changes.

        Run.calls is left empty: the commands are those of count_calls().
        """
        self.log.write_text("")
        environment = self.ministack.environment()
        process = subprocess.Popen(
            ["bash", str(self.folder / script), "--name-prefix", self.prefix, *arguments],
            env={
                **environment,
                "PATH": f"{cli}{os.pathsep}{environment['PATH']}",
                "AGENT_RUNTIME_ARN": ARN,
                "FAST_AWS_PORT": str(self._fast_port),
                "FAST_AWS_LOG": str(self.log),
                "FAST_AWS_KILL_AT": str(kill_at or ""),
                **variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        url, said = process.communicate(timeout=120)
        return Run(process.returncode, url, said)

    def deploy(self, *arguments: str, **options: Any) -> Run:
        """Runs create-infrastructure.sh, which must succeed, without the request at the end."""
        run = self.run("--no-verify", *arguments, **options)
        assert run.code == 0, run.said
        return run

    def destroy(self, *arguments: str) -> Run:
        """Runs destroy-infrastructure.sh, which must succeed."""
        run = self.run("--yes", *arguments, script="destroy-infrastructure.sh")
        assert run.code == 0, run.said
        return run

    def count_calls(self) -> int:
        """Returns how many CLI calls the last run made."""
        return len(self.log.read_text().splitlines())

    def state(self) -> dict[str, Any]:
        """Returns all that AWS holds of this stack, with nothing in it that differs by chance."""
        return {
            **self._table(),
            **self._roles(),
            **self._functions(),
            **self._logs(),
            **self._gateway(),
        }

    def _plain(self, value: Any) -> Any:
        """Replaces the prefix, so that two stacks can be compared, and drops what AWS adds."""
        chance = {"ResponseMetadata", "LastModified", "RevisionId", "CreationDateTime", "TableId"}
        if isinstance(value, dict):
            return {key: self._plain(each) for key, each in value.items() if key not in chance}
        if isinstance(value, list | tuple):
            return [self._plain(each) for each in value]
        if isinstance(value, str):
            return re.sub(rf"\b{self.prefix}\b", "PREFIX", value)
        return value

    def _table(self) -> dict[str, Any]:
        dynamodb = self.client("dynamodb")
        name = f"{self.prefix}-tasks"
        with contextlib.suppress(dynamodb.exceptions.ResourceNotFoundException):
            table = dynamodb.describe_table(TableName=name)["Table"]
            indexes = table.get("GlobalSecondaryIndexes", [])
            backups = dynamodb.describe_continuous_backups(TableName=name)
            status = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
            ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
            return {
                "table": table["KeySchema"],
                "billing": table["BillingModeSummary"]["BillingMode"],
                "indexes": [
                    {key: index[key] for key in ("IndexName", "KeySchema", "Projection")}
                    for index in indexes
                ],
                "backups": status["PointInTimeRecoveryStatus"],
                "ttl": ttl,
            }
        return {}

    def _roles(self) -> dict[str, Any]:
        iam = self.client("iam")
        found = {}
        for role in (f"{self.prefix}-lambda-role", f"{self.prefix}-worker-role"):
            with contextlib.suppress(iam.exceptions.NoSuchEntityException):
                trust = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]
                policies = {
                    name: iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
                    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]
                }
                found[self._plain(role)] = self._plain({"trust": trust, "policies": policies})
        return found

    def _functions(self) -> dict[str, Any]:
        functions = self.client("lambda")
        missing = functions.exceptions.ResourceNotFoundException
        found = {}
        for name in (f"{self.prefix}-backend", f"{self.prefix}-worker"):
            with contextlib.suppress(missing):
                function = functions.get_function(FunctionName=name)
                configuration = function["Configuration"]
                for key in ("State", "StateReason", "StateReasonCode"):
                    configuration.pop(key, None)
                for key in [key for key in configuration if key.startswith("LastUpdateStatus")]:
                    configuration.pop(key)
                facts = {
                    "configuration": configuration,
                    "concurrency": function.get("Concurrency"),
                }
                with contextlib.suppress(missing):
                    facts["events"] = functions.get_function_event_invoke_config(FunctionName=name)
                with contextlib.suppress(missing):
                    policy = json.loads(functions.get_policy(FunctionName=name)["Policy"])
                    facts["policy"] = [
                        {**each, "Condition": re.sub(r"[0-9a-f]{8}/", "API/", str(each))}
                        for each in policy["Statement"]
                    ]
                found[self._plain(name)] = self._plain(facts)
        return found

    def _logs(self) -> dict[str, Any]:
        logs = self.client("logs")
        groups = logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{self.prefix}-")
        names = {each["logGroupName"]: each.get("retentionInDays") for each in groups["logGroups"]}
        filters = {
            each["filterName"]: {key: each[key] for key in ("filterPattern", "logGroupName")}
            for name in names
            for each in logs.describe_metric_filters(logGroupName=name)["metricFilters"]
        }
        alarms = self.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{self.prefix}-")
        return {
            "logs": self._plain(sorted(names.items())),
            "filters": self._plain(sorted(filters.items())),
            "alarms": self._plain(sorted(each["AlarmName"] for each in alarms["MetricAlarms"])),
        }

    def api(self) -> dict[str, Any]:
        """Returns the API of this stack, or an empty dict."""
        apis = self.client("apigatewayv2").get_apis()["Items"]
        return next((each for each in apis if each["Name"] == f"{self.prefix}-api"), {})

    def _gateway(self) -> dict[str, Any]:
        gateway = self.client("apigatewayv2")
        apis = [
            each for each in gateway.get_apis()["Items"] if each["Name"] == f"{self.prefix}-api"
        ]
        found = []
        for api in apis:
            key = {"ApiId": api["ApiId"]}
            integrations = gateway.get_integrations(**key)["Items"]
            targets = {each["IntegrationId"]: each["IntegrationUri"] for each in integrations}
            found.append(
                {
                    "cors": api["CorsConfiguration"],
                    "integrations": sorted(targets.values()),
                    "versions": [each["PayloadFormatVersion"] for each in integrations],
                    "routes": sorted(
                        (
                            each["RouteKey"],
                            targets[each["Target"].removeprefix("integrations/")],
                            each["AuthorizationType"],
                        )
                        for each in gateway.get_routes(**key)["Items"]
                    ),
                    "stages": [
                        {
                            name: stage.get(name)
                            for name in (
                                "StageName",
                                "AutoDeploy",
                                "DefaultRouteSettings",
                                "RouteSettings",
                            )
                        }
                        for stage in gateway.get_stages(**key)["Items"]
                    ],
                }
            )
        return {"apis": self._plain(found)}
