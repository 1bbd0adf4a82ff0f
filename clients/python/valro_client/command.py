"""The command `valro`: tasks from a shell.

The exit status is 0 if all went well (a task that was waited for: `completed`), 1 if the task ended
as error, 2 for a wrong usage, 3 if the API answered with an error, 4 if it could not be reached, did
not answer in time, or something else answered, and 130 after Ctrl-C.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .console import Console, Timeline, clean, follow, show_answer
from .errors import ApiError, ValroError
from .types import Task

if TYPE_CHECKING:
    from .client import ValroClient

TASK_FAILED, USAGE_ERROR, API_ERROR, NO_ANSWER, INTERRUPTED = 1, 2, 3, 4, 130
STATUSES = ("pending", "processing", "completed", "error")
LIST_LIMIT = 20

EPILOG = f"""\
exit status:
  0  all went well; a task that was waited for is completed
  {TASK_FAILED}  the task ended as error, or was cancelled
  {USAGE_ERROR}  wrong usage
  {API_ERROR}  the API answered with an error
  {NO_ANSWER}  the API did not answer in time, or something else answered
  {INTERRUPTED}  Ctrl-C; the task goes on
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_args(arguments)
    # Imported here: help and wrong usage need not wait for it.
    import httpx  # noqa: PLC0415

    from .client import ValroClient  # noqa: PLC0415

    notes = Console(sys.stderr)

    def on_retry(error: ValroError, seconds: float) -> None:
        notes.line(f"{error} Trying again in {seconds:.0f} s.")

    try:
        with ValroClient(options.api, token=options.token, on_retry=on_retry) as client:
            return int(options.run(client, options))
    except ApiError as error:
        notes.line(_sentence(error))
        return API_ERROR
    except (ValroError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        notes.line(str(error))
        return NO_ANSWER
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return TASK_FAILED


def run(client: "ValroClient", options: argparse.Namespace) -> int:
    """Creates a task and waits for its end."""
    accepted = client.create_task(options.description, idempotency_key=options.key)
    return _wait(client, options, accepted["id"])


def reply(client: "ValroClient", options: argparse.Namespace) -> int:
    """Goes on from a task that has ended."""
    accepted = client.reply(
        options.id,
        options.description,
        answers=dict(options.answer) or None,
        idempotency_key=options.key,
    )
    return _wait(client, options, accepted["id"])


def list_tasks(client: "ValroClient", options: argparse.Namespace) -> int:
    """Lists tasks, newest first."""
    page = client.list_tasks(limit=options.limit, status=options.status)
    if options.json:
        _print_json(page.tasks)
        return 0
    console = Console(sys.stdout)
    columns = shutil.get_terminal_size().columns if console.is_terminal else None
    for task in page.tasks:
        created = task["created_at"][:16].replace("T", " ")
        line = f"{task['id']}  {task['status']:<10}  {created}  {clean(task['description'])}"
        console.line(line[:columns])
    if page.next:
        Console(sys.stderr).line("There are more: --limit shows up to 100.")
    return 0


def show(client: "ValroClient", options: argparse.Namespace) -> int:
    """Shows a task as it is now, or until its end."""
    if options.watch:
        return _wait(client, options, options.id)
    task = client.get_task(options.id)
    if options.json:
        _print_json(task)
        return 0
    console = Console(sys.stdout)
    console.text(task["description"], indent="")
    Timeline(console).show(task)
    show_answer(console, task)
    return 0


def cancel(client: "ValroClient", options: argparse.Namespace) -> int:
    """Cancels a task."""
    task = client.cancel_task(options.id)
    if options.json:
        _print_json(task)
    elif task["status"] == "error":
        print("Cancelled.")
    else:
        print(f"The agent is being stopped. It takes a minute at most: valro show {options.id}")
    return 0


def delete(client: "ValroClient", options: argparse.Namespace) -> int:
    """Deletes a task that has ended."""
    client.delete_task(options.id)
    if options.json:
        _print_json({"id": options.id, "deleted": True})
    else:
        print("Deleted.")
    return 0


def _wait(client: "ValroClient", options: argparse.Namespace, task_id: str) -> int:
    """Shows a task until its end, unless it is only to be started."""
    if getattr(options, "detach", False):
        print(json.dumps({"id": task_id}) if options.json else task_id)
        return 0
    notes = Console(sys.stderr)
    try:
        if options.json:
            *_, task = client.watch_task(task_id, timeout=options.timeout)
            _print_json(task)
        else:
            notes.line(f"Task {task_id}")
            task = follow(Console(sys.stdout), client, task_id, options.timeout)
            _invite(notes, task)
    except (KeyboardInterrupt, ValroError):
        notes.line(f"The task goes on. Watch it: valro show --watch {task_id}")
        raise
    return 0 if task["status"] == "completed" else TASK_FAILED


def _invite(notes: Console, task: Task) -> None:
    """Says how to answer what the agent has asked."""
    if interrupts := task.get("interrupts"):
        answers = " ".join(f"--answer {clean(each['id'])}=…" for each in interrupts)
        notes.line(f"\nAnswer it: valro reply {task['id']} 'Your words' {answers}")


def _sentence(error: ApiError) -> str:
    request = f" (request {error.request_id})" if error.request_id else ""
    return f"{clean(str(error))}{request}"


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="valro",
        description="Hand a household task to an AI agent, then watch its progress.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, function: Callable[..., int], summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=f"{summary}.", epilog=EPILOG)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        command.set_defaults(run=function)
        command.add_argument(
            "--api",
            metavar="URL",
            type=_api_url,
            default=os.environ.get("API_URL", ""),
            help="where the API is (default: the variable API_URL)",
        )
        command.add_argument(
            "--token",
            default=os.environ.get("VALRO_TOKEN"),
            help="for an API with sign-in (default: the variable VALRO_TOKEN)",
        )
        command.add_argument("--json", action="store_true", help="print JSON, for programs")
        return command

    def add_waiting(command: argparse.ArgumentParser) -> None:
        command.add_argument("description", metavar="TEXT", type=_text, help="what to do, in words")
        command.add_argument("--detach", action="store_true", help="print the id and do not wait")
        command.add_argument(
            "--key", help="an Idempotency-Key of your own: the same key, the same task"
        )
        _add_timeout(command)

    add_waiting(add("run", run, "Create a task and watch it until its end"))
    listing = add("list", list_tasks, "List your tasks, newest first")
    listing.add_argument("--status", action="append", default=[], choices=STATUSES)
    listing.add_argument("--limit", type=int, default=LIST_LIMIT, help=f"1 to 100 ({LIST_LIMIT})")
    showing = add("show", show, "Show a task: its timeline and its answer")
    showing.add_argument("id")
    showing.add_argument("--watch", action="store_true", help="keep watching until it ends")
    _add_timeout(showing)
    add("cancel", cancel, "Cancel a task").add_argument("id")
    add("delete", delete, "Delete a task that has ended").add_argument("id")
    replying = add("reply", reply, "Reply to a task that has ended: answer it, or ask for more")
    replying.add_argument("id", help="the task that has ended")
    add_waiting(replying)
    replying.add_argument(
        "--answer",
        metavar="ID=JSON",
        action="append",
        type=_answer,
        default=[],
        help="the answer to one of the agent's questions, as JSON or else text",
    )
    return parser


def _add_timeout(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="stop waiting after that long"
    )


def _api_url(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise argparse.ArgumentTypeError("give the API's address: --api https://… or API_URL")
    return text


def _text(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: write what to do")
    return text


def _answer(text: str) -> tuple[str, Any]:
    name, is_given, value = text.partition("=")
    if not is_given:
        raise argparse.ArgumentTypeError("an answer is like booking=true or budget=300")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
