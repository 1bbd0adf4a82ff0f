"""The agent: the call, and how its answer is read."""
