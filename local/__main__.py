"""`python -m local`: one task end to end on a local AWS, then an API to try.

It starts MiniStack (a local AWS) and the sample agent, deploys the backend to it with the project's
own scripts, posts a task, shows its timeline as a poller sees it grow, and serves until Ctrl-C.
"""

import argparse
import importlib.util
import os
import shutil
import signal
import sys
import time
from types import FrameType
from typing import Any, NoReturn

from local.aws import Api, LocalError, LocalStack, ScriptFailed, local_stack
from local.console import Console, Timeline, show_answer, show_usage
from local.faults import BEHAVIOURS
from local.page_server import serve_page

DESCRIPTION = "Find me a landscaper in Charlotte under $300"
POLL_SECONDS = 0.3
# The worker's own 600 s and more: by then a read must have ended the task.
TASK_SECONDS = 1200


class InterruptedBySignal(BaseException):
    """A signal asks to stop; its number becomes the exit status, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_status = 128 + number


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _read_arguments(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    console = Console(sys.stdout)
    try:
        _require_tools()
        with local_stack(port=options.port, pace=options.pace) as stack:
            return _show(console, stack, options)
    except ScriptFailed as error:
        print(f"\n{error.args[0]} What it said stands above.", file=sys.stderr)
        return 1
    except LocalError as error:
        sys.stdout.flush()
        print(f"\n{error}", file=sys.stderr)
        return 1
    except InterruptedBySignal as interruption:
        console.line("Stopped: no process and no temporary file is left.")
        return interruption.exit_status
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _show(console: Console, stack: LocalStack, options: argparse.Namespace) -> int:
    start = time.monotonic()
    console.line(
        f"MiniStack, a local AWS, is at {stack.endpoint}; the sample agent runs beside it."
    )
    console.heading("./deploy.sh and ./create-infrastructure.sh")
    with console.waiting("Deploying"):
        stack.deploy(console.script_line)
    console.line(f"Deployed in {time.monotonic() - start:.1f} s.")
    if options.once:
        task = _run_task(console, stack.api, options.description)
        return 0 if task["status"] == "completed" else 1
    with serve_page(stack.api.url) as page_url:
        task = _run_task(console, stack.api, options.description)
        show_usage(console, stack.api.url, stack.endpoint, task["id"])
        console.heading(f"The page is at {page_url}")
        return _serve(console, stack)


def _run_task(console: Console, api: Api, description: str) -> dict[str, Any]:
    """Posts a task, shows its timeline until it is final, then its answer; returns the task."""
    console.heading(f"POST {api.url}/tasks")
    console.text(description)
    answer = api.request("POST", "/tasks", {"description": description})
    if answer.status != 202:
        raise LocalError(f"The API answered {answer.status}:", answer.body.decode(errors="replace"))
    task_id = answer.json()["id"]
    console.heading(f"GET {api.url}/tasks/{task_id}")
    timeline = Timeline(console)
    end = time.monotonic() + TASK_SECONDS
    with console.waiting("Polling"):
        while True:
            task: dict[str, Any] = api.request("GET", f"/tasks/{task_id}").json()
            timeline.show(task)
            if task["status"] in {"completed", "error"}:
                break
            if time.monotonic() > end:
                raise LocalError(f"The task has not ended within {TASK_SECONDS} s.")
            time.sleep(POLL_SECONDS)
    show_answer(console, task)
    return task


def _serve(console: Console, stack: LocalStack) -> int:
    console.line("Serving until Ctrl-C.")
    try:
        while not stack.ended_program():
            time.sleep(0.5)
    except InterruptedBySignal:
        console.line("\nStopping.")
        return 0
    raise LocalError(f"{stack.ended_program()} ended by itself.")


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    # From here on we clean up, which takes a moment; a second Ctrl-C must not cut that short.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise InterruptedBySignal(number)


def _require_tools() -> None:
    for module in ("ministack", "bedrock_agentcore", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            raise LocalError(
                f"{sys.executable} has no {module}. "
                "Use `make run`, or: pip install -r requirements-dev.txt"
            )
    if shutil.which("bash") is None:
        raise LocalError("There is no bash on the PATH. Install it: the scripts are written in it.")


def _read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    width = max(map(len, BEHAVIOURS))
    behaviours = "\n".join(
        f"  [agent: {words}]{' ' * (width - len(words))}  {what}"
        for words, what in BEHAVIOURS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description=__doc__,
        epilog=f"Words in a description make the sample agent misbehave:\n{behaviours}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("description", nargs="?", default=DESCRIPTION, help="the task to post")
    parser.add_argument(
        "--once", action="store_true", help="stop after the task; 0 if it completed"
    )
    parser.add_argument("--port", type=_port, help="where AWS is to be (default: any free port)")
    parser.add_argument(
        "--pace", type=_pace, default=0.7, metavar="SECONDS", help="time of an agent's step (0.7)"
    )
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def _pace(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= 60:
        raise argparse.ArgumentTypeError("a pace is a number of seconds from 0 to 60")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
