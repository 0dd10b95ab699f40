"""What is known of our methods, and that nothing of it is said of a third party's."""

import pytest

from paibench.leaderboard.frame.citations import published
from paibench.leaderboard.frame.known import KNOWN, known
from paibench.methods.core.registry import is_own, names


def test_every_method_of_ours_is_known() -> None:
    """And nothing else."""
    assert set(KNOWN) == {name for name in names("methods") if is_own(name)}


@pytest.mark.parametrize(
    ("label", "expected", "uses"),
    [
        ("snip", "SNIP, ICLR 2019", "one batch"),
        ("synflow(iterations=5)", "SynFlow, NeurIPS 2020", "no data"),
        ("imp", "IMP, ICLR 2019", "trained weights"),
        ("cts", "Concrete Ticket Search, arXiv 2025", "learned mask"),
        ("random", "random pruning", "no data"),
        ("random(layers=erk)", "random pruning, ICML 2020", "no data"),
        ("dense", "dense network", ""),
        ("early_bird", "Early-Bird, ICLR 2020", "trained weights"),
        ("early_bird(units=channel)", "Early-Bird, ICLR 2020", "whole channels"),
        ("px", "PX, CVPR 2024", "one batch"),
        ("px(data=false)", "PX, CVPR 2024", "no data"),
    ],
)
def test_names_for_people(label: str, expected: str, uses: str) -> None:
    """The usual name, the venue and year of the first paper, and what the search needs."""
    found = known(label.partition("(")[0], label, "paibench")
    assert found is not None
    assert (published(found), found.uses) == (expected, uses)


def test_a_third_party_is_not_known() -> None:
    """Whatever its name: our papers do not describe its method."""
    assert known("snip", "snip", "theirs") is None
    assert known("theirs", "theirs", "paibench") is None
