"""Methods stand in an order that survivors and head starts cannot lead."""

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.stats.ranking import (
    median_density,
    rank_groups,
    ranked,
    row_class,
    supermasks,
)
from paibench.leaderboard.stats.summary import TRACK


def cells_of(*cells: dict[str, Any]) -> pd.DataFrame:
    """Cells of the summary that are complete and at initialization unless they say otherwise."""
    usual = {"density_asked": 0.1, "accuracy_n": 3, "runs": 3, "not_at_initialization": 0}
    return pd.DataFrame([usual | cell for cell in cells])


def test_order() -> None:
    """Dense, random, whole rows by mean, rows that lost runs, rows not at initialization."""
    found = cells_of(
        {"row": "later", "accuracy_mean": 0.99, "not_at_initialization": 3},
        {"row": "survivor", "accuracy_mean": 0.98, "accuracy_n": 2},
        {"row": "lost", "accuracy_mean": float("nan"), "accuracy_n": 0},
        {"row": "good", "accuracy_mean": 0.6},
        {"row": "better", "accuracy_mean": 0.7},
        {"row": "random", "accuracy_mean": 0.1, "accuracy_n": 1},
        {"row": "dense", "accuracy_mean": 0.2, "density_asked": 1.0},
        {"row": "absent", "accuracy_mean": 0.97, "density_asked": 0.01},
        {"row": "good", "accuracy_mean": 0.99, "density_asked": 0.01},
        {"row": "better", "accuracy_mean": 0.99, "density_asked": 0.5, "accuracy_n": 1},
    )
    order = ["dense", "random", "better", "good", "survivor", "absent", "lost", "later"]
    assert ranked(found) == order


@pytest.mark.parametrize(
    ("densities", "expected"),
    [([1.0], 1.0), ([1.0, 0.1], 0.1), ([0.5, 0.2, 0.1], 0.2), ([0.5, 0.2, 0.1, 0.05], 0.2)],
    ids=str,
)
def test_the_middle_density_is_one_of_the_pruned(densities: list[float], expected: float) -> None:
    """The denser of two in the middle; 1 where nothing is pruned."""
    assert (
        median_density(cells_of(*({"density_asked": density} for density in densities))) == expected
    )


# Places are shared where intervals overlap, and held by those alone that may hold
# them.

USUAL = {name: "x" for name in TRACK} | {
    "protocol": 1,
    "control": "none",
    "density_asked": 0.1,
    "accuracy_n": 3,
    "runs": 3,
    "accuracy_half": 0.01,
    "not_at_initialization": 0,
}
FIVE = [("a", 0.95), ("b", 0.93), ("c", 0.90), ("d", 0.85), ("e", 0.80)]


def cells_of_groups(*cells: dict[str, Any]) -> pd.DataFrame:
    """Cells of a summary by their label; whole, at initialization and within 0.01 if not said."""
    named = [USUAL | {"method": cell["method_label"].partition("(")[0]} | cell for cell in cells]
    return pd.DataFrame(named)


def places(cells: pd.DataFrame, may_lead: list[bool | None] | None = None) -> dict[str, Any]:
    """The place of each cell by its label, None if it has none."""
    leads = None if may_lead is None else pd.Series(may_lead, index=cells.index, dtype="object")
    found = rank_groups(cells, leads)
    assert found.dtype == "Int64"
    return {
        label: None if pd.isna(place) else int(place)
        for label, place in zip(cells["method_label"], found, strict=True)
    }


def test_groups_by_hand() -> None:
    """b overlaps the best, c overlaps b and not the best, d overlaps c: places 1, 1, 3, 3, 5."""
    cells = cells_of_groups(
        {"method_label": "d", "accuracy_mean": 0.87},
        {"method_label": "a", "accuracy_mean": 0.92},
        {"method_label": "e", "accuracy_mean": 0.80},
        {"method_label": "c", "accuracy_mean": 0.885},
        {"method_label": "b", "accuracy_mean": 0.905},
    )
    assert places(cells) == {"a": 1, "b": 1, "c": 3, "d": 3, "e": 5}


