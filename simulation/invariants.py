"""What must be true, checked after every write, every reply, and at the end of a schedule.

It watches from outside: what reached the agent, what DynamoDB holds, what clients are told. The
true time is the world's; functions have clocks that are off by up to ``skew`` seconds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from simulation.agent import AgentRun
from simulation.dynamodb import Item
from simulation.gateway import Reply
from simulation.wire import ACCOUNT
from simulation.world import Sandbox, Violation, World

Json = Any

# The published bounds, written here once more: the code's own constants are under test.
PENDING_BOUND = 16 * 60.0
RUNNING_MARGIN = 60.0
REDISPATCH_BOUND = 31.0
GIVING_UP_SECONDS = 20.0
PATIENT_SECONDS = 15.0
HOPELESS = ("ValidationException", "AccessDeniedException", "ResourceNotFoundException")
# As many bytes as Lambda takes of a response, were it as small as answers are here.
MOST_OF_A_LIST = 3_300
MOST_OF_A_TASK = 14_500
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
    runs: list[AgentRun] = field(default_factory=list)
    ended: str = ""
    ended_by: Sandbox | None = None
    told_not_started: bool = False
    stops: int = 0
    is_deleted: bool = False


class Invariants:
    """The watcher of one schedule."""

    def __init__(self, world: World, skew: float) -> None:
        self.world = world
        self.lives: dict[str, Life] = {}
        self.told: dict[str, str | None] = {}  # id to owner
        self.by_key: dict[tuple[str | None, str], str] = {}
        self.tolerance = 2 * skew
        self.is_misconfigured = False

    # --- every write ------------------------------------------------------------------------------

    def wrote(self, old: Item | None, new: Item, writer: Sandbox | None) -> None:
        """Checks one write of one item."""
        task_id = new["id"]["S"]
        if "#" in task_id:
            _must("a chunk is written once", old is None, task_id)
            return
        status, events = new["status"]["S"], _events(new)
        if old is None:
            self._made(task_id, new, writer)
            return
        was, before = old["status"]["S"], _events(old)
        life = self.lives[task_id]
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
            assert writer
            _must("a worker claims", writer.function == "worker", detail)
            life.holder = writer
            life.deadline = writer.end + RUNNING_MARGIN
        elif status == "processing":
            _must("progress is the holder's", writer is life.holder, detail)
        elif status == "pending":
            _must("a pending task waits", was != "pending", detail)
        else:
            self._ended(task_id, was, new, added, writer)

    def deleted(self, task_id: str) -> None:
        """Takes note that somebody deleted a task: nobody is promised its end any more."""
        self.lives[task_id].is_deleted = True
        self.told.pop(task_id, None)

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
        was: str,
        new: Item,
        added: list[tuple[str, str]],
        writer: Sandbox | None,
    ) -> None:
        life = self.lives[task_id]
        status, last = new["status"]["S"], added[-1]
        detail = f"{task_id}: {was} to {status} with {added}"
        life.ended, life.ended_by = status, writer
        self.world.seen[f"tasks {status}"] += 1
        if status == "completed":
            _must("status and last event agree", last == COMPLETED, detail)
            _must("only the holder completes", writer is life.holder, detail)
            answered = any(run.answered_to is life.holder for run in life.runs)
            _must("only an answer completes", answered, detail)
            return
        message = new["error_message"]["S"]
        _must("status and last event agree", last[1] == "error" and message in last[0], detail)
        says = (NOT_STARTED in message) + (MAY_HAVE_ACTED in message)
        _must("an error says whether the agent acted", says == 1 or "not set" in message, detail)
        life.told_not_started = life.told_not_started or NOT_STARTED in message
        if new.get("error_code", {}).get("S") == "dispatch_failed":
            assert writer
            _must("only who made a task fails its dispatch", writer is life.maker, detail)
            taken = task_id in writer.told_taken
            _must("what Lambda says it took is not failed", not taken, detail)
        if was == "processing" and writer is not life.holder:
            assert life.holder
            early = life.holder.alive
            _must("nobody ends a task under a living worker", not early, detail)

    def _in_order(self, new: Item, events: list[Json]) -> None:
        times = [event["ts"] for event in events]
        _must("events are in order", times == sorted(times), f"{times}")
        _must("event_seq counts the events", int(new["event_seq"]["N"]) == len(events), f"{events}")
        _must("updated_at is the last event's", new["updated_at"]["S"] == times[-1], f"{times}")

    # --- the agent --------------------------------------------------------------------------------

    def agent_started(self, run: AgentRun, prompt: str) -> None:
        """Counts what reached the agent, whatever the worker believes."""
        life = self.lives[run.task_id]
        life.runs.append(run)
        self.world.seen["agent runs"] += 1
        self.world.trace(f"the agent starts for {run.task_id}", "agent")
        _must("the agent runs once", len(life.runs) == 1, f"{run.task_id}: {len(life.runs)} times")
        _must("the prompt is a description", prompt.startswith("Find a "), prompt)

    def stopped(self, session_id: str) -> None:
        """A session is stopped only when its task has ended, or its worker can do no more."""
        self.world.trace(f"session {session_id} is stopped", "agent")
        (life,) = (life for task_id, life in self.lives.items() if session_id.startswith(task_id))
        gave_up = life.holder and life.holder.in_trouble("dynamodb")
        over = bool(life.ended or life.is_deleted or gave_up)
        _must("the outcome comes first", over, session_id)
        life.stops += 1
        _must("a session is stopped once", life.stops == 1, session_id)

    def raised(self, task_id: str, sandbox: Sandbox, error: Exception) -> None:
        """Checks that a worker had to raise."""
        in_trouble = sandbox.in_trouble("dynamodb")
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

    # --- every reply ------------------------------------------------------------------------------

    def due(self, task_id: str) -> float:
        """By when a task must have ended for whoever reads it."""
        return self.lives[task_id].deadline if task_id in self.lives else 0.0

    def answered_in_time(self, method: str, path: str, sandbox: Sandbox) -> None:
        """The API's own time is enough for all the tries that it makes."""
        in_time = sandbox.cause != "timeout" or sandbox.is_overtaken
        _must("the API answers in time", in_time, f"{method} {path}")

    def replied(
        self, owner: str | None, method: str, path: str, reply: Reply, sandbox: Sandbox
    ) -> None:
        """Checks any reply."""
        self.world.seen[f"replies {reply.status}"] += 1
        leaks = [word for word in INTERNALS if word in reply.text or word in str(reply.headers)]
        _must("nothing internal leaks", not leaks, f"{leaks} in {reply.text[:300]}")
        tried = sandbox.faults["dynamodb"] >= ATTEMPTS or "dynamodb" in sandbox.unmended
        _must("no 500 for what a second attempt mends", reply.status != 500 or tried, reply.text)
        if method == "GET" and reply.status == 200:
            tasks = reply.body if isinstance(reply.body, list) else [reply.body]
            for task in tasks:
                self._shown(owner, task, sandbox)
            # Lambda's runtime puts the body into JSON, DEL as six bytes, like all but ASCII.
            size = len(json.dumps(reply.text))
            most = MOST_OF_A_TASK if len(tasks) <= 1 else MOST_OF_A_LIST
            _must("a response is not too large for Lambda", size <= most, f"{path}: {size} bytes")
            made = [task["created_at"] for task in tasks]
            _must("the newest comes first", made == sorted(made, reverse=True), f"{made}")
        if method == "GET" and reply.status == 404:
            task_id = path.removeprefix("/tasks/")
            _must("what was told of is found", self.told.get(task_id, "") != owner, task_id)

    def _shown(self, owner: str | None, task: Json, sandbox: Sandbox) -> None:
        task_id, status = task["id"], task["status"]
        extra = task.keys() - PUBLIC
        _must("nothing internal leaks", not extra, f"{extra}")
        if task_id in self.told:
            _must("everyone sees their own", self.told[task_id] == owner, task_id)
        last = task["events"][-1]["type"]
        agrees = last == {"completed": "success", "error": "error"}.get(status, "info")
        _must("status and last event agree", agrees, f"{status}: {task['events']}")
        # Read after the request came: what was overdue then must have been ended by this read.
        late = sandbox.started - self.due(task_id) - self.tolerance
        if status not in FINAL:
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
            if not life.is_deleted:
                self._heard(life, items[task_id])
                self._reason(task_id, life, items[task_id])
        self._log_agrees()

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
        reader = run.answered_to
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
        forgiven = reader.in_trouble("dynamodb") or life.is_deleted
        _must(
            "an answer is not in the store only if DynamoDB failed",
            stored or forgiven,
            f"{run.task_id}: {task and task['status']}",
        )

    def _reason(self, task_id: str, life: Life, item: Item) -> None:
        """Nothing fails, and nobody vanishes, without a cause."""
        status = item["status"]["S"]
        if status == "completed":
            return
        _must("nothing fails in a world without faults", bool(self.world.faults), task_id)
        message = item.get("error_message", {}).get("S", "")
        if WORKER_VANISHED in message:
            holder = life.holder
            assert holder
            cause = holder.cause not in ("", "timeout") or holder.in_trouble("dynamodb")
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


def _must(invariant: str, true: bool, detail: str) -> None:  # noqa: FBT001
    if not true:
        raise Violation(invariant, detail)
