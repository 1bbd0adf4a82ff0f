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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.python.valro_client.console import Console, Timeline, clean, show_answer
from local import __main__ as command
from local import faults
from local.addresses import API_ID, free_port, port_of
from local.aws import ROOT, LocalStack
from local.behaviours import BEHAVIOURS, REFUSALS, REPORTING
from local.console import LOG_TEXT_CHARACTERS, show_log_line
from local.task_log import API, WORKER, TaskLog
from tests.conftest import eventually
from tests.local.conftest import SECONDS, Run

PROMPT = "Find me a landscaper in Charlotte under $300"


@pytest.mark.e2e
def test_a_task_is_shown_to_its_end_and_the_api_serves_until_ctrl_c(start: Callable[..., Run]):
    run = start("--pace", "0.1", "--port", "0")
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
    for place in ("page", "docs"):
        address = run.found(rf"  {place}  (http://\S+) .+")
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert "<title>" in answer.read().decode()
    api = run.found(r"  API_URL=(http://\S+)")
    assert api.endswith(f"/_aws/execute-api/{API_ID}")
    with urllib.request.urlopen(f"{api}/tasks", timeout=10) as answer:
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
        f"Port {port} cannot be used (Address already in use). Name another one with --port, "
        "or leave --port out to take one that is free."
    )
    assert run.left_behind() == []


@pytest.mark.e2e
def test_a_failed_deployment_shows_what_the_script_said(start: Callable[..., Run], tmp_path: Path):
    copy = copy_of_what_runs(tmp_path / "copy")
    (copy / "deploy.sh").touch()
    script = "create-infrastructure.sh"
    (copy / script).write_text("echo 'The disk is full.' >&2\nexit 3\n")

    run = start(cwd=copy)
    status, errors = run.finish()

    assert status == 1
    assert "The disk is full." in run.text()
    assert errors.strip() == f"{script} failed (exit 3). Its output is above."
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


@pytest.mark.e2e
def test_a_killed_run_leaves_nothing_behind(start: Callable[..., Run]):
    run = start("--port", "0")
    run.read_until(": created")

    run.process.kill()

    assert run.finish()[0] == -signal.SIGKILL
    eventually(run.left_behind, lambda left: left == [])


@pytest.mark.e2e
def test_an_empty_account_is_one_that_a_shell_can_use_without_python(
    start: Callable[..., Run], tmp_path: Path
):
    copy = copy_of_what_runs(tmp_path / "it's a copy")
    run = start("--empty", "--port", "0", cwd=copy)
    run.read_until("Serving until Ctrl-C.")
    line = run.found(r"  (\. .+)")
    environment = {**os.environ, "AWS_PROFILE": "mine", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}

    seen = subprocess.run(
        ["sh", "-ec", f"{line}\naws s3api list-buckets\nenv"],
        env=environment,
        capture_output=True,
        text=True,
    )

    assert (seen.returncode, seen.stderr) == (0, "")
    assert '"Buckets": []' in seen.stdout
    assert "AWS_PROFILE" not in seen.stdout
    assert "AGENT_RUNTIME_ARN=arn:aws:bedrock-agentcore:" in seen.stdout
    run.interrupt(signal.SIGINT)
    assert run.finish() == (0, "")
    assert list((copy / "build").iterdir()) == []


def test_the_ports_are_the_same_at_every_run_that_serves(monkeypatch: pytest.MonkeyPatch):
    ours = free_port(), free_port()
    monkeypatch.setattr(command, "AWS_PORT", ours[0])
    monkeypatch.setattr(command, "PAGE_PORT", ours[1])

    def ports(*arguments: str) -> tuple[int, int]:
        options = command._read_arguments([*arguments])
        aws, page = command._listeners(Console(io.StringIO()), options)
        with aws, page:
            return port_of(aws), port_of(page)

    assert ports() == ports() == ports("--empty") == ours
    assert not {*ports("--once"), *ports("--port", "0")} & {*ours}


def test_a_taken_port_is_replaced_by_another_and_a_sentence(capsys: pytest.CaptureFixture[str]):
    console = Console(sys.stdout)
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with command._listen_nearby(console, "the page", taken) as listener:
            other = port_of(listener)

    said = f"Port {taken} is in use by another program, so the page is at {other} this time.\n"
    assert other != taken
    assert capsys.readouterr().out == said
    with command._listen_nearby(console, "the page", taken) as listener:
        assert port_of(listener) == taken
    assert capsys.readouterr().out == ""


