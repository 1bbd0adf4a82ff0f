"""The page in a real Chromium: what a person sees, and what the API is asked.

Most tests run it against the API's own function on moto, over real HTTP, where a test plays the
worker; the whole journey runs on the deployed stack. VALRO_SCREENSHOTS=1 renews docs/*.png.
"""

import itertools
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from botocore.exceptions import BotoCoreError
from playwright.sync_api import Page, expect

import lambda_function
from local.faults import odd_answer
from local.page_server import serve_page
from local.vendors import build_answer, progress_lines
from tests.conftest import Deployment, eventually
from tests.page.conftest import (
    ANSWER,
    GATEWAY,
    PROMPT,
    VOLATILE,
    Asked,
    Backend,
    Open,
    no_violation,
    tab_to,
)
from valro.tasks import Outcome

DOCS = Path(__file__).resolve().parents[2] / "docs"
MARKUP = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script><b>bold</b>"

pytestmark = pytest.mark.e2e


def test_a_person_writes_a_task_and_watches_it_to_its_end(stack: Deployment, visit: Open):
    with serve_page(stack.api.url) as page_url:
        page = visit(page_url)
        page.get_by_label("What do you need done?").fill(PROMPT)
        page.get_by_role("button", name="Find vendors").click()

        expect(page.locator("#status")).to_have_text("Completed", timeout=30_000)
        task_id = page.url.rpartition("#/tasks/")[2]
        task = stack.task(task_id)
        expect(page.get_by_role("heading", level=2, name=PROMPT)).to_be_focused()
        said = [event["message"] for event in task["events"]]
        assert said[:3] == [
            "Task created",
            "Worker Lambda invoked - processing started",
            "Agent processing started",
        ]
        expect(page.locator("#timeline li span")).to_have_text(
            ["Request received", "The agent has started", *said[3:-1], "Finished"]
        )
        expect(page.locator("#answer")).to_have_text(task["agent_response"])
        expect(page.locator("#vendors h4")).to_have_text([v["name"] for v in task["vendors"]])
        page.get_by_text("1 e-mail sent").first.click()
        mail = task["vendors"][0]["emails"][0]
        expect(page.locator(".email").first).to_contain_text(mail["subject"])
        expect(page.locator(".email").first).to_contain_text(f"To {mail['recipient']}")
        expect(page.locator("#quotes tr")).to_have_count(len(task["quotes"]))
        expect(page.locator("#quotes tr").first).to_contain_text("$240.00")
        expect(page.locator("#emails")).to_have_text("3 e-mails sent")
        listed = page.locator("#tasks a[aria-current=true]")
        expect(listed).to_contain_text("Completed")

        page.reload()

        expect(page.locator("#answer")).to_have_text(task["agent_response"])
        assert stack.agent_runs(task_id) == 1


def test_the_gateways_headers_that_the_other_tests_use_are_those_of_the_real_one(
    stack: Deployment,
):
    origin = {"Origin": "http://127.0.0.1:1"}
    asks = {"Access-Control-Request-Method": "POST"}
    task_id = stack.run(PROMPT)["id"]
    stalled = stack.create("Find me a painter [agent: stall 60]")
    cancel = f"/tasks/{stalled}/cancel"
    stack.api.request("POST", cancel)
    stack.finish(stalled)
    known = {"If-None-Match": stack.api.request("GET", f"/tasks/{task_id}").headers["ETag"]}
    answers = {
        "POST 202": stack.api.request("POST", "/tasks", {"description": PROMPT}, origin),
        "POST 200": stack.api.request("POST", cancel, headers=origin),
        "POST 409": stack.api.request("POST", f"/tasks/{task_id}/cancel", headers=origin),
        "DELETE 204": stack.api.request("DELETE", f"/tasks/{stalled}", headers=origin),
        "DELETE 404": stack.api.request("DELETE", f"/tasks/{stalled}", headers=origin),
        "POST 400": stack.api.request("POST", "/tasks", {"description": " "}, origin),
        "GET 200": stack.api.request("GET", f"/tasks/{task_id}", headers=origin),
        "GET 304": stack.api.request("GET", f"/tasks/{task_id}", headers=origin | known),
        "GET 404": stack.api.request("GET", "/tasks/unknown", headers=origin),
        "OPTIONS 204": stack.api.request("OPTIONS", "/tasks", headers=origin | asks),
    }
    seen = {
        name: {key: value for key, value in answer.headers.items() if key.lower() not in VOLATILE}
        for name, answer in answers.items()
    }

    assert {name.partition(" ")[2] for name in seen} == {str(a.status) for a in answers.values()}
    if os.environ.get("VALRO_RECORD"):
        GATEWAY.write_text(json.dumps(seen, indent=2) + "\n")
    assert seen == json.loads(GATEWAY.read_text()), "VALRO_RECORD=1 records it again"


