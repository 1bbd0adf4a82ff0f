"""clients/python and clients/typescript alike: what they send, try again and wait for."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import pytest

from clients.python.valro_client import ValroClient
from tests.client.conftest import (
    ACCEPTED,
    COMPLETED,
    HTML,
    MISSING,
    RUNNING,
    Answer,
    Script,
    run_in_node,
)

CANCELLED = RUNNING | {"status": "error", "error_code": "cancelled"}
ERROR_FIELDS = ("status", "code", "task_id", "request_id", "idempotency_key")


class Call(NamedTuple):
    """What came of a call: its value or its error, what was heard and how long it would wait."""

    value: Any
    error: dict[str, Any]
    waits: list[float]
    updates: list[Any]


def in_python(api: Script, method: str, *given: Any, **options: Any) -> Call:
    waits: list[float] = []
    retries: list[float] = []
    updates: list[Any] = []
    token, url = options.pop("token", "old"), options.pop("url", api.url)
    if method == "run_task":
        options["on_update"] = updates.append
    value, failure = None, dict[str, Any]()
    with ValroClient(
        url,
        token=lambda is_refused: "new" if is_refused else token,
        max_retries=options.pop("max_retries", None),
        on_retry=lambda _, seconds: retries.append(seconds),
        sleep=waits.append,
    ) as client:
        try:
            value = getattr(client, method)(*given, **options)
            value = list(value) if isinstance(value, Iterator) else value
        except Exception as error:  # noqa: BLE001  the test looks at it
            failure = {name: getattr(error, name, None) for name in ERROR_FIELDS}
            failure |= {"name": type(error).__name__, "message": str(error)}
    assert {*retries} <= {*waits}
    return Call(value, failure, waits, updates)


IN_NODE = """
    const waits = [], retries = [], updates = [];
    const { token = "old", url: address = url, ...options } = given.options;
    const headers = (isRefused) => ({ Authorization: `Bearer ${isRefused ? "new" : token}` });
    const wait = async (seconds) => void waits.push(seconds);
    let isRetrying = false;
    const onRetry = (error, seconds) => {
        isRetrying = error !== null;
        if (isRetrying) retries.push(seconds);
    };
    const onUpdate = (task) => void updates.push(task);
    const valro = new client.ValroClient(address, { headers, wait });
    let value = null, failure = {};
    try {
        const result = valro[given.method](...given.given, { ...options, onRetry, onUpdate });
        if (Symbol.asyncIterator in result) {
            value = [];
            for await (const each of result) value.push(each);
        } else value = (await result) ?? null;
    } catch (error) {
        const { name, message, status, code } = error;
        const { taskId: task_id, requestId: request_id, idempotencyKey: idempotency_key } = error;
        failure = { name, message, status, code, task_id, request_id, idempotency_key };
    }
    if (isRetrying) throw Error("It was not said that no more try is due.");
    if (retries.some((seconds) => !waits.includes(seconds))) throw Error(`${retries} not in ${waits}`);
    return [value, failure, waits, updates];
"""


def in_typescript(api: Script, method: str, *given: Any, **options: Any) -> Call:
    def camel(name: str) -> str:
        first, *rest = name.split("_")
        return first + "".join(word.title() for word in rest)

    what = {
        "method": camel(method),
        "given": given,
        "options": {camel(name): value for name, value in options.items()},
    }
    value, failure, waits, updates = run_in_node(api.url, IN_NODE, what)
    return Call(value, failure, waits, updates)


@pytest.fixture(params=[in_python, pytest.param(in_typescript, marks=pytest.mark.e2e)])
def call(request: pytest.FixtureRequest, api: Script) -> "partial[Call]":
    """Calls a method of a client's, by its name in Python."""
    return partial(request.param, api)


Calls = partial[Call]


def sent(api: Script, header: str) -> list[str | None]:
    return [headers.get(header) for *_, headers in api.asked]


@pytest.mark.parametrize(
    "answers, options, names",
    [
        ([], {"url": "htp://example.com"}, {"UnsupportedProtocol", "TypeError"}),
        ([], {"token": "a\nb"}, {"LocalProtocolError", "TypeError"}),
        ([Answer(302, None, {"Location": "/base/tasks/a"})], {}, {"AnswerError"}),
        ([Answer(200, b"<p>Sign in", HTML)], {}, {"AnswerError"}),
        ([Answer(200, b"{")], {}, {"AnswerError"}),
        ([Answer(404, b"<p>Not here", HTML)], {}, {"ApiError"}),
    ],
)
def test_what_asking_again_cannot_change_is_raised_at_once(
    api: Script, call: Calls, answers: list[Answer], options: dict[str, Any], names: set[str]
):
    api.answers = answers[:]

    assert call("get_task", "a", **options).error["name"] in names
    assert len(api.asked) == len(answers)


@pytest.mark.parametrize(
    "status, body, words",
    [
        (422, {"error": "Use a new key.", "code": "idempotency_key_reused"}, "Use a new key."),
        (502, {"error": "No worker.", "code": "worker_unavailable", "id": "a"}, "No worker."),
        (403, {"message": "Forbidden"}, "The API answered 403 Forbidden."),
        (403, None, "The API answered 403."),
    ],
)
def test_an_error_says_what_the_api_said_and_how_to_find_it(
    api: Script, call: Calls, status: int, body: Any, words: str
):
    api.answers = [Answer(status, body, {"apigw-requestid": "JKJaXmPL"})]

    error = call("create_task", "x", idempotency_key="k").error

    assert (error.pop("name"), error.pop("message")) == ("ApiError", words)
    code, task_id = ((body or {}).get(name) for name in ("code", "id"))
    values = (status, code, task_id, "JKJaXmPL", "k")
    known = {name: value for name, value in error.items() if value is not None}
    expected = zip(ERROR_FIELDS, values, strict=True)
    assert known == {name: value for name, value in expected if value is not None}


