"""Cancelling and deleting on the page, and why a task ended: what a person sees and may do."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.api import contract
from tests.page.conftest import PROMPT, Backend, Open
from valro.tasks import Outcome

pytestmark = pytest.mark.e2e

IVY: dict[str, Any] = {"name": "Ivy", "emails": []}


def actions(backend: Backend) -> list[tuple[str, str, int]]:
    """What the page has asked for beyond looking, and how it was answered."""
    asked = backend.requests("POST") + backend.requests("DELETE")
    return [(one.method, one.path, one.status) for one in asked]


@pytest.fixture
def open_task(backend: Backend, visit: Open) -> Any:
    def open_task(task_id: str, **options: Any) -> Page:
        page = visit(f"#/tasks/{task_id}", **options)
        expect(page.locator("#tasks a[aria-current=true]")).to_have_count(1)
        return page

    return open_task


def test_a_waiting_task_is_cancelled_at_once_and_then_deleted_after_a_question_each(
    backend: Backend, open_task: Any
):
    other, task_id = backend.create("Find me a painter"), backend.create()
    page = open_task(other)
    # The open task may be known before the list is.
    expect(page.locator("#tasks li")).to_have_count(2)
    page.locator("#tasks a").first.click()

    def decline(verb: str, no: str) -> None:
        button = page.get_by_role("button", name=f"{verb}…")
        button.click()
        expect(page.get_by_role("button", name=no)).to_be_focused()
        page.keyboard.press("Enter")  # in haste
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(button).to_be_focused()
        button.click()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(button).to_be_focused()

    decline("Cancel", "Keep it running")
    page.get_by_role("button", name="Cancel…").click()
    question = page.get_by_role("dialog", name="Cancel this task?")
    expect(question).to_contain_text("has not started yet, so nobody has been contacted.")
    question.get_by_role("button", name="Cancel the task").click()

    expect(page.locator("#status")).to_have_text("Cancelled")
    expect(page.locator("#failure-title")).to_have_text("This task was cancelled.")
    expect(page.locator("#failure-text")).to_have_text("Nobody was contacted.")
    expect(page.locator("#report")).to_be_hidden()
    expect(page.locator("#tasks a[aria-current=true] .status")).to_have_text("Cancelled")
    expect(page.locator("#timeline li").last).to_contain_text("This task was cancelled.")
    expect(page.get_by_role("status")).to_have_text("This task was cancelled.")
    expect(page.locator("#what")).to_be_focused()
    expect(page.get_by_role("button", name="Cancel…")).to_be_hidden()

    decline("Delete", "Keep it")
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("dialog", name="Delete this task?")).to_contain_text("for good")
    page.get_by_role("button", name="Delete the task").click()

    expect(page.locator("#nothing")).to_have_text("The task was deleted.")
    expect(page.get_by_role("status")).to_have_text("Task deleted.")
    expect(page.locator("#tasks .what")).to_have_text(["Find me a painter"])
    expect(page.locator("#list-title")).to_be_focused()
    assert actions(backend) == [
        ("POST", f"/tasks/{task_id}/cancel", 200),
        ("DELETE", f"/tasks/{task_id}", 204),
    ]
    page.go_back()
    expect(page.locator("#what")).to_have_text("Find me a painter")


def test_a_running_task_is_cancelling_until_its_worker_has_stopped(
    backend: Backend, open_task: Any
):
    task_id = backend.create()
    claim = backend.claim(task_id)
    page = open_task(task_id)
    page.get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("dialog")).to_contain_text("already e-mailed may still reply")
    page.get_by_role("button", name="Cancel the task").click()

    expect(page.locator("#status")).to_have_text("Cancelling")
    expect(page.locator("#now")).to_contain_text("up to a minute")
    expect(page.locator("#tasks a[aria-current=true] .status")).to_have_text("Cancelling")
    expect(page.get_by_role("button", name="Cancel…")).to_be_hidden()
    expect(page.get_by_role("status")).to_have_text("Cancellation requested.")

    found = Outcome.of({"vendors": [IVY]})
    backend.store.end_task(claim, found.cancelled())

    expect(page.locator("#status")).to_have_text("Cancelled")
    expect(page.locator("#now")).to_be_hidden()
    expect(page.locator("#failure")).to_contain_text("Vendors may already have been contacted.")
    expect(page.locator("#vendors .name")).to_have_text(["Ivy"])


def test_a_task_that_ended_meanwhile_is_shown_as_it_ended(backend: Backend, open_task: Any):
    task_id = backend.create()
    claim = backend.claim(task_id)
    page = open_task(task_id)
    page.get_by_role("button", name="Cancel…").click()
    backend.complete(claim)
    page.get_by_role("button", name="Cancel the task").click()

    expect(page.locator("#status")).to_have_text("Completed")
    expect(page.locator("#action-problem")).to_be_hidden()
    expect(page.locator("#what")).to_be_focused()  # the button that had the focus is gone


def test_a_task_that_was_deleted_elsewhere_counts_as_deleted_or_is_not_found(
    backend: Backend, open_task: Any
):
    other, task_id = backend.create("Find me a painter"), backend.create()
    backend.complete(backend.claim(task_id))
    backend.complete(backend.claim(other))
    page = open_task(other)
    expect(page.locator("#tasks li")).to_have_count(2)
    backend.store.delete_task(other, "public")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete the task").click()

    expect(page.locator("#nothing")).to_have_text("The task was deleted.")
    assert actions(backend) == [("DELETE", f"/tasks/{other}", 404)]
    expect(page.locator("#tasks .what")).to_have_text([PROMPT])

    backend.store.delete_task(task_id, "public")
    page.locator("#tasks a").click()

    expect(page.locator("#nothing")).to_contain_text("This task was not found.")
    expect(page.locator("#tasks li")).to_have_count(0)


def test_an_agents_failure_is_told_in_words_and_its_own_are_there_to_be_opened(
    backend: Backend, open_task: Any
):
    task_id = backend.create()
    backend.fail(backend.claim(task_id), "agent_failed", "KeyError: 'vendor'")
    page = open_task(task_id)

    expect(page.locator("#status")).to_have_text("Failed")
    title = "The agent could not finish."
    expect(page.locator("#failure-title")).to_have_text(title)
    expect(page.locator("#timeline .error").last).to_contain_text(title)
    expect(page.locator("#answer-section")).to_be_hidden()
    expect(page.get_by_text("KeyError")).to_be_hidden()
    page.get_by_text("What the agent reported").click()
    expect(page.locator("#report-text")).to_have_text("KeyError: 'vendor'")


FAILURES = """async tasks => {
    const { failureOf } = await import("./words.js");
    return tasks.map(task => failureOf({ vendors: [], error_message: "KeyError", ...task }));
}"""


def test_each_way_to_fail_has_words_of_its_own_and_only_an_agents_report_is_shown(visit: Open):
    codes = [*contract.known_codes("TaskErrorCode"), "of_tomorrow"]
    told = visit().evaluate(FAILURES, [{"error_code": code} for code in codes])

    assert len({each["title"] for each in told}) == len(codes) == 10
    reported = {code for code, each in zip(codes, told, strict=True) if each["report"]}
    assert reported == {"agent_failed", "of_tomorrow"}


def test_a_failure_says_who_is_known_to_have_been_contacted(visit: Open):
    mailed = IVY | {"emails": [{}]}
    cases = {
        "Nobody was contacted.": {"may_have_acted": False},
        "Vendors may already have been contacted.": {"may_have_acted": True, "vendors": [IVY]},
        "1 vendor was e-mailed.": {"vendors": [mailed, IVY], "emails_sent": 1},
        "2 vendors were e-mailed.": {"vendors": [mailed, mailed]},
        "3 e-mails sent.": {"emails_sent": 3},
    }
    told = visit().evaluate(FAILURES, list(cases.values()))

    assert [each["details"] for each in told] == list(cases)


@pytest.mark.parametrize("verb", ["cancel", "delete", "reply"])
def test_what_an_api_does_not_offer_is_asked_for_once(
    backend: Backend, open_task: Any, monkeypatch: pytest.MonkeyPatch, verb: str
):
    monkeypatch.delenv("PUBLIC_CANCEL_AND_DELETE")
    task_id = backend.create()
    claim = backend.claim(task_id)
    if verb != "cancel":
        backend.complete(claim)
    page = open_task(task_id)
    what = page.locator(f"#{verb}")
    if verb == "reply":
        page.get_by_label("Ask for more").fill("More")
        page.get_by_role("button", name="Send reply").click()
        words = "You can't reply here."
    else:
        what.click()
        page.get_by_role("dialog").get_by_role("button", name=f"{verb} the task").click()
        words = f"You can't {verb} tasks here."

    expect(page.locator("#action-problem")).to_have_text(words)
    expect(what).to_be_hidden()
    expect(page.locator("#what")).to_be_focused()
    assert [status for *_, status in actions(backend)] == [403]
    assert backend.tasks()[0]["status"] == ("processing" if verb == "cancel" else "completed")
