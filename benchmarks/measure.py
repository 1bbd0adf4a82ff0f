"""Runs the subjects' processes beside the stub, checks their answers, and reads what they cost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data import TASK, TASK_COUNT, event, make_task, public
from benchmarks.servers import Stub
from benchmarks.subjects import CONFIGURATION, Subject

SERVICES = ("DYNAMODB", "LAMBDA", "BEDROCK_AGENTCORE")
CHILD = Path(__file__).with_name("child.py")
# The interpreter itself: a virtual environment's site-packages must not be seen.
PYTHON = [str(Path(sys.executable).resolve()), "-I", "-S", "-B"]


class WrongAnswer(Exception):
    """A subject that does not answer as the API does."""


@dataclass(frozen=True)
class Case:
    """One thing to measure: who does what with which stub."""

    subject: Subject
    operation: str
    stub: Stub


class Bench:
    """The packaged subjects, ready to measure."""

    def __init__(self, folders: dict[str, Path], certificates: Path) -> None:
        self.folders = folders
        self.environment = CONFIGURATION | {"PATH": os.defpath, "LANG": "C.UTF-8"}
        # Read by the floor only, in place of the system's.
        self.environment |= {"SSL_CERT_FILE": str(certificates / "bundle.pem")}

    def run(self, case: Case, seconds: float = 0) -> dict[str, Any]:
        """Runs a subject in a fresh process and checks what it answers."""
        subject = case.subject
        folder = str(self.folders[subject.name])
        spec = {"folder": folder, "module": subject.module, "event": event(case.operation)}
        with subprocess.Popen(
            [*PYTHON, str(CHILD), json.dumps(spec | {"seconds": seconds})],
            env=self.environment
            | {f"AWS_ENDPOINT_URL_{name}": case.stub.url for name in SERVICES}
            | {"DYNAMODB_TABLE_NAME": subject.table},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            case.stub.watch(process.pid)
            out, err = process.communicate(timeout=120)
        if process.returncode != 0:
            raise WrongAnswer(f"{subject.label} failed:\n{err}")
        result: dict[str, Any] = json.loads(out.splitlines()[-1])
        check_answer(case, result["answer"])
        return result

    def cold(self, case: Case) -> dict[str, float]:
        """One cold start in seconds of CPU time; a worker's ends when its agent is called."""
        result = self.run(case)
        called = case.stub.agent_called
        cpu = called - result["start"] if called else result["cold"]
        return {"cpu": cpu, "init": result["init"]}

    def warm(self, case: Case, seconds: float) -> dict[str, float]:
        """The median of a warm call in seconds of CPU time, and the connections that one takes."""
        result = self.run(case, seconds)
        return {"cpu": result["warm"], "connections": case.stub.connections / result["calls"]}


def check_answer(case: Case, answer: dict[str, Any]) -> None:
    """Raises WrongAnswer unless the subject is the same API as all the others."""
    body = json.loads(answer.get("body", "{}"))
    for task in body if isinstance(body, list) else [body]:
        task.pop("thread_id", None)  # conversations are Valro's own
    match case.operation:
        case "run":
            matches = answer.get("outcome") == "completed"
        case "post":
            matches = answer["statusCode"] == 202 and body.keys() == {"id", "status", "message"}
        case "get":
            matches = answer["statusCode"] == 200 and body == public(TASK)
        case _:
            tasks = [public(make_task(number), listed=True) for number in range(TASK_COUNT)]
            matches = answer["statusCode"] == 200 and body == tasks
    if not matches:
        raise WrongAnswer(f"{case.subject.label} answered {case.operation} with {answer}")
