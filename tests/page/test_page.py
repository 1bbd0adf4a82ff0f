"""The page in a real Chromium: what a person sees, and what the API is asked.

Most tests run it against the API's own function on moto, over real HTTP, where a test plays the
worker; the whole journey runs on the deployed stack. VALRO_SCREENSHOTS=1 renews docs/*.png.
"""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from local.page_server import serve_page
from local.vendors import build_answer, progress_lines
from tests.conftest import Deployment
from tests.page.conftest import PROMPT, Backend, Open, go_to, no_violation, submit, tab_to
from valro.tasks import Outcome

DOCS = Path(__file__).resolve().parents[2] / "docs"

pytestmark = pytest.mark.e2e


def test_a_person_writes_a_task_watches_it_to_its_end_and_deletes_it(
    stack: Deployment, visit: Open
):
    with serve_page(stack.api.url) as page_url:
        page = visit(page_url)
        page.get_by_label("What do you need done?").fill(PROMPT)
        page.get_by_role("button", name="Find vendors").click()

        expect(page.locator("#status")).to_have_text("Completed", timeout=30_000)
        task_id = page.url.rpartition("#/tasks/")[2]
        task = stack.task(task_id)
        expect(page.get_by_role("heading", level=2, name=PROMPT)).to_be_focused()
        said = [event["message"] for event in task["events"]][3:-1]
        expect(page.locator("#timeline li span")).to_have_text(
            ["Request received", "The agent has started", *said, "Finished"]
        )
        expect(page.locator("#answer")).to_have_text(task["agent_response"])
        by_price = sorted(task["vendors"], key=lambda vendor: vendor["price"])
        names = [vendor["name"] for vendor in by_price]
        expect(page.locator("#vendors .name")).to_have_text(names)
        page.get_by_text("1 e-mail sent").first.click()
        mail = by_price[0]["emails"][0]
        expect(page.locator(".email").first).to_contain_text(mail["subject"])
        expect(page.locator(".email").first).to_contain_text(f"To {mail['recipient']}")
        expect(page.locator("#vendors .amount").first).to_have_text("$195.00")
        expect(page.locator("#emails")).to_have_text("3 e-mails sent")
        expect(page.locator("#tasks a[aria-current=true]")).to_contain_text("Completed")

        page.reload()

        expect(page.locator("#answer")).to_have_text(task["agent_response"])
        assert stack.agent_runs(task_id) == 1
        page.get_by_role("button", name="Delete…").click()
        page.get_by_role("button", name="Delete the task").click()
        expect(page.locator("#nothing")).to_have_text("The task was deleted.")
        expect(page.locator(f"#tasks [data-id='{task_id}']")).to_have_count(0)
        assert stack.api.request("GET", f"/tasks/{task_id}").status == 404


def test_the_timeline_grows_and_a_screen_reader_hears_what_is_new(backend: Backend, visit: Open):
    task_id = backend.create()
    page = visit(f"#/tasks/{task_id}")
    expect(page.locator("#status")).to_have_text("Waiting")
    in_list = page.locator("#tasks a[aria-current=true] .status")
    expect(in_list).to_have_text("Waiting")
    expect(page.locator("#list-text")).to_be_hidden()  # loaded
    lists = len(backend.requests("GET", "/tasks?"))
    expect(page.locator("#now")).to_have_text(re.compile(r"Now Waiting to start \d+ s\s+Cancel…"))
    timeline = page.locator("#steps")
    timeline.locator("summary").click()

    claim = backend.claim(task_id)
    expect(page.locator("#status")).to_have_text("In progress")
    expect(page.get_by_role("status")).to_have_text("The agent has started")
    backend.say(claim, "Looking for landscapers")
    expect(page.locator("#timeline li")).to_have_count(3)
    expect(page.locator("#now-text")).to_have_text("Looking for landscapers")
    expect(page.get_by_role("status")).to_have_text("Looking for landscapers")
    assert page.title() == f"In progress: {PROMPT} – Valro"
    first = page.locator("#timeline li").first.element_handle()
    backend.complete(claim)

    expect(page.locator("#status")).to_have_text("Completed")
    expect(page.locator("#timeline li")).to_have_count(4)
    expect(in_list).to_have_text("Completed")
    assert len(backend.requests("GET", "/tasks?")) == lists, "the list follows the open task"
    assert first.is_visible(), "lines that are there stay: nobody who reads them is interrupted"
    expect(page.locator("#now")).to_be_hidden()
    assert page.title() == f"● Completed: {PROMPT} – Valro"


