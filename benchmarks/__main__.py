"""Measures the functions beside other ways to write them.

    make bench                       everything, cost.py too; minutes, once the peers are packaged
    python -m benchmarks --quick     few rounds: in brackets then stands the whole range
    python -m benchmarks --subjects valro,floor

What is compared: the project's own zips as deploy.sh builds them, and the same API (the same
routes, the same items, checked on every run) with boto3.resource, Powertools, FastAPI and Mangum,
and with nothing at all, which is the floor (see subjects.py and peers/). They talk to a stub of AWS
(servers.py), over HTTPS but for warm reads, in which nothing else should be measured.

How: a cold start is a fresh process, from the import of the handler to its answer, without the time
of the bare interpreter; a warm figure is the median of many calls in one of several processes.
Every round measures every subject once, in random order. A result is the median of the rounds'
ratios of CPU time with its 95 % confidence interval (stats.py): what slows the machine in one round
slows all in it. The answers are in RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks import stats
from benchmarks.chart import Bar, draw
from benchmarks.measure import Bench, Case
from benchmarks.servers import serving
from benchmarks.subjects import BUILD, RESULT, ROOT, SUBJECTS, prepare

CHART = ROOT / "docs/benchmark.svg"
LABELS = {subject.name: subject.label for subject in SUBJECTS}
TITLES = {
    "cold get": "Cold GET /tasks/{id} over HTTPS: CPU time from import to answer",
    "cold post": "Cold POST /tasks over HTTPS",
    "warm post": "Warm POST /tasks over HTTPS",
    "warm list": "Warm GET /tasks, 100 tasks",
}

Series = dict[str, list[float]]  # of the rounds, by the figure's name
Results = dict[str, dict[str, Series]]  # by what was measured, and by whose it is


class Target(NamedTuple):
    """What a ratio of CPU times is to be at most."""

    measured: str
    mine: str
    other: str
    limit: float


TARGETS = (
    Target("cold get", "valro", "naive", 0.60),
    Target("cold get", "valro", "powertools", 0.52),
    Target("cold get", "valro", "fastapi", 0.35),
    Target("cold get", "valro", "floor", 2.7),
    Target("cold post", "valro", "naive", 0.60),
    Target("warm get", "valro", "naive", 0.75),
    Target("warm post", "valro", "naive", 0.11),
    Target("warm list", "valro", "naive", 0.45),
    Target("warm list", "valro", "naive_lists", 0.25),
    Target("warm list", "valro", "floor", 1.30),
    Target("cold run", "valro_worker", "naive_worker", 0.60),
)


def main(arguments: list[str] | None = None, build: Path = BUILD) -> int:
    """Runs from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--subjects", default=",".join(LABELS), help="names, with commas between")
    options = parser.parse_args(arguments)
    subjects = [each for each in SUBJECTS if each.name in options.subjects.split(",")]
    folders = prepare(build, subjects)
    lists = [subject for subject in subjects if not subject.is_worker]
    apis = [subject for subject in lists if subject.name != "naive_lists"]
    certificates = build / "certificates"
    bench = Bench(folders, certificates)
    with serving(certificates) as https, serving(None) as http:
        cold = [Case(subject, "run", https) for subject in subjects if subject.is_worker]
        cold += [
            Case(subject, operation, https) for subject in apis for operation in ("get", "post")
        ]
        warm = [Case(subject, "post", https) for subject in apis]
        warm += [Case(subject, "get", http) for subject in apis]
        warm += [Case(subject, "list", http) for subject in lists]
        results = measure("cold", cold, 3 if options.quick else 15, bench.cold)
        seconds = 0.15 if options.quick else 0.4
        results |= measure(
            "warm", warm, 2 if options.quick else 6, lambda case: bench.warm(case, seconds)
        )
    report(results)
    for path in sorted((build / "sources").glob("*.zip")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    if subjects == [*SUBJECTS]:
        (build / RESULT.name).write_text(json.dumps(results))
        if not options.quick:
            CHART.write_text(chart(results))
    return 0


def measure(
    kind: str, cases: list[Case], rounds: int, take: Callable[[Case], dict[str, float]]
) -> Results:
    """Measures every case once a round, in random order."""
    results: Results = {}
    for number in range(rounds):
        print(
            f"{time.strftime('%H:%M:%S')} {kind}, round {number + 1} of {rounds}", file=sys.stderr
        )
        for case in random.sample(cases, len(cases)):
            by_subject = results.setdefault(f"{kind} {case.operation}", {})
            series = by_subject.setdefault(case.subject.name, {})
            for name, value in take(case).items():
                series.setdefault(name, []).append(value)
    return results


def report(results: Results) -> None:
    """Prints the tables."""
    for measured, by_subject in sorted(results.items()):
        base = by_subject.get("naive_worker" if measured == "cold run" else "naive")
        print(f"\n{measured}: CPU ms, and as a ratio to boto3.resource")
        for name in (name for name in LABELS if name in by_subject):
            series = by_subject[name]
            medians = {unit: statistics.median(values) for unit, values in series.items()}
            ratio = stats.ratios(series["cpu"], base["cpu"]) if base else ""
            line = f"  {LABELS[name]:24} {medians['cpu'] * 1_000:8.2f}   {ratio}"
            if "init" in medians:
                line += f"   init {medians['init'] * 1_000:6.1f}"
            else:
                line += f"   {medians['connections']:.2f} connections a call"
            print(line)
    print("\ntargets, CPU ratios")
    for measured, mine, other, limit in TARGETS:
        by_subject = results.get(measured, {})
        if {mine, other} <= by_subject.keys():
            reached = stats.ratios(by_subject[mine]["cpu"], by_subject[other]["cpu"])
            word = "reached" if reached.median <= limit else "MISSED"
            print(f"  {measured:10} of {LABELS[other]:24} <= {limit:.2f}: {reached}  {word}")


def chart(results: Results) -> str:
    """The picture of a run: the ratios of CPU time to boto3.resource's."""
    panels = {}
    for measured, title in TITLES.items():
        by_subject = results[measured]
        bars = []
        for name, series in by_subject.items():
            ratio = stats.ratios(series["cpu"], by_subject["naive"]["cpu"])
            milliseconds = statistics.median(series["cpu"]) * 1_000
            kind = {"valro": "mine", "floor": "floor"}.get(name, "bar")
            bars.append(
                Bar(LABELS[name], ratio, f"{ratio.median:.2f}  ({milliseconds:.3g} ms)", kind)
            )
        panels[title] = sorted(bars, key=lambda bar: bar.ratio.median)
    return draw(panels, "CPU time of the API written in several ways, as a ratio to boto3.resource")


if __name__ == "__main__":
    sys.exit(main())
