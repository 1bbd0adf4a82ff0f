"""`python -m simulation`: many schedules, a few of them at once, until one fails or time is up."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from simulation.backend import DEFAULT_SKEW
from simulation.choices import Script, shrink
from simulation.mutations import MUTATIONS, mutated
from simulation.schedule import Result, run

BATCH = 50
LINE_EVERY_SECONDS = 10.0


@dataclass
class Tally:
    """What some schedules came to."""

    schedules: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    failed: int | None = None  # the first seed that broke a promise
    broken: dict[str, list[int]] = field(default_factory=dict)  # the seeds, by promise

    def add(self, other: Tally) -> None:
        """Adds what others came to."""
        self.schedules += other.schedules
        self.faults += other.faults
        self.seen += other.seen
        if other.failed is not None:
            self.failed = min(other.failed, other.failed if self.failed is None else self.failed)
        for invariant, seeds in other.broken.items():
            self.broken[invariant] = sorted([*self.broken.get(invariant, []), *seeds])


def run_batch(seeds: Sequence[int], mutation: str, skew: float, *, survey: bool = False) -> Tally:
    """Runs some schedules, up to the first that breaks a promise; all of them in a survey."""
    tally = Tally()
    with mutated(mutation):
        for seed in seeds:
            result = run(seed, skew=skew)
            violation = result.violation
            tally.add(
                Tally(
                    1,
                    result.faults,
                    result.seen,
                    seed if violation else None,
                    {violation.invariant: [seed]} if violation else {},
                )
            )
            if violation and not survey:
                break
    return tally


def shrunk(seed: int, skew: float, seconds: float) -> Result:
    """The shortest schedule found that fails as the seed's does, with its trace."""
    first = run(seed, skew=skew)
    if not first.violation:
        return run(seed, skew=skew, tracing=True)
    invariant = first.violation.invariant

    def fails(script: Script) -> bool:
        violation = run(script=script, skew=skew).violation
        return violation is not None and violation.invariant == invariant

    script = shrink(first.choices, fails, seconds=seconds)
    return run(script=script, skew=skew, tracing=True)


def explore(
    seed: int,
    total: int | None,
    seconds: float | None,
    *,
    jobs: int,
    mutation: str,
    skew: float,
    survey: bool = False,
) -> Tally:
    """Runs schedules on ``jobs`` processes until all are done, time is up, or one fails."""
    started = said = time.monotonic()
    end = started + seconds if seconds else float("inf")
    tally = Tally()
    batches = _batches(seed, total)
    running: set[Future[Tally]] = set()
    # Ctrl-C is for this process alone, which then tells what was found by then.
    undisturbed = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with (
        ProcessPoolExecutor(jobs, initializer=undisturbed) as pool,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while survey or tally.failed is None:
            while len(running) < jobs + 1 and time.monotonic() < end:
                batch = next(batches, None)
                if batch is None:
                    break
                running.add(pool.submit(run_batch, batch, mutation, skew, survey=survey))
            if not running:
                break
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                tally.add(future.result())
            if time.monotonic() > said + LINE_EVERY_SECONDS:
                said = time.monotonic()
                rate = tally.schedules / (said - started)
                print(f"{tally.schedules:,} schedules, {rate:,.0f} a second", file=sys.stderr)
    return tally


def _batches(seed: int, total: int | None) -> Iterator[range]:
    for start in count(seed, BATCH):
        if total is not None and start >= seed + total:
            return
        yield range(start, start + BATCH if total is None else min(start + BATCH, seed + total))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m simulation",
        description="Runs the backend's real handlers through random schedules of faults, in "
        "virtual time, and checks the promises after every step. A schedule that breaks one is "
        "shrunk and told; the exit code is then 1.",
    )
    parser.add_argument("--seed", type=int, help="the first schedule (default: by the clock)")
    parser.add_argument("--count", type=int, help="how many schedules (default: 10,000)")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--trace", action="store_true", help="tell the one schedule of --seed")
    parser.add_argument(
        "--survey", action="store_true", help="go on after a broken promise, and count them all"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument(
        "--shrink-seconds", type=float, default=20.0, help="time for shrinking (default: 20)"
    )
    parser.add_argument(
        "--skew",
        type=float,
        default=DEFAULT_SKEW,
        help=f"how many seconds a function's clock may be off (default: {DEFAULT_SKEW:g})",
    )
    parser.add_argument(
        "--mutation",
        choices=[*MUTATIONS],
        default="",
        metavar="NAME",
        help="put this fault into the code first: " + "; ".join(MUTATIONS),
    )
    given = parser.parse_args(arguments)
    if given.trace and given.seed is None:
        parser.error("--trace needs --seed")
    if given.seed is None:
        given.seed = int(time.time())
    if given.count is None and given.seconds is None:
        given.count = 10_000
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    given = parse(arguments)
    if given.trace:
        with mutated(given.mutation):
            result = run(given.seed, skew=given.skew, tracing=True)
        print("\n".join(result.trace))
        return 1 if result.violation else 0
    started = time.monotonic()
    tally = explore(
        given.seed,
        given.count,
        given.seconds,
        jobs=given.jobs,
        mutation=given.mutation,
        skew=given.skew,
        survey=given.survey,
    )
    passed = time.monotonic() - started
    for name, number in [*sorted(tally.faults.items()), *sorted(tally.seen.items())]:
        print(f"{number:12,}  {name}")
    print(
        f"{tally.schedules:,} schedules from seed {given.seed}, {passed:.0f} s, "
        f"{tally.faults.total():,} faults"
    )
    if tally.failed is None:
        print("No promise was broken.")
        return 0
    if given.survey:
        for invariant, seeds in sorted(tally.broken.items(), key=lambda one: -len(one[1])):
            print(f"{len(seeds):8,}  {invariant}: seeds {', '.join(map(str, seeds[:5]))}")
        return 1
    print(f"Seed {tally.failed} breaks a promise. Looking for the shortest schedule ...\n")
    with mutated(given.mutation):
        result = shrunk(tally.failed, given.skew, given.shrink_seconds)
    print("\n".join(result.trace))
    again = f"python -m simulation --seed {tally.failed} --skew {given.skew:g} --trace"
    print(
        f"\nAgain, in full: {again}" + (f" --mutation {given.mutation!r}" if given.mutation else "")
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
