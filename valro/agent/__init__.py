"""The agent: its call, and how what it sends is read."""
