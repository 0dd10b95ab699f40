"""Finding the files of a data set, and one-line messages about those that are not there."""

import os
from pathlib import Path, PurePath

from paibench.methods.core.registry import UserError


def printable(path: Path | str) -> str:
    """A path as one line of a message, whatever characters it has."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


def locate(name: str, root: Path | None, parts: str, hint: str) -> Path:
    """`root`/`parts`, found by exact names on every file system.

    Raises UserError that says what is missing and ends with `hint`, or with what to rename
    where the names differ in case alone.
    """
    if root is None:
        raise UserError(f"{name}: no data folder given; set PAIBENCH_DATA or --data")
    here = Path(root)
    if not here.is_dir():
        raise UserError(f"{name}: the data folder {printable(here)} does not exist; {hint}")
    for part in PurePath(parts).parts:
        try:
            there = os.listdir(here)
        except OSError as error:
            raise unreadable(name, here, error) from error
        if part not in there:
            other = next((n for n in sorted(there) if n.casefold() == part.casefold()), None)
            hint = f"rename {printable(other)} beside it to {printable(part)}" if other else hint
            raise UserError(f"{name}: {printable(here / part)} is missing; {hint}")
        here = here / part
    return here


def unreadable(name: str, path: Path, error: OSError) -> UserError:
    """What to raise when the system will not let us read a file or folder."""
    return UserError(f"{name}: {printable(path)} cannot be read: {error.strerror or error}")
