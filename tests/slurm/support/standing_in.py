"""Scripts in the place of SLURM's commands, for what can be shown without a cluster."""

import os
from pathlib import Path

import pytest


def stand_in(folder: Path, patch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Let scripts answer for commands of SLURM; each call leaves a line in the file `calls`.

    There is always an `srun`, as beside every `sbatch`.
    """
    for command, text in ({"srun": "exit 1"} | scripts).items():
        (folder / command).write_text(f'#!/bin/sh\necho "{command} $*" >> {folder}/calls\n{text}\n')
        (folder / command).chmod(0o755)
    patch.setenv("PATH", f"{folder}:{os.defpath}")
