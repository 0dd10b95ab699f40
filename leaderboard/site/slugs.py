"""The names of the site's files: one for each track and method, safe on any file system."""

import re
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

from paibench.leaderboard.stats.summary import Track

_SAFE = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def track_slugs(tracks: Iterable[Track]) -> dict[Track, str]:
    """A file name for each track that no other has."""
    found = list(tracks)
    often = Counter(track.slug for track in found)
    return {
        track: f"{track.slug}-{track.digest}" if often[track.slug] > 1 else track.slug
        for track in found
    }


def method_slugs(names: Iterable[str]) -> dict[str, str]:
    """A file name for each method, with a digest where the name itself cannot be one."""
    return {name: _slug(name) for name in sorted(set(names))}


def _slug(name: str) -> str:
    if _SAFE.fullmatch(name):
        return name
    bent = re.sub(r"[^a-z0-9_.]+", "-", name.lower())[:60].strip("-.")
    return f"{bent}-{sha256(name.encode(errors='replace')).hexdigest()[:8]}"
