"""What every write must keep: a task goes forward, by who may move it, and no event is lost."""

from simulation.checks.known import (
    CANCELLING_BOUND,
    FINAL,
    NO_MORE,
    NOT_STARTED,
    ORDER,
    Known,
    Life,
    Report,
    events_of,
    must,
    seconds_of,
)
from simulation.dynamodb import Item
from simulation.world import Sandbox

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


def wrote(known: Known, old: Item | None, new: Item, writer: Sandbox | None, sent: float) -> None:
    """Checks one write of one item, by a call that began when it was ``sent``."""
    task_id = new["id"]["S"]
    if "#" in task_id:
        must("a chunk is written once", old is None, task_id)
    elif old is None:
        _made(known, task_id, new, writer)
    else:
        assert writer
        _Change(known, old, new, writer, sent).check()


def _made(known: Known, task_id: str, new: Item, writer: Sandbox | None) -> None:
    must("a deleted task stays deleted", task_id not in known.lives, task_id)
    events = [(event["message"], event["type"]) for event in events_of(new)]
    must("a task begins as pending", new["status"]["S"] == "pending", task_id)
    must("a task begins with its creation", events == [CREATED], f"{task_id}: {events}")
    _in_order(new)
    known.lives[task_id] = Life(
        known.world.now,
        known.world.now + PENDING_BOUND,
        new["description"]["S"],
        new["owner"]["S"],
        new.get("follows", {}).get("S", ""),
        session=(new.get("session") or new["id"])["S"],
        maker=writer,
    )
    if "follows" in new:
        earlier = known.lives[new["follows"]["S"]]
        must("only what has ended is followed", bool(earlier.ended), task_id)
        must("nobody follows another's task", earlier.owner == new["owner"]["S"], task_id)


def _in_order(new: Item) -> None:
    events = events_of(new)
    times = [event["ts"] for event in events]
    must("events are in order", times == sorted(times), f"{times}")
    must("event_seq counts the events", int(new["event_seq"]["N"]) == len(events), f"{events}")
    must("updated_at is the last event's", new["updated_at"]["S"] == times[-1], f"{times}")


