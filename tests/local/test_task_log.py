"""What `make run` reads of the functions' logs, from a client that has them."""

import json
from typing import Any

from local.task_log import API, WORKER, TaskLog


class Logs:
    """The two log groups, with lines in them."""

    def __init__(self) -> None:
        self.groups: dict[str, list[dict[str, Any]]] = {WORKER: [], API: []}

    def add(self, group: str, timestamp: int, **line: Any) -> None:
        message = json.dumps(line)
        self.groups[group].append(
            {"logStreamName": "s", "timestamp": timestamp, "message": message}
        )

    def filter_log_events(self, *, logGroupName: str, startTime: int) -> dict[str, Any]:  # noqa: N803
        events = self.groups[logGroupName]
        return {"events": [event for event in events if event["timestamp"] >= startTime]}


def test_the_end_that_an_agent_reports_is_shown_once_after_the_workers_line(monkeypatch: Any):
    logs = Logs()
    log = TaskLog("http://127.0.0.1:1")
    monkeypatch.setattr(log, "_client", logs)
    logs.add(API, 3, level="INFO", outcome="completed", task_id="t1")
    logs.add(WORKER, 2, level="INFO", outcome="accepted", task_id="t1")

    assert [line["outcome"] for line in log.new_lines()] == ["accepted", "completed"]
    assert not list(log.new_lines())


def test_of_the_apis_log_only_ends_and_troubles_are_shown(monkeypatch: Any):
    logs = Logs()
    log = TaskLog("http://127.0.0.1:1")
    monkeypatch.setattr(log, "_client", logs)
    for outcome in ("accepted", "replayed", "stopping", "deleted", "cancelled", "expired"):
        logs.add(API, 1, level="INFO", outcome=outcome)
    logs.add(API, 2, level="ERROR", message="internal error")

    shown = [line.get("outcome") or line["message"] for line in log.new_lines()]
    assert shown == ["cancelled", "expired", "internal error"]
