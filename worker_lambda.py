"""The Worker Lambda: one event, one task, at most one agent run.

Lambda delivers an asynchronous event at least once, and sometimes twice at the same time. Whoever
wins the claim runs the agent; everybody else does nothing and succeeds:

    the event arrives and finds           so it
    a pending task                        claims it, runs the agent, writes the outcome
    a processing task, or one that ended  does nothing
    a pending task past its deadline      does nothing: a reader ends it
    no task, ``created_at`` in the event  does nothing: the task was deleted meanwhile
    no task, an event made by hand        creates the task first

What it raises, Lambda delivers again (twice). So it raises only before the agent has started, when
DynamoDB cannot be written, or when the outcome could not be written: then the next delivery finds a
processing task, and its deadline ends it.

Environment: AGENT_RUNTIME_ARN, and optionally AGENT_RUNTIME_QUALIFIER and STOP_SESSION_AFTER_TASK
(``true``: end the agent's session after every task, since an idle one is billed; only for agents
that do nothing in the background). DYNAMODB_TABLE_NAME and TASK_TTL_DAYS are the store's.
"""

from __future__ import annotations

import gc

gc.disable()  # Importing makes next to no garbage; prepare() switches the collector on again.

import functools
import json
import os
import random
import re
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from agent_answers import AgentError, AgentFailed, AgentLost, AgentNotStarted, Answer
from agent_runtime import AgentRuntime, InvalidArn
from aws_lambda import aws_session, log, prepare
from dynamodb_helpers import (
    Claim,
    ClaimLost,
    TaskNotClaimable,
    TaskNotFound,
    TaskStore,
    task_store,
)
from tasks import InvalidDescription, clean_description, is_task_id, timestamp

T = TypeVar("T")

# As tasks.timestamp writes them: anything else would spoil the order of the timeline.
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

# Kept back from the agent for writing the outcome: a fifth of a short function's time.
RESERVE_SECONDS = 20.0
RESERVE_SHARE = 0.2
PROGRESS_INTERVAL_SECONDS = 2.0

# Trying a write again. One try takes 9 s at most (see the store's client), and a second is kept for
# the log: a try that Lambda would cut off is not begun.
WRITE_SECONDS = 9.0
LOG_SECONDS = 1.0
CLAIM_RETRY_SECONDS = 30.0
MAX_BACKOFF_SECONDS = 5.0

LOG_PART_CHARACTERS = 15_000  # at most 180 KB as escaped JSON; CloudWatch takes 256 KB a line


class Context(Protocol):
    """What the worker uses of Lambda's context object."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends this invocation."""


class InvalidEvent(ValueError):
    """An event that names no task; the message says what is wrong with it."""


class Misconfigured(Exception):
    """The function's environment lacks what running an agent takes."""


class TaskEvent(NamedTuple):
    """What the API sends. ``created_at`` is empty in an event made by hand."""

    task_id: str
    description: str
    created_at: str

    @classmethod
    def read(cls, event: Any) -> TaskEvent:
        """Checks an event; raises InvalidEvent."""
        if not isinstance(event, dict):
            raise InvalidEvent('The event must be an object: {"task_id": …, "description": …}')
        task_id, created_at = event.get("task_id"), event.get("created_at") or ""
        if not is_task_id(task_id):
            raise InvalidEvent("'task_id' must be 1 to 100 letters, digits, '-' and '_'")
        if not isinstance(created_at, str) or (created_at and not TIMESTAMP.fullmatch(created_at)):
            raise InvalidEvent("'created_at' must be as the API wrote it, or absent")
        try:
            return cls(task_id, clean_description(event.get("description")), created_at)
        except InvalidDescription as error:
            raise InvalidEvent(str(error)) from error


