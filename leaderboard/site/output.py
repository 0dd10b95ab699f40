"""Files of a site put in their places, and those of an earlier build that are no more removed.

`data/manifest.json` says which files a build wrote and the sha256 of each. The next build into
the same folder removes those that it did not write itself, and nothing else: not what has other
bytes by now, not what is reached by a link, not what lies elsewhere.
"""

import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from paibench.benchmark.store.atomic import StoreError, read, replace_atomic
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.methods.core.registry import UserError

MANIFEST = "data/manifest.json"
_LARGEST = 2**26
_PART = re.compile(r"(?!\.)[^/\\\x00]+")


def write(out: Path, files: Iterable[tuple[str, bytes]]) -> dict[str, int]:
    """Write files by their place within `out`, and remove stale ones; the size of each by place.

    Raises UserError where something cannot be written.
    """
    before = _manifest(out)
    digests: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for name, data in files:
        _put(out / name, data)
        digests[name], sizes[name] = sha256(data).hexdigest(), len(data)
    for name in sorted(before.keys() - digests.keys()):
        _remove(out, name, before[name])
    manifest = json.dumps({"files": digests}, indent=0, sort_keys=True).encode() + b"\n"
    _put(out / MANIFEST, manifest)
    return sizes | {MANIFEST: len(manifest)}


def _put(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomic(path, data)
    except (OSError, StoreError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{str(path)!r} cannot be written: {reason}") from error


def _manifest(out: Path) -> dict[str, str]:
    """What an earlier build wrote here; empty where no manifest says so."""
    try:
        found = json.loads(read(out / MANIFEST, _LARGEST))
    except (OSError, Corrupt, ValueError, RecursionError):
        return {}
    files = found.get("files") if isinstance(found, Mapping) else None
    if not isinstance(files, Mapping):
        return {}
    return {name: digest for name, digest in files.items() if _is_place(name)}


def _is_place(name: str) -> bool:
    """Whether a name of a manifest is that of a file below its folder."""
    return name != MANIFEST and all(map(_PART.fullmatch, name.split("/")))


def _remove(out: Path, name: str, digest: object) -> None:
    """Remove a file, and the folders that it leaves empty, where it is still what was written."""
    path = out / name
    with suppress(OSError, Corrupt, ValueError):
        if not all(stat.S_ISDIR(os.lstat(folder).st_mode) for folder in _folders(out, path)):
            return
        if sha256(read(path, os.lstat(path).st_size)).hexdigest() != digest:
            return
        os.unlink(path)
        for folder in _folders(out, path):
            os.rmdir(folder)  # refuses one that is not empty, which ends this


def _folders(out: Path, path: Path) -> Iterator[Path]:
    """The folders between a file and `out`, the innermost first."""
    yield from (folder for folder in path.parents if folder != out and out in folder.parents)
