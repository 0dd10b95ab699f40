"""Which runs were made alike: the parts of their environments that may change a result."""

import pandas as pd

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


def unlike(runs: pd.DataFrame, by: list[str]) -> pd.Series:
    """In what the runs of each group differ, from their `parts`: "device: cpu, cuda"."""
    ours = runs.set_index(by)[ALIKE]
    return _said(ours, ours.groupby(level=by).nunique() > 1)


def unlike_pairs(pairs: pd.DataFrame, suffix: str, by: list[str]) -> pd.Series:
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
