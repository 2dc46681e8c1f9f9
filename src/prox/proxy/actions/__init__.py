"""One file for each type of action."""