def test_an_agents_failure_is_told_in_words(stack: Deployment, visit: Open):
    task = stack.run("Find me a painter in Austin [agent: error]")
    with serve_page(stack.api.url) as page_url:
        page = visit(f"{page_url}#/tasks/{task['id']}")

        expect(page.locator("#status")).to_have_text("Failed")
        expect(page.locator("#failure-text")).to_contain_text(
            "The vendor directory is closed today."
        )
        expect(page.locator("#answer")).to_be_hidden()


def test_the_timeline_grows_and_a_screen_reader_hears_what_is_new(
    backend: Backend, page_url: str, visit: Open
):
    task_id = backend.create()
    page = visit(f"{page_url}#/tasks/{task_id}")
    expect(page.locator("#status")).to_have_text("Waiting")
    expect(page.locator("#elapsed")).to_have_text(re.compile(r"Waiting for \d+ s"))

    claim = backend.claim(task_id)
    expect(page.locator("#status")).to_have_text("In progress")
    expect(page.get_by_role("status")).to_have_text("The agent has started")
    backend.say(claim, "Looking for landscapers")
    expect(page.locator("#timeline li")).to_have_count(3)
    expect(page.get_by_role("status")).to_have_text("Looking for landscapers")
    first = page.locator("#timeline li").first.element_handle()
    backend.complete(claim)

    expect(page.locator("#status")).to_have_text("Completed")
    expect(page.locator("#timeline li")).to_have_count(4)
    assert first.is_visible(), "lines that are there stay: nobody who reads them is interrupted"
    assert page.title().startswith("Completed: Find me")


def test_it_polls_as_retry_after_says_with_the_etag_and_stops_when_the_task_is_final(
    backend: Backend, page_url: str, visit: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lambda_function, "POLLING", ((600, 2),))
    task_id = backend.create()
    page = visit(f"{page_url}#/tasks/{task_id}")
    polls = eventually(
        lambda: backend.requests("GET", f"/tasks/{task_id}"), lambda polls: len(polls) >= 3, 20
    )

    assert [poll.status for poll in polls[:3]] == [200, 304, 304]
    assert "if-none-match" not in polls[0].headers
    assert polls[1].headers["if-none-match"] == polls[2].headers["if-none-match"]
    for earlier, later in itertools.pairwise(polls):
        assert 1.8 < later.at - earlier.at < 4

    backend.complete(backend.claim(task_id))
    expect(page.locator("#status")).to_have_text("Completed")
    count = len(backend.requests("GET", f"/tasks/{task_id}"))
    page.evaluate("window.dispatchEvent(new Event('wake'))")  # ends any wait for a next poll
    page.wait_for_timeout(500)
    assert len(backend.requests("GET", f"/tasks/{task_id}")) == count


def test_a_hidden_tab_asks_nothing_until_it_is_looked_at_again(
    backend: Backend, page_url: str, visit: Open
):
    task_id = backend.create()
    page = visit(f"{page_url}#/tasks/{task_id}")
    expect(page.locator("#status")).to_have_text("Waiting")
    look = "hidden => { Object.defineProperty(document, 'hidden', {configurable: true, value: hidden}); document.dispatchEvent(new Event('visibilitychange')); }"

    page.evaluate(look, True)
    page.wait_for_timeout(300)
    count = len(backend.asked)
    page.wait_for_timeout(2_500)
    assert len(backend.asked) == count

    backend.claim(task_id)
    page.evaluate(look, False)
    expect(page.locator("#status")).to_have_text("In progress")


def test_the_api_goes_away_and_comes_back(backend: Backend, page_url: str, visit: Open):
    task_id = backend.create()
    claim = backend.claim(task_id)
    page = visit(f"{page_url}#/tasks/{task_id}")
    expect(page.locator("#status")).to_have_text("In progress")

    backend.is_down = True
    trouble = page.locator("#trouble")
    expect(trouble).to_contain_text("cannot be reached")
    expect(trouble).to_contain_text("Next try in")
    expect(page.get_by_role("status")).to_contain_text("cannot be reached")
    gaps = eventually(lambda: _gaps(backend.asked), lambda gaps: len(gaps) >= 3, 20)
    assert gaps[2] > 1.9, "it waits longer from try to try: 0.5 to 1 s, 1 to 2, 2 to 4"
    assert page.locator("#timeline li").count() == 2, "what is known stays on the page"

    backend.is_down = False
    backend.complete(claim)
    page.get_by_role("button", name="Try now").click()

    expect(page.locator("#status")).to_have_text("Completed")
    expect(trouble).to_be_hidden()
    expect(page.get_by_role("status")).not_to_contain_text("cannot be reached")


