"""What a reader may take home: every run, and every cell of the tables at full precision."""

import pandas as pd

from paibench.leaderboard import parquet as columnar
from paibench.leaderboard import spreadsheet


def parquet(runs: pd.DataFrame) -> bytes:
    """Every run with all its columns, which carry their meaning."""
    return columnar.parquet(runs)


def cells(found: pd.DataFrame) -> bytes:
    """Every cell of every track, a line each; no text in it is taken for a formula."""
    return spreadsheet.csv(found).encode()
