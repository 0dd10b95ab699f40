"""File names for methods that are safe on any file system."""

import re
from collections.abc import Iterable
from hashlib import sha256

_SAFE = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def method_slugs(names: Iterable[str]) -> dict[str, str]:
    """Return a file name for each method, with a digest if the name itself is not safe."""
    return {name: _slug(name) for name in sorted(set(names))}


def _slug(name: str) -> str:
    # Lower case only, because some file systems do not distinguish case.
    if _SAFE.fullmatch(name):
        return name
    # Two names may be equal after the replacement, so a digest tells them apart.
    safe = re.sub(r"[^a-z0-9_.]+", "-", name.lower())[:60].strip("-.")
    return f"{safe}-{sha256(name.encode(errors='replace')).hexdigest()[:8]}"
