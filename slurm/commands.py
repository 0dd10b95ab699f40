"""Calls of SLURM's command-line tools, which may be slow, fail, or be missing."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from paibench.methods.core.text import one_line

# Answers are parsed, so the user's language and format of time must not change them.
_PLAIN = {"LC_ALL": "C", "SLURM_TIME_FORMAT": "standard"}
# A user sets these to filter or reformat what squeue and the others show; our parsing needs all.
_USER_FILTERS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SCONTROL_")
# A job, or a user for other jobs, sets these; sbatch would take them as options of our jobs.
_JOB_OPTIONS = ("SLURM_", "SRUN_", "SBATCH_")
_CONNECTION = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")


class Answer(NamedTuple):
    """What a command returned; the status is None if it is missing or took too long."""

    status: int | None
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error message on one line; empty if the command succeeded."""
        if self.status == 0:
            return ""
        return one_line(self.err) or one_line(self.out) or f"status {self.status}"


def is_available() -> bool:
    """Return whether this machine has the commands that submit and list jobs."""
    return all(shutil.which(command) for command in ("sbatch", "squeue"))


def run(*command: str, seconds: float = 10.0) -> str | None:
    """Return the output of a command; None if it is missing, fails or takes too long."""
    answer = call(*command, seconds=seconds)
    return answer.out if answer.status == 0 else None


def error_of(*command: str, seconds: float = 10.0) -> str:
    """Run a command and return its error message on one line; empty if it succeeds."""
    return call(*command, seconds=seconds).error


def call(*command: str, seconds: float = 10.0) -> Answer:
    """Run a command of SLURM for at most `seconds`."""
    # The output goes to files: reading a pipe would wait for every descendant that holds it.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=_environment(command[0]),
                timeout=seconds,
            ).returncode
        except subprocess.TimeoutExpired:
            return Answer(None, "", f"{command[0]} does not answer within {seconds:g} s")
        except OSError as error:
            return Answer(None, "", f"{command[0]}: {error.strerror}")
        out.seek(0)
        err.seek(0)
        texts = (file.read().decode(errors="replace") for file in (out, err))
        return Answer(status, *texts)


def _environment(command: str) -> dict[str, str]:
    removed = _USER_FILTERS + (_JOB_OPTIONS if command == "sbatch" else ())
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in _CONNECTION or not name.startswith(removed)
    }
    return inherited | _PLAIN


def user_name() -> str:
    """Return the name of this process's user, or its number if it has no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@contextmanager
def login_environment() -> Iterator[None]:
    """Set the environment of this process as on a login node, for a library that calls sbatch."""
    before, login = dict(os.environ), _environment("sbatch")
    os.environ.clear()
    os.environ.update(login)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
