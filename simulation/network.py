"""The way between a client and a service: what breaks on it, and when who learns of it.

A client sends a call as often as botocore would with the Config it was made with, and each sending
meets the weather: a fault of the wire table, one of the service's own, or the end of the sandbox
that sends it. The request may be done all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from simulation import wire
from simulation.dynamodb import client_error
from simulation.wire import URL, Row
from simulation.world import Sandbox, World

LATENCIES = (0.004, 0.002, 0.006, 0.01, 0.02, 0.1, 0.4, 1.2)
DEATHS = ("dies before", "dies in flight", "dies after")
# "late": the request is on its way for longer than its client waits, and is done then.
CALL_FAULTS = (*wire.KINDS, "late", *DEATHS)
DYNAMODB_FAULTS = (*CALL_FAULTS, "conflict", "keys unprocessed")
# "frozen": a stop that is sent when Lambda wakes its process for another task.
AGENT_FAULTS = (*(fault for fault in CALL_FAULTS if fault != "late"), "unexpected error", "frozen")
QUEUE_FAULTS = ("delivered twice", "delivered late", "throttled", "never delivered", "again later")
OUTAGES = (2.0, 12.0, 60.0, 700.0, 3_000.0)
OUTAGE_FAULTS = ("server error", "throttled", "refused", "stalled")
# Of a name's addresses, botocore tries one after the other, each for as long as it may take: with
# six of them dead, a call that is sent twice takes 13 s, or over 20 s if the next takes it and is
# silent then. And a write may be two calls.
ADDRESSES = (1, 1, 1, 2, 6)
MOST_ADDRESSES = 8
CONNECTING = (0.0, 0.95)  # times that patience, before a call whose answer does not come
# What such a request arrives after, beside its client's patience.
OVERDUE = {"late": (0.1, 1.0, 5.0, 20.0), "frozen": (30.0, 3.0, 200.0, 700.0)}
TIMED_OUT = ReadTimeoutError(endpoint_url=URL)
DRIPPING = (0.5, 1.4, 2.2, 4.0)  # times the client's patience between two bytes


class Fault(NamedTuple):
    """What befalls one sending of a call; no name is none."""

    name: str = ""
    row: Row | None = None
    is_done: bool = True  # at the other end
    addresses: int = 1  # of the service, and nobody at any

    @property
    def is_sent_again(self) -> bool:
        """Whether botocore sends the call again after it."""
        return self.name == "late" or (self.row is not None and wire.is_sent_again(self.row))

    @property
    def is_passing(self) -> bool:
        """Whether another attempt may well succeed, and a client ought to make one."""
        return self.name == "late" or (self.row is not None and wire.is_passing(self.row))

    @property
    def error(self) -> Exception | None:
        """What comes out at once, instead of an answer."""
        if self.row and "raises" in self.row and "while" not in self.row:
            return wire.error(self.row)
        return None

    @property
    def is_silent(self) -> bool:
        """Whether the client hears nothing until it gives up."""
        row = self.row
        return self.name in OVERDUE or bool(row and "waits" in row and "while" not in row)


@dataclass
class Client:
    """One of botocore's clients."""

    aws: Any
    config: Config


class Slow(NamedTuple):
    """An answer that takes its time."""

    answer: Any
    seconds: float
    # Gets what ends the waiting for it with something else.
    waited_for: Callable[[Callable[[Exception], None]], None] = lambda _end: None


class Trip(NamedTuple):
    """One HTTP request on its way: what befalls it, and who waits for its answer, and how long."""

    fault: Fault
    operation: str
    coming: float  # how long the answer takes
    patience: float
    wake: Callable[..., None]
    sandbox: Sandbox | None


Serve = Callable[[Fault], Any]  # what a service does with a request


