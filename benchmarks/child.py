"""Runs one subject in a process of its own, as Lambda would, and prints what it cost as JSON.

    python -I -S -B child.py '{"folder": …, "module": …, "handler": …, "events": […], …}'

Only what Python has loaded anyway, and what this file imports, is loaded before the clocks start.
The first event's time is a cold start; with ``seconds`` set, the last event is then repeated. With
``count`` set, files are counted instead, which would disturb the clocks.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


class Context:
    """What Lambda gives a handler beside the event."""

    aws_request_id = "8f5c6f4e-41f1-4f43-a1c0-7f4f7c1b4a11"
    function_name = "valro"
    function_version = "$LATEST"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:valro"
    memory_limit_in_mb = "512"
    log_group_name = "/aws/lambda/valro"
    log_stream_name = "stream"
    identity = None
    client_context = None

    def get_remaining_time_in_millis(self) -> int:
        """As long as a worker has at first."""
        return 600_000


def main() -> None:
    """Does what the argument says."""
    spec = json.loads(sys.argv[1])
    opened: list[str] = []
    if spec.get("count"):
        sys.addaudithook(lambda name, args: opened.append(str(args[0])) if name == "open" else None)
    context = Context()
    events: list[dict[str, Any]] = spec["events"]
    modules_before = set(sys.modules)
    sys.path.insert(0, spec["folder"])
    wall_0, cpu_0 = time.monotonic(), time.process_time()
    handler = getattr(__import__(spec["module"]), spec["handler"])
    wall_1, cpu_1 = time.monotonic(), time.process_time()
    answers = [handler(events[0], context)]
    wall_2, cpu_2 = time.monotonic(), time.process_time()
    result = {
        "start": {"wall": wall_0, "cpu": cpu_0},
        "init": {"wall": wall_1 - wall_0, "cpu": cpu_1 - cpu_0},
        "invoke": {"wall": wall_2 - wall_1, "cpu": cpu_2 - cpu_1},
        "modules": len(set(sys.modules) - modules_before),
        "files": len(opened),
    }
    cpu_3 = time.process_time()
    answers += [handler(event, context) for event in events[1:]]
    result["others"] = {"cpu": time.process_time() - cpu_3, "calls": len(events) - 1}
    if seconds := spec.get("seconds"):
        result["warm"] = warm(handler, events[-1], context, seconds)
    result["answers"] = answers
    print("\n" + json.dumps(result))


def warm(handler: Any, event: dict[str, Any], context: Context, seconds: float) -> dict[str, Any]:
    """Repeats one event; returns the medians of a call's wall and CPU time."""
    for _ in range(3):
        handler(event, context)
    walls: list[float] = []
    cpus: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(walls) < 15:
        wall, cpu = time.monotonic(), time.process_time()
        handler(event, context)
        cpus.append(time.process_time() - cpu)
        walls.append(time.monotonic() - wall)
    middle = len(walls) // 2
    return {"wall": sorted(walls)[middle], "cpu": sorted(cpus)[middle], "calls": len(walls)}


if __name__ == "__main__":
    main()