def lambda_handler(event: Any, context: Context) -> dict[str, Any]:
    """Runs the task of an event; returns what became of it.

    A malformed event and a misconfigured function return ``{"error": …}`` and are not raised: to
    deliver such an event again would change nothing.
    """
    try:
        task = TaskEvent.read(event)
    except InvalidEvent as error:
        log("ERROR", str(error), outcome="invalid_event", request_id=context.aws_request_id)
        return {"error": str(error), "code": "invalid_event"}
    try:
        agent = agent_runtime()
    except Misconfigured as error:
        return _fail_misconfigured(task_store(), task, str(error), context)
    return TaskRun(task_store(), agent, task, context).run()


@functools.cache
def agent_runtime() -> AgentRuntime:
    """The agent that the environment names; raises Misconfigured."""
    arn = os.environ.get("AGENT_RUNTIME_ARN")
    if not arn:
        raise Misconfigured("AGENT_RUNTIME_ARN not set")
    try:
        return AgentRuntime(aws_session(), arn, os.environ.get("AGENT_RUNTIME_QUALIFIER") or None)
    except InvalidArn as error:
        raise Misconfigured(str(error)) from error


def stop_session_after_task() -> bool:
    """Whether the session ends with its task even when all went well."""
    return os.environ.get("STOP_SESSION_AFTER_TASK", "").lower() == "true"


