"""`paibench submit`, `cancel` and `profile` without a cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from factories import SWEEP
from fake_commands import fake_commands


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a valid sweep and profile; no command of SLURM is on PATH."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "s.toml").write_text(SWEEP)
    (here / "p.toml").write_text('memory = "1G"\n')
    (here / "bad.toml").write_text('memroy = "1G"\n')
    monkeypatch.chdir(here)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return here


def say(*arguments: str) -> tuple[int, str, str]:
    """Run a command; return its status, standard output and standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "paibench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("submit", "none.toml"), "none.toml"),
        (("submit", "s.toml", "--profile", "none"), "profile none: "),
        (("submit", "s.toml", "--profile", "./bad.toml"), "memroy: unknown key; did you mean memo"),
        (("submit", "s.toml", "--out", "."), "--out '.': name a separate folder for the store"),
        (("submit", "s.toml", "--dry-run", "--wait"), "exclude each other; give one of them"),
        (("submit", "s.toml", "--dry-run", "--script-only"), "exclude each other"),
        (("submit", "s.toml", "--out", "a", "--data", "."), "is inside the data folder"),
        (("submit", "s.toml", "--profile", "../p"), "../p: does not exist; check the path"),
        (("cancel", "s.toml"), "there is no SLURM on this machine"),
        (("cancel", "none.toml"), "none.toml"),
        (("profile", "check", "none"), "profile none: "),
        (("profile", "check", "./bad.toml"), "memroy: unknown key; did you mean memory?"),
        (("profile", "check", "./p.toml"), "p is well-formed; there is no SLURM on this machine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refusals(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    """One line on standard error and status 2; nothing is written."""
    before = sorted(folder.iterdir())
    status, out, err = say(*arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert sorted(folder.iterdir()) == before


PARTITION = "PartitionName=short Default=YES MaxTime=10 State=UP"
NODE = "NodeName=a CPUTot=8 RealMemory=500 Partitions=short State=IDLE"
CLUSTER = f"""
case "$*" in
*partition*) echo "{PARTITION}";;
*node*) echo "{NODE}";;
esac
"""


@pytest.mark.parametrize(
    ("profile", "problems"),
    [
        (
            'memory = "1G"\n',
            [
                "time: 4:00:00 is 240 minutes, short allows 10; ask for less time or choose "
                "another partition",
                "memory: 1024 MB is more than any node of short has; the largest has 500 MB",
            ],
        ),
        ('memory = "400M"\ntime = 10\n', []),
    ],
    ids=["too much", "fits"],
)
def test_profile_check(
    folder: Path, monkeypatch: pytest.MonkeyPatch, profile: str, problems: list[str]
) -> None:
    """All problems of a profile are in one line, with status 2; nothing is queued."""
    fake_commands(folder.parent, monkeypatch, sbatch="", squeue="", scontrol=CLUSTER)
    (folder / "p.toml").write_text(profile)
    status, out, err = say("profile", "check", "./p.toml")
    if problems:
        assert (status, out, err) == (2, "", f"paibench: profile p: {' | '.join(problems)}\n")
    else:
        assert (status, out, err) == (0, "profile p: the cluster can run its jobs\n", "")
    status, out, err = say("profile", "check", "./p.toml", "--json")
    assert (status, err) == (2 if problems else 0, "")
    assert json.loads(out) == {"profile": "p", "problems": problems}
    calls = (folder.parent / "calls").read_text().splitlines()
    assert all("--test-only" in call for call in calls if call.startswith("sbatch"))


def test_a_dry_run_without_a_cluster(folder: Path) -> None:
    """The plan and a script are shown; nothing is executed or written."""
    before = sorted(folder.iterdir())
    status, out, err = say("submit", "s.toml", "--profile", "./p.toml", "--dry-run")
    assert (status, err) == (0, "")
    assert "#SBATCH --mem=1024M" in out
    assert sorted(folder.iterdir()) == before
