"""Every run of a frame for `run.html`, in small scripts by the first digits of the key.

A page from a folder may load scripts but fetch nothing, so each shard is a script that hands its
runs to `paibenchRuns`. A column that is equal in all runs of a shard stands once, one with
few values as a pool and places in it.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

import pandas as pd

from paibench.benchmark.seal import Corrupt
from paibench.benchmark.store import Store
from paibench.leaderboard.columns import COLUMNS
from paibench.leaderboard.site.board import clean
from paibench.leaderboard.site.command import command
from paibench.methods.registry import UserError

_RUNS = 500  # in a shard, about; more digits where there would be more
_POINTS = 200
_ASKED = ["key", "dataset", "model", "recipe", "init", "method_label", "control", "density_asked",
          "seed"]  # fmt: skip
_DERIVED = [name for name in COLUMNS if name.endswith("_percent")] + ["compression"]


def digits(count: int) -> int:
    """By how many digits of the key so many runs are sharded."""
    return 2 if count <= _RUNS * 256 else 3


def shards(
    runs: pd.DataFrame, stores: Sequence[Store], masks: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of each shard; curves are read from the stores.

    `masks` has the sha256 of each mask file that the site offers, by key.
    """
    runs = runs.sort_values("key", kind="stable").drop_duplicates("key")
    names = [name for name in runs.columns if name not in ("key", *_DERIVED)]
    values = {name: _plain(runs[name]) for name in names}
    keys = runs["key"].tolist()
    asked = zip(*(runs[name].tolist() for name in _ASKED), strict=True)
    values["command"] = [command(dict(zip(_ASKED, run, strict=True))) for run in asked]
    values["mask_offered"] = [masks.get(key) for key in keys]
    length = digits(len(keys))
    end = 0
    for prefix, group in groupby(keys, lambda key: str(key)[:length]):
        start, end = end, end + len(list(group))
        columns = {name: _packed(column[start:end]) for name, column in values.items()}
        files = zip(keys[start:end], values["curve_file"][start:end], strict=True)
        columns["curve"] = _packed([_curve(stores, key, name) for key, name in files])
        shard = {"keys": keys[start:end], "columns": columns}
        text = json.dumps(shard, sort_keys=True, separators=(",", ":"), allow_nan=False)
        yield f"{prefix}.js", f"paibenchRuns({text});\n".encode("ascii")


def _plain(values: pd.Series) -> list[Any]:
    """The values of a column as JSON has them: text clean, None for what is not there."""
    found = values.astype("object").where(values.notna(), None).tolist()
    return [_value(value) for value in found]


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_value(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _packed(values: list[Any]) -> dict[str, Any]:
    """A column in its shortest form: `same`, `pool` and `at`, or `all`."""
    pool: dict[Any, int] = {}
    at = [pool.setdefault(_hashable(value), len(pool)) for value in values]
    if len(pool) == 1:
        return {"same": values[0]}
    if 2 * len(pool) > len(values):
        return {"all": values}
    first = {place: value for place, value in zip(reversed(at), reversed(values), strict=True)}
    return {"pool": [first[place] for place in range(len(pool))], "at": at}


def _hashable(value: Any) -> Any:
    # With its type, as True and 1 and 1.0 are equal.
    return (type(value).__name__, json.dumps(value) if isinstance(value, list | dict) else value)


def _curve(stores: Sequence[Store], key: str, name: Any) -> dict[str, list[Any]] | None:
    """The accuracies and losses of a run by epoch, thinned out; None where they cannot be read."""
    points = None
    for store in stores if isinstance(name, str) else ():
        with suppress(OSError, Corrupt, ValueError, RecursionError, UserError):
            points = json.loads(store.read_file(key, name))
            break
    if not isinstance(points, list) or not all(isinstance(point, Mapping) for point in points):
        return None
    step = max(1, math.ceil(len(points) / _POINTS))
    kept = points[::-1][::step][::-1]  # the last one always
    found = {
        field: [_rounded(point.get(field)) for point in kept]
        for field in ("epoch", "accuracy", "train_loss", "loss")
    }
    return found if any(value is not None for value in found["accuracy"]) else None


def _rounded(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None
    return float(f"{value:.5g}")
