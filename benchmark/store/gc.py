"""Removal of cached stages, which save work and are not results."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from paibench.benchmark.store import lease
from paibench.benchmark.store.atomic import server_time
from paibench.benchmark.store.store import Store


def remove_old_stages(store: Store, older: float) -> int:
    """Remove the stages that no search has used for `older` seconds; return how many.

    A stage that is being computed stays. A search that needs a removed one computes it again.
    """
    now, removed = server_time(store.root), 0
    for path in (store.root / "stages").glob("*/*/*.safetensors"):
        with suppress(OSError):  # another process removed it, or it is not ours
            if now - _last_use(path) > older:
                os.unlink(path)
                removed += 1
    for folder in (store.root / "stages").glob("*/*/*/"):
        info = lease.inspect(folder, now)
        if (info is None or info.expired) and now - folder.stat().st_mtime > older:
            shutil.rmtree(folder, ignore_errors=True)
    return removed


def _last_use(path: Path) -> float:
    status = os.stat(path)
    # many file systems are mounted without access times; then the time of writing counts
    return max(status.st_mtime, status.st_atime)