class _Change:
    """One write of a task that there is already."""

    def __init__(self, known: Known, old: Item, new: Item, writer: Sandbox, sent: float) -> None:
        self.known = known
        self.now = known.world.now
        self.old, self.new = old, new
        self.writer = writer
        self.sent = sent
        self.task_id = new["id"]["S"]
        self.life = known.lives[self.task_id]
        self.was, self.status = old["status"]["S"], new["status"]["S"]
        self.is_cancelled = self.life.cancelled_at is not None

    def check(self) -> None:
        """Checks it."""
        old, new, was, status = self.old, self.new, self.was, self.status
        must("a deleted task stays deleted", was != "deleted", f"{self.task_id}: {status}")
        if status == "deleted":
            self._deletes()
            return
        if status == was and "followed_by" in new:
            self._links()
            return
        events, before = events_of(new), events_of(old)
        added = [(event["message"], event["type"]) for event in events[len(before) :]]
        self.lines = [message for message, _type in added]
        self.detail = detail = f"{self.task_id}: {was} to {status} with {added}"
        must("final is final", was not in FINAL, detail)
        must("a task goes forward", ORDER[status] >= ORDER[was], detail)
        silent = status == was == "processing"  # a confirmation of the claim, for one
        kept = events[: len(before)] == before and (silent or len(events) > len(before))
        must("no event is lost", kept, f"{before}, then {events}")
        for name in FIXED:
            must("what a task is stays", old.get(name) == new.get(name), f"{self.task_id}: {name}")
        _in_order(new)
        if status == "processing" and was == "pending":
            must("a claim says so", tuple(added) == CLAIMED, detail)
            self._claims()
        elif status == "processing":
            self._goes_on()
        elif status == "pending":
            must("a pending task waits", was != "pending", detail)
        else:
            self._ends(added[-1])

    def _links(self) -> None:
        """A task that has ended gets a follower, once; but for one that never started."""
        life, lives, follower = self.life, self.known.lives, self.new["followed_by"]["S"]
        is_link = self.new == self.old | {"followed_by": self.new["followed_by"]}
        is_link = is_link and self.writer.function == "api"
        must("a link changes nothing else", is_link, self.task_id)
        is_made = follower in lives and lives[follower].follows == self.task_id
        must("a link leads to a follower", is_made, self.task_id)
        gives_way = not life.followed_by or lives[life.followed_by].never_started
        must("only who never started gives way", gives_way, life.followed_by)
        life.followed_by = follower

    def _deletes(self) -> None:
        must("only what has ended is deleted", self.was in FINAL, f"{self.task_id} was {self.was}")
        session = self.new.get("session", {}).get("S", self.life.session)
        must("a tombstone has its task's session", session == self.life.session, self.task_id)
        must("the API deletes", self.writer.function == "api", self.task_id)
        kept = {name: self.new[name] for name in self.new if name not in ("status", "session")}
        same = all(self.old.get(name) == value for name, value in kept.items())
        rest = {"id", "expires_at", "may_have_acted"}
        must("a tombstone holds nothing", same and kept.keys() <= rest, f"{self.new}")
        self.life.deleted_at = self.now
        self.known.forget(self.task_id, self.old)

    def _claims(self) -> None:
        life = self.life
        # By the clock of who sent it; that it still was pending is checked where it arrives.
        late = self.sent - life.deadline - self.known.tolerance
        must("no claim past the deadline", late <= 0, f"{self.task_id}: {late:.1f} s late")
        must("a worker claims", self.writer.function == "worker", self.detail)
        life.holder, life.claim_confirmed_at = self.writer, self.sent
        life.deadline = self.writer.end + RUNNING_MARGIN
        life.until = self.now + REPORTING_BOUND

    def _goes_on(self) -> None:
        """A running task runs on: a request to cancel it, a report, or what its worker writes."""
        life, old, new, writer = self.life, self.old, self.new, self.writer
        if new == old:  # a confirmation, which may come late
            must("the holder confirms", writer is life.holder, self.task_id)
            life.claim_confirmed_at = max(life.claim_confirmed_at, self.sent)
        elif "cancel_requested_at" in new and "cancel_requested_at" not in old:
            rest = {name: new[name] for name in new if name != "cancel_requested_at"}
            only = writer.function == "api" and rest == old
            must("a request to cancel changes nothing else", only, self.detail)
            life.cancelled_at = self.now
            life.faults_by_then = life.holder.faults["dynamodb"] if life.holder else 0
        elif "last_report" in old:
            report = writer.report
            must("only reports go on a reporting task", isinstance(report, Report), self.task_id)
            must("a report is not written for a wrong token", report.is_right, report.id)
            must("a final report ends its task", not report.is_final, report.id)
            must("a report counts once", report.id not in life.reported, report.id)
            wanted = [line for line in self.lines if line != NO_MORE]
            said = wanted == report.lines()[: len(wanted)]
            full = NO_MORE in [event["message"] for event in events_of(new)]
            whole = full or len(wanted) == len(report.lines())
            must("a report is what the agent says", said and whole, f"{report.id}: {self.lines}")
            life.reported.add(report.id)
            life.deadline = min(self.now + SILENT_BOUND, life.until)
        else:
            must("progress is the holder's", writer is life.holder, self.detail)
            asked = "cancel_requested_at" in old
            must("no progress of what is to be cancelled", not asked, self.detail)
            if "last_report" in new:
                life.accepted_at, life.deadline = self.now, min(self.now + SILENT_BOUND, life.until)

    def _ends(self, last: tuple[str, str]) -> None:
        life, new, writer, detail = self.life, self.new, self.writer, self.detail
        life.ended, life.ended_by, life.ended_at = self.status, writer, self.now
        for wake in life.waiting:
            wake()
        code = life.error_code = new.get("error_code", {}).get("S", "")
        # Who reports may also find that the time is over, as every reader does.
        is_reported = bool(writer.report) and self.old.get("last_report") != new.get("last_report")
        if self.is_cancelled:
            so = (self.status, code) == ("error", "cancelled")
            must("what is to be cancelled ends as cancelled", so, f"{detail}, {code}")
            if life.accepted_at is None:
                self._hears_of()
        if is_reported:
            self._reports()
        if self.status == "completed":
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
        acted = new.get("may_have_acted", {}).get("BOOL")
        is_unstarted = unstarted or code == "not_configured"
        must("its field says the same", acted is not is_unstarted, f"{detail}, {code}: {acted}")
        life.told_not_started = life.told_not_started or unstarted
        if not is_reported:
            self._fails(code)

    def _reports(self) -> None:
        report, life = self.writer.report, self.life
        must("only a final report ends a task", report.is_final, report.id)
        must("a report is not written for a wrong token", report.is_right, report.id)
        in_time = self.writer.started <= life.until + self.known.tolerance
        must("nobody reports for more than 8 hours", in_time, self.detail)
        life.end = report

    def _fails(self, code: str) -> None:
        """A task fails for a reason, by who may say so."""
        life, writer, detail = self.life, self.writer, self.detail
        if code == "dispatch_failed":
            must("only who made a task fails its dispatch", writer is life.maker, detail)
            taken = self.task_id in writer.told_taken
            must("what Lambda says it took is not failed", not taken, detail)
        elif code == "not_configured":
            must("an agent that is configured is run", self.known.is_misconfigured, detail)
        elif self.was == "pending" and code == "cancelled":
            must("who asks for it cancels", writer.function == "api", detail)
        elif writer is not life.holder:
            self._gives_up(code)
        else:
            must("nothing is cancelled unasked", self.is_cancelled or code != "cancelled", detail)
            awaited = any(run.is_awaited for run in life.runs) and not self.is_cancelled
            given_up = awaited and code in ("agent_timeout", "agent_lost") and not life.stops
            must("an agent that answers in time is waited for", not given_up, detail)

    def _gives_up(self, code: str) -> None:
        """Whoever reads ends what is overdue, and nothing else; a stop what is to be stopped."""
        life, old, now = self.life, self.old, self.now + self.known.tolerance
        expected = "not_started" if self.was == "pending" else "worker_lost"
        is_due = now > seconds_of(old["deadline"]["S"])
        if "last_report" in old:
            too_long = old["deadline"] == old["report_until"]
            expected = "agent_timeout" if too_long else "agent_lost"
        if self.is_cancelled:
            expected = "cancelled"
            by_stop = "last_report" in old and self.writer.function == "worker"
            asked = seconds_of(old["cancel_requested_at"]["S"])
            is_due = is_due or by_stop or now > asked + CANCELLING_BOUND
        must("nobody ends a task before its time", is_due, self.detail)
        must("a task says why it ended", code == expected, f"{self.detail}: {code}")
        if not self.is_cancelled and "last_report" not in old and life.holder:
            must("nobody ends a task under a living worker", not life.holder.alive, self.detail)

    def _hears_of(self) -> None:
        """A worker that lives hears of a cancellation, if only since it looks every 20 s."""
        life, holder = self.life, self.life.holder
        assert holder
        assert life.cancelled_at is not None
        passed = self.now - life.cancelled_at
        hindered = not holder.alive or holder.faults["dynamodb"] > life.faults_by_then
        in_time = hindered or passed <= LOOKING_BOUND or holder.is_overtaken
        must("a worker looks whether to stop", in_time, f"{self.detail} after {passed:.0f} s")
