"""The Worker Lambda: one event, one task, at most one agent run.

Lambda delivers an asynchronous event at least once, and sometimes twice at the same time. Whoever
wins the claim runs the agent; everybody else does nothing and succeeds:

    the event arrives and finds           so it
    a pending task                        claims it, runs the agent, writes the outcome
    a processing task, or one that ended  does nothing
    a pending task past its deadline      does nothing: a reader ends it
    no task, ``created_at`` in the event  does nothing: the task was deleted meanwhile
    no task, an event made by hand        creates the task first

Every call of the agent follows a claim, or a confirmation of it, that succeeded within the last
10 s. A requested cancellation takes effect in three ways, since each may fail: the event
``{"stop": task_id}`` stops the agent's session; a write of progress is refused; and every 20 s the
worker checks.

If it raises, Lambda delivers the event again (twice). So it raises only if DynamoDB cannot be
written before the agent has started; if the outcome could not be written (the next delivery then
finds a processing task, and its deadline ends it); and if there is no session yet to be stopped.

Environment: AGENT_RUNTIME_ARN, and optionally AGENT_RUNTIME_QUALIFIER, AGENT_PROTOCOL (``HTTP`` or
``AGUI``: what the runtime speaks), STOP_SESSION_AFTER_TASK
(``true``: end the agent's session after every task, since an idle one is billed; only for agents
that do nothing in the background) and REPORTS_BASE_URL (lets agents keep working by themselves, and
says where they report). The store reads DYNAMODB_TABLE_NAME and TASK_TTL_DAYS.
"""

from __future__ import annotations

import gc

gc.disable()  # Imports leave next to no garbage; prepare() switches the collector on again.

import functools
import hashlib
import os
import random
import re
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from dynamodb_helpers import Claim, TaskStore, task_store
from valro.agent.answers import Accepted, AgentError, AgentLost, AgentNotStarted, Answer
from valro.agent.runtime import HTTP, PROTOCOLS, AgentRequest, AgentRuntime, InvalidArn
from valro.aws import aws_session, log, log_in_parts, prepare
from valro.dynamodb_items import is_genuine_aws_error, is_permanent_rejection
from valro.progress import Progress
from valro.store_errors import (
    CancelRequested,
    ClaimLost,
    StoreError,
    TaskNotClaimable,
    TaskNotFound,
)
from valro.tasks import (
    CANCELLED,
    MAX_ANSWER_BYTES,
    NOT_CONFIGURED,
    InvalidDescription,
    Outcome,
    Report,
    Task,
    clean_description,
    displayed_otherwise,
    duration_fields,
    is_task_id,
    may_run_on,
    redact,
)

T = TypeVar("T")

# As tasks.timestamp writes them: another format would upset the order of the timeline.
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

# Not given to the agent, but kept for writing the outcome: a fifth of a short function's time.
RESERVE_SECONDS = 20.0
RESERVE_SHARE = 0.2

# Retrying a write. A call takes about 9 s (see the store's client), and a second is kept for the
# log: a call that Lambda would cut off is not begun. But a try may be two calls, if the first one is
# refused by its own first copy, and a try of 20.5 s was measured, with dead addresses of DynamoDB's.
# So if less time than all of that is left, what must not be lost is logged first.
WRITE_SECONDS = 9.0
LOG_SECONDS = 1.0
LOG_FIRST_SECONDS = RESERVE_SECONDS + 2 * WRITE_SECONDS + LOG_SECONDS
CLAIM_RETRY_SECONDS = 30.0
MAX_BACKOFF_SECONDS = 5.0
MAX_CLAIM_AGE_SECONDS = 10.0  # how old a claim may be that starts the agent
CONFIRM_ATTEMPTS = 3  # a confirmation that takes longer is useless


class Context(Protocol):
    """What the worker uses of Lambda's context object."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends this invocation."""


class InvalidEvent(ValueError):
    """An event that is not valid; the message says why."""


