"""clients/typescript: a task in Node and in old browsers, polls in a page, and what ends a wait."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import (
    ACCEPTED,
    COMPLETED,
    RUNNING,
    Answer,
    Script,
    page_with_client,
    run_in_node,
)
from tests.conftest import Deployment, eventually

pytestmark = pytest.mark.e2e  # each test starts Node or Chromium, and several wait for seconds

HERE = Path(__file__).resolve().parent
# What Safari 15.4 and Chrome 94 lack of what is common today.
FORGET_WHAT_IS_NEW = """
    delete AbortSignal.any;
    delete AbortSignal.timeout;
    delete AbortSignal.prototype.throwIfAborted;
    Object.defineProperty(AbortSignal.prototype, "reason", { get: () => undefined });
    delete URLSearchParams.prototype.size;
    delete Promise.withResolvers;
    delete Array.fromAsync;
    delete Array.prototype.toSorted;
    delete Array.prototype.findLast;
    delete globalThis.structuredClone;
    if (globalThis.crypto) delete Crypto.prototype.randomUUID;
"""


def test_it_runs_a_task_in_node(stack: Deployment):
    scenario = (
        f"const {{ scenario }} = await import({json.dumps((HERE / 'scenario.js').as_uri())});"
    )

    _check(stack, run_in_node(stack.api.url, f"{scenario} return scenario(client, url);"))


def test_it_runs_a_task_in_browsers_of_some_years_ago(stack: Deployment, tmp_path: Path):
    shutil.copy(HERE / "scenario.js", tmp_path)

    with page_with_client(tmp_path, FORGET_WHAT_IS_NEW) as page:
        result = page.evaluate(
            "async (url) => (await import('/scenario.js')).scenario(client, url)", stack.api.url
        )

    _check(stack, result, "The operation was aborted.")


def _check(stack: Deployment, result: Any, reason: str = "enough") -> None:
    task = result["task"]
    assert task == stack.task(task["id"])
    assert task["status"] == result["statuses"][-1] == "completed"
    assert result["isSame"]
    assert len(result["listed"]) == len(set(result["listed"])) >= 2, "each page once"
    assert task["id"] in result["listed"]
    refused, unknown = result["errors"]
    assert refused[:3] == [True, 400, "invalid_description"]
    assert unknown[:3] == [True, 404, "task_not_found"]
    assert refused[3].endswith("."), "a sentence for a person"
    assert result["unasked"] == reason


@pytest.mark.parametrize(
    "headers, preflights", [("{}", 0), ("{ Authorization: 'Bearer x' }", 1)], ids=["open", "token"]
)
def test_a_browser_revalidates_by_itself_and_a_poll_is_one_request(
    api: Script, tmp_path: Path, headers: str, preflights: int
):
    """A header set by hand would have it ask for leave before every poll."""
    running = {"ETag": '"1"', "Retry-After": "1"}
    api.answers = [
        Answer(200, RUNNING, running),
        *[Answer(304, None, running)] * 3,
        Answer(200, COMPLETED, {"ETag": '"2"'}),
    ]

    with page_with_client(tmp_path) as page:
        statuses = page.evaluate(
            f"""async (url) => {{
                const valro = new client.ValroClient(url, {{ headers: () => ({headers}) }});
                const seen = [];
                for await (const task of valro.watchTask("a")) seen.push(task.status);
                return seen;
            }}""",
            api.url,
        )

    assert statuses == ["processing", "completed"]
    assert [headers.get("if-none-match") for *_, headers in api.asked] == [None, *['"1"'] * 4]
    assert len(api.preflights) == preflights


def test_a_hidden_tab_polls_twice_a_minute_and_whoever_returns_waits_no_more(
    api: Script, tmp_path: Path
):
    api.always["/base/tasks/a"] = Answer(200, RUNNING, {"Retry-After": "10"})

    def asks(count: int) -> None:
        eventually(lambda: len(api.asked), lambda asked: asked == count)

    with page_with_client(tmp_path) as page:
        page.clock.install()
        page.evaluate(
            """(url) => {
                let state = "visible";
                Object.defineProperty(document, "visibilityState", { get: () => state });
                window.look = (now) => {
                    state = now;
                    document.dispatchEvent(new Event("visibilitychange"));
                };
                window.valro = new client.ValroClient(url);
                const watch = async () => { for await (const _ of valro.watchTask("a")); };
                watch();
            }""",
            api.url,
        )
        asks(1)
        page.evaluate("look('hidden')")
        page.clock.run_for(29_000)
        asks(1)
        page.clock.run_for(2_000)
        asks(2)
        events = ("dispatchEvent(new Event('focus'))", "dispatchEvent(new Event('online'))")
        ways = ("look('visible')", *events, "valro.wake()")
        for count, way in enumerate(ways, 3):
            page.clock.run_for(1_000)  # the answer is read, and the next wait has begun
            page.evaluate(way)
            asks(count)
        page.clock.run_for(9_000)
        asks(6)
        page.clock.run_for(2_000)
        asks(7)


def test_watching_ends_when_the_signal_says_so(api: Script):
    api.answers = [Answer(200, RUNNING, {"Retry-After": "3600"})]

    script = """
        const enough = new AbortController(), { signal } = enough;
        try {
            for await (const task of valro.watchTask("a", { signal }))
                setTimeout(() => enough.abort(new Error("enough")), 100);
        } catch (error) { return error.message; }
    """

    assert run_in_node(api.url, script) == "enough"


def test_a_call_ends_with_its_timeout(api: Script):
    api.always["/base/tasks/a"] = Answer(200, RUNNING, {"Retry-After": "60"})
    api.answers = [Answer(202, {"id": "a"})]

    # The clock of the timeout alone is the test's: it runs out once the task has been seen.
    script = """
        const real = setTimeout; let end;
        globalThis.setTimeout = (what, ms) => (ms === 3000 ? (end = what) : real(what, ms));
        try { await valro.runTask("x", { timeout: 3, onUpdate: () => end() }); }
        catch ({ name, message }) { return [name, message]; }
    """

    expected = ["TimeoutError", "The call has not ended within 3 seconds."]
    assert run_in_node(api.url, script) == expected


def test_return_ends_a_waiting_iterator_at_once(api: Script):
    api.answers = [Answer(200, RUNNING, {"Retry-After": "60"}), Answer(503)]

    script = """
        const ends = [];
        for (const tasks of [valro.watchTask("a"), valro.listAllTasks()]) {
            if (!ends.length) await tasks.next();
            const pending = tasks.next();
            await new Promise((resolve) => setTimeout(resolve, 100));
            ends.push(await tasks.return(), await pending);
        }
        return ends;
    """

    assert run_in_node(api.url, script) == [{"done": True}] * 4


def test_a_fetch_and_headers_of_ones_own_are_used_for_each_request(api: Script):
    api.answers = [Answer(202, ACCEPTED), Answer(200, COMPLETED)]

    script = """
        const asked = [];
        const own = {
            headers: async () => ({ Authorization: `Bearer ${asked.length}` }),
            fetch: (...request) => { asked.push(request[1].method); return fetch(...request); },
        };
        await new client.ValroClient(url, own).runTask("x");
        return asked;
    """

    assert run_in_node(api.url, script) == ["POST", "GET"]
    assert [headers["authorization"] for *_, headers in api.asked] == ["Bearer 0", "Bearer 1"]
