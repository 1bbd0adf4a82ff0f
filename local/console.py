"""What a local run shows beside a task: its scripts, its addresses, and what its functions log."""

import shlex
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clients.python.valro_client.console import EVENT_MARKS, Console, clean

LOG_TEXT_CHARACTERS = 2000


def show_script_line(console: Console, text: str) -> None:
    """Writes a line that a script said; whole where it may be read by a program."""
    width = console.width - 4 if console.is_terminal else max(len(text), 1)
    for piece in textwrap.wrap(clean(text), width) or [""]:
        console.line(console.styled(f"  │ {piece}", "dim"))


def show_addresses(console: Console, api_url: str, page_url: str, endpoint: str) -> None:
    """Writes where everything is."""
    console.heading("The addresses")
    console.line(f"  page  {page_url} (open it in a browser)")
    console.line(f"  docs  {page_url}docs/ (the API's reference)")
    console.line(f"  API   {api_url}")
    console.line(f"  AWS   {endpoint}")
    console.heading("For the .env of a frontend, under the name that it reads")
    console.line(f"  API_URL={api_url}")


def show_shell(console: Console, shell_file: Path, commands: Iterable[str]) -> None:
    """Writes how to look behind the API, or to do by hand what a script does."""
    console.heading("For another terminal: its AWS commands then go to the local AWS")
    console.line(f"  . {shlex.quote(str(shell_file))}")
    for command in commands:
        console.line(f"  {command}")


USAGE = (
    "curl -s \"$API_URL/tasks\" -H 'Content-Type: application/json' \\",
    """  -d '{"description": "Find me a painter in Austin under $400"}'""",
    'curl -s "$API_URL/tasks"',
    "aws dynamodb scan --table-name valro-tasks",
    "aws logs filter-log-events --log-group-name /aws/lambda/valro-worker \\",
    "  --query 'events[].message' --output text",
)
"""What to try on a deployed stack."""

EMPTY_USAGE = (
    "./deploy.sh",
    "./create-infrastructure.sh",
    "./destroy-infrastructure.sh",
)
"""What to try on an empty account."""


def show_log_line(console: Console, line: dict[str, Any]) -> None:
    """Writes a line of a log: a task's outcome, or what went wrong with it.

    A long text is shown by its beginning: the whole of it is in the log.
    """
    failed = line.get("level") in {"WARNING", "ERROR"}
    mark, style = EVENT_MARKS["error" if failed else "success"]
    took = f" ({line['duration_ms'] / 1000:.1f} s)" if "duration_ms" in line else ""
    part = f" (part {line['part']} of {line['parts']})" if line.get("parts", 1) > 1 else ""
    console.line(
        f"  {clean(str(line.get('task_id', '')))}  {console.styled(mark, style)} "
        f"{clean(str(line.get('message', '')))}{part}{took}"
    )
    for name in ("text", "detail"):
        if line.get(name):
            text = str(line[name])
            rest = len(text) - LOG_TEXT_CHARACTERS
            console.text(text[:LOG_TEXT_CHARACTERS], indent="      ")
            if rest > 0:
                console.text(f"… and {rest:,} characters more in the worker's log", indent="      ")
