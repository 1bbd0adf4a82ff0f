"""The whole backend on this machine: one task end to end, then an API and a page to try.

It starts MiniStack (a local AWS) and a sample agent, deploys the backend to it with the project's
own scripts, posts a task, shows its timeline as a poller sees it grow, and serves until Ctrl-C.
With --agent, your own agent takes the sample's place, and no task is posted unless you name one.
Addresses stay the same from run to run, as long as their ports are free.
"""

import argparse
import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import socket
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from clients.python.valro_client import Task, ValroError
from clients.python.valro_client.console import Console, follow
from local.addresses import (
    AWS_PORT,
    PAGE_PORT,
    listen,
    listen_nearby,
    port_of,
    shell_file,
    shell_lines,
)
from local.aws import ROOT, Api, LocalError, LocalStack, ScriptFailed, local_stack
from local.behaviours import BEHAVIOURS
from local.console import (
    EMPTY_USAGE,
    USAGE,
    show_addresses,
    show_log_line,
    show_script_line,
    show_shell,
)
from local.page_server import serve_page

DESCRIPTION = "Find me a landscaper in Charlotte under $300"
POLL_SECONDS = 0.3
LOG_SECONDS = 1
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
        with contextlib.ExitStack() as exits:
            aws, page = map(exits.enter_context, _listeners(console, options))
            with console.waiting("Starting a local AWS"):
                stack = exits.enter_context(
                    local_stack(
                        listener=aws,
                        agent=options.agent,
                        protocol=options.protocol or "HTTP",
                        pace=options.pace,
                    )
                )
            console.line(f"MiniStack, a local AWS, is at {stack.endpoint}; {_agent(options)}")
            if options.empty:
                return _serve_empty(console, stack)
            _deploy(console, stack)
            if options.once:
                task = _run_task(console, stack.api, options.description)
                return 0 if task["status"] == "completed" else 1
            return _serve(console, stack, page, options.description)
    except ScriptFailed as error:
        print(f"\n{error.args[0]} Its output is above.", file=sys.stderr)
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


def _agent(options: argparse.Namespace) -> str:
    if options.agent:
        return f"the agent is yours at {options.agent}."
    return "the sample agent runs beside it, and only pretends to write e-mails."


def _deploy(console: Console, stack: LocalStack) -> None:
    start = time.monotonic()
    console.heading("./deploy.sh and ./create-infrastructure.sh")
    with console.waiting("Deploying"):
        stack.deploy(functools.partial(show_script_line, console))
    seconds = time.monotonic() - start
    console.line(
        f"Deployed in {seconds:.1f} s. Only programs on this machine, and pages served from it, are answered."
    )


def _serve(
    console: Console, stack: LocalStack, page: socket.socket, description: str | None
) -> int:
    """Serves API and page; a task that is given is posted first."""
    with (
        serve_page(stack.api.url, page) as page_url,
        _shell(stack, stack.api.url) as file,
    ):
        if description:
            _run_task(console, stack.api, description)
        show_addresses(console, stack.api.url, page_url, stack.endpoint)
        show_shell(console, file, USAGE)
        console.line()
        return _wait(console, stack)


def _serve_empty(console: Console, stack: LocalStack) -> int:
    """Serves an AWS in which nothing is deployed yet."""
    with _shell(stack, None) as file:
        console.line("Nothing is deployed there.")
        show_shell(console, file, EMPTY_USAGE)
        console.line()
        return _wait(console, stack)


@contextlib.contextmanager
def _shell(stack: LocalStack, api_url: str | None) -> Iterator[Path]:
    lines = shell_lines(stack.aws_environment(), api_url, Path(sys.executable).parent)
    with shell_file(ROOT / "build", stack.port, lines) as file:
        yield file


def _run_task(console: Console, api: Api, description: str) -> Task:
    """Posts a task, shows its timeline until it is final, then its answer; returns the task."""
    # Imported here: --help needs nothing that is not in Python itself.
    import httpx  # noqa: PLC0415

    from clients.python.valro_client import ValroClient  # noqa: PLC0415

    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, POLL_SECONDS))

    direct = httpx.Client(trust_env=False)  # a proxy does not reach this machine
    try:
        with ValroClient(api.url, http=direct, sleep=sleep) as client:
            console.heading(f"POST {api.url}/tasks")
            console.text(description)
            task_id = client.create_task(description)["id"]
            console.heading(f"GET {api.url}/tasks/{task_id}")
            return follow(console, client, task_id, TASK_SECONDS)
    except ValroError as error:
        raise LocalError(str(error)) from error


