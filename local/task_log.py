"""What the functions log, as it comes: what became of each task, and what went wrong on the way.

Whoever debugs an agent sees here what it sent that nobody understood.
"""

import json
from collections.abc import Iterator
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local import REGION

WORKER = "/aws/lambda/valro-worker"
API = "/aws/lambda/valro-backend"
# The API's ends of tasks: of an agent that reports the worker sees the beginning only.
_ENDS = {"completed", "error", "cancelled", "expired", "dispatch_failed"}
# How late, in milliseconds, a line may come after others that are younger.
_LATE_MS = 10_000
_WORTH_SHOWING = {"WARNING", "ERROR"}


class TaskLog:
    """The logs of the deployed functions, each line of them read once."""

    def __init__(self, endpoint: str) -> None:
        """Takes the address of the local AWS."""
        self._client = botocore.session.Session().create_client(
            "logs",
            region_name=REGION,
            endpoint_url=endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106  the local AWS knows no other
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10),
        )
        self._seen: set[tuple[str, int, str]] = set()
        self._since = {WORKER: 0, API: 0}

    def new_lines(self) -> Iterator[dict[str, Any]]:
        """Yields what came since the last call: outcomes, warnings and errors, oldest first."""
        events = [
            (event["timestamp"], group, event)
            for group in self._since
            for event in self._new(group)
        ]
        for _, group, event in sorted(events, key=lambda entry: entry[0]):
            line = _read(event["message"])
            outcome = line.get("outcome")
            tells = outcome in _ENDS if group == API else outcome is not None
            if tells or line.get("level") in _WORTH_SHOWING:
                yield line

    def _new(self, group: str) -> Iterator[dict[str, Any]]:
        try:
            events = self._client.filter_log_events(
                logGroupName=group, startTime=self._since[group]
            )["events"]
        except (BotoCoreError, ClientError):
            # No group before the first task; and a busy machine may answer the next time.
            return
        for event in events:
            key = (event["logStreamName"], event["timestamp"], event["message"])
            if key not in self._seen:
                self._seen.add(key)
                self._since[group] = max(self._since[group], event["timestamp"] - _LATE_MS)
                yield event


def _read(message: str) -> dict[str, Any]:
    try:
        line = json.loads(message)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
