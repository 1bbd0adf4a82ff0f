"""What create-infrastructure.sh sees of the agent's runtime before anything is deployed.

stub_aws answers GetAgentRuntime as AWS documents it; the local AWS's own answer comes from local/runtime.py.
"""

import json
from typing import Any

import pytest

from local.aws import AGENT_RUNTIME_ARN
from tests.deployment.conftest import MakeStack
from tests.deployment.operators import ARN, STUB_AWS, Run, Stack

pytestmark = pytest.mark.e2e

ID = AGENT_RUNTIME_ARN.rpartition("/")[2]
TOKENS = {"customJWTAuthorizer": {"discoveryUrl": "https://login.example.com/.well-known/x"}}
DENIED = (
    "An error occurred (AccessDeniedException) when calling GetAgentRuntime: User is not authorized"
)
GONE = "An error occurred (ResourceNotFoundException) when calling GetAgentRuntime: no such agent"
# The last lines of version 1's usage, where it is too old.
UNKNOWN = "usage: aws [options]\naws: error: argument command: Invalid choice, valid choices are:"


def speaks(protocol: str, **more: Any) -> dict[str, Any]:
    """What GetAgentRuntime answers of a runtime that is well."""
    lifecycle = {"idleRuntimeSessionTimeout": 900, "maxLifetime": 28800}
    configuration = {"protocolConfiguration": {"serverProtocol": protocol}} if protocol else {}
    return {"status": "READY", "lifecycleConfiguration": lifecycle, **configuration, **more}


def look(stack: Stack, answer: dict[str, Any] | str, *arguments: str, **variables: str) -> Run:
    variables = {"AGENT_RUNTIME_ARN": AGENT_RUNTIME_ARN, "AGENT_PROTOCOL": "", **variables}
    stub = json.dumps({"get-agent-runtime": answer})
    return stack.run("--no-verify", *arguments, cli=STUB_AWS, STUB_AWS=stub, **variables)


@pytest.mark.parametrize(
    "answer, said",
    [
        (
            speaks("MCP"),
            f"the runtime {ID} speaks MCP; the worker calls agents that speak HTTP or AGUI",
        ),
        (speaks("A2A"), "speaks A2A"),
        (
            speaks("HTTP", authorizerConfiguration=TOKENS),
            "admits only tokens of https://login.example.com/.well-known/x, and so refuses the worker",
        ),
        (GONE, f"the runtime {ID} is not in us-east-1."),
    ],
    ids=["MCP", "A2A", "tokens", "not there"],
)
def test_an_agent_that_can_never_be_called_stops_it_before_anything_is_made(
    make_stack: MakeStack, answer: dict[str, Any] | str, said: str
):
    stack = make_stack("never")

    run = look(stack, answer)

    assert (run.code, run.url, stack.status()) == (1, "", "")
    assert run.said.startswith("error: ")
    assert said in run.said
    assert run.said.endswith("Nothing was changed.\n")


def test_the_protocol_is_the_runtimes_unless_it_is_given(make_stack: MakeStack):
    stack = make_stack("spoken")

    def protocol() -> str:
        return str(stack.function("worker")["Environment"]["Variables"]["AGENT_PROTOCOL"])

    first = look(stack, speaks("AGUI"))
    assert (first.code, protocol()) == (0, "AGUI"), first.said
    assert f"the runtime {ID} ends a session after 15 idle minutes; a reply that" in first.said
    assert "warning: the runtime" not in first.said
    # Who may not look keeps what is known, without a word, while the agent is the same.
    for answer in (DENIED, UNKNOWN):
        assert look(stack, answer).said.startswith("Nothing had to be changed.\n")
    other = look(stack, "", "--dry-run", AGENT_RUNTIME_ARN=ARN)
    assert other.said.startswith(
        "note: the runtime my_agent-AbCdEf1234 could not be looked at: it is of another"
    )
    given = look(stack, speaks("AGUI"), "--agent-protocol", "HTTP")
    assert f"warning: the runtime {ID} speaks AGUI, not HTTP." in given.said
    assert protocol() == "HTTP"
    changed = look(stack, speaks(""), "--dry-run")  # AWS's default
    assert changed.said.count("AgentProtocol") == 0


@pytest.mark.parametrize(
    "answer, why",
    [
        (DENIED, DENIED),
        (UNKNOWN, "this AWS CLI is too old"),
        ("Could not connect to the endpoint URL", "Could not connect"),
    ],
    ids=["denied", "old CLI", "no network"],
)
def test_who_cannot_look_reads_a_note_and_goes_on(make_stack: MakeStack, answer: str, why: str):
    run = look(make_stack("blind"), answer, "--dry-run")

    assert run.code == 0, run.said
    assert run.said.startswith(f"note: the runtime {ID} could not be looked at: {why}")
    assert "\n  If it speaks AG-UI: --agent-protocol AGUI.\n" in run.said


def test_a_runtime_that_is_not_ready_is_a_warning_since_it_may_be_made_meanwhile(
    make_stack: MakeStack,
):
    failed = {**speaks("HTTP"), "status": "CREATE_FAILED", "failureReason": "no such image"}

    run = look(make_stack("unready"), failed, "--dry-run")

    assert run.code == 0, run.said
    why = "CREATE_FAILED (no such image): tasks fail until it is READY."
    assert f"warning: the runtime {ID} is {why}" in run.said


def test_the_local_runtime_answers_and_nothing_needs_to_be_said(make_stack: MakeStack):
    run = make_stack("home").deploy(
        "--dry-run", AGENT_RUNTIME_ARN=AGENT_RUNTIME_ARN, AGENT_PROTOCOL=""
    )

    assert "the runtime" not in run.said
