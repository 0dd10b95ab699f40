"""Means, intervals and counts: equal to scipy's and to sums done by hand."""

import math
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from paibench.benchmark.record import PROTOCOL, Record
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.stats.summary import (
    ENVIRONMENT,
    Track,
    environments,
    mixed_environments,
    summarize,
    tracks,
)

RecordFactory = Callable[..., Record]
LOST: dict[str, Any] = {"accuracy": None, "accuracy_untrained": None, "reason": "it was lost"}


def summary_of(*records: Record) -> pd.DataFrame:
    return summarize(tabulate(map(row_of, records)))


def test_interval_by_hand(record_factory: RecordFactory) -> None:
    """The t interval of ln(right / wrong), half an example added to both, as accuracies."""
    accuracies = [0.90, 0.92, 0.94]
    cells = summary_of(
        *(
            record_factory(seed=seed, accuracy=accuracy, test_examples=1000)
            for seed, accuracy in enumerate(accuracies)
        )
    )
    odds = [math.log((1000 * a + 0.5) / (1000 - 1000 * a + 0.5)) for a in accuracies]
    ends = stats.t.interval(0.95, 2, loc=sum(odds) / 3, scale=stats.sem(odds))
    cell = cells.iloc[0]
    assert len(cells) == 1
    assert (cell["accuracy_n"], cell["runs"], cell["done"]) == (3, 3, 3)
    assert cell["accuracy_mean"] == pytest.approx(0.92, abs=1e-15)
    assert cell["accuracy_std"] == pytest.approx(0.02, abs=1e-15)
    assert cell["accuracy_log_odds"] == pytest.approx(sum(odds) / 3)
    expected = [1 / (1 + math.exp(-end)) for end in ends]
    assert [cell["accuracy_low"], cell["accuracy_high"]] == pytest.approx(expected)


def test_equal_runs_have_an_interval(record_factory: RecordFactory) -> None:
    """The variance is at least that of the choice of the test images."""
    cell = summary_of(
        *(record_factory(seed=seed, accuracy=0.9, test_examples=1000) for seed in range(3))
    ).iloc[0]
    half = stats.t.ppf(0.975, 2) * math.sqrt((1 / 900.5 + 1 / 100.5) / 3)
    expected = 1 / (1 + math.exp(-math.log(900.5 / 100.5) - half))
    assert cell["accuracy_std"] == 0
    assert cell["accuracy_high"] == pytest.approx(expected)


@pytest.mark.parametrize("accuracy", [0.0, 0.001, 0.999, 1.0])
def test_no_interval_leaves_the_range(record_factory: RecordFactory, accuracy: float) -> None:
    """Not even if one run has an accuracy of a half and the other is at the end."""
    cell = summary_of(
        record_factory(seed=0, accuracy=accuracy), record_factory(seed=1, accuracy=0.5)
    ).iloc[0]
    assert 0 <= cell["accuracy_low"] < cell["accuracy_high"] <= 1


def test_one_run_has_a_mean_and_no_interval(record_factory: RecordFactory) -> None:
    """A spread cannot be told from one number."""
    cell = summary_of(record_factory(accuracy=0.9)).iloc[0]
    assert (cell["accuracy_n"], cell["accuracy_mean"]) == (1, 0.9)
    assert cell[["accuracy_std", "accuracy_low", "accuracy_high"]].isna().all()


def test_outcomes_are_counted_and_not_averaged(record_factory: RecordFactory) -> None:
    """A diverged run counts as one; its accuracy is averaged only where it has one."""
    cell = summary_of(
        record_factory(seed=0, accuracy=0.8),
        record_factory(seed=1, status="diverged", **LOST),
        record_factory(seed=2, status="diverged", reason="late", accuracy=0.4),
        record_factory(seed=3, status="failed", reason="raised", accuracy=0.1),
        record_factory(seed=4, status="skipped", **LOST),
    ).iloc[0]
    counts = [cell[name] for name in ("runs", "done", "diverged", "failed", "skipped", "missing")]
    assert counts == [5, 1, 2, 1, 1, 0]
    assert cell["accuracy_n"] == 2
    assert cell["accuracy_mean"] == pytest.approx(0.6, abs=1e-15)


