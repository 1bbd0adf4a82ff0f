"""clients/python: its types, and what the command `valro` prints and returns."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clients.python.valro_client import Task, command
from clients.python.valro_client.types import Event, Quote, Vendor
from tests.api import contract
from tests.client.conftest import ACCEPTED, COMPLETED, EVENT, HTML, MISSING, RUNNING, Answer, Script
from tests.conftest import Deployment

ROOT = Path(__file__).resolve().parents[2]
PAINTED = COMPLETED | {
    "agent_response": "I've contacted 1 painter.\x1b[2J",
    "vendors": [{"name": "Lone Brush", "email": "a@example.com", "rating": 4.8, "emails": [{}]}],
    "quotes": [{"vendor": "Lone Brush", "price": 390, "currency": "USD"}],
    "emails_sent": 1,
    "events": [EVENT, EVENT | {"message": "Agent completed task successfully", "type": "success"}],
}
FAILED = RUNNING | {"status": "error", "error_message": "It failed.", "error_code": "agent_failed"}


def test_the_types_have_the_fields_of_the_contract():
    schemas = contract.document()["components"]["schemas"]

    assert contract.properties("Task") <= Task.__annotations__.keys()
    assert set(schemas["ListedTask"]["required"]) >= Task.__required_keys__
    for name, kind in {"Event": Event, "Vendor": Vendor, "Quote": Quote}.items():
        assert contract.properties(name) == kind.__annotations__.keys()


Valro = Callable[..., tuple[int, str, str]]


@pytest.fixture
def valro(
    api: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Valro:
    """Runs the command and returns its exit status, what it printed and what it noted."""
    monkeypatch.setenv("API_URL", api.url)

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            status = command.main([*arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    "arguments, answers, outcome",
    [
        ("run x", [ACCEPTED, PAINTED], (0, ["successfully", "1 painter. [2J", "390.00 USD"])),
        ("run x", [ACCEPTED, FAILED], (1, ["It failed."])),
        ("run x --json", [ACCEPTED, PAINTED], (0, PAINTED)),
        ("run x --detach", [ACCEPTED], (0, ["a"])),
        ("reply a Yes --answer q=true --detach --json", [ACCEPTED], (0, {"id": "a"})),
        (
            "list --status error --limit 5",
            [[FAILED]],
            (0, ["a  error       2026-11-24 15:01  Find"]),
        ),
        ("list --json", [[FAILED, PAINTED]], (0, [FAILED, PAINTED])),
        ("show a", [PAINTED], (0, ["Find me a painter", "Lone Brush", "1 e-mail sent"])),
        ("show a --json", [RUNNING], (0, RUNNING)),
        ("show a --watch", [FAILED], (1, ["It failed."])),
        ("cancel a", [RUNNING], (0, ["being stopped"])),
        ("cancel a --json", [FAILED], (0, FAILED)),
        ("delete a", [None], (0, ["Deleted."])),
    ],
)
def test_a_command_prints_what_came_of_it(
    api: Script, valro: Valro, arguments: str, answers: list[Any], outcome: tuple[int, Any]
):
    status, printed = outcome
    api.answers = [Answer(204 if body is None else 200, body) for body in answers]

    result, out, _ = valro(*arguments.split())

    assert result == status
    if "--json" in arguments:
        assert json.loads(out) == printed
    else:
        assert [words for words in printed if words not in out] == []
        assert "\x1b" not in out, "plain where it is no terminal, whatever the agent sends"
    if arguments.startswith("reply"):
        assert api.bodies == [{"description": "Yes", "follows": "a", "answers": {"q": True}}]


def test_a_question_of_the_agents_is_shown_with_the_command_that_answers_it(
    api: Script, valro: Valro
):
    asks = PAINTED | {"interrupts": [{"id": "booking", "message": "Shall I book it?"}]}
    api.answers = [Answer(202, ACCEPTED), Answer(200, asks)]

    _, out, notes = valro("run", "x")

    assert "Shall I book it?" in out
    assert "valro reply a 'Your words' --answer booking=…" in notes


@pytest.mark.parametrize(
    "arguments, answers, outcome",
    [
        (
            "show a",
            [Answer(404, MISSING, {"apigw-requestid": "JK"})],
            (3, "not found. (request JK)"),
        ),
        ("show a", [Answer(200, b"<p>", HTML)], (4, "Is it right?")),
        ("show a --api http://[::1", [], (4, "Invalid")),
        ("show a --api http://a\x00", [], (4, "Invalid")),
        (
            "run x --timeout 0",
            [Answer(202, ACCEPTED), Answer(200, RUNNING)],
            (4, "The task goes on"),
        ),
        ("show a --api example.com", [], (2, "https://")),
        ("run", [], (2, "TEXT")),
        ("dance", [], (2, "invalid choice")),
    ],
)
def test_what_went_wrong_is_said_beside_and_in_the_exit_status(
    api: Script, valro: Valro, arguments: str, answers: list[Answer], outcome: tuple[int, str]
):
    status, noted = outcome
    api.answers = answers[:]

    result, _, notes = valro(*arguments.split())

    assert result == status
    assert noted in notes


@pytest.mark.parametrize("name", ["", "run", "list", "show", "cancel", "delete", "reply"])
def test_every_command_has_help(valro: Valro, name: str):
    status, out, _ = valro(*name.split(), "--help")

    assert status == 0
    assert "exit status:" in out


@pytest.mark.e2e
def test_a_task_runs_end_to_end_from_a_shell(stack: Deployment):
    environment = os.environ | {"API_URL": stack.api.url, "PYTHONIOENCODING": "utf-8"}

    def valro(*arguments: str) -> str:
        run = subprocess.run(
            (sys.executable, "-m", "clients.python.valro_client", *arguments),
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    shown = valro("run", "Find me a painter in Austin")
    assert "● Worker Lambda invoked - processing started" in shown
    assert "✔ Agent completed task successfully" in shown
    assert "I've contacted" in shown
    (task,) = json.loads(valro("list", "--limit", "1", "--json"))
    assert json.loads(valro("show", task["id"], "--json")) == stack.task(task["id"])
    valro("delete", task["id"])
