"""The summary: one row per cell of the leaderboard, with means, intervals and counts."""

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

import pandas as pd

from paibench.benchmark.record import PROTOCOL
from paibench.benchmark.spec import SETTING
from paibench.leaderboard.stats.log_odds import interval, on_scale, sample_of, samples

TRACK = [*SETTING, "split", "protocol"]
CELL = [*TRACK, "method", "method_label", "control", "density_asked"]
MEASURES = ("accuracy", "accuracy_untrained", "native_accuracy")
POINT = 0.01
"""One point of accuracy, as a fraction."""
OTHER_DENSITY = 0.01
"""A density that is farther than this from the one asked for, as a part of it, is another one."""
ROUNDING = 1e-12
"""Smaller differences of accuracies are rounding errors of floats."""
OUTCOMES = ("done", "diverged", "failed", "skipped", "missing")
LOST = OUTCOMES[1:]
"""The outcomes that give no accuracy."""
_COUNTED = ("collapsed", "conflicts", "not_at_initialization")
_WORDS = ["unlike", "floor_unlike"]


class Track(NamedTuple):
    """The values of the columns `TRACK`, which all rows of one table share."""

    dataset: str
    model: str
    recipe: str
    init: str
    split: str
    protocol: int

    @property
    def slug(self) -> str:
        """The part of file names that stands for the track, of a-z 0-9 _ . and -.

        It depends on the track alone, so that an address stays when other tracks join.
        """
        parts = [self.dataset, self.model, self.recipe, self.init]
        # The usual split and protocol are left out to keep names short.
        parts += [self.split] if self.split != "test" else []
        parts += [f"protocol{self.protocol}"] if self.protocol != PROTOCOL else []
        # The name of a file has more parts, and most file systems allow 255 bytes.
        slug = re.sub(r"[^a-z0-9_.]+", "-", "-".join(parts).lower())[:100].strip("-.")
        # Different tracks may be alike up to here.
        return f"{slug}-{sha256(repr(tuple(self)).encode()).hexdigest()[:8]}"


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per cell, that is for all runs of a frame that differ only in their seed.

    Columns:
    - those of `CELL`, and `sparsity` and `compression` as asked for;
    - `runs`, and how many of them are done, diverged, failed, skipped or missing;
    - `collapsed`, the runs with an empty layer; `conflicts`, the runs that gave another result
      when they were run again; `not_at_initialization`, the runs whose ticket starts from other
      weights;
    - `unlike`, how the environments of the averaged runs differ;
    - `prunable`, `parameters`, and the means of `density`, `density_effective` and `search_epochs`;
    - for each measure of `MEASURES` `_n`, `_mean`, `_std` (with n - 1), and `_low` and `_high`, the
      ends of the 95 % interval (NaN for n < 2), from a t interval of log-odds, see `log_odds`;
    - `accuracy_log_odds`, the mean of the log-odds;
    - `floor_unlike`, how the environments differ from those of `random` at equal density.

    Accuracies are fractions. Only runs that are done or diverged can have one.
    """
    measured = runs.assign(**{name: runs[name].where(ended(runs)) for name in MEASURES})
    for outcome in OUTCOMES:
        measured[outcome] = measured["status"] == outcome
    # `.str.len()` counts the items of a list too, and a missing list compares as false.
    measured["collapsed"] = measured["collapsed"].str.len() > 0
    measured["conflicts"] = measured["conflict"].notna()
    # A run that failed has no ticket, so it says nothing about its weights.
    measured["not_at_initialization"] = ~measured["at_initialization"].fillna(True)
    measured[ENVIRONMENT] = environments(measured)
    # A run that gave nothing to average cannot mix environments.
    averaged = measured[measured[[*MEASURES]].notna().any(axis=1)]
    groups = measured.groupby(CELL)
    cells = pd.concat(
        [
            groups.size().rename("runs"),
            groups[[*OUTCOMES, *_COUNTED]].sum().astype("int64"),
            mixed_environments(averaged, CELL).rename("unlike"),
            # The size is equal in all runs of a cell, but failed runs do not record it.
            groups[["prunable", "parameters"]].max(),
            groups[["density", "density_effective", "search_epochs"]].mean(),
            *(_statistics(measured, name) for name in MEASURES),
        ],
        axis=1,
    ).reset_index()
    cells = cells.merge(_unlike_floor(averaged), on=CELL, how="left")
    cells[_WORDS] = cells[_WORDS].astype("str").fillna("")
    # In floats, 1 - 0.9 is 0.09999999999999998.
    cells.insert(len(CELL), "sparsity", (1 - cells["density_asked"]).round(12))
    cells.insert(len(CELL) + 1, "compression", 1 / cells["density_asked"])
    order = [*TRACK, "method", "method_label", "control"]
    falling = [True] * len(order) + [False]
    return cells.sort_values([*order, "density_asked"], ascending=falling, ignore_index=True)


def ended(runs: pd.DataFrame) -> pd.Series:
    """Return which runs trained to their end or until they diverged: others have no accuracy."""
    return runs["status"].isin(["done", "diverged"])


def tracks(summary: pd.DataFrame) -> Iterator[tuple[Track, pd.DataFrame]]:
    """Yield each track with its cells, in the order of their names."""
    for key, cells in summary.groupby(TRACK):
        dataset, model, recipe, init, split, protocol = map(str, key)
        yield Track(dataset, model, recipe, init, split, int(protocol)), cells


def of_track(frame: pd.DataFrame, track: Track) -> pd.DataFrame:
    """Return the rows of one track of a frame that has the columns of `TRACK`."""
    own = pd.Series(True, frame.index)
    for name, value in zip(TRACK, track, strict=True):
        own &= frame[name] == value
    return frame[own]


def reached(cells: pd.DataFrame) -> pd.Series:
    """Return the density at which a cell is shown: the one reached, if it is not the one asked for.

    Only masks of whole channels may keep fewer weights; for others the two differ by rounding.
    """
    other = (cells["density"] / cells["density_asked"] - 1).abs() > OTHER_DENSITY
    return cells["density"].where(other, cells["density_asked"])


def intervals(runs: pd.DataFrame, name: str, by: list[str]) -> pd.DataFrame:
    """Return `n`, `log_odds`, `low` and `high` of a measure for each group of equal values in `by`.

    `log_odds` is the mean; the others are the ends of its 95 % interval, as accuracies.
    """
    values = on_scale(runs[name], runs["test_examples"])
    cells = samples(pd.concat([runs[by], values], axis=1), by)
    low, high = interval(sample_of(cells))
    return pd.DataFrame({"n": cells["n"], "log_odds": cells["mean"], "low": low, "high": high})


def _statistics(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    groups = runs.groupby(CELL)[name]
    cells = intervals(runs, name, CELL).drop(columns="n")
    if name != "accuracy":
        cells = cells.drop(columns="log_odds")
    moments = {"n": groups.count(), "mean": groups.mean(), "std": groups.std()}
    return pd.DataFrame(moments).join(cells).add_prefix(f"{name}_")


# Environments: which runs may be averaged or compared without a mark.

ENVIRONMENT = ["device", "threads", "torch", "cuda", "timm", "paibench", "plugin"]


def environments(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the columns `ENVIRONMENT` of each run as text, equal for comparable environments.

    `paibench` is the code: version, commit, and whether there were uncommitted changes. `plugin` is
    set for a method that is not our own, `timm` for a model of timm; otherwise they are "none".
    """
    commit = (" at " + runs["commit"].str[:8]).fillna("")
    changes = pd.Series("", runs.index).mask(runs["dirty"].fillna(False), " with changes")
    plugin = runs["plugin"] + " " + runs["plugin_version"]
    # A version that cannot change the result of a run must not mark it.
    columns = runs[ENVIRONMENT].assign(
        timm=runs["timm"].where(runs["model"].str.startswith("timm:")),
        paibench=runs["paibench"] + commit + changes,
        plugin=plugin.where(runs["plugin"] != "paibench"),
    )
    return columns.astype("str").fillna("none")