class TaskRun:
    """One delivery of one event, from the claim to the outcome.

    ``clock`` gives epoch seconds. ``timer`` makes the timers that write progress.
    """

    def __init__(
        self,
        store: TaskStore,
        agent: AgentRuntime,
        task: TaskEvent,
        context: Context,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        timer: Callable[[float, Callable[[], None]], Any] = threading.Timer,
    ) -> None:
        self.store = store
        self.agent = agent
        self.task = task
        self.context = context
        self.clock = clock
        self.sleep = sleep
        self.timer = timer
        self.started = clock()

    def run(self) -> dict[str, Any]:
        """Claims the task, runs the agent and writes the outcome; returns what became of it."""
        time_at_start = self.time_left()
        try:
            claim = self._claim()
        except TaskNotClaimable as error:
            return self._outcome("not_claimed", str(error))
        except TaskNotFound as error:
            return self._outcome("deleted", str(error))
        reserve = min(RESERVE_SECONDS, RESERVE_SHARE * time_at_start)
        seconds = self.time_left() - reserve
        progress = Progress(self.store, claim, self.clock, self.timer)
        outcome: Answer | AgentError
        try:
            # The task's own description: a repeated event could bring another one.
            outcome = self.agent.run(
                self.task.task_id, claim.task["description"], seconds, progress.say
            )
        except AgentError as error:
            outcome = error
        except Exception:  # noqa: BLE001 - the last resort
            # Our own fault, but the agent may have run: the task must end, and not run again.
            outcome = AgentLost("The worker failed.", traceback.format_exc())
        answer = outcome if isinstance(outcome, Answer) else outcome.partial
        if answer and self.time_left() < 2 * WRITE_SECONDS + LOG_SECONDS:
            # A function with a short timeout keeps back less than the progress being written and
            # the outcome may take. Once Lambda has cut one off it is too late for the log.
            self._log_in_parts("answer, in case there is no time to write it", _kept(answer))
        progress.close()
        # First the outcome, then the session of an agent that should not go on by itself; also if
        # the outcome could not be written.
        try:
            if isinstance(outcome, Answer):
                message = "Agent completed task successfully"
                return self._end(claim, "completed", message, outcome)
            return self._end(claim, "error", str(outcome), outcome.partial)
        finally:
            if _ends_session(outcome):
                self._stop_session()
            # Last, since it may be long.
            self._log_rest(outcome)

    def time_left(self) -> float:
        """Seconds until Lambda ends this invocation."""
        return self.context.get_remaining_time_in_millis() / 1000

    def _claim(self) -> Claim:
        token = uuid.uuid4().hex
        function_end = self.clock() + self.time_left()
        keep = max(self.time_left() - CLAIM_RETRY_SECONDS, 0)

        def claim() -> Claim:
            created_at = _created_if_by_hand(self.store, self.task)
            return self.store.claim_task(self.task.task_id, token, function_end, created_at)

        # The token stays the same from try to try, so a claim whose answer was lost is still ours.
        return self._persist(claim, keep)

    def _end(
        self, claim: Claim, status: str, message: str, answer: Answer | None
    ) -> dict[str, Any]:
        """Writes the outcome, trying as long as there is time; the answer is never lost."""
        kept = _kept(answer) if answer else {}

        def write() -> None:
            if status == "completed":
                self.store.complete_task(claim, kept)
            else:
                self.store.fail_task(claim, message, kept)

        try:
            self._persist(write)
        except ClaimLost as error:
            # Final is final: a reader has ended the task, or somebody deleted it.
            if kept:
                self._log_in_parts("answer came too late", kept)
            return self._outcome("lost", str(error))
        except Exception as error:
            if kept:
                self._log_in_parts("answer could not be written", kept)
                if _error_code(error) == "ValidationException":
                    # DynamoDB will never take this answer; the task can still end without it.
                    failure = AgentFailed("The agent's answer cannot be kept.")
                    return self._end(claim, "error", str(failure), None)
            self._outcome("lost", f"not written: {message}")
            raise
        return self._outcome(status, message)

    def _persist(self, write: Callable[[], T], keep: float = LOG_SECONDS) -> T:
        """Does ``write`` until DynamoDB takes it, or until ``keep`` seconds and a try are left."""
        backoff = 0.2
        while True:
            try:
                return write()
            except (BotoCoreError, ClientError) as error:
                wait = random.uniform(0, backoff)
                if _is_hopeless(error) or self.time_left() < keep + WRITE_SECONDS + wait:
                    raise
                log(
                    "WARNING",
                    "write failed, trying again",
                    task_id=self.task.task_id,
                    detail=repr(error),
                )
                self.sleep(wait)
                backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)

    def _stop_session(self) -> None:
        try:
            self.agent.stop(self.task.task_id)
        except (BotoCoreError, ClientError) as error:
            log("WARNING", "session not stopped", task_id=self.task.task_id, detail=repr(error))

    def _outcome(self, outcome: str, message: str) -> dict[str, Any]:
        log(
            "ERROR" if outcome in ("error", "lost") else "INFO",
            message,
            outcome=outcome,
            task_id=self.task.task_id,
            request_id=self.context.aws_request_id,
            duration_ms=round((self.clock() - self.started) * 1000),
        )
        return {"task_id": self.task.task_id, "outcome": outcome, "message": message}

    def _log_rest(self, outcome: Answer | AgentError) -> None:
        """Logs what the task does not show."""
        answer = outcome if isinstance(outcome, Answer) else outcome.partial
        if isinstance(outcome, AgentError):
            self._log_in_parts("agent run failed", outcome.detail)
        if outcome.raw:
            self._log_in_parts("not understood", outcome.raw)
        for email in answer.unmatched_emails if answer else ():
            self._log_in_parts("e-mail to nobody among the vendors", email)

    def _log_in_parts(self, what: str, value: Any) -> None:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        parts = range(0, max(len(text), 1), LOG_PART_CHARACTERS)
        for number, start in enumerate(parts, start=1):
            log(
                "WARNING",
                what,
                task_id=self.task.task_id,
                part=number,
                parts=len(parts),
                text=text[start : start + LOG_PART_CHARACTERS],
            )


