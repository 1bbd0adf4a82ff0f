"""What is known of one schedule's tasks, which every check looks at, and how a check fails."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from simulation.agent import AgentRun
from simulation.aws import Aws
from simulation.dynamodb import Item
from simulation.world import EPOCH, Json, Sandbox, Violation, World

CANCELLING_BOUND = 60.0
LONGEST_WAIT = 1_000.0
ATTEMPTS = 2  # of botocore's
ORDER = {"pending": 0, "processing": 1, "completed": 2, "error": 2}
FINAL = ("completed", "error")
NO_MORE = "further progress not recorded"
NOT_STARTED = "The agent was not started"


@dataclass
class Reply:
    """What a client gets."""

    owner: str | None  # who gets it
    method: str
    path: str
    status: int
    headers: dict[str, str]
    body: Json
    text: str
    sandbox: Sandbox  # of the function that gave it

    @property
    def started(self) -> float:
        """When that function began."""
        return self.sandbox.started


@dataclass
class Report:
    """What an agent reports in one request, and whether it may."""

    task_id: str
    id: str
    token: str
    messages: tuple[str, ...] = ()
    answer: Json = None
    error: str | None = None
    is_right: bool = True  # whether the token is the task's
    is_usable: bool = True
    is_too_large: bool = False

    @property
    def is_final(self) -> bool:
        """Whether it is the end of the work."""
        return self.answer is not None or self.error is not None

    def body(self) -> Json:
        """As it is sent."""
        if not self.is_usable:
            return {"report_id": self.id, "messages": self.token}
        said: Json = {"report_id": self.id}
        said |= {"messages": [*self.messages]} if self.messages else {}
        said |= {"answer": self.answer} if self.answer is not None else {}
        said |= {"error": self.error} if self.error is not None else {}
        return said | ({"padding": "x" * 20_000} if self.is_too_large else {})

    def lines(self) -> list[str]:
        """As the timeline may have them."""
        return [line.replace(self.token, "[token]") for line in self.messages]


@dataclass
class Life:
    """What is known of one task."""

    made: float
    deadline: float
    description: str
    owner: str
    follows: str = ""
    followed_by: str = ""
    session: str = ""  # the task in whose session its agent runs
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
    error_code: str = ""
    told_not_started: bool = False
    stops: int = 0
    waiting: list[Callable[..., None]] = field(default_factory=list)  # for its end
    is_deleted: bool = False
    deleted_at: float | None = None  # through the API
    item: Item | None = None  # as it was before it was deleted

    @property
    def is_unseen(self) -> bool:
        """Whether it has ended without anybody who saw its agent end."""
        reports = self.ended == "error" and self.accepted_at is not None
        return reports or self.error_code == "worker_lost"

    @property
    def never_started(self) -> bool:
        """Whether it has failed before its agent was started."""
        return self.ended == "error" and not self.runs

    @property
    def asks(self) -> bool:
        """Whether it has completed since its agent stopped to ask."""
        if self.ended != "completed":
            return False
        asked_in_report = self.end is not None and "interrupts" in self.end.answer
        return asked_in_report or (self.end is None and any(run.asks for run in self.runs))

    @property
    def due(self) -> float:
        """By when it must have ended for whoever reads it."""
        if self.cancelled_at is None:
            return self.deadline
        return min(self.deadline, self.cancelled_at + CANCELLING_BOUND)


class Known:
    """What was seen of a schedule: the tasks, and who was told of them.

    The true time is the world's; functions have clocks that are off by up to ``skew`` seconds.
    """

    def __init__(self, world: World, skew: float) -> None:
        self.world = world
        self.lives: dict[str, Life] = {}
        self.told: dict[str, str | None] = {}  # id to owner
        self.by_key: dict[tuple[str | None, str], str] = {}
        self.tolerance = 2 * skew
        self.is_misconfigured = False
        self.stops_sessions = False  # after each task
        self.fitting_seconds = 0.0  # that a worker needs for a long answer
        self.aws: Aws
        self.stopped: dict[str, str] = {}  # sessions, and the tasks for which they were stopped
        self.tokens: set[str] = set()

    def due(self, task_id: str) -> float:
        """By when a task must have ended for whoever reads it."""
        return self.lives[task_id].due if task_id in self.lives else 0.0

    def wait_for_end(self, task_id: str) -> None:
        """Lets the current actor wait until a task ends, or for a long time."""
        if not self.lives[task_id].ended:
            wake = self.world.waker()
            self.lives[task_id].waiting.append(wake)
            wake(LONGEST_WAIT)
            self.world.wait()

    def forget(self, task_id: str, item: Item) -> None:
        """Takes note that somebody deleted a task: nobody is promised its end any more."""
        self.lives[task_id].is_deleted, self.lives[task_id].item = True, item
        self.told.pop(task_id, None)

    def is_left_alone(self, life: Life, since: float = math.inf) -> bool:
        """Whether an agent is at work, or may be, though its task was over before ``since``.

        Or was to be cancelled. Not in a task that somebody deleted at the console.
        """
        is_at_work = bool(life.runs) and self.aws.agent.sessions[life.runs[-1].session_id].is_alive
        if not is_at_work or life.end or (life.is_deleted and life.deleted_at is None):
            return False
        over = life.cancelled_at
        if over is None and life.is_unseen:
            over = life.ended_at
        return over is not None and over < since


def has_tried(function: Sandbox) -> bool:
    """Whether a function met more than another attempt mends."""
    return function.faults["dynamodb"] >= ATTEMPTS or "dynamodb" in function.unmended


def events_of(item: Item) -> list[Json]:
    """The lines of an item's timeline."""
    return [{name: value["S"] for name, value in one["M"].items()} for one in item["events"]["L"]]


def seconds_of(ts: str) -> float:
    """A time as the world counts it."""
    return datetime.fromisoformat(ts).timestamp() - EPOCH


def must(invariant: str, true: bool, detail: str) -> None:  # noqa: FBT001
    """Ends the schedule if what must be true is not."""
    if not true:
        raise Violation(invariant, detail)
