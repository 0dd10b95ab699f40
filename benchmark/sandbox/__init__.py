"""Run a third-party search in a sandboxed process and validate what it returns."""
