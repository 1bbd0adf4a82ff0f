"""The list of tasks on the page: it stays true, and a person finds something in it."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.conftest import eventually
from tests.page.conftest import ANSWER, Backend, Open, go_to

pytestmark = pytest.mark.e2e

LOOK_AGAIN = "document.dispatchEvent(new Event('visibilitychange'))"
LATER = "ms => { const now = Date.now; Date.now = () => now() + ms; }"


def listed(page: Page) -> list[str]:
    return page.locator("#tasks .what").all_inner_texts()


def test_every_listed_task_is_renewed_and_what_is_gone_is_dropped(backend: Backend, visit: Open):
    ids = {name: backend.create(name) for name in ("runs on", "gone later", "ends", "gone")}
    claims = {name: backend.claim(task_id) for name, task_id in ids.items()}
    for number in range(12):
        backend.complete(backend.claim(backend.create(f"task {number}")))
    page = visit()
    page.get_by_role("button", name="Older tasks").click()
    expect(page.locator("#tasks li")).to_have_count(16)
    page.evaluate(LATER, 120_000)  # none is so new that a list may lack it

    def delete(name: str) -> None:
        backend.fail(claims[name], "agent_failed")
        backend.store.delete_task(ids[name], "public")

    delete("gone")
    backend.complete(claims["ends"])
    backend.create("made elsewhere")
    page.evaluate(LOOK_AGAIN)

    expect(page.locator("#tasks .status").nth(-3)).to_have_text("Completed")
    assert listed(page)[:2] == ["made elsewhere", "task 11"]
    assert listed(page)[-4:] == ["task 0", "ends", "gone later", "runs on"]

    # As if a hundred newer ones had filled the list: what runs beyond it is asked for by itself.
    def short(route: Route) -> str:
        return re.sub(r"limit=\d+", "limit=5", route.request.url)

    page.route(re.compile(r"limit=2\d"), lambda route: route.continue_(url=short(route)))
    delete("gone later")
    backend.complete(claims["runs on"])
    page.evaluate(LOOK_AGAIN)

    expect(page.locator("#tasks .status").last).to_have_text("Completed")
    assert listed(page)[-3:] == ["task 0", "ends", "runs on"]


def test_search_and_chips_find_tasks_in_older_ones_too(backend: Backend, visit: Open):
    backend.create("Paint the FENCE in Austin")
    for number in range(26):
        backend.complete(backend.claim(backend.create(f"task {number}")))
    backend.store.cancel_task(backend.create("cancelled"), "public")
    page = visit()
    page.get_by_role("button", name="Cancelled").click()
    expect(page.locator("#tasks .what")).to_have_text(["cancelled"])
    expect(page.get_by_role("status")).to_have_text("1 task")

    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_label("Search your tasks").fill("fence paint")
    expect(page.locator("#list-text")).to_have_text("No matching tasks.")
    page.get_by_role("button", name="Look through older tasks").click()

    expect(page.locator("#tasks .what")).to_have_text(["Paint the FENCE in Austin"])
    expect(page.locator("#tasks a")).to_be_focused()
    expect(page.locator("#older")).to_be_hidden()


def test_what_the_list_knows_of_a_task_is_shown_while_all_of_it_loads(
    backend: Backend, visit: Open
):
    task_id = backend.create()
    backend.complete(backend.claim(task_id))
    page = visit()
    expect(page.locator("#tasks li")).to_have_count(1)
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    page.route(f"**/tasks/{task_id}", hold)

    page.locator("#tasks a").click()
    expect(page.locator("#what")).to_be_focused()
    expect(page.locator("#answer")).to_have_text("Loading…")
    expect(page.locator("#vendors .name")).to_have_count(3)
    page.get_by_text("1 e-mail sent").first.click()
    assert len(held) == 1
    held[0].continue_()

    expect(page.locator("#answer")).to_have_text(ANSWER["agent_response"])
    expect(page.locator(".email").first).to_be_visible()  # what was opened stays open


def test_a_list_that_was_refused_is_asked_for_again_when_something_happens(
    backend: Backend, visit: Open
):
    task_id = backend.create()
    backend.forced = [(404, {"message": "Not Found"}, {})]
    page = visit()
    expect(page.locator("#list-text")).to_contain_text("Something went wrong on our side.")

    go_to(page, task_id)

    expect(page.locator("#list-text")).to_be_hidden()
    expect(page.locator("#tasks li")).to_have_count(1)
    eventually(lambda: backend.requests("GET", "/tasks?"), lambda lists: len(lists) == 2)


def test_older_leads_through_all_tasks_once_newest_first_while_new_ones_are_made(
    backend: Backend, visit: Open
):
    for number in range(30):
        backend.create(f"task {number}")
    page = visit()
    items = page.locator("#tasks .what")
    older = page.get_by_role("button", name="Older tasks")
    expect(items).to_have_text([f"task {number}" for number in range(29, 17, -1)])

    backend.create("task 30")
    older.click()
    expect(items).to_have_count(24)
    expect(page.locator("#tasks a").nth(12)).to_be_focused()
    page.locator("#tasks a").nth(3).click()
    expect(page.locator("#what")).to_have_text("task 26")
    expect(items.first).to_have_text("task 30")
    older.click()

    expect(items).to_have_text([f"task {number}" for number in range(30, -1, -1)])
    expect(older).to_be_hidden()
    page.go_back()
    expect(page.locator("#nothing")).to_be_visible()
    expect(page.locator("#tasks a").nth(4)).to_be_focused()  # the task that was open
