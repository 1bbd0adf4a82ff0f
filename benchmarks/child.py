"""Runs one subject in a process of its own, as Lambda would, and prints its CPU time as JSON.

    python -I -S -B child.py '{"folder": …, "module": …, "event": …, "seconds": …}'

Only what Python has loaded anyway, and what this file imports, is loaded before the clock starts.
The first call is a cold start; for ``seconds``, if there are any, it is then repeated.
"""

from __future__ import annotations

import json
import sys
import time
from types import SimpleNamespace
from typing import Any

CONTEXT = SimpleNamespace(
    aws_request_id="8f5c6f4e-41f1-4f43-a1c0-7f4f7c1b4a11",
    get_remaining_time_in_millis=lambda: 600_000,
)


def main() -> None:
    """Does what the argument says."""
    spec = json.loads(sys.argv[1])
    sys.path.insert(0, spec["folder"])
    start = time.process_time()
    handler = __import__(spec["module"]).lambda_handler
    init = time.process_time()
    answer = handler(spec["event"], CONTEXT)
    end = time.process_time()
    result = {"start": start, "init": init - start, "cold": end - start, "answer": answer}
    if seconds := spec["seconds"]:
        times = repeat(handler, spec["event"], seconds)
        result |= {"warm": sorted(times)[len(times) // 2], "calls": len(times) + 1}
    print("\n" + json.dumps(result))


def repeat(handler: Any, event: dict[str, Any], seconds: float) -> list[float]:
    """The CPU time of each of many calls."""
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times) < 15:
        start = time.process_time()
        handler(event, CONTEXT)
        times.append(time.process_time() - start)
    return times


if __name__ == "__main__":
    main()
