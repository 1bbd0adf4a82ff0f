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

import json
import logging
import random
import threading
import time
import uuid
from contextlib import suppress
from http.client import HTTPException
from queue import Empty, SimpleQueue
from typing import Any, Self
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

SIGN_OF_LIFE_SECONDS = 60.0  # the task ends 600 s after the last report that was received
PAUSE_SECONDS = 2.0  # between two reports, in which lines gather
TIMEOUT_SECONDS = 30.0
MAX_BACKOFF_SECONDS = 30.0
MAX_SECONDS = 8 * 3600 + 600.0  # no task lives longer, so nobody waits for a report after that
MAX_BYTES = 4_000_000  # of one report
MAX_LINES = 100  # in one report
MAX_LINE_CHARACTERS = 1_000
CUT = "The agent's answer was too long, so its end was cut off."

log = logging.getLogger(__name__)
# Without the usual handlers that follow redirects: one would take the token to another address.
opener = OpenerDirector()
for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
    opener.add_handler(handler)


class Stopped(BaseException):
    """Nobody waits for the task: stop working. No Exception, so that no framework swallows it."""


class Reporter:
    """What an agent says about one task; ``say`` may be called from any thread."""

    def __init__(self, payload: dict[str, Any]) -> None:
        report = payload.pop("report")  # so that no prompt, trace or log gets it with the payload
        self._url, self._token = report["url"], report["token"]
        self._said: SimpleQueue[str | dict[str, Any]] = SimpleQueue()  # lines, then the outcome
        self._sender = threading.Thread(target=self._keep_reporting, daemon=True)
        self._end = time.monotonic() + MAX_SECONDS
        self.stopped = threading.Event()

    def say(self, line: str) -> None:
        """Adds a line to the task's timeline, soon; raises Stopped if nobody reads it any more."""
        if self.stopped.is_set():
            raise Stopped
        if line.strip():
            self._said.put(line.strip()[:MAX_LINE_CHARACTERS])

    def finish(self, answer: dict[str, Any] | str) -> None:
        """Ends the task with its answer; the end of the ``with`` block waits until it is sent."""
        whole = answer if isinstance(answer, dict) else {"response": answer}
        self._said.put({"answer": json.loads(_json(whole))})  # raises here if it is no JSON

    def fail(self, error: str) -> None:
        """Ends the task as failed, with a sentence for the person whose task it is."""
        self._said.put({"error": error})

    def __enter__(self) -> Self:
        self._sender.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        what = f"failed ({kind.__name__})" if kind else "ended without an answer"
        self.fail(f"The agent {what}.")  # unless it has ended before: the first outcome is sent
        self._sender.join()
        return kind is Stopped

    def _keep_reporting(self) -> None:
        """Sends what there is, or a sign of life, until the outcome is sent or nobody waits."""
        outcome: dict[str, Any] = {}
        earliest = 0.0
        while not outcome and not self.stopped.is_set():
            lines: list[str] = []
            due = time.monotonic() + SIGN_OF_LIFE_SECONDS
            with suppress(Empty):
                while not outcome and len(lines) < MAX_LINES:
                    said = self._said.get(timeout=max(0.0, due - time.monotonic()))
                    if isinstance(said, dict):
                        outcome = said
                    else:
                        lines.append(said)
                    due = earliest
            self._deliver({"messages": lines, **outcome})
            earliest = time.monotonic() + PAUSE_SECONDS

    def _deliver(self, report: dict[str, Any]) -> None:
        """Repeats one report until it is received; sets ``stopped`` if nobody waits for it."""
        report_id, backoff = uuid.uuid4(), 0.5
        while time.monotonic() < self._end:
            status, answer, retry_after = self._post({"report_id": str(report_id), **report})
            match status, answer:
                case 200, {"continue": True}:
                    return
                case (200, {"continue": False}) | (401 | 404, _):
                    break
                case 400 | 413, _:
                    log.warning("A report was refused with %d: %r", status, answer)
                    if "answer" not in report:
                        return  # without its lines
                    report, report_id = _in_place_of(report, status), uuid.uuid4()
                case _:
                    backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)
                    wait = retry_after or backoff * random.uniform(0.5, 1)
                    time.sleep(min(wait, MAX_BACKOFF_SECONDS))
        self.stopped.set()

    def _post(self, report: dict[str, Any]) -> tuple[int, Any, float]:
        """Returns status, answer and Retry-After of one request; the status is 0 without any."""
        body = _json(report)
        if len(body) > MAX_BYTES:
            return 413, "over 4 MB", 0.0
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        try:
            request = Request(self._url, body, headers)  # noqa: S310  the payload's own address
            with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                said = response.read().replace(self._token.encode(), b"[token]")
                wait = response.headers.get("Retry-After", "")
                answer = json.loads(said) if response.status == 200 else said
                return response.status, answer, float(wait) if wait.isdecimal() else 0.0
        except (OSError, HTTPException, ValueError) as error:
            # Its type alone: the text of some errors quotes the header that has the token.
            log.info("A report is to be sent again: %s", type(error).__name__)
            return 0, None, 0.0


def _in_place_of(report: dict[str, Any], status: int) -> dict[str, Any]:
    """What to send for an answer that was refused: with less of its longest field, or an error."""
    lines, answer = report["messages"], dict(report["answer"])
    if status == 400 or not answer:
        return {"messages": lines, "error": "The agent's answer could not be reported."}
    longest = max(answer, key=lambda key: len(_json(answer[key])))
    value = answer.pop(longest)
    if isinstance(value, str | list) and len(value) > 1:
        answer[longest] = value[: len(value) * 3 // 4]
    return {"messages": lines if CUT in lines else [*lines, CUT], "answer": answer}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace")
