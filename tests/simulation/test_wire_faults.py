"""The table of wire faults is what real sockets and the real clients do, today and here."""

import gc

import pytest

from simulation import wire
from simulation.wire import Row, read
from simulation.wire_record import FAULTS, measured

# botocore leaves a socket to the garbage collector where an answer breaks off.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

HOW = "If botocore was upgraded, look at what changed: python -m simulation.wire_record; git diff"


def changed(rows: list[Row]) -> list[Row]:
    """Which of the rows are not as in the table."""
    table = read()
    return [row for row in rows if row not in table]


@pytest.mark.e2e
def test_every_fault_comes_out_as_the_table_says_for_every_operation():
    rows = measured()
    assert len(rows) == len(read())
    different = changed(rows)
    for _ in range(3):  # made again: a busy machine may have been too slow
        names = {row["fault"] for row in different}
        different = changed(measured([fault for fault in FAULTS if fault.name in names]))
    gc.collect()  # while what it finds is ignored
    assert different == [], HOW


def test_the_table_has_every_fault_and_nothing_else():
    assert {row["fault"] for row in read()} == {fault.name for fault in FAULTS}


# --- what the simulation makes of it --------------------------------------------------------------


def test_a_call_can_meet_every_kind_of_fault_that_there_is():
    assert wire.by_kind("InvokeAgentRuntime").keys() == wire.KINDS.keys()
    for operation in ("PutItem", "Invoke"):
        assert wire.by_kind(operation).keys() == wire.KINDS.keys() - {"agent failed"}


def test_every_error_of_the_table_can_be_raised():
    for row in read():
        if "raises" in row:
            assert str(wire.error(row)) or row["raises"].startswith("urllib3"), row


def test_a_request_that_never_arrived_or_was_refused_is_not_done_and_a_failed_one_may_be():
    rows = [row for row in read() if not row["requests"]]
    assert {wire.effects(row) for row in rows} == {(False,)}
    of_agent = {row["fault"]: row for row in read() if row["operation"] == "InvokeAgentRuntime"}
    assert wire.effects(of_agent["429 ThrottlingException in the header"]) == (False,)
    assert wire.effects(of_agent["502 ThrottlingException in the body"]) == (False, True)
    assert wire.effects(of_agent["424 RuntimeClientError in the header"]) == (True,)
