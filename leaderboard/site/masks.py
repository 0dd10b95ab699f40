"""The masks that a site offers for download: small ones of small stores, with their sha256."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from paibench.benchmark.commit import read
from paibench.benchmark.entries import check_hash
from paibench.benchmark.naming import check_name
from paibench.benchmark.seal import Corrupt
from paibench.benchmark.store import Store
from paibench.methods.registry import UserError

_MIB = 2**20
_RUNS = 2_000  # a larger store would take long, and its site too much room
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
    if len(runs) > _RUNS:
        left_out.append(f"no mask to download: the site has more than {_RUNS:,} runs")
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
