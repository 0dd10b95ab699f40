"""Sweeps: the file, the plan, and the state of its runs."""
