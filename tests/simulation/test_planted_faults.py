"""The simulation finds every deliberate fault in the code: each schedule's promises have teeth."""

from itertools import chain

import pytest

from simulation.mutations import MUTATIONS, mutated
from simulation.schedule import run

# Within so many schedules from seed 0 each deliberate fault must be found.
MUTATION_BOUND = 6_000
QUICKLY_FOUND = (
    "claim without its token",
    "event_seq not checked",
    "botocore's retries for the agent",
    "progress that ignores a cancellation",
    "message dropped after an error",
)


# Where faults that few schedules find were found, to be looked for there first. A change of the code
# can move them: then all of the schedules are tried again, and it only takes longer.
FOUND_AT = {
    "deleted task made again": 176,
    "reader that ignores a later report": 149,
    "claim past the deadline": 174,
    "confirmation that ignores a cancellation": 347,
    "repeated dispatch fails the task": 1050,
    "session that was to be stopped handed on": 4247,
}


def find(mutation: str) -> str:
    """A schedule that fails with the fault, and only with it: the known one or the first."""
    known = [FOUND_AT[mutation]] if mutation in FOUND_AT else []
    for seed in chain(known, range(MUTATION_BOUND)):
        with mutated(mutation):
            violation = run(seed).violation
        if violation and not run(seed).violation:
            return f"seed {seed}: {violation}"
    return ""


@pytest.mark.parametrize("name", QUICKLY_FOUND)
def test_a_fault_in_the_code_is_found(name: str):
    assert find(name)


@pytest.mark.e2e
@pytest.mark.parametrize("name", [name for name in MUTATIONS if name not in QUICKLY_FOUND])
def test_each_fault_in_the_code_is_found(name: str):
    assert find(name)
