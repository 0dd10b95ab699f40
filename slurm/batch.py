"""The batch script of an array, and its way to sbatch: submitit writes the one and speaks to the
other. Its pickles and its signal handlers stay out of it: the command is ours, and all that the
jobs need lies in the campaign.
"""

import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import _make_sbatch_string

from paibench.benchmark.events import one_line
from paibench.methods.registry import UserError
from paibench.slurm.ask import ask
from paibench.slurm.campaign import Campaign
from paibench.slurm.limits import is_full
from paibench.slurm.options import sbatch_options

TRIES = 3
LOOK_SECONDS = 30.0  # for a job whose submission failed on the way back
_PASSING = re.compile(
    "contact slurm controller|timed out|refused|zero bytes|temporarily|try again|"
    "communication|connect failure|could not make sense|not connected|connection reset|broken pipe",
    re.IGNORECASE,
)


class NoRoom(Exception):
    """The cluster takes no more jobs of ours for now."""


def script(campaign: Campaign, chunk: int) -> str:
    """The text of the batch script of one array."""
    given = {key: value for key, value in _parameters(campaign, chunk).items() if value is not None}
    text: str = _make_sbatch_string(
        command=command(campaign, chunk),
        folder=campaign.logs,
        map_count=campaign.chunks()[chunk],
        **given | {"wckey": None},
    )
    return text


def write_scripts(campaign: Campaign) -> list[Path]:
    """Put a campaign on disk with the script of each of its arrays, to be submitted by hand."""
    campaign.write()
    paths = [campaign.folder / f"array-{chunk}.sh" for chunk in range(len(campaign.chunks()))]
    for chunk, path in enumerate(paths):
        path.write_text(script(campaign, chunk))
    return paths


def command(campaign: Campaign, chunk: int) -> str:
    """What a job does, as a line of shell."""
    profile = campaign.profile
    # -P: files in the present folder are not to be taken for modules
    python = [*([profile.container] if profile.container else [])]
    python += [profile.python or shlex.quote(sys.executable), "-P -u -m paibench.slurm.job"]
    return " ".join([*python, shlex.quote(str(campaign.folder)), str(chunk)])


def queue(campaign: Campaign, chunk: int) -> str:
    """Submit one array; its number.

    A controller that does not answer is tried again, and a job whose number was lost on the way
    is found by its name, so that none is queued twice. Raises NoRoom, and UserError with SLURM's
    own words.
    """
    for turn in range(1, TRIES + 1):
        try:
            return _submit(campaign, chunk)
        except (FailedJobError, FailedSubmissionError) as error:
            said = _words(error)
            if is_full(said):
                raise NoRoom(said) from error
            if not _PASSING.search(said):
                raise UserError(f"sbatch refuses: {said}") from error
            if number := _found(f"{campaign.name}-{chunk}"):
                return number
            if turn == TRIES:
                raise UserError(
                    f"SLURM does not take the jobs ({TRIES} tries): {said}; say submit again when "
                    "`scontrol ping` says that its controller is up"
                ) from error
    raise AssertionError


class _Executor(SlurmExecutor):
    def queue(self, command: str, jobs: int) -> str:
        self.parameters["map_count"] = jobs
        number: str = self._submit_command(command).job_id
        return number


def _submit(campaign: Campaign, chunk: int) -> str:
    if not shutil.which("srun"):
        raise UserError("srun is not on PATH beside sbatch; submit from where both are")
    executor = _Executor(campaign.logs)
    executor.update_parameters(**_parameters(campaign, chunk))
    # what sbatch says is in the exception as well
    with redirect_stderr(StringIO()), _from_no_job():
        return executor.queue(command(campaign, chunk), campaign.chunks()[chunk])


@contextmanager
def _from_no_job() -> Iterator[None]:
    """Submit as from a login node: what a job or a user sets for others is not for ours."""
    kept = dict(os.environ)
    for name in kept:
        if name.startswith(("SLURM_", "SRUN_", "SBATCH_")) and name != "SLURM_CONF":
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


def _parameters(campaign: Campaign, chunk: int) -> dict[str, Any]:
    profile = campaign.profile
    return {
        "job_name": f"{campaign.name}-{chunk}",
        "signal_delay_s": profile.warning_seconds,
        "array_parallelism": profile.array_parallelism or campaign.chunks()[chunk],
        "setup": profile.setup or None,
        "stderr_to_stdout": True,
        "srun_args": [f"--cpus-per-task={profile.cpus}"],  # which it takes from no one since 22.05
        "wckey": None,  # some clusters refuse submitit's own
        "additional_parameters": {**sbatch_options(profile), "requeue": True},
    }


def _found(name: str) -> str | None:
    """The number of the array of this name, which may take a moment to be seen."""
    deadline = time.monotonic() + LOOK_SECONDS
    while time.monotonic() < deadline:
        said = ask("squeue", "-h", "-a", "-n", name, "-o", "%F")
        if said and said.strip():
            return said.split()[0]
        time.sleep(1.0)
    return None


def _words(error: Exception) -> str:
    """What sbatch said, without what submitit says around it."""
    lines = str(error).splitlines()
    said = [line.partition("error: ")[2] for line in lines if "error: " in line]
    return one_line("; ".join(said) or str(error))