@pytest.mark.parametrize("status", [0, 408, 425, 429, 500, 503])
def test_what_may_pass_is_tried_again_with_the_same_key_as_often_as_it_may_be(
    api: Script, call: Calls, status: int
):
    api.answers = [Answer(status)] * 3

    tried = call("create_task", "x", max_retries=2)

    assert tried.error["name"] == ("ApiError" if status else "NetworkError")
    assert sent(api, "idempotency-key") == [tried.error["idempotency_key"]] * 3
    assert len(tried.waits) == 2
    assert 0.5 <= tried.waits[0] <= 1 <= tried.waits[1] <= 2, "longer from try to try"


def test_each_task_has_a_key_of_its_own(api: Script, call: Calls):
    api.answers = [Answer(202, ACCEPTED)] * 2

    assert [call("create_task", "x").value for _ in range(2)] == [ACCEPTED] * 2
    keys = {str(key) for key in sent(api, "idempotency-key")}
    assert [len(key) for key in keys] == [32, 32]
    assert set(sent(api, "content-type")) == {"application/json"}


@pytest.mark.parametrize("value", ["-1", "0", "2", "soon", "Infinity", "1e9", "99999999999"])
def test_a_retry_after_is_obeyed_and_one_of_another_kind_is_no_hot_loop(
    api: Script, call: Calls, value: str
):
    api.answers = [Answer(429, None, {"Retry-After": value}), Answer(200, RUNNING)]

    asked = call("get_task", "a")

    assert asked.value == RUNNING
    assert 0.5 <= asked.waits[0] <= 300
    assert value != "2" or asked.waits == [2]


def test_a_401_is_tried_once_more_with_a_new_token(api: Script, call: Calls):
    api.answers = [Answer(401), Answer(200, RUNNING), Answer(401), Answer(401)]

    assert call("get_task", "a").value == RUNNING
    assert call("get_task", "a").error["status"] == 401
    assert sent(api, "authorization") == ["Bearer old", "Bearer new"] * 2


def test_watching_obeys_retry_after_gives_what_is_new_and_outlives_an_outage(
    api: Script, call: Calls
):
    shown = {"ETag": '"1"', "Retry-After": "2"}
    # TypeScript leaves it to the browser, which then gives the same task again.
    asks_for_changes = call.func is in_python
    unchanged = Answer(304, None, shown) if asks_for_changes else Answer(200, RUNNING, shown)
    api.answers = [
        Answer(200, RUNNING, shown),
        unchanged,
        *[Answer(503)] * 10,
        Answer(200, COMPLETED),
    ]

    watched = call("watch_task", "a")

    assert watched.value == [RUNNING, COMPLETED]
    assert watched.waits[:2] == [2, 2]
    assert sent(api, "if-none-match") == [None] + ['"1"' if asks_for_changes else None] * 12


def test_a_task_is_created_and_watched_in_one_call(api: Script, call: Calls):
    api.answers = [Answer(202, ACCEPTED), Answer(200, RUNNING), Answer(200, COMPLETED)]

    run = call("run_task", "x")

    assert (run.value, run.updates) == (COMPLETED, [RUNNING, COMPLETED])


@pytest.mark.parametrize("base", ["", "/base/tasks", "/tasks"])
def test_all_pages_of_a_list_are_iterated_under_any_base(api: Script, call: Calls, base: str):
    link = f'<{base}?limit=1&cursor=b%2B>; rel="next"'
    api.answers = [Answer(200, [RUNNING], {"Link": link}), Answer(200, [COMPLETED])]

    listed = call("list_all_tasks", status=["processing", "completed"])

    assert listed.value == [RUNNING, COMPLETED]
    assert [path for _, _, path, _ in api.asked] == [
        "/base/tasks?status=processing%2Ccompleted",
        "/base/tasks?limit=1&cursor=b%2B",
    ]


def test_a_reply_follows_the_task_that_asked(api: Script, call: Calls):
    api.answers = [Answer(202, ACCEPTED)]

    assert call("reply", "a", "Yes", answers={"q": True}).value == ACCEPTED
    assert api.bodies == [{"description": "Yes", "follows": "a", "answers": {"q": True}}]


def test_a_task_is_cancelled_and_a_deletion_whose_answer_was_lost_is_a_deletion(
    api: Script, call: Calls
):
    api.answers = [Answer(200, CANCELLED), Answer(0), Answer(404, MISSING), Answer(404, MISSING)]

    assert call("cancel_task", "a/b").value == CANCELLED
    assert call("delete_task", "a/b").error == {}
    assert call("delete_task", "a/b").error["code"] == "task_not_found"
    assert [asked[1:3] for asked in api.asked] == [
        ("POST", "/base/tasks/a%2Fb/cancel"),
        *[("DELETE", "/base/tasks/a%2Fb")] * 3,
    ]
