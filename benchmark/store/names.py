"""Names that become part of a path: the rule for all of them, keys of runs, ids of attempts."""

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
    """Return the name if it is safe as one part of a path, else raise UserError."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise UserError(
            f"{what} {name[:80]!r} cannot be used; take 1 to 64 of a-z 0-9 _ . - that start with "
            "a letter or digit and contain no '..'"
        )
    return name


def is_key(text: str) -> bool:
    """Return whether a text is the key of a run: 40 lower-case hexadecimal digits."""
    return _KEY.fullmatch(text) is not None


def check_key(key: str) -> str:
    """Return the key if it is the key of a run, else raise UserError."""
    if not is_key(key):
        raise UserError(f"{key[:80]!r} is not the key of a run; a key is 40 hexadecimal digits")
    return key


class SlurmJob(NamedTuple):
    """A job of SLURM: its number, how often it was requeued, and the cluster that numbered it."""

    id: int
    restart: int
    cluster: str = ""


def current_slurm_job() -> SlurmJob | None:
    """Return the job of SLURM that this process belongs to."""
    number, restart = (os.environ.get(f"SLURM_{name}", "") for name in ("JOB_ID", "RESTART_COUNT"))
    cluster = short_slug(os.environ.get("SLURM_CLUSTER_NAME", ""))
    return SlurmJob(int(number), int(restart or 0), cluster) if number.isdecimal() else None


def short_slug(name: str) -> str:
    """Return a name in at most ten letters, digits and dashes; different names differ."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if len(slug) <= 10:
        return slug
    # the digest distinguishes long names that begin alike
    return f"{slug[:5].strip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:4]}"


def new_attempt_id() -> str:
    """Return a new id for one attempt at a run: `<host>.<pid>.<8 hexadecimal digits>`.

    Within a job of SLURM it begins with `j<job>.<restart>-<cluster>.`.
    """
    host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")
    job = current_slurm_job()
    cluster = f"-{job.cluster}" if job and job.cluster else ""
    prefix = f"j{job.id}.{job.restart}{cluster}." if job else ""
    # the longest id still fits into the 64 characters of a name
    return f"{prefix}{host[: 14 if cluster else 24] or 'host'}.{os.getpid()}.{uuid4().hex[:8]}"


def slurm_job_of(attempt: str) -> SlurmJob | None:
    """Return the job of SLURM that an attempt belongs to, from its id."""
    # the whole form is matched, because a host may be called j1
    match = re.match(r"j(\d+)\.(\d+)(?:-([a-z0-9-]+))?\.[a-z0-9-]+\.\d", attempt)
    return SlurmJob(int(match[1]), int(match[2]), match[3] or "") if match else None
