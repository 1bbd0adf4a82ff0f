"""Virtual time, chance, threads that take turns, sandboxes that die: what all else happens in.

Every actor is a greenlet. It runs until it waits; then the hub moves the time to what comes next.
So actors interleave at every call of AWS and at every lock, and always in the same way.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

Json = Any
T = TypeVar("T")

EPOCH = 1_767_225_600.0  # 2026-01-01, when every schedule begins
MOST_STEPS = 20_000


class Killed(BaseException):
    """Ends a thread of a sandbox that died; no ``except Exception`` of the real code stops it."""


class Violation(BaseException):
    """Something that must never be true is."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


class Choices:
    """Makes the choices of one schedule: small numbers, in which 0 always means the simplest."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit - 1``."""
        return int(self._random() * limit)

    def pick(self, options: Sequence[T]) -> T:
        """One of ``options``, the first of which is the simplest."""
        return options[self.below(len(options))]

    def some(self, options: Sequence[T]) -> list[T]:
        """A few of ``options``, each with a chance of a quarter."""
        limit = 1 << len(options)
        mask = self.below(limit) & self.below(limit)
        return [option for index, option in enumerate(options) if mask >> index & 1]

    def chance(self, per_mille: int) -> bool:
        """Whether something happens that happens ``per_mille`` times in a thousand."""
        return per_mille > 0 and self.below(1000) >= 1000 - per_mille


@dataclass(eq=False, slots=True)
class Actor:
    """A thread of control. ``ticket`` tells a wait that is over from the one that goes on."""

    name: str
    sandbox: Sandbox | None
    ticket: int = 0
    greenlet: Any = None


@dataclass(eq=False)
class Sandbox:
    """One invocation of a function: its clock, its time limit, its threads and how it went."""

    function: str
    name: str
    request_id: str
    timeout: float
    started: float = 0.0
    skew: float = 0.0
    actors: list[Actor] = field(default_factory=list)
    alive: bool = True
    cause: str = ""  # of its death
    died_at: float = 0.0
    ending_since: float = 0.0  # when its last try began to write how its task ends
    faults: Counter[str] = field(default_factory=Counter)  # how many it met, by service
    troubled: set[str] = field(default_factory=set)  # the services whose last call met one
    unmended: set[str] = field(default_factory=set)  # that met one which no other attempt mends
    is_overtaken: bool = False  # by a call that took longer than all of its timeouts
    told_taken: set[str] = field(default_factory=set)  # tasks whose event Lambda said it has
    stops_taken: set[str] = field(default_factory=set)  # and those of which it has the stop
    report: Any = None  # an agent's, in what it was asked
    task_id: str = ""  # that a worker's event is about
    caller: Actor | None = None

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
            what(*arguments)
        raise Violation("everything ends", f"more than {self.most_steps:,} steps")

    def waker(self) -> Callable[..., None]:
        """What ends the current actor's next wait: in ``delay`` seconds, with a ``value``."""
        assert self.current is not None
        return self._waker(self.current)

    def _waker(self, actor: Actor) -> Callable[..., None]:
        ticket = actor.ticket  # one that is stale wakes nobody

        def wake(delay: float = 0.0, value: Any = None) -> None:
            self.after(delay, resume, value)

        def resume(value: Any) -> None:
            if actor.ticket == ticket:
                self._switch(actor, value)

        return wake

    def wait(self) -> Any:
        """Gives way to the others until somebody wakes this actor; returns what it got."""
        self.check_alive()
        return self.hub.switch()

    def check_alive(self) -> None:
        """Keeps what is dead from doing more: a process that was killed runs no ``finally``."""
        if self.sandbox and not self.sandbox.alive:
            raise Killed

    def sleep(self, seconds: float) -> None:
        """Lets ``seconds`` pass for the current actor."""
        self.waker()(max(seconds, 0.0))
        self.wait()

    # --- actors -----------------------------------------------------------------------------------

    @property
    def sandbox(self) -> Sandbox | None:
        """Where the current actor runs, if it is a thread of a function."""
        return self.current.sandbox if self.current else None

    def spawn(
        self, name: str, run: Callable[[], None], sandbox: Sandbox | None = None, delay: float = 0.0
    ) -> None:
        """Starts an actor, in a sandbox if it is a thread of a function."""
        actor = Actor(self.unique(name) if sandbox is None else name, sandbox)

        def life(_start: None) -> None:
            with contextlib.suppress(Killed):
                run()
            self.actors.discard(actor)

        actor.greenlet = greenlet(life, parent=self.hub)
        self.actors.add(actor)
        if sandbox:
            sandbox.actors.append(actor)
        self._waker(actor)(delay)

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
        actor.greenlet.switch(value)
        self.current = None

    def _throw(self, actor: Actor) -> None:
        actor.ticket += 1
        self.current = actor
        if actor.greenlet:
            actor.greenlet.throw(Killed)
        self.actors.discard(actor)
        self.current = None

    # --- sandboxes --------------------------------------------------------------------------------

    def run_sandbox(self, sandbox: Sandbox, handler: Callable[[], Any]) -> Any:
        """Runs ``handler`` in a sandbox; returns its result, or None if it died."""
        sandbox.started, sandbox.caller = self.now, self.current
        sandbox.skew = self.choices.pick(self.skews) if len(self.skews) > 1 else 0.0

        def body() -> None:
            result = handler()
            # Lambda freezes what else runs there; a frozen thread is as good as dead.
            self.after(0.0, self._end, sandbox, "", result)

        self.spawn(sandbox.name, body, sandbox)
        self.after(sandbox.timeout, self._end, sandbox, "timeout", None)
        return self.wait()

    def die(self, cause: str) -> None:
        """Ends the current actor's sandbox at this very point. Does not return."""
        assert self.sandbox
        self.doom(self.sandbox, cause)
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
        assert sandbox.caller
        self._switch(sandbox.caller, result)

    # --- the account ------------------------------------------------------------------------------

    def count(self, fault: str) -> None:
        """Counts a fault that happened."""
        self.faults[fault] += 1
        self.trace(f"! {fault}")

    def trace(self, text: str, who: str = "") -> None:
        """Tells what happened, if anybody listens."""
        if self.tracing:
            name = who or (self.current.name if self.current else "")
            self.lines.append(f"{self.now:12.4f} s  {name:<14} {text}")

    def log(self, text: str) -> None:
        """Takes a line of a function's log."""
        if not self.sandbox or self.sandbox.alive:
            self.log_lines.append(text)
            self.trace(f"log {text[:300]}")


