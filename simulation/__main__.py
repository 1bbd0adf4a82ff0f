"""`python -m simulation`: many schedules, a few of them at once, until one fails or time is up."""

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
    failed: list[tuple[int, int, list[str]]] = field(default_factory=list)  # length, seed, trace


def run_batch(mutation: str, seeds: Sequence[int]) -> Tally:
    """Runs some schedules, and those again that break a promise, to tell them."""
    tally = Tally(len(seeds))
    with mutated(mutation):
        for seed in seeds:
            result = run(seed)
            tally.faults += result.faults
            if result.violation:
                trace = run(seed, tracing=True).trace
                tally.failed.append((len(trace), seed, trace))
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
            tally.schedules += batch.schedules
            tally.faults += batch.faults
            tally.failed += batch.failed
            now = time.monotonic()
            if tally.failed or now > started + seconds:
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
        "printed, and the exit code is then 1.",
    )
    now = int(time.time())
    parser.add_argument(
        "--seed", type=int, default=now, help="the first seed (default: from the clock)"
    )
    parser.add_argument("--count", type=int, help="how many schedules (default: 10,000)")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after this time")
    parser.add_argument(
        "--trace", action="store_true", help="print the schedule for --seed, step by step"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument(
        "--mutation",
        choices=[*MUTATIONS],
        default="",
        metavar="NAME",
        help="put this fault into the code first: " + "; ".join(MUTATIONS),
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    given = parse(arguments)
    if given.trace:
        with mutated(given.mutation):
            result = run(given.seed, tracing=True)
        print("\n".join(result.trace))
        return 1 if result.violation else 0
    started = time.monotonic()
    count = given.count or (2**40 if given.seconds else 10_000)
    seeds = range(given.seed, given.seed + count)
    tally = explore(seeds, given.seconds or float("inf"), given.jobs, given.mutation)
    passed = time.monotonic() - started
    for name, number in sorted(tally.faults.items()):
        print(f"{number:12,}  {name}")
    print(
        f"{tally.schedules:,} schedules from seed {given.seed}, {passed:.0f} s, "
        f"{tally.faults.total():,} faults"
    )
    if not tally.failed:
        print("No promise was broken.")
        return 0
    _length, seed, trace = min(tally.failed)
    print("\n".join(trace))
    mutation = f" --mutation {given.mutation!r}" if given.mutation else ""
    print(f"\nAgain: python -m simulation --seed {seed} --trace{mutation}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
