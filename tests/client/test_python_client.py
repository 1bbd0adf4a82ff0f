"""clients/python: what it sends and tries again, and what the command `valro` prints and returns."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clients.python.valro_client import CallTimeoutError, Task, ValroClient, ValroError, command
from clients.python.valro_client.types import Event, Quote, Vendor
from tests.api import contract
from tests.client.conftest import Answer, Script
from tests.conftest import Deployment

ROOT = Path(__file__).resolve().parents[2]
EVENT = {"ts": "2026-11-24T15:01:38.024301Z", "message": "Task created", "type": "info"}
RUNNING = {
    "id": "a",
    "description": "Find me a painter",
    "status": "processing",
    "vendors": [],
    "quotes": [],
    "emails_sent": 0,
    "events": [EVENT],
    "created_at": "2026-11-24T15:01:38.024301Z",
    "updated_at": "2026-11-24T15:01:38.024301Z",
}
COMPLETED = RUNNING | {
    "status": "completed",
    "agent_response": "I've contacted 1 painter.\x1b[2J",
    "vendors": [{"name": "Lone Brush", "email": "a@example.com", "rating": 4.8, "emails": [{}]}],
    "quotes": [{"vendor": "Lone Brush", "price": 390, "currency": "USD"}],
    "emails_sent": 1,
    "events": [EVENT, EVENT | {"message": "Agent completed task successfully", "type": "success"}],
}
FAILED = RUNNING | {"status": "error", "error_message": "It failed.", "error_code": "agent_failed"}
ACCEPTED = {"id": "a", "status": "pending", "message": "Task created and processing started"}
MISSING = {"error": "Task not found.", "code": "task_not_found"}
HTML = {"Content-Type": "text/html"}
Make = Callable[..., ValroClient]


@pytest.fixture
def slept() -> list[float]:
    """The seconds that the client has waited, which take no time."""
    return []


@pytest.fixture
def make(api: Script, slept: list[float]) -> Iterator[Make]:
    made = []

    def make_client(url: str = api.url, **options: Any) -> ValroClient:
        made.append(ValroClient(url, sleep=slept.append, **options))
        return made[-1]

    yield make_client
    for client in made:
        client.close()


@pytest.mark.parametrize(
    "answers, options, name",
    [
        ([], {"url": "htp://example.com"}, "UnsupportedProtocol"),
        ([], {"token": "a\nb"}, "LocalProtocolError"),
        ([Answer(302, None, {"Location": "/base/tasks/a"})], {}, "AnswerError"),
        ([Answer(200, b"<p>Sign in", HTML)], {}, "AnswerError"),
        ([Answer(200, b"{")], {}, "AnswerError"),
        ([Answer(404, b"<p>Not here", HTML)], {}, "ApiError"),
        ([Answer(502, {"error": "No.", "code": "worker_unavailable"})], {}, "ApiError"),
    ],
)
def test_what_asking_again_cannot_change_is_raised_at_once(
    api: Script, make: Make, answers: list[Answer], options: dict[str, Any], name: str
):
    api.answers = answers[:]

    with pytest.raises(Exception) as raised:  # noqa: PT011  which one is asked below
        make(**options).get_task("a")

    assert type(raised.value).__name__ == name
    assert len(api.asked) == len(answers)


@pytest.mark.parametrize("status", [0, 408, 425, 429, 500, 503])
def test_what_may_pass_is_tried_again_with_the_same_key(api: Script, make: Make, status: int):
    api.answers = [Answer(status)] * 2
    heard = []

    with pytest.raises(ValroError) as raised:
        make(max_retries=1, on_retry=lambda error, _: heard.append(error)).create_task("x")

    keys = [headers["idempotency-key"] for *_, headers in api.asked]
    assert keys == [raised.value.idempotency_key] * 2
    assert len(heard) == 1


@pytest.mark.parametrize("value", ["-1", "0", "soon", "Infinity", "1e9", "99999999999"])
def test_a_retry_after_of_any_kind_is_no_hot_loop(
    api: Script, make: Make, slept: list[float], value: str
):
    api.answers = [Answer(429, None, {"Retry-After": value}), Answer(200, RUNNING)]

    assert make().get_task("a") == RUNNING
    assert 0.5 <= slept[0] <= 300


def test_a_401_is_tried_once_more_with_a_new_token(api: Script, make: Make):
    api.answers = [Answer(401), Answer(200, RUNNING), Answer(401, None, {"apigw-requestid": "JK"})]
    api.answers += [Answer(401, None, {"apigw-requestid": "JK"})]
    client = make(token=lambda is_refused: "new" if is_refused else "old")

    client.get_task("a")
    with pytest.raises(ValroError) as raised:
        client.get_task("a")

    assert raised.value.request_id == "JK"
    sent = [headers["authorization"] for *_, headers in api.asked]
    assert sent == ["Bearer old", "Bearer new"] * 2


def test_watching_obeys_retry_after_asks_for_changes_and_outlives_an_outage(
    api: Script, make: Make, slept: list[float]
):
    api.answers = [
        Answer(200, RUNNING, {"ETag": '"1"', "Retry-After": "2"}),
        Answer(304, None, {"ETag": '"1"', "Retry-After": "2"}),
        *[Answer(503)] * 10,
        Answer(200, COMPLETED, {"ETag": '"2"'}),
    ]

    assert list(make().watch_task("a")) == [RUNNING, COMPLETED]
    assert [headers.get("if-none-match") for *_, headers in api.asked] == [None] + ['"1"'] * 12
    assert slept[:2] == [2, 2]


def test_a_task_is_created_and_watched_in_one_call(api: Script, make: Make):
    api.answers = [Answer(202, ACCEPTED), Answer(200, RUNNING), Answer(200, COMPLETED)]
    seen: list[Task] = []

    assert make().run_task("x", on_update=seen.append) == COMPLETED
    assert seen == [RUNNING, COMPLETED]
    api.answers = [Answer(202, ACCEPTED), Answer(200, RUNNING, {"Retry-After": "10"})]
    with pytest.raises(CallTimeoutError):
        make().run_task("x", timeout=5)


def test_all_pages_of_a_list_are_iterated(api: Script, make: Make):
    api.answers = [
        Answer(200, [RUNNING], {"Link": '<?limit=1&cursor=b%2B>; rel="next"'}),
        Answer(200, [COMPLETED]),
    ]

    assert list(make().list_all_tasks(status=["processing", "completed"])) == [RUNNING, COMPLETED]
    assert [path for _, _, path, _ in api.asked] == [
        "/base/tasks?status=processing%2Ccompleted",
        "/base/tasks?limit=1&cursor=b%2B",
    ]


def test_a_deletion_whose_answer_was_lost_is_a_deletion(api: Script, make: Make):
    api.answers = [Answer(0), Answer(404, MISSING), Answer(404, MISSING)]

    make().delete_task("a/b")
    with pytest.raises(ValroError):
        make().delete_task("a/b")

    assert {path for _, _, path, _ in api.asked} == {"/base/tasks/a%2Fb"}


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
        ("run x", [ACCEPTED, COMPLETED], (0, ["successfully", "1 painter. [2J", "390.00 USD"])),
        ("run x", [ACCEPTED, FAILED], (1, ["It failed."])),
        ("run x --json", [ACCEPTED, COMPLETED], (0, COMPLETED)),
        ("run x --detach", [ACCEPTED], (0, ["a"])),
        ("reply a Yes --answer q=true --detach --json", [ACCEPTED], (0, {"id": "a"})),
        (
            "list --status error --limit 5",
            [[FAILED]],
            (0, ["a  error       2026-11-24 15:01  Find"]),
        ),
        ("list --json", [[FAILED, COMPLETED]], (0, [FAILED, COMPLETED])),
        ("show a", [COMPLETED], (0, ["Find me a painter", "Lone Brush", "1 e-mail sent"])),
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
    asks = COMPLETED | {"interrupts": [{"id": "booking", "message": "Shall I book it?"}]}
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
