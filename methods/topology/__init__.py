"""Methods that look at the paths of a network alone, not at its weights or data."""
