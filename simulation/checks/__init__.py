"""What must be true: a module for each concern."""
