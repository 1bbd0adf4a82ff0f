"""A running task's timeline, written while its agent is still talking.

Not here: what the agent's lines are, and how they are kept within limits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from dynamodb_helpers import Claim, TaskStore
from valro.aws import log
from valro.store_errors import CancelRequested
from valro.tasks import timestamp

PROGRESS_INTERVAL_SECONDS = 2.0


class Progress:
    """Writes what the agent says, several lines at a time, at most once every two seconds.

    A timer writes, so that a line is seen even if the agent falls silent after it, and so that a
    slow DynamoDB never delays the reading of the agent's stream. A write that fails leaves its
    lines in the claim: the next one carries them, at the latest the outcome's. A write that is
    refused because the task's end was requested is the last, and ``on_cancel`` is called.
    """

    def __init__(
        self,
        store: TaskStore,
        claim: Claim,
        clock: Callable[[], float],
        timer: Callable[[float, Callable[[], None]], Any],
        on_cancel: Callable[[], None],
    ) -> None:
        self.store = store
        self.claim = claim
        self.clock = clock
        self.make_timer = timer
        self.on_cancel = on_cancel
        self.timer: Any = None
        self.lines: list[tuple[str, str]] = []
        self.last_write = -PROGRESS_INTERVAL_SECONDS
        self.closed = False
        # ``state`` is held for a moment, ``writing`` for as long as a write takes.
        self.state = threading.Lock()
        self.writing = threading.Lock()

    def say(self, message: str) -> None:
        """Takes one line; returns at once."""
        with self.state:
            self.lines.append((timestamp(self.clock()), message))
            if self.timer is None and not self.closed:
                wait = self.last_write + PROGRESS_INTERVAL_SECONDS - self.clock()
                # A clock that was set back must not silence the agent.
                wait = min(max(wait, 0.0), PROGRESS_INTERVAL_SECONDS)
                self.timer = self.make_timer(wait, self._write)
                self.timer.daemon = True
                self.timer.start()

    def close(self) -> None:
        """Ends the writing; unwritten lines stay in the claim, for the outcome to carry."""
        with self.state:
            self.closed = True
            if self.timer is not None:
                self.timer.cancel()
        with self.writing:
            self._note_lines()

    def _write(self) -> None:
        is_cancelled = False
        with self.writing:
            with self.state:
                if self.closed:
                    return
                self.timer = None
                self.last_write = self.clock()
            self._note_lines()
            try:
                self.store.record_progress(self.claim)
            except CancelRequested:
                self.closed = is_cancelled = True
            except Exception as error:  # noqa: BLE001 - progress is never worth a task
                log(
                    "WARNING",
                    "progress not written",
                    task_id=self.claim.task["id"],
                    detail=repr(error),
                )
        if is_cancelled:
            self.on_cancel()

    def _note_lines(self) -> None:
        with self.state:
            lines, self.lines = self.lines, []
        for ts, message in lines:
            self.claim.timeline.add_progress(ts, message)