def test_an_api_that_is_down_at_first_is_said_where_the_tasks_will_be(
    backend: Backend, page_url: str, visit: Open
):
    backend.create()
    backend.is_down = True
    page = visit(page_url)
    words = "They appear here as soon as the API answers."
    expect(page.locator("#list-text")).to_have_text(words)

    backend.is_down = False
    page.get_by_role("button", name="Try now").click()

    expect(page.locator("#tasks li")).to_have_count(1)
    expect(page.locator("#list-text")).to_be_hidden()


def test_a_list_that_was_refused_is_asked_for_again_when_something_happens(
    backend: Backend, page_url: str, visit: Open
):
    task_id = backend.create()
    backend.forced = [(404, {"message": "Not Found"}, {})]
    page = visit(page_url)
    expect(page.locator("#list-text")).to_have_text("The API answered 404 Not Found.")

    page.evaluate("id => { location.hash = `#/tasks/${id}` }", task_id)

    expect(page.locator("#list-text")).to_be_hidden()
    expect(page.locator("#tasks li")).to_have_count(1)
    eventually(lambda: backend.requests("GET", "/tasks?"), lambda lists: len(lists) == 2)


def test_a_throttled_request_is_sent_again_when_retry_after_says(
    backend: Backend, page_url: str, visit: Open
):
    page = visit(page_url)
    expect(page.locator("#list-text")).to_have_text("No tasks yet.")
    backend.forced = [(429, {"message": "Too Many Requests"}, {"Retry-After": "2"})]
    _submit(page)

    expect(page.locator("#trouble")).to_contain_text("The API answered 429 Too Many Requests.")
    expect(page.locator("#what")).to_have_text(PROMPT)
    first, second = backend.requests("POST")
    assert second.at - first.at > 1.8


def test_a_double_click_is_one_task(backend: Backend, page_url: str, visit: Open):
    page = visit(page_url)
    page.get_by_label("What do you need done?").fill(PROMPT)

    page.get_by_role("button", name="Find vendors").dblclick()

    expect(page.locator("#what")).to_have_text(PROMPT)
    assert len(backend.requests("POST")) == len(backend.tasks()) == 1


def test_a_lost_answer_is_asked_for_again_with_the_same_key_and_is_one_task(
    backend: Backend, page_url: str, visit: Open
):
    page = visit(page_url)
    backend.lost_answers = 2
    _submit(page)

    expect(page.locator("#what")).to_have_text(PROMPT)
    posts = backend.requests("POST")
    assert [post.status for post in posts] == [0, 0, 202]
    assert len({post.headers["idempotency-key"] for post in posts}) == 1
    assert len(backend.tasks()) == 1

    _submit(page)

    eventually(lambda: backend.requests("POST"), lambda posts: len(posts) == 4)
    assert len(backend.tasks()) == 2
    keys = {post.headers["idempotency-key"] for post in backend.requests("POST")}
    assert len(keys) == 2, "the same words once more are another task"


def test_a_key_outlives_a_reload_before_the_answer(backend: Backend, page_url: str, visit: Open):
    page = visit(page_url)
    backend.lost_answers = 1_000  # Chromium, too, repeats a request whose connection was closed
    _submit(page)
    expect(page.locator("#trouble")).to_be_visible()
    page.reload()
    backend.lost_answers = 0

    _submit(page)

    expect(page.locator("#what")).to_have_text(PROMPT)
    assert len(backend.tasks()) == 1


def test_a_person_may_stop_the_tries(backend: Backend, page_url: str, visit: Open):
    page = visit(page_url)
    backend.is_down = True
    _submit(page)

    page.get_by_role("button", name="Stop trying").click()

    expect(page.get_by_role("alert").first).to_contain_text("cannot make a second task")
    expect(page.get_by_role("button", name="Find vendors")).to_be_focused()
    expect(page.get_by_label("What do you need done?")).to_have_value(PROMPT)