class Lock:
    """threading.Lock, for actors."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.held = False
        self.waiting: list[Callable[..., None]] = []

    def __enter__(self) -> None:
        while self.held:
            self.waiting.append(self.world.waker())
            self.world.wait()
        self.held = True

    def __exit__(self, *_error: object) -> None:
        self.held = False
        for wake in self.waiting:
            wake()
        self.waiting.clear()


class Background:
    """agent_runtime.Background, for actors of a sandbox."""

    def __init__(self, world: World, items: Iterator[Any]) -> None:
        self.world = world
        self.items = items
        self.handed: list[tuple[Any, Exception | None]] = []
        self.wake: Callable[..., None] = lambda: None
        self.is_abandoned = False
        assert world.sandbox
        world.spawn(f"{world.sandbox.name}~", self._run, world.sandbox)

    def next(self, seconds: float) -> Any:
        """Waits for the next item."""
        if not self.handed:
            self.wake = self.world.waker()
            self.wake(seconds)
            self.world.wait()
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
            for item in itertools.chain(self.items, [None]):
                self._hand(item)
                if self.is_abandoned:
                    return
        except Exception as error:  # noqa: BLE001  raised again where it is waited for
            self._hand(None, error)

    def _hand(self, item: Any, error: Exception | None = None) -> None:
        self.handed.append((item, error))
        self.wake()


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
        assert self.world.sandbox
        name = f"{self.world.sandbox.name}+"
        self.world.spawn(name, self._run, self.world.sandbox, self.seconds)

    def cancel(self) -> None:
        """Keeps the function from running, if it has not begun to."""
        self.cancelled = True

    def _run(self) -> None:
        if not self.cancelled:
            self.function()
