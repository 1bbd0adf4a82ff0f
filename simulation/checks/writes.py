"""What every write must keep: a task goes forward, by who may move it, and no event is lost."""

from __future__ import annotations

from typing import Any

from simulation.checks.known import (
    CANCELLING_BOUND,
    FINAL,
    NO_MORE,
    NOT_STARTED,
    ORDER,
    Known,
    Life,
    events_of,
    must,
    seconds_of,
)
from simulation.dynamodb import Item
from simulation.gateway import Report
from simulation.world import Sandbox

Json = Any

# The published bounds, written here once more: the code's own constants are under test.
PENDING_BOUND = 16 * 60.0
RUNNING_MARGIN = 60.0
SILENT_BOUND = 600.0
REPORTING_BOUND = 8 * 3_600 + 600.0
# A worker looks every 20 s; then it stops and writes, without a fault.
LOOKING_BOUND = 45.0

CREATED = ("Task created", "info")
CLAIMED = (
    ("Worker Lambda invoked - processing started", "info"),
    ("Agent processing started", "info"),
)
COMPLETED = ("Agent completed task successfully", "success")
NEVER_STARTED = "Cancelled before the agent was started"
MAY_HAVE_ACTED = "The agent may already have contacted vendors"
FIXED = (
    "id owner description created_at creation_token fingerprint follows thread_id history resume "
    "session followed_by"
).split()


