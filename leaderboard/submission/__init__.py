"""Submitting results: records held to what can be checked without running anything of theirs."""
