"""`python -m simulation`: many schedules, a few of them at once, until one fails or time is up."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from simulation.mutations import MUTATIONS, mutated
from simulation.schedule import run

BATCH = 50
LINE_EVERY_SECONDS = 10.0


@dataclass
class Tally:
    """What some schedules came to."""

    schedules: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failed: int | None = None  # of the seeds that broke a promise, the one with the shortest trace
    trace: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Adds what others came to."""
        self.schedules += other.schedules
        self.faults += other.faults
        if other.trace and not 0 < len(self.trace) <= len(other.trace):
            self.failed, self.trace = other.failed, other.trace


def run_batch(mutation: str, seeds: Sequence[int]) -> Tally:
    """Runs some schedules."""
    tally = Tally()
    with mutated(mutation):
        for seed in seeds:
            result = run(seed)
            trace = run(seed, tracing=True).trace if result.violation else []
            tally.add(Tally(1, result.faults, seed, trace))
    return tally


def explore(seeds: range, seconds: float, jobs: int, mutation: str) -> Tally:
    """Runs schedules on ``jobs`` processes until all are done, time is up, or one fails."""
    started = told = time.monotonic()
    tally = Tally()
    batches = (seeds[start : start + BATCH] for start in range(0, len(seeds), BATCH))
    # Ctrl-C is for this process alone, which then tells what was found by then.
    undisturbed = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    with multiprocessing.Pool(jobs, undisturbed) as pool, contextlib.suppress(KeyboardInterrupt):
        for batch in pool.imap_unordered(partial(run_batch, mutation), batches):
            tally.add(batch)
            now = time.monotonic()
            if tally.failed is not None or now > started + seconds:
                break
            if now > told + LINE_EVERY_SECONDS:
                told = now
                rate = tally.schedules / (now - started)
                print(f"{tally.schedules:,} schedules, {rate:,.0f} a second", file=sys.stderr)
    return tally


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m simulation",
        description="Runs the backend's real handlers through random schedules of faults, in "
        "virtual time, and checks the promises after every step. A schedule that breaks one is "
        "told; the exit code is then 1.",
    )
    parser.add_argument("--seed", type=int, help="the first schedule (default: by the clock)")
    parser.add_argument("--count", type=int, help="how many schedules (default: 10,000)")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after this time")
    parser.add_argument("--trace", action="store_true", help="tell the one schedule of --seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
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
    first = int(time.time()) if given.seed is None else given.seed
    given.seeds = range(first, first + (given.count or (2**40 if given.seconds else 10_000)))
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    given = parse(arguments)
    if given.trace:
        with mutated(given.mutation):
            result = run(given.seed, tracing=True)
        print("\n".join(result.trace))
        return 1 if result.violation else 0
    started = time.monotonic()
    tally = explore(given.seeds, given.seconds or float("inf"), given.jobs, given.mutation)
    passed = time.monotonic() - started
    for name, number in sorted(tally.faults.items()):
        print(f"{number:12,}  {name}")
    print(
        f"{tally.schedules:,} schedules from seed {given.seeds[0]}, {passed:.0f} s, "
        f"{tally.faults.total():,} faults"
    )
    if tally.failed is None:
        print("No promise was broken.")
        return 0
    print("\n".join(tally.trace))
    mutation = f" --mutation {given.mutation!r}" if given.mutation else ""
    print(f"\nAgain: python -m simulation --seed {tally.failed} --trace{mutation}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
