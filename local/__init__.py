"""The whole backend on this machine: `python -m local`.

    vendors.py     the sample agent's catalogue, how it reads a prompt, what it answers
    agent.py       the sample agent, a real AgentCore agent
    behaviours.py  the words in a prompt that make it go wrong
    faults.py      how it goes wrong then
    reporting.py   how it works on a task that it reports on
    own_agent.py   the way to an agent of one's own
    runtime.py     the stand-in for AgentCore Runtime that serves either
    processes.py   child processes that leave nothing behind
    aws.py         MiniStack, the agent, the AWS CLI and the two scripts, started and stopped
    aws_cli.py     the AWS CLI, loaded once for all calls of the scripts; bin/aws calls it
    ministack_gaps.py  MiniStack, with what its CloudFormation gets wrong set right
    guard.py       who may talk to the servers: programs and web pages of this machine
    addresses.py   where all that is, the same at every run
    task_log.py    what the functions log, as it comes
    console.py     what a person sees in the terminal
    page_server.py serves the page (page/) and the API's reference (docs/)

Nothing here is in a zip, and nothing in a zip knows of this package.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  people run this with any Python that they have
    sys.exit(
        f"{sys.executable} is Python {sys.version.split()[0]}; 3.11 or newer is needed. "
        "`make run` makes a .venv with what this needs: make PYTHON=python3.12 run"
    )

PACE_VARIABLE = "VALRO_SAMPLE_AGENT_PACE"
"""The environment variable that says how many seconds each step of the agent takes; 0 if unset."""

REGION = "us-east-1"
"""The region of everything here."""