class Misconfigured(Exception):
    """The function's environment lacks what it needs to run an agent."""


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
    """Handles an event; returns what happened.

    A malformed event and a misconfigured function return ``{"error": …}`` and do not raise:
    delivering such an event again would change nothing.
    """
    if isinstance(event, dict) and is_task_id(event.get("stop")):
        return stop_agent(event["stop"], context)
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
    protocol = os.environ.get("AGENT_PROTOCOL") or HTTP
    if protocol not in PROTOCOLS:
        raise Misconfigured(f"AGENT_PROTOCOL must be {' or '.join(PROTOCOLS)}")
    try:
        qualifier = os.environ.get("AGENT_RUNTIME_QUALIFIER") or None
        return AgentRuntime(aws_session(), arn, qualifier, protocol)
    except InvalidArn as error:
        raise Misconfigured(str(error)) from error


def stop_agent(task_id: str, context: Context) -> dict[str, Any]:
    """Stops the session of a task that is to be cancelled, or that has ended without its agent.

    A task whose agent reports has no worker to write its end, so it is written here.
    """
    store = task_store()
    task = store.find_item(task_id)
    # The session of a completed task is left alone: a follow-up may be running in it.
    has_ended, reports = may_run_on(task), "last_report" in task
    if not ("cancel_requested_at" in task or has_ended):
        return _log_outcome("nothing_to_stop", "No cancellation was requested", task_id, context)
    try:
        agent_runtime().stop(task.get("session", task_id))
    except Misconfigured as error:
        return _log_outcome("nothing_to_stop", str(error), task_id, context)
    except ClientError as error:
        # AgentCore knows it only once the agent has been called: Lambda delivers this event again.
        if _error_code(error) != "ResourceNotFoundException" or not (has_ended or reports):
            raise
    fields: dict[str, Any] = {}
    if reports and task["status"] == "processing":
        with suppress(TaskNotFound):  # deleted meanwhile
            store.report(task, Report(uuid.uuid4().hex, outcome=Outcome(error_code=CANCELLED)))
            fields = duration_fields(task, store.clock())
    return _log_outcome("stopped", "The agent's session was stopped", task_id, context, **fields)


def stop_session_after_task() -> bool:
    """Whether the session ends with its task even if all went well."""
    return os.environ.get("STOP_SESSION_AFTER_TASK", "").lower() == "true"