def mixed_environments(runs: pd.DataFrame, by: list[str]) -> pd.Series:
    """Return how the `environments` of the runs of each group differ: "device: cpu, cuda"."""
    ours = runs.set_index(by)[ENVIRONMENT]
    return _in_words(ours, ours.groupby(level=by).nunique() > 1)


def _unlike_floor(runs: pd.DataFrame) -> pd.DataFrame:
    """Return how the environments of each cell differ from those of `random` at equal density."""
    at = [*TRACK, "density_asked"]
    is_floor = (runs["method_label"] == "random") & (runs["control"] == "none")
    own = runs.loc[~is_floor, [*CELL, *ENVIRONMENT]].drop_duplicates()
    floor = runs.loc[is_floor, [*at, *ENVIRONMENT]].drop_duplicates()
    beside = own[CELL].drop_duplicates().merge(floor, on=at)
    both = pd.concat([own.merge(beside[CELL].drop_duplicates()), beside]).set_index(CELL)
    counts = [
        frame.groupby(CELL)[ENVIRONMENT].nunique().reindex(both.index.unique())
        for frame in (both.reset_index(), own, beside)
    ]
    # If either lacks a value of the other, both together have more than one of them has.
    differ = (counts[0] > counts[1]) | (counts[0] > counts[2])
    return _in_words(both, differ).rename("floor_unlike").reset_index()


def _in_words(values: pd.DataFrame, differ: pd.DataFrame) -> pd.Series:
    """Return the values that differ in each group, in words; "" if none do."""
    words = pd.Series("", index=differ.index, dtype="str")
    for group in differ.index[differ.any(axis=1)]:
        mixed = values.loc[[group]]
        words[group] = "; ".join(
            f"{name}: {', '.join(sorted(mixed[name].unique()))}"
            for name in ENVIRONMENT
            if differ.loc[group, name]
        )
    return words
