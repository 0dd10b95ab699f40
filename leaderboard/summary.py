"""The runs of one cell of the leaderboard in numbers: means, intervals, and what is not there."""

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from paibench.leaderboard.alike import ALIKE, parts, unlike, unlike_pairs

TRACK = ["dataset", "model", "recipe", "init", "split", "protocol"]
CELL = [*TRACK, "method", "method_label", "control", "density_asked"]
MEASURES = ("accuracy", "accuracy_untrained", "native_accuracy")
OUTCOMES = ("done", "diverged", "failed", "skipped", "missing")
_COUNTED = ("collapsed", "conflicts", "not_at_initialization")
_WORDS = ["unlike", "random_unlike"]


class Track(NamedTuple):
    """What all rows of one table have in common, by the columns named in `TRACK`."""

    dataset: str
    model: str
    recipe: str
    init: str
    split: str
    protocol: int

    @property
    def slug(self) -> str:
        """A part of a file name, of a-z 0-9 _ . and -; with a digest where it had to be bent."""
        parts = [self.dataset, self.model, self.recipe, self.init]
        parts += [self.split] if self.split != "test" else []
        parts += [f"protocol{self.protocol}"] if self.protocol != 1 else []
        text = "-".join(parts)
        slug = re.sub(r"[^a-z0-9_.]+", "-", text.lower())[:100].strip("-.")
        return slug if slug == text else f"{slug}-{self.digest}"

    @property
    def digest(self) -> str:
        """8 hexadecimal digits of this track, to tell two with one slug apart."""
        return sha256(repr(tuple(self)).encode()).hexdigest()[:8]


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per cell: the runs of a frame that differ in nothing but their seed.

    Columns: those of `CELL`; `sparsity` and `compression` as asked for; `runs` and how many of
    them are done, diverged, failed, skipped, missing; `collapsed`, the runs with a layer that
    keeps nothing; `conflicts`, those that came out different when run again;
    `not_at_initialization`, those whose ticket starts from other weights; `unlike`, in what the
    environments of what is averaged differ; `prunable`; the means of `density`,
    `density_effective` and `search_epochs`; per measure of `MEASURES` `_n`, `_mean`, `_std` (of
    n - 1) and `_half`, half the width of the 95 % t interval (none for n < 2); `random_n`,
    `random_difference`, `random_half`: the same of accuracy minus that of `random` at equal
    density and seed; `random_unlike`, in what such pairs differ.
    Accuracies are fractions. Only done and diverged runs have any; without one they just count.
    """
    ended = runs["status"].isin(["done", "diverged"])
    measured = runs.assign(**{name: runs[name].where(ended) for name in MEASURES})
    for outcome in OUTCOMES:
        measured[outcome] = measured["status"] == outcome
    measured["collapsed"] = measured["collapsed"].str.len() > 0
    measured["conflicts"] = measured["conflict"].notna()
    measured["not_at_initialization"] = ~measured["at_initialization"].fillna(True)
    measured[ALIKE] = parts(measured)
    averaged = measured[measured[[*MEASURES]].notna().any(axis=1)]
    groups = measured.groupby(CELL)
    cells = pd.concat(
        [
            groups.size().rename("runs"),
            groups[[*OUTCOMES, *_COUNTED]].sum().astype("int64"),
            unlike(averaged, CELL).rename("unlike"),
            groups["prunable"].max(),
            groups[["density", "density_effective", "search_epochs"]].mean(),
            *(_statistics(measured, name) for name in MEASURES),
            _against_random(measured),
        ],
        axis=1,
    ).reset_index()
    cells["random_n"] = cells["random_n"].fillna(0).astype("int64")
    cells[_WORDS] = cells[_WORDS].astype("str").fillna("")
    cells.insert(len(CELL), "sparsity", (1 - cells["density_asked"]).round(12))
    cells.insert(len(CELL) + 1, "compression", 1 / cells["density_asked"])
    order = [*TRACK, "method", "method_label", "control"]
    falling = [True] * len(order) + [False]
    return cells.sort_values([*order, "density_asked"], ascending=falling, ignore_index=True)


def tracks(summary: pd.DataFrame) -> Iterator[tuple[Track, pd.DataFrame]]:
    """The cells of each track, in the order of their names."""
    for key, cells in summary.groupby(TRACK):
        dataset, model, recipe, init, split, protocol = map(str, key)
        yield Track(dataset, model, recipe, init, split, int(protocol)), cells


def of_track(frame: pd.DataFrame, track: Track) -> pd.DataFrame:
    """The rows of one track, of a frame that has the columns of `TRACK`."""
    own = pd.Series(True, frame.index)
    for name, value in zip(TRACK, track, strict=True):
        own &= frame[name] == value
    return frame[own]


def half_width(std: pd.Series, n: pd.Series) -> pd.Series:
    """Half the width of the 95 % t interval of a mean, from the deviation (of n - 1) and n.

    Not a number where n < 2: one run says nothing of the spread.
    """
    quantile = pd.Series(stats.t.ppf(0.975, (n - 1).where(n > 1)), index=n.index)
    half: pd.Series = quantile * std / np.sqrt(n)
    return half


def _statistics(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    found = runs.groupby(CELL)[name].agg(["count", "mean", "std"])
    found["half"] = half_width(found["std"], found["count"])
    return found.rename(columns={"count": "n"}).add_prefix(f"{name}_")


def _against_random(runs: pd.DataFrame) -> pd.DataFrame:
    """What a method gains over random pruning, in pairs of runs of one density and one seed."""
    pair = [*TRACK, "density_asked", "seed"]
    is_floor = (runs["method_label"] == "random") & (runs["control"] == "none")
    floor = runs.loc[is_floor, [*pair, "accuracy", *ALIKE]]
    pairs = runs[~is_floor].merge(floor, on=pair, suffixes=("", "_of_random"))
    pairs = pairs.dropna(subset=["accuracy", "accuracy_of_random"])
    pairs["random"] = pairs["accuracy"] - pairs["accuracy_of_random"]
    found = _statistics(pairs, "random").drop(columns="random_std")
    found["random_unlike"] = unlike_pairs(pairs, "_of_random", CELL)
    return found.rename(columns={"random_mean": "random_difference"})
