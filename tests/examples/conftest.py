"""The agents of examples/, each in a process of its own, served by the SDK as on AgentCore."""

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from local.addresses import free_port
from local.processes import Program
from tests.conftest import eventually

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
# What `python agent.py` does, on another port, and with what a test puts in the place of a model.
SERVE = """
import sys
sys.path[:0] = [".", {root!r}]
import agent
{change}
agent.app.run(port={port}, host="127.0.0.1", log_level="warning")
"""


class Agent:
    """A running agent."""

    def __init__(self, name: str, folder: Path, change: str, code: str = "") -> None:
        self.port = free_port()
        self.program = Program(name, folder / f"{name}.log")
        script = SERVE.format(root=str(ROOT), change=change, port=self.port)
        command = [sys.executable, "-W", "ignore", "-c", script]
        environment = {"PYTHONDONTWRITEBYTECODE": "1"}
        if code:
            (folder / "agent.py").write_text(code, encoding="utf-8")
        self.program.start(command, environment, folder if code else EXAMPLES / name)
        eventually(self.is_up, bool)

    def is_up(self) -> bool:
        """Whether it answers yet; fails if it has ended."""
        assert not self.program.has_ended(), self.program.output()
        try:
            return bool(self.ping())
        except OSError:
            return False

    def ping(self) -> str:
        """What it says of itself: Healthy or HealthyBusy."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=10) as answer:
            return str(json.load(answer)["status"])

    def invoke(self, payload: dict[str, Any]) -> HTTPResponse:
        """Its answer, as AgentCore gets it."""
        url = f"http://127.0.0.1:{self.port}/invocations"
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(payload).encode(), headers)
        answer: HTTPResponse = urllib.request.urlopen(request, timeout=60)
        return answer


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Starts agents, and stops them at the end."""
    with ExitStack() as stack:

        def start(name: str, change: str = "", code: str = "") -> Agent:
            agent = Agent(name, tmp_path, change, code)
            stack.callback(agent.program.stop)
            return agent

        yield start