def test_the_api_is_down_at_first_and_has_trouble_later(backend: Backend, visit: Open):
    task_id = backend.create()
    claim = backend.claim(task_id)
    backend.is_down = True
    page = visit(f"#/tasks/{task_id}")
    trouble, in_list = page.locator("#trouble"), page.locator("#list-text")
    expect(in_list).to_have_text("They will appear here once we can reach Valro.")
    expect(trouble).to_contain_text("We can't reach Valro right now.")
    expect(page.get_by_role("status")).to_contain_text("We can't reach Valro right now.")
    backend.is_down = False
    expect(page.locator("#status")).to_have_text("In progress")
    expect(page.locator("#tasks li")).to_have_count(1)
    expect(in_list).to_be_hidden()
    expect(trouble).to_be_hidden()

    backend.forced = [(503, {"message": "Service Unavailable"}, {"Retry-After": "60"})]
    expect(trouble).to_contain_text("Valro is having trouble right now.")
    expect(trouble).to_contain_text(re.compile(r"Next try in \d\d s"))
    assert page.locator("#timeline li").count() == 2, "what is known stays on the page"
    backend.complete(claim)
    page.get_by_role("button", name="Try now").click()

    expect(page.locator("#status")).to_have_text("Completed")
    expect(trouble).to_be_hidden()
    expect(page.get_by_role("status")).not_to_contain_text("Valro is having trouble")


def test_it_says_how_long_a_task_runs_and_that_there_was_no_update(backend: Backend, visit: Open):
    task_id = backend.create()
    claim = backend.claim(task_id)
    page = visit(f"#/tasks/{task_id}")
    expect(page.locator("#elapsed")).to_have_text(re.compile(r"\d+ s"))
    expect(page.locator("#silence")).to_be_hidden()

    page.clock.set_system_time(datetime.now(UTC) + timedelta(minutes=2, seconds=5))

    expect(page.get_by_text("No update for 2 min.")).to_be_visible()
    expect(page.locator("#elapsed")).to_contain_text("2 min")
    backend.complete(claim)
    expect(page.locator("#took")).to_have_text(re.compile(r"Took \d+ s"))
    expect(page.locator("#silence")).to_be_hidden()


def test_moments_have_one_form(visit: Open):
    page = visit()
    page.clock.set_fixed_time("2030-03-05T18:30:00Z")
    moments = """async all => {
        const { moment } = await import("./words.js");
        return all.map(moment);
    }"""
    given = ["2030-03-05T17:30:00Z", "2030-03-06T17:30:00Z", "2031-03-05T17:30:00Z"]

    in_new_york = ["12:30 PM", "Mar 6, 12:30 PM", "Mar 5, 2031, 12:30 PM"]
    assert page.evaluate(moments, given) == in_new_york


def test_a_long_timeline_is_followed_while_nobody_reads_further_up(backend: Backend, visit: Open):
    task_id = backend.create()
    claim = backend.claim(task_id)
    for number in range(30):
        claim.timeline.add_progress(claim.timeline.last_ts, f"Step {number}")
    backend.store.record_progress(claim)
    page = visit(f"#/tasks/{task_id}")
    expect(page.locator("#steps-count")).to_have_text("32 steps")
    expect(page.locator("#timeline")).to_be_hidden()
    page.locator("#steps summary").click()
    expect(page.get_by_text("Step 29").last).to_be_in_viewport()
    # A time is not repeated.
    expect(page.locator("#timeline time").first).not_to_have_class("unseen")
    expect(page.locator("#timeline li:nth-child(n + 4) time.unseen")).to_have_count(29)
    backend.say(claim, "One more")
    expect(page.locator("#timeline").get_by_text("One more")).to_be_in_viewport()

    page.locator("#steps-frame").evaluate("frame => { frame.scrollTop = 0 }")
    backend.say(claim, "And another")
    expect(page.locator("#now-text")).to_have_text("And another")
    expect(page.get_by_text("Request received")).to_be_in_viewport()


