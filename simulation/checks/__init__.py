"""What must be true, checked after every write, every reply, and at the end of a schedule.

The checks watch from outside: what reached the agent, what DynamoDB holds, what clients are told.

    known.py    what is known of each task, which all of them look at
    writes.py   after every write
    agent.py    whenever an agent is started or stopped, or a worker raises
    answers.py  after every reply of the API
    ends.py     at the end
"""

from simulation.checks.agent import Agents
from simulation.checks.answers import Answers
from simulation.checks.ends import Ends
from simulation.checks.known import Known
from simulation.checks.writes import Writes
from simulation.world import World


class Checks:
    """All checks of one schedule."""

    def __init__(self, world: World, skew: float) -> None:
        self.known = known = Known(world, skew)
        self.writes = Writes(known)
        self.agents = Agents(known)
        self.answers = Answers(known)
        self.ends = Ends(known)
