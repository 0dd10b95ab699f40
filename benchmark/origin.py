"""Where code that has a name comes from: its distribution, its files, and what tells it from other
code. Nothing of it is imported.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import Distribution
from pathlib import Path

from paibench.benchmark.spec import Spec
from paibench.methods.registry import Kind, LocalFile, find, is_own
from paibench.methods.signature import source


def code_place(name: str, kind: Kind = "methods") -> Path | None:
    """The folder of the package that holds what has this name, or its file where it has none."""
    entry = find(name, kind)
    path = source(entry)
    if path is None:
        return None
    depth = entry.module.count(".") + (path.name == "__init__.py")
    return path.parents[depth - 1] if depth else path


def code_sha256(name: str, kind: Kind = "methods") -> str | None:
    """The sha256 of that file, or of the names and contents of all Python files of the package."""
    place = code_place(name, kind)
    if place is None:
        return None
    if place.is_file():
        return hashlib.sha256(place.read_bytes()).hexdigest()
    seen = hashlib.sha256()
    for path in sorted(place.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        seen.update(f"{path.relative_to(place)} {content}\n".encode())
    return seen.hexdigest()


def distribution(name: str, kind: Kind = "methods") -> tuple[str, str]:
    """The name and the version of the distribution that brings it; `unknown` without one.

    A file that is not installed has its own name in the place of a version.
    """
    entry = find(name, kind)
    if isinstance(entry, LocalFile):
        return "local file", entry.path.name
    dist = entry.dist
    return (dist.name, dist.version) if dist else ("unknown", "unknown")


def strangers(spec: Spec) -> Iterator[tuple[Kind, str]]:
    """Which of data set, model and recipe of a spec the suite does not bring, by kind and name."""
    named: dict[Kind, str] = {
        "datasets": spec.dataset.name,
        "models": spec.model.name,
        "recipes": spec.recipe.name,
    }
    for kind, name in named.items():
        if not name.startswith("timm:") and not is_own(name, kind):
            yield kind, name


def called(method: str) -> str:
    """A method as a message about its fault names it: with its distribution, where not ours."""
    return method if is_own(method) else f"{method} ({' '.join(distribution(method))})"


def came_from(name: str, kind: Kind = "methods") -> str:
    """Where that distribution was installed from: an index, a file or folder, or a commit."""
    entry = find(name, kind)
    if isinstance(entry, LocalFile):
        return f"the file {entry.path.name}"
    return _came_from(entry.dist) if entry.dist else "unknown"


def _came_from(dist: Distribution) -> str:
    with suppress(OSError, ValueError, AttributeError):
        if text := dist.read_text("direct_url.json"):
            return ", ".join(_parts(json.loads(text)))
    return "an index"


def _parts(direct: dict[str, object]) -> Iterator[str]:
    """The facts of a `direct_url.json`; of a local path its last part alone is of any use."""
    url = str(direct.get("url", ""))
    yield f"the file {url.rpartition('/')[2]}" if url.startswith("file:") else url
    details = direct.get("vcs_info")
    if isinstance(details, dict) and (commit := details.get("commit_id")):
        yield f"commit {commit}"
    folder = direct.get("dir_info")
    if isinstance(folder, dict) and folder.get("editable"):
        yield "editable"