@pytest.mark.parametrize(
    "answer, words",
    [
        ((500, {"error": "WORKER_LAMBDA_ARN not set", "code": "not_configured"}, {}), "not set"),
        ((422, {"error": "Use a new key.", "code": "idempotency_key_reused"}, {}), "a new key."),
        ((401, {"message": "Unauthorized"}, {}), "this page has no sign-in."),
    ],
)
def test_an_error_that_does_not_pass_is_told_at_once(
    backend: Backend, page_url: str, visit: Open, answer: Any, words: str
):
    page = visit(page_url)
    expect(page.locator("#list-text")).to_have_text("No tasks yet.")
    backend.forced = [answer]
    _submit(page)

    expect(page.get_by_role("alert").first).to_contain_text(words)
    expect(page.locator("#trouble")).to_be_hidden()
    assert len(backend.requests("POST")) == 1


def test_a_task_whose_worker_could_not_be_started_is_shown_with_the_reason(
    backend: Backend, page_url: str, visit: Open, monkeypatch: pytest.MonkeyPatch
):
    class Broken:
        def invoke(self, **_: Any) -> Any:
            raise BotoCoreError

    monkeypatch.setattr(lambda_function, "lambda_client", Broken)
    page = visit(page_url)
    _submit(page)

    expect(page.get_by_role("alert").first).to_contain_text("The worker could not be started")
    expect(page.locator("#status")).to_have_text("Failed")
    expect(page.locator("#failure")).to_contain_text("could not be started")


def test_what_is_too_long_is_said_and_not_cut(backend: Backend, page_url: str, visit: Open):
    page = visit(page_url)
    expect(page.locator("#length")).to_be_hidden()
    field = page.get_by_label("What do you need done?")
    field.fill("🌳" * 3_999 + "xyz")  # the API counts characters, not UTF-16 units
    expect(page.locator("#length")).to_have_text("4,002 of 4,000 characters")
    page.get_by_role("button", name="Find vendors").click()

    expect(page.get_by_role("alert").first).to_have_text(
        "This is 2 characters too long. Please shorten it."
    )
    expect(field).to_be_focused()
    expect(field).to_have_value("🌳" * 3_999 + "xyz")
    assert backend.requests("POST") == []

    field.fill("🌳" * 3_999 + "x")
    expect(page.locator("#problem")).to_be_hidden()
    page.get_by_role("button", name="Find vendors").click()
    expect(page.locator("#status")).to_have_text("Waiting")
    assert backend.tasks()[0]["description"] == "🌳" * 3_999 + "x"


def test_it_says_before_one_sends_what_will_happen(backend: Backend, page_url: str, visit: Open):
    page = visit(page_url)

    promise = page.locator("#promise")
    expect(promise).to_contain_text("e-mail real businesses")
    expect(promise).to_contain_text("some minutes")
    expect(promise).to_contain_text("close this page")
    expect(page.get_by_label("What do you need done?")).to_have_accessible_description(
        re.compile("e-mail real businesses")
    )


def test_a_failed_task_is_tried_again_as_a_new_one_only_after_a_question(
    backend: Backend, page_url: str, visit: Open
):
    task_id = backend.create()
    backend.store.end_task(
        backend.claim(task_id),
        Outcome.of({}, "agent_failed", "The vendor directory is closed today."),
    )
    page = visit(f"{page_url}#/tasks/{task_id}")
    expect(page.locator("#failure")).to_contain_text("The vendor directory is closed today.")

    page.get_by_role("button", name="Try again").click()
    question = page.get_by_role("dialog", name="Try again?")
    expect(question).to_contain_text("may get a second e-mail")
    expect(page.get_by_role("button", name="Not now")).to_be_focused()
    page.keyboard.press("Escape")
    expect(question).to_be_hidden()
    expect(page.get_by_role("button", name="Try again")).to_be_focused()
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name="Not now").click()
    assert backend.requests("POST") == []

    page.get_by_role("button", name="Try again").click()
    question.get_by_role("button", name="Try again").click()

    expect(page.locator("#status")).to_have_text("Waiting")
    expect(page.locator("#what")).to_have_text(PROMPT)
    expect(page.locator("#tasks li")).to_have_count(2)
    assert len(backend.tasks()) == len(backend.requests("POST")) + 1 == 2


def test_a_failure_is_told_once_in_the_notice_and_by_its_kind_in_the_timeline(
    backend: Backend, page_url: str, visit: Open
):
    task_id = backend.create()
    backend.store.end_task(
        backend.claim(task_id), Outcome.of({}, "agent_failed", "The directory is closed.")
    )

    page = visit(f"{page_url}#/tasks/{task_id}")

    expect(page.locator("#failure-text")).to_have_text("The directory is closed.")
    expect(page.locator("#timeline li.error span")).not_to_contain_text("The directory is closed.")
    expect(page.get_by_text("The directory is closed.")).to_have_count(1)


