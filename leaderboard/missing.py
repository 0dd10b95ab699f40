"""The results that a leaderboard does not show: one line for those that share a reason."""

import re
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from paibench.leaderboard.format import row_name, sparsity_percent
from paibench.leaderboard.frame.load import Frame

_BY = ["status", "dataset", "model", "method_label", "control", "density_asked", "reason"]

_LATER = re.compile(r"schema \d+")


def missing_results(frame: Frame) -> Iterable[str]:
    """Yield a line for each group of runs without an accuracy, and for files not readable."""
    runs = frame.runs
    lost = runs[runs["accuracy"].isna()]
    # `groupby` would drop the runs without a reason.
    lost = lost.assign(reason=lost["reason"].fillna("no reason given"))
    ended = lost[lost["status"] != "missing"]
    for key, group in ended.groupby(_BY):
        status, dataset, model, label, control, density, reason = map(str, key)
        yield (
            f"{status}: {row_name(label, control)} at {sparsity_percent(float(density))} sparsity, "
            f"{model} on {dataset}, {_seeds(group['seed'])}: {reason}"
        )
    for key, group in lost[lost["status"] == "missing"].groupby(["dataset", "model"]):
        dataset, model = map(str, key)
        yield f"missing: {len(group)} runs of {model} on {dataset} that a sweep asks for"
    # A store of a later program would otherwise give a line for every record.
    later = Counter(match[0] for _, reason in frame.problems if (match := _LATER.match(reason)))
    for schema, number in sorted(later.items()):
        yield f"unreadable: {number} records of {schema}, later than this program; update paibench"
    for path, reason in frame.problems:
        if not _LATER.match(reason):
            yield f"unreadable: {path.parent.name}/{path.name}: {reason}"


def _seeds(seeds: pd.Series) -> str:
    numbers = sorted(map(int, seeds))
    if len(numbers) == 1:
        return f"seed {numbers[0]}"
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"seeds {', '.join(map(str, numbers[:10]))}{more}"
