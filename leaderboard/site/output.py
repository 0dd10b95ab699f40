"""Write the files of a site and remove those that an earlier build wrote and this one did not.

`data/manifest.json` has the sha256 of every file that a build wrote. The next build into the same
folder removes files of the manifest that it did not write itself. It removes nothing else: no file
that has changed, none that is reached through a link, none of another owner. Swapping the whole
folder would be shorter, but it would delete what users put beside the site.
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
    """Write files by their path within `out`, remove stale ones, and return the size of each.

    Raises UserError if a file cannot be written.
    """
    before = _manifest(out)
    digests: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for name, data in files:
        _put(out / name, data)
        digests[name], sizes[name] = sha256(data).hexdigest(), len(data)
    # Stale files are removed after the new ones are in place, so that no link is ever broken.
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
    """Return the digests of an earlier build, or nothing if there is no valid manifest."""
    try:
        manifest = json.loads(read(out / MANIFEST, _LARGEST))
    except (OSError, Corrupt, ValueError, RecursionError):
        return {}
    files = manifest.get("files") if isinstance(manifest, Mapping) else None
    if not isinstance(files, Mapping):
        return {}
    return {name: digest for name, digest in files.items() if _is_inside(name)}


def _is_inside(name: str) -> bool:
    """Return whether a path of the manifest stays below its folder."""
    return name != MANIFEST and all(map(_PART.fullmatch, name.split("/")))


def _remove(out: Path, name: str, digest: object) -> None:
    """Remove a file and the folders that it leaves empty, unless the file has changed."""
    path = out / name
    with suppress(OSError, Corrupt, ValueError):
        if not all(stat.S_ISDIR(os.lstat(folder).st_mode) for folder in _folders(out, path)):
            return
        # A user may have edited the file, so only the bytes that we wrote are removed.
        if sha256(read(path, os.lstat(path).st_size)).hexdigest() != digest:
            return
        os.unlink(path)
        for folder in _folders(out, path):
            os.rmdir(folder)  # fails at the first folder that is not empty


def _folders(out: Path, path: Path) -> Iterator[Path]:
    """Yield the folders between a file and `out`, the innermost first."""
    yield from (folder for folder in path.parents if folder != out and out in folder.parents)
