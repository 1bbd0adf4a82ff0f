"""Servers of other people's making, called with the request exactly as the worker sends it.

Each is behind the local runtime, which adds nothing to what AgentCore passes on.
"""

import functools
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from local.addresses import free_port
from local.aws import AGENT_RUNTIME_ARN, ROOT
from tests.agents import environments
from tests.examples.conftest import EXAMPLES, running
from valro.agent.answers import Answer
from valro.agent.runtime import AGUI, HTTP, AgentRequest, AgentRuntime
from valro.conversations import follow_up

pytestmark = pytest.mark.e2e

SERVERS = Path(__file__).with_name("frameworks")
PROMPT = "Find me a landscaper in Charlotte"
PACKAGE = json.loads((EXAMPLES / "typescript_agent/package.json").read_text())
NPM = " ".join(map("@".join, (PACKAGE["dependencies"] | PACKAGE["devDependencies"]).items()))
QUESTION = "May I book Green Fern?"
LOOKING = "Let me look for landscapers."


class Worker:
    """Runs tasks as the worker does, with an agent of a protocol behind the runtime that is set."""

    def __init__(self, protocol: str) -> None:
        session = botocore.session.Session()
        session.set_credentials("test", "test")
        self.agent = AgentRuntime(session, AGENT_RUNTIME_ARN, None, protocol)
        self.said: list[str] = []

    def run(self, task_id: str, prompt: str = PROMPT, **more: Any) -> Answer:
        """The answer to a task; what was said on the way is kept."""
        self.said.clear()
        report = {"url": "http://127.0.0.1/", "token": "secret"}
        request = AgentRequest(task_id, prompt, "user-1", report, **more)
        return self.agent.run(request, 60, self.said.append)

    def reply(
        self, task_id: str, answer: Answer, prompt: str, answers: Any = None, asked: str = PROMPT
    ) -> Answer:
        """The answer to the task that follows the one that was answered so."""
        earlier = {
            "id": task_id,
            "description": asked,
            "agent_response": answer.agent_response,
            "interrupts": answer.interrupts,
            "message_id": answer.message_id,
            "session_open": True,
        }
        kept = follow_up(earlier, None, prompt, answers)
        kept |= {name: json.loads(kept[name]) for name in ("history", "resume") if name in kept}
        del kept["follows"]
        return self.run(f"{task_id}-reply", prompt, **kept)


@pytest.fixture(scope="module")
def python_agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of agents.py, below which each agent has its path."""
    port, python = str(free_port()), environments.python("ag_ui", "ag_ui_langgraph")
    url, command = (
        f"http://127.0.0.1:{port}",
        [python, "-W", "ignore", str(SERVERS / "agents.py"), port],
    )
    log = tmp_path_factory.mktemp("frameworks") / "python.log"
    with running(command, log, f"{url}/returning/ping", ROOT, PYTHONPATH=str(ROOT)):
        yield url


Make = Callable[..., Worker]


@pytest.fixture(scope="module")
def runtime_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Gives the address of a runtime whose agent is at an address."""
    with ExitStack() as stack:

        @functools.cache
        def start(agent_url: str) -> str:
            port, log = str(free_port()), tmp_path_factory.mktemp("runtime") / "runtime.log"
            arguments = ["-m", "local.runtime", "--port", port, "--agent", agent_url]
            runtime = f"http://127.0.0.1:{port}"
            command = [sys.executable, "-W", "ignore", *arguments]
            stack.enter_context(running(command, log, f"{runtime}/invocations", ROOT))
            return runtime

        yield start


