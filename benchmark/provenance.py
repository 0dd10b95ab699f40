"""The code behind a run: commit and digest of the package, origin and digest of plugins."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path

from paibench.benchmark.spec import Spec
from paibench.methods.core.registry import SINGULAR, Kind, LocalFile, find, is_own
from paibench.methods.core.signature import source


@cache
def commit() -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that this code runs from, and whether files have changed.

    Both are None if the code does not run from a checkout, the second also if git fails.
    """
    folder = Path(__file__).resolve().parent
    head = command_output("git", "-C", str(folder), "rev-parse", "HEAD")
    tracked = command_output(
        "git", "-C", str(folder), "ls-files", "--error-unmatch", Path(__file__).name
    )
    if not head or not tracked:  # installed inside the checkout of something else
        return None, None
    changed = command_output("git", "-C", str(folder), "status", "--porcelain", "-uno")
    return head, None if changed is None else bool(changed)


def code_digest() -> str:
    """Return the sha256 of all Python files of the package, names and contents, as they are now."""
    root = Path(__file__).parent.parent
    paths = []
    for folder, folders, names in os.walk(root, followlinks=True):
        # os.walk descends into these in this order; file systems list in different orders
        folders[:] = sorted(set(folders) - {"__pycache__"})
        # the temporary files of editors begin with a dot, and may be links to nowhere
        files = [name for name in names if name.endswith(".py") and not name.startswith(".")]
        paths += sorted(Path(folder, name) for name in files)
    return _digest(root, paths)


@cache
def code_digest_at_start() -> str:
    """Return the digest of the code that this process runs; call it before any work begins.

    Later, the files may change, but the imported modules do not.
    """
    # its result is cached by this call, as the digest is
    commit()
    return code_digest()


def command_output(*command: str) -> str | None:
    """Return the output of a command; None if it does not exist, fails or takes long."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


# -- the code behind a registered name ------------------------------------------------------------


def code_path(name: str, kind: Kind = "methods") -> Path | None:
    """Return the folder of the top-level package that provides a name, or its single file."""
    entry = find(name, kind)
    path = source(entry)
    if path is None:
        return None
    depth = entry.module.count(".") + (path.name == "__init__.py")
    return path.parents[depth - 1] if depth else path


def code_sha256(name: str, kind: Kind = "methods") -> str | None:
    """Return the sha256 of the file that provides a name, or of the package's Python files."""
    path = code_path(name, kind)
    if path is None:
        return None
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return _digest(path, sorted(path.rglob("*.py")))


def _digest(root: Path, paths: Iterable[Path]) -> str:
    """Return the sha256 of the names, relative to `root`, and the contents of files."""
    digest = hashlib.sha256()
    # a digest of each file, because the end of one could pass for the beginning of the next
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()


def distribution(name: str, kind: Kind = "methods") -> tuple[str, str]:
    """Return name and version of the distribution that provides a name, else `unknown`.

    For a local file, its file name takes the place of the version.
    """
    entry = find(name, kind)
    if isinstance(entry, LocalFile):
        return "local file", entry.path.name
    dist = entry.dist
    return (dist.name, dist.version) if dist else ("unknown", "unknown")


def third_party(spec: Spec) -> Iterator[tuple[Kind, str]]:
    """Yield kind and name of the data set, model and recipe if plugins provide them."""
    named: dict[Kind, str] = {
        "datasets": spec.dataset.name,
        "models": spec.model.name,
        "recipes": spec.recipe.name,
    }
    for kind, name in named.items():
        if not name.startswith("timm:") and not is_own(name, kind):
            yield kind, name


def display_name(name: str, kind: Kind = "methods") -> str:
    """Return a registered name for messages, with its kind and the distribution of a third party's.

    A method goes without its kind.
    """
    title = name if kind == "methods" else f"{SINGULAR[kind]} {name}"
    if name.startswith("timm:") or is_own(name, kind):
        return title
    return f"{title} ({' '.join(distribution(name, kind))})"


def install_source(name: str, kind: Kind = "methods") -> str:
    """Return the origin of the distribution that provides a name: an index, a path, a commit."""
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
    """Yield the facts of a `direct_url.json` (PEP 610)."""
    url = str(direct.get("url", ""))
    # the last part of a local path is enough; the rest may contain the name of a user
    yield f"the file {url.rpartition('/')[2]}" if url.startswith("file:") else url
    details = direct.get("vcs_info")
    if isinstance(details, dict) and (commit := details.get("commit_id")):
        yield f"commit {commit}"
    folder = direct.get("dir_info")
    if isinstance(folder, dict) and folder.get("editable"):
        yield "editable"
