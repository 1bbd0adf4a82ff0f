"""How many tasks a second there can be, by arithmetic and by simulation.

    python -m benchmarks.scale

The arithmetic divides each documented default quota by what one task takes of it. The simulation
lets tasks arrive at random, gives each an async event, a worker and an agent's session as AWS and
the worker's rules do, and counts what their senders see. Quotas are those that AWS gives accounts
in us-east-1 unasked; all but the partition's can be raised.
"""

from __future__ import annotations

import heapq
import random
import statistics
import sys
from collections import deque
from dataclasses import dataclass, replace

from valro.tasks import MAXIMUM_EVENT_AGE_SECONDS

# One partition of a table or an index, whatever the table's size.
PARTITION_WRITE_UNITS = 1_000
PARTITION_READ_UNITS = 3_000
# A table on demand begins with this and doubles within half an hour; an account's quota is higher.
NEW_TABLE_WRITE_UNITS = 4_000
TABLE_WRITE_UNITS = 40_000
CONCURRENCY = 1_000
NEW_ACCOUNT_CONCURRENCY = 10
SESSIONS = 5_000
NEW_SESSIONS_PER_SECOND = 25
IDLE_SECONDS = 900

AGENT_SECONDS = 60
WRITE_UNITS, INDEX_WRITE_UNITS = 6, 1
PAGE_INDEX_READ_UNITS = 1  # 51 keys of the index
API_SECONDS_PER_TASK = 37 * 0.02  # the POST, 35 polls and a page

# The worker waits for a session for half of what it may run, less its reserve.
WORKER_SECONDS = 600
STARTING_SECONDS = (WORKER_SECONDS - 20) / 2


@dataclass(frozen=True)
class Account:
    """What a simulated account allows, and how its sessions end."""

    workers: int = CONCURRENCY
    sessions: int = SESSIONS
    new_sessions_per_second: float = NEW_SESSIONS_PER_SECOND
    idle_seconds: float = IDLE_SECONDS  # 0 with STOP_SESSION_AFTER_TASK
    agent_seconds: float = AGENT_SECONDS


@dataclass(frozen=True)
class Outcome:
    """What became of the tasks that came in."""

    tasks: int
    completed: int
    too_busy: int  # error: the agent had no session for half of the worker's time
    not_started: int  # error: no worker within the maximum event age
    wait_median: float
    wait_95: float

    def __str__(self) -> str:
        return (
            f"{self.completed / self.tasks:6.1%} completed, {self.too_busy / self.tasks:6.1%} agent "
            f"too busy, {self.not_started / self.tasks:6.1%} not started; the agent begins after "
            f"{self.wait_median:.0f} s (95 %: {self.wait_95:.0f} s)"
        )


def simulate(account: Account, rate: float, seconds: float = 7_200, seed: int = 1) -> Outcome:
    """Lets ``rate`` tasks a second arrive for some time, and follows each to its end.

    Time goes from arrival to arrival and from end to end. Events wait in Lambda's queue for a
    worker, in order; a worker waits for a session, in order too.
    """
    dice = random.Random(seed)
    ends: list[tuple[float, str]] = []  # of a worker, of a session
    queue: deque[float] = deque()  # arrival times
    starting: deque[tuple[float, float]] = deque()  # arrival, when it gives up
    workers, sessions, next_session = account.workers, account.sessions, 0.0
    waits: list[float] = []
    tasks = too_busy = not_started = 0
    arrival = dice.expovariate(rate)
    while arrival < seconds or ends or starting or queue:
        events = [arrival] if arrival < seconds else []
        events += [ends[0][0]] if ends else []
        if starting:
            events.append(max(next_session, starting[0][0]) if sessions else starting[0][1])
        now = min(events)
        if arrival <= now and arrival < seconds:
            tasks += 1
            queue.append(arrival)
            arrival += dice.expovariate(rate)
        while ends and ends[0][0] <= now:
            _, kind = heapq.heappop(ends)
            workers += kind == "worker"
            sessions += kind == "session"
        while starting and starting[0][1] <= now:
            starting.popleft()
            workers += 1
            too_busy += 1
        while queue and workers:
            came = queue.popleft()
            if now - came > MAXIMUM_EVENT_AGE_SECONDS:
                not_started += 1
                continue
            workers -= 1
            starting.append((came, now + STARTING_SECONDS))
        while starting and sessions and next_session <= now:
            came, _ = starting.popleft()
            sessions -= 1
            next_session = max(next_session, now - 1) + 1 / account.new_sessions_per_second
            waits.append(now - came)
            end = now + dice.expovariate(1 / account.agent_seconds)
            heapq.heappush(ends, (end, "worker"))
            heapq.heappush(ends, (end + account.idle_seconds, "session"))
    waits.sort()
    percentile = waits[int(len(waits) * 0.95)] if waits else 0.0
    median = statistics.median(waits) if waits else 0.0
    return Outcome(tasks, len(waits), too_busy, not_started, median, percentile)


