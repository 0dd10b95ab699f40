"""The front door."""


def main() -> None:
    raise SystemExit("paibench: not built yet")
