"""Child processes, each in a session of its own, and gone with all their children when stopped.

A Ctrl-C on the terminal reaches only the group in its foreground, so none of these: who started
them stops them, and their group with them. MiniStack's workers survive it otherwise. Who is killed
before it can do so has a watchdog.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

STOP_SECONDS = 3

Listener = Callable[[str], None]


def say_nothing(_: str) -> None:
    """Takes the place of a listener."""


class Watchdog:
    """A process that ends what this one started, and removes its folder, should this one die.

    It holds the other end of a pipe of ours, which breaks however we end, by SIGKILL too.
    """

    _SCRIPT = """
        groups=
        while read -r group; do groups="$groups $group"; done
        for group in $groups; do kill -KILL "-$group"; done
        rm -rf -- "$1"
    """

    def __init__(self, folder: Path) -> None:
        """Starts watching; `folder` is what is to be removed."""
        theirs, self._pipe = os.pipe()
        self._process = subprocess.Popen(
            ["sh", "-c", self._SCRIPT, "sh", str(folder)],
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        os.close(theirs)

    def watch(self, group: int) -> None:
        """Adds a process group."""
        # A watchdog that somebody killed is no reason to stop.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, b"%d\n" % group)

    def dismiss(self) -> None:
        """Ends it without a bite: its groups are gone, and their numbers may be others' by now."""
        self._process.kill()
        self._process.wait()
        os.close(self._pipe)


class Program:
    """A child process in a process group of its own, ended with all its children."""

    def __init__(self, name: str, log: Path, watchdog: Watchdog | None = None) -> None:
        self.name = name
        self.log = log
        self._watchdog = watchdog
        self._process: subprocess.Popen[Any] | None = None

    def start(
        self,
        command: list[str],
        environment: Mapping[str, str],
        folder: Path,
        inherited: tuple[int, ...] = (),
    ) -> None:
        """Starts the program; what it prints goes to its log, `inherited` are open files."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
                start_new_session=True,
            )
        if self._watchdog:
            self._watchdog.watch(self._process.pid)

    def has_ended(self) -> bool:
        """Tells whether the program is no longer running."""
        return self._process is None or self._process.poll() is not None

    def output(self) -> str:
        """Returns the last lines that the program printed."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-40:])

    def stop(self) -> None:
        """Ends the group: asks first, then insists. Safe to call at any time, and twice."""
        if self._process is None:
            return
        stop_group(self._process)


class Script:
    """A script that is run once, to its end, and heard while it runs."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self.result = ""  # what it printed
        self._lines: list[str] = []
        self._process: subprocess.Popen[Any] | None = None
        self._stopped = False
        self._unheard: BrokenPipeError | None = None

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return "".join(f"{line}\n" for line in self._lines)

    def run(
        self, command: list[str], environment: Mapping[str, str], folder: Path, say: Listener
    ) -> int:
        """Runs it; returns its exit status, negative if it was stopped.

        A listener that is gone (`| head`) stops the script: BrokenPipeError.
        """
        with subprocess.Popen(
            command,
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            self._process = process
            self._watchdog.watch(process.pid)
            if self._stopped:
                stop_group(process)
            reader = threading.Thread(target=self._read, args=(process.stderr, say))
            reader.start()
            self.result = process.stdout.read() if process.stdout else ""
            reader.join()
        if self._unheard:
            raise self._unheard
        return process.returncode

    def stop(self) -> None:
        """Ends it, also if it is only about to start; safe to call at any time."""
        self._stopped = True
        if self._process is not None and self._process.poll() is None:
            stop_group(self._process)

    def _read(self, stream: Any, say: Listener) -> None:
        for line in stream:
            self._lines.append(line.rstrip("\n"))
            try:
                say(self._lines[-1])
            except BrokenPipeError as error:
                self._unheard = error
                self.stop()
                return


def stop_group(process: "subprocess.Popen[Any]") -> None:
    """Ends a process group by its leader, which must have been started in its own session."""
    _signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_SECONDS)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    # The leader's children are the init process's now; wait until it has buried them.
    end = time.monotonic() + STOP_SECONDS
    while _signal_group(process.pid, 0) and time.monotonic() < end:
        time.sleep(0.01)


def _signal_group(group: int, number: int) -> bool:
    """Sends a signal to a process group; tells whether there was anybody to send it to."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of zombies
        return False
    return True