@pytest.mark.parametrize("is_open", [True, False])
def test_a_notification_tells_of_an_end_to_who_wants_it_and_looks_elsewhere(
    backend: Backend, visit: Open, is_open: bool
):
    task_id = backend.create()
    page = visit(permissions=["notifications"])
    page.evaluate(f"location.hash = '#/tasks/{task_id}'")
    page.get_by_label("Notify me when it's done").check()
    if not is_open:
        page.evaluate("location.hash = '#/'")
    page.evaluate("document.hasFocus = () => false")
    page.evaluate(
        "window.told = []; window.Notification = class extends EventTarget {"
        " static permission = 'granted'; constructor(title) { super(); told.push(title); } }; 0"
    )

    backend.complete(backend.claim(task_id))

    expect(page.locator("#tasks .status")).to_have_text("Completed")
    assert page.evaluate("told") == [f"Completed: {PROMPT}"]
    page.reload()
    page.evaluate(f"location.hash = '#/tasks/{backend.create()}'")
    expect(page.get_by_label("Notify me when it's done")).to_be_checked()


def test_a_phone_shows_the_open_task_or_the_form_and_the_list(backend: Backend, visit: Open):
    backend.create("Find me a painter")
    page = visit(viewport={"width": 390, "height": 844})
    expect(page.locator("#task")).to_be_hidden()
    submit(page)

    expect(page.locator("#what")).to_be_focused()
    expect(page.locator("#what")).to_be_in_viewport()
    expect(page.locator("#form")).to_be_hidden()
    expect(page.locator("#list")).to_be_hidden()
    page.get_by_role("link", name="All tasks").click()
    expect(page.locator("#task")).to_be_hidden()
    expect(page.locator("#tasks a").first).to_be_focused()
    page.locator("#tasks a").last.click()
    expect(page.locator("#what")).to_have_text("Find me a painter")
    expect(page.locator("#what")).to_be_focused()
    page.get_by_role("link", name="New task").click()
    expect(page.get_by_label("What do you need done?")).to_be_focused()
    page.set_viewport_size({"width": 1280, "height": 844})
    expect(page.get_by_role("link", name="New task")).to_be_hidden()


def test_what_the_focus_was_on_may_go_but_the_focus_stays_on_the_page(
    backend: Backend, visit: Open
):
    task_id = backend.create()
    claim = backend.claim(task_id)
    page = visit(f"#/tasks/{task_id}")
    expect(page.locator("#tasks li")).to_have_count(1)
    page.locator("#cancel").focus()
    backend.complete(claim)
    expect(page.locator("#what")).to_be_focused()

    page.locator("#tasks a").focus()
    backend.store.delete_task(task_id, "public")
    page.clock.set_fixed_time(datetime.now(UTC) + timedelta(minutes=2))
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#list-title")).to_be_focused()


def test_a_person_without_a_mouse_can_do_all_of_it(backend: Backend, visit: Open):
    for number in range(13):
        backend.create(f"task {number}")
    page = visit()
    expect(page.locator("#tasks li")).to_have_count(12)

    tab_to(page, "#description")
    page.keyboard.type(PROMPT)
    tab_to(page, "#form [type=submit]")
    page.keyboard.press("Enter")
    expect(page.locator("#what")).to_be_focused()
    task_id = page.url.rpartition("/")[2]
    backend.complete(backend.claim(task_id))
    expect(page.locator("#status")).to_have_text("Completed")
    tab_to(page, "#vendors summary")
    page.keyboard.press("Enter")
    expect(page.locator(".email").first).to_be_visible()
    tab_to(page, "#tasks li:nth-child(2) a")
    page.keyboard.press("Enter")
    expect(page.locator("#what")).to_have_text("task 12")
    expect(page.locator("#what")).to_be_focused()
    tab_to(page, "#older")
    page.keyboard.press("Enter")
    expect(page.locator("#tasks li")).to_have_count(14)
    for button, place, words in (
        ("#cancel", "#status", "Cancelled"),
        ("#delete", "#nothing", "The task was deleted."),
    ):
        tab_to(page, button)
        page.keyboard.press("Enter")
        tab_to(page, "#question-yes")
        page.keyboard.press("Enter")
        expect(page.locator(place)).to_have_text(words)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation(backend: Backend, visit: Open, scheme: str, width: int):
    completed, failed, running = (backend.create(f"task {number}") for number in range(3))
    backend.complete(backend.claim(completed), agent_response="# Found\n\n## Three\n\n- one")
    backend.fail(backend.claim(failed), "agent_failed")
    claim = backend.claim(running)
    asking = backend.follow(completed)
    questions = [
        {"id": "colour", "message": "Which colour?", "response_schema": {"enum": ["White", 7]}},
        {"id": "coats", "message": "How many coats?"},
    ]
    backend.complete(backend.claim(asking), interrupts=questions)
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}

    page = visit(reduced_motion="reduce", **options)
    expect(page.locator("#tasks li")).to_have_count(3)
    no_violation(page)
    for task_id, words, opened in (
        (failed, "Failed", "What the agent reported"),
        (asking, "Needs your answer", "White"),
        (completed, "Completed", "1 e-mail sent"),
        (completed, "Completed", "Delete…"),
        (running, "In progress", "Cancel…"),
    ):
        go_to(page, task_id)
        expect(page.locator("#status")).to_have_text(words)
        assert page.evaluate("document.getAnimations().length") == 0  # no motion is wanted
        no_violation(page)
        page.locator("#task").get_by_text(opened).first.click()
        no_violation(page)
        page.keyboard.press("Escape")
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the task").click()
    expect(page.locator("#status")).to_have_text("Cancelling")
    no_violation(page)
    backend.store.end_task(claim, Outcome.of({}).cancelled())
    expect(page.locator("#status")).to_have_text("Cancelled")
    no_violation(page)
    page.evaluate("location.hash = '#/new'")
    page.get_by_label("What do you need done?").fill("x" * 4_001)
    page.get_by_role("button", name="Find vendors").click()
    no_violation(page)
    backend.is_down = True
    submit(page)
    expect(page.get_by_role("button", name="Stop trying")).to_be_visible()
    no_violation(page)