@pytest.fixture
def make(runtime_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Make:
    """Gives a worker whose agent is at an address."""

    def make(agent_url: str, protocol: str = HTTP) -> Worker:
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", runtime_of(agent_url))
        return Worker(protocol)

    return make


@pytest.fixture
def worker(python_agents: str, make: Make) -> Make:
    """Gives a worker whose agent is one of agents.py."""
    return lambda name, protocol=HTTP: make(f"{python_agents}/{name}", protocol)


def test_aws_sdk_for_python_takes_the_call(worker: Make):
    answer = worker("returning").run("t-1", thread_id="t-0", history=[{"id": "t-0"}])
    got, prompt = json.loads(answer.agent_response)
    assert got == ["history", "prompt", "report", "task_id", "thread_id", "user_id"]
    assert prompt == PROMPT


def test_a_body_of_pydantic_s_takes_the_call(worker: Make):
    assert worker("fastapi").run("t-1").agent_response == PROMPT


def test_aws_s_template_for_strands_takes_the_call(worker: Make):
    """It hands what it finds under "messages" to Strands; so there is no such key."""
    history = [{"id": "t-0", "role": "user", "content": "Hello"}]
    assert worker("template").run("t-1", history=history).agent_response == PROMPT


def test_the_ag_ui_app_of_the_sdk_takes_the_call_and_its_follow_up(worker: Make):
    agent = worker("agui", AGUI)
    answer = agent.run("t-1")
    assert answer.agent_response == f"Heard {PROMPT}"
    answer = agent.reply("t-1", answer, "And a painter?")
    assert answer.agent_response == f"Heard {PROMPT} / Heard {PROMPT} / And a painter?"


@pytest.mark.parametrize("kind", ["returning", "streaming"])
def test_aws_sdk_for_typescript_takes_the_call(kind: str, tmp_path: Path, make: Make):
    folder, port = environments.node(NPM), free_port()
    script = folder / f"{kind}.mjs"  # packages are looked for beside the script
    shutil.copy(SERVERS / "agents.mjs", script)
    url, command = f"http://127.0.0.1:{port}", [shutil.which("node") or "", str(script), kind]
    with running(command, tmp_path / "log", f"{url}/ping", folder, PORT=str(port)):
        worker = make(url)
        assert worker.run("t-1").agent_response == PROMPT
        assert worker.said == ["Comparing quotes"] * (kind == "streaming")


@pytest.mark.parametrize("name", ["strands", "langgraph", "langgraph-outcome"])
@pytest.mark.parametrize("agreed", [True, False, None])
def test_an_agent_that_asked_goes_on_where_it_stopped_with_the_person_s_answer(
    worker: Make, name: str, agreed: bool | None
):
    """Its tool waits in the agent's own process, as AgentCore keeps it; None cancels the question."""
    agent, task_id = worker(name, AGUI), f"{name}-{agreed}-{time.monotonic_ns()}"

    asked = agent.run(task_id)

    assert agent.said == [LOOKING, f"Using {'book' if name == 'strands' else 'book_too'}"]
    (interrupt,) = asked.interrupts
    assert interrupt["message"] == QUESTION
    assert interrupt["response_schema"] == {"type": "boolean"}
    answers = {} if agreed is None else {interrupt["id"]: agreed}
    answer = agent.reply(task_id, asked, "Yes, do", answers)
    # The adapters say each in its own way that a question was cancelled.
    cancelled = "{'cancelled': True}"
    if name != "strands":
        cancelled = "['__agui_cancelled__', 'interrupt_id']"
    assert answer.agent_response == f"Green Fern: {cancelled if agreed is None else agreed}"
    assert answer.interrupts == []


@pytest.mark.parametrize("name", ["strands", "langgraph", "langgraph-whole"])
def test_what_was_said_before_is_read_once_whether_the_process_remembers_it_or_not(
    worker: Make, name: str
):
    agent, asked = worker(name, AGUI), "What did I say?"
    task_id = f"{name}-{time.monotonic_ns()}"
    first = agent.run(task_id, asked)
    assert first.agent_response == f"I read: {asked}"

    for earlier in (task_id, f"{task_id}-forgotten"):
        answer = agent.reply(earlier, first, "What then?", asked=asked)
        assert answer.agent_response == f"I read: {asked} / I read: {asked} / What then?"


# ---- the examples that need an environment of their own

SCRIPT = """
import agent, sys, uvicorn
from tests.agents.model import Call, ScriptedModel

class Model(ScriptedModel):
    async def stream(self, messages, *args, **kwargs):
        if self.called == len(self.turns):
            self.turns.append(["So: " + messages[-1]["content"][0]["toolResult"]["content"][0]["text"]])
        async for event in super().stream():
            yield event

model = Model(
    ["I look for landscapers.", Call("find_vendors", {"service": "landscaper", "city": "Charlotte"})],
    [Call("show_vendors", {"vendors": [{"id": "v1", "name": "Green Fern", "price": 240}]})],
    ["I have found one.", Call("book", {"name": "Green Fern", "price": 240})],
)
uvicorn.run(agent.build_app(model), port=int(sys.argv[1]), log_level="warning")
"""


@pytest.mark.parametrize("agreed, told", [(True, "is booked."), (False, "said no.")])
def test_the_ag_ui_agent_shows_vendors_asks_and_books(
    make: Make, tmp_path: Path, agreed: bool, told: str
):
    python, port = environments.python("ag_ui", "ag_ui_langgraph"), free_port()
    command = [python, "-W", "ignore", "-c", SCRIPT, str(port)]
    url, path = f"http://127.0.0.1:{port}", os.pathsep.join([str(ROOT), "."])
    with running(
        command, tmp_path / "log", f"{url}/ping", EXAMPLES / "ag_ui_agent", PYTHONPATH=path
    ):
        worker = make(url, AGUI)
        asked = worker.run("t-1")
        using = [f"Using {name}" for name in ("find_vendors", "show_vendors")]
        said = ["I look for landscapers.", *using, "I have found one.", "Using book"]
        assert worker.said == said
        vendor = {"id": "v1", "name": "Green Fern", "price": 240, "emails": []}
        assert asked.vendors == [vendor]
        (interrupt,) = asked.interrupts
        assert interrupt["message"] == "Green Fern asks $240. Shall I book it?"
        assert interrupt["response_schema"] == {"type": "boolean"}
        answer = worker.reply("t-1", asked, "Here you are", {interrupt["id"]: agreed})
        assert answer.agent_response.endswith(told)


def test_the_typescript_agent_compares_asks_and_books_in_another_process(
    make: Make, tmp_path: Path
):
    folder, port = environments.node(NPM), free_port()
    for name in ("agent.ts", "package.json", "tsconfig.json"):
        shutil.copy(EXAMPLES / "typescript_agent" / name, folder)
    environments.run(["npm", "run", "build"], folder)
    url, node = f"http://127.0.0.1:{port}", shutil.which("node") or ""
    command = [node, *PACKAGE["scripts"]["start"].split()[1:]]

    def run(task: Callable[[Worker], Answer]) -> tuple[Answer, list[str]]:
        with running(command, tmp_path / "log", f"{url}/ping", folder, PORT=str(port)):
            worker = make(url)
            return task(worker), worker.said

    asked, said = run(lambda worker: worker.run("t-1"))
    assert said == ["Comparing prices"]
    assert asked.agent_response == "Dogwood Care asks $195. Shall I book it?"
    assert [vendor["price"] for vendor in asked.vendors] == [195, 240]
    (question,) = asked.interrupts
    assert question == {
        "id": "book-v2",
        "message": asked.agent_response,
        "response_schema": {"type": "boolean"},
    }
    yes, said = run(lambda worker: worker.reply("t-1", asked, "Yes", {"book-v2": True}))
    assert (said, yes.agent_response) == (
        ["Booking Dogwood Care"],
        "Dogwood Care is booked for $195.",
    )
    no, _ = run(lambda worker: worker.reply("t-1", asked, "No", {}))
    assert no.agent_response == "Nothing was booked."