def test_cells_differ_in_everything_but_the_seed(record_factory: RecordFactory) -> None:
    """Density, control, options, init and protocol each make a cell of their own."""
    found = summary_of(
        record_factory(seed=0),
        record_factory(seed=1),
        record_factory(density=0.2),
        record_factory(control="shuffle"),
        record_factory(method={"name": "snip", "per_class": 2}),
        record_factory(init="xavier_normal"),
        record_factory(seed=2, protocol=PROTOCOL - 1),
    )
    assert sorted(found["runs"]) == [1, 1, 1, 1, 1, 2]
    assert len(list(tracks(found))) == 3


def test_unlike_environments_are_named(record_factory: RecordFactory) -> None:
    """What differs stands in the cell; a run that gave nothing to average does not count."""
    found = summary_of(
        record_factory(seed=0, environment={"threads": 1}),
        record_factory(seed=1, environment={"threads": 2}),
        record_factory(density=0.2, seed=0),
        record_factory(density=0.2, seed=1, status="failed", environment={"threads": 2}, **LOST),
    )
    assert list(found["unlike"]) == ["", "threads: 1, 2"]


def test_other_environments_than_those_of_random_are_named(record_factory: RecordFactory) -> None:
    """The environments of a cell are compared with those of the cell of random."""
    found = summary_of(
        *(
            record_factory(method=method, density=density, seed=seed, environment={"threads": k})
            for method in ("snip", "random")
            for density in (0.1, 0.2)
            for seed in (0, 1)
            for k in [3 if (method, density) == ("snip", 0.2) else 1 + seed]
        )
    ).set_index(["method", "density_asked"])
    assert found.loc[("snip", 0.1), "floor_unlike"] == ""
    assert found.loc[("snip", 0.1), "unlike"] == "threads: 1, 2"
    assert found.loc[("snip", 0.2), "floor_unlike"] == "threads: 1, 2, 3"
    assert found.loc[("random", 0.1), "floor_unlike"] == ""


def test_tickets_not_at_initialization_are_counted(record_factory: RecordFactory) -> None:
    """Of three runs of a cell one says that it is not, one says nothing."""
    found = summary_of(
        *(record_factory(seed=s, at_initialization=at) for s, at in enumerate([True, False, None]))
    )
    assert list(found["not_at_initialization"]) == [1]


def test_other_means(record_factory: RecordFactory) -> None:
    """Cost, effective density, untrained and native accuracy are means; collapse is a count."""
    cell = summary_of(
        *(
            record_factory(
                seed=seed,
                search_epochs=1.0 + seed,
                density_effective=0.05 + 0.02 * seed,
                accuracy_untrained=0.2 + 0.2 * seed,
                native_accuracy=0.5,
                collapsed=["fc1.weight"] * seed,
            )
            for seed in range(2)
        )
    ).iloc[0]
    assert cell["search_epochs"] == 1.5
    assert cell["density_effective"] == pytest.approx(0.06, abs=1e-15)
    assert cell["accuracy_untrained_mean"] == pytest.approx(0.3, abs=1e-15)
    assert (cell["native_accuracy_mean"], cell["native_accuracy_n"]) == (0.5, 2)
    assert cell["collapsed"] == 1


def test_no_runs_make_an_empty_summary() -> None:
    """With its columns, and no tracks."""
    found = summary_of()
    assert len(found) == 0
    assert {"accuracy_mean", "accuracy_low", "floor_unlike", "unlike"} <= set(found.columns)
    assert list(tracks(found)) == []


