"""The API's operations, each sent until it is answered.

What may pass (no answer, 408, 425, 429, 5xx) is tried again, waiting longer after each failure;
everything else is raised at once. All calls may be repeated without harm.
"""

import json
import random
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from .errors import AnswerError, ApiError, CallTimeoutError, NetworkError, ValroError, seconds_of
from .types import Accepted, Status, Task, TaskPage, is_final

ATTEMPT_SECONDS = 35  # the gateway gives up after 30
MAX_RETRIES = 5
ENDLESS = 10**9
MAX_BACKOFF_SECONDS = 30
POLL_SECONDS = 5  # where no Retry-After says better
# Of httpx's failures those that come before anything is sent, and always will.
HOPELESS = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)


def make_idempotency_key() -> str:
    """A key for one task."""
    return uuid.uuid4().hex


class ValroClient:
    """The tasks of one API. Close it, or use it in a ``with`` block."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | Callable[[bool], str] | None = None,
        max_retries: int | None = None,
        on_retry: Callable[[ValroError, float], None] | None = None,
        http: httpx.Client | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Takes the API's address.

        A ``token`` that is a function is called for each request; after a 401 with True, for a new
        one with which the request is sent once more. A call gives up after ``max_retries`` (5; a
        task that is watched is asked for without end), and ``on_retry`` hears of each failure and
        in how many seconds the next try is. ``http`` is an httpx.Client with settings of your own.
        """
        self.base_url = base_url.rstrip("/")
        self._token = token
        self._max_retries = max_retries
        self._on_retry = on_retry
        self._http = http or httpx.Client()
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def create_task(
        self,
        description: str,
        *,
        idempotency_key: str | None = None,
        follows: str | None = None,
        answers: Mapping[str, Any] | None = None,
    ) -> Accepted:
        """Creates a task. The key is the same at every try: one call is one task.

        ``follows`` is the id of an ended task that this one goes on from, ``answers`` what its
        agent asked for, by the ids of its interrupts.
        """
        key = idempotency_key or make_idempotency_key()
        body = {"description": description, "follows": follows, "answers": answers}
        content = json.dumps({name: value for name, value in body.items() if value is not None})
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        try:
            accepted: Accepted = self._ask("POST", "/tasks", headers, content).json()
        except ValroError as error:
            error.idempotency_key = key
            raise
        return accepted

    def reply(
        self,
        task_id: str,
        description: str,
        *,
        answers: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Accepted:
        """Goes on from a task that has ended, with an answer or one thing more to say."""
        return self.create_task(
            description, follows=task_id, answers=answers, idempotency_key=idempotency_key
        )

    def run_task(
        self,
        description: str,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        on_update: Callable[[Task], None] | None = None,
    ) -> Task:
        """Creates a task, waits for its end, which may take minutes, and returns it.

        ``timeout`` is for the waiting, in seconds; ``on_update`` hears of each change.
        """
        accepted = self.create_task(description, idempotency_key=idempotency_key)
        for task in self.watch_task(accepted["id"], timeout=timeout):
            if on_update:
                on_update(task)
        return task

    def watch_task(self, task_id: str, *, timeout: float | None = None) -> Iterator[Task]:
        """Yields a task as it is now and whenever it has changed; the last one is final.

        Raises CallTimeoutError after ``timeout`` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        etag = ""
        while True:
            headers = {"If-None-Match": etag} if etag else {}
            # Once it was seen it goes on whoever watches it.
            retries = ENDLESS if etag else None
            response = self._ask("GET", _path(task_id), headers, end=end, max_retries=retries)
            if response.status_code != 304:
                task: Task = response.json()
                etag = response.headers.get("etag", "")
                yield task
                if is_final(task):
                    return
            self._wait(seconds_of(response.headers) or POLL_SECONDS, end)

    def get_task(self, task_id: str) -> Task:
        """The task as it is now."""
        task: Task = self._ask("GET", _path(task_id)).json()
        return task

    def list_tasks(
        self,
        *,
        limit: int | None = None,
        status: Collection[Status] = (),
        page: str | None = None,
    ) -> TaskPage:
        """A page of tasks, newest first; ``page`` is ``next`` of the page before."""
        query = {"limit": limit, "status": ",".join(status)}
        given = httpx.QueryParams({name: value for name, value in query.items() if value})
        response = self._ask("GET", f"/tasks?{given if page is None else page}".rstrip("?"))
        link = response.links.get("next", {}).get("url")
        return TaskPage(response.json(), urlsplit(link).query if link else None)

    def list_all_tasks(self, *, status: Collection[Status] = ()) -> Iterator[Task]:
        """Yields all tasks, newest first; a page is asked for when it is needed."""
        page = self.list_tasks(status=status)
        while True:
            yield from page.tasks
            if page.next is None:
                return
            page = self.list_tasks(page=page.next)

    def cancel_task(self, task_id: str) -> Task:
        """Asks for a task's end; ApiError 409 ``task_ended`` if it has ended otherwise.

        One that waits has ended in the answer; one that runs ends within a minute.
        """
        task: Task = self._ask("POST", f"{_path(task_id)}/cancel").json()
        return task

    def delete_task(self, task_id: str) -> None:
        """Deletes a task that has ended; ApiError 409 ``task_not_final`` while it runs."""
        self._ask("DELETE", _path(task_id))

    def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        content: str | None = None,
        *,
        end: float | None = None,
        max_retries: int | None = None,
    ) -> httpx.Response:
        """Sends a request until it is answered; raises what asking again would not change."""
        limit = next(n for n in (self._max_retries, max_retries, MAX_RETRIES) if n is not None)
        failures, is_refused = 0, False
        while True:
            try:
                return self._send(method, path, headers or {}, content, is_refused)
            except (ApiError, NetworkError) as error:
                status = getattr(error, "status", 0)
                if status == 401 and callable(self._token) and not is_refused:
                    is_refused = True
                    continue
                if failures and method == "DELETE" and status == 404:
                    # Not there after a try whose answer was lost: that try has deleted it.
                    return httpx.Response(204)
                if failures >= limit or not getattr(error, "is_temporary", True):
                    raise
                # Jitter, so that not all come back in the same second.
                backoff = min(MAX_BACKOFF_SECONDS, 2**failures) * random.uniform(0.5, 1)
                seconds = getattr(error, "retry_after", None) or backoff
                failures += 1
                if self._on_retry:
                    self._on_retry(error, seconds)
                self._wait(seconds, end)

    def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: str | None,
        is_refused: bool,  # noqa: FBT001  of the request before
    ) -> httpx.Response:
        token = self._token(is_refused) if callable(self._token) else self._token
        own = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            response = self._http.request(
                method,
                self.base_url + path,
                headers={**own, **headers},
                content=content,
                timeout=ATTEMPT_SECONDS,
                follow_redirects=False,
            )
        except HOPELESS:
            raise
        except httpx.TransportError as error:
            raise NetworkError("The API cannot be reached.") from error
        return _checked(response)

    def _wait(self, seconds: float, end: float | None) -> None:
        if end is not None and time.monotonic() + seconds > end:
            self._sleep(max(0, end - time.monotonic()))
            raise CallTimeoutError("The task has not ended in time.")
        self._sleep(seconds)


def _checked(response: httpx.Response) -> httpx.Response:
    """An answer of the API's; raises ApiError for an error, AnswerError for another's answer."""
    status, headers = response.status_code, response.headers
    if status in (204, 304):
        return response
    if response.is_redirect:
        raise AnswerError(status, "a redirect", headers)
    try:
        body = response.json()
    except ValueError as error:
        if response.is_success:
            raise AnswerError(status, "what is not JSON", headers) from error
        body = None
    if not response.is_success:
        raise ApiError(status, body, headers)
    return response


def _path(task_id: str) -> str:
    return f"/tasks/{quote(task_id, safe='')}"