class TaskRun:
    """One delivery of one event, from the claim to the outcome.

    ``clock`` gives epoch seconds, ``monotonic`` seconds since any fixed moment. ``timer`` makes the
    timers that write progress.
    """

    def __init__(
        self,
        store: TaskStore,
        agent: AgentRuntime,
        task: TaskEvent,
        context: Context,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        timer: Callable[[float, Callable[[], None]], Any] = threading.Timer,
    ) -> None:
        self.store = store
        self.agent = agent
        self.task = task
        self.context = context
        self.clock = clock
        self.monotonic = monotonic
        self.sleep = sleep
        self.timer = timer
        self.is_logged = False  # what the agent answered
        self.is_stopped = False  # the session was, by this worker
        self.is_cancelled = False  # while the agent was at work
        self.is_accepted = False  # by an agent that, as far as is known, keeps working
        self.session = task.task_id  # the task in whose session the agent runs
        # When the last write that allows a start was sent.
        self.claim_confirmed_at = -MAX_CLAIM_AGE_SECONDS
        base = os.environ.get("REPORTS_BASE_URL")
        # Random, and unrelated to the task's other token. Whoever has it can report.
        self.secret = uuid.uuid4().hex if base else ""
        url = f"{base}/tasks/{task.task_id}/reports"
        self.report = {"url": url, "token": self.secret} if base else None

    def run(self) -> dict[str, Any]:
        """Claims the task, runs the agent and writes the outcome; returns what happened."""
        time_at_start = self.time_left()
        try:
            claim = self._claim()
        except TaskNotClaimable as error:
            return self._outcome("not_claimed", str(error))
        except TaskNotFound as error:
            return self._outcome("deleted", str(error))
        self.session = claim.task.get("session", self.session)
        reserve = min(RESERVE_SECONDS, RESERVE_SHARE * time_at_start)
        progress = Progress(self.store, claim, self.clock, self.timer, self._stop_session)
        result: Answer | AgentError
        try:
            result = self.agent.run(
                self._request(claim),
                self.time_left() - reserve,
                lambda line: progress.say(self._hide(line)),
                before_start=lambda: self._ensure_claim_fresh(claim),
                should_stop=lambda: self._should_stop(claim),
            )
        except AgentError as error:
            result = error
        except Exception:  # noqa: BLE001 - the last resort
            # A fault of our own, but the agent may have run: the task must end, and not run again.
            result = AgentLost("The worker failed.", traceback.format_exc())
        outcome = self._outcome_of(result)
        # Waits for a write of progress that may be under way.
        self._log_in_time(outcome, result)
        progress.close()
        # First the outcome, then the session of an agent that should not go on by itself; even if
        # the outcome could not be written.
        try:
            if isinstance(result, Accepted):
                try:
                    self._persist(lambda: self.store.accept_task(claim))
                    return self._accepted()
                except (StoreError, BotoCoreError, ClientError) as error:
                    self.is_accepted = True  # perhaps: the write below shows it
                    result = AgentLost(
                        "The hand-over to the reporting agent could not be saved.", repr(error)
                    )
                    outcome = self._outcome_of(result)
            return self._end(claim, outcome, result)
        finally:
            # The stop that a cancellation sent may have come before the agent started.
            has_started = not isinstance(result, AgentNotStarted)
            is_left = has_started and self.is_cancelled and not self.is_stopped
            if (_ends_session(result) or is_left) and not self.is_accepted:
                self._stop_session()
            # Last, since it may take long.
            self._log_rest(outcome, result)

    def time_left(self) -> float:
        """Seconds until Lambda ends this invocation."""
        return self.context.get_remaining_time_in_millis() / 1000

    def _claim(self) -> Claim:
        token = uuid.uuid4().hex
        function_end = self.clock() + self.time_left()
        digest = hashlib.sha256(self.secret.encode()).hexdigest() if self.secret else ""

        def claim() -> Claim:
            created_at = _created_if_by_hand(self.store, self.task)
            sent = self.monotonic()
            claim = self.store.claim_task(
                self.task.task_id, token, function_end, created_at, digest
            )
            # A claim that was found again may be as old as the outage that lost its answer.
            self.claim_confirmed_at = sent if claim.is_fresh else self.claim_confirmed_at
            return claim

        # The token is the same in every try, so a claim whose answer was lost is still ours.
        return self._persist(claim, max(self.time_left() - CLAIM_RETRY_SECONDS, 0))

    def _request(self, claim: Claim) -> AgentRequest:
        """What the agent is asked, as stored: a repeated event could say something else."""
        task = claim.task
        user_id = task["owner"].partition("#")[2]  # jwt#<sub>; no name where all are public
        return AgentRequest(
            task["id"],
            task["description"],
            user_id,
            self.report,
            task.get("thread_id", ""),
            task.get("history", ()),
            task.get("resume", ()),
            self.session,
        )

    def _ensure_claim_fresh(self, claim: Claim) -> None:
        """Makes sure that the task was waiting for its agent 10 s ago or later; raises AgentError."""

        def confirm() -> None:
            sent = self.monotonic()
            self.store.confirm_claim(claim)
            self.claim_confirmed_at = sent

        what = "It could not be confirmed that the task is still waiting for the agent."
        try:
            for _ in range(CONFIRM_ATTEMPTS):
                if self.monotonic() - self.claim_confirmed_at < MAX_CLAIM_AGE_SECONDS:
                    return
                self._persist(confirm, max(self.time_left() - CLAIM_RETRY_SECONDS, 0))
        except (StoreError, BotoCoreError, ClientError) as error:
            raise AgentNotStarted(what, repr(error)) from error
        raise AgentNotStarted(what, "It takes too long.")

    def _accepted(self) -> dict[str, Any]:
        self.is_accepted = True
        return self._outcome("accepted", "The agent keeps working and reports")

    def _should_stop(self, claim: Claim) -> bool:
        """Whether to stop waiting for the agent: the task has ended, or its end was requested."""
        try:
            task = self.store.find_task(self.task.task_id)
        except TaskNotFound:
            return True
        except (BotoCoreError, ClientError):
            return False
        return task.get("claim") != claim.token or "cancel_requested_at" in task

    def _outcome_of(self, result: Answer | AgentError) -> Outcome:
        """How the task ends, given the result of the agent's run."""
        answer = result if isinstance(result, Answer) else result.partial
        kept = self._hide(answer.task_fields() if answer else {})
        if isinstance(result, AgentError):
            return Outcome.of(kept, result.code, self._hide(str(result)))
        return Outcome.of(kept, session_open=not _ends_session(result))

    def _end(self, claim: Claim, fitted: Outcome, result: Answer | AgentError) -> dict[str, Any]:
        """Writes the outcome, trying as long as there is time; the answer is never lost."""
        outcome = fitted
        while True:
            try:
                self._persist(
                    functools.partial(self.store.end_task, claim, outcome),
                    before=functools.partial(self._log_in_time, fitted, result),
                )
            except CancelRequested:
                self.is_cancelled = True
                outcome = outcome.cancelled()
            except ClaimLost as lost:
                if "last_report" in (lost.task or {}):
                    # The agent's acceptance had been written after all.
                    return self._accepted()
                # Final is final: a reader has ended the task, or somebody deleted it. Nobody knows how
                # a deleted task had ended, or what runs in its session now.
                self.is_accepted = self.is_accepted and lost.task is None
                self._log("answer came too late", fitted.answer())
                return self._outcome("lost", str(lost), task=claim.task)
            except Exception as failure:
                if is_permanent_rejection(failure) and outcome.parts:
                    # By AWS's count it is larger than by ours.
                    outcome = outcome.shorter()
                    if not outcome.parts:
                        self._log_answer(fitted, result)
                    continue
                self._log_answer(fitted, result)
                self._outcome("lost", f"not written: {outcome.message()}", task=claim.task)
                raise
            else:
                self.is_accepted = False
                end = "error" if outcome.error_code else "completed"
                end = CANCELLED if outcome.error_code == CANCELLED else end
                return self._outcome(end, outcome.message(), outcome.error_code, claim.task)

    def _persist(
        self,
        write: Callable[[], T],
        keep: float = LOG_SECONDS,
        before: Callable[[], None] = lambda: None,
    ) -> T:
        """Tries ``write`` until DynamoDB takes it, or only ``keep`` seconds and one try are left."""
        backoff = 0.2
        while True:
            before()
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
            self.agent.stop(self.session)
            self.is_stopped = True
        except Exception as error:  # noqa: BLE001 - it is asked for, not relied on
            log("WARNING", "session not stopped", task_id=self.task.task_id, detail=repr(error))

    def _outcome(
        self, outcome: str, message: str, error_code: str = "", task: Task | None = None
    ) -> dict[str, Any]:
        """Logs what happened to the event, and how long the run of an ended ``task`` took."""
        fields: dict[str, Any] = duration_fields(task or {}, self.clock())
        fields |= {"error_code": error_code} if error_code else {}
        return _log_outcome(outcome, message, self.task.task_id, self.context, **fields)

    def _log_in_time(self, outcome: Outcome, result: Answer | AgentError) -> None:
        """Logs what the agent answered if another try may take all the time that is left."""
        # Once Lambda has cut off a try, it is too late to log.
        if self.time_left() < LOG_FIRST_SECONDS:
            self._log_answer(outcome, result)

    def _log_answer(self, outcome: Outcome, result: Answer | AgentError) -> None:
        """Logs, once, what the task would keep of an answer, or as much of an unreadable one."""
        if not self.is_logged:
            self.is_logged = True
            kept = outcome.answer() or self._hide(result.unparsed)[:MAX_ANSWER_BYTES]
            self._log("answer, in case it cannot be written", kept)

    def _log_rest(self, outcome: Outcome, result: Answer | AgentError) -> None:
        """Logs what the task does not show and ``_log_answer`` has not logged."""
        answer = result if isinstance(result, Answer) else result.partial
        if isinstance(result, AgentError):
            self._log("agent run failed", result.detail)
            self._log("not asked, since it failed", answer.interrupts if answer else [])
        is_begun = self.is_logged and not outcome.parts
        unparsed = self._hide(result.unparsed)[MAX_ANSWER_BYTES if is_begun else 0 :]
        self._log("not understood", unparsed)
        unmatched = answer.unmatched_emails if answer else ()
        self._log("e-mails to nobody among the vendors", unmatched)
        odd = displayed_otherwise(answer.task_fields()) if answer else []
        self._log("vendors and quotes that are not shown as the agent sent them", odd)

    def _log(self, what: str, value: Any) -> None:
        log_in_parts(what, self._hide(value), task_id=self.task.task_id)

    def _hide(self, value: Any) -> Any:
        """What an agent says, with its token hidden."""
        return redact(self.secret, value)


