"""Every run of a frame for `run.html`, in small scripts by the first digits of the key.

A page from a folder may load scripts but fetch nothing, so each shard is a script that hands its
runs to `paibenchRuns`. A column that is equal in all runs of a shard stands once, one with
few values as a pool and places in it.
"""

import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import groupby
from typing import Any

import pandas as pd

from paibench.benchmark.spec import DEFAULTS, Named, Spec
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.benchmark.store.names import check_name
from paibench.benchmark.store.records import check_hash
from paibench.benchmark.store.store import Store
from paibench.leaderboard.format import clean
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.methods.core.registry import UserError
from paibench.methods.core.signature import Value

_FLAGS = {"method": "method", "dataset": "data", "model": "model", "recipe": "recipe"}


@cache  # a store has thousands of runs of few names
def _option_words(flag: str, option_flag: str, named: Named) -> tuple[str, ...] | None:
    """Return the words that select a name with its options; None if they cannot be typed."""
    if not all(map(_can_be_typed, named.options.values())):
        return None
    # The name of a function in a file is made from the file, which only its author has.
    name = "path/to/file.py:function" if named.name.startswith("local:") else named.name
    words = [f"--{flag}", name]
    for key, value in named.options.items():
        words += [f"--{option_flag}-option", f"{key}={_typed(value)}"]
    return tuple(words)


def command(spec: Spec) -> str | None:
    """Return the command line of a run without its density and seed.

    None if an option of the spec cannot be written on a command line.
    """
    words = ["paibench", "run"]
    for field, flag in _FLAGS.items():
        chosen = _option_words(field, flag, getattr(spec, field))
        if chosen is None:
            return None
        words += chosen
    for field in ("init", "control"):
        value = getattr(spec, field)
        words += [f"--{field}", value] if value != DEFAULTS[field] else []
    return shlex.join(words)


def _typed(value: Value) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _can_be_typed(value: Value) -> bool:
    """Whether `paibench run` reads this value back from what would be typed."""
    if not isinstance(value, str):
        return True
    try:
        float(value)
    except ValueError:
        return value.lower() not in ("true", "false", "none")
    return False


# masks: The masks that a site offers for download: small ones of small stores, with their sha256.

_MIB = 2**20
_MASK_RUNS = 2_000  # a larger store would take long, and its site too much room
_LARGEST = 4 * _MIB
_TOTAL = 64 * _MIB
_ABSENT = "not in the store"


def masks(
    runs: pd.DataFrame, stores: Sequence[Store], left_out: list[str]
) -> Iterator[tuple[str, bytes]]:
    """The key and the mask file of each run whose mask is in one of the stores and not too large.

    What is left out is added to `left_out`, a line for each reason.
    """
    named = runs[runs["mask_file"].notna()].drop_duplicates("key").sort_values("key")
    if not stores or named.empty:
        return
    if len(runs) > _MASK_RUNS:
        left_out.append(f"no mask to download: the site has more than {_MASK_RUNS:,} runs")
        return
    total, reasons = 0, Counter[str]()
    for key, name in named[["key", "mask_file"]].values.tolist():
        found = _mask(stores, key, name)
        if isinstance(found, bytes) and total + len(found) > _TOTAL:
            found = f"all together they would have more than {_TOTAL // _MIB} MiB"
        if isinstance(found, str):
            reasons[found] += 1
            continue
        total += len(found)
        yield key, found
    for reason, count in sorted(reasons.items()):
        left_out.append(f"no mask to download of {count:,} run{'s' * (count > 1)}: {reason}")


def _mask(stores: Sequence[Store], key: str, name: Any) -> bytes | str:
    """The bytes of a mask file from the first store that has it, or why there are none to offer."""
    reason = _ABSENT
    for store in stores:
        found = _read(store, key, name)
        if isinstance(found, bytes):
            return found
        reason = found if reason == _ABSENT else reason
    return reason


def _read(store: Store, key: str, name: Any) -> bytes | str:
    try:
        path = store.run_folder(key) / check_name(name, "file name")
        if os.lstat(path).st_size > _LARGEST:
            return f"larger than {_LARGEST // _MIB} MiB"
        data = read(path, _LARGEST)
        check_hash(name, data)
    except (FileNotFoundError, NotADirectoryError):
        return _ABSENT
    except (Corrupt, UserError):
        return "what is in the store cannot be trusted"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return data


# shards: Every run of a frame for `run.html`, in small scripts by the first digits of the key.

_RUNS = 500  # in a shard, about; more digits where there would be more
_POINTS = 200
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
    names = [name for name in runs.columns if name not in ("key", "spec", *_DERIVED)]
    values = {name: _plain(runs[name]) for name in names}
    keys = runs["key"].tolist()
    values["command"] = [command(Spec.read(json.loads(text))) for text in runs["spec"]]
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