@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_nothing_is_wider_than_the_screen(backend: Backend, visit: Open, width: int):
    task_id = backend.create("x" * 500)
    backend.complete(backend.claim(task_id), agent_response="y" * 2_000)

    page = visit(f"#/tasks/{task_id}", viewport={"width": width, "height": 800})

    expect(page.locator("#status")).to_have_text("Completed")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_address_may_say_where_the_api_is(backend: Backend, visit: Open):
    with serve_page("http://127.0.0.1:1/nowhere") as page_url:
        page = visit(f"{page_url}?api={backend.url}/")
        expect(page.locator("#list-text")).to_have_text("No tasks yet.")
        submit(page)
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


@pytest.mark.parametrize("width, scheme", [(390, "light"), (1280, "dark")])
def test_the_page_and_the_reference_beside_it_take_nothing_from_elsewhere(
    backend: Backend, page_url: str, visit: Open, width: int, scheme: str
):
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    expect(page.locator("#list-text")).to_have_text("No tasks yet.")
    page.get_by_role("link", name="API reference").click()

    expect(page.get_by_text("Valro API 1.0.0")).to_be_visible()
    page.get_by_text("Show one task, for polling").click()
    expect(page.get_by_text("The task as it is now").last).to_be_visible()
    assert page.evaluate("document.querySelector('#viewer').serverUrl") == backend.url
    ground = page.evaluate("getComputedStyle(document.querySelector('#viewer')).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(24, 31, 27)"}[scheme]
    places = {urlsplit(url).netloc for url in asked if not url.startswith("data:")}
    assert places == {urlsplit(page_url).netloc, urlsplit(backend.url).netloc}
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_screenshots_of_the_readme_can_be_made(backend: Backend, visit: Open, tmp_path: Path):
    folder = DOCS if os.environ.get("VALRO_SCREENSHOTS") else tmp_path
    for wanted in ("cleaner in Raleigh under $150", "plumber in Denver", "painter"):
        backend.complete(backend.claim(backend.create(f"Find me a {wanted}")))
    task_id = backend.create()
    desktop: dict[str, Any] = {"viewport": {"width": 1120, "height": 760}}
    page = visit(f"#/tasks/{task_id}", **desktop)
    claim = backend.claim(task_id)
    lines = progress_lines(PROMPT, build_answer(PROMPT))
    for line in lines[:3]:
        backend.say(claim, line)
    page.locator("#steps summary").click()
    expect(page.locator("#timeline li")).to_have_count(5)
    page.wait_for_timeout(600)  # the last line's arrival is animated
    page.screenshot(path=folder / "page-processing.png")
    for line in lines[3:]:
        backend.say(claim, line)
    backend.complete(claim)

    for name, options in {
        "page-completed.png": desktop,
        "page-dark.png": desktop | {"color_scheme": "dark"},
        "page-phone.png": {"viewport": {"width": 390, "height": 844}},
    }.items():
        page = visit(f"#/tasks/{task_id}", **options)
        expect(page.locator("#status")).to_have_text("Completed")
        expect(page.locator("#tasks li")).to_have_count(4)
        page.screenshot(path=folder / name)
        assert (DOCS / name).exists(), "VALRO_SCREENSHOTS=1 makes it"


def _fetch(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text
