"""Folders on a disk, as the /dev/shm of the sandbox hides those of the other tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that a search in the sandbox can be given."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
