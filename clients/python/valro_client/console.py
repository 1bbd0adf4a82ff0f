"""What a person sees: a task's timeline as it grows, and its answer.

On a terminal there is a little colour and a line that tells what is being waited for; elsewhere, and
with NO_COLOR set, there are plain lines. Text from users and agents is stripped of control characters.
"""

import itertools
import os
import shutil
import textwrap
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from .types import Event, Quote, Task, Vendor, is_final

if TYPE_CHECKING:
    from .client import ValroClient

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_STATUS_STYLES = {
    "pending": "yellow",
    "processing": "cyan",
    "completed": "green",
    "error": "red",
}
EVENT_MARKS = {"success": ("✔", "green"), "error": ("✘", "red"), "info": ("●", "dim")}
_ASCII_MARKS = {"✔": "+", "✘": "x", "●": "*", "│": "|"}
_SPINNER = "|/-\\"
MAX_WIDTH = 100


class Console:
    """Writes to one stream, which may be a terminal; safe to use from several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._has_color = self.is_terminal and not os.environ.get("NO_COLOR")
        self._lock = threading.RLock()
        self._waiting_line = ""

    @property
    def width(self) -> int:
        """How many columns text may take."""
        columns = shutil.get_terminal_size((MAX_WIDTH, 24)).columns if self.is_terminal else 0
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

    def styled(self, text: str, style: str) -> str:
        """Returns the text in a style, or as it is where there is no colour."""
        return f"\033[{_STYLES[style]}m{text}\033[0m" if self._has_color else text

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Tells what is being waited for and for how long: moving on a terminal, else one line."""
        if not self.is_terminal:
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

    def show(self, task: Task) -> None:
        """Writes the events that are new since the last poll."""
        events = task["events"]
        start = _moment(task["created_at"])
        for event in events[self._shown :]:
            mark, style = EVENT_MARKS.get(event["type"], EVENT_MARKS["info"])
            seconds = (_moment(event["ts"]) - start).total_seconds()
            status = _status_after(event, task)
            self._console.line(
                f"  {max(seconds, 0):6.1f} s  "
                f"{self._console.styled(f'{status:<10}', _STATUS_STYLES.get(status, 'dim'))}  "
                f"{self._console.styled(mark, style)} {clean(event['message'])}"
            )
        self._shown = len(events)


def follow(console: Console, client: "ValroClient", task_id: str, timeout: float | None) -> Task:
    """Shows a task's timeline until its end, then what came of it; returns the task."""
    timeline = Timeline(console)
    with console.waiting("Polling"):
        for task in client.watch_task(task_id, timeout=timeout):
            timeline.show(task)
    show_answer(console, task)
    return task


def show_answer(console: Console, task: Task) -> None:
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
    for interrupt in task.get("interrupts", []):
        console.heading(f"The agent asks ({clean(interrupt['id'])})")
        console.text(interrupt.get("message", ""))


def clean(text: str) -> str:
    """Returns text without control characters, which could take over a terminal."""
    return "".join(
        letter if unicodedata.category(letter)[0] != "C" or letter == "\u200d" else " "
        for letter in text
    )


def _show_vendors(console: Console, vendors: list[Vendor]) -> None:
    if vendors:
        console.heading("Vendors, and the e-mails they were sent")
    for vendor in vendors:
        details = [clean(vendor[key]) for key in ("email", "phone") if vendor.get(key)]
        if vendor.get("rating") is not None:
            details.append(f"{clean(str(vendor['rating']))} of 5")
        name = console.styled(clean(vendor.get("name", "(no name)")), "bold")
        console.line("  " + "  ".join([name, *details]))
        for email in vendor["emails"]:
            sent = clean(email.get("timestamp", ""))
            subject = clean(email.get("subject", ""))
            console.line(console.styled(f"    {sent}  {subject}", "dim"))


def _show_quotes(console: Console, quotes: list[Quote], vendors: list[Vendor]) -> None:
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
        console.line(f"  {name:<30}  {amount:>10} {clean(quote.get('currency', ''))}")


def _status_after(event: Event, task: Task) -> str:
    """Returns the status that a task has since this event."""
    if event is task["events"][-1] and is_final(task):
        return task["status"]
    return "pending" if event is task["events"][0] else "processing"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
