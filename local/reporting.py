"""The sample agent at work on a task that it reports on, in a process that dies with its session.

The process is what on AWS is the session's machine: whoever stops the session kills it, without a
word to anybody. It reads the payload from its standard input, where no list of processes shows the
token.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from examples.reporting_agent.reporter import Reporter
from local import PACE_VARIABLE
from local.behaviours import read_behaviour
from local.faults import SampleAgentError
from local.vendors import build_answer, carry_out, progress_lines

ROOT = Path(__file__).resolve().parent.parent


def start_reporting(
    payload: dict[str, Any], stopped: threading.Event, ended: Callable[[], Any]
) -> None:
    """Starts the work; `stopped` kills it, `ended` is called when it is over."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local.reporting"], stdin=subprocess.PIPE, cwd=ROOT, text=True
    )

    def see_it_out() -> None:
        process.communicate(json.dumps(payload))
        ended()

    def kill_it_when_stopped() -> None:
        while process.poll() is None:
            if stopped.wait(0.05):
                process.kill()
                return

    for watch in (see_it_out, kill_it_when_stopped):
        threading.Thread(target=watch, daemon=True).start()


class _Doomed(Reporter):
    """Is gone without a word, process and all, when its first report was received."""

    def _deliver(self, report: dict[str, Any]) -> None:
        super()._deliver(report)
        os.kill(os.getpid(), signal.SIGKILL)


def work(payload: dict[str, Any]) -> None:
    """Does what the sample agent does, and reports it; goes wrong as the prompt says."""
    prompt = payload["prompt"]
    behaviour, seconds = read_behaviour(prompt)
    answer = build_answer(prompt)
    lines = progress_lines(prompt, answer)
    pause = float(os.environ.get(PACE_VARIABLE, "0")) if seconds is None else seconds / len(lines)
    is_doomed = behaviour == "report-die"
    with _Doomed(payload) if is_doomed else Reporter(payload) as report:
        for line in lines:
            carry_out(line, answer)
            report.say(line)
            report.stopped.wait(None if is_doomed else pause)
        if behaviour == "report-fail":
            raise SampleAgentError("The sample agent was told to fail.")
        report.finish(answer)


if __name__ == "__main__":
    work(json.load(sys.stdin))