class Progress:
    """Writes what the agent says, in gathered lines, at most once every two seconds.

    A timer writes, so that a line is seen though the agent falls silent after it, and so that a
    slow DynamoDB never keeps the agent's stream from being read. A write that fails leaves its
    lines in the claim: they ride in the next one, the last of which is the outcome's.
    """

    def __init__(
        self,
        store: TaskStore,
        claim: Claim,
        clock: Callable[[], float],
        timer: Callable[[float, Callable[[], None]], Any],
    ) -> None:
        self.store = store
        self.claim = claim
        self.clock = clock
        self.make_timer = timer
        self.timer: Any = None
        self.lines: list[tuple[str, str]] = []
        self.last_write = -PROGRESS_INTERVAL_SECONDS
        self.closed = False
        # ``state`` is held for moments, ``writing`` for as long as a write takes.
        self.state = threading.Lock()
        self.writing = threading.Lock()

    def say(self, message: str) -> None:
        """Takes one line; returns at once."""
        with self.state:
            self.lines.append((timestamp(self.clock()), message))
            if self.timer is None:
                wait = self.last_write + PROGRESS_INTERVAL_SECONDS - self.clock()
                # A clock that is set back must not silence the agent.
                wait = min(max(wait, 0.0), PROGRESS_INTERVAL_SECONDS)
                self.timer = self.make_timer(wait, self._write)
                self.timer.daemon = True
                self.timer.start()

    def close(self) -> None:
        """Ends the writing; what is unwritten stays in the claim for the outcome to carry."""
        with self.state:
            self.closed = True
            if self.timer is not None:
                self.timer.cancel()
        with self.writing:
            self._note_lines()

    def _write(self) -> None:
        with self.writing:
            with self.state:
                if self.closed:
                    return
                self.timer = None
                self.last_write = self.clock()
            self._note_lines()
            try:
                self.store.record_progress(self.claim)
            except Exception as error:  # noqa: BLE001 - progress is never worth a task
                log(
                    "WARNING",
                    "progress not written",
                    task_id=self.claim.task["id"],
                    detail=repr(error),
                )

    def _note_lines(self) -> None:
        with self.state:
            lines, self.lines = self.lines, []
        for ts, message in lines:
            self.claim.note(ts, message)


def _created_if_by_hand(store: TaskStore, task: TaskEvent) -> str:
    """When the task was created; an event made by hand creates it, unless somebody has before."""
    if task.created_at:
        return task.created_at
    existing, _created = store.create_task(task.task_id, task.description)
    return existing.get("created_at") or ""


def _fail_misconfigured(
    store: TaskStore, task: TaskEvent, message: str, context: Context
) -> dict[str, Any]:
    """Ends a pending task at once, since no delivery of its event can run the agent."""
    started = time.monotonic()
    try:
        found = store.fail_pending_task(
            task.task_id, "Agent error", message, "misconfigured", _created_if_by_hand(store, task)
        )
    except TaskNotFound:
        outcome = "deleted"
    else:
        outcome = "error" if found.get("error_code") == "misconfigured" else "not_claimed"
    log(
        "ERROR",
        message,
        outcome=outcome,
        task_id=task.task_id,
        request_id=context.aws_request_id,
        duration_ms=round((time.monotonic() - started) * 1000),
    )
    return {"error": message, "code": "not_configured", "task_id": task.task_id}


def _kept(answer: Answer) -> dict[str, Any]:
    """What the store keeps of an answer."""
    return {
        "agent_response": answer.agent_response,
        "vendors": answer.vendors,
        "quotes": answer.quotes,
        "emails_sent": answer.emails_sent,
    }


def _ends_session(outcome: Answer | AgentError) -> bool:
    """Whether the task's session ought to end now: its agent may be at work, or it costs money."""
    if isinstance(outcome, AgentNotStarted):
        return False
    return stop_session_after_task() or (isinstance(outcome, AgentError) and outcome.still_running)


def _is_hopeless(error: Exception) -> bool:
    """Whether DynamoDB would refuse the same write again."""
    return _error_code(error) in (
        "ValidationException",
        "AccessDeniedException",
        "ResourceNotFoundException",
    )


def _error_code(error: Exception) -> str:
    return error.response["Error"]["Code"] if isinstance(error, ClientError) else ""


prepare(task_store, agent_runtime)
