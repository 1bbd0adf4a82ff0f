"""The benchmark's own arithmetic, and one small run of it."""

import random
import re
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import cost, stats
from benchmarks.chart import Bar, draw
from benchmarks.dynamodb_cost import Item, index_units, item_size, read_units, write_units
from local.aws import ROOT


@pytest.mark.parametrize(
    "item, size",
    [
        ({"id": {"S": "abc"}}, 2 + 3),
        ({"ü": {"S": "ü"}}, 2 + 2),
        ({"b": {"BOOL": True}, "n": {"NULL": True}}, 2 + 2),
        ({"l": {"L": [{"S": "ab"}, {"S": "c"}]}}, 1 + 3 + (1 + 2) + (1 + 1)),
        ({"m": {"M": {"key": {"S": "ab"}}}}, 1 + 3 + (1 + 3 + 2)),
        *(({"n": {"N": number}}, 1 + size) for number, size in (("0", 1), ("7", 2), ("100", 2))),
        *(({"n": {"N": number}}, 1 + 3) for number in ("123", "-12", "275.5")),
    ],
)
def test_an_item_is_as_large_as_its_names_and_values(item: Item, size: int) -> None:
    assert item_size(item) == size


def test_reads_are_billed_by_four_kilobytes_and_writes_by_one() -> None:
    for sizes, units in (((0, 1, 4_096), 1), ((4_097, 8_192), 2), ((8_193,), 3)):
        for size in sizes:
            assert read_units(size, consistent=True) == units
            assert read_units(size, consistent=False) == units / 2
    assert list(map(write_units, (0, 1_024, 1_025, 3_300))) == [1, 1, 2, 4]


TASK = {"id": {"S": "1"}, "owner": {"S": "a"}, "created_at": {"S": "t"}, "status": {"S": "x"}}


@pytest.mark.parametrize(
    "before, after, units",
    [
        ({}, TASK, 1),
        (TASK, TASK | {"status": {"S": "y" * 9_000}}, 0),
        (TASK, TASK | {"created_at": {"S": "u"}}, 2),
        (TASK, {}, 1),
        ({}, {"id": {"S": "1#0"}}, 0),
    ],
)
def test_an_index_is_billed_only_for_what_it_holds(before: Item, after: Item, units: float) -> None:
    """An update of a task never writes a KEYS_ONLY index, and a chunk is not in it."""
    assert index_units(("id", "owner", "created_at"), before, after) == units


@pytest.mark.parametrize("count, interval", [(15, (7, 3, 11)), (3, (1, 0, 2))])
def test_fifteen_rounds_give_the_fourth_to_the_twelfth_and_few_give_all(
    count: int, interval: tuple[int, int, int]
) -> None:
    assert stats.estimate(list(range(count))) == interval


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    dice = random.Random(7)
    held = [stats.estimate([dice.lognormvariate(0, 1) for _ in range(15)]) for _ in range(2_000)]
    share = statistics.mean(each.low <= 1 <= each.high for each in held)
    assert 0.95 < share < 0.98


def test_a_slow_phase_falls_out_of_the_ratios() -> None:
    slow = [1, 1, 9, 1]
    ratio = stats.ratios([2.0 * phase for phase in slow], [4.0 * phase for phase in slow])
    assert ratio == (0.5, 0.5, 0.5)


def test_the_picture_is_well_formed_and_names_everybody() -> None:
    bars = [Bar(label, stats.Estimate(1, 0.9, 1.1), "1.00") for label in ("boto3 & co", "Valro")]
    root = ET.fromstring(draw({"Cold <GET>": bars}, "A picture"))  # noqa: S314 - our own
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["Cold <GET>", "boto3 & co", "1.00", "Valro", "1.00"]


@pytest.mark.e2e
def test_what_a_task_costs_is_counted_by_running_it() -> None:
    """Three writes of seven units, pages that do not grow with the table, two calls a report."""
    program = [sys.executable, "-W", "ignore", "-m", "benchmarks.cost"]
    run = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    size = re.match(r"Valro: a (\d+)-byte task takes ", lines[0])
    assert size
    assert 3_000 < int(size[1]) < 3_500
    once = "1 PutItem, 1 Invoke, {} UpdateItem, 1 InvokeAgentRuntime{}; "
    assert lines[0].endswith(once.format(2, "") + "6 + 1 write and 0 read units")
    assert lines[1] == "  a poll takes 1 GetItem; 0 + 0 write and 1 read units; the last 1"
    page = "takes 1 Query, 1 BatchGetItem; 0 + 0 write and 51 read units"
    assert lines[2:4] == [f"  a page of 50 among {tasks} {page}" for tasks in (100, 1_000)]
    assert once.format(11, ", 9 GetItem") in run.stdout
    watched = "the watcher takes 1 SendMessage, 1 PutEvents, 1 GetItem; 0 + 0 write and 1 read"
    assert watched in run.stdout


CPU_MS = {"get": 1.0, "post": 2.0, "list": 10.0}


def test_a_waiting_task_costs_its_workers_time_and_a_reporting_one_its_reports() -> None:
    page = cost.Bill(["Query", "BatchGetItem"], read=51)
    parts = (
        cost.Bill(write=6, index_write=1),
        cost.Bill(read=1),
        cost.Bill(read=1),
        {1_000: page},
        3_300,
    )
    waiting = cost.dollars(cost.Counts(*parts), CPU_MS)
    assert waiting["writes"] == pytest.approx(7 * 0.625)
    assert waiting["worker Lambda"] == pytest.approx(60.03 * 16.6667 + 0.2)
    assert waiting["gateway"] == pytest.approx(38)
    reporting = cost.dollars(cost.Counts(*parts, reports=9), CPU_MS, worker_gb=0.25)
    assert reporting["worker Lambda"] == pytest.approx(1.03 * 16.6667 / 4 + 0.2)
    assert reporting["gateway"] == pytest.approx(47)


def test_the_watcher_costs_three_dollars_per_million_tasks_of_a_minute() -> None:
    watched = cost.Bill(["SendMessage", "PutEvents", "GetItem"], read=1)
    parts = cost.watching_dollars(watched, CPU_MS, task_seconds=60)
    assert sum(parts.values()) == pytest.approx(3, abs=0.5)
    assert parts["SQS"] == pytest.approx(3 * 0.4)


@pytest.mark.e2e
def test_the_harness_measures_the_real_zips_and_checks_their_answers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert bench.main(["--quick", "--subjects", "valro,floor,valro_worker"], tmp_path) == 0
    printed = capsys.readouterr().out
    for title in ("cold get", "cold post", "warm list", "cold run"):
        assert f"\n{title}: " in printed
    assert "of the floor" in printed
    assert re.search(r"valro-api-lambda.zip: [12]\.\d\d MB", printed)
