"""The task store: the life of a task in DynamoDB. Nothing else writes to it.

A task is one item. Every transition below is ONE conditional write that also appends its events,
so that status and timeline cannot disagree. ``completed`` and ``error`` are final.

    from         to           by        written only if                               events
    (no item)    pending      API       no item has this id                           1
    (no item)    pending      API       the same, and the earlier task has ended,     1
                                        and is followed as it was read (follow)
    pending      processing   worker    still pending, its deadline not past          2
    processing   processing   worker    mine*                                         what the agent says
    processing   processing   worker    mine*, its deadline not past (confirm)        none
    processing   processing   worker    mine* (accept)                                none
    processing   completed    worker    mine*                                         1
    processing   error        worker    mine*, or mine with a cancellation requested  1
    processing   processing   API       no cancellation requested yet (it is then)    none
    processing   any of these API       the last report as read (report)              what the agent says
    pending      error        API       still pending: not started, or cancelled      1
    pending      error        worker    still pending: it is not configured           1
    either       error        readers   status, deadline and whether a cancellation   1
                                        is requested are as they were read
    final        (tombstone)  API       its status as read (delete)                   none

    * my claim, event_seq as I left it, not accepted yet, and no cancellation requested

botocore resends a write whose answer was lost, and the first copy then makes the second one fail.
So every conditional write asks for the item that refused it
(ReturnValuesOnConditionCheckFailure=ALL_OLD), and what is found there decides: my own token means
that the first copy had arrived.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html

Not here: HTTP, the agent, and when to try a failed write again.
"""

from __future__ import annotations

import functools
import os
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from valro.aws import aws_client, log, log_in_parts
from valro.conversations import follow_up
from valro.dynamodb_items import (
    DEFAULT_TABLE_NAME,
    IS_CLAIMABLE,
    IS_FOLLOWED_AS_READ,
    IS_LAST_CANCELLED,
    IS_LAST_REPORT,
    IS_MINE,
    IS_MINE_IN_TIME,
    IS_MINE_TO_CANCEL,
    IS_PENDING,
    IS_RUNNING_ON,
    IS_UNFOLLOWED,
    NOT_CANCELLED,
    STATUS_AND_DEADLINE_UNCHANGED,
    STATUS_UNCHANGED,
    chunk_id,
    decode_cursor,
    is_permanent_rejection,
    item_that_failed_condition,
    kept_answer,
    names_in,
    put_new_request,
    read_answers_fast,
    target,
    to_item,
    update_request,
)
from valro.dynamodb_pages import LISTED_ATTRIBUTES, PageRequest, StoreBusy, batch_get, owner_page
from valro.dynamodb_table import TaskTable
from valro.store_errors import (
    AlreadyFollowed,
    CancelRequested,
    ClaimLost,
    NotAccepted,
    TaskNotClaimable,
    TaskNotFinal,
    TaskNotFound,
)
from valro.tasks import (
    CANCELLED,
    CANCELLED_UNSTARTED,
    DEADLINE_MARGIN_SECONDS,
    DELETED,
    EXPIRED,
    FINAL_STATUSES,
    MAX_FUNCTION_SECONDS,
    MAX_REPORTING_SECONDS,
    PUBLIC_OWNER,
    REPORT_SILENCE_SECONDS,
    STATUSES,
    Event,
    Outcome,
    Report,
    Task,
    Timeline,
    duration_fields,
    epoch,
    expiry_code,
    is_task_id,
    make_event,
    may_run_on,
    new_task,
    timestamp,
)

ALL_NEW = {"ReturnValues": "ALL_NEW"}
REPORT_ATTEMPTS = 5


@dataclass
class Claim:
    """A worker's hold on a task. ``is_fresh``: its write succeeded; no later read found it."""

    task: Task
    token: str
    timeline: Timeline
    is_fresh: bool = True


