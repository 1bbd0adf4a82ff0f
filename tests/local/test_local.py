"""`python -m local`, run as a person runs it, and what it leaves behind: nothing."""

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import __main__ as command
from local.aws import ROOT, LocalStack
from local.console import Console, Timeline, clean, show_answer
from tests.conftest import eventually

PROMPT = "Find me a landscaper in Charlotte under $300"
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

    def left_behind(self) -> list[str]:
        """Names what is left: files in its TMPDIR, and processes that know of it."""
        files = [str(path) for path in self.folder.iterdir()]
        return files + [f"process {pid}" for pid in processes_that_know(self.folder)]


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


@pytest.mark.e2e
def test_a_task_is_shown_to_its_end_and_the_api_serves_until_ctrl_c(start: Callable[..., Run]):
    run = start("--pace", "0.1")
    run.read_until("Serving until Ctrl-C.")

    assert events_in(run.lines) == [
        "pending     ● Task created",
        "processing  ● Worker Lambda invoked - processing started",
        "processing  ● Agent processing started",
        "processing  ● Looking for landscapers in Charlotte within $300",
        "processing  ● Found 3 landscapers within $300",
        "processing  ● E-mailed Green Fern Landscaping at green-fern-landscaping@example.com",
        "processing  ● E-mailed Queen City Lawn & Garden at queen-city-lawn-garden@example.com",
        "processing  ● E-mailed Dogwood Outdoor Care at dogwood-outdoor-care@example.com",
        "processing  ● Comparing quotes",
        "completed   ✔ Agent completed task successfully",
    ]
    assert "I've contacted 3 landscapers in Charlotte by e-mail." in run.text()
    assert "3 e-mails sent" in run.text()
    assert "275.50 USD" in run.text()
    assert "\033" not in run.text()
    page = re.findall(r"The page is at (http://\S+)", run.text())[0]
    with urllib.request.urlopen(page, timeout=10) as answer:
        assert "<title>" in answer.read().decode()
    urls = re.findall(r"curl -s (http://\S+/tasks)$", run.text(), re.MULTILINE)
    with urllib.request.urlopen(urls[0], timeout=10) as answer:
        assert json.load(answer)[0]["description"] == PROMPT

    run.interrupt(signal.SIGINT)

    assert run.finish() == (0, "")
    assert run.left_behind() == []


@pytest.mark.e2e
@pytest.mark.parametrize(
    "prompt, status, words",
    [
        (f"{PROMPT} [agent: quiet]", 0, "Agent completed task successfully"),
        (f"{PROMPT} [agent: error]", 1, "The vendor directory is closed today."),
    ],
)
def test_once_ends_after_the_task_and_its_status_says_whether_it_completed(
    start: Callable[..., Run], prompt: str, status: int, words: str
):
    run = start("--once", "--pace", "0", prompt)

    assert run.finish() == (status, "")
    assert words in run.text()
    assert run.left_behind() == []


@pytest.mark.e2e
@pytest.mark.parametrize(
    "moment, number",
    [("MiniStack", signal.SIGINT), ("MiniStack", signal.SIGTERM), (": created", signal.SIGINT)],
)
def test_an_interruption_before_the_end_leaves_nothing_behind(
    start: Callable[..., Run], moment: str, number: int
):
    run = start()
    run.read_until(moment)

    run.interrupt(number)

    assert run.finish() == (128 + number, "")
    assert "Stopped: no process and no temporary file is left." in run.text()
    assert run.left_behind() == []


@pytest.mark.e2e
def test_a_port_in_use_is_a_sentence(start: Callable[..., Run]):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        run = start("--port", str(port))
        status, errors = run.finish()

    assert status == 1
    assert errors.strip() == (
        f"Port {port} is in use. Name another one with --port, "
        "or leave --port out to take any free one."
    )
    assert run.left_behind() == []


@pytest.mark.e2e
@pytest.mark.parametrize("script", ["deploy.sh", "create-infrastructure.sh"])
def test_a_failed_deployment_shows_what_the_script_said(
    start: Callable[..., Run], tmp_path: Path, script: str
):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "local", copy / "local")
    (copy / "deploy.sh").touch()
    (copy / script).write_text("echo 'The disk is full.' >&2\nexit 3\n")

    run = start(cwd=copy)
    status, errors = run.finish()

    assert status == 1
    assert "The disk is full." in run.text()
    assert errors.strip() == f"{script} failed (exit 3). What it said stands above."
    assert run.left_behind() == []