def _created_if_by_hand(store: TaskStore, task: TaskEvent) -> str:
    """When the task was created; an event made by hand creates it, unless it exists."""
    if task.created_at:
        return task.created_at
    existing, _created = store.create_task(task.task_id, task.description)
    return existing.get("created_at") or ""


def _fail_misconfigured(
    store: TaskStore, task: TaskEvent, message: str, context: Context
) -> dict[str, Any]:
    """Ends a pending task at once, if no delivery of its event can run the agent."""
    outcome = "deleted"
    with suppress(TaskNotFound):
        created_at = _created_if_by_hand(store, task)
        found = store.fail_pending_task(
            task.task_id, "Agent error", message, NOT_CONFIGURED, created_at
        )
        outcome = "error" if found.get("error_code") == NOT_CONFIGURED else "not_claimed"
    _log_outcome(outcome, message, task.task_id, context, level="ERROR", error_code=NOT_CONFIGURED)
    return {"error": message, "code": NOT_CONFIGURED, "task_id": task.task_id}


def _log_outcome(
    outcome: str, message: str, task_id: str, context: Context, level: str = "", **fields: Any
) -> dict[str, Any]:
    """Logs what happened to an event, once, and returns it."""
    level = level or ("ERROR" if outcome in ("error", "lost") else "INFO")
    where = {"outcome": outcome, "task_id": task_id, "request_id": context.aws_request_id}
    log(level, message, **where, **fields)
    return {"task_id": task_id, "outcome": outcome, "message": message}


def _ends_session(result: Answer | AgentError) -> bool:
    """Whether the task's session should end now: its agent may still be working, or it costs money.

    An agent that stopped to ask is kept, to take the answer.
    """
    if isinstance(result, (AgentNotStarted, Accepted)):
        return False
    if isinstance(result, AgentError):
        return result.still_running or stop_session_after_task()
    return stop_session_after_task() and not result.interrupts


def _is_hopeless(error: Exception) -> bool:
    """Whether DynamoDB would refuse the same write again."""
    return is_permanent_rejection(error) or _error_code(error) in (
        "AccessDeniedException",
        "ResourceNotFoundException",
    )


def _error_code(error: Exception) -> str:
    return error.response["Error"]["Code"] if is_genuine_aws_error(error, 403, 404) else ""


prepare(task_store, agent_runtime)