def test_help_and_a_missing_package_need_nothing_but_python():
    bare = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})"]
    bare[-1] += "; from local.__main__ import main; sys.exit(main())"

    shown = subprocess.run([*bare, "--help"], capture_output=True, text=True)
    refused = subprocess.run([*bare, "--once"], capture_output=True, text=True)

    assert (shown.returncode, shown.stderr) == (0, "")
    assert "[agent: cut]" in shown.stdout
    assert refused.returncode == 1
    assert "has no ministack. Use `make run`" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_every_behaviour_that_is_listed_is_one_of_the_agent_or_its_runtime():
    listed = {words.partition(" ")[0] for words in BEHAVIOURS}
    assert listed == faults._ANSWERS.keys() | REPORTING | REFUSALS.keys() | {"ask"}


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--port", "99999"], "a port is a number from 0 to 65535"),
        (["--port", "http"], "a port is a number from 0 to 65535"),
        (["--pace", "-1"], "a pace is a number of seconds"),
        (["--agent", "localhost:8080"], "an agent's address is like http://127.0.0.1:8080"),
        (["--agent", "http://[::1"], "an agent's address is like http://127.0.0.1:8080"),
        (["--empty", "--once"], "--empty deploys nothing that could take a task"),
        (["--once", "--agent", "http://127.0.0.1:8080"], "needs a task"),
        (["--once", ""], "the task is empty: write what is to be done, or leave it out"),
        (["--agent", "http://127.0.0.1:8080", " "], "the task is empty"),
    ],
)
def test_a_senseless_option_is_refused_with_its_reason(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as refusal:
        command.main(arguments)
    assert refusal.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_missing_program_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signals: None
):
    monkeypatch.setenv("PATH", "/nonexistent")

    assert command.main(["--once"]) == 1
    assert "There is no bash on the PATH. Install it" in capsys.readouterr().err


def test_a_developers_own_aws_account_cannot_be_reached(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/home/me/.aws/config")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "https://dynamodb.us-east-1.amazonaws.com")

    environment = LocalStack().environment()

    ours = {name: value for name, value in environment.items() if name.startswith("AWS_")}
    expected = "ENDPOINT_URL ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL ACCESS_KEY_ID SECRET_ACCESS_KEY"
    expected += " REGION DEFAULT_REGION CONFIG_FILE SHARED_CREDENTIALS_FILE EC2_METADATA_DISABLED"
    assert ours.keys() == {f"AWS_{name}" for name in [*expected.split(), "PAGER"]}
    assert ours["AWS_CONFIG_FILE"] != "/home/me/.aws/config"
    assert ours["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def task_with(*events: tuple[str, str], **fields: Any) -> Any:
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


def test_an_answer_is_shown_with_quotes_in_either_form_and_cannot_control_the_terminal():
    stream = io.StringIO()
    answer = {
        "agent_response": "a\033]0;title\a\nb",
        "quotes": [{"vendor": "Ann's", "price": 1200.5}, {"vendor_id": 7, "amount": 80}],
        "vendors": [{"id": 7, "name": "\033[2JBob's\r\n", "email": "\x9b31m", "emails": []}],
    }

    show_answer(Console(stream), task_with(status="completed", **answer))

    shown = [line.split() for line in stream.getvalue().splitlines()]
    assert ["Ann's", "1,200.50"] in shown
    assert ["[2JBob's", "80.00"] in shown
    assert not set(stream.getvalue()) & set("\033\r\a\x9b")
    assert clean("👩‍🌾 café") == "👩‍🌾 café"


def test_a_log_line_is_shown_by_what_happened_and_by_the_beginning_of_a_long_text():
    stream = io.StringIO()
    console = Console(stream)

    show_log_line(console, {"message": "Done", "task_id": "t1", "duration_ms": 1234})
    long = {"level": "WARNING", "message": "not understood", "task_id": "t1", "part": 1, "parts": 2}
    show_log_line(console, {**long, "text": "\033[2J" + "x" * LOG_TEXT_CHARACTERS})

    done, failed, *text, rest = stream.getvalue().splitlines()
    assert done == "  t1  ✔ Done (1.2 s)"
    assert failed == "  t1  ✘ not understood (part 1 of 2)"
    assert "\033" not in "".join(text)
    assert rest == "      … and 4 characters more in the worker's log"


def log_event(timestamp: int, **line: str) -> dict[str, Any]:
    """A line of a function's log, as CloudWatch gives it."""
    return {"logStreamName": "s", "timestamp": timestamp, "message": json.dumps(line)}


def test_the_workers_log_and_of_the_apis_ends_and_troubles_are_shown_once(
    monkeypatch: pytest.MonkeyPatch,
):
    unshown = ("accepted", "replayed", "stopping", "deleted")
    groups = {
        WORKER: [log_event(2, level="INFO", outcome="accepted")],
        API: [
            *(log_event(1, level="INFO", outcome=outcome) for outcome in unshown),
            *(log_event(3, outcome=outcome) for outcome in ("completed", "cancelled", "expired")),
            log_event(4, level="ERROR", message="internal error"),
        ],
    }

    class Logs:
        def filter_log_events(self, *, logGroupName: str, startTime: int) -> dict[str, Any]:  # noqa: N803
            events = groups[logGroupName]
            return {"events": [event for event in events if event["timestamp"] >= startTime]}

    log = TaskLog("http://127.0.0.1:1")
    monkeypatch.setattr(log, "_client", Logs())

    shown = [line.get("outcome") or line["message"] for line in log.new_lines()]
    assert shown == ["accepted", "completed", "cancelled", "expired", "internal error"]
    assert not list(log.new_lines())


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


def copy_of_what_runs(copy: Path) -> Path:
    """The folders that `python -m local` reads, without what it deploys."""
    for folder in ("local", "examples", "clients/python"):
        shutil.copytree(ROOT / folder, copy / folder)
    return copy


def events_in(lines: list[str]) -> list[str]:
    """The lines of a timeline, without their times."""
    return [found[1] for line in lines if (found := re.fullmatch(r" +[\d.]+ s  (.+)", line))]
