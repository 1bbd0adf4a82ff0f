"""Virtual time, threads that take turns, sandboxes that die: what everything else happens in.

Every actor is a greenlet. It runs until it waits; then the hub moves the time to what comes next.
So actors interleave at every call of AWS and at every lock, and always in the same way.
"""

from __future__ import annotations

import heapq
import itertools
import queue
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from greenlet import getcurrent, greenlet

from simulation.choices import Choices

EPOCH = 1_767_225_600.0  # 2026-01-01, when every schedule begins
MOST_STEPS = 20_000
TIMED_OUT = object()  # what a wait ends with when nothing came


class Killed(BaseException):
    """Ends a thread of a sandbox that died; no ``except Exception`` of the real code stops it."""


class Violation(BaseException):
    """Something that must never be true is."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


class Actor:
    """A thread of control. ``ticket`` tells a wait that is over from the one that goes on."""

    __slots__ = ("greenlet", "name", "sandbox", "stream", "ticket")

    def __init__(self, name: str, sandbox: Sandbox | None, stream: str) -> None:
        self.name = name
        self.stream = stream  # of choices
        self.sandbox = sandbox
        self.ticket = 0
        self.greenlet: Any = None


class Sandbox:
    """One invocation of a function: its clock, its time limit, its threads and how it went."""

    def __init__(
        self, function: str, name: str, stream: str, request_id: str, timeout: float
    ) -> None:
        self.function = function
        self.name = name
        self.stream = stream  # of choices
        self.request_id = request_id
        self.timeout = timeout
        self.started = 0.0
        self.skew = 0.0
        self.actors: list[Actor] = []
        self.alive = True
        self.cause = ""  # of its death
        self.died_at = 0.0
        self.ending_since = 0.0  # when its last try began to write how its task ends
        self.faults: Counter[str] = Counter()  # how many it met, by service
        self.troubled: set[str] = set()  # the services whose last call met one
        self.unmended: set[str] = set()  # those that met one which no other attempt mends
        self.is_overtaken = False  # by a call that took longer than all of its timeouts
        self.told_taken: set[str] = set()  # the tasks of which Lambda said that it has the event
        self.stops_taken: set[str] = set()  # and those of which it has the stop
        self.report: Any = None  # an agent's, in what it was asked
        self.task_id = ""  # that a worker's event is about
        self.on_end: Callable[[Any], None] = lambda _result: None

    def in_trouble(self, service: str) -> bool:
        """Whether its last call of a service went wrong."""
        return service in self.troubled

    @property
    def end(self) -> float:
        """When Lambda kills it."""
        return self.started + self.timeout


class World:
    """The time, the actors, the log, and the account of what happened."""

    def __init__(self, choices: Choices, *, tracing: bool = False) -> None:
        self.choices = choices
        self.now = 0.0
        self.most_steps = MOST_STEPS
        self.current: Actor | None = None
        self.faults: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()  # what became of it all
        self.log_lines: list[str] = []
        self.lines: list[str] = []
        self.tracing = tracing
        self.hub = getcurrent()
        self.actors: set[Actor] = set()
        self.names: Counter[str] = Counter()
        self.ids = itertools.count(1)
        self.skews: tuple[float, ...] = (0.0,)
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    # --- time -------------------------------------------------------------------------------------

    def after(self, delay: float, what: Callable[..., None], *arguments: Any) -> None:
        """Does something ``delay`` seconds from now, whoever is alive then."""
        heapq.heappush(self._queue, (self.now + delay, next(self._order), what, arguments))

    def run(self) -> None:
        """Lets everything happen until nothing is left to happen."""
        for _ in range(self.most_steps):
            if not self._queue:
                return
            self.now, _order, what, arguments = heapq.heappop(self._queue)
            self.choices.stream = ""
            what(*arguments)
        raise Violation("everything ends", f"more than {self.most_steps:,} steps")

    def wait(self) -> Any:
        """Gives way to the others until somebody resumes this actor; returns what it got."""
        self.check_alive()
        return self.hub.switch()

    def check_alive(self) -> None:
        """Keeps what is dead from doing more: a process that was killed runs no ``finally``."""
        sandbox = self.current and self.current.sandbox
        if sandbox and not sandbox.alive:
            raise Killed

    def sleep(self, seconds: float) -> None:
        """Lets ``seconds`` pass for the current actor."""
        actor = self.actor()
        self.after(max(seconds, 0.0), self.resume, actor, actor.ticket, None)
        self.wait()

    def resume(self, actor: Actor, ticket: int, value: Any) -> None:
        """Ends the wait that began under ``ticket``, unless it has ended already. Hub only."""
        if actor.ticket == ticket:
            self._switch(actor, value)

    # --- actors -----------------------------------------------------------------------------------

    def actor(self) -> Actor:
        """Who is running."""
        assert self.current is not None
        return self.current

    def spawn(
        self,
        name: str,
        body: Callable[[], None],
        sandbox: Sandbox | None = None,
        delay: float = 0.0,
    ) -> Actor:
        """Starts an actor, in a sandbox if it is a thread of a function."""
        stream = self.unique(f"{self.choices.stream}/{name}")
        actor = Actor(self.unique(name) if sandbox is None else name, sandbox, stream)

        def life() -> None:
            try:
                body()
            except Killed:
                pass
            finally:
                self.actors.discard(actor)

        actor.greenlet = greenlet(life, parent=self.hub)
        self.actors.add(actor)
        if sandbox:
            sandbox.actors.append(actor)
        self.after(delay, self.resume, actor, 0, None)
        return actor

    def unique(self, name: str) -> str:
        """A name that is used once."""
        self.names[name] += 1
        return f"{name}-{self.names[name]}"

    def bury(self) -> None:
        """Ends every actor that is left, when a schedule is over."""
        for actor in list(self.actors):
            self._throw(actor)

    def _switch(self, actor: Actor, value: Any) -> None:
        actor.ticket += 1
        self.current = actor
        self.choices.stream = actor.stream
        if actor.greenlet:
            actor.greenlet.switch(value)
        else:
            actor.greenlet.switch()
        self.current = None

    def _throw(self, actor: Actor) -> None:
        actor.ticket += 1
        self.current = actor
        if actor.greenlet:
            actor.greenlet.throw(Killed)
        self.actors.discard(actor)
        self.current = None

    # --- sandboxes --------------------------------------------------------------------------------

    def start_sandbox(self, sandbox: Sandbox, handler: Callable[[], Any]) -> None:
        """Runs ``handler`` in a sandbox; ``on_end`` gets its result, or None if it died."""
        sandbox.started = self.now
        self.choices.stream = sandbox.stream
        sandbox.skew = self.choices.pick(self.skews) if len(self.skews) > 1 else 0.0

        def body() -> None:
            result = handler()
            # Lambda freezes what else runs there; a frozen thread is as good as dead.
            self.after(0.0, self._end, sandbox, "", result)

        self.spawn(sandbox.name, body, sandbox)
        self.after(sandbox.timeout, self._end, sandbox, "timeout", None)

    def die(self, cause: str) -> None:
        """Ends the current actor's sandbox at this very point. Does not return."""
        sandbox = self.actor().sandbox
        assert sandbox
        self.doom(sandbox, cause)
        self.wait()

    def doom(self, sandbox: Sandbox, cause: str) -> None:
        """Ends a sandbox as soon as the current actor waits."""
        for actor in sandbox.actors:
            actor.ticket += 1
        self.after(0.0, self._end, sandbox, cause, None)

    def _end(self, sandbox: Sandbox, cause: str, result: Any) -> None:
        if not sandbox.alive:
            return
        sandbox.alive = False
        sandbox.cause, sandbox.died_at = cause, self.now
        if cause:
            self.trace(f"dies: {cause}", sandbox.name)
        for actor in sandbox.actors:
            self._throw(actor)
        sandbox.on_end(result)

    # --- the account ------------------------------------------------------------------------------

    def count(self, fault: str) -> None:
        """Counts a fault that happened."""
        self.faults[fault] += 1
        if self.tracing:
            self.trace(f"! {fault}")

    def trace(self, text: str, who: str = "") -> None:
        """Tells what happened, if anybody listens."""
        if self.tracing:
            name = who or (self.current.name if self.current else "")
            self.lines.append(f"{self.now:12.4f} s  {name:<14} {text}")

    def log(self, text: str) -> None:
        """Takes a line of a function's log."""
        sandbox = self.current and self.current.sandbox
        if text != "\n" and not (sandbox and not sandbox.alive):
            self.log_lines.append(text)
            self.trace(f"log {text[:300]}")