@pytest.mark.e2e
def test_a_listener_that_goes_away_leaves_nothing_behind(start: Callable[..., Run]):
    run = start()
    run.read_until("MiniStack")
    assert run.process.stdout is not None
    assert run.process.stderr is not None

    with run.process.stdout, run.process.stderr:
        run.process.stdout.close()
        assert run.process.stderr.read() == ""

    assert run.process.wait(SECONDS) == 1
    assert run.left_behind() == []


@pytest.mark.parametrize(
    "arguments", [["--port", "99999"], ["--port", "http"], ["--pace", "-1"], ["--pace", "slow"]]
)
def test_a_senseless_option_is_refused_with_its_reason(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as refusal:
        command.main(arguments)
    assert refusal.value.code == 2
    assert re.search("a (port|pace) is a number", capsys.readouterr().err)


def test_a_missing_program_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signals: None
):
    monkeypatch.setenv("PATH", "/nonexistent")

    assert command.main(["--once"]) == 1
    assert "There is no bash on the PATH. Install it" in capsys.readouterr().err


def test_a_missing_package_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signals: None
):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    assert command.main(["--once"]) == 1
    assert "has no ministack. Use `make run`" in capsys.readouterr().err


@pytest.fixture
def signals() -> Iterator[None]:
    """Puts back what main() sets."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_developers_own_aws_account_cannot_be_reached(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/home/me/.aws/config")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "https://dynamodb.us-east-1.amazonaws.com")

    environment = LocalStack().environment()

    ours = {name: value for name, value in environment.items() if name.startswith("AWS_")}
    assert ours.keys() == {
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_PAGER",
    }
    assert ours["AWS_CONFIG_FILE"] != "/home/me/.aws/config"
    assert ours["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def task_with(*events: tuple[str, str], **fields: Any) -> dict[str, Any]:
    """A task as a poller sees it; events are pairs of message and type, a second apart."""
    return {
        "id": "t1",
        "status": "processing",
        "vendors": [],
        "quotes": [],
        "emails_sent": 0,
        "created_at": "2025-10-31T12:00:00.000000Z",
        "events": [
            {"ts": f"2025-10-31T12:00:0{number}.000000Z", "message": message, "type": kind}
            for number, (message, kind) in enumerate(events)
        ],
        **fields,
    }


def test_every_event_is_shown_once_when_a_poll_first_has_it():
    stream = io.StringIO()
    timeline = Timeline(Console(stream))
    first, second = ("Task created", "info"), ("Agent error: no", "error")

    timeline.show(task_with(first, status="pending"))
    timeline.show(task_with(first, status="pending"))
    timeline.show(task_with(first, second, status="error"))

    assert stream.getvalue().splitlines() == [
        "     0.0 s  pending     ● Task created",
        "     1.0 s  error       ✘ Agent error: no",
    ]


def test_what_an_agent_wrote_cannot_control_the_terminal():
    stream = io.StringIO()
    vendor = {"name": "\033[2JEvil\r\n", "email": "\x9b31m", "emails": []}

    show_answer(
        Console(stream),
        task_with(status="completed", agent_response="a\033]0;title\a\nb", vendors=[vendor]),
    )

    assert not set(stream.getvalue()) & set("\033\r\a\x9b")
    assert clean("👩‍🌾 café") == "👩‍🌾 café"


def test_colour_is_for_terminals_and_not_when_no_color_is_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Console(Terminal()).styled("x", "bold") == "\033[1mx\033[0m"
    assert Console(io.StringIO()).styled("x", "bold") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert Console(Terminal()).styled("x", "bold") == "x"


def test_a_terminal_shows_what_is_waited_for_and_takes_it_away_again(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    console = Console(stream)

    with console.waiting("Deploying"):
        eventually(stream.getvalue, lambda text: "Deploying … 0 s" in text)
        console.line("table: created")

    assert "\r\033[Ktable: created\n" in stream.getvalue()
    assert stream.getvalue().endswith("\r\033[K")


def test_a_stream_without_unicode_gets_ascii():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="\n")

    Console(stream).line("● Waiting … ✔ café")

    assert raw.getvalue() == b"* Waiting ... + caf?\n"


def events_in(lines: list[str]) -> list[str]:
    """The lines of a timeline, without their times."""
    return [found[1] for line in lines if (found := re.fullmatch(r" +[\d.]+ s  (.+)", line))]
