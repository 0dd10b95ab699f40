"""Executing runs: attempts, worker processes, checkpoints, shared stages and verification."""
