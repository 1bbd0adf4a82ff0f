"""The benchmark's own arithmetic, and one small run of it."""

import random
import re
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import cost, reporting, stats
from benchmarks.chart import Bar, Panel, draw
from benchmarks.dynamodb_cost import (
    Index,
    Item,
    Meter,
    item_size,
    read_units,
    write_units,
)
from local.aws import ROOT
from valro.dynamodb_items import INDEX_NAME, TABLE_DEFINITION

# DynamoDB's arithmetic


@pytest.mark.parametrize(
    "item, size",
    [
        ({"id": {"S": "abc"}}, 2 + 3),
        ({"id": {"S": "ü"}}, 2 + 2),
        ({"ü": {"BOOL": True}}, 2 + 1),
        ({"n": {"NULL": True}}, 1 + 1),
        ({"b": {"B": b"12345"}}, 1 + 5),
        ({"b": {"B": "MTIzNDU="}}, 1 + 5),
        ({"l": {"L": []}}, 1 + 3),
        ({"l": {"L": [{"S": "ab"}, {"S": "c"}]}}, 1 + 3 + (1 + 2) + (1 + 1)),
        ({"m": {"M": {"key": {"S": "ab"}}}}, 1 + 3 + (1 + 3 + 2)),
        ({"s": {"SS": ["ab", "c"]}}, 1 + 3),
        ({"s": {"NS": ["1", "-1"]}}, 1 + 2 + 3),
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


KEYS_ONLY = Index(("owner", "created_at"), frozenset({"id", "owner", "created_at"}))
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
    assert KEYS_ONLY.units(before, after) == units


def test_an_index_of_whole_items_is_written_by_every_update() -> None:
    whole = replace(KEYS_ONLY, projected=None)
    assert whole.units(TASK, TASK | {"status": {"S": "y" * 2_000}}) == 2


def test_a_write_is_billed_by_the_larger_of_before_and_after() -> None:
    meter = Meter.of(TABLE_DEFINITION)
    large = TASK | {"text": {"S": "x" * 5_000}}
    meter.wrote("UpdateItem", large, TASK)
    meter.wrote("UpdateItem", TASK, TASK)
    assert (meter.bill.write, meter.bill.index_write, meter.bill.requests) == (5 + 1, 0, 2)


def test_a_batch_rounds_up_each_item_and_a_query_all_together() -> None:
    meter = Meter.of(TABLE_DEFINITION)
    meter.got("BatchGetItem", [TASK] * 50, consistent=True)
    assert meter.bill.read == 50
    meter.paged("Query", [TASK] * 50, INDEX_NAME, consistent=False)
    assert meter.bill.read == 50.5


# The statistics


@pytest.mark.parametrize(
    "count, interval, confidence", [(15, (3, 7, 11), 0.9648), (3, (0, 1, 2), 0.75)]
)
def test_fifteen_rounds_give_the_fourth_to_the_twelfth_and_fewer_say_that_they_are_less_sure(
    count: int, interval: tuple[int, int, int], confidence: float
) -> None:
    estimate = stats.estimate(list(range(count)))
    assert (estimate.low, estimate.median, estimate.high) == interval
    assert estimate.confidence == pytest.approx(confidence, abs=1e-4)


def test_the_interval_holds_the_true_median_as_often_as_it_says() -> None:
    dice = random.Random(7)
    held = [stats.estimate([dice.lognormvariate(0, 1) for _ in range(15)]) for _ in range(2_000)]
    share = statistics.mean(each.low <= 1 <= each.high for each in held)
    assert 0.95 < share < 0.98


def test_a_slow_phase_falls_out_of_the_ratios() -> None:
    slow = [1, 1, 9, 1]
    ratio = stats.ratios([2.0 * phase for phase in slow], [4.0 * phase for phase in slow])
    assert (ratio.low, ratio.median, ratio.high) == (0.5, 0.5, 0.5)


# The picture and the prices


def test_the_picture_is_well_formed_and_names_everybody() -> None:
    bars = [Bar("boto3 & co", 1.0, 0.9, 1.1, "1.00"), Bar("Valro", 0.5, 0.4, 0.6, "0.50", "mine")]
    root = ET.fromstring(  # noqa: S314 - our own
        draw([Panel("Cold <GET>", bars)], "A picture")
    )
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["Cold <GET>", "boto3 & co", "1.00", "Valro", "0.50"]


def test_a_scan_grows_with_the_table() -> None:
    assert cost.scan_of(100, 3_300)[0] == 1
    assert cost.scan_of(10_000_000, 3_300)[0] == pytest.approx(31_500, rel=0.01)


# Small runs of the whole


@pytest.mark.e2e
def test_a_task_costs_three_writes_of_seven_units_and_a_page_the_same_in_any_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cost, "BUILD", tmp_path)
    counts = cost.all_counts(["Valro"])["Valro"]
    life = counts.lifecycle
    assert 3_000 < counts.size < 3_500
    assert (life.operations, life.all_writes) == (["PutItem", "UpdateItem", "UpdateItem"], 7)
    assert (counts.poll_running.requests, counts.poll_running.read) == (1, 1)
    small, large = counts.page[100], counts.page[1_000]
    assert (small.operations, small.read) == (large.operations, large.read)
    assert small.operations == ["Query", "BatchGetItem"]


def test_the_watcher_costs_three_calls_and_three_dollars_per_million_tasks():
    program = [sys.executable, "-m", "benchmarks.watching"]
    said = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.startswith("a task: SendMessage, PutEvents, GetItem; ")
    found = re.search(r"tasks of a minute: \$([\d.]+) per million more", said)
    assert found
    assert float(found[1]) == pytest.approx(3, abs=0.5)


@pytest.mark.e2e
def test_a_reported_task_costs_a_read_and_a_write_for_each_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cost, "BUILD", tmp_path)
    told = reporting.count()
    once = ["PutItem", "UpdateItem", "UpdateItem"]
    assert told.bill.operations == once + ["GetItem", "UpdateItem"] * told.reports


@pytest.mark.e2e
def test_the_harness_measures_the_real_zips_and_checks_their_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from benchmarks import __main__ as bench

    monkeypatch.setattr(bench, "BUILD", tmp_path)
    monkeypatch.setattr(bench, "RESULT", tmp_path / "result.json")
    arguments = ["--quick", "--rounds", "1", "--subjects", "valro,floor,valro_worker"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    assert bench.main() == 0
    printed = capsys.readouterr().out
    for title in ("cold get https", "cold post https", "warm list http", "cold run https"):
        assert title in printed
    assert "of the floor" in printed
