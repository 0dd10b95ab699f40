"""Clearing from a store what saves work and is no result."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from paibench.benchmark.store import lease
from paibench.benchmark.store.atomic import server_time
from paibench.benchmark.store.store import Store


def remove_old_stages(store: Store, older: float) -> int:
    """Remove shared stages that nobody has used for `older` seconds; how many.

    One that is being computed stays. A search that wants one later computes it again.
    """
    now, removed = server_time(store.root), 0
    for path in (store.root / "stages").glob("*/*/*.safetensors"):
        with suppress(OSError):  # gone, or not ours to remove
            if now - _last_use(path) > older:
                os.unlink(path)
                removed += 1
    for folder in (store.root / "stages").glob("*/*/*/"):
        held = lease.inspect(folder, now)
        if (held is None or held.expired) and now - folder.stat().st_mtime > older:
            shutil.rmtree(folder, ignore_errors=True)
    return removed


def _last_use(path: Path) -> float:
    found = os.stat(path)
    return max(found.st_mtime, found.st_atime)