def limits() -> list[tuple[str, float, str]]:
    """Each limit, the tasks per second that it allows, and what moves it."""
    return [
        (
            "AgentCore: 5,000 sessions, each idle for 15 minutes after its task",
            SESSIONS / (AGENT_SECONDS + IDLE_SECONDS),
            "STOP_SESSION_AFTER_TASK=true, a shorter idle timeout of the agent, the quota",
        ),
        (
            "Lambda: 1,000 at once, a worker for 60 s",
            CONCURRENCY / (AGENT_SECONDS + API_SECONDS_PER_TASK),
            "the concurrency quota; reserved concurrency keeps some of it for the API",
        ),
        (
            "Lambda in a new account: 10 at once",
            NEW_ACCOUNT_CONCURRENCY / (AGENT_SECONDS + API_SECONDS_PER_TASK),
            "the concurrency quota, before anything else",
        ),
        (
            "AgentCore: 25 new sessions a second",
            NEW_SESSIONS_PER_SECOND,
            "the quota",
        ),
        (
            "AgentCore: 5,000 sessions that end with their task",
            SESSIONS / AGENT_SECONDS,
            "the quota",
        ),
        (
            "DynamoDB: a new table's first 4,000 write units a second",
            NEW_TABLE_WRITE_UNITS / WRITE_UNITS,
            "nothing to do (it doubles with use), or pre-warmed throughput",
        ),
        (
            "DynamoDB: one owner's index partition, 1,000 write units a second",
            PARTITION_WRITE_UNITS / INDEX_WRITE_UNITS,
            "an authorizer: then every user is an owner, with a partition of their own",
        ),
        (
            "DynamoDB: one owner's list, 3,000 read units a second, in pages",
            PARTITION_READ_UNITS / PAGE_INDEX_READ_UNITS,
            "an authorizer, likewise",
        ),
        (
            "DynamoDB: the table's quota of 40,000 write units a second",
            TABLE_WRITE_UNITS / WRITE_UNITS,
            "the quota",
        ),
    ]


def main() -> int:
    """Prints the arithmetic and the simulation; returns the exit code."""
    print("tasks a second   limit; what moves it")
    for name, rate, option in sorted(limits(), key=lambda limit: limit[1]):
        print(f"{rate:14,.1f}   {name}; {option}")
    default = Account()
    accounts = {
        "sessions idle for 15 minutes": default,
        "STOP_SESSION_AFTER_TASK=true": replace(default, idle_seconds=0),
        "and a concurrency of 3,000": replace(default, idle_seconds=0, workers=3_000),
    }
    print("\ntwo hours at so many tasks a second, agents of 60 s on average")
    for name, account in accounts.items():
        for rate in (1, 5, 10, 15, 20, 30):
            print(f"{name:30} {rate:3}: {simulate(account, rate)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