def test_an_api_that_does_not_cancel_or_delete_is_not_asked_twice(
    backend: Backend, page_url: str, visit: Open, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PUBLIC_CANCEL_AND_DELETE")
    running, ended = backend.create("running"), backend.create("ended")
    backend.claim(running)
    backend.complete(backend.claim(ended))
    page = visit(f"{page_url}#/tasks/{running}")
    for task_id, verb in ((running, "cancel"), (ended, "delete")):
        page.evaluate("id => { location.hash = `#/tasks/${id}` }", task_id)
        button = page.locator(f"#{verb}")
        button.click()
        page.get_by_role("dialog").get_by_role("button", name=f"{verb} the task").click()

        expect(page.locator("#deed-problem")).to_have_text(
            f"This service does not let pages {verb} tasks."
        )
        expect(button).to_be_hidden()
    answers = backend.requests("POST", "/tasks/") + backend.requests("DELETE")
    assert [answer.status for answer in answers] == [403, 403]
    assert {task["description"]: task["status"] for task in backend.tasks()} == {
        "running": "processing",
        "ended": "completed",
    }


def test_it_says_how_long_a_task_runs_and_that_nothing_was_heard(
    backend: Backend, page_url: str, visit: Open
):
    task_id = backend.create()
    claim = backend.claim(task_id)
    page = visit(f"{page_url}#/tasks/{task_id}")
    expect(page.locator("#elapsed")).to_have_text(re.compile(r"Running for \d+ s"))
    expect(page.locator("#silence")).to_be_hidden()

    page.clock.set_system_time(datetime.now(UTC) + timedelta(minutes=2, seconds=5))

    expect(page.locator("#silence")).to_contain_text("Nothing heard for 2 min.")
    expect(page.locator("#elapsed")).to_contain_text("Running for 2 min")
    backend.complete(claim)
    expect(page.locator("#elapsed")).to_have_text(re.compile(r"Took \d+ s"))
    expect(page.locator("#silence")).to_be_hidden()


def test_a_long_tasks_lines_say_when_after_its_beginning_they_came(
    backend: Backend, page_url: str, visit: Open
):
    task_id = backend.create()
    claim = backend.claim(task_id)
    begin = datetime.now(UTC)
    for minutes, line in ((0.1, "At first"), (3, "Then"), (125, "At last")):
        ts = (begin + timedelta(minutes=minutes)).isoformat(timespec="microseconds")
        claim.timeline.add_progress(ts.replace("+00:00", "Z"), line)
    backend.store.record_progress(claim)

    page = visit(f"{page_url}#/tasks/{task_id}")

    times = page.locator("#timeline time")
    expect(times).to_have_count(5)
    assert [text.split("+ ")[1] for text in times.all_inner_texts()[2:]] == [
        "6 s",
        "3 min",
        "2 h 5 min",
    ]


@pytest.mark.parametrize(
    "quotes, rows",
    [
        (
            [{"vendor": "Ivy", "price": 240}, {"vendor": "Oak", "price": 1_275.5}],
            ["Ivy\t\t$240.00", "Oak\t\t$1,275.50"],
        ),
        (
            [{"vendor_id": "v1", "amount": 240}, {"vendor_id": "v9", "amount": 99}],
            ["Ivy\t\t$240.00", "v9\t\t$99.00"],
        ),
        (
            [{"vendor_id": "v1", "vendor": "Ivy", "amount": 1, "price": 1, "currency": "EUR"}],
            ["Ivy\t\t€1.00"],
        ),
        ([{"vendor": "Ivy", "price": "about $50", "days": 3}], ["Ivy\tDays: 3\tabout $50"]),
    ],
)
def test_quotes_of_either_form_name_their_vendor_and_their_price(
    backend: Backend, page_url: str, visit: Open, quotes: Any, rows: list[str]
):
    task_id = backend.create()
    vendors = [{"id": "v1", "name": "Ivy", "price": 240, "emails": []}]
    backend.complete(backend.claim(task_id), vendors=vendors, quotes=quotes)

    page = visit(f"{page_url}#/tasks/{task_id}")

    expect(page.locator("#quotes tr")).to_have_count(len(rows))
    cells = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent).join('\t'))"
    assert page.locator("#quotes tr").evaluate_all(cells) == rows
    expect(page.locator("#vendors dd")).to_have_text(["€240.00" if "€" in rows[0] else "$240.00"])


