"""Measures the functions beside other ways to write them, and counts what they cost.

    make bench                       everything, under six minutes once the peers are packaged
    python -m benchmarks --quick     fewer rounds, under a minute
    python -m benchmarks --only get  one operation: get, post, list, run

What is compared: the project's own zips as deploy.sh builds them, and the same API (the same
routes, the same items, checked on every run) with boto3.resource, Powertools, Powertools and
pydantic, FastAPI and Mangum, Chalice, plain botocore, and with nothing at all, which is the floor
(see subjects.py and peers/). They talk to a stub of AWS in a process of its own, over HTTP and
HTTPS (servers.py).

How: a cold start is a fresh process, from the import of the handler to its answer, without the time
of the bare interpreter; a warm figure is the median of many calls in one of several processes.
Every round measures every subject once, in random order. A result is the median of the rounds'
ratios with its 95 % confidence interval (stats.py), for CPU time and for wall time: what slows the
machine in one round slows all in it.

Also here: what DynamoDB would bill for (dynamodb_cost.py, cost.py), where the limits are
(scale.py), the picture (chart.py). The answers are in RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import stats
from benchmarks.chart import Bar, Panel, draw
from benchmarks.data import NATIVE_TABLE
from benchmarks.measure import Bench, Case, interleave, progress, stub
from benchmarks.subjects import ROOT, SUBJECTS, ZIPS, Subject, certificates, prepare

BUILD = ROOT / "build/bench"
RESULT = BUILD / "result.json"
CHART = ROOT / "docs/benchmark.svg"
BY_NAME = {subject.name: subject for subject in SUBJECTS}


@dataclass(frozen=True)
class Target:
    """What a ratio of CPU times is to be at most."""

    case: str
    mine: str
    other: str
    limit: float


TARGETS = (
    Target("cold get https", "valro", "naive", 0.60),
    Target("cold get https", "valro", "powertools", 0.52),
    Target("cold get https", "valro", "fastapi_mangum", 0.35),
    Target("cold get https", "valro", "floor", 2.7),
    Target("cold post https", "valro", "naive", 0.60),
    Target("warm get http", "valro", "naive", 0.75),
    Target("warm post https", "valro", "naive", 0.11),
    Target("warm list http", "valro", "naive", 0.45),
    Target("warm list http", "valro", "naive_native", 0.25),
    Target("warm list http", "valro", "floor", 1.30),
    Target("cold run https", "valro_worker", "naive_worker", 0.60),
)


def main() -> int:
    """Runs from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", choices=("get", "post", "list", "run"), help="one operation")
    parser.add_argument("--rounds", type=int, help="how many cold rounds")
    parser.add_argument("--subjects", help="names, with commas between them")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    chosen = set(options.subjects.split(",")) if options.subjects else set(BY_NAME)
    subjects = [subject for subject in SUBJECTS if subject.name in chosen]
    folders = prepare(BUILD, subjects)
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(dir=BUILD) as work,
        stub(certificates(BUILD)) as ports,
    ):
        bench = Bench(folders, ports, Path(work))
        result = measure_all(bench, subjects, options)
    result["seconds"] = round(time.monotonic() - started)
    result["zips"] = {
        zip_name: (BUILD / "sources" / zip_name).stat().st_size for zip_name in ZIPS.values()
    }
    RESULT.write_text(json.dumps(result, indent=1))
    report(result)
    if not (options.quick or options.only or options.subjects):
        CHART.parent.mkdir(exist_ok=True)
        CHART.write_text(chart(result))
    return 0


