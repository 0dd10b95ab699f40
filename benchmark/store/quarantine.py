"""What the owner of a run does about a broken file: move it aside, never delete it, try again."""

import os
from collections.abc import Callable
from contextlib import suppress
from errno import EIO
from pathlib import Path
from uuid import uuid4

from paibench.benchmark.store.atomic import Outcome, StoreError, create_once
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.benchmark.store.records import NewerSchema

Validator = Callable[[Path], object]
"""Reads a file and raises Corrupt where it is broken."""


def publish_sound(path: Path, data: bytes, judge: Validator, folder: Path) -> Outcome:
    """Publish; where a broken file has the name, move it to quarantine and try again."""
    for _ in range(3):
        if create_once(path, data) == "new":
            return "new"
        if not move_broken(path, judge, folder):
            return "already"
    raise StoreError(EIO, f"{str(path)!r} was broken three times in a row; check the disk")


def move_broken(path: Path, judge: Validator, folder: Path) -> bool:
    """Move a file to quarantine if it is broken; whether its name is free now."""
    if _is_sound(path, judge):
        return False
    with suppress(FileNotFoundError):
        aside = quarantine(path, folder)
        if _is_sound(aside, judge):  # another owner mended it between our look and our move
            with suppress(FileExistsError):
                os.link(aside, path)
                os.unlink(aside)
            return False
    return True


def quarantine(path: Path, folder: Path) -> Path:
    """Move whatever has this name to quarantine, under a name of its own, which is returned."""
    aside = folder / f"{path.name}.corrupt.{uuid4().hex}"
    os.rename(path, aside)
    return aside


def _is_sound(path: Path, judge: Validator) -> bool:
    try:
        judge(path)
    except NewerSchema:
        return True
    except (Corrupt, FileNotFoundError):
        return False
    return True
