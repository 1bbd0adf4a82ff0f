"""What the functions share: a task, its store's form, HTTP as Lambda has it, and the agent."""