class Weather:
    """The way to a service in one schedule: which faults it knows, how often, and when it is down.

    Each schedule knows a few kinds only. Were all of them always there, none would ever be alone.
    """

    def __init__(
        self, world: World, service: str, kinds: tuple[str, ...], rates: tuple[int, ...]
    ) -> None:
        choices = world.choices
        self.world = world
        self.service = service
        self.rate = choices.pick(rates)
        self.kinds = choices.some(kinds) if self.rate else []
        self.down = (0.0, 0.0)
        self.outages: tuple[float, ...] = OUTAGES
        self.outage_faults: tuple[str, ...] = OUTAGE_FAULTS
        self.addresses = choices.pick(ADDRESSES)  # of the service
        if self.rate and service != "queue" and choices.below(6) == 5:
            start = choices.pick((0.0, 0.02, 5.0, 60.0, 580.0, 940.0))
            self.down = (start, start + choices.pick(OUTAGES))
        self.drags_down: Weather | None = None
        self.fails_at_the_end = bool(self.rate) and choices.below(8) == 7

    def fall_silent(self) -> None:
        """Makes it a service that takes all the time that its client gives it, and more."""
        choices = self.world.choices
        faults = choices.pick((("stalled",), ("nobody accepts",), ("nobody accepts", "stalled")))
        self.outage_faults, self.outages = faults, (3_000.0,)
        self.addresses = choices.pick((MOST_ADDRESSES, 6, 1))
        if choices.below(2):
            self.fails_at_the_end = True
        else:
            self.kinds, self.rate = [*faults], 400

    def agent_ended(self) -> None:
        """An agent has answered: in some worlds that is when a service falls silent."""
        if self.fails_at_the_end:
            self.fails_at_the_end = False
            self.down = (self.world.now, self.world.now + self.world.choices.pick(self.outages))

    def fault(self, operation: str = "") -> Fault:
        """What befalls one sending, if anything."""
        self.world.check_alive()
        choices = self.world.choices
        sandbox = self.world.sandbox
        outage = ""
        if self.down[0] <= self.world.now < self.down[1]:
            name, outage = choices.pick(self.outage_faults), "down, "
        elif self.kinds and choices.chance(self.rate):
            name = choices.pick(self.kinds)
        else:
            name = ""
        fault = self._of_kind(name, operation)
        if not fault.name:
            if sandbox:
                sandbox.troubled.discard(self.service)
            return fault
        self.world.count(f"{self.service}: {outage}{fault.name}")
        if fault.row:
            done = "" if fault.is_done else ", not done"
            self.world.trace(f"! {operation}: {fault.row['fault']}{done}")
        if sandbox:
            sandbox.faults[self.service] += 1
            sandbox.troubled.add(self.service)
            if not fault.is_passing:
                sandbox.unmended.add(self.service)
        if self.drags_down and not self.drags_down.down[1]:
            self.drags_down.down = (self.world.now, self.world.now + choices.pick(OUTAGES))
        return fault

    def _of_kind(self, name: str, operation: str) -> Fault:
        is_elsewhere = name == "frozen" and operation != "StopRuntimeSession"
        if name == "keys unprocessed" or is_elsewhere:
            return Fault()  # that is how a batch is answered, not how a call goes
        if name not in wire.KINDS or not operation:
            return Fault(name)
        rows = wire.by_kind(operation).get(name)
        if not rows:
            return Fault()  # no such thing there
        row = self.world.choices.pick(rows)
        return Fault(name, row, self.world.choices.pick(wire.effects(row)), self.addresses)

    def clear(self) -> None:
        """Makes everything work from now on."""
        self.kinds, self.down, self.drags_down = [], (0.0, 0.0), None
        self.fails_at_the_end = False

    # --- calls ------------------------------------------------------------------------------------

    def call(
        self, config: Config, operation: str, serve: Serve, spoil: Callable[[Fault, Any], Any]
    ) -> Any:
        """A call as botocore makes it, sent again after what its standard retries are for."""
        attempts = int((config.retries or {}).get("total_max_attempts", 5))
        sandbox = self.world.sandbox
        for attempt in range(1, attempts + 1):
            fault = self.fault(operation)
            is_last = attempt == attempts or not fault.is_sent_again
            if attempt > 1 and sandbox:
                sandbox.troubled.add(self.service)  # until there is an answer
            try:
                answer = spoil(fault, self._send(fault, config, operation, serve))
                # An answer that is garbled is asked for again too, if botocore sees that it is.
                if is_last or not fault.row:
                    return answer
            except Exception as error:
                # botocore's, or what the fault makes of it; one of the simulation's own is no fault.
                is_botocores = isinstance(error, (BotoCoreError, ClientError))
                if is_last or not (is_botocores or error is fault.error):
                    raise
            finally:
                if sandbox and sandbox.alive and not fault.name:
                    sandbox.troubled.discard(self.service)
            self.world.count("botocore sends again")
            self.world.sleep(self.world.choices.pick((0.0, 0.5, 1.0)) * 2 ** (attempt - 1))
        raise AssertionError("unreachable")

    def _send(self, fault: Fault, config: Config, operation: str, serve: Serve) -> Any:
        """One HTTP request; ``serve`` runs when it arrives, whatever became of its sender."""
        world, choices = self.world, self.world.choices
        going, coming = choices.pick(LATENCIES), choices.pick(LATENCIES)
        if fault.name == "dies before":
            world.die("before a call")
        if fault.name == "conflict":
            world.sleep(going)
            raise conflict(operation)
        if fault.name in OVERDUE:
            going = config.read_timeout + choices.pick(OVERDUE[fault.name])
        if fault.row and not fault.is_done:
            world.sleep(self._wait(fault, config) or going)
            if fault.error:
                raise fault.error
            return None
        patience = config.read_timeout
        if fault.name == "dripping":
            coming = choices.pick(DRIPPING) * min(patience, 30.0)
            self._overlong(coming > patience)
            patience = float("inf")
        trip = Trip(fault, operation, coming, patience, world.waker(), world.sandbox)
        world.after(going, self._arrive, trip, serve)
        if fault.name == "dies in flight" and world.sandbox:
            world.after(going / 2, world.doom, world.sandbox, f"during {operation}")
        elif fault.is_silent:
            self._overlong(fault.addresses > 1)
            trip.wake(patience + self._connecting(fault, config), TIMED_OUT)
        return _received(fault, world.wait())

    def _wait(self, fault: Fault, config: Config) -> float:
        """How long a client waits for what does not come."""
        connect: float = config.connect_timeout
        if fault.name == "nobody accepts":
            self._overlong(fault.addresses > 1)
            return connect * fault.addresses
        waits = fault.row.get("waits") if fault.row else None
        if waits == "read":
            self._overlong(fault.addresses > 1)
            return float(config.read_timeout) + self._connecting(fault, config)
        return connect if waits else 0.0

    def _connecting(self, fault: Fault, config: Config) -> float:
        """How long a client needs to be connected: to the last of the addresses, if there are many."""
        tried = fault.addresses - 1 + self.world.choices.pick(CONNECTING)
        return float(tried * config.connect_timeout)

    def _overlong(self, is_so: bool) -> None:  # noqa: FBT001
        """Takes note that a call takes longer than its timeouts say: they do not bound it."""
        if is_so and self.world.sandbox:
            self.world.sandbox.is_overtaken = True

    def _arrive(self, trip: Trip, serve: Serve) -> None:
        answer: Any
        fault, delay = trip.fault, trip.coming
        try:
            answer = serve(fault)
        except ClientError as error:
            answer = error
        if isinstance(answer, Slow):
            if not fault.is_silent:
                answer.waited_for(partial(trip.wake, 0.0))
            delay, answer = delay + answer.seconds, answer.answer
        if delay >= trip.patience:
            delay, answer = trip.patience, TIMED_OUT
        if fault.name == "dies after" and trip.sandbox:
            self.world.doom(trip.sandbox, f"after {trip.operation}")
        elif not fault.is_silent:
            trip.wake(delay, answer)


def _received(fault: Fault, answer: Any) -> Any:
    """What a client makes of what it hears at last."""
    if fault.error:
        raise fault.error
    if isinstance(answer, ClientError) and fault.name == "garbled":
        # A refusal whose body nobody can read, as the table has it: no code, and the status alone.
        status = answer.response["ResponseMetadata"]["HTTPStatusCode"]
        raise client_error(str(status), status, answer.operation_name)
    if isinstance(answer, Exception):
        raise answer
    return answer


def conflict(operation: str) -> ClientError:
    """Two transactions met."""
    if operation == "TransactWriteItems":
        reasons = [{"Code": "TransactionConflict"}, {"Code": "None"}]
        return client_error(
            "TransactionCanceledException", 400, operation, CancellationReasons=reasons
        )
    return client_error("TransactionConflictException", 400, operation)
