"""docs/publishing.md describes what validation does."""

import re
from pathlib import Path

from paibench.benchmark.execution.acceptance import FRESH_SEEDS, LEVEL, OVERLAP, POINTS
from paibench.leaderboard.submission.findings import CHECKS
from paibench.leaderboard.submission.verification_level import LEVELS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "publishing.md").read_text(encoding="utf-8")


def test_every_check_is_in_the_table() -> None:
    """The table has every check, in order, with the same words."""
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", PAGE, flags=re.M)
    checks = [(name, states) for name, states in rows if name in CHECKS]
    assert checks == [(name, check.requires) for name, check in CHECKS.items()]


def test_every_level_is_in_the_table() -> None:
    """The table has the levels from the lowest to the highest."""
    marks = re.findall(r"^\| `([a-z-]+)` \| .+ \| .+ \|$", PAGE, flags=re.M)
    assert tuple(marks) == LEVELS


def test_the_page_states_the_acceptance_rule() -> None:
    """The page has half a point, the test at 5 %, five fresh seeds and 99.9 %."""
    assert (POINTS, LEVEL, FRESH_SEEDS, OVERLAP) == (0.005, 0.05, 5, 0.999)
    for words in ("half a point", "t(0.95, k - 1)", "five fresh seeds", "99.9 %"):
        assert words in PAGE


def test_the_published_results_are_valid() -> None:
    """The results of this repository pass its own workflow.

    They are of protocol 1 and without masks, which a submission of today could not be.
    """
    from paibench.leaderboard.submission.validate import validate

    results = ROOT / "results"
    assert validate(results, results).findings == ()
    errors = {found.check for found in validate(results).findings if found.severity == "error"}
    assert errors <= {"mask-file", "protocol"}