def test_the_list_follows_the_open_task(backend: Backend, page_url: str, visit: Open):
    task_id = backend.create()
    page = visit(f"{page_url}#/tasks/{task_id}")
    listed = page.locator("#tasks a[aria-current=true] .status")
    expect(listed).to_have_text("Waiting")
    expect(page.locator("#list-text")).to_be_hidden()  # loaded
    lists = len(backend.requests("GET", "/tasks?"))

    backend.complete(backend.claim(task_id))

    expect(listed).to_have_text("Completed")
    assert len(backend.requests("GET", "/tasks?")) == lists


def test_what_the_list_knows_of_a_task_is_shown_while_all_of_it_loads(
    backend: Backend, page_url: str, visit: Open
):
    task_id = backend.create()
    backend.complete(backend.claim(task_id))
    page = visit(page_url)
    expect(page.locator("#tasks li")).to_have_count(1)
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    page.route(f"**/tasks/{task_id}", hold)

    page.locator("#tasks a").click()
    expect(page.locator("#what")).to_be_focused()
    expect(page.locator("#answer")).to_have_text("Loading …")
    expect(page.locator("#vendors h4")).to_have_count(3)
    page.get_by_text("1 e-mail sent").first.click()
    assert len(held) == 1
    held[0].continue_()

    expect(page.locator("#answer")).to_have_text(ANSWER["agent_response"])
    expect(page.locator(".email").first).to_be_visible()  # what was opened stays open


def test_on_a_phone_the_open_task_comes_first_and_examples_give_way(
    backend: Backend, page_url: str, visit: Open
):
    page = visit(page_url, viewport={"width": 390, "height": 844})
    expect(page.locator(".example").first).to_be_visible()
    _submit(page)

    expect(page.locator("#what")).to_be_focused()
    expect(page.locator("#what")).to_be_in_viewport()
    expect(page.locator(".example").first).to_be_hidden()
    ids = "[...document.querySelectorAll('.columns > *')].map(element => element.id).join()"
    assert page.evaluate(ids) == "task,form,nav", "for the eye and for Tab alike"

    page.get_by_role("link", name="New task").click()
    page.wait_for_function(f"{ids} === 'form,task,nav'")
    expect(page.get_by_label("What do you need done?")).to_be_focused()
    page.set_viewport_size({"width": 1280, "height": 844})
    expect(page.get_by_role("link", name="New task")).to_be_hidden()


def test_nothing_to_send_and_no_such_task_are_told(backend: Backend, page_url: str, visit: Open):
    page = visit(f"{page_url}#/tasks/unknown")

    expect(page.locator("#nothing")).to_contain_text("Task not found.")
    page.get_by_label("What do you need done?").fill("   ")
    page.get_by_role("button", name="Find vendors").click()
    expect(page.get_by_role("alert").first).to_have_text("Write what you need first.")
    expect(page.get_by_label("What do you need done?")).to_be_focused()
    assert backend.requests("POST") == []


def test_what_users_and_agents_write_is_text_never_markup(
    backend: Backend, page_url: str, visit: Open
):
    vendor = {"name": MARKUP, "email": MARKUP, MARKUP: MARKUP, "rating": {"a": MARKUP}}
    mail = {"recipient": MARKUP, "subject": MARKUP, "body": MARKUP, "timestamp": MARKUP}
    task_id = backend.create(MARKUP)
    claim = backend.claim(task_id)
    backend.say(claim, MARKUP)
    backend.complete(
        claim,
        agent_response=MARKUP,
        vendors=[vendor | {"emails": [mail, MARKUP]}],
        quotes=[{"vendor": MARKUP, "price": MARKUP, "currency": MARKUP, MARKUP: MARKUP}],
    )
    failed = backend.claim(backend.create(MARKUP))
    backend.store.end_task(failed, Outcome.of({}, "agent_failed", MARKUP))

    page = visit(f"{page_url}#/tasks/{task_id}")
    expect(page.locator("#answer")).to_have_text(MARKUP)
    page.get_by_text("2 e-mails sent").click()
    for place in ("#what", "#vendors h4", ".email strong", "#tasks .what", "#quotes td"):
        expect(page.locator(place).first).to_have_text(MARKUP)
    expect(page.locator("#timeline li span").nth(2)).to_have_text(MARKUP)
    expect(page.locator("#tasks li")).to_have_count(2)  # the list, and not the open task alone
    page.locator("#tasks a").first.click()
    expect(page.locator("#failure-text")).to_have_text(MARKUP)

    assert page.locator("main img, main script, main b").count() == 0
    assert page.evaluate("window.hacked") is None
    # The browser itself would refuse markup, should a later change of the page forget.
    refused = "() => { try { document.body.innerHTML = '<b>x</b>'; } catch (e) { return e.name; } }"
    assert page.evaluate(refused) == "TypeError"


