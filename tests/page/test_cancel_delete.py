"""Cancelling and deleting on the page, and why a task ended: what a person sees and may do."""

from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from local.page_server import serve_page
from tests.conftest import Deployment
from tests.page.conftest import Backend, Open, no_violation, tab_to
from valro.tasks import Outcome

pytestmark = pytest.mark.e2e

IVY = {"name": "Ivy", "emails": []}
STOPPED = "The agent was stopped. It may already have contacted vendors."


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


@pytest.mark.parametrize("behaviour", ["stall 60", "report 60"])
def test_on_the_real_stack_an_agent_is_stopped_and_its_task_deleted(
    stack: Deployment, visit: Open, behaviour: str
):
    with serve_page(stack.api.url) as page_url:
        page = visit(page_url)
        words = f"Find me a roofer in Boise [agent: {behaviour}]"
        page.get_by_label("What do you need done?").fill(words)
        page.get_by_role("button", name="Find vendors").click()
        expect(page.locator("#timeline li")).to_have_count(3)
        task_id = page.url.rpartition("#/tasks/")[2]
        page.get_by_role("button", name="Cancel…").click()
        page.get_by_role("button", name="Cancel the task").click()

        expect(page.locator("#status")).to_have_text("Cancelled")
        expect(page.locator("#failure")).to_contain_text("Vendors may already have been contacted.")
        task = stack.task(task_id)
        assert (task["status"], task["error_code"]) == ("error", "cancelled")
        expect(page.locator("#tasks a[aria-current=true] .status")).to_have_text("Cancelled")

        page.get_by_role("button", name="Delete…").click()
        page.get_by_role("button", name="Delete the task").click()

        expect(page.locator("#nothing")).to_have_text("The task was deleted.")
        expect(page.locator(f"#tasks [data-id='{task_id}']")).to_have_count(0)
        assert stack.api.request("GET", f"/tasks/{task_id}").status == 404
        with page.expect_response(lambda answer: "/tasks?" in answer.url) as listed:
            page.reload()
        assert task_id not in [one["id"] for one in listed.value.json()]


def test_a_waiting_task_is_cancelled_at_once_after_one_question(backend: Backend, open_task: Any):
    task_id = backend.create()
    page = open_task(task_id)
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
    expect(page.get_by_role("button", name="Delete…")).to_be_visible()
    assert actions(backend) == [("POST", f"/tasks/{task_id}/cancel", 200)]


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

    found = Outcome.of({"vendors": [{"name": "Ivy", "emails": []}]})
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


def test_an_ended_task_is_deleted_after_one_question_and_the_list_follows(
    backend: Backend, open_task: Any
):
    other, task_id = backend.create("Find me a painter"), backend.create()
    backend.complete(backend.claim(task_id))
    page = open_task(other)
    # The open task may be known before the list is.
    expect(page.locator("#tasks li")).to_have_count(2)
    page.locator("#tasks a").first.click()
    expect(page.locator("#status")).to_have_text("Completed")
    page.get_by_role("button", name="Delete…").click()
    expect(page.get_by_role("dialog", name="Delete this task?")).to_contain_text("for good")
    page.get_by_role("button", name="Delete the task").click()

    expect(page.locator("#nothing")).to_have_text("The task was deleted.")
    expect(page.get_by_role("status")).to_have_text("Task deleted.")
    expect(page.locator("#tasks .what")).to_have_text(["Find me a painter"])
    expect(page.locator("#list-title")).to_be_focused()
    assert actions(backend) == [("DELETE", f"/tasks/{task_id}", 204)]
    page.go_back()
    expect(page.locator("#what")).to_have_text("Find me a painter")


def test_a_task_that_is_gone_already_counts_as_deleted(backend: Backend, open_task: Any):
    task_id = backend.create()
    backend.complete(backend.claim(task_id))
    page = open_task(task_id)
    backend.store.delete_task(task_id, "public")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete the task").click()

    expect(page.locator("#nothing")).to_have_text("The task was deleted.")
    assert actions(backend) == [("DELETE", f"/tasks/{task_id}", 404)]


def test_a_task_that_was_deleted_elsewhere_leaves_the_list(backend: Backend, open_task: Any):
    other, task_id = backend.create("Find me a painter"), backend.create()
    page = open_task(other)
    expect(page.locator("#tasks li")).to_have_count(2)
    backend.store.cancel_task(task_id, "public")
    backend.store.delete_task(task_id, "public")

    page.locator("#tasks a").first.click()

    expect(page.locator("#nothing")).to_contain_text("This task was not found.")
    expect(page.locator("#tasks .what")).to_have_text(["Find me a painter"])


def test_who_declines_changes_nothing(backend: Backend, open_task: Any):
    running, ended = backend.create("running"), backend.create("ended")
    backend.complete(backend.claim(ended))
    for task_id, name, no in ((running, "Cancel", "Keep it running"), (ended, "Delete", "Keep it")):
        page = open_task(task_id)
        button = page.get_by_role("button", name=f"{name}…")
        button.click()
        expect(page.get_by_role("button", name=no)).to_be_focused()
        page.keyboard.press("Enter")  # in haste
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(button).to_be_focused()
        button.click()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(button).to_be_focused()
    assert actions(backend) == []


