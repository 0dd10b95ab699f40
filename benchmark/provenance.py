"""Which code this is: the commit of a checkout, and the digest of every file of the package."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path

from paibench.benchmark.spec import Spec
from paibench.methods.core.registry import Kind, LocalFile, find, is_own
from paibench.methods.core.signature import source


@cache
def commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout that this code runs from, and whether it was changed since.

    Both are None where the code was installed from no checkout, the second also where git does
    not tell.
    """
    here = Path(__file__).resolve().parent
    head = command_output("git", "-C", str(here), "rev-parse", "HEAD")
    tracked = command_output(
        "git", "-C", str(here), "ls-files", "--error-unmatch", Path(__file__).name
    )
    if not head or not tracked:
        return None, None
    changed = command_output("git", "-C", str(here), "status", "--porcelain", "-uno")
    return head, None if changed is None else bool(changed)


def code_digest() -> str:
    """The sha256 of all Python files of the package, names and contents, as they are now."""
    seen = hashlib.sha256()
    root = Path(__file__).parent.parent
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(set(folders) - {"__pycache__"})
        # an editor's own begin with a dot, and may be links to nowhere
        files = [name for name in names if name.endswith(".py") and not name.startswith(".")]
        for path in sorted(Path(folder, name) for name in files):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            seen.update(f"{path.relative_to(root)} {content}\n".encode())
    return seen.hexdigest()


@cache
def code_digest_at_start() -> str:
    """The digest of the code that this process runs: to be asked for before its work begins."""
    commit()
    return code_digest()


def command_output(*command: str) -> str | None:
    """What a command prints, None where it is not there, fails or takes long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


# origin: Where code that has a name comes from: its distribution, its files, and what tells it
# from other


def code_path(name: str, kind: Kind = "methods") -> Path | None:
    """The folder of the package that holds what has this name, or its file where it has none."""
    entry = find(name, kind)
    path = source(entry)
    if path is None:
        return None
    depth = entry.module.count(".") + (path.name == "__init__.py")
    return path.parents[depth - 1] if depth else path


def code_sha256(name: str, kind: Kind = "methods") -> str | None:
    """The sha256 of that file, or of the names and contents of all Python files of the package."""
    place = code_path(name, kind)
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


def third_party(spec: Spec) -> Iterator[tuple[Kind, str]]:
    """Which of data set, model and recipe of a spec the suite does not bring, by kind and name."""
    named: dict[Kind, str] = {
        "datasets": spec.dataset.name,
        "models": spec.model.name,
        "recipes": spec.recipe.name,
    }
    for kind, name in named.items():
        if not name.startswith("timm:") and not is_own(name, kind):
            yield kind, name


def display_name(method: str) -> str:
    """A method as a message about its fault names it: with its distribution, where not ours."""
    return method if is_own(method) else f"{method} ({' '.join(distribution(method))})"


def install_source(name: str, kind: Kind = "methods") -> str:
    """Where that distribution was installed from: an index, a file or folder, or a commit."""
    entry = find(name, kind)
    if isinstance(entry, LocalFile):
        return f"the file {entry.path.name}"
    return _install_source(entry.dist) if entry.dist else "unknown"


def _install_source(dist: Distribution) -> str:
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
