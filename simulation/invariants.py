"""What must be true, checked after every write, every reply, and at the end of a schedule.

It watches from outside: what reached the agent, what DynamoDB holds, what clients are told. The
true time is the world's; functions have clocks that are off by up to ``skew`` seconds.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from simulation.agent import AgentRun
from simulation.dynamodb import Item
from simulation.gateway import Reply, Report
from simulation.wire import ACCOUNT
from simulation.world import EPOCH, Sandbox, Violation, World
from valro.dynamodb_pages import StoreBusy

Json = Any

# The published bounds, written here once more: the code's own constants are under test.
PENDING_BOUND = 16 * 60.0
RUNNING_MARGIN = 60.0
CANCELLING_BOUND = 60.0
SILENT_BOUND = 600.0
REPORTING_BOUND = 8 * 3_600 + 600.0
# A right to start the agent is 10 s old at most when it is used, and a call takes its way.
FRESH_BOUND = 10.0 + 1.25
# A worker looks every 20 s; then it stops and writes, without a fault.
LOOKING_BOUND = 45.0
REDISPATCH_BOUND = 31.0
GIVING_UP_SECONDS = 20.0
PATIENT_SECONDS = 15.0
HOPELESS = ("ValidationException", "AccessDeniedException", "ResourceNotFoundException")
# As many bytes as Lambda takes of a response, were it as small as answers are here.
MOST_OF_A_LIST = 3_300
MOST_OF_A_TASK = 14_500
MOST_LINES = 5  # of what an agent says
LOGGED = 1_000  # characters at least, of an answer that came too late
ATTEMPTS = 2  # of botocore's
ORDER = {"pending": 0, "processing": 1, "completed": 2, "error": 2}
FINAL = ("completed", "error")

CREATED = ("Task created", "info")
CLAIMED = (
    ("Worker Lambda invoked - processing started", "info"),
    ("Agent processing started", "info"),
)
COMPLETED = ("Agent completed task successfully", "success")
NO_MORE = "further progress not recorded"
NOT_STARTED = "The agent was not started"
NEVER_STARTED = "Cancelled before the agent was started"
MAY_HAVE_ACTED = "The agent may already have contacted vendors"
WORKER_VANISHED = "The worker stopped without reporting an outcome"

PUBLIC = frozenset(
    "id description status vendors quotes emails_sent events created_at updated_at agent_response "
    "agent_response_truncated error_message error_code cancel_requested_at".split()
)
INTERNALS = (ACCOUNT, "arn:", "Traceback", "creation_token", "fingerprint", "token-", "jwt#")
FIXED = ("id", "owner", "description", "created_at", "creation_token", "fingerprint")


@dataclass
class Life:
    """What is known of one task."""

    made: float
    deadline: float
    description: str
    maker: Sandbox | None = None
    holder: Sandbox | None = None
    claim_confirmed_at: float = 0.0  # when the last write was sent that allows a start
    cancelled_at: float | None = None  # when its end was requested
    is_cancelled: bool = False  # and somebody was told that it has ended so
    accepted_at: float | None = None
    until: float = 0.0  # the longest that it may report
    reported: set[str] = field(default_factory=set)  # the ids of the reports that were written
    received: list[Report] = field(default_factory=list)  # of which an agent knows it
    too_late: list[Report] = field(default_factory=list)  # ends that came after the end
    end: Report | None = None  # the report that ended it
    faults_by_then: int = 0  # the holder's, at the request to cancel
    runs: list[AgentRun] = field(default_factory=list)
    ended: str = ""
    ended_by: Sandbox | None = None
    ended_at: float | None = None
    told_not_started: bool = False
    stops: int = 0
    is_deleted: bool = False
    deleted_at: float | None = None  # through the API
    item: Item | None = None  # as it was before it was deleted

    @property
    def due(self) -> float:
        """By when it must have ended for whoever reads it."""
        if self.cancelled_at is None:
            return self.deadline
        return min(self.deadline, self.cancelled_at + CANCELLING_BOUND)


class Invariants:
    """The watcher of one schedule."""

    def __init__(self, world: World, skew: float) -> None:
        self.world = world
        self.lives: dict[str, Life] = {}
        self.told: dict[str, str | None] = {}  # id to owner
        self.by_key: dict[tuple[str | None, str], str] = {}
        self.tolerance = 2 * skew
        self.is_misconfigured = False
        self.tokens: set[str] = set()

    # --- every write ------------------------------------------------------------------------------

    def wrote(self, old: Item | None, new: Item, writer: Sandbox | None, sent: float) -> None:
        """Checks one write of one item, by a call that began when it was ``sent``."""
        task_id = new["id"]["S"]
        if "#" in task_id:
            _must("a chunk is written once", old is None, task_id)
            return
        status = new["status"]["S"]
        if old is None:
            self._made(task_id, new, writer)
            return
        was, life = old["status"]["S"], self.lives[task_id]
        _must("a deleted task stays deleted", was != "deleted", f"{task_id}: {status}")
        assert writer
        if status == "deleted":
            self._removed(life, old, new, writer)
            return
        events, before = _events(new), _events(old)
        _must("final is final", was not in FINAL, f"{task_id}: {was}, then {status}")
        _must("a task goes forward", ORDER[status] >= ORDER[was], f"{task_id}: {was} to {status}")
        kept = events[: len(before)] == before
        silent = status == was == "processing"  # a confirmation of the claim, for one
        grown = len(events) > len(before) or silent
        _must("no event is lost", kept and grown, f"{before}, then {events}")
        for name in FIXED:
            _must("what a task is stays", old.get(name) == new.get(name), f"{task_id}: {name}")
        self._in_order(new, events)
        added = [(event["message"], event["type"]) for event in events[len(before) :]]
        detail = f"{task_id}: {was} to {status} with {added}"
        if status == "processing" and was == "pending":
            _must("a claim says so", tuple(added) == CLAIMED, detail)
            late = self.world.now - life.deadline - self.tolerance
            _must("no claim past the deadline", late <= 0, f"{task_id}: {late:.1f} s late")
            _must("a worker claims", writer.function == "worker", detail)
            life.holder, life.claim_confirmed_at = writer, sent
            life.deadline = writer.end + RUNNING_MARGIN
            life.until = self.world.now + REPORTING_BOUND
        elif status == "processing":
            self._goes_on(life, old, new, writer, sent)
        elif status == "pending":
            _must("a pending task waits", was != "pending", detail)
        else:
            self._ended(task_id, old, new, added, writer)

    def deleted(self, task_id: str) -> None:
        """Takes note that somebody deleted a task: nobody is promised its end any more."""
        self.lives[task_id].is_deleted = True
        self.told.pop(task_id, None)

    def _removed(self, life: Life, old: Item, new: Item, writer: Sandbox) -> None:
        task_id, was = new["id"]["S"], old["status"]["S"]
        _must("only what has ended is deleted", was in FINAL, f"{task_id} was {was}")
        _must("the API deletes", writer.function == "api", task_id)
        kept = {name: new[name] for name in new if name != "status"}
        same = all(old.get(name) == value for name, value in kept.items())
        _must("a tombstone holds nothing", same and kept.keys() <= {"id", "expires_at"}, f"{new}")
        life.deleted_at, life.item = self.world.now, old
        self.deleted(task_id)
        self.world.seen["tasks deleted"] += 1

    def _goes_on(self, life: Life, old: Item, new: Item, writer: Sandbox, sent: float) -> None:
        """A running task runs on: a request to cancel it, a report, or what its worker writes."""
        task_id, now = new["id"]["S"], self.world.now
        added = [event["message"] for event in _events(new)[len(_events(old)) :]]
        if new == old:  # a confirmation, which may come late
            _must("the holder confirms", writer is life.holder, task_id)
            life.claim_confirmed_at = max(life.claim_confirmed_at, sent)
        elif "cancel_requested_at" in new and "cancel_requested_at" not in old:
            rest = {name: new[name] for name in new if name != "cancel_requested_at"}
            only = writer.function == "api" and rest == old
            _must("a request to cancel changes nothing else", only, f"{task_id}: {added}")
            life.cancelled_at = now
            life.faults_by_then = life.holder.faults["dynamodb"] if life.holder else 0
            self.world.seen["cancellations requested"] += 1
        elif "last_report" in old:
            report = writer.report
            _must("only reports go on a reporting task", isinstance(report, Report), task_id)
            _must("a report is not written for a wrong token", report.is_right, report.id)
            _must("a final report ends its task", not report.is_final, report.id)
            _must("a report counts once", report.id not in life.reported, report.id)
            wanted = [line for line in added if line != NO_MORE]
            said = wanted == report.lines()[: len(wanted)]
            whole = NO_MORE in [event["message"] for event in _events(new)]
            full = len(wanted) == len(report.lines()) or whole
            _must("a report is what the agent says", said and full, f"{report.id}: {added}")
            life.reported.add(report.id)
            life.deadline = min(now + SILENT_BOUND, life.until)
            self.world.seen["reports received"] += 1
        else:
            _must("progress is the holder's", writer is life.holder, f"{task_id}: {added}")
            asked = "cancel_requested_at" in old
            _must("no progress of what is to be cancelled", not asked, f"{task_id}: {added}")
            if "last_report" in new:
                life.accepted_at, life.deadline = now, min(now + SILENT_BOUND, life.until)
                self.world.seen["tasks accepted"] += 1

    def _made(self, task_id: str, new: Item, writer: Sandbox | None) -> None:
        _must("a deleted task stays deleted", task_id not in self.lives, task_id)
        events = [(event["message"], event["type"]) for event in _events(new)]
        _must("a task begins as pending", new["status"]["S"] == "pending", task_id)
        _must("a task begins with its creation", events == [CREATED], f"{task_id}: {events}")
        self._in_order(new, _events(new))
        self.lives[task_id] = Life(
            self.world.now, self.world.now + PENDING_BOUND, new["description"]["S"], writer
        )

    def _ended(
        self,
        task_id: str,
        old: Item,
        new: Item,
        added: list[tuple[str, str]],
        writer: Sandbox,
    ) -> None:
        life, was = self.lives[task_id], old["status"]["S"]
        status, last = new["status"]["S"], added[-1]
        detail = f"{task_id}: {was} to {status} with {added}"
        life.ended, life.ended_by, life.ended_at = status, writer, self.world.now
        self.world.seen[f"tasks {status}"] += 1
        code = new.get("error_code", {}).get("S", "")
        report = writer.report
        # Who reports may also find that the time is over, as every reader does.
        is_reported = bool(report) and old.get("last_report") != new.get("last_report")
        if life.cancelled_at is not None:
            so = status == "error" and (code == "cancelled" or writer.is_before)
            _must("what is to be cancelled ends as cancelled", so, f"{detail}, {code}")
            if life.accepted_at is None:
                self._heard_of(life, detail)
        if is_reported:
            self._ended_by_report(life, report, writer, detail)
        if status == "completed":
            _must("status and last event agree", last == COMPLETED, detail)
            answered = life.end is not None and life.end.error is None
            if not is_reported:
                _must("only the holder completes", writer is life.holder, detail)
                answered = any(run.answered_to is life.holder for run in life.runs)
            _must("only an answer completes", answered, detail)
            return
        message = new["error_message"]["S"]
        _must("status and last event agree", last[1] == "error" and message in last[0], detail)
        unstarted = NOT_STARTED in message or message == NEVER_STARTED
        says = unstarted + (MAY_HAVE_ACTED in message)
        _must("an error says whether the agent acted", says == 1 or "not set" in message, detail)
        life.told_not_started = life.told_not_started or unstarted
        if not is_reported:
            self._failed(task_id, old, code, writer, detail)

    def _ended_by_report(self, life: Life, report: Report, writer: Sandbox, detail: str) -> None:
        _must("only a final report ends a task", report.is_final, report.id)
        _must("a report is not written for a wrong token", report.is_right, report.id)
        in_time = writer.started <= life.until + self.tolerance
        _must("nobody reports for more than 8 hours", in_time, detail)
        life.end = report
        self.world.seen["tasks ended by a report"] += 1

    def _failed(self, task_id: str, old: Item, code: str, writer: Sandbox, detail: str) -> None:
        """A task fails for a reason, by who may say so."""
        life, was = self.lives[task_id], old["status"]["S"]
        if code == "dispatch_failed":
            _must("only who made a task fails its dispatch", writer is life.maker, detail)
            taken = task_id in writer.told_taken
            _must("what Lambda says it took is not failed", not taken, detail)
        elif code == "not_configured":
            _must("an agent that is configured is run", self.is_misconfigured, detail)
        elif was == "pending" and code == "cancelled":
            _must("who asks for it cancels", writer.function == "api", detail)
        elif writer is not life.holder:
            self._given_up(life, old, code, writer, detail)
        else:
            asked = life.cancelled_at is not None
            _must("nothing is cancelled unasked", asked or code != "cancelled", detail)
            awaited = any(run.is_awaited for run in life.runs) and not asked
            given_up = awaited and code in ("agent_timeout", "agent_lost") and not life.stops
            _must("an agent that answers in time is waited for", not given_up, detail)

    def _given_up(self, life: Life, old: Item, code: str, writer: Sandbox, detail: str) -> None:
        """Whoever reads ends what is overdue, and nothing else; a stop what is to be stopped."""
        now = self.world.now + self.tolerance
        expected = "not_started" if old["status"]["S"] == "pending" else "worker_lost"
        is_due = now > _epoch(old["deadline"]["S"])
        if "last_report" in old:
            too_long = old["deadline"] == old["report_until"]
            expected = "agent_timeout" if too_long else "agent_lost"
        if life.cancelled_at is not None:
            expected = "cancelled"
            by_stop = "last_report" in old and writer.function == "worker"
            asked = _epoch(old["cancel_requested_at"]["S"])
            is_due = is_due or by_stop or now > asked + CANCELLING_BOUND
        _must("nobody ends a task before its time", is_due, detail)
        if not writer.is_before:
            _must("a task says why it ended", code == expected, f"{detail}: {code}")
        if life.cancelled_at is None and "last_report" not in old and life.holder:
            _must("nobody ends a task under a living worker", not life.holder.alive, detail)

    def _heard_of(self, life: Life, detail: str) -> None:
        """A worker that lives hears of a cancellation, if only since it looks every 20 s."""
        holder, asked = life.holder, life.cancelled_at
        assert holder
        assert asked is not None
        if not holder.alive or holder.faults["dynamodb"] > life.faults_by_then:
            return
        passed = self.world.now - asked
        in_time = passed <= LOOKING_BOUND or holder.is_overtaken
        _must("a worker looks whether to stop", in_time, f"{detail} after {passed:.0f} s")

    def _in_order(self, new: Item, events: list[Json]) -> None:
        times = [event["ts"] for event in events]
        _must("events are in order", times == sorted(times), f"{times}")
        _must("event_seq counts the events", int(new["event_seq"]["N"]) == len(events), f"{events}")
        _must("updated_at is the last event's", new["updated_at"]["S"] == times[-1], f"{times}")

    # --- the agent --------------------------------------------------------------------------------

    def agent_started(self, run: AgentRun, asked: Json) -> None:
        """Counts what reached the agent, whatever the worker believes."""
        life, prompt = self.lives[run.task_id], asked["prompt"]
        life.runs.append(run)
        if "report" in asked:
            self.tokens.add(asked["report"]["token"])
        self.world.seen["agent runs"] += 1
        self.world.trace(f"the agent starts for {run.task_id}", "agent")
        _must("the agent runs once", len(life.runs) == 1, f"{run.task_id}: {len(life.runs)} times")
        _must("the prompt is a description", prompt.startswith("Find a "), prompt)
        _must("a cancelled task starts no agent", not life.is_cancelled, run.task_id)
        _must("a deleted task starts no agent", life.deleted_at is None, run.task_id)
        age = self.world.now - life.claim_confirmed_at
        _must("only a fresh right starts the agent", age <= FRESH_BOUND, f"{age:.1f} s old")
        age = 0.0 if life.cancelled_at is None else self.world.now - life.cancelled_at
        _must("what is to be cancelled is not started", age <= FRESH_BOUND, f"{age:.1f} s old")

    def stopped(self, session_id: str) -> None:
        """A session is stopped only when its task has ended, or its worker can do no more.

        Or when somebody asked for it.
        """
        self.world.trace(f"session {session_id} is stopped", "agent")
        (life,) = (life for task_id, life in self.lives.items() if session_id.startswith(task_id))
        gave_up = life.holder and life.holder.in_trouble("dynamodb")
        is_asked = life.cancelled_at is not None
        over = bool(life.ended or life.is_deleted or gave_up or is_asked)
        _must("the outcome comes first", over, session_id)
        life.stops += 1
        once = life.stops == 1 or is_asked or life.accepted_at is not None
        _must("a session is stopped once", once, session_id)

    def raised(self, event: Json, sandbox: Sandbox, error: Exception) -> None:
        """Checks that a worker had to raise."""
        in_trouble = sandbox.in_trouble("dynamodb")
        if "stop" in event:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            failed = in_trouble or sandbox.in_trouble("agent") or isinstance(error, StoreBusy)
            had_to = failed or code == "ResourceNotFoundException"
            _must("a stop raises only if it failed", had_to, repr(error))
            return
        task_id = event["task_id"]
        _must("a worker raises only for DynamoDB", in_trouble, repr(error))
        if isinstance(error, ClientError) and error.response["Error"]["Code"] in HOPELESS:
            return
        life = self.lives.get(task_id)
        left, age = sandbox.end - self.world.now, self.world.now - sandbox.started
        detail = f"{error!r} after {age:.0f} s, {left:.0f} s left"
        if life and life.holder is sandbox and life.runs:
            _must("a worker tries as long as it can", left < GIVING_UP_SECONDS, detail)
        elif not self.is_misconfigured:
            patient = age >= PATIENT_SECONDS or left < GIVING_UP_SECONDS
            _must("a worker tries for a while to claim", patient, detail)

    def done(self, event: Json, result: Json) -> None:
        """Checks what a worker says that it has done."""
        life = self.lives.get(event.get("stop", ""))
        if life and life.accepted_at is not None and result.get("outcome") == "stopped":
            over = bool(life.ended or life.is_deleted)
            _must("a stop ends a task that has no worker", over, str(result))

    # --- every reply ------------------------------------------------------------------------------

    def due(self, task_id: str) -> float:
        """By when a task must have ended for whoever reads it."""
        return self.lives[task_id].due if task_id in self.lives else 0.0

    def answered_in_time(self, method: str, path: str, sandbox: Sandbox) -> None:
        """The API's own time is enough for all the tries that it makes."""
        in_time = sandbox.cause != "timeout" or sandbox.is_overtaken
        _must("the API answers in time", in_time, f"{method} {path}")

    def replied(
        self, owner: str | None, method: str, path: str, reply: Reply, sandbox: Sandbox
    ) -> None:
        """Checks any reply."""
        self.world.seen[f"replies {reply.status}"] += 1
        told = f"{reply.text} {reply.headers}"
        leaks = [word for word in (*INTERNALS, *self.tokens) if word in told]
        _must("nothing internal leaks", not leaks, f"{leaks} in {reply.text[:300]}")
        tried = reply.status != 500 or _tried(sandbox)
        _must("no 500 for what a second attempt mends", tried, reply.text)
        if reply.status == 202 and path.endswith("/cancel"):
            sent = path.split("/")[2] in sandbox.stops_taken or sandbox.faults["lambda"] > 0
            _must("a request to cancel is sent on", sent, path)
        if method == "GET" and reply.status == 200:
            tasks = reply.body if isinstance(reply.body, list) else [reply.body]
            for task in tasks:
                self._shown(owner, task, sandbox, is_list=isinstance(reply.body, list))
            # Lambda's runtime puts the body into JSON, DEL as six bytes, like all but ASCII.
            size = len(json.dumps(reply.text))
            most = MOST_OF_A_TASK if len(tasks) <= 1 else MOST_OF_A_LIST
            _must("a response is not too large for Lambda", size <= most, f"{path}: {size} bytes")
            made = [task["created_at"] for task in tasks]
            _must("the newest comes first", made == sorted(made, reverse=True), f"{made}")
            if "status=" in path:
                wanted = path.partition("status=")[2].partition("&")[0].split(",")
                others = [task["status"] for task in tasks if task["status"] not in wanted]
                _must("a list shows what was asked for", not others, f"{path}: {others}")
        if method == "GET" and reply.status == 404:
            task_id = path.removeprefix("/tasks/")
            _must("what was told of is found", self.told.get(task_id, "") != owner, task_id)

    def _shown(self, owner: str | None, task: Json, sandbox: Sandbox, *, is_list: bool) -> None:
        task_id, status = task["id"], task["status"]
        extra = task.keys() - PUBLIC
        _must("nothing internal leaks", not extra, f"{extra}")
        if task_id in self.told:
            _must("everyone sees their own", self.told[task_id] == owner, task_id)
        deleted = self.lives[task_id].deleted_at if task_id in self.lives else None
        gone = deleted is not None and deleted < sandbox.started
        _must("what was deleted is not seen again", not gone, task_id)
        last = task["events"][-1]["type"]
        agrees = last == {"completed": "success", "error": "error"}.get(status, "info")
        _must("status and last event agree", agrees, f"{status}: {task['events']}")
        # Read after the request came: what was overdue then must have been ended by this read.
        late = sandbox.started - self.due(task_id) - self.tolerance
        # In a list, one that cannot be written is shown as it is.
        if status not in FINAL and not (is_list and _tried(sandbox)):
            _must("every task ends in time", late <= 0, f"{task_id} is {status}, {late:.1f} s late")

    def posted(
        self,
        owner: str | None,
        key: str | None,
        description: str,
        reply: Reply,
        accepted: set[str],
    ) -> None:
        """Checks what a POST was answered."""
        known = self.lives[self.by_key[owner, key]] if key and (owner, key) in self.by_key else None
        if known and known.deleted_at is not None:
            gone = reply.status in (410, 500) or known.deleted_at > reply.started
            _must("the key of a deleted task is used up", gone, reply.text)
            return
        if reply.status == 422 and key:
            return
        task_id = reply.body.get("id")
        _must("a POST is answered", reply.status in (202, 500, 502), reply.text)
        if reply.status == 500:
            return
        _must("who is told of a task has its id", bool(task_id), reply.text)
        _must("what was told of exists", task_id in self.lives, reply.text)
        if not self.lives[task_id].is_deleted:
            self.told[task_id] = owner
        if NOT_STARTED in reply.text:
            self.lives[task_id].told_not_started = True
        if key:
            first = self.by_key.setdefault((owner, key), task_id)
            _must("a key makes one task", first == task_id, f"{key}: {first} and {task_id}")
        others = [other for other, known in self.by_key.items() if known == task_id]
        mine = [(owner, key)] if key else []
        _must("a task belongs to one key", others == mine, f"{task_id}: {others}")
        if not key and reply.status == 202:
            new = "Idempotent-Replayed" not in reply.headers
            _must("a POST without a key is no repetition", new, reply.text)
        life = self.lives[task_id]
        _must("a task is what was asked for", life.description == description, reply.text)
        age = self.world.now - life.made
        if reply.status == 202 and reply.body["status"] == "pending" and not reply.faults:
            due = not key or age > REDISPATCH_BOUND + self.tolerance
            _must("a task is handed to Lambda", not due or task_id in accepted, reply.text)

    def cancelled(self, owner: str | None, task_id: str, reply: Reply) -> None:
        """Checks what a request to cancel was answered."""
        life, status = self.lives[task_id], reply.status
        if not self._may(owner, task_id, reply):
            return
        _must("a cancellation is answered", status in (200, 202, 409, 500), reply.text)
        if status == 200:
            so = reply.body["status"] == "error" and reply.body["error_code"] == "cancelled"
            _must("what is told to be cancelled is", so and life.ended == "error", reply.text)
            life.is_cancelled = True
        elif status == 202:
            asked = reply.body["status"] == "processing" and life.cancelled_at is not None
            _must("what is told to end is asked to", asked, reply.text)
        elif status == 409:
            _must("only what has ended cannot be cancelled", bool(life.ended), reply.text)

    def removed(self, owner: str | None, task_id: str, reply: Reply) -> None:
        """Checks what a DELETE was answered."""
        life, status = self.lives[task_id], reply.status
        if not self._may(owner, task_id, reply):
            return
        _must("a deletion is answered", status in (204, 409, 500), reply.text)
        if status == 204 and not life.is_deleted:
            self.deleted(task_id)
            life.deleted_at = self.world.now

    def _may(self, owner: str | None, task_id: str, reply: Reply) -> bool:
        """Whether a request about one task was answered to somebody who may do that."""
        life = self.lives[task_id]
        if reply.status == 403:
            _must("who is signed in may", owner is None, reply.text)
        elif reply.status == 404:
            mine = self.told.get(task_id, "") == owner
            _must("everyone's own task is found", life.is_deleted or not mine, task_id)
        elif reply.status != 500:
            mine = life.is_deleted or self.told.get(task_id, owner) == owner
            _must("nobody touches another's task", mine, f"{task_id} by {owner}")
            return True
        return False

    def reported(self, report: Report, reply: Reply) -> None:
        """Checks what a report was answered."""
        life, status = self.lives[report.task_id], reply.status
        detail = f"{report.id}: {status} {reply.text}"
        if not report.is_right:
            _must("a wrong token is judged first", status in (401, 404, 500), detail)
            return
        refusal = 400 if not report.is_usable else 413 if report.is_too_large else 0
        answers = (refusal, 500) if refusal else (200, 409, 500, 503)
        gone = status == 404 and life.is_deleted
        _must("a report is answered", status in answers or gone, detail)
        if status == 409:
            since = min(life.accepted_at or reply.started, life.ended_at or reply.started)
            _must("what is accepted takes reports", since >= reply.started, detail)
        if status != 200:
            return
        goes_on = reply.body["continue"]
        if report.is_final:
            over = not goes_on and reply.body["status"] in FINAL
            _must("a final report is final", over and bool(life.ended), detail)
            if life.end is not report:
                life.too_late.append(report)
        elif goes_on:
            life.received.append(report)
            asked = life.cancelled_at is not None and life.cancelled_at < reply.started
            late = reply.started - life.until - self.tolerance
            _must("who is to stop is told so", not asked and late <= 0, detail)

    def seen_again(self, seen: list[Json], task: Json) -> None:
        """Checks what one poller saw, one poll after the other."""
        for before in seen[-1:]:
            goes_on = ORDER[task["status"]] >= ORDER[before["status"]]
            same = before["status"] not in FINAL or before == task
            grown = task["events"][: len(before["events"])] == before["events"]
            detail = f"{before['status']}, then {task['status']}: {task['events']}"
            _must("a poller never goes back in time", goes_on and same and grown, detail)

    def seen_unchanged(self, before: Json, reply: Reply) -> None:
        """Checks a 304."""
        changed = [before["updated_at"] not in reply.headers["ETag"]]
        _must("a 304 is for what has not changed", not any(changed), f"{reply.headers}")

    # --- the end ----------------------------------------------------------------------------------

    def over(self, items: dict[str, Item], tasks: dict[str, Json]) -> None:
        """Checks the whole, once nothing more can happen; ``tasks`` are as clients see them."""
        log = _log_of_answers(self.world.log_lines)
        for task_id, task in tasks.items():
            _must("every task ends", task["status"] in FINAL, f"{task_id} is {task['status']}")
        for task_id, life in self.lives.items():
            started = bool(life.runs)
            told = life.told_not_started and started
            _must(
                "who was told that the agent did not start was told so rightly", not told, task_id
            )
            for run in life.runs:
                self._answered(run, tasks.get(task_id), log.get(task_id, ""))
            for report in life.too_late:
                text = report.answer["response"][:LOGGED] if report.answer else ""
                _must("an answer that came too late is in the log", text in log[task_id], report.id)
            if life.end:
                self._is_outcome(life.end, tasks.get(task_id))
            if not life.is_deleted:
                self._heard(life, items[task_id])
                self._reported(life, items[task_id])
                self._reason(task_id, life, items[task_id])
                self._sent_stop(task_id, life)
        if self.tokens:
            everything = f"{items}{self.world.log_lines}"
            known = [token for token in self.tokens if token in everything]
            _must("nobody is told a token", not known, f"{known}")
        self._log_agrees()

    def _reported(self, life: Life, item: Item) -> None:
        """Each report that its agent knows to be received is in the timeline, once and in order."""
        if life.accepted_at is None:
            return
        lines = [event["message"] for event in _events(item)]
        counts = Counter(line for line in lines if line.startswith("Report "))
        most = sum(counts.values()) + sum(line.startswith("Step ") for line in lines)
        _must("an agent says so much and no more", most <= MOST_LINES, f"{most} lines")
        twice = [line for line, count in counts.items() if count > 1]
        _must("a report is told once", not twice, f"{twice}")
        foreign = [line for line in counts if line.startswith("Report of others")]
        _must("nobody else reports", not foreign, f"{foreign}")
        for report in life.received:
            told = all(line in counts for line in report.lines()) or NO_MORE in lines
            _must("a report that was received is told", told, report.id)

    def _is_outcome(self, report: Report, task: Json) -> None:
        """The task has the answer with which its agent ended it."""
        if task and report.answer:
            text, whole = task.get("agent_response", ""), report.answer["response"]
            cut = task.get("agent_response_truncated") and text and whole.startswith(text)
            _must("a final report is the outcome", text == whole or bool(cut), f"{report.id}")

    def _sent_stop(self, task_id: str, life: Life) -> None:
        """Who ends the task of an agent that reports has its session stopped."""
        reader = life.ended_by
        if life.accepted_at is None or life.end or not reader or reader.is_before:
            return
        if reader.function == "worker" or reader.cause or reader.faults:
            return  # it has stopped it itself; or nobody knows
        _must("a session is not left alone", task_id in reader.stops_taken, task_id)

    def _heard(self, life: Life, item: Item) -> None:
        """What the agent said is in the timeline, once and in order, if its worker ended the task."""
        lines = [event["message"] for event in _events(item)]
        said = [line for line in lines if line.startswith("Step ")]
        heard = life.runs[0].heard if life.runs else []
        _must("progress is what the agent said", said == heard[: len(said)], f"{said} of {heard}")
        if life.ended_by is life.holder and len(said) < len(heard):
            _must("no progress is lost", NO_MORE in lines, f"{said} of {heard}")

    def _answered(self, run: AgentRun, task: Json, logged: str) -> None:
        """A good answer that a worker has read is in the task, or in the log at least."""
        life = self.lives[run.task_id]
        if run.unread and run.unread_by and not _was_cut_off(run.unread_by):
            _must("what nobody understood is in the log", run.unread in logged, run.task_id)
        reader = run.answered_to or run.told_to
        if not reader or _was_cut_off(reader):
            return
        if life.is_deleted and life.ended:
            return  # with its task
        stored = bool(task) and _holds(task, run)
        _must(
            "an answer is in the store or in the log",
            stored or run.text in logged,
            f"{run.task_id}: {task and task['status']}, worker {reader.cause or 'finished'}",
        )
        asked = life.cancelled_at is not None  # and somebody else has written its end
        no_time = reader.cause == "timeout" and reader.faults["size refused"] > 0
        forgiven = reader.in_trouble("dynamodb") or life.is_deleted or asked or no_time
        _must(
            "an answer is not in the store only if DynamoDB failed",
            stored or forgiven,
            f"{run.task_id}: {task and task['status']}",
        )

    def _reason(self, task_id: str, life: Life, item: Item) -> None:
        """Nothing fails, and nobody vanishes, without a cause."""
        status = item["status"]["S"]
        if status == "completed" or item.get("error_code", {}).get("S") == "cancelled":
            return
        _must("nothing fails in a world without faults", bool(self.world.faults), task_id)
        message = item.get("error_message", {}).get("S", "")
        if WORKER_VANISHED in message and life.accepted_at is None:
            holder = life.holder
            assert holder
            cause = holder.cause not in ("", "timeout") or holder.in_trouble("dynamodb")
            cause = cause or bool(holder.faults["size refused"])
            _must("a worker writes its outcome", cause, f"{task_id}: {holder.cause}")

    def _log_agrees(self) -> None:
        """What a worker's log says of a task is what became of it."""
        for line in self.world.log_lines:
            if '"outcome"' not in line or '"duration_ms"' not in line:
                continue
            entry = json.loads(line)
            life, outcome = self.lives.get(entry["task_id"]), entry["outcome"]
            if life and outcome in FINAL:
                _must("the log tells the outcome", life.ended == outcome, line)
            elif life and outcome == "lost":
                holder = life.holder
                lost = life.ended_by is not holder or life.is_deleted
                lost = lost or bool(holder and holder.in_trouble("dynamodb"))
                _must("an answer is called lost only if it is", lost, line)


