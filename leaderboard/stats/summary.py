"""The runs of one cell of the leaderboard in numbers: means, intervals, and what is not there."""

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from paibench.benchmark.spec import SETTING

# What runs may differ in and still be averaged or compared, but never without a mark.
ALIKE = ["device", "threads", "torch", "cuda", "timm", "paibench", "plugin"]


def parts(runs: pd.DataFrame) -> pd.DataFrame:
    """The columns of `ALIKE` for each run, as text that is equal where the runs are alike.

    `paibench` is the code: version, commit, and whether it had changes. `plugin` is that of a
    method from elsewhere, `timm` its version where the model is timm's; "none" for all others.
    """
    commit = (" at " + runs["commit"].str[:8]).fillna("")
    changes = pd.Series("", runs.index).mask(runs["dirty"].fillna(False), " with changes")
    plugin = runs["plugin"] + " " + runs["plugin_version"]
    found = runs[ALIKE].assign(
        timm=runs["timm"].where(runs["model"].str.startswith("timm:")),
        paibench=runs["paibench"] + commit + changes,
        plugin=plugin.where(runs["plugin"] != "paibench"),
    )
    return found.astype("str").fillna("none")


def mixed_environments(runs: pd.DataFrame, by: list[str]) -> pd.Series:
    """In what the runs of each group differ, from their `parts`: "device: cpu, cuda"."""
    ours = runs.set_index(by)[ALIKE]
    return _said(ours, ours.groupby(level=by).nunique() > 1)


def mixed_pairs(pairs: pd.DataFrame, suffix: str, by: list[str]) -> pd.Series:
    """The same for pairs of runs, whose second has its `parts` in columns with a suffix.

    Pairs of one group may differ from each other; what counts is that the two of a pair do not.
    """
    ours = pairs.set_index(by)[ALIKE]
    theirs = pairs.set_index(by)[[f"{name}{suffix}" for name in ALIKE]].set_axis(ALIKE, axis=1)
    differ = (ours != theirs).groupby(level=by).any()
    return _said(pd.concat([ours, theirs]), differ)


def _said(values: pd.DataFrame, differ: pd.DataFrame) -> pd.Series:
    """The values of what differs in each group, in words; "" where nothing does."""
    said = pd.Series("", index=differ.index, dtype="str")
    for group in differ.index[differ.any(axis=1)]:
        mixed = values.loc[[group]]
        said[group] = "; ".join(
            f"{name}: {', '.join(sorted(mixed[name].unique()))}"
            for name in ALIKE
            if differ.loc[group, name]
        )
    return said


# summary: The runs of one cell of the leaderboard in numbers: means, intervals, and what is not
# there.

TRACK = [*SETTING, "split", "protocol"]
CELL = [*TRACK, "method", "method_label", "control", "density_asked"]
MEASURES = ("accuracy", "accuracy_untrained", "native_accuracy")
OUTCOMES = ("done", "diverged", "failed", "skipped", "missing")
LOST = OUTCOMES[1:]
"""The outcomes that give no accuracy."""
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
            mixed_environments(averaged, CELL).rename("unlike"),
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
    found["random_unlike"] = mixed_pairs(pairs, "_of_random", CELL)
    return found.rename(columns={"random_mean": "random_difference"})