def test_any_answer_that_json_can_hold_is_shown(backend: Backend, page_url: str, visit: Open):
    odd = odd_answer()
    task_id = backend.create("odd")
    vendors = [odd["vendors"][0] | {"emails": [None, 3]}, {"tags": ["fast", 2], "emails": []}]
    quotes = [{"text": "about $300"}, {}, {"vendor": None, "price": 1e300, "currency": "XYZW"}]
    backend.complete(
        backend.claim(task_id),
        agent_response=odd["response"],
        vendors=vendors,
        quotes=quotes,
        emails_sent=0,
    )

    page = visit(f"{page_url}#/tasks/{task_id}")

    expect(page.locator("#vendors h4")).to_have_text(
        [odd["vendors"][0]["name"], "A vendor without a name"]
    )
    expect(page.locator("#vendors li").last).to_contain_text("Tagsfast, 2")
    expect(page.locator("#quotes tr")).to_have_count(3)
    expect(page.locator("#quotes tr").first).to_contain_text("about $300")
    expect(page.locator("#emails")).to_have_text("")


def test_older_leads_through_all_tasks_once_newest_first_while_new_ones_are_made(
    backend: Backend, page_url: str, visit: Open
):
    for number in range(30):
        backend.create(f"task {number}")
    page = visit(page_url)
    items = page.locator("#tasks .what")
    older = page.get_by_role("button", name="Older")
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


def test_a_person_without_a_mouse_can_do_all_of_it(backend: Backend, page_url: str, visit: Open):
    for number in range(13):
        backend.create(f"task {number}")
    page = visit(page_url)
    expect(page.locator("#tasks li")).to_have_count(12)

    tab_to(page, "#description")
    page.keyboard.type(PROMPT)
    tab_to(page, "#submit")
    page.keyboard.press("Enter")
    expect(page.locator("#what")).to_be_focused()
    task_id = page.url.rpartition("/")[2]
    backend.complete(backend.claim(task_id))
    expect(page.locator("#status")).to_have_text("Completed")
    tab_to(page, "summary")
    page.keyboard.press("Enter")
    expect(page.locator(".email").first).to_be_visible()
    tab_to(page, "#tasks li:nth-child(2) a")
    page.keyboard.press("Enter")
    expect(page.locator("#what")).to_have_text("task 12")
    expect(page.locator("#what")).to_be_focused()
    tab_to(page, "#older")
    page.keyboard.press("Enter")
    expect(page.locator("#tasks li")).to_have_count(14)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation(
    backend: Backend, page_url: str, visit: Open, scheme: str, width: int
):
    completed = backend.create()
    backend.complete(backend.claim(completed))
    failed = backend.create("Find me a painter")
    backend.store.end_task(
        backend.claim(failed), Outcome.of({}, "agent_failed", "The agent failed.")
    )
    processing = backend.create("Find me a plumber")
    backend.claim(processing)
    backend.create("Find me a cleaner")
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}

    page = visit(page_url, reduced_motion="reduce", **options)
    expect(page.locator("#tasks li")).to_have_count(4)
    no_violation(page)
    for task_id, words in ((failed, "Failed"), (processing, "In progress"), (completed, "Compl")):
        page.evaluate("id => { location.hash = `#/tasks/${id}` }", task_id)
        expect(page.locator("#status")).to_contain_text(words)
        assert page.evaluate("document.getAnimations().length") == 0  # no motion is wanted
        no_violation(page)
    page.get_by_text("1 e-mail sent").first.click()
    page.get_by_role("button", name="Delete task").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    no_violation(page)
    page.keyboard.press("Escape")
    page.get_by_label("What do you need done?").fill("x" * 4_001)
    page.get_by_role("button", name="Find vendors").click()
    no_violation(page)
    backend.is_down = True
    _submit(page)
    expect(page.get_by_role("button", name="Stop trying")).to_be_visible()
    no_violation(page)


@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_nothing_is_wider_than_the_screen(backend: Backend, page_url: str, visit: Open, width: int):
    task_id = backend.create("x" * 500)
    backend.complete(backend.claim(task_id), agent_response="y" * 2_000)

    page = visit(f"{page_url}#/tasks/{task_id}", viewport={"width": width, "height": 800})

    expect(page.locator("#status")).to_have_text("Completed")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_address_may_say_where_the_api_is(backend: Backend, visit: Open):
    with serve_page("http://127.0.0.1:1/nowhere") as page_url:
        page = visit(f"{page_url}?api={backend.url}/")
        expect(page.locator("#list-text")).to_have_text("No tasks yet.")
        _submit(page)
        expect(page.locator("#what")).to_have_text(PROMPT)
        assert page.url.startswith(f"{page_url}?api=")

    with serve_page("") as page_url:
        page = visit(page_url)
        expect(page.get_by_role("alert").first).to_contain_text("?api=https://")
        expect(page.get_by_role("button", name="Find vendors")).to_be_disabled()


