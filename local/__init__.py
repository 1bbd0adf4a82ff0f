"""The whole backend on this machine: `python -m local`.

    vendors.py   the sample agent's catalogue, how it reads a prompt, what it answers
    agent.py     the sample agent, a real AgentCore agent
    faults.py    how it goes wrong when its prompt says so
    runtime.py   the stand-in for AgentCore Runtime that serves it
    processes.py child processes that leave nothing behind
    aws.py       MiniStack, the agent and the two scripts, started and stopped
    console.py   what a person sees

Nothing here is in a zip, and nothing in a zip knows of this package.
"""

PACE_VARIABLE = "VALRO_SAMPLE_AGENT_PACE"
"""The environment variable that says how many seconds each step of the agent takes; 0 if unset."""

REGION = "us-east-1"
"""The region of everything here."""
