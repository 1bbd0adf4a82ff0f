"""The form of the page: what a person writes becomes one task, whatever happens on the way."""

from typing import Any

import pytest
from botocore.exceptions import BotoCoreError
from playwright.sync_api import expect

import valro.aws
from tests.conftest import eventually
from tests.page.conftest import PROMPT, Backend, Open, submit

pytestmark = pytest.mark.e2e


def test_a_double_click_is_one_task(backend: Backend, visit: Open):
    page = visit()
    page.get_by_label("What do you need done?").fill(PROMPT)

    page.get_by_role("button", name="Find vendors").dblclick()

    expect(page.locator("#what")).to_have_text(PROMPT)
    page.wait_for_timeout(500)
    assert len(backend.requests("POST")) == len(backend.tasks()) == 1


def test_a_lost_answer_is_asked_for_again_with_the_same_key_over_a_reload_too(
    backend: Backend, visit: Open
):
    page = visit()
    backend.loses_answers = True
    submit(page)
    expect(page.locator("#trouble")).to_be_visible()
    page.reload()
    backend.loses_answers = False

    submit(page)

    expect(page.locator("#what")).to_have_text(PROMPT)
    assert len({post.headers["idempotency-key"] for post in backend.requests("POST")}) == 1
    assert len(backend.tasks()) == 1

    submit(page)

    eventually(backend.tasks, lambda tasks: len(tasks) == 2)  # the same words are another task


def test_a_busy_api_is_asked_again_until_the_person_stops_that(backend: Backend, visit: Open):
    page = visit()
    expect(page.locator("#list-text")).to_have_text("No tasks yet.")
    backend.forced = [(429, {"message": "Too Many Requests"}, {})] * 9
    submit(page)
    expect(page.locator("#trouble")).to_contain_text("Valro is busy right now. Nothing is lost")
    eventually(lambda: backend.requests("POST"), lambda posts: len(posts) > 1)

    page.get_by_role("button", name="Stop trying").click()

    expect(page.get_by_role("alert").first).to_contain_text("it won't create a duplicate")
    expect(page.get_by_role("button", name="Find vendors")).to_be_focused()
    expect(page.get_by_label("What do you need done?")).to_have_value(PROMPT)


@pytest.mark.parametrize(
    "answer, words",
    [
        ((500, {"error": "No ARN.", "code": "not_configured"}, {}), "not set up yet"),
        ((422, {"error": "Use a new key.", "code": "idempotency_key_reused"}, {}), "went wrong"),
        ((401, {"message": "Unauthorized"}, {}), "Please sign in first."),
    ],
)
def test_an_error_that_does_not_pass_is_told_at_once(
    backend: Backend, visit: Open, answer: Any, words: str
):
    page = visit()
    expect(page.locator("#list-text")).to_have_text("No tasks yet.")
    backend.forced = [answer]
    submit(page)

    expect(page.get_by_role("alert").first).to_contain_text(words)
    expect(page.locator("#trouble")).to_be_hidden()
    assert len(backend.requests("POST")) == 1


def test_a_task_whose_worker_could_not_be_started_is_shown_with_the_reason(
    backend: Backend, visit: Open, monkeypatch: pytest.MonkeyPatch
):
    class Broken:
        def invoke(self, **_: Any) -> Any:
            raise BotoCoreError

    monkeypatch.setattr(valro.aws, "lambda_client", Broken)
    page = visit()
    submit(page)

    expect(page.get_by_role("alert").first).to_contain_text("The work could not be started.")
    expect(page.locator("#status")).to_have_text("Failed")
    expect(page.locator("#failure")).to_contain_text("could not be started")


def test_what_is_empty_or_too_long_is_said_and_not_sent_or_cut(backend: Backend, visit: Open):
    page = visit("#/tasks/unknown")
    expect(page.locator("#nothing")).to_contain_text("This task was not found.")
    field, problem = page.get_by_label("What do you need done?"), page.get_by_role("alert").first
    long = "🌳" * 3_999  # the API counts characters, not UTF-16 units
    for text, words in (
        ("   ", "Please describe what you need."),
        (f"{long}xyz", "This is 2 characters too long. Please shorten it."),
    ):
        field.fill(text)
        page.get_by_role("button", name="Find vendors").click()
        expect(problem).to_have_text(words)
        expect(field).to_be_focused()
        expect(field).to_have_value(text)
    expect(page.locator("#length")).to_have_text("4,002 of 4,000 characters")
    assert backend.requests("POST") == []

    field.fill(f"{long}x")
    expect(page.locator("#problem")).to_be_hidden()
    page.get_by_role("button", name="Find vendors").click()
    expect(page.locator("#status")).to_have_text("Waiting")
    assert backend.tasks()[0]["description"] == f"{long}x"


@pytest.mark.parametrize("code", ["completed", "not_started"])
def test_an_ended_task_is_edited_and_sent_again(backend: Backend, visit: Open, code: str):
    task_id = backend.create()
    claim = backend.claim(task_id)
    if code == "completed":
        backend.complete(claim)
    else:
        backend.fail(claim, code)
    page = visit(f"#/tasks/{task_id}")
    field = page.get_by_label("What do you need done?")

    page.get_by_role("button", name="Edit and send again").click()

    expect(field).to_be_focused()
    expect(field).to_have_value(PROMPT)
    warning = page.get_by_text("Vendors who were already contacted may get another e-mail.")
    expect(warning).to_be_visible(visible=code != "not_started")
    field.fill(f"{PROMPT}, on a Monday")
    page.get_by_role("button", name="Find vendors").click()
    expect(page.locator("#what")).to_have_text(f"{PROMPT}, on a Monday")
    expect(field).to_have_value("")
    expect(warning).to_be_hidden()
    assert len(backend.tasks()) == 2


def test_what_is_written_survives_a_reload_and_is_not_replaced_unasked(
    backend: Backend, visit: Open
):
    task_id = backend.create()
    backend.complete(backend.claim(task_id))
    page = visit(f"#/tasks/{task_id}")
    field = page.get_by_label("What do you need done?")
    field.fill("Find me a plumber")
    page.reload()
    expect(field).to_have_value("Find me a plumber")

    again = page.get_by_role("button", name="Edit and send again")
    again.click()
    page.get_by_role("button", name="Keep it").click()
    expect(field).to_have_value("Find me a plumber")
    expect(again).to_be_focused()
    again.click()
    page.get_by_role("button", name="Replace it").click()
    expect(field).to_have_value(PROMPT)
    field.fill("")
    page.reload()
    expect(field).to_have_value("")