def test_intervals_that_touch_overlap() -> None:
    """Closed intervals: 0.50 and 0.42 ± 0.04 share a point, though the sum of floats is below."""
    cells = cells_of_groups(
        {"method_label": "a", "accuracy_mean": 0.50}, {"method_label": "b", "accuracy_mean": 0.42}
    )
    cells["accuracy_half"] = 0.04
    assert 0.42 + 0.04 < 0.50 - 0.04
    assert places(cells) == {"a": 1, "b": 1}


def test_a_wide_interval_does_not_jump_over_a_better_mean() -> None:
    """c overlaps the best, but b, which does not, is better than c; c shares the place of b."""
    cells = cells_of_groups(
        {"method_label": "a", "accuracy_mean": 0.95},
        {"method_label": "b", "accuracy_mean": 0.90},
        {"method_label": "c", "accuracy_mean": 0.89, "accuracy_half": 0.2},
    )
    assert places(cells) == {"a": 1, "b": 2, "c": 2}


def test_what_has_no_place() -> None:
    """Dense, controls, rows not at initialization, lost runs, one run, nothing pruned."""
    cells = cells_of_groups(
        {"method_label": "dense", "accuracy_mean": 0.99, "density_asked": 1.0},
        {"method_label": "whole", "accuracy_mean": 0.98, "density_asked": 1.0},
        {"method_label": "snip", "accuracy_mean": 0.7},
        {"method_label": "survivor", "accuracy_mean": 0.97, "accuracy_n": 2},
        {"method_label": "single", "accuracy_mean": 0.97, "accuracy_half": float("nan"), "runs": 1}
        | {"accuracy_n": 1},
        {"method_label": "imp", "accuracy_mean": 0.96, "not_at_initialization": 1},
        {"method_label": "controlled", "accuracy_mean": 0.95, "control": "shuffle"},
        {"method_label": "lost", "accuracy_mean": float("nan"), "accuracy_n": 0},
        {"method_label": "random", "accuracy_mean": 0.6},
    )
    ranked = {label: place for label, place in places(cells).items() if place is not None}
    assert ranked == {"snip": 1, "random": 2}


def test_each_density_and_track_is_ranked_alone() -> None:
    """The same method is first at one density and second at the other."""
    cells = cells_of_groups(
        {"method_label": "a", "accuracy_mean": 0.9},
        {"method_label": "b", "accuracy_mean": 0.8},
        {"method_label": "a", "accuracy_mean": 0.5, "density_asked": 0.2},
        {"method_label": "b", "accuracy_mean": 0.8, "density_asked": 0.2},
        {"method_label": "b", "accuracy_mean": 0.1, "model": "other"},
    )
    assert list(rank_groups(cells)) == [1, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("may_lead", "expected"),
    [
        ([True] * 5, [1, 2, 3, 4, 5]),
        ([False] * 5, [4, 4, 4, 4, 5]),
        ([None] * 5, [4, 4, 4, 4, 5]),
        ([False, True, False, True, True], [4, 1, 4, 2, 3]),
        ([False, False, True, False, False], [4, 4, 1, 4, 5]),
        ([True, True, True, True, False], [1, 2, 3, 4, 5]),
    ],
    ids=["all", "none", "not known", "three of five", "one", "all but the last"],
)
def test_only_what_may_lead_holds_places_1_to_3(
    may_lead: list[bool | None], expected: list[int]
) -> None:
    """Five methods that nothing confuses; the others have their own place, at best the fourth."""
    cells = cells_of_groups(*({"method_label": m, "accuracy_mean": mean} for m, mean in FIVE))
    cells["accuracy_half"] = 0.001
    assert list(places(cells, may_lead).values()) == expected


