"""What the tests of the two operators' scripts share: a project to deploy, and a quick way to do it."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from local import REGION
from local.aws import CLI, LocalStack

ROOT = Path(__file__).resolve().parents[2]
STUB_AWS = ROOT / "tests" / "deployment" / "stub_aws"
ARN = "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/my_agent-AbCdEf1234"


@dataclass
class Run:
    """How a script ended and what it said."""

    code: int
    url: str
    said: str


def copy_project(folder: Path) -> Path:
    """Copies the scripts, with zips that need no building and hold a handler that answers []."""
    folder.mkdir(parents=True)
    for name in ("create-infrastructure.sh", "destroy-infrastructure.sh", "template.yaml"):
        shutil.copy(ROOT / name, folder / name)
    write_zip(folder / "valro-api-lambda.zip", "lambda_function")
    write_zip(folder / "valro-worker-lambda.zip", "worker_lambda")
    return folder


def write_zip(path: Path, module: str, answer: str = "[]") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{module}.py",
            "def lambda_handler(event, context):\n"
            f"    return {{'statusCode': 200, 'body': {answer!r}}}\n",
        )
        archive.comment = f"python3.{sys.version_info.minor}".encode()


class Stack:
    """One stack on the local AWS, told from others by its prefix."""

    def __init__(self, ministack: LocalStack, folder: Path, prefix: str) -> None:
        self.ministack = ministack
        self.prefix = prefix
        self.folder = folder
        self.region = REGION

    def client(self, service: str, account: str = "test") -> Any:
        """Returns a client of this AWS; an access key of twelve digits is another account."""
        return boto3.client(
            service,
            region_name=self.region,
            endpoint_url=self.ministack.endpoint,
            aws_access_key_id=account,
            aws_secret_access_key="test",
        )

    def command(self, script: str, *arguments: str) -> list[str]:
        return ["bash", str(self.folder / script), "--name-prefix", self.prefix, *arguments]

    def environment(self, cli: Path = CLI, **variables: str) -> dict[str, str]:
        environment = self.ministack.environment()
        return {
            **environment,
            "PATH": f"{cli}{os.pathsep}{environment['PATH']}",
            "AWS_REGION": self.region,
            "AGENT_RUNTIME_ARN": ARN,
            "AGENT_PROTOCOL": "HTTP",  # another account's runtime is not looked at
            **variables,
        }

    def run(
        self,
        *arguments: str,
        script: str = "create-infrastructure.sh",
        answer: str | None = None,
        **options: Any,
    ) -> Run:
        """Runs a script with an answer typed on its terminal, or with nobody to ask."""
        keyboard, terminal = os.openpty()
        os.write(keyboard, f"{answer}\n".encode())
        done = subprocess.run(
            self.command(script, *arguments),
            env=self.environment(**options),
            stdin=subprocess.DEVNULL if answer is None else terminal,
            capture_output=True,
            text=True,
            timeout=120,
        )
        os.close(keyboard)
        os.close(terminal)
        return Run(done.returncode, done.stdout, done.stderr)

    def start(self) -> "subprocess.Popen[str]":
        """Starts create-infrastructure.sh and does not wait; what it says can be read as it comes."""
        command = self.command("create-infrastructure.sh")
        return subprocess.Popen(
            command, env=self.environment(), stderr=subprocess.PIPE, text=True, bufsize=1
        )

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

    # ---- what is there

    def status(self) -> str:
        """Returns the stack's state, or nothing when there is no stack."""
        return str(self._stack().get("StackStatus", ""))

    def tags(self) -> dict[str, str]:
        return {each["Key"]: each["Value"] for each in self._stack()["Tags"]}

    def _stack(self) -> dict[str, Any]:
        stacks = self.client("cloudformation").describe_stacks()["Stacks"]
        return next((each for each in stacks if each["StackName"] == f"{self.prefix}-backend"), {})

    def function(self, name: str) -> dict[str, Any]:
        """Returns the configuration of the function PREFIX-name."""
        configuration: dict[str, Any] = self.client("lambda").get_function_configuration(
            FunctionName=f"{self.prefix}-{name}"
        )
        return configuration

    def variables(self, name: str) -> dict[str, str]:
        """Returns the environment of the function PREFIX-name."""
        variables: dict[str, str] = self.function(name)["Environment"]["Variables"]
        return variables

    def api(self) -> dict[str, Any]:
        """Returns the API of this stack, or an empty dict."""
        apis = self.client("apigatewayv2").get_apis()["Items"]
        return next((each for each in apis if each["Name"] == f"{self.prefix}-api"), {})

    def routes(self) -> dict[str, str]:
        """Returns each route's key, and who may call it."""
        routes = self.client("apigatewayv2").get_routes(ApiId=self.api()["ApiId"])["Items"]
        return {each["RouteKey"]: each["AuthorizationType"] for each in routes}


def make_table(stack: Stack, name: str, key: str = "id", **properties: Any) -> None:
    """Makes a table by hand, with one key; properties may have attributes of an index."""
    attributes = [key, *properties.pop("attributes", [])]
    stack.client("dynamodb").create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in attributes],
        KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        **({} if "ProvisionedThroughput" in properties else {"BillingMode": "PAY_PER_REQUEST"}),
        **properties,
    )


def edit_template(stack: Stack, old: str, new: str) -> None:
    path = stack.folder / "template.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def without(policy: dict[str, Any], part: str, taken: str) -> dict[str, Any]:
    """Returns a policy with one action or resource less, wherever it has that."""
    left = [
        {**statement, part: [each for each in as_list(statement[part]) if each != taken]}
        for statement in policy["Statement"]
    ]
    return {**policy, "Statement": [statement for statement in left if statement[part]]}


MakeStack = Callable[[str], Stack]


@pytest.fixture(scope="module")
def make_stack(ministack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> MakeStack:
    """Gives a stack of this prefix, not deployed yet, with a copy of the project of its own."""
    return lambda prefix: Stack(
        ministack, copy_project(tmp_path_factory.mktemp(prefix) / "it's a copy"), prefix
    )
