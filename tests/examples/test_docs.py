"""docs/agents.md against the double of the reporting route: what it shows is what happens."""

import json
import os
import re
import subprocess
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from tests.examples.conftest import ROOT
from tests.examples.report_api import TOKEN, report_api

DOCUMENT = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")


def test_the_reports_by_hand_are_answered_as_shown():
    (shown,) = re.findall(r"```console\n(.*?)```", DOCUMENT, re.DOTALL)
    steps = re.findall(r"^\$ (.*?[^\\])\n([^$].*?)(?=^\$|\Z)", shown, re.MULTILINE | re.DOTALL)
    assert len(steps) == 4
    with report_api() as api:
        environment = os.environ | {"REPORT_URL": api.url, "REPORT_TOKEN": TOKEN}
        for command, answer in steps:
            run = subprocess.run(
                ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=30
            )
            assert run.stdout == answer.rstrip("\n"), command
        assert api.task.lines == ["E-mailed Lone Brush"]
        assert api.task.answer == {"response": "Lone Brush asks $390."}


def test_the_role_of_an_agent_is_one_that_iam_takes(aws: None):
    iam = boto3.client("iam")
    examples = ROOT / "examples"
    trust = (examples / "trust-policy.json").read_text(encoding="utf-8")
    policy = (examples / "role-policy.json").read_text(encoding="utf-8")
    iam.create_role(RoleName="valro-agent", AssumeRolePolicyDocument=trust)
    iam.put_role_policy(RoleName="valro-agent", PolicyName="valro-agent", PolicyDocument=policy)
    kept = iam.get_role_policy(RoleName="valro-agent", PolicyName="valro-agent")["PolicyDocument"]
    assert kept == json.loads(policy)


def test_an_agent_is_made_by_a_call_that_agentcore_knows():
    """Its parameters, as the shell makes them of the page, in the service's own model."""
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    (artifact,) = re.findall(r"--agent-runtime-artifact (\".*?\") \\\n", page, re.DOTALL)
    shown = subprocess.run(
        ["bash", "-c", f"bucket=my-bucket; printf %s {artifact}"], capture_output=True, text=True
    ).stdout
    call: dict[str, Any] = {
        "agentRuntimeName": re.findall(r"--agent-runtime-name (\w+)", page)[0],
        "roleArn": "arn:aws:iam::123456789012:role/valro-agent",
        "networkConfiguration": {"networkMode": re.findall(r"networkMode=(\w+)", page)[0]},
        "agentRuntimeArtifact": json.loads(shown),
    }
    client = boto3.client("bedrock-agentcore-control")
    with Stubber(client) as stubber:
        stubber.add_client_error("create_agent_runtime", expected_params=call)
        with pytest.raises(client.exceptions.ClientError):
            client.create_agent_runtime(**call)
    code = call["agentRuntimeArtifact"]["codeConfiguration"]
    assert code["code"]["s3"]["bucket"] == "my-bucket"
    assert (ROOT / "examples" / "agent" / code["entryPoint"][0]).exists()


def test_the_numbers_are_the_reporter_s():
    from examples.reporting_agent import reporter

    said = " ".join(DOCUMENT.split())
    for number in (
        f"A report every {reporter.SIGN_OF_LIFE_SECONDS:.0f} s",
        f"Every {reporter.PAUSE_SECONDS:.0f} s is often enough",
        f"2, 4, … {reporter.MAX_BACKOFF_SECONDS:.0f} s",
        f"Give a request {reporter.TIMEOUT_SECONDS:.0f} s",
        f"over {reporter.MAX_BYTES / 1_000_000:.0f} MB",
        f"cut at {reporter.MAX_LINE_CHARACTERS:,} characters",
    ):
        assert number in said, number
    assert reporter.MAX_SECONDS == 8 * 3600 + 600
    assert "8 h 10 min after the start" in said
