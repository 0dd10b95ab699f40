"""A point of the chart: what ours and published figures have in common."""

from typing import Any

from paibench.leaderboard.site.board import number
from paibench.leaderboard.table import sparsity_percent


def point(density: float, mean: float, half: Any) -> dict[str, Any]:
    """Where a mean stands, and its interval, in percent; both are fractions, `half` may be none."""
    known = number(half)
    centre, spread = 100 * mean, 0.0 if known is None else 100 * known
    return {
        "density": density,
        "sparsity": sparsity_percent(density),
        "mean": round(centre, 4),
        "low": round(centre - spread, 4),
        "high": round(centre + spread, 4),
        "accuracy": f"{centre:.2f} %" + (f" ± {spread:.2f}" if known is not None else ""),
    }
