"""What create-infrastructure.sh sees of the agent's runtime before anything is deployed.

stub_aws answers GetAgentRuntime as AWS documents it.
"""

import json
from typing import Any

import pytest

from local.aws import AGENT_RUNTIME_ARN
from tests.deployment.conftest import ARN, STUB_AWS, MakeStack, Run, Stack

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


UNREADY = {**speaks("HTTP"), "status": "CREATE_FAILED", "failureReason": "no such image"}


@pytest.mark.parametrize(
    "answer, said",
    [
        (speaks("MCP"), f"error: the runtime {ID} speaks MCP; the worker calls agents that speak"),
        (
            speaks("HTTP", authorizerConfiguration=TOKENS),
            f"error: the runtime {ID} admits only tokens of https://login.example.com/.well-known/x",
        ),
        (GONE, f"error: the runtime {ID} is not in us-east-1."),
        # Who cannot look goes on, and so does who finds it unready: it may be made meanwhile.
        (DENIED, f"note: the runtime {ID} could not be inspected: {DENIED}"),
        (UNKNOWN, f"note: the runtime {ID} could not be inspected: this AWS CLI is too old"),
        (UNREADY, f"warning: the runtime {ID} is CREATE_FAILED (no such image): tasks fail until"),
    ],
    ids=["MCP", "tokens", "not there", "denied", "old CLI", "not ready"],
)
def test_only_an_agent_that_can_never_be_called_stops_it_before_anything_is_made(
    make_stack: MakeStack, answer: dict[str, Any] | str, said: str
):
    is_fatal = said.startswith("error: ")
    stack = make_stack("never")

    run = look(stack, answer, f"--dry-run={not is_fatal}")

    assert (run.code, run.url, stack.status()) == (int(is_fatal), "", "")
    assert run.said.startswith(said)
    assert run.said.endswith("Nothing was changed.\n") == is_fatal
    assert ("\n  If it speaks AG-UI: --agent-protocol AGUI.\n" in run.said) == ("note" in said)


def test_the_protocol_is_the_runtimes_unless_it_is_given(make_stack: MakeStack):
    stack = make_stack("spoken")
    first = look(stack, speaks("AGUI"))
    assert first.code == 0, first.said
    assert stack.variables("worker")["AGENT_PROTOCOL"] == "AGUI"
    assert f"the runtime {ID} ends a session after 15 idle minutes; a reply that" in first.said
    assert "warning: the runtime" not in first.said
    # Who may not look keeps what is known, without a word, while the agent is the same.
    for answer in (DENIED, UNKNOWN):
        assert look(stack, answer).said.startswith("Nothing had to be changed.\n")
    other = look(stack, "", "--dry-run", AGENT_RUNTIME_ARN=ARN)
    assert other.said.startswith(
        "note: the runtime my_agent-AbCdEf1234 could not be inspected: it belongs to another"
    )
    given = look(stack, speaks("AGUI"), "--agent-protocol", "HTTP")
    assert f"warning: the runtime {ID} speaks AGUI, not HTTP." in given.said
    assert stack.variables("worker")["AGENT_PROTOCOL"] == "HTTP"
    changed = look(stack, speaks(""), "--dry-run")  # AWS's default
    assert changed.said.count("AgentProtocol") == 0