def measure_all(
    bench: Bench, subjects: Sequence[Subject], options: argparse.Namespace
) -> dict[str, Any]:
    """Measures the chosen cases; returns figures in seconds and counts."""
    apis = [s for s in subjects if not s.is_worker and s.table != NATIVE_TABLE]
    workers = [subject for subject in subjects if subject.is_worker]
    rounds = options.rounds or (3 if options.quick else 15)
    processes = 2 if options.quick else 6
    seconds = 0.15 if options.quick else 0.4
    cold = [Case(subject, "run") for subject in workers]
    cold += [Case(subject, operation) for subject in apis for operation in ("get", "post")]
    warm = [Case(subject, "post") for subject in apis]
    warm += [Case(subject, operation, "http") for subject in apis for operation in ("get", "list")]
    warm += [Case(s, "list", "http") for s in subjects if s.table == NATIVE_TABLE]
    if not options.quick:
        cold += [Case(subject, "get", "http") for subject in apis]
    if options.only:
        cold = [case for case in cold if case.operation == options.only]
        warm = [case for case in warm if case.operation == options.only]
    result: dict[str, Any] = {"python": sys.version.split()[0], "series": {}}
    for kind, cases, count, measure in (
        ("cold", cold, rounds, bench.cold),
        ("warm", warm, processes, lambda case: bench.warm(case, seconds)),
    ):
        if not cases:
            continue
        progress(f"{kind}: {len(cases)} cases, {count} rounds")
        for case, series in interleave(cases, count, measure, options.seed).items():
            key = f"{kind} {case.operation} {case.scheme}"
            result["series"].setdefault(key, {})[case.subject.name] = {
                name: values for name, values in vars(series).items() if values
            }
    result["counts"] = {
        subject.name: bench.count(Case(subject, "run" if subject.is_worker else "get"))
        for subject in apis + workers
    }
    return result


def report(result: dict[str, Any]) -> None:
    """Prints the tables."""
    for key, by_subject in result["series"].items():
        base_name = "naive_worker" if "run" in key else "naive"
        base = by_subject.get(base_name)
        sure = stats.estimate(next(iter(by_subject.values()))["cpu"]).confidence
        print(f"\n{key}: CPU ms, wall ms, and CPU and wall as ratios to {base_name}")
        print(f"  (in brackets what holds the median with {sure:.0%} confidence)")
        for name, series in by_subject.items():
            cpu, wall = (statistics.median(series[unit]) * 1000 for unit in ("cpu", "wall"))
            line = f"  {BY_NAME[name].label:24} {cpu:8.2f} {wall:8.2f}"
            if base:
                for unit in ("cpu", "wall"):
                    line += f"   {stats.ratios(series[unit], base[unit])}"
            if "init_cpu" in series:
                init = statistics.median(series["init_cpu"]) * 1000
                line += f"   init {init:6.1f}"
            if "connections" in series:
                line += f"   {statistics.median(series['connections']):.2f} connections a call"
            print(line)
    print("\ntargets, CPU ratios (wall beside)")
    for target in TARGETS:
        by_subject = result["series"].get(target.case, {})
        if not {target.mine, target.other} <= by_subject.keys():
            continue
        mine, other = by_subject[target.mine], by_subject[target.other]
        reached = stats.ratios(mine["cpu"], other["cpu"])
        word = "reached" if reached.median <= target.limit else "MISSED"
        wall = stats.ratios(mine["wall"], other["wall"])
        print(
            f"  {target.case:16} of {BY_NAME[target.other].label:24} <= {target.limit:.2f}: "
            f"{reached}  {word}   ({wall})"
        )
    print(f"\nmodules and files of a first GET or run: {result['counts']}")
    print(f"zip bytes: {result['zips']}")
    print(f"{result['seconds']} s")


def chart(result: dict[str, Any]) -> str:
    """The picture of a run: the ratios of CPU time to boto3.resource's."""
    titles = {
        "cold get https": "Cold GET /tasks/{id} over HTTPS: CPU time from import to answer",
        "cold post https": "Cold POST /tasks over HTTPS",
        "warm post https": "Warm POST /tasks over HTTPS",
        "warm list http": "Warm GET /tasks, 100 tasks",
    }
    panels = []
    for key, title in titles.items():
        by_subject = result["series"][key]
        bars = []
        for name, series in by_subject.items():
            ratio = stats.ratios(series["cpu"], by_subject["naive"]["cpu"])
            milliseconds = statistics.median(series["cpu"]) * 1_000
            kind = {"valro": "mine", "floor": "floor"}.get(name, "bar")
            value = f"{ratio.median:.2f}  ({milliseconds:.3g} ms)"
            label = BY_NAME[name].label
            bars.append(Bar(label, ratio.median, ratio.low, ratio.high, value, kind))
        panels.append(Panel(title, sorted(bars, key=lambda bar: bar.ratio)))
    return draw(panels, "CPU time of the API written in several ways, as a ratio to boto3.resource")


if __name__ == "__main__":
    sys.exit(main())
