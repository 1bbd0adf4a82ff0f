"""docs/agents.md against the double of the reporting route: what it shows is what happens."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.validate import validate_parameters

from tests.agents import environments
from tests.examples.conftest import ROOT, Serve
from tests.examples.report_api import TOKEN, report_api
from valro.agent.answers import AgentFailed
from valro.agent.reader import AgentReader, read_answer
from valro.agent.runtime import AGUI, AgentRequest

DOCUMENT = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")


BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
# What the lines for Strands stand in.
AROUND = """
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from bedrock_agentcore import BedrockAgentCoreApp
from strands import Agent, ToolContext, tool
from strands.session import FileSessionManager
from tests.agents.model import Call, ScriptedModel

app = BedrockAgentCoreApp()
is_first = not Path("memory").exists()
model = ScriptedModel([Call("book", {"vendor": "Green Fern"})] if is_first else ["It is booked."])

def S3SessionManager(session_id: str, bucket: str) -> FileSessionManager:
    return FileSessionManager(session_id, "memory")

@tool(context=True)
def book(vendor: str, tool_context: ToolContext) -> str:
    reason = {"message": "Shall I book it?", "response_schema": {"type": "boolean"}}
    answer = tool_context.interrupt("booking", reason=reason)
    Path("answered").write_text(f"{vendor}: {answer}")
    return "booked"

"""
# And those for LangGraph, whose tool finds a vendor.
GRAPH = """
import sys, uvicorn
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph
from langgraph.types import interrupt

class State(MessagesState):
    vendors: list

def find(state):
    return {"vendors": [{"id": "v1", "name": "Green Fern"}]}

def ask(state):
    agreed = interrupt({"message": "Shall I book it?", "response_schema": {"type": "boolean"}})
    return {"messages": [AIMessage(f"Booked: {agreed}")]}

made = StateGraph(State).add_sequence([find, ask]).set_entry_point("find")
graph = made.compile(checkpointer=InMemorySaver())
"""


def test_the_four_lines_are_what_they_are_said_to_be():
    (shown,) = re.findall(r"## Four lines.*?```json\n(.*?)```", DOCUMENT, re.DOTALL)
    line, answer, question, failure = map(str.encode, shown.splitlines())
    said: list[str] = []
    reader = AgentReader("text/event-stream", said.append)
    for data in (line, answer, question):
        reader.feed(b"data: " + data + b"\n\n")
    found = reader.finish()
    assert said == ["Comparing quotes"]
    assert (found.agent_response, found.vendors[0]["price"]) == ("Green Fern asks $240.", 240)
    assert found.interrupts == json.loads(question)["interrupts"]
    with pytest.raises(AgentFailed, match="The directory of vendors is down"):
        read_answer(json.loads(failure))


@pytest.mark.e2e
def test_the_lines_for_strands_go_on_in_a_new_process_inside_the_tool_that_asked(
    serve: Serve, tmp_path: Path
):
    (code,) = (block for block in BLOCKS if "S3SessionManager" in block)
    asked, _ = serve("asking", code=AROUND + code).read({"prompt": "Book it", "task_id": "t-1"})
    (interrupt,) = asked.interrupts
    assert interrupt["message"] == "Shall I book it?"
    assert interrupt["response_schema"] == {"type": "boolean"}

    resume = {"interruptId": interrupt["id"], "status": "resolved", "payload": True}
    reply = {"prompt": "Yes", "task_id": "t-2", "thread_id": "t-1", "resume": [resume]}
    answer, _ = serve("answered", code=AROUND + code).read(reply)
    assert answer.agent_response == "It is booked."
    assert (tmp_path / "answered").read_text() == "Green Fern: True"


@pytest.mark.e2e
def test_the_lines_for_langgraph_show_vendors_and_ask(serve: Serve):
    (code,) = (block for block in BLOCKS if "LangGraphAgent" in block)
    run = "\napp.run = lambda **options: uvicorn.run(app, **options)\n"
    python = environments.python("ag_ui", "ag_ui_langgraph")
    agent = serve("graph", code=GRAPH + code + run, python=python)
    assert agent.ping() == "Healthy"

    asked, _ = agent.read(AgentRequest("t-1", "Find").payload(AGUI))
    assert asked.vendors == [{"id": "v1", "name": "Green Fern", "emails": []}]
    (interrupt,) = asked.interrupts
    assert interrupt["message"] == "Shall I book it?"

    resume = [{"interruptId": interrupt["id"], "status": "resolved", "payload": True}]
    reply = AgentRequest("t-2", "Yes", thread_id="t-1").payload(AGUI) | {"resume": resume}
    assert agent.read(reply)[0].agent_response == "Booked: True"


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
    service = boto3.client("bedrock-agentcore-control").meta.service_model
    validate_parameters(call, service.operation_model("CreateAgentRuntime").input_shape)
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
