"""The table of wire faults is what real sockets and the real clients do, today and here."""

import gc
from collections.abc import Callable
from functools import partial

import pytest

from simulation import wire
from simulation.wire import Row, read
from simulation.wire_record import FAULTS, NAMES, ROUTES, Fault, measured

# botocore leaves a socket to the garbage collector where an answer breaks off.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

Key = tuple[str, str, str]


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
    gc.collect()  # while what it finds is ignored
    return different


def is_among(names: set[str], fault: Fault) -> bool:
    return fault.name in names


HOW = "If botocore was upgraded, look at what changed: python -m simulation.wire_record; git diff"


@pytest.mark.e2e
def test_every_fault_comes_out_as_the_table_says_for_every_operation_on_every_route():
    assert changed_at_last(ROUTES, NAMES, lambda _fault: True) == {}, HOW


def test_the_table_has_every_fault_and_nothing_else():
    assert {row["fault"] for row in read()} == {fault.name for fault in FAULTS}


def test_a_row_that_changed_is_told():
    rows = read()
    rows[0] = rows[0] | {"attempts": 7}
    assert [row["attempts"] for row in changed(rows).values()] == [7]


# --- what the simulation makes of it --------------------------------------------------------------


@pytest.mark.parametrize("route", wire.ROUTES)
@pytest.mark.parametrize("service", wire.MEASURED)
def test_a_call_can_meet_every_kind_of_fault_that_there_is_on_its_route(service: str, route: str):
    kinds = set(wire.by_kind(service, wire.MEASURED[service], route))
    missing = {"dynamodb": {"agent failed"}, "lambda": {"agent failed"}, "agent": set()}[service]
    if route == "http":
        missing |= {"no TLS"}
    assert kinds == set(wire.KINDS) - missing


def test_an_operation_measured_on_one_route_meets_on_another_what_its_service_does():
    (row,) = wire.by_kind("dynamodb", "GetItem", "tls")["no TLS"]
    assert row["raises"] == "botocore.exceptions.SSLError"


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
