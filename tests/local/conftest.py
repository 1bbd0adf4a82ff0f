"""`python -m local`, run as a person runs it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from local import REGION
from local.aws import AGENT_RUNTIME_ARN, ROOT

SECONDS = 180


class Run:
    """A running `python -m local` with a TMPDIR of its own, in a process group of its own."""

    def __init__(self, folder: Path, *arguments: str, cwd: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "local", *arguments],
            cwd=cwd,
            env={**os.environ, "TMPDIR": str(folder), "PYTHONIOENCODING": "utf-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self.lines: list[str] = []

    def read_until(self, words: str) -> None:
        """Reads what the program says until a line has these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if words in line:
                return
        pytest.fail(f"It ended before it said {words!r}:\n{self.text()}\n{self.finish()}")

    def interrupt(self, number: int) -> None:
        """Sends the signal to the whole group, as a terminal does with Ctrl-C."""
        os.killpg(self.process.pid, number)

    def finish(self) -> tuple[int, str]:
        """Waits for the end; returns exit status and standard error."""
        output, errors = self.process.communicate(timeout=SECONDS)
        self.lines += output.splitlines()
        return self.process.returncode, errors

    def text(self) -> str:
        return "\n".join(self.lines)

    def found(self, pattern: str) -> str:
        """Returns what the pattern's group matches in the line that is like it."""
        matches = [found[1] for line in self.lines if (found := re.fullmatch(pattern, line))]
        assert len(matches) == 1, self.text()
        return matches[0]

    def left_behind(self) -> list[str]:
        """Names what is left: files in its TMPDIR, and processes that know of it."""
        files = [str(path) for path in self.folder.iterdir()]
        return files + [f"process {pid}" for pid in processes_that_know(self.folder)]


class RuntimeClient:
    """Calls an agent's runtime as the worker does."""

    def __init__(self, endpoint: str) -> None:
        self.client = boto3.client(
            "bedrock-agentcore",
            region_name=REGION,
            endpoint_url=endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def invoke(
        self,
        prompt: str,
        task_id: str = "",
        session: str = "",
        options: dict[str, str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """The answer to a payload; ``options`` are the call's own, such as ``accept``."""
        payload = {"prompt": prompt, "task_id": task_id or str(uuid.uuid4()), **more}
        answer: dict[str, Any] = self.client.invoke_agent_runtime(
            agentRuntimeArn=AGENT_RUNTIME_ARN,
            runtimeSessionId=session or str(uuid.uuid4()),
            payload=json.dumps(payload),
            **(options or {}),
        )
        return answer

    def stop(self, session: str) -> None:
        self.client.stop_runtime_session(
            agentRuntimeArn=AGENT_RUNTIME_ARN, runtimeSessionId=session
        )


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts `python -m local`; whatever a failing test leaves behind is gone after it."""
    folder = tmp_path / "temporary files"
    folder.mkdir()
    runs: list[Run] = []

    def start_one(*arguments: str, cwd: Path = ROOT) -> Run:
        runs.append(Run(folder, *arguments, cwd=cwd))
        return runs[-1]

    yield start_one
    for run in runs:
        with run.process:
            run.process.kill()
    for pid in processes_that_know(folder):
        with contextlib.suppress(ProcessLookupError):  # the run's watchdog may be faster
            os.kill(pid, signal.SIGKILL)


def processes_that_know(folder: Path) -> list[int]:
    """The processes in whose environment or command line this folder stands."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            known = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in known:
            found.append(int(process.name))
    return found


@pytest.fixture
def signals() -> Iterator[None]:
    """Puts back what main() sets."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
