"""The recordings are what Strands and the SDK, as installed, send."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.e2e
def test_real_agents_still_send_what_was_recorded():
    """After an upgrade: python -m tests.agents.record, and judge what changes in the table."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.agents.record", "--check"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "agents, 0 differ" in run.stdout
