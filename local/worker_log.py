"""What the worker logs, as it comes: what became of each task, and what went wrong on the way.

Whoever debugs an agent sees here what it sent that nobody understood.
"""

import json
from collections.abc import Iterator
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local import REGION

GROUP = "/aws/lambda/valro-worker"
# How late, in milliseconds, a line may come after others that are younger.
_LATE_MS = 10_000
_WORTH_SHOWING = {"WARNING", "ERROR"}


class WorkerLog:
    """The log of the deployed worker, each line of it read once."""

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
        self._since = 0

    def new_lines(self) -> Iterator[dict[str, Any]]:
        """Yields what came since the last call: outcomes, warnings and errors, oldest first."""
        try:
            events = self._client.filter_log_events(logGroupName=GROUP, startTime=self._since)[
                "events"
            ]
        except (BotoCoreError, ClientError):
            # No group before the first task; and a busy machine may answer the next time.
            return
        for event in events:
            key = (event["logStreamName"], event["timestamp"], event["message"])
            if key in self._seen:
                continue
            self._seen.add(key)
            self._since = max(self._since, event["timestamp"] - _LATE_MS)
            line = _read(event["message"])
            if "outcome" in line or line.get("level") in _WORTH_SHOWING:
                yield line


def _read(message: str) -> dict[str, Any]:
    try:
        line = json.loads(message)
    except ValueError:
        return {}
    return line if isinstance(line, dict) else {}
