"""Agents, each in a process of its own, served as on AgentCore."""

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.addresses import free_port
from local.processes import Program
from tests.conftest import eventually
from valro.agent.answers import Answer
from valro.agent.reader import AgentReader

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


@contextmanager
def running(
    command: list[str], log: Path, ping: str, folder: Path, **env: str
) -> Iterator[Program]:
    """Runs a server until the end, from when it answers."""
    program = Program(log.stem, log)
    program.start(command, {"PYTHONDONTWRITEBYTECODE": "1", **env}, folder)

    def is_up() -> bool:
        assert not program.has_ended(), program.output()
        try:
            urllib.request.urlopen(ping, timeout=10).close()
        except OSError:
            return False
        return True

    try:
        eventually(is_up, bool, 90)
        yield program
    finally:
        program.stop()


class Agent:
    """A running agent."""

    def __init__(self, url: str, program: Program) -> None:
        self.url = url
        self.program = program

    def ping(self) -> str:
        """What it says of itself: Healthy or HealthyBusy."""
        with urllib.request.urlopen(f"{self.url}/ping", timeout=10) as answer:
            return str(json.load(answer)["status"])

    def read(self, payload: dict[str, Any]) -> tuple[Answer, list[str]]:
        """The answer and the timeline that the backend makes of its answer."""
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(
            f"{self.url}/invocations", json.dumps(payload).encode(), headers
        )
        said: list[str] = []
        with urllib.request.urlopen(asked, timeout=60) as response:
            reader = AgentReader(response.headers["Content-Type"], said.append)
            reader.feed(response.read())
        return reader.finish(), said


Serve = Callable[..., Agent]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts agents: an example, with a change, or some other code in another Python."""
    with ExitStack() as stack:

        def start(
            name: str, change: str = "", code: str = "", python: str = sys.executable
        ) -> Agent:
            port = free_port()
            script = SERVE.format(root=str(ROOT), change=change, port=port)
            folder = tmp_path if code else EXAMPLES / name
            if code:
                (folder / "agent.py").write_text(code, encoding="utf-8")
            url, log = f"http://127.0.0.1:{port}", tmp_path / f"{name}.log"
            command = [python, "-W", "ignore", "-c", script]
            return Agent(url, stack.enter_context(running(command, log, f"{url}/ping", folder)))

        yield start
