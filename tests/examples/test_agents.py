"""The agents to copy, run by the real SDK's server: what the backend makes of each."""

import re

import pytest

from tests.agents.environments import REQUIREMENTS
from tests.conftest import eventually
from tests.examples.conftest import EXAMPLES, ROOT, Serve
from tests.examples.report_api import TOKEN, refused, report_api

AGENTS = ("agent", "streaming_agent", "reporting_agent", "ag_ui_agent")
SCRIPT = """
from tests.agents.model import Call, ScriptedModel
green_fern = {"id": "v1", "name": "Green Fern", "price": 240}
agent.bedrock_model = lambda: ScriptedModel(
    ["I look for landscapers.", Call("find_vendors", {"service": "landscaper", "city": "Charlotte"})],
    [Call("Result", {"response": "Green Fern asks $240.", "vendors": [green_fern]})],
)
"""


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_short_and_pins_what_the_project_pins(name: str):
    lines = (EXAMPLES / name / "agent.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 65
    files = (path.read_text(encoding="utf-8") for path in ROOT.glob("requirements*.txt"))
    pinned = " ".join([*files, *REQUIREMENTS.values()])
    for requirement in (EXAMPLES / name / "requirements.txt").read_text().split():
        assert re.search(rf"(?<!\S){re.escape(requirement)}(?!\S)", pinned), requirement


@pytest.mark.e2e
def test_the_plain_agent_answers_with_vendors_and_quotes(serve: Serve):
    agent = serve("agent")
    prompt = "Find me a landscaper in Charlotte under $300"
    answer, _ = agent.read({"prompt": prompt, "task_id": "t-1"})
    assert answer.agent_response == "I found Dogwood Care ($195), Green Fern ($240)."
    assert [vendor["id"] for vendor in answer.vendors] == ["v2", "v1"]
    assert answer.quotes[0] == {"vendor_id": "v2", "amount": 195}
    answer, _ = agent.read({"prompt": "Find me a unicorn", "task_id": "t-2"})
    assert answer.agent_response.startswith("I know nobody")


@pytest.mark.e2e
def test_the_streaming_agent_shows_what_it_does_and_ends_with_its_result(serve: Serve):
    agent = serve("streaming_agent", SCRIPT)
    answer, said = agent.read({"prompt": "Find me a landscaper in Charlotte", "task_id": "t-1"})
    assert said == ["I look for landscapers.", "Using find_vendors", "Using Result"]
    assert answer.agent_response == "Green Fern asks $240."
    assert answer.vendors == [{"id": "v1", "name": "Green Fern", "price": 240, "emails": []}]


@pytest.mark.e2e
def test_the_streaming_agent_takes_a_bedrock_model_by_its_id(serve: Serve):
    """Its real model is made, with the id from the environment; nothing is called."""
    check = """
import os
os.environ["AWS_REGION"] = "us-east-1"
assert agent.bedrock_model().get_config()["model_id"]
os.environ["MODEL_ID"] = "eu.amazon.nova-pro-v1:0"
assert agent.bedrock_model().get_config()["model_id"] == "eu.amazon.nova-pro-v1:0"
"""
    assert serve("streaming_agent", check).ping() == "Healthy"


@pytest.mark.e2e
def test_the_reporting_agent_accepts_works_on_and_reports(serve: Serve):
    agent = serve("reporting_agent")
    with report_api() as api:
        api.faults = [refused(409)] * 3  # what comes before the task is accepted
        answer, _ = agent.read(api.payload)
        assert answer.agent_response == '{"accepted": true}'
        assert agent.ping() == "HealthyBusy"
        eventually(lambda: api.task.status, lambda status: status == "completed")
        eventually(agent.ping, lambda status: status == "Healthy")
    assert api.task.lines == [
        "Looking for: Find me a painter in Austin",
        "Asked Second Coat for a price",
        "Second Coat asks $450",
        "Asked Lone Brush for a price",
        "Lone Brush asks $390",
    ]
    assert api.task.answer["quotes"][1] == {"vendor_id": "v2", "amount": 390}
    assert TOKEN not in agent.program.output()


@pytest.mark.e2e
def test_the_reporting_agent_stops_when_nobody_waits(serve: Serve):
    agent = serve("reporting_agent", "agent.PAUSE_SECONDS = 60.0")
    with report_api() as api:
        api.task.cancelled = True
        agent.read(api.payload)
        eventually(agent.ping, lambda status: status == "Healthy", 20)
        assert api.task.answer is None
        assert "Traceback" not in agent.program.output()


@pytest.mark.e2e
def test_the_reporting_agent_s_failure_is_reported_and_in_its_log(serve: Serve):
    agent = serve("reporting_agent", "agent.PAUSE_SECONDS = 'not a number'")
    with report_api() as api:
        agent.read(api.payload)
        eventually(lambda: api.task.status, lambda status: status == "error")
        eventually(agent.ping, lambda status: status == "Healthy")
    assert api.task.error == "The agent failed (TypeError)."
    assert "TypeError" in agent.program.output()
    assert TOKEN not in agent.program.output()


@pytest.mark.e2e
def test_the_reporting_agent_answers_at_once_where_no_reports_are_allowed(serve: Serve):
    agent = serve("reporting_agent", "agent.PAUSE_SECONDS = 0.01")
    answer, _ = agent.read({"prompt": "Find me a painter in Austin", "task_id": "t-1"})
    assert answer.agent_response == "Lone Brush asks $390."
    assert len(answer.vendors) == 2
