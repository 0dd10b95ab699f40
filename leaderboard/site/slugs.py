"""File names for tracks and methods that are safe on any file system."""

import re
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

from paibench.leaderboard.stats.summary import Track

_SAFE = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def track_slugs(tracks: Iterable[Track]) -> dict[Track, str]:
    """Return a different file name for each track."""
    tracks = list(tracks)
    count = Counter(track.slug for track in tracks)
    return {
        track: f"{track.slug}-{track.digest}" if count[track.slug] > 1 else track.slug
        for track in tracks
    }


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
