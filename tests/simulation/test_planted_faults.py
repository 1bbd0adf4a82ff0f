"""The simulation finds every deliberate fault in the code: each schedule's promises have teeth."""

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


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICKLY_FOUND else pytest.mark.e2e)
        for name in MUTATIONS
    ],
)
def test_each_fault_in_the_code_is_found(name: str):
    for seed in (FOUND_AT.get(name, 0), *range(MUTATION_BOUND)):
        with mutated(name):
            violation = run(seed).violation
        # With the fault, and only with it.
        if violation and not run(seed).violation:
            return
    pytest.fail(f"no schedule of {MUTATION_BOUND:,} finds it")
