"""clients/typescript: what it sends, what it tries again, and when it waits no more."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import Answer, Run, Script, page_with_client
from tests.conftest import Deployment, eventually

pytestmark = pytest.mark.e2e  # each test starts Node or Chromium, and several wait for seconds

HERE = Path(__file__).resolve().parent
TASK = {"id": "a", "description": "x", "status": "completed", "events": []}
RUNNING = TASK | {"status": "processing"}
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


def test_it_runs_a_task_in_node(stack: Deployment, run: Run):
    scenario = (
        f"const {{ scenario }} = await import({json.dumps((HERE / 'scenario.js').as_uri())});"
    )

    _check(stack, run(stack.api.url, f"{scenario} return scenario(client, url);"))


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
    ended = result["ended"]
    assert ended["cancelled"]["status"] == "processing"
    assert ended["cancelled"]["cancel_requested_at"] == ended["last"]["cancel_requested_at"]
    assert (ended["last"]["status"], ended["last"]["error_code"]) == ("error", "cancelled")
    assert ended["again"] == ended["last"]
    assert [ended["id"], "error"] in ended["found"]
    assert {status for _, status in ended["found"]} <= {"error", "pending"}
    assert ended["codes"] == [
        "task_ended",
        "task_not_final",
        *["task_not_found"] * 3,
        "task_deleted",
    ]


def test_a_lost_answer_is_asked_for_again_with_the_same_key(api: Script, run: Run):
    accepted = {"id": "a", "status": "pending", "message": "m"}
    api.answers = [
        Answer(0),
        Answer(503, {"message": "Service Unavailable"}),
        Answer(202, accepted),
    ]

    heard = run(
        api.url,
        "const heard = []; const onRetry = (error, s) => heard.push([error?.message ?? null, s > 0]);"
        "await valro.createTask('x', { onRetry }); return heard;",
    )

    assert [words for words, _ in heard] == [
        "The API cannot be reached.",
        "The API answered 503 Service Unavailable.",
        None,
    ]
    keys = {headers["idempotency-key"] for _, _, _, headers in api.asked}
    assert len(api.asked) == 3
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    first, second, third = (at for at, *_ in api.asked)
    assert 0.4 < second - first < 3
    assert 0.9 < third - second < 5, "it waits longer from try to try"


def test_two_tasks_have_two_keys(api: Script, run: Run):
    api.answers = [Answer(202, {"id": "a"}), Answer(202, {"id": "b"})]

    run(api.url, "await valro.createTask('x'); await valro.createTask('x');")

    assert len({headers["idempotency-key"] for _, _, _, headers in api.asked}) == 2


def test_polling_obeys_retry_after_and_gives_what_is_new(api: Script, run: Run):
    api.answers = [
        Answer(200, RUNNING, {"Retry-After": "1"}),
        Answer(200, RUNNING, {"Retry-After": "1"}),
        Answer(200, TASK),
    ]

    seen = run(
        api.url,
        "const seen = []; for await (const task of valro.watchTask('a')) seen.push(task.status);"
        "return seen;",
    )

    assert seen == ["processing", "completed"]
    assert [path for _, _, path, _ in api.asked] == ["/base/tasks/a"] * 3
    for earlier, later in zip(api.asked, api.asked[1:], strict=False):
        assert 0.9 < later[0] - earlier[0] < 4


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
        Answer(200, TASK, {"ETag": '"2"'}),
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


def test_watching_ends_when_the_signal_says_so(api: Script, run: Run):
    api.answers = [Answer(200, RUNNING, {"Retry-After": "3600"})]

    words = run(
        api.url,
        "const enough = new AbortController(); const { signal } = enough;"
        "try { for await (const task of valro.watchTask('a', { signal }))"
        "  setTimeout(() => enough.abort(new Error('enough')), 100); }"
        "catch (error) { return error.message; }",
    )

    assert words == "enough"


@pytest.mark.parametrize(
    "link",
    ["?limit=2&cursor=b%2Bc", "/base/tasks?limit=2&cursor=b%2Bc", "/tasks?limit=2&cursor=b%2Bc"],
)
def test_pages_are_followed_under_any_base(api: Script, run: Run, link: str):
    api.answers = [
        Answer(200, [], {"Link": f'<{link}>; rel="next"'}),
        Answer(200, [TASK]),
    ]

    tasks, following = run(
        api.url,
        "const { next } = await valro.listTasks({ limit: 2, status: ['pending', 'error'] });"
        "const page = await valro.listTasks({ page: next }); return [page.tasks, page.next];",
    )

    assert (tasks, following) == ([TASK], None)
    assert [path for _, _, path, _ in api.asked] == [
        "/base/tasks?limit=2&status=pending%2Cerror",
        "/base/tasks?limit=2&cursor=b%2Bc",
    ]


@pytest.mark.parametrize(
    "status, body, words",
    [
        (422, {"error": "Use a new key.", "code": "idempotency_key_reused"}, "Use a new key."),
        (502, {"error": "No worker.", "code": "worker_unavailable", "id": "a"}, "No worker."),
        (401, {"message": "Unauthorized"}, "The API answered 401 Unauthorized."),
        (403, None, "The API answered 403."),
    ],
)
def test_an_answer_that_will_not_change_is_an_error_at_once(
    api: Script, run: Run, status: int, body: Any, words: str
):
    api.answers = [Answer(status, body, {"apigw-requestid": "JKJaXmPL"})]

    error = run(
        api.url,
        "try { await valro.createTask('x', { idempotencyKey: 'k' }); } catch (error) {"
        "return [error instanceof ApiError, error.name, error.status, error.code ?? null,"
        " error.message, error.taskId ?? null, error.requestId, error.idempotencyKey]; }",
    )

    body = body or {}
    expected = [status, body.get("code"), words, body.get("id"), "JKJaXmPL", "k"]
    assert error == [True, "ApiError", *expected]


HTML = {"Content-Type": "text/html"}


@pytest.mark.parametrize(
    "answers, client, name",
    [
        ([], "new client.ValroClient('htp://example.com')", "TypeError"),
        ([], "new client.ValroClient('example.com')", "TypeError"),
        ([], "new client.ValroClient(url, { headers: () => ({ 'a b': 'c' }) })", "TypeError"),
        (
            [],
            "new client.ValroClient(url, { headers: () => { throw RangeError() } })",
            "RangeError",
        ),
        ([Answer(302, None, {"Location": "/base/tasks/a"})], "valro", "AnswerError"),
        ([Answer(200, b"<p>Sign in", HTML)], "valro", "AnswerError"),
        ([Answer(200, b"{")], "valro", "AnswerError"),
        ([Answer(404, b"<p>Not here", HTML)], "valro", "ApiError"),
    ],
)
def test_what_asking_again_cannot_change_is_thrown_at_once(
    api: Script, run: Run, answers: list[Answer], client: str, name: str
):
    api.answers = answers[:]

    script = f"return ({client}).getTask('a').catch((error) => error.name);"

    assert run(api.url, script) == name
    assert len(api.asked) == len(answers)


@pytest.mark.parametrize("status", [0, 408, 425, 429, 500, 503])
def test_what_may_pass_is_tried_again_as_often_as_it_may_be(api: Script, run: Run, status: int):
    api.answers = [Answer(status)] * 2

    error = run(
        api.url,
        "try { await valro.createTask('x', { maxRetries: 1 }); }"
        "catch ({ name, idempotencyKey }) { return [name, idempotencyKey]; }",
    )

    keys = [headers["idempotency-key"] for *_, headers in api.asked]
    assert error == ["ApiError" if status else "NetworkError", keys[0]]
    assert len(keys) == 2


def test_a_call_ends_with_its_timeout(api: Script, run: Run):
    api.always["/base/tasks/a"] = Answer(200, RUNNING, {"Retry-After": "60"})
    api.answers = [Answer(202, {"id": "a"})]

    error = run(
        api.url,
        # The clock of the timeout alone is the test's: it runs out once the task has been seen.
        "const real = setTimeout; let end;"
        "globalThis.setTimeout = (what, ms) => (ms === 3000 ? (end = what) : real(what, ms));"
        "try { await valro.runTask('x', { timeout: 3, onUpdate: () => end() }); }"
        "catch ({ name, message }) { return [name, message]; }",
    )

    assert error == ["TimeoutError", "The call has not ended within 3 seconds."]


@pytest.mark.parametrize("value", ["-1", "0", "soon", "Infinity", "1e9", "99999999999"])
def test_a_retry_after_of_any_kind_is_no_hot_loop(api: Script, run: Run, value: str):
    api.always["/base/tasks/a"] = Answer(429, None, {"Retry-After": value})

    seconds = run(
        api.url,
        "const enough = new AbortController(); const { signal } = enough; let heard;"
        "const onRetry = (_, s) => { heard = s; setTimeout(() => enough.abort(), 300); };"
        "await valro.getTask('a', { signal, onRetry }).catch(() => null); return heard;",
    )

    assert 0.5 <= seconds <= 300
    assert len(api.asked) == 1


def test_a_401_is_tried_once_more_with_new_headers(api: Script, run: Run):
    api.answers = [Answer(401), Answer(200, TASK), Answer(401), Answer(401)]

    script = """
        const headers = (isRefused) => ({ Authorization: isRefused ? "new" : "old" });
        const signedIn = new client.ValroClient(url, { headers });
        const { id } = await signedIn.getTask("a");
        return [id, await signedIn.getTask("a").catch((error) => error.status)];
    """

    assert run(api.url, script) == ["a", 401]
    sent = [headers["authorization"] for *_, headers in api.asked]
    assert sent == ["old", "new", "old", "new"]


def test_return_ends_a_waiting_iterator_at_once(api: Script, run: Run):
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

    assert run(api.url, script) == [{"done": True}] * 4


def test_a_task_is_created_and_watched_in_one_call(api: Script, run: Run):
    api.answers = [
        Answer(202, {"id": "a"}),
        Answer(200, RUNNING, {"Retry-After": "1"}),
        Answer(200, TASK),
    ]

    script = """
        const seen = [];
        const onUpdate = ({ status }) => seen.push(status);
        const own = { fetch: (...request) => { seen.push("asked"); return fetch(...request); } };
        const task = await new client.ValroClient(url, own).runTask("x", { onUpdate });
        return [task, seen];
    """

    seen = ["asked", "asked", "processing", "asked", "completed"]
    assert run(api.url, script) == [TASK, seen]


def test_all_pages_of_a_list_are_iterated(api: Script, run: Run):
    api.answers = [
        Answer(200, [TASK | {"id": "a"}], {"Link": '<?limit=1&cursor=b>; rel="next"'}),
        Answer(200, [TASK | {"id": "b"}]),
    ]

    script = (
        "const ids = []; for await (const { id } of valro.listAllTasks({ limit: 1 })) ids.push(id);"
    )

    assert run(api.url, f"{script} return ids;") == ["a", "b"]
    assert [path for _, _, path, _ in api.asked] == [
        "/base/tasks?limit=1",
        "/base/tasks?limit=1&cursor=b",
    ]


def test_a_reply_follows_the_task_that_asked(api: Script, run: Run):
    api.answers = [Answer(202, {"id": "b"})]

    run(api.url, "return valro.reply('a', 'Yes', { answers: { q1: true } });")

    assert api.bodies == [{"description": "Yes", "follows": "a", "answers": {"q1": True}}]


def test_a_throttled_request_waits_as_long_as_it_is_told(api: Script, run: Run):
    api.answers = [Answer(429, {"message": "Too Many Requests"}, {"Retry-After": "2"})]
    api.answers += [Answer(200, TASK)]

    assert run(api.url, "return valro.getTask('a');") == TASK
    assert api.asked[1][0] - api.asked[0][0] > 1.8


def test_a_task_is_cancelled_and_deleted(api: Script, run: Run):
    cancelled = TASK | {"status": "error", "error_code": "cancelled"}
    api.answers = [Answer(200, cancelled), Answer(204)]

    assert run(api.url, "return valro.cancelTask('a/b');") == cancelled
    assert run(api.url, "return valro.deleteTask('a/b');") is None
    assert [asked[1:3] for asked in api.asked] == [
        ("POST", "/base/tasks/a%2Fb/cancel"),
        ("DELETE", "/base/tasks/a%2Fb"),
    ]


def test_a_deletion_whose_answer_was_lost_is_a_deletion(api: Script, run: Run):
    missing = {"error": "Task not found.", "code": "task_not_found"}
    api.answers = [Answer(0), Answer(404, missing)]

    assert run(api.url, "return valro.deleteTask('a');") is None

    api.answers = [Answer(404, missing)]
    script = "try { await valro.deleteTask('a'); } catch (error) { return error.code; }"
    assert run(api.url, script) == "task_not_found"


def test_headers_are_made_for_each_request(api: Script, run: Run):
    api.answers = [Answer(202, {"id": "a"}), Answer(200, TASK)]

    run(
        api.url,
        "let n = 0; const headers = async () => ({ Authorization: `Bearer ${++n}` });"
        "const signedIn = new client.ValroClient(url, { headers });"
        "await signedIn.createTask('x'); await signedIn.getTask('a');",
    )

    assert [headers["authorization"] for _, _, _, headers in api.asked] == ["Bearer 1", "Bearer 2"]
    assert api.asked[0][3]["content-type"] == "application/json"