class Writes:
    """Checks what DynamoDB is told to keep."""

    def __init__(self, known: Known) -> None:
        self.known = known

    def wrote(self, old: Item | None, new: Item, writer: Sandbox | None, sent: float) -> None:
        """Checks one write of one item, by a call that began when it was ``sent``."""
        task_id = new["id"]["S"]
        if "#" in task_id:
            must("a chunk is written once", old is None, task_id)
            return
        status = new["status"]["S"]
        if old is None:
            self._made(task_id, new, writer)
            return
        was, life = old["status"]["S"], self.known.lives[task_id]
        must("a deleted task stays deleted", was != "deleted", f"{task_id}: {status}")
        assert writer
        if status == "deleted":
            self._removed(life, old, new, writer)
            return
        if status == was and "followed_by" in new:
            self._followed(life, old, new, writer)
            return
        events, before = events_of(new), events_of(old)
        must("final is final", was not in FINAL, f"{task_id}: {was}, then {status}")
        must("a task goes forward", ORDER[status] >= ORDER[was], f"{task_id}: {was} to {status}")
        kept = events[: len(before)] == before
        silent = status == was == "processing"  # a confirmation of the claim, for one
        grown = len(events) > len(before) or silent
        must("no event is lost", kept and grown, f"{before}, then {events}")
        for name in FIXED:
            must("what a task is stays", old.get(name) == new.get(name), f"{task_id}: {name}")
        self._in_order(new, events)
        added = [(event["message"], event["type"]) for event in events[len(before) :]]
        detail = f"{task_id}: {was} to {status} with {added}"
        if status == "processing" and was == "pending":
            must("a claim says so", tuple(added) == CLAIMED, detail)
            # By the clock of who sent it; that it still was pending is checked where it arrives.
            late = sent - life.deadline - self.known.tolerance
            must("no claim past the deadline", late <= 0, f"{task_id}: {late:.1f} s late")
            must("a worker claims", writer.function == "worker", detail)
            life.holder, life.claim_confirmed_at = writer, sent
            life.deadline = writer.end + RUNNING_MARGIN
            life.until = self.known.world.now + REPORTING_BOUND
        elif status == "processing":
            self._goes_on(life, old, new, writer, sent)
        elif status == "pending":
            must("a pending task waits", was != "pending", detail)
        else:
            self._ended(task_id, old, new, added, writer)

    def _followed(self, life: Life, old: Item, new: Item, writer: Sandbox) -> None:
        """A task that has ended gets a follower, once; but for one that never started."""
        task_id, follower = new["id"]["S"], new["followed_by"]["S"]
        rest = old | {"followed_by": new["followed_by"]}
        must("a link changes nothing else", new == rest and writer.function == "api", task_id)
        is_made = follower in self.known.lives and self.known.lives[follower].follows == task_id
        must("a link leads to a follower", is_made, task_id)
        if life.followed_by:
            before = self.known.lives[life.followed_by]
            gives_way = before.ended == "error" and not before.runs
            must("only who never started gives way", gives_way, life.followed_by)
        life.followed_by = follower
        self.known.world.seen["tasks followed"] += 1

    def _removed(self, life: Life, old: Item, new: Item, writer: Sandbox) -> None:
        task_id, was = new["id"]["S"], old["status"]["S"]
        must("only what has ended is deleted", was in FINAL, f"{task_id} was {was}")
        session = new.get("session", {}).get("S", life.session)
        must("a tombstone has its task's session", session == life.session, task_id)
        must("the API deletes", writer.function == "api", task_id)
        kept = {name: new[name] for name in new if name not in ("status", "session")}
        same = all(old.get(name) == value for name, value in kept.items())
        rest = {"id", "expires_at", "may_have_acted"}
        must("a tombstone holds nothing", same and kept.keys() <= rest, f"{new}")
        life.deleted_at = self.known.world.now
        self.known.forget(task_id, old)
        self.known.world.seen["tasks deleted"] += 1

    def _goes_on(self, life: Life, old: Item, new: Item, writer: Sandbox, sent: float) -> None:
        """A running task runs on: a request to cancel it, a report, or what its worker writes."""
        task_id, now = new["id"]["S"], self.known.world.now
        added = [event["message"] for event in events_of(new)[len(events_of(old)) :]]
        if new == old:  # a confirmation, which may come late
            must("the holder confirms", writer is life.holder, task_id)
            life.claim_confirmed_at = max(life.claim_confirmed_at, sent)
        elif "cancel_requested_at" in new and "cancel_requested_at" not in old:
            rest = {name: new[name] for name in new if name != "cancel_requested_at"}
            only = writer.function == "api" and rest == old
            must("a request to cancel changes nothing else", only, f"{task_id}: {added}")
            life.cancelled_at = now
            life.faults_by_then = life.holder.faults["dynamodb"] if life.holder else 0
            self.known.world.seen["cancellations requested"] += 1
        elif "last_report" in old:
            report = writer.report
            must("only reports go on a reporting task", isinstance(report, Report), task_id)
            must("a report is not written for a wrong token", report.is_right, report.id)
            must("a final report ends its task", not report.is_final, report.id)
            must("a report counts once", report.id not in life.reported, report.id)
            wanted = [line for line in added if line != NO_MORE]
            said = wanted == report.lines()[: len(wanted)]
            whole = NO_MORE in [event["message"] for event in events_of(new)]
            full = len(wanted) == len(report.lines()) or whole
            must("a report is what the agent says", said and full, f"{report.id}: {added}")
            life.reported.add(report.id)
            life.deadline = min(now + SILENT_BOUND, life.until)
            self.known.world.seen["reports received"] += 1
        else:
            must("progress is the holder's", writer is life.holder, f"{task_id}: {added}")
            asked = "cancel_requested_at" in old
            must("no progress of what is to be cancelled", not asked, f"{task_id}: {added}")
            if "last_report" in new:
                life.accepted_at, life.deadline = now, min(now + SILENT_BOUND, life.until)
                self.known.world.seen["tasks accepted"] += 1

    def _made(self, task_id: str, new: Item, writer: Sandbox | None) -> None:
        must("a deleted task stays deleted", task_id not in self.known.lives, task_id)
        events = [(event["message"], event["type"]) for event in events_of(new)]
        must("a task begins as pending", new["status"]["S"] == "pending", task_id)
        must("a task begins with its creation", events == [CREATED], f"{task_id}: {events}")
        self._in_order(new, events_of(new))
        self.known.lives[task_id] = Life(
            self.known.world.now,
            self.known.world.now + PENDING_BOUND,
            new["description"]["S"],
            new["owner"]["S"],
            new.get("follows", {}).get("S", ""),
            session=(new.get("session") or new["id"])["S"],
            maker=writer,
        )
        if "follows" in new:
            earlier = self.known.lives[new["follows"]["S"]]
            must("only what has ended is followed", bool(earlier.ended), task_id)
            must("nobody follows another's task", earlier.owner == new["owner"]["S"], task_id)

    def _ended(
        self,
        task_id: str,
        old: Item,
        new: Item,
        added: list[tuple[str, str]],
        writer: Sandbox,
    ) -> None:
        life, was = self.known.lives[task_id], old["status"]["S"]
        status, last = new["status"]["S"], added[-1]
        detail = f"{task_id}: {was} to {status} with {added}"
        life.ended, life.ended_by, life.ended_at = status, writer, self.known.world.now
        self.known.world.seen[f"tasks {status}"] += 1
        self.known.tell_end(task_id)
        code = life.error_code = new.get("error_code", {}).get("S", "")
        report = writer.report
        # Who reports may also find that the time is over, as every reader does.
        is_reported = bool(report) and old.get("last_report") != new.get("last_report")
        if life.cancelled_at is not None:
            so = (status, code) == ("error", "cancelled")
            must("what is to be cancelled ends as cancelled", so, f"{detail}, {code}")
            if life.accepted_at is None:
                self._heard_of(life, detail)
        if is_reported:
            self._ended_by_report(life, report, writer, detail)
        if status == "completed":
            must("status and last event agree", last == COMPLETED, detail)
            answered = life.end is not None and life.end.error is None
            if not is_reported:
                must("only the holder completes", writer is life.holder, detail)
                answered = any(run.answered_to is life.holder for run in life.runs)
            must("only an answer completes", answered, detail)
            return
        message = new["error_message"]["S"]
        must("status and last event agree", last[1] == "error" and message in last[0], detail)
        unstarted = NOT_STARTED in message or message == NEVER_STARTED
        says = unstarted + (MAY_HAVE_ACTED in message)
        must("an error says whether the agent acted", says == 1 or "not set" in message, detail)
        life.told_not_started = life.told_not_started or unstarted
        if not is_reported:
            self._failed(task_id, old, code, writer, detail)

    def _ended_by_report(self, life: Life, report: Report, writer: Sandbox, detail: str) -> None:
        must("only a final report ends a task", report.is_final, report.id)
        must("a report is not written for a wrong token", report.is_right, report.id)
        in_time = writer.started <= life.until + self.known.tolerance
        must("nobody reports for more than 8 hours", in_time, detail)
        life.end = report
        self.known.world.seen["tasks ended by a report"] += 1

    def _failed(self, task_id: str, old: Item, code: str, writer: Sandbox, detail: str) -> None:
        """A task fails for a reason, by who may say so."""
        life, was = self.known.lives[task_id], old["status"]["S"]
        if code == "dispatch_failed":
            must("only who made a task fails its dispatch", writer is life.maker, detail)
            taken = task_id in writer.told_taken
            must("what Lambda says it took is not failed", not taken, detail)
        elif code == "not_configured":
            must("an agent that is configured is run", self.known.is_misconfigured, detail)
        elif was == "pending" and code == "cancelled":
            must("who asks for it cancels", writer.function == "api", detail)
        elif writer is not life.holder:
            self._given_up(life, old, code, writer, detail)
        else:
            asked = life.cancelled_at is not None
            must("nothing is cancelled unasked", asked or code != "cancelled", detail)
            awaited = any(run.is_awaited for run in life.runs) and not asked
            given_up = awaited and code in ("agent_timeout", "agent_lost") and not life.stops
            must("an agent that answers in time is waited for", not given_up, detail)

    def _given_up(self, life: Life, old: Item, code: str, writer: Sandbox, detail: str) -> None:
        """Whoever reads ends what is overdue, and nothing else; a stop what is to be stopped."""
        now = self.known.world.now + self.known.tolerance
        expected = "not_started" if old["status"]["S"] == "pending" else "worker_lost"
        is_due = now > seconds_of(old["deadline"]["S"])
        if "last_report" in old:
            too_long = old["deadline"] == old["report_until"]
            expected = "agent_timeout" if too_long else "agent_lost"
        if life.cancelled_at is not None:
            expected = "cancelled"
            by_stop = "last_report" in old and writer.function == "worker"
            asked = seconds_of(old["cancel_requested_at"]["S"])
            is_due = is_due or by_stop or now > asked + CANCELLING_BOUND
        must("nobody ends a task before its time", is_due, detail)
        must("a task says why it ended", code == expected, f"{detail}: {code}")
        if life.cancelled_at is None and "last_report" not in old and life.holder:
            must("nobody ends a task under a living worker", not life.holder.alive, detail)

    def _heard_of(self, life: Life, detail: str) -> None:
        """A worker that lives hears of a cancellation, if only since it looks every 20 s."""
        holder, asked = life.holder, life.cancelled_at
        assert holder
        assert asked is not None
        if not holder.alive or holder.faults["dynamodb"] > life.faults_by_then:
            return
        passed = self.known.world.now - asked
        in_time = passed <= LOOKING_BOUND or holder.is_overtaken
        must("a worker looks whether to stop", in_time, f"{detail} after {passed:.0f} s")

    def _in_order(self, new: Item, events: list[Json]) -> None:
        times = [event["ts"] for event in events]
        must("events are in order", times == sorted(times), f"{times}")
        must("event_seq counts the events", int(new["event_seq"]["N"]) == len(events), f"{events}")
        must("updated_at is the last event's", new["updated_at"]["S"] == times[-1], f"{times}")
