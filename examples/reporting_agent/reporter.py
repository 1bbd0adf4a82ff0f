"""Reports on a task from an agent that works for minutes or hours. Copy this file beside your agent.

    with Reporter(payload) as report:  # takes the token out of the payload
        report.say("Looking for painters in Austin")  # never waits for the network
        report.finish({"response": "…", "vendors": […]})

A thread of its own sends what was said, in order, one request at a time, and repeats a request
until it is received. It gives a sign of life every minute, so the work may be silent. When nobody
waits for the task any more (cancelled, deleted, timed out), ``report.stopped`` is set, and ``say``
raises Stopped, which ends the ``with`` block without an error.
An exception of the work is reported by its type alone, since its text may hold secrets, and goes
on its way, so that your log has it.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
import uuid
from http.client import HTTPException
from typing import Any, Self
from urllib.request import HTTPErrorProcessor, Request, build_opener

SIGN_OF_LIFE_SECONDS = 60.0  # the task ends 600 s after the last report that was received
PAUSE_SECONDS = 2.0  # between two reports, in which lines gather
TIMEOUT_SECONDS = 30.0
MAX_BACKOFF_SECONDS = 30.0
MAX_SECONDS = 8 * 3600 + 600.0  # no task lives longer, so nobody waits for a report after that
MAX_BYTES = 4_000_000  # of one report
MAX_LINES = 100  # in one report
MAX_LINE_CHARACTERS = 1_000

log = logging.getLogger(__name__)


class Stopped(BaseException):
    """Nobody waits for the task: stop working. No Exception, so that no framework swallows it."""


class Reporter:
    """What an agent says about one task; ``say`` may be called from any thread."""

    def __init__(self, payload: dict[str, Any]) -> None:
        report = payload.pop("report")  # so that no prompt, trace or log gets it with the payload
        self.stopped = threading.Event()
        self._url: str = report["url"]
        self._token: str = report["token"]
        self._lines: list[str] = []
        self._outcome: dict[str, Any] | None = None
        self._news = threading.Condition()
        self._sender = threading.Thread(target=self._keep_reporting, daemon=True)
        self._end = time.monotonic() + MAX_SECONDS

    def say(self, line: str) -> None:
        """Adds a line to the task's timeline, soon; raises Stopped if nobody reads it any more."""
        if self.stopped.is_set():
            raise Stopped
        if line.strip():
            with self._news:
                self._lines.append(line.strip()[:MAX_LINE_CHARACTERS])
                self._news.notify()

    def finish(self, answer: dict[str, Any] | str) -> None:
        """Ends the task with its answer; the end of the ``with`` block waits until it is sent."""
        whole = answer if isinstance(answer, dict) else {"response": answer}
        self._conclude({"answer": json.loads(_json(whole))})  # raises here if it is no JSON

    def fail(self, error: str) -> None:
        """Ends the task as failed, with a sentence for the person whose task it is."""
        self._conclude({"error": error})

    def __enter__(self) -> Self:
        self._sender.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        what = f"failed ({kind.__name__})" if kind else "ended without an answer"
        self.fail(f"The agent {what}.")  # unless it has concluded before
        self._sender.join()
        return kind is Stopped

    def _conclude(self, outcome: dict[str, Any]) -> None:
        with self._news:
            self._outcome = self._outcome or outcome
            self._news.notify()

    def _keep_reporting(self) -> None:
        """Sends what there is, or a sign of life, until the outcome is sent or nobody waits."""
        outcome_sent = False
        while not outcome_sent and not self.stopped.is_set():
            with self._news:
                self._news.wait_for(lambda: self._lines or self._outcome, SIGN_OF_LIFE_SECONDS)
                lines, self._lines = self._lines[:MAX_LINES], self._lines[MAX_LINES:]
                outcome_sent = bool(self._outcome) and not self._lines
                outcome = (outcome_sent and self._outcome) or {}
            self._deliver(lines, outcome)
            with self._news:
                self._news.wait_for(lambda: self._outcome, PAUSE_SECONDS)

    def _deliver(self, lines: list[str], outcome: dict[str, Any]) -> None:
        """Repeats one report until it is received; sets ``stopped`` if nobody waits for it."""
        report_id, room, attempt = str(uuid.uuid4()), MAX_BYTES, 0
        while time.monotonic() < self._end:
            body = _fitted({"report_id": report_id, "messages": lines, **outcome}, room)
            status, answer, retry_after = self._post(body)
            match status, answer:
                case (200, {"continue": False}) | (401 | 404, _):
                    break
                case 200, {"continue": True}:
                    return
                case 413, _ if "answer" in outcome and room > 1_000:  # a gateway takes less
                    room //= 2
                case 400 | 413, _:
                    log.warning("A report was refused and is left out: %r", answer)
                    if "answer" not in outcome:
                        return
                    report_id = str(uuid.uuid4())
                    outcome = {"error": "The agent's answer could not be reported."}
                case _:
                    backoff = min(2.0**attempt, MAX_BACKOFF_SECONDS) * random.uniform(0.5, 1)
                    attempt = min(attempt + 1, 10)
                    time.sleep(min(retry_after or backoff, MAX_BACKOFF_SECONDS))
        self.stopped.set()

    def _post(self, body: bytes) -> tuple[int, Any, float]:
        """Returns status, answer and Retry-After of one request; the status is 0 without any."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            request = Request(self._url, body, headers)  # noqa: S310  the payload's own address
            with _OPENER.open(request, timeout=TIMEOUT_SECONDS) as response:
                retry_after = response.headers.get("Retry-After", "")
                wait = float(retry_after) if retry_after.isdecimal() else 0.0
                said = response.read().replace(self._token.encode(), b"[token]")
                return response.status, json.loads(said) if response.status == 200 else said, wait
        except (OSError, HTTPException, ValueError) as error:
            # Its type alone: the text of some errors quotes the header that has the token.
            log.info("A report is to be sent again: %s", type(error).__name__)
            return 0, None, 0.0


class _EveryStatus(HTTPErrorProcessor):
    """Hands on every answer as it is: a redirect would take the token to another address."""

    def http_response(self, request: Request, response: Any) -> Any:  # noqa: ARG002
        return response

    https_response = http_response


_OPENER = build_opener(_EveryStatus)


def _fitted(report: dict[str, Any], room: int) -> bytes:
    """The report as JSON of at most ``room`` bytes: the longest fields of its answer are cut."""
    body = _json(report)
    answer = dict(report.get("answer") or {})
    while len(body) > room and answer:
        longest = max(answer, key=lambda key: len(_json(answer[key])))
        value = answer.pop(longest)
        if isinstance(value, str | list) and value:
            answer[longest] = value[: int(len(value) * room / len(body) * 0.95)]
        lines = [*report["messages"], "The agent's answer was too long, so its end was cut off."]
        body = _json({**report, "messages": lines, "answer": answer})
    return body


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace")
