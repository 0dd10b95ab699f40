"""What a leaderboard does not show as a number, and why: one line for what shares a reason."""

import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from paibench.leaderboard.format import sparsity_percent
from paibench.leaderboard.frame.load import Frame

_BY = ["status", "dataset", "model", "method_label", "control", "density_asked", "reason"]

_LATER = re.compile(r"schema \d+")


def missing_results(frame: Frame) -> Iterable[str]:
    """The runs without an accuracy and the files that cannot be read."""
    runs = frame.runs
    lost = runs[runs["accuracy"].isna()]
    lost = lost.assign(reason=lost["reason"].fillna("no reason given"))
    told = lost[lost["status"] != "missing"]
    for key, group in told.groupby(_BY):
        status, dataset, model, label, control, density, reason = map(str, key)
        name = label if control == "none" else f"{label}, {control}"
        yield (
            f"{status}: {name} at {sparsity_percent(float(density))} sparsity, "
            f"{model} on {dataset}, {_seeds(group['seed'])}: {reason}"
        )
    for key, group in lost[lost["status"] == "missing"].groupby(["dataset", "model"]):
        dataset, model = map(str, key)
        yield f"missing: {len(group)} runs of {model} on {dataset} that a sweep asks for"
    later = Counter(match[0] for _, reason in frame.problems if (match := _LATER.match(reason)))
    for schema, number in sorted(later.items()):
        yield f"unreadable: {number} records of {schema}, later than this program; update paibench"
    for path, reason in frame.problems:
        if not _LATER.match(reason):
            yield f"unreadable: {path.parent.name}/{path.name}: {reason}"


def _seeds(seeds: pd.Series) -> str:
    found = sorted(map(int, seeds))
    if len(found) == 1:
        return f"seed {found[0]}"
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return f"seeds {', '.join(map(str, found[:10]))}{more}"
