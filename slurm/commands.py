"""Asking SLURM by its commands, which may be slow, silent or not there at all."""

import os
import pwd
import shutil
import subprocess
import tempfile

from paibench.methods.core.text import one_line

_PLAIN = {"LC_ALL": "C", "SLURM_TIME_FORMAT": "standard"}
_FILTERS = ("SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SCONTROL_")  # a user's own way to see jobs


def is_available() -> bool:
    """Whether this machine has the commands that submit jobs and show them."""
    return all(shutil.which(command) for command in ("sbatch", "squeue"))


def run(*command: str, seconds: float = 10.0) -> str | None:
    """What a command of SLURM prints; None where it is not there, fails or takes too long."""
    status, printed, _ = _call(command, seconds)
    return printed if status == 0 else None


def own_name() -> str:
    """What SLURM calls us: the name of this process's user, or its number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def error_of(*command: str, seconds: float = 10.0) -> str:
    """Why a command of SLURM fails, in its own words on one line; empty where it does not."""
    status, printed, said = _call(command, seconds)
    return "" if status == 0 else one_line(said) or one_line(printed) or f"status {status}"


def _hides(name: str) -> bool:
    return name.startswith(_FILTERS)


def _call(command: tuple[str, ...], seconds: float) -> tuple[int | None, str, str]:
    """Status, standard output and standard error; no status where the command has not ended.

    They go to files: a pipe would be waited for as long as any descendant holds it.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={name: os.environ[name] for name in os.environ if not _hides(name)} | _PLAIN,
                timeout=seconds,
            ).returncode
        except subprocess.TimeoutExpired:
            return None, "", f"{command[0]} does not answer within {seconds:g} s"
        except OSError as error:
            return None, "", f"{command[0]}: {error.strerror}"
        out.seek(0)
        err.seek(0)
        return status, out.read().decode(errors="replace"), err.read().decode(errors="replace")