@pytest.mark.parametrize(
    ("track", "slug"),
    [
        (Track("d", "m-1", "r", "i_n", "test", PROTOCOL), "d-m-1-r-i_n"),
        (Track("d", "m", "r", "i", "validation", 1), "d-m-r-i-validation-protocol1"),
    ],
    ids=["usual", "unusual"],
)
def test_slugs_say_what_is_unusual(track: Track, slug: str) -> None:
    """Test split and the present protocol go without saying; a digest ends each slug."""
    name, _, digest = track.slug.rpartition("-")
    assert (name, bool(re.fullmatch("[0-9a-f]{8}", digest))) == (slug, True)


def test_slugs_that_would_be_alike_stay_apart() -> None:
    """Also joined names, and those that a file cannot have; nothing leads out of a folder."""
    joined = {
        Track("a-b", "c", "r", "i", "test", 1).slug,
        Track("a", "b-c", "r", "i", "test", 1).slug,
    }
    assert len(joined) == 2
    slugs = {Track(name, "m", "r", "i", "test", 1).slug for name in ("../a", "a", "A", "a/", "å")}
    assert len(slugs) == 5
    assert all(set(slug) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-") for slug in slugs)
    assert not any(slug.startswith(".") for slug in slugs)


# test_alike: Runs are alike in all that may change a result, and in nothing else.

COMMIT, OTHER = "0123456789" * 4, "9876543210" * 4


def runs_of(*records: Record) -> pd.DataFrame:
    return tabulate(map(row_of, records))


@pytest.mark.parametrize(
    ("model", "first", "second", "said"),
    [
        ("m", {"host": "a"}, {"host": "b"}, ""),
        ("m", {"device": "cpu"}, {"device": "cuda"}, "device: cpu, cuda"),
        ("m", {"torch": "2.9"}, {"torch": "2.10"}, "torch: 2.10, 2.9"),
        ("m", {"cuda": "13.0"}, {}, "cuda: 13.0, none"),
        ("m", {"timm": "1"}, {"timm": "2"}, ""),
        ("timm:x", {"timm": "1"}, {"timm": "2"}, "timm: 1, 2"),
        ("m", {}, {"commit": COMMIT}, "paibench: 0.1.0, 0.1.0 at 01234567"),
        ("m", {"commit": COMMIT, "dirty": False}, {"commit": COMMIT}, ""),
        (
            "m",
            {"commit": COMMIT, "dirty": True},
            {"commit": OTHER, "dirty": False},
            "paibench: 0.1.0 at 01234567 with changes, 0.1.0 at 98765432",
        ),
        (
            "m",
            {"paibench": "1", "plugin_version": "1"},
            {"paibench": "2", "plugin_version": "2"},
            "paibench: 1, 2",
        ),
        ("m", {"plugin": "p"}, {"plugin": "q"}, "plugin: p 0.1.0, q 0.1.0"),
        (
            "m",
            {"threads": 1, "device": "a"},
            {"threads": 2, "device": "b"},
            "device: a, b; threads: 1, 2",
        ),
    ],
    ids=[
        "host", "device", "torch", "cuda", "timm-of-others", "timm", "no-commit", "same-commit",
        "dirty", "version-said-once", "plugin", "two",
    ],
)  # fmt: skip
def test_what_differs_is_said(
    record_factory: RecordFactory,
    model: str,
    first: dict[str, Any],
    second: dict[str, Any],
    said: str,
) -> None:
    """Each part by its name with all its values, once; what cannot change a result is silent."""
    runs = runs_of(
        *(record_factory(model=model, seed=s, environment=e) for s, e in enumerate([first, second]))
    )
    runs[ENVIRONMENT] = environments(runs)
    assert list(mixed_environments(runs, ["model", "method"])) == [said]


def test_no_runs_have_no_environments() -> None:
    """An empty frame gives one with all columns."""
    assert list(environments(runs_of()).columns) == ENVIRONMENT
