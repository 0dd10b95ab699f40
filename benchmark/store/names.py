"""The one rule for names that become part of a path, and the two kinds of name that follow it."""

import hashlib
import os
import re
import socket
from typing import NamedTuple
from uuid import uuid4

from paibench.methods.core.registry import UserError

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


class SlurmJob(NamedTuple):
    """A job of SLURM, how often it was requeued before, and the cluster whose number it has."""

    id: int
    restart: int
    cluster: str = ""


def current_slurm_job() -> SlurmJob | None:
    """The job of SLURM that this process belongs to."""
    number, restart = (os.environ.get(f"SLURM_{name}", "") for name in ("JOB_ID", "RESTART_COUNT"))
    cluster = short_slug(os.environ.get("SLURM_CLUSTER_NAME", ""))
    return SlurmJob(int(number), int(restart or 0), cluster) if number.isdecimal() else None


def short_slug(name: str) -> str:
    """A name of the world outside in letters, digits and dashes: at most ten, and its own."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if len(plain) <= 10:
        return plain
    return f"{plain[:5].strip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def new_attempt_id() -> str:
    """A fresh name for one attempt at a run: `<host>.<pid>.<8 hexadecimal digits>`.

    Within a job of SLURM it begins with `j<job>.<restart>-<cluster>.`.
    """
    host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")
    job = current_slurm_job()
    place = f"-{job.cluster}" if job and job.cluster else ""
    mark = f"j{job.id}.{job.restart}{place}." if job else ""
    return f"{mark}{host[: 14 if place else 24] or 'host'}.{os.getpid()}.{uuid4().hex[:8]}"


def slurm_job_of(attempt: str) -> SlurmJob | None:
    """The job of SLURM that an attempt belongs to, by its name."""
    # a host may be called j1
    found = re.match(r"j(\d+)\.(\d+)(?:-([a-z0-9-]+))?\.[a-z0-9-]+\.\d", attempt)
    return SlurmJob(int(found[1]), int(found[2]), found[3] or "") if found else None
