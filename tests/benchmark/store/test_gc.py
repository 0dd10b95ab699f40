"""Cleaning a store removes old, unused stages, and nothing else."""

import os
import time
from pathlib import Path

import pytest

from paibench.benchmark.store import lease
from paibench.benchmark.store.gc import remove_old_stages
from paibench.benchmark.store.store import Store

DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store with two stages and one that is being computed."""
    store = Store.open(tmp_path / "store")
    for name in ("old", "new"):
        store.publish_stage("ab" * 20, name, b"stage")
    before = time.time() - 2 * DAY
    os.utime(store.stage_path("ab" * 20, "old"), (before, before))
    folder = store.stage_path("ab" * 20, "at-work").with_suffix("")
    folder.mkdir()
    assert lease.acquire(folder, "me")
    return store


def test_old_stages_are_removed(store: Store) -> None:
    """A stage that has not been used for the given time is removed; the other one stays."""
    assert remove_old_stages(store, DAY) == 1
    assert store.read_stage("ab" * 20, "old") is None
    assert store.read_stage("ab" * 20, "new") == b"stage"


def test_a_stage_in_progress_stays(store: Store) -> None:
    """The lease of a stage in progress stays, and empty folders of other stages are removed."""
    empty = store.stage_path("ab" * 20, "old").with_suffix("")
    empty.mkdir()
    remove_old_stages(store, 0.0)
    assert not empty.exists()
    assert (store.stage_path("ab" * 20, "at-work").with_suffix("") / "claim").exists()


def test_reading_is_using(store: Store) -> None:
    """A stage that was read recently is in use, if the file system stores access times."""
    path = store.stage_path("ab" * 20, "old")
    os.utime(path, (time.time(), path.stat().st_mtime))
    assert remove_old_stages(store, DAY) == 0