def test_a_person_without_a_mouse_cancels_and_deletes(backend: Backend, open_task: Any):
    task_id = backend.create()
    page = open_task(task_id)
    expect(page.locator("#cancel")).to_be_visible()
    for button, word in (("#cancel", "Cancelled"), ("#delete", "")):
        tab_to(page, button)
        page.keyboard.press("Enter")
        tab_to(page, "#question-yes")
        page.keyboard.press("Enter")
        if word:
            expect(page.locator("#status")).to_have_text(word)
    expect(page.locator("#nothing")).to_have_text("The task was deleted.")
    assert actions(backend) == [
        ("POST", f"/tasks/{task_id}/cancel", 200),
        ("DELETE", f"/tasks/{task_id}", 204),
    ]


PERHAPS = "Vendors may already have been contacted."
NOBODY = "Nobody was contacted."
LATER = "Please try again in a few minutes."


@pytest.mark.parametrize(
    "code, said",
    [
        ("dispatch_failed", ("The work could not be started.", f"{NOBODY} {LATER}", False)),
        ("not_started", ("The work could not be started in time.", f"{NOBODY} {LATER}", False)),
        ("not_configured", ("Valro is not set up yet.", f"{NOBODY} Its operator has to", False)),
        ("worker_lost", ("We lost track of the work.", PERHAPS, False)),
        ("agent_failed", ("The agent could not finish.", PERHAPS, True)),
        ("agent_lost", ("We lost contact with the agent.", PERHAPS, False)),
        ("agent_timeout", ("The agent ran out of time.", PERHAPS, False)),
        ("answer_too_large", ("The agent's answer was too long", f"{PERHAPS} Try asking", False)),
        ("cancelled", ("This task was cancelled.", PERHAPS, False)),
    ],
)
def test_each_way_to_fail_has_words_for_a_homeowner(
    backend: Backend, open_task: Any, code: str, said: tuple[str, str, bool]
):
    title, details, is_reported = said
    task_id = backend.create()
    claim = backend.claim(task_id)
    if code == "cancelled":
        backend.store.cancel_task(task_id, "public")
    backend.store.end_task(claim, Outcome.of({}, code, "KeyError: 'vendor'"))

    page = open_task(task_id)

    expect(page.locator("#failure-title")).to_contain_text(title)
    expect(page.locator("#failure-text")).to_contain_text(details)
    expect(page.get_by_text("KeyError")).to_be_hidden()
    expect(page.get_by_text("What the agent reported")).to_be_visible(visible=is_reported)
    expect(page.locator("#timeline .error, #timeline .info").last).to_contain_text(title)
    expect(page.get_by_role("button", name="Edit and send again")).to_be_visible()


@pytest.mark.parametrize(
    "found, words",
    [
        ({"vendors": [IVY | {"emails": [{}]}, IVY | {"emails": [{}, {}]}, IVY]}, "2 vendors were"),
        ({"vendors": [IVY | {"emails": [{}]}], "emails_sent": 1}, "1 vendor was e-mailed."),
        ({"emails_sent": 3}, "3 e-mails sent."),
    ],
)
def test_a_failure_says_who_is_known_to_have_been_contacted(
    backend: Backend, open_task: Any, found: Any, words: str
):
    task_id = backend.create()
    backend.store.end_task(backend.claim(task_id), Outcome.of(found, "agent_lost", "Lost."))

    expect(open_task(task_id).locator("#failure-text")).to_contain_text(words)


def test_a_code_of_tomorrow_is_told_in_the_apis_words(backend: Backend, visit: Open):
    task_id = backend.create()
    backend.store.end_task(
        backend.claim(task_id), Outcome.of({}, "agent_failed", "In the agent's words.")
    )
    page = visit()

    def with_a_new_code(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"error_code": "of_tomorrow"})

    page.route(f"{backend.url}/tasks/{task_id}", with_a_new_code)
    page.evaluate("id => { location.hash = `#/tasks/${id}` }", task_id)

    expect(page.locator("#failure-title")).to_have_text("This task failed.")
    page.get_by_text("What the agent reported").click()
    expect(page.locator("#report-text")).to_have_text("In the agent's words.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation_while_a_task_is_cancelled(
    backend: Backend, open_task: Any, scheme: str, width: int
):
    task_id = backend.create()
    claim = backend.claim(task_id)
    size = {"width": width, "height": 800}
    page = open_task(task_id, color_scheme=scheme, viewport=size, reduced_motion="reduce")
    page.get_by_role("button", name="Cancel…").click()
    no_violation(page)
    page.get_by_role("button", name="Cancel the task").click()
    expect(page.locator("#status")).to_have_text("Cancelling")
    no_violation(page)
    backend.store.end_task(claim, Outcome.of({}).cancelled())
    expect(page.locator("#status")).to_have_text("Cancelled")
    no_violation(page)


def test_an_api_that_does_not_cancel_or_delete_is_not_asked_twice(
    backend: Backend, visit: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PUBLIC_CANCEL_AND_DELETE")
    running, ended = backend.create("running"), backend.create("ended")
    backend.claim(running)
    backend.complete(backend.claim(ended))
    page = visit(f"#/tasks/{running}")
    for task_id, verb in ((running, "cancel"), (ended, "delete")):
        page.evaluate("id => { location.hash = `#/tasks/${id}` }", task_id)
        button = page.locator(f"#{verb}")
        button.click()
        page.get_by_role("dialog").get_by_role("button", name=f"{verb} the task").click()

        expect(page.locator("#action-problem")).to_have_text(
            f"It is not possible to {verb} tasks here."
        )
        expect(button).to_be_hidden()
    answers = backend.requests("POST", "/tasks/") + backend.requests("DELETE")
    assert [answer.status for answer in answers] == [403, 403]
    assert {task["description"]: task["status"] for task in backend.tasks()} == {
        "running": "processing",
        "ended": "completed",
    }
