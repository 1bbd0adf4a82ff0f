"""Starts the stub and the subjects' processes, and reads what they cost."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.data import DESCRIPTION, TASK_COUNT, make_task, public
from benchmarks.subjects import ROOT, Subject, environment, event

CHILD = Path(__file__).with_name("child.py")
# The interpreter itself: a virtual environment's site-packages must not be seen.
PYTHON = [str(Path(sys.executable).resolve()), "-I", "-S", "-B"]
TASK = make_task(0)


class WrongAnswer(Exception):
    """A subject that does not answer as the API does."""


@dataclass(frozen=True)
class Case:
    """One thing to measure: who does what over which scheme."""

    subject: Subject
    operation: str
    scheme: str = "https"


@dataclass
class Series:
    """One figure for each round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    init_cpu: list[float] = field(default_factory=list)
    invoke_cpu: list[float] = field(default_factory=list)
    connections: list[float] = field(default_factory=list)


class Bench:
    """The stub and the packaged subjects, ready to measure."""

    def __init__(self, folders: dict[str, Path], ports: dict[str, int], work: Path) -> None:
        self.folders = folders
        self.ports = ports
        self.work = work

    def run(self, case: Case, **options: Any) -> dict[str, Any]:
        """Runs a subject in a fresh process and checks what it answers."""
        subject = case.subject
        events = [event(subject, case.operation, TASK["id"], DESCRIPTION)]
        variables = environment(self.ports, case.scheme, self.work)
        variables |= {"DYNAMODB_TABLE_NAME": subject.table}
        with child(subject, self.folders[subject.name], events, variables, **options) as process:
            self.control(f"/_watch/{process.pid}")
            result = result_of(process, subject)
        check_answer(case, result["answers"][0])
        result["stub"] = self.control("/_counts")
        return result

    def cold(self, case: Case) -> dict[str, float]:
        """One cold start, in seconds; a worker's ends when its agent is called."""
        result = self.run(case)
        init, invoke, start = result["init"], result["invoke"], result["start"]
        figures = {
            "wall": init["wall"] + invoke["wall"],
            "cpu": init["cpu"] + invoke["cpu"],
            "init_cpu": init["cpu"],
            "invoke_cpu": invoke["cpu"],
        }
        if called := result["stub"]["agent_called"]:
            figures["wall"] = called["wall"] - start["wall"]
            figures["cpu"] = called["cpu"] - start["cpu"]
            figures["invoke_cpu"] = figures["cpu"] - init["cpu"]
        return figures

    def warm(self, case: Case, seconds: float) -> dict[str, float]:
        """The median of a warm call, in seconds, in one process."""
        result = self.run(case, seconds=seconds)
        calls = result["warm"]["calls"] + 4
        connections = result["stub"]["connections"]
        figures = {name: result["warm"][name] for name in ("wall", "cpu")}
        return figures | {"connections": connections / calls}

    def count(self, case: Case) -> tuple[int, int]:
        """How many modules a first request imports, and how many files it opens."""
        result = self.run(case, count=True)
        return result["modules"], result["files"]

    def control(self, path: str) -> dict[str, Any]:
        """Asks the stub itself."""
        url = f"http://127.0.0.1:{self.ports['http']}{path}"
        with urllib.request.urlopen(url, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
        return answer


def child(
    subject: Subject, folder: Path, events: Any, variables: dict[str, str], **options: Any
) -> subprocess.Popen[str]:
    """Starts a subject's handler on some events, in a process as Lambda's."""
    spec = {"folder": str(folder), "module": subject.module, "handler": "lambda_handler"}
    return subprocess.Popen(
        [*PYTHON, str(CHILD), json.dumps(spec | {"events": list(events)} | options)],
        env=variables,
        cwd=variables["HOME"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(process: subprocess.Popen[str], subject: Subject) -> dict[str, Any]:
    """What the handler answered, and what that took."""
    out, err = process.communicate(timeout=120)
    if process.returncode != 0:
        raise WrongAnswer(f"{subject.label} failed:\n{err}")
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def check_answer(case: Case, answer: dict[str, Any]) -> None:
    """Raises WrongAnswer unless the subject is the same API as all the others."""
    if case.subject.is_worker:
        if answer.get("outcome") != "completed":
            raise WrongAnswer(f"{case.subject.label} answered {answer}")
        return
    body = json.loads(answer["body"])
    for task in body if isinstance(body, list) else [body]:
        task.pop("thread_id", None)  # conversations are Valro's own
    status = 202 if case.operation == "post" else 200
    if case.operation == "post":
        matches = body.keys() == {"id", "status", "message"}
    elif case.operation == "get":
        matches = body == public(TASK)
    else:
        tasks = [public(make_task(number), listed=True) for number in range(TASK_COUNT)]
        matches = body == tasks
    if answer["statusCode"] != status or not matches:
        raise WrongAnswer(f"{case.subject.label} answered {case.operation} with {answer}")


@contextmanager
def stub(certificates: Path) -> Iterator[dict[str, int]]:
    """Runs the stub in its own process; gives its ports."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.servers", str(certificates)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None  # noqa: S101 - for mypy
    assert process.stdout is not None  # noqa: S101 - for mypy
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=10)


def interleave(cases: list[Case], rounds: int, measure: Any, seed: int) -> dict[Case, Series]:
    """Measures every case once a round, in random order."""
    order = random.Random(seed)
    series = {case: Series() for case in cases}
    for number in range(rounds):
        for case in order.sample(cases, len(cases)):
            for name, value in measure(case).items():
                getattr(series[case], name).append(value)
        progress(f"round {number + 1} of {rounds}")
    return series


def progress(text: str) -> None:
    """Says on stderr how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