class TaskStore(TaskTable):
    """The tasks of one table.

    ``on_expired`` is called with each task that a read has ended. botocore's errors pass through
    unchanged, except for the refused conditions that the module's table lists.
    """

    def __init__(
        self,
        client: Any,
        table_name: str = DEFAULT_TABLE_NAME,
        *,
        ttl_days: int = 0,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        on_expired: Callable[[Task], None] = lambda _: None,
    ) -> None:
        super().__init__(client, table_name, clock, sleep)
        self.ttl_days = ttl_days
        self.on_expired = on_expired

    # --- the transitions --------------------------------------------------------------------------

    def create_task(
        self,
        task_id: str,
        description: str,
        owner: str = PUBLIC_OWNER,
        fingerprint: str | None = None,
    ) -> tuple[Task, bool]:
        """Writes a pending task; returns it and True, or the item that had the id before and False.

        That item may be a tombstone. ``fingerprint`` is kept with the task, to be compared with a
        repeated request's.
        """
        task = self._new_task(task_id, description, owner, fingerprint)
        try:
            self._send(self.client.put_item, **put_new_request(self.table_name, task))
        except ClientError as error:
            existing = item_that_failed_condition(error)
            if existing is None:
                raise
            return self._created_or(existing, task)
        return task, True

    def follow_task(
        self,
        task_id: str,
        description: str,
        owner: str,
        fingerprint: str,
        *,
        follows: str,
        answers: dict[str, Any] | None = None,
    ) -> tuple[Task, bool]:
        """Writes a pending task that follows one that has ended; returns what create_task does.

        The same write links the earlier task to it. ``answers``: to its agent's questions.
        Raises TaskNotFound, TaskNotFinal, AlreadyFollowed, InvalidAnswers, AnswersRequired.
        """
        ids = [*{task_id, follows}] if is_task_id(follows) else [task_id]
        found = batch_get(self.client, self.table_name, ids, sleep=self.sleep)
        # The new one first: whatever has happened to the earlier one, the same key finds it again.
        if task_id in found:
            return self._expire_if_overdue(found[task_id]), False
        earlier = self._visible_task(found.get(follows), follows, owner)
        task = self._new_task(task_id, description, owner, fingerprint)
        while True:
            unstarted = self._unstarted_follower(earlier)
            earlier = self.with_answer(earlier)
            following = task | follow_up(earlier, unstarted, task["description"], answers)
            values = {"as_read": earlier["status"]}
            values |= {"followed_as_read": unstarted["id"]} if unstarted else {}
            condition = IS_FOLLOWED_AS_READ if unstarted else IS_UNFOLLOWED
            link = update_request({"followed_by": task_id}, [], condition, values)
            writes = [
                {"Put": put_new_request(self.table_name, following)},
                {"Update": target(self.table_name, follows) | link},
            ]
            try:
                self._send(self.client.transact_write_items, TransactItems=writes)
            except ClientError as error:
                if (existing := item_that_failed_condition(error)) is not None:
                    return self._created_or(existing, following)
                if (refusing := item_that_failed_condition(error, 1)) is None:
                    raise
                if refusing.get("status", DELETED) == DELETED:
                    raise TaskNotFound(follows) from error
                earlier = refusing
            else:
                return following, True

    def claim_task(
        self,
        task_id: str,
        token: str,
        function_end: float,
        created_at: str = "",
        report_hash: str = "",
    ) -> Claim:
        """Takes a pending task for this worker; raises TaskNotClaimable or TaskNotFound.

        ``token`` is fresh for every invocation. ``function_end``: epoch seconds at which Lambda ends
        this one. ``created_at``, if known, keeps the timeline in order even if clocks differ.
        ``report_hash``: the hash of the token with which the agent may report.
        """
        now = self.clock()
        ts = max(timestamp(now), created_at)
        end = min(function_end, now + MAX_FUNCTION_SECONDS) + DEADLINE_MARGIN_SECONDS
        attributes = {"status": "processing", "claim": token, "deadline": timestamp(end)}
        attributes["started_at"] = ts
        attributes |= {"report_hash": report_hash} if report_hash else {}
        events = [
            make_event(ts, "Worker Lambda invoked - processing started"),
            make_event(ts, "Agent processing started"),
        ]
        values = {"pending": "pending", "now": timestamp(now)}
        update = update_request(attributes, events, IS_CLAIMABLE, values)
        task, is_written = self._write(task_id, update | ALL_NEW)
        if not is_written and (task.get("claim") != token or task["status"] != "processing"):
            raise TaskNotClaimable(task)
        return Claim(task, token, Timeline.of(task), is_fresh=is_written)

    def confirm_claim(self, claim: Claim) -> None:
        """Makes sure that the task still awaits its agent; raises ClaimLost or CancelRequested."""
        now = timestamp(self.clock())
        mine = {"claim": claim.token}
        self._update_claimed(claim, mine, condition=IS_MINE_IN_TIME, values={"now": now})

    def record_progress(self, claim: Claim) -> None:
        """Appends the claim's unwritten lines; raises ClaimLost or CancelRequested."""
        self._update_claimed(claim, {})

    def accept_task(self, claim: Claim) -> None:
        """Leaves the task to its agent, which will report; raises ClaimLost or CancelRequested."""
        now = self.clock()
        attributes = {
            "last_report": uuid.uuid4().hex,
            "report_ids": [],
            "report_until": timestamp(epoch(claim.task["updated_at"]) + MAX_REPORTING_SECONDS),
            "deadline": timestamp(now + REPORT_SILENCE_SECONDS),
        } | claim.timeline.counters()
        self._update_claimed(claim, attributes)

    def end_task(self, claim: Claim, outcome: Outcome) -> None:
        """Writes the outcome with the answer, which is cut if it does not fit.

        Raises ClaimLost if the task has ended without this worker, CancelRequested if only
        ``outcome.cancelled`` may be written.
        """
        condition = IS_MINE_TO_CANCEL if outcome.error_code == CANCELLED else IS_MINE
        ending = self._final_update(claim.task, claim.timeline, outcome)
        self._update_claimed(claim, *ending, condition=condition)

    def fail_pending_task(
        self, task_id: str, prefix: str, error_message: str, error_code: str, created_at: str = ""
    ) -> Task:
        """Ends a task that nobody has claimed; returns the task as it is now, failed or not.

        Raises TaskNotFound.
        """
        message = f"{prefix}: {error_message}" if prefix else error_message
        outcome = Outcome(
            error_code=error_code, error_message=error_message, may_have_acted=False
        ).attributes()
        events = [make_event(max(timestamp(self.clock()), created_at), message, "error")]
        update = update_request(outcome, events, IS_PENDING, {"pending": "pending"})
        return self._write(task_id, update | ALL_NEW)[0]

    def cancel_task(self, task_id: str, owner: str) -> Task:
        """Ends a pending task as cancelled, and requests the end of a processing one.

        Returns the task as it is now: it may have ended in another way. Raises TaskNotFound.
        """
        task = self.get_task(task_id, owner)
        if task["status"] == "pending":
            updated_at = str(task.get("updated_at", ""))
            task = self.fail_pending_task(task_id, "", CANCELLED_UNSTARTED, CANCELLED, updated_at)
        if task["status"] == "processing" and "cancel_requested_at" not in task:
            attributes = {"cancel_requested_at": timestamp(self.clock())}
            values = {"processing": "processing"}
            update = update_request(attributes, [], IS_RUNNING_ON, values)
            task, _ = self._write(task_id, update | ALL_NEW)
        return task

    def report(self, task: Task, report: Report) -> Task:
        """Stores a report on a task as it was read; returns the task as it is then.

        A report that was received before, or comes after the end, changes nothing. Raises
        NotAccepted, TaskNotFound, StoreBusy.
        """
        for _ in range(REPORT_ATTEMPTS):
            now = self.clock()
            if report.is_too_late(task, timestamp(now)):
                task = self._expire_if_overdue(task)
            if task["status"] == DELETED:
                raise TaskNotFound(task["id"])
            if task["status"] in FINAL_STATUSES or report.id in task.get("report_ids", ()):
                return task
            if "last_report" not in task:
                raise NotAccepted(task["id"])
            attributes, timeline, outcome = report.apply_to(task, now)
            attributes["last_report"] = mark = uuid.uuid4().hex
            ending, last, chunks = (
                self._final_update(task, timeline, outcome) if outcome else ({}, [], [])
            )
            condition = IS_LAST_CANCELLED if "cancel_requested_at" in task else IS_LAST_REPORT
            values = {
                "processing": "processing",
                "last_as_read": task["last_report"],
                "deadline_as_read": task["deadline"],
            }
            lines = timeline.unwritten + last
            update = update_request(attributes | ending, lines, condition, values)
            try:
                found, is_written = self._write(task["id"], update, chunks)
            except ClientError as error:
                return self.report(task, _shorter_report(report, task["id"], error))
            if is_written:
                return task | attributes | ending
            task = found
            if task.get("last_report") == mark:
                return task
        raise StoreBusy(f"{REPORT_ATTEMPTS} reports at once")

    def delete_task(self, task_id: str, owner: str) -> None:
        """Replaces a task that has ended with a tombstone, and removes its chunks.

        So neither its key nor a late event runs the agent again. Raises TaskNotFound, TaskNotFinal.
        """
        task = self.get_task(task_id, owner)
        if task["status"] not in FINAL_STATUSES:
            raise TaskNotFinal(task_id)
        # Whether a follower may have acted decides whether the task can be followed again.
        names = ("id", "expires_at", *(["may_have_acted"] if "follows" in task else []))
        kept: Task = {name: task[name] for name in names if name in task}
        if may_run_on(task):
            # For a stop event that comes after this.
            kept["session"] = task.get("session", task_id)
        put = {
            "TableName": self.table_name,
            "Item": to_item(kept | {"status": DELETED}),
            "ConditionExpression": STATUS_UNCHANGED,
            "ExpressionAttributeNames": names_in(STATUS_UNCHANGED),
            "ExpressionAttributeValues": to_item({":as_read": task["status"]}),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        deletes = [
            {"Delete": {"TableName": self.table_name, "Key": {"id": {"S": chunk_id(task_id, n)}}}}
            for n in range(task.get("chunks", 0))
        ]
        try:
            self._send(self.client.transact_write_items, TransactItems=[{"Put": put}, *deletes])
        except ClientError as error:
            if (found := item_that_failed_condition(error)) is None:
                raise
            if not found:  # removed by time to live or at the console, without a tombstone
                raise TaskNotFound(task_id) from error
            if found.get("status", DELETED) != DELETED:  # otherwise somebody else has deleted it
                raise TaskNotFinal(task_id) from error  # shown as ended, but no write can end it

    # --- reads, which end what is overdue ---------------------------------------------------------

    def find_task(self, task_id: str) -> Task:
        """Reads one task as it is, consistently, whoever owns it; raises TaskNotFound."""
        task = self.find_item(task_id) if is_task_id(task_id) else {}
        if task.get("status", DELETED) == DELETED:
            raise TaskNotFound(task_id)
        return task

    def get_task(self, task_id: str, owner: str) -> Task:
        """Reads one task, consistently; raises TaskNotFound, also for another owner's task.

        An answer kept in chunks is not read yet: ``with_answer`` does that.
        """
        return self._visible_task(self.find_task(task_id), task_id, owner)

    def end_if_overdue(self, task_id: str) -> Task:
        """Reads one task, whoever owns it, and ends it if overdue; returns what find_item does."""
        return self._expire_if_overdue(self.find_item(task_id))

    def list_tasks(
        self,
        owner: str,
        limit: int,
        cursor: str | None = None,
        *,
        statuses: Collection[str] = (),
    ) -> tuple[list[Task], str | None]:
        """Reads a page of an owner's tasks, newest first, and the cursor of the next page if any.

        With ``statuses``, only tasks that have one of them. At most 300 tasks are looked at, so the
        page may be short, even empty, although others follow.
        """
        after = None if cursor is None else decode_cursor(cursor)
        page = PageRequest(owner, limit, after, statuses, timestamp(self.clock()))
        tasks, more = owner_page(self.client, self.table_name, page, sleep=self.sleep)
        shown = [
            self._expire_listed(task) if expiry_code(task, page.now) else task for task in tasks
        ]
        return [task for task in shown if task["status"] in (statuses or STATUSES)], more

    # --- private ----------------------------------------------------------------------------------

    def _new_task(
        self, task_id: str, description: str, owner: str, fingerprint: str | None
    ) -> Task:
        task = new_task(task_id, description, owner, self.clock(), self.ttl_days)
        task["creation_token"] = uuid.uuid4().hex
        return task | ({} if fingerprint is None else {"fingerprint": fingerprint})

    def _created_or(self, existing: Task, task: Task) -> tuple[Task, bool]:
        """The new task and True, if its first copy refused it; else what had its id, and False."""
        if existing.get("creation_token") == task["creation_token"]:
            return task, True
        return self._expire_if_overdue(existing), False

    def _visible_task(self, task: Task | None, task_id: str, owner: str) -> Task:
        """A task as its owner sees it; raises TaskNotFound if there is none, or for other owners."""
        if task and task.get("owner") == owner:
            task = self._expire_if_overdue(task)
        if not task or task.get("owner") != owner:  # no longer, if it was deleted meanwhile
            raise TaskNotFound(task_id)
        return task

    def _unstarted_follower(self, task: Task) -> Task | None:
        """The follower that another one may replace, if there is one.

        Raises TaskNotFinal, or AlreadyFollowed if the follower may have acted, or still may.
        """
        if task["status"] not in FINAL_STATUSES:
            raise TaskNotFinal(task["id"])
        if "followed_by" not in task:
            return None
        follower = self._expire_if_overdue(self.find_item(task["followed_by"]))
        if follower.get("may_have_acted") is not False:
            raise AlreadyFollowed(task["id"], task["followed_by"])
        return follower

    def _update_claimed(
        self,
        claim: Claim,
        attributes: dict[str, Any],
        last_events: Sequence[Event] = (),
        chunks: Sequence[dict[str, Any]] = (),
        *,
        condition: str = IS_MINE,
        values: dict[str, Any] | None = None,
    ) -> None:
        """Writes the unwritten lines, ``last_events`` and ``attributes`` at once, if the claim is mine.

        An earlier write whose answer was lost may have arrived. Then event_seq has grown by the
        lines that it carried: these are dropped, and the rest is written.

            mine, the status I was writing    it had all arrived
            mine, accepted, as I was writing  it had all arrived
            mine, processing, event_seq + n   n lines had arrived: write the others, or raise
                                              CancelRequested if that is the reason
            anything else                     the task has ended without me: ClaimLost
        """
        timeline, task_id = claim.timeline, claim.task["id"]
        while True:
            carried = len(timeline.unwritten)
            events = [*timeline.unwritten, *last_events]
            if not events and not attributes:
                return
            mine = {"processing": "processing", "claim": claim.token, "seq": timeline.event_seq}
            update = update_request(attributes, events, condition, mine | (values or {}))
            try:
                found, is_written = self._write(task_id, update, chunks)
            except TaskNotFound as error:
                raise ClaimLost(task_id, None) from error
            if is_written:
                timeline.mark_written(carried)
                return
            if found.get("claim") != claim.token:
                raise ClaimLost(task_id, found)
            if found["status"] == attributes.get("status") or (
                "last_report" in attributes and "last_report" in found
            ):
                return
            arrived = found["event_seq"] - timeline.event_seq
            if found["status"] != "processing" or not 0 <= arrived <= carried:
                raise ClaimLost(task_id, found)
            timeline.mark_written(arrived)
            if "cancel_requested_at" in found and condition != IS_MINE_TO_CANCEL:
                raise CancelRequested(f"Task {task_id} is to be cancelled")
            if not arrived:
                raise ClaimLost(task_id, found)

    def _final_update(
        self, task: Task, timeline: Timeline, outcome: Outcome
    ) -> tuple[dict[str, Any], list[Event], list[dict[str, Any]]]:
        """The attributes, the last events and the chunks that an outcome is written as."""
        now = timestamp(self.clock())
        events = [timeline.line(now, message, kind) for message, kind in outcome.lines()]
        attributes, chunks = kept_answer(task, outcome.parts)
        return outcome.attributes() | attributes, events, chunks

    def _expire_if_overdue(self, task: Task) -> Task:
        """Ends a task whose deadline is past; the first reader does so, once."""
        now = timestamp(self.clock())
        code = expiry_code(task, now)
        if not code:
            return task
        attributes = Outcome.of({}, code, EXPIRED[code]).attributes()
        # A reader's clock may be behind the worker's.
        events = [make_event(max(now, str(task.get("updated_at", ""))), EXPIRED[code], "error")]
        values, condition = {"as_read": task["status"]}, STATUS_UNCHANGED
        if isinstance(task.get("deadline"), str):
            values["deadline_as_read"], condition = task["deadline"], STATUS_AND_DEADLINE_UNCHANGED
        if "cancel_requested_at" not in task:
            condition += f" AND {NOT_CANCELLED}"
        # Without the claim, a worker that comes back late sees that it did not write this end.
        update = update_request(attributes, events, condition, values, remove="claim")
        try:
            found, is_written = self._write(task["id"], update | ALL_NEW)
        except TaskNotFound:
            return {"id": task["id"], "status": DELETED}
        except ClientError as error:
            if not is_permanent_rejection(error):
                raise
            found, is_written = task, False  # its timeline can take no more lines
        # It is mine too if it was sent twice, and the first one refused the second.
        is_mine = found.get("error_code") == code and found.get("updated_at") == events[0]["ts"]
        if is_written or is_mine:
            fields = {"task_id": task["id"], "was": task["status"], "error_code": code}
            fields |= duration_fields(task, self.clock())
            log("WARNING", "task expired", outcome="expired", **fields)
            self.on_expired(found)
            return found
        judged = ("status", "deadline", "cancel_requested_at")
        if any(found.get(name) != task.get(name) for name in judged):
            return self._expire_if_overdue(found)
        # No write can end it as it is, and no worker can have it.
        log("ERROR", "task not repaired", task_id=task["id"])
        return task | attributes | dict.fromkeys(("updated_at", "completed_at"), events[0]["ts"])

    def _expire_listed(self, task: Task) -> Task:
        """Ends an overdue task of a list if it can: one that cannot be ended must not hide the others."""
        try:
            # If somebody was faster, this is the whole item, with its agent_response.
            expired = self._expire_if_overdue(task)
        except Exception as error:  # noqa: BLE001 - it may be anybody's item, or DynamoDB's fault
            log("ERROR", "task not repaired", task_id=task["id"], detail=repr(error))
            return task
        return {name: value for name, value in expired.items() if name in LISTED_ATTRIBUTES}


def _shorter_report(report: Report, task_id: str, error: ClientError) -> Report:
    """The report with less of its answer, if DynamoDB will never take it; else raises ``error``."""
    if not (report.outcome and is_permanent_rejection(error)):
        raise error
    outcome = report.outcome.shorter()
    if not outcome.parts:
        log_in_parts("answer cannot be kept", report.sent, task_id=task_id)
    if not report.outcome.parts:
        raise error
    return replace(report, outcome=outcome)


@functools.cache
def task_store() -> TaskStore:
    """The store that the environment names: DYNAMODB_TABLE_NAME, TASK_TTL_DAYS."""
    client = aws_client("dynamodb")
    read_answers_fast(client)
    return TaskStore(
        client,
        os.environ.get("DYNAMODB_TABLE_NAME") or DEFAULT_TABLE_NAME,
        ttl_days=int(os.environ.get("TASK_TTL_DAYS") or 0),
    )
