"""A conversation on the page: what came before, a reply, and the agent's questions."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import PROMPT, Backend, Open, go_to

pytestmark = pytest.mark.e2e

BOOK: dict[str, Any] = {
    "id": "book",
    "message": "Shall I book Green Fern for Tuesday?",
    "response_schema": {"type": "boolean"},
}
APPROVE = BOOK | {
    "id": "approve",
    "response_schema": {"type": "object", "properties": {"approved": {"type": "boolean"}}},
}
COLOUR = {"id": "colour", "message": "Which colour?", "response_schema": {"enum": ["White", 7]}}
COATS = {"id": "coats", "message": "How many coats?"}


def sent(backend: Backend) -> list[dict[str, Any]]:
    """The bodies of what the page has POSTed."""
    return [json.loads(post.body) for post in backend.requests("POST", "/tasks")]


def open_id(page: Page) -> str:
    return page.url.rpartition("/")[2]


def test_a_conversation_of_three_turns_with_a_question_in_it(backend: Backend, visit: Open):
    first = backend.create()
    backend.complete(backend.claim(first))
    page = visit(f"#/tasks/{first}")
    reply = page.get_by_label("Ask for more, or change something")
    reply.fill("Please ask Green Fern for Tuesday")
    page.reload()
    expect(reply).to_have_value("Please ask Green Fern for Tuesday")
    page.get_by_role("button", name="Send reply").click()

    expect(page.locator("#what")).to_have_text("Please ask Green Fern for Tuesday")
    expect(page.locator("#what")).to_be_focused()
    expect(page.locator("#reply")).to_be_hidden()
    expect(page.locator("#turns .what")).to_have_text([PROMPT])
    expect(page.locator("#turns .prose")).to_be_hidden()
    page.locator("#turns summary").first.click()
    expect(page.locator("#turns .prose")).to_contain_text("3 landscapers")
    expect(page.locator("#turns .vendors .name")).to_have_count(3)
    second = open_id(page)
    text = "Tuesday is free."
    backend.complete(backend.claim(second), agent_response=text, interrupts=[BOOK], vendors=[])

    expect(page.locator("#status")).to_have_text("Needs your answer")
    expect(page.locator("#tasks .status")).to_have_text(["Needs your answer"])
    page.get_by_role("group", name=str(BOOK["message"])).get_by_role("button", name="Yes").click()

    expect(page.locator("#what")).to_have_text("Yes")
    expect(page.locator("#turns .what")).to_have_text([PROMPT, "Please ask Green Fern for Tuesday"])
    expect(page.locator("#turns .status")).to_have_text(["Completed", "Completed"])
    expect(page.locator("#tasks .what")).to_have_text([PROMPT])
    expect(page.locator("#tasks .reply")).to_have_text(["Yes"])
    assert sent(backend) == [
        {"description": "Please ask Green Fern for Tuesday", "follows": first},
        {"description": "Yes", "follows": second, "answers": {"book": True}},
    ]
    go_to(page, first)
    page.get_by_role("link", name="Go to your reply").click()
    expect(page.locator("#what")).to_have_text("Please ask Green Fern for Tuesday")


@pytest.mark.parametrize(
    "interrupts, does, body",
    [
        (
            [BOOK],
            lambda page: page.get_by_label("Or answer in your own words").fill("Not yet"),
            {"description": "Not yet", "answers": {"book": "Not yet"}},
        ),
        (
            [APPROVE, COATS],
            lambda page: page.get_by_role("button", name="No").click(),
            {
                "description": "Shall I book Green Fern for Tuesday? No",
                "answers": {"approve": {"approved": False}},
            },
        ),
        (  # one that is left out is cancelled by the API
            [COLOUR, COATS, BOOK],
            lambda page: (
                page.get_by_role("button", name="7").click(),
                page.get_by_label("Your answer").fill("Two"),
            ),
            {
                "description": "Which colour? 7\nHow many coats? Two",
                "answers": {"colour": 7, "coats": "Two"},
            },
        ),
    ],
)
def test_questions_are_answered_by_buttons_or_in_words(
    backend: Backend, show: Open, interrupts: Any, does: Any, body: dict[str, Any]
):
    page = show(interrupts=interrupts)
    task_id = open_id(page)
    send = page.get_by_role("button", name="Send reply")
    send.click()
    expect(page.locator("#reply .problem")).to_have_text("Please answer first.")
    does(page)
    send.click()

    expect(page.locator("#what")).to_have_text(body["description"])
    assert sent(backend) == [body | {"follows": task_id}]


def test_a_question_that_is_the_whole_answer_is_shown_once(show: Open):
    text = "Which colour?\nHow many coats?"
    page = show(interrupts=[COLOUR, COATS], agent_response=text, vendors=[])

    expect(page.locator("#answer-section")).to_be_hidden()
    expect(page.locator("#reply legend")).to_have_text(["Which colour?", "How many coats?"])


def test_a_reply_from_elsewhere_leads_there(backend: Backend, show: Open):
    page = show(interrupts=[COATS])
    elsewhere = {"description": "Three", "follows": open_id(page)}
    body = json.dumps(elsewhere).encode()
    follower = json.loads(backend.answer("POST", "/tasks", {}, body)["body"])["id"]
    page.get_by_label("Your answer").fill("Two")
    page.get_by_role("button", name="Send reply").click()

    expect(page.locator("#what")).to_have_text("Three")
    assert open_id(page) == follower


def test_an_earlier_part_that_was_deleted_is_said(backend: Backend, visit: Open):
    first = backend.create()
    backend.complete(backend.claim(first))
    second = backend.follow(first)
    backend.store.delete_task(first, "public")
    page = visit(f"#/tasks/{second}")

    expect(page.locator("#turns")).to_have_text("An earlier part of this conversation was deleted.")
