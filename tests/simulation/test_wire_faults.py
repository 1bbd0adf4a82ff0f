"""The table of wire faults is what real sockets and the real clients do, today and here."""

import gc
from functools import partial

import pytest

from simulation import wire
from simulation.wire import Row, read
from simulation.wire_record import FAULTS, Fault, measured

# botocore leaves a socket to the garbage collector where an answer breaks off.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Key = tuple[str, str]


def by_key(rows: list[Row]) -> dict[Key, Row]:
    return {(row["fault"], row["operation"]): row for row in rows}


def changed(rows: list[Row]) -> dict[Key, Row]:
    """Which of the rows are not as in the table."""
    table = by_key(read())
    return {key: row for key, row in by_key(rows).items() if row != table.get(key)}


def changed_at_last() -> dict[Key, Row]:
    """As ``changed``, each fault that differs made again: a busy machine may have been too slow."""
    different = changed(measured())
    for _ in range(3):
        names = {fault for fault, _operation in different}
        if names:
            different = changed(measured(partial(is_among, names)))
    gc.collect()  # while what it finds is ignored
    return different


def is_among(names: set[str], fault: Fault) -> bool:
    return fault.name in names


HOW = "If botocore was upgraded, look at what changed: python -m simulation.wire_record; git diff"


@pytest.mark.e2e
def test_every_fault_comes_out_as_the_table_says_for_every_operation():
    assert changed_at_last() == {}, HOW


def test_the_table_has_every_fault_and_nothing_else():
    assert {row["fault"] for row in read()} == {fault.name for fault in FAULTS}


def test_a_row_that_changed_is_told():
    rows = read()
    rows[0] = rows[0] | {"attempts": 7}
    assert [row["attempts"] for row in changed(rows).values()] == [7]


# --- what the simulation makes of it --------------------------------------------------------------


@pytest.mark.parametrize("service", wire.MEASURED)
def test_a_call_can_meet_every_kind_of_fault_that_there_is(service: str):
    kinds = set(wire.by_kind(service, wire.MEASURED[service]))
    assert kinds == set(wire.KINDS) - (set() if service == "agent" else {"agent failed"})


def test_every_error_of_the_table_can_be_raised():
    for row in read():
        if "raises" in row:
            assert str(wire.error(row)) or row["raises"].startswith("urllib3"), row


def test_a_request_that_never_arrived_is_never_done():
    rows = [row for row in read() if not row["requests"]]
    assert rows
    assert {wire.effects(row) for row in rows} == {(False,)}


def test_a_refusal_of_the_services_own_is_not_done_and_a_failed_one_may_be():
    rows = {row["fault"]: row for row in read() if row["operation"] == "InvokeAgentRuntime"}
    assert wire.effects(rows["429 ThrottlingException in the header"]) == (False,)
    assert wire.effects(rows["502 ThrottlingException in the body"]) == (False, True)
    assert wire.effects(rows["424 RuntimeClientError in the header"]) == (True,)
