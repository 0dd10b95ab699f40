"""Scripts that replace SLURM's commands, and small submissions, for tests without a cluster."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from factories import spec_of

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.store import Store
from paibench.slurm.profile import Profile
from paibench.slurm.submission import Submission


def fake_commands(folder: Path, patch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Put scripts on PATH as commands of SLURM; each call adds a line to the file `calls`."""
    if "sbatch" in scripts:  # submitit looks for srun too
        scripts.setdefault("srun", "exit 1")
    for command, text in scripts.items():
        (folder / command).write_text(f'#!/bin/sh\necho "{command} $*" >> {folder}/calls\n{text}\n')
        (folder / command).chmod(0o755)
    patch.setenv("PATH", f"{folder}:{os.defpath}")


def calls(folder: Path, command: str) -> list[str]:
    """Return the calls of a command so far."""
    path = folder / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.split()[0] == command]


def small_runs(count: int, **fields: Any) -> list[Spec]:
    """Return runs that differ in their seeds."""
    return [spec_of(seed=seed, **fields) for seed in range(count)]


def submission_of(
    store: Store, runs: Sequence[Spec], array_size: int = 2, **profile: Any
) -> Submission:
    """Return a submission with one job for each run, written to the store."""
    submission = Submission.new(
        *(store, "a", [(run,) for run in runs], array_size),
        *(Profile.model_validate({"name": "a", **profile}), None),
        retry=False,
        plugins={},
    )
    submission.write()
    return submission
