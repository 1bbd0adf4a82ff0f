"""The table of wire faults is what real sockets and the real clients do, today and here."""

from collections.abc import Callable
from functools import partial

import pytest

from simulation.wire import Row, read
from simulation.wire_record import FAULTS, NAMES, ROUTES, Fault, measured

# botocore leaves a socket to the garbage collector where an answer breaks off.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Key = tuple[str, str, str]

SAMPLES = ("UpdateItem", "Invoke", "InvokeAgentRuntime")


def by_key(rows: list[Row]) -> dict[Key, Row]:
    return {(row["fault"], row["route"], row["operation"]): row for row in rows}


def changed(rows: list[Row]) -> dict[Key, Row]:
    """Which of the rows are not as in the table."""
    table = by_key(read())
    return {key: row for key, row in by_key(rows).items() if row != table.get(key)}


def changed_at_last(
    routes: tuple[str, ...], operations: tuple[str, ...], is_wanted: Callable[[Fault], bool]
) -> dict[Key, Row]:
    """As ``changed``, each fault that differs made again: a busy machine may have been too slow."""
    different = changed(measured(routes, operations, is_wanted))
    for _ in range(3):
        names = {fault for fault, _route, _operation in different}
        if names:
            different = changed(measured(routes, operations, partial(is_among, names)))
    return different


def is_among(names: set[str], fault: Fault) -> bool:
    return fault.name in names


def is_a_sample(fault: Fault) -> bool:
    """Every fault, but of the many pairs of a status and a code only some."""
    is_pair = fault.name[0].isdigit() and " in the " in fault.name
    return not is_pair or fault.name.startswith("424")


HOW = "If botocore was upgraded, look at what changed: python -m simulation.wire_record; git diff"


def test_every_kind_of_fault_still_comes_out_as_the_table_says():
    assert changed_at_last(("http",), SAMPLES, is_a_sample) == {}, HOW


@pytest.mark.e2e
def test_every_fault_comes_out_as_the_table_says_for_every_operation_on_every_route():
    assert changed_at_last(ROUTES, NAMES, lambda _fault: True) == {}, HOW


def test_the_table_has_every_fault_and_nothing_else():
    assert {row["fault"] for row in read()} == {fault.name for fault in FAULTS}


def test_a_row_that_changed_is_told():
    rows = read()
    rows[0] = rows[0] | {"attempts": 7}
    assert [row["attempts"] for row in changed(rows).values()] == [7]