def _tried(function: Sandbox) -> bool:
    """Whether a function met more than another attempt mends."""
    return function.faults["dynamodb"] >= ATTEMPTS or "dynamodb" in function.unmended


def _was_cut_off(worker: Sandbox) -> bool:
    """Whether a worker died at a moment for which nobody can prepare."""
    in_a_call = worker.cause.startswith(("before", "after", "during"))
    return in_a_call or (worker.cause == "timeout" and worker.is_overtaken)


def _holds(task: Json, run: AgentRun) -> bool:
    text = task.get("agent_response", "")
    if task.get("agent_response_truncated"):
        return bool(text) and run.text.startswith(text)
    mails = [vendor["emails"] for vendor in task["vendors"]]
    return bool(text == run.text and mails == [run.answer["emails"]])


def _log_of_answers(lines: list[str]) -> dict[str, str]:
    """The answers in the log, put together from their parts."""
    found: dict[str, str] = defaultdict(str)
    for line in lines:
        if '"part"' in line:
            entry = json.loads(line)
            found[entry["task_id"]] += entry["text"]
    return found


def _events(item: Item) -> list[Json]:
    return [
        {name: value["S"] for name, value in event["M"].items()} for event in item["events"]["L"]
    ]


def _epoch(ts: str) -> float:
    return datetime.fromisoformat(ts).timestamp() - EPOCH


def _must(invariant: str, true: bool, detail: str) -> None:  # noqa: FBT001
    if not true:
        raise Violation(invariant, detail)