def test_a_wide_leader_that_may_not_lead_promotes_nobody() -> None:
    """Among those that may lead e is fourth, and stays so though a's interval covers them all."""
    cells = cells_of_groups(*({"method_label": m, "accuracy_mean": mean} for m, mean in FIVE))
    cells["accuracy_half"] = [0.5, 0.001, 0.001, 0.001, 0.001]
    assert places(cells, [False, True, True, True, True]) == {
        "a": 4,
        "b": 1,
        "c": 2,
        "d": 3,
        "e": 4,
    }


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 100), st.integers(0, 20), st.booleans()), min_size=1, max_size=12
    )
)
def test_places_fall_with_the_mean(drawn: list[tuple[int, int, bool]]) -> None:
    """A better mean never has a worse place; the best is 1; places count those before."""
    cells = cells_of_groups(
        *(
            {"method_label": f"m{k}", "accuracy_mean": mean / 100, "accuracy_half": half / 100}
            for k, (mean, half, _) in enumerate(drawn)
        )
    )
    found = cells.assign(place=rank_groups(cells)).sort_values(
        ["accuracy_mean", "method_label"], ascending=[False, True]
    )
    ordered = [int(place) for place in found["place"]]
    assert ordered[0] == 1 and ordered == sorted(ordered)
    assert all(ordered.index(place) == place - 1 for place in ordered)
    leads = pd.Series([lead for *_, lead in drawn], index=cells.index)
    guarded = rank_groups(cells, leads)
    assert (guarded[~leads] > 3).all()
    assert (guarded >= 1).all() and (not leads.any() or guarded.min() == 1)


def test_classes() -> None:
    """A row with one ticket from other weights is elsewhere as a whole; its reinit is a control."""
    cells = cells_of_groups(
        {"method_label": "dense", "density_asked": 1.0},
        {"method_label": "random"},
        {"method_label": "random(layers=erk)"},
        {"method_label": "snip"},
        {"method_label": "snip", "control": "shuffle"},
        {"method_label": "random", "control": "shuffle"},
        {"method_label": "imp", "density_asked": 0.5},
        {"method_label": "imp", "density_asked": 0.1, "not_at_initialization": 1},
        {"method_label": "imp", "control": "reinit"},
        {"method_label": "imp", "model": "other"},
    )
    at, late = "at initialization", "not at initialization"
    assert list(row_class(cells)) == [
        *("reference", "reference", at, at, "control", "control"),
        *(late, late, "control", at),
    ]


def test_supermasks_scored_without_training() -> None:
    """Mean, half width and number of native accuracies, at the density that the search chose."""
    usual: dict[str, Any] = {name: "x" for name in TRACK}
    usual |= {"evaluated_on": "test", "data_fingerprint": "f" * 64}
    usual |= {"protocol": 1, "density_asked": 0.1, "control": "none", "status": "done"}
    rows = [
        usual
        | {"method_label": label, "method": label, "seed": seed, "native_accuracy": native}
        | {"native_density": 0.5 + 0.1 * seed}
        for label, natives in [("zhou", (0.9, 0.92, 0.94)), ("snip", (None, None, None))]
        for seed, native in enumerate(natives)
    ]
    [found] = supermasks(tabulate(rows)).to_dict("records")
    t = 0.95 * (2 / (4 * 0.975 * 0.025)) ** 0.5
    assert (found["method_label"], found["n"]) == ("zhou", 3)
    assert found["mean"] == pytest.approx(0.92, abs=1e-12)
    assert found["half"] == pytest.approx(t * 0.02 / 3**0.5, abs=1e-12)
    assert found["native_density"] == pytest.approx(0.6, abs=1e-12)


def test_no_cells_have_no_places() -> None:
    """An empty summary gives empty columns."""
    cells = cells_of_groups({"method_label": "a", "accuracy_mean": 0.5}).iloc[:0]
    assert len(rank_groups(cells)) == len(row_class(cells)) == 0
    assert rank_groups(cells).dtype == "Int64"