class Lock:
    """threading.Lock, for actors."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.held = False
        self.waiting: list[tuple[Actor, int]] = []

    def __enter__(self) -> None:
        while self.held:
            actor = self.world.actor()
            self.waiting.append((actor, actor.ticket))
            self.world.wait()
        self.held = True

    def __exit__(self, *_error: object) -> None:
        self.held = False
        for actor, ticket in self.waiting:
            self.world.after(0.0, self.world.resume, actor, ticket, None)
        self.waiting.clear()


class Background:
    """agent_runtime.Background, for actors of a sandbox."""

    def __init__(self, world: World, items: Iterator[Any]) -> None:
        self.world = world
        self.items = items
        self.handed: list[tuple[Any, Exception | None]] = []
        self.waiting: tuple[Actor, int] | None = None
        self.is_abandoned = False
        sandbox = world.actor().sandbox
        assert sandbox
        world.spawn(f"{sandbox.name}~", self._run, sandbox)

    def next(self, seconds: float) -> Any:
        """Waits for the next item."""
        if not self.handed:
            actor = self.world.actor()
            self.waiting = (actor, actor.ticket)
            self.world.after(seconds, self.world.resume, actor, actor.ticket, None)
            self.world.wait()
            self.waiting = None
        if not self.handed:
            raise queue.Empty
        item, error = self.handed.pop(0)
        if error:
            raise error
        return item

    def abandon(self) -> None:
        """Ends it at its next item."""
        self.is_abandoned = True

    def _run(self) -> None:
        try:
            for item in self.items:
                self._hand((item, None))
                if self.is_abandoned:
                    return
            self._hand((None, None))
        except Exception as error:  # noqa: BLE001  raised again where it is waited for
            self._hand((None, error))

    def _hand(self, result: tuple[Any, Exception | None]) -> None:
        self.handed.append(result)
        if self.waiting:
            self.world.after(0.0, self.world.resume, *self.waiting, None)


class Timer:
    """threading.Timer, for actors of a sandbox."""

    daemon = False

    def __init__(self, world: World, seconds: float, function: Callable[[], None]) -> None:
        self.world = world
        self.seconds = seconds
        self.function = function
        self.cancelled = False

    def start(self) -> None:
        """Starts to count."""
        sandbox = self.world.actor().sandbox
        assert sandbox
        self.world.spawn(f"{sandbox.name}+", self._run, sandbox, self.seconds)

    def cancel(self) -> None:
        """Keeps the function from running, if it has not begun to."""
        self.cancelled = True

    def _run(self) -> None:
        if not self.cancelled:
            self.function()
