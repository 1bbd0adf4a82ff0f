"""The simulation finds every deliberate fault in the code: each schedule's promises have teeth."""

import pytest

from simulation.mutations import MUTATIONS, mutated
from simulation.schedule import run

# Within so many schedules from seed 0 each deliberate fault must be found.
MUTATION_BOUND = 3_000
QUICKLY_FOUND = (
    "claim without its token",
    "event_seq not checked",
    "botocore's retries for the agent",
    "API writes the status after the invoke",
    "repair is read, then written",
    "internals shown",
    "progress that ignores a cancellation",
    "delete that frees the id",
    "report judged before its token",
)


def find(mutation: str) -> str:
    """The first schedule from seed 0 on that fails with the fault, and only with it."""
    for seed in range(MUTATION_BOUND):
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
