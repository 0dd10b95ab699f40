"""The one rule for names that become part of a path, and the two kinds of name that follow it."""

import os
import re
import socket
from uuid import uuid4

from paibench.methods.registry import UserError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_KEY = re.compile(r"[0-9a-f]{40}")


def check_name(name: str, what: str = "name") -> str:
    """The name itself, where it is safe as one part of a path; raises UserError where it is not."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise UserError(
            f"{what} {name[:80]!r} cannot be used; take 1 to 64 of a-z 0-9 _ . - that start with "
            "a letter or digit and hold no '..'"
        )
    return name


def is_key(text: str) -> bool:
    """Whether a text is the key of a run: 40 lower-case hexadecimal digits."""
    return _KEY.fullmatch(text) is not None


def check_key(key: str) -> str:
    """The key itself; raises UserError where it is not the key of a run."""
    if not is_key(key):
        raise UserError(f"{key[:80]!r} is not the key of a run; a key is 40 hexadecimal digits")
    return key


def attempt_name() -> str:
    """A fresh name for one attempt at a run: `<host>.<pid>.<8 hexadecimal digits>`."""
    host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")
    return f"{host[:32] or 'host'}.{os.getpid()}.{uuid4().hex[:8]}"