def _wait(console: Console, stack: LocalStack) -> int:
    """Shows what the functions log until Ctrl-C."""
    try:
        # Imported here: --help needs nothing that is not in Python itself.
        from local.task_log import TaskLog  # noqa: PLC0415

        log = TaskLog(stack.endpoint)
        console.line("Serving until Ctrl-C. Below: how each task ended, and what its agent sent")
        console.line("that was not understood.")
        while not stack.ended_program():
            for line in log.new_lines():
                show_log_line(console, line)
            time.sleep(LOG_SECONDS)
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
    for module in ("ministack", "bedrock_agentcore", "uvicorn", "aiohttp", "httpx"):
        if importlib.util.find_spec(module) is None:
            raise LocalError(
                f"{sys.executable} has no {module}. "
                "Use `make run`; it makes a .venv, with which .venv/bin/python -m local works too."
            )
    if shutil.which("bash") is None:
        raise LocalError("There is no bash on the PATH. Install it: the scripts are written in it.")


def _listeners(
    console: Console, options: argparse.Namespace
) -> tuple[socket.socket, socket.socket]:
    """Returns the sockets of AWS and of the page, on the ports that are the same at every run."""
    if options.port == 0 or (options.once and options.port is None):
        return listen(), listen()
    if options.port is not None:
        aws = _listen_as_asked(options.port)
        return aws, _listen_nearby(console, "the page", options.port % 65535 + 1)
    aws = _listen_nearby(console, "AWS", AWS_PORT)
    return aws, _listen_nearby(console, "the page", PAGE_PORT)


def _listen_as_asked(port: int) -> socket.socket:
    try:
        return listen(port)
    except OSError as error:
        raise LocalError(
            f"Port {port} cannot be used ({os.strerror(error.errno or 0)}). Name another one with --port, "
            "or leave --port out to take one that is free."
        ) from error


def _listen_nearby(console: Console, whose: str, port: int) -> socket.socket:
    listener = listen_nearby(port)
    if (other := port_of(listener)) != port:
        console.line(
            f"Port {port} is in use by another program, so {whose} is at {other} this time."
        )
    return listener


def _read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    width = max(map(len, BEHAVIOURS))
    behaviours = "\n".join(
        f"  [agent: {words}]{' ' * (width - len(words))}  {what}"
        for words, what in BEHAVIOURS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description=__doc__,
        epilog=f"Words in a task make the sample agent misbehave:\n{behaviours}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "description",
        nargs="?",
        metavar="TASK",
        help=f"the task to post (default: {DESCRIPTION}; with --agent: none)",
    )
    parser.add_argument(
        "--once", action="store_true", help="stop after the task; 0 if it completed"
    )
    parser.add_argument(
        "--agent",
        type=_agent_url,
        metavar="URL",
        help="your own agent, which serves /invocations and /ping, for example http://127.0.0.1:8080",
    )
    parser.add_argument(
        "--protocol",
        type=str.upper,
        choices=("HTTP", "AGUI"),
        help="the protocol of your agent: HTTP (the default) or AGUI (AG-UI)",
    )
    parser.add_argument(
        "--empty",
        action="store_true",
        help="deploy nothing: an empty account to try the scripts in",
    )
    parser.add_argument(
        "--port",
        type=_port,
        help=f"the port of the local AWS, 0 for any ({AWS_PORT}; the page is at the next one)",
    )
    parser.add_argument(
        "--pace",
        type=_pace,
        default=0.7,
        metavar="SECONDS",
        help="how long each step of the sample agent takes (0.7)",
    )
    options = parser.parse_args(arguments)
    if options.description is not None and not options.description.strip():
        parser.error("the task is empty: write what is to be done, or leave it out")
    if options.empty and (options.once or options.description):
        parser.error("--empty deploys nothing that could take a task")
    if options.protocol and not options.agent:
        parser.error("--protocol is your agent's: give --agent too")
    if options.once and options.agent and not options.description:
        parser.error("--once with --agent needs a task: your agent may write to real people")
    if not options.agent and not options.description:
        options.description = DESCRIPTION
    return options


def _agent_url(text: str) -> str:
    try:
        parts = urllib.parse.urlsplit(text)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname)
        is_url = is_url and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:
        is_url = False
    if not is_url:
        raise argparse.ArgumentTypeError("an agent's address is like http://127.0.0.1:8080")
    return text.removesuffix("/").removesuffix("/invocations").removesuffix("/ping")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
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
