"""The data of every run for `run.html`: its row, its curve, its command line and its mask.

A page that is opened from a folder may load scripts but not fetch files. The runs are therefore in
scripts, one for each prefix of keys, that call `paibenchRuns({key: {column: value}})`.
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
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_object_dtype, is_string_dtype

from paibench.benchmark.spec import DEFAULTS, KINDS, Named, Spec, read_option
from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.benchmark.store.names import check_name
from paibench.benchmark.store.records import check_hash
from paibench.benchmark.store.store import Store
from paibench.leaderboard.format import clean
from paibench.leaderboard.frame.columns import COLUMNS
from paibench.methods.core.registry import Kind, UserError
from paibench.methods.core.signature import ANY, Value

_FLAGS = {"method": "method", "dataset": "data", "model": "model", "recipe": "recipe"}
_MIB = 2**20
_MASK_RUNS = 2_000  # the masks of a larger store would take too much time and space
_LARGEST = 4 * _MIB
_TOTAL = 64 * _MIB
_ABSENT = "not in the store"
_RUNS = 500  # about the most runs of one script, which a browser loads to show one of them
_POINTS = 200  # of a curve
_OMITTED = {"key", "spec", "compression", *(name for name in COLUMNS if name.endswith("_percent"))}
"""Columns that the page shows in another form or computes."""


def runs_by_prefix(
    runs: pd.DataFrame, stores: Sequence[Store], mask_digests: Mapping[str, str]
) -> Iterator[tuple[str, bytes]]:
    """Yield each prefix of keys with the script of its runs. Values that are missing are omitted.

    Curves are read from the stores. `mask_digests` has the sha256 of each mask file that the site
    offers, by key.
    """
    # Several stores may have the same run.
    runs = runs.sort_values("key", kind="stable").drop_duplicates("key")
    names = [name for name in runs.columns if name not in _OMITTED]
    rows = zip(*(_plain(runs[name]) for name in names), strict=True)
    keyed = zip(runs["key"].tolist(), runs["spec"].tolist(), rows, strict=True)
    length = digits(len(runs))
    for prefix, group in groupby(keyed, lambda each: str(each[0])[:length]):
        script = {}
        for key, spec, row in group:
            values = dict(zip(names, row, strict=True))
            # The seeds and densities of a cell have one command.
            values["command"] = _command(json.dumps({**json.loads(spec), "density": 1, "seed": 0}))
            values["mask_offered"] = mask_digests.get(key)
            values["curve"] = _curve(stores, key, values["curve_file"])
            script[key] = {name: value for name, value in values.items() if value is not None}
        text = json.dumps(script, sort_keys=True, separators=(",", ":"), allow_nan=False)
        yield prefix, f"paibenchRuns({text});\n".encode("ascii")


def digits(count: int) -> int:
    """Return the length of the prefixes of keys for this number of runs."""
    return 2 if count <= _RUNS * 256 else 3


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


@cache
def _command(spec: str) -> str | None:
    return command(Spec.read(json.loads(spec)))


@cache  # a store has thousands of runs of few names
def _option_words(flag: str, option_flag: str, named: Named) -> tuple[str, ...] | None:
    """Return the words that select a name with its options; None if they cannot be typed."""
    kind = KINDS[flag]
    if not all(_can_be_typed(kind, named.name, *option) for option in named.options.items()):
        return None
    # The name of a function in a file is made from the file, which only its author has.
    name = "path/to/file.py:function" if named.name.startswith("local:") else named.name
    words = [f"--{flag}", name]
    for key, value in named.options.items():
        words += [f"--{option_flag}-option", f"{key}={_typed(value)}"]
    return tuple(words)


def _typed(value: Value) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _can_be_typed(kind: Kind, name: str, key: str, value: Value) -> bool:
    """Return whether `paibench run` reads the typed text back as this value."""
    try:
        read = read_option(kind, name, key, _typed(value))
    except UserError:  # a plugin that is not installed here
        read = ANY.read(_typed(value))
    return read == value and type(read) is type(value)


def masks(
    runs: pd.DataFrame, stores: Sequence[Store], left_out: list[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield the key and the mask file of each run whose mask the site offers for download.

    Masks that are missing or too large are counted in `left_out`, a line for each reason.
    """
    named = runs[runs["mask_file"].notna()].drop_duplicates("key").sort_values("key")
    if not stores or named.empty:
        return
    if len(runs) > _MASK_RUNS:
        left_out.append(f"no masks to download: the site has more than {_MASK_RUNS:,} runs")
        return
    total, reasons = 0, Counter[str]()
    for key, name in named[["key", "mask_file"]].values.tolist():
        mask = _mask(stores, key, name)
        if isinstance(mask, bytes) and total + len(mask) > _TOTAL:
            mask = f"all masks together would have more than {_TOTAL // _MIB} MiB"
        if isinstance(mask, str):
            reasons[mask] += 1
            continue
        total += len(mask)
        yield key, mask
    for reason, count in sorted(reasons.items()):
        left_out.append(f"no mask to download for {count:,} run{'s' * (count > 1)}: {reason}")


def _mask(stores: Sequence[Store], key: str, name: Any) -> bytes | str:
    """Return a mask file from the first store that has it, or why there is none to offer."""
    reason = _ABSENT
    for store in stores:
        mask = _read_mask(store, key, name)
        if isinstance(mask, bytes):
            return mask
        reason = mask if reason == _ABSENT else reason
    return reason


def _read_mask(store: Store, key: str, name: Any) -> bytes | str:
    try:
        path = store.run_folder(key) / check_name(name, "file name")
        # `lstat` does not follow a link, and `read` refuses one.
        if os.lstat(path).st_size > _LARGEST:
            return f"larger than {_LARGEST // _MIB} MiB"
        data = read(path, _LARGEST)
        check_hash(name, data)
    except (FileNotFoundError, NotADirectoryError):
        return _ABSENT
    except (Corrupt, UserError):
        return "the file in the store cannot be trusted"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return data


def _plain(values: pd.Series) -> list[Any]:
    """Return a column as JSON values: clean text, and None for missing values."""
    kind = values.dtype
    objects = values.astype("object").where(values.notna(), None).tolist()
    if is_string_dtype(kind) and not is_object_dtype(kind):
        # A column of a large site has few texts, or digests, which are cleaned as quickly.
        texts = {text: _value(text) for text in set(objects)}
        return [texts[text] for text in objects]
    if is_integer_dtype(kind) or is_bool_dtype(kind):
        return objects
    return [_value(value) for value in objects]


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [each if type(each) is int else _value(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has neither NaN nor infinity
    return value


def _curve(stores: Sequence[Store], key: str, name: Any) -> dict[str, list[Any]] | None:
    """Return accuracy and losses by epoch, thinned out, or None if they cannot be read."""
    points = None
    for store in stores if isinstance(name, str) else ():
        with suppress(OSError, Corrupt, ValueError, RecursionError, UserError):
            points = json.loads(store.read_file(key, name))
            break
    if not isinstance(points, list) or not all(isinstance(point, Mapping) for point in points):
        return None
    step = max(1, math.ceil(len(points) / _POINTS))
    sampled = points[::-1][::step][::-1]  # from the end, so that the last point is always kept
    curve = {
        field: [_rounded(point.get(field)) for point in sampled]
        for field in ("epoch", "accuracy", "train_loss", "loss")
    }
    return curve if any(value is not None for value in curve["accuracy"]) else None


def _rounded(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        return None
    # Five digits are more than a curve of 260 pixels shows, and halve the size of the file.
    return float(f"{value:.5g}")
