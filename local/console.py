"""What a person sees: a task's timeline as it grows, and its answer.

On a terminal there is a little colour and a line that tells what is being waited for; elsewhere, and
with NO_COLOR set, there are plain lines. Text from users and agents is stripped of control characters.
"""

import itertools
import os
import shlex
import shutil
import textwrap
import threading
import time
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_STATUS_STYLES = {
    "pending": "yellow",
    "processing": "cyan",
    "completed": "green",
    "error": "red",
}
_EVENT_MARKS = {"success": ("✔", "green"), "error": ("✘", "red"), "info": ("●", "dim")}
_ASCII_MARKS = {"✔": "+", "✘": "x", "●": "*", "│": "|"}
_SPINNER = "|/-\\"
MAX_WIDTH = 100
LOG_TEXT_CHARACTERS = 2000


class Console:
    """Writes to one stream, which may be a terminal; safe to use from several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._has_color = self._is_terminal and not os.environ.get("NO_COLOR")
        self._lock = threading.RLock()
        self._waiting_line = ""

    @property
    def width(self) -> int:
        """How many columns text may take."""
        columns = shutil.get_terminal_size((MAX_WIDTH, 24)).columns if self._is_terminal else 0
        return min(columns or MAX_WIDTH, MAX_WIDTH)

    def line(self, text: str = "") -> None:
        """Writes a line; a line of waiting stays below it."""
        with self._lock:
            self._erase()
            self._stream.write(self._encodable(text) + "\n")
            self._draw()

    def heading(self, text: str) -> None:
        """Writes a heading after an empty line."""
        self.line()
        self.line(self.styled(text, "bold"))

    def text(self, text: str, indent: str = "  ") -> None:
        """Writes text in as many lines as the width asks for."""
        for paragraph in text.splitlines() or [""]:
            wrapped = textwrap.wrap(clean(paragraph), self.width - len(indent)) or [""]
            for piece in wrapped:
                self.line(f"{indent}{piece}".rstrip())

    def script_line(self, text: str) -> None:
        """Writes a line that a script said; whole where it may be read by a program."""
        width = self.width - 4 if self._is_terminal else max(len(text), 1)
        for piece in textwrap.wrap(clean(text), width) or [""]:
            self.line(self.styled(f"  │ {piece}", "dim"))

    def styled(self, text: str, style: str) -> str:
        """Returns the text in a style, or as it is where there is no colour."""
        return f"\033[{_STYLES[style]}m{text}\033[0m" if self._has_color else text

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Tells what is being waited for and for how long: moving on a terminal, else one line."""
        if not self._is_terminal:
            self.line(f"{what} …")
            yield
            return
        done = threading.Event()
        spinner = threading.Thread(target=self._spin, args=(what, done), daemon=True)
        spinner.start()
        try:
            yield
        finally:
            done.set()
            spinner.join()
            with self._lock:
                self._erase()
                self._waiting_line = ""
                self._stream.flush()

    def _spin(self, what: str, done: threading.Event) -> None:
        start = time.monotonic()
        for mark in itertools.cycle(_SPINNER):
            with self._lock:
                self._erase()
                seconds = time.monotonic() - start
                self._waiting_line = f"{mark} {what} … {seconds:.0f} s"[: self.width - 1]
                self._draw()
            if done.wait(0.1):
                return

    def _erase(self) -> None:
        if self._waiting_line:
            self._stream.write("\r\033[K")

    def _draw(self) -> None:
        if self._waiting_line:
            self._stream.write(self._encodable(self.styled(self._waiting_line, "dim")))
        self._stream.flush()

    def _encodable(self, text: str) -> str:
        encoding = self._stream.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            for mark, plain in _ASCII_MARKS.items():
                text = text.replace(mark, plain)
            return text.replace("…", "...").encode(encoding, "replace").decode(encoding)
        return text


class Timeline:
    """A task's events, each written once, when a poll first shows it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = 0

    def show(self, task: dict[str, Any]) -> None:
        """Writes the events that are new since the last poll."""
        events = task["events"]
        start = _moment(task["created_at"])
        for event in events[self._shown :]:
            mark, style = _EVENT_MARKS.get(event["type"], _EVENT_MARKS["info"])
            seconds = (_moment(event["ts"]) - start).total_seconds()
            status = _status_after(event, task)
            self._console.line(
                f"  {max(seconds, 0):6.1f} s  "
                f"{self._console.styled(f'{status:<10}', _STATUS_STYLES.get(status, 'dim'))}  "
                f"{self._console.styled(mark, style)} {clean(event['message'])}"
            )
        self._shown = len(events)


def show_answer(console: Console, task: dict[str, Any]) -> None:
    """Writes what came of a task: the answer with vendors, e-mails and quotes, or the error."""
    if task["status"] != "completed":
        console.heading("Error")
        console.text(str(task.get("error_message", "The task has not ended.")))
        return
    console.heading("Answer")
    console.text(str(task.get("agent_response", "")))
    _show_vendors(console, task["vendors"])
    _show_quotes(console, task["quotes"], task["vendors"])
    count = task.get("emails_sent") or 0
    # 0 may mean that the agent did not say.
    if count:
        console.heading(f"{count} e-mail{'' if count == 1 else 's'} sent")


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
    mark, style = _EVENT_MARKS["error" if failed else "success"]
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


def clean(text: str) -> str:
    """Returns text without control characters, which could take over a terminal."""
    return "".join(
        letter if unicodedata.category(letter)[0] != "C" or letter == "\u200d" else " "
        for letter in text
    )


def _show_vendors(console: Console, vendors: list[dict[str, Any]]) -> None:
    if vendors:
        console.heading("Vendors, and the e-mails they were sent")
    for vendor in vendors:
        details = [clean(str(vendor[key])) for key in ("email", "phone") if vendor.get(key)]
        if vendor.get("rating") is not None:
            details.append(f"{clean(str(vendor['rating']))} of 5")
        name = console.styled(clean(str(vendor.get("name", "(no name)"))), "bold")
        console.line("  " + "  ".join([name, *details]))
        for email in vendor.get("emails", []):
            sent = clean(str(email.get("timestamp", "")))
            subject = clean(str(email.get("subject", "")))
            console.line(console.styled(f"    {sent}  {subject}", "dim"))


def _show_quotes(
    console: Console, quotes: list[dict[str, Any]], vendors: list[dict[str, Any]]
) -> None:
    """Writes quotes in either form: with vendor and price, or with vendor_id and amount."""
    if not quotes:
        return
    console.heading("Quotes")
    by_id = {str(vendor["id"]): vendor.get("name") for vendor in vendors if "id" in vendor}
    for quote in quotes:
        vendor_id = str(quote.get("vendor_id", ""))
        name = clean(str(quote.get("vendor") or by_id.get(vendor_id) or vendor_id))
        price = quote.get("price", quote.get("amount", ""))
        amount = f"{price:,.2f}" if isinstance(price, int | float) else clean(str(price))
        console.line(f"  {name:<30}  {amount:>10} {clean(str(quote.get('currency', '')))}")


def _status_after(event: dict[str, str], task: dict[str, Any]) -> str:
    """Returns the status that a task has since this event."""
    if event is task["events"][-1] and task["status"] in {"completed", "error"}:
        return str(task["status"])
    return "pending" if event is task["events"][0] else "processing"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
