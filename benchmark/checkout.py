"""Which code this is: the commit of a checkout, and the digest of every file of the package."""

import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path


@cache
def commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout that this code runs from, and whether it was changed since.

    Both are None where the code was installed from no checkout, the second also where git does
    not tell.
    """
    here = Path(__file__).resolve().parent
    head = output("git", "-C", str(here), "rev-parse", "HEAD")
    tracked = output("git", "-C", str(here), "ls-files", "--error-unmatch", Path(__file__).name)
    if not head or not tracked:
        return None, None
    changed = output("git", "-C", str(here), "status", "--porcelain", "-uno")
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
def code_at_start() -> str:
    """The digest of the code that this process runs: to be asked for before its work begins."""
    commit()
    return code_digest()


def output(*command: str) -> str | None:
    """What a command prints, None where it is not there, fails or takes long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