def test_an_api_address_cannot_break_out_of_the_page():
    with (
        serve_page("https://x/</script><script>alert(1)</script><!--") as hostile,
        serve_page("") as plain,
    ):
        page, other = _fetch(hostile), _fetch(plain)

    assert "<script>alert" not in page
    assert page.count("</script>") == other.count("</script>") > 0


@pytest.mark.parametrize(
    "path", ["marked.LICENSE", "../page_server.py", "client/", "client/../x.js"]
)
def test_only_what_the_page_needs_is_served(path: str):
    with serve_page("") as url, pytest.raises(HTTPError) as refused:
        _fetch(f"{url}{path}")
    with refused.value as answer:
        assert answer.status == 404


def test_the_page_takes_nothing_from_elsewhere(backend: Backend, page_url: str, visit: Open):
    page = visit(page_url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    expect(page.locator("#list-text")).to_have_text("No tasks yet.")

    expect(page.get_by_role("link", name="API reference")).to_be_visible()
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {
        urlsplit(page_url).netloc,
        urlsplit(backend.url).netloc,
    }


@pytest.mark.parametrize("width, scheme", [(390, "light"), (1280, "dark")])
def test_the_reference_beside_the_page_shows_the_contract_and_takes_nothing_from_elsewhere(
    backend: Backend, page_url: str, visit: Open, width: int, scheme: str
):
    page = visit(page_url, color_scheme=scheme, viewport={"width": width, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("link", name="API reference").click()

    expect(page.get_by_text("Valro API 1.0.0")).to_be_visible()
    page.get_by_text("Show one task, for polling").click()
    expect(page.get_by_text("The task as it is now").last).to_be_visible()
    assert page.evaluate("document.querySelector('#viewer').serverUrl") == backend.url
    ground = page.evaluate("getComputedStyle(document.querySelector('#viewer')).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(24, 31, 27)"}[scheme]
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(page_url).netloc}
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_screenshots_of_the_readme_can_be_made(
    backend: Backend, page_url: str, visit: Open, tmp_path: Path
):
    folder = DOCS if os.environ.get("VALRO_SCREENSHOTS") else tmp_path
    for description in (
        "Find me a cleaner in Raleigh under $150",
        "Find me a plumber in Denver under $200",
        "Find me an electrician in Austin",
    ):
        backend.complete(backend.claim(backend.create(description)))
    task_id = backend.create()
    desktop = {"width": 1120, "height": 760}
    page = visit(f"{page_url}#/tasks/{task_id}", viewport=desktop)
    claim = backend.claim(task_id)
    for line in progress_lines(PROMPT, build_answer(PROMPT))[:3]:
        backend.say(claim, line)
    expect(page.locator("#timeline li")).to_have_count(5)
    page.wait_for_timeout(600)  # the last line's arrival is animated
    page.screenshot(path=folder / "page-processing.png")
    for line in progress_lines(PROMPT, build_answer(PROMPT))[3:]:
        backend.say(claim, line)
    backend.complete(claim)

    shots: dict[str, dict[str, Any]] = {
        "page-completed.png": {"viewport": desktop},
        "page-dark.png": {"viewport": desktop, "color_scheme": "dark"},
        "page-phone.png": {"viewport": {"width": 390, "height": 844}},
    }
    for name, options in shots.items():
        page = visit(f"{page_url}#/tasks/{task_id}", **options)
        expect(page.locator("#status")).to_have_text("Completed")
        expect(page.locator("#tasks li")).to_have_count(4)
        page.screenshot(path=folder / name)
        assert (DOCS / name).exists(), "VALRO_SCREENSHOTS=1 makes it"


def _gaps(asked: list[Asked]) -> list[float]:
    """Seconds between tries while the API is down; Chromium's own repetition at once is none."""
    failed = [request.at for request in asked if request.status == 0]
    gaps = [later - earlier for earlier, later in itertools.pairwise(failed)]
    return [gap for gap in gaps if gap > 0.3]


def _fetch(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def _submit(page: Page) -> None:
    page.get_by_label("What do you need done?").fill(PROMPT)
    page.get_by_role("button", name="Find vendors").click()
