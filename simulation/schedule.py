"""One schedule: people, and the backend that they use, from a seed."""

import traceback
from collections import Counter
from dataclasses import dataclass
from functools import partial

from simulation import people, reporters
from simulation.backend import DEFAULT_SKEW, Backend, in_place_of_aws
from simulation.checks import ends
from simulation.watching import Watching
from simulation.world import Choices, Json, Violation, World


@dataclass
class Result:
    """How a schedule went; ``violation`` is None if all was as it must be."""

    violation: Violation | None
    faults: Counter[str]
    trace: list[str]


def run(seed: int, *, tracing: bool = False, skew: float = DEFAULT_SKEW) -> Result:
    """Runs the schedule of a seed."""
    world = World(Choices(seed), tracing=tracing)
    violation = None
    try:
        backend = Backend(world, skew)
        # Every fourth schedule has the watcher; the others are as they would be without it.
        watching = Watching(backend) if seed % 4 == 3 else None
        with in_place_of_aws(backend):
            try:
                _live(backend, watching)
            finally:
                world.bury()
    except Violation as error:
        violation = error
    except Exception as error:  # noqa: BLE001  whoever raised it, this schedule is to be looked at
        where = traceback.extract_tb(error.__traceback__)[-1]
        violation = Violation("nothing unexpected happens", f"{error!r} in {where.name}")
    if violation:
        world.trace(f"VIOLATION {violation}", "-")
    return Result(violation, world.faults, world.lines)


def _live(backend: Backend, watching: Watching | None) -> None:
    world, choices = backend.world, backend.world.choices
    backend.aws.agent.reporter = partial(reporters.work, backend)
    for _ in range(choices.below(3) + 1):
        world.spawn("client", partial(people.client, backend))
    if choices.below(3) == 2:
        world.spawn("lister", partial(people.lister, backend))
    if choices.below(8) == 7:
        world.spawn("operator", partial(people.operator, backend))
    busybody = choices.below(12)
    if busybody == 11:
        world.spawn("cleaner", partial(people.cleaner, backend))
    elif busybody == 10:
        world.spawn("meddler", partial(people.meddler, backend))
    world.run()
    if watching:
        watching.over()
    world.trace("from here on everything works", "-")
    backend.aws.clear_weather()
    backend.reply_loss = 0
    tasks: dict[str, Json] = {}
    world.spawn("last reader", partial(people.last_reader, backend, tasks))
    world.run()
    ends.check_ends(backend.known, backend.aws.table.items, tasks)
