"""How many tasks a second there can be: each documented quota by what one task takes of it.

    python -m benchmarks.scale

Quotas are those that AWS gives accounts in us-east-1 unasked; all but the partition's can be raised.
"""

from __future__ import annotations

import sys

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
    """Prints the arithmetic; returns the exit code."""
    print("tasks a second   limit; what moves it")
    for name, rate, option in sorted(limits(), key=lambda limit: limit[1]):
        print(f"{rate:14,.1f}   {name}; {option}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
