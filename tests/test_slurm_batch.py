"""Batch scripts, and what is made of sbatch's answers; scripts stand in for its commands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from standing_in import stand_in

from paibench.benchmark.spec import Spec
from paibench.benchmark.store import Store
from paibench.methods.registry import UserError
from paibench.slurm import batch
from paibench.slurm.campaign import Campaign
from paibench.slurm.profile import Profile

GIVEN = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.5}
RUNS = [Spec.model_validate(GIVEN | {"method": "random", "seed": seed}) for seed in range(3)]


def campaign(folder: Path, **keys: object) -> Campaign:
    """Three jobs in arrays of two, on disk."""
    profile = Profile.model_validate({"name": "a", **keys})
    given = (Store.open(folder / "a store"), "a", [(run,) for run in RUNS], 2, profile, None)
    made = Campaign.new(*given, retry=False, plugins={})
    made.write()
    return made


def test_a_script_says_it_all(tmp_path: Path) -> None:
    """Name, array, logs that are appended to, warning, requeue; no pickle and no wckey."""
    made = campaign(tmp_path, setup=["module load cuda"], extra={"nice": 5, "exclusive": True})
    script = batch.script(made, 0)
    options = set(re.findall("^#SBATCH (.*)$", script, re.MULTILINE))
    assert {
        f"--job-name={made.name}-0",
        "--array=0-1%2",
        "--open-mode=append",
        "--signal=USR2@90",
        "--requeue",
        "--nice=5",
        "--exclusive",
        "--mem=8192M",
    } <= options
    (output,) = (option for option in options if option.startswith("--output="))
    assert shlex.split(output)[0].startswith(f"--output={made.logs}/")
    assert "module load cuda" in script.splitlines()
    assert "pickle" not in script and "pkl" not in script and "wckey" not in script
    assert "--array=0-0%1" in batch.script(made, 1)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_the_command_of_a_job(tmp_path: Path) -> None:
    """It is our own, with the folder as one word; container and python are the profile's."""
    made = campaign(tmp_path)
    words = shlex.split(batch.command(made, 1))
    assert words == [
        *(sys.executable, "-P", "-u", "-m", "paibench.slurm.job", str(made.folder), "1")
    ]
    boxed = campaign(tmp_path, container="apptainer exec --nv x.sif", python="python3")
    assert batch.command(boxed, 0).startswith("apptainer exec --nv x.sif python3 -P -u -m paib")


def test_the_throttle_is_the_profiles(tmp_path: Path) -> None:
    """No more jobs of an array at once than array_parallelism."""
    assert "--array=0-1%1" in batch.script(campaign(tmp_path, array_parallelism=1), 0)


def calls(folder: Path, command: str) -> int:
    return (folder / "calls").read_text().count(f"{command} ")


def test_the_number_of_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what sbatch says."""
    stand_in(tmp_path, monkeypatch, sbatch="echo Submitted batch job 17", squeue="exit 1")
    assert batch.queue(campaign(tmp_path), 0) == "17"
    assert calls(tmp_path, "sbatch") == 1


def test_a_lost_answer_does_not_double_an_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An array that was queued although sbatch failed is found by its name."""
    lost = "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1"
    stand_in(tmp_path, monkeypatch, sbatch=lost, squeue="echo 44; echo 44")
    assert batch.queue(campaign(tmp_path), 0) == "44"
    assert calls(tmp_path, "sbatch") == 1


@pytest.mark.parametrize(
    "said",
    [
        "Unable to contact slurm controller (connect failure)",
        "Batch job submission failed: Transport endpoint is not connected",
        "Batch job submission failed: Zero Bytes were transmitted or received",
    ],
)
def test_a_controller_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """It is tried a few times, and said in one line with what to do."""
    monkeypatch.setattr(batch, "LOOK_SECONDS", 0.1)
    away = f"echo 'sbatch: error: {said}' >&2; exit 1"
    stand_in(tmp_path, monkeypatch, sbatch=away, squeue="exit 1")
    with pytest.raises(UserError, match=r"3 tries.*say submit again when") as caught:
        batch.queue(campaign(tmp_path), 0)
    assert said in str(caught.value)
    assert calls(tmp_path, "sbatch") == batch.TRIES


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("AssocMaxSubmitJobLimit", batch.NoRoom),
        ("QOSMaxSubmitJobPerUserLimit", batch.NoRoom),
        ("Batch job submission failed: Invalid qos specification", UserError),
    ],
)
def test_what_sbatch_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, kind: type[Exception]
) -> None:
    """It is asked once; a full queue is told from what will never be taken."""
    stand_in(tmp_path, monkeypatch, sbatch=f"echo 'sbatch: error: {said}' >&2; exit 1", squeue="")
    with pytest.raises(kind, match=said):
        batch.queue(campaign(tmp_path), 0)
    assert calls(tmp_path, "sbatch") == 1


def test_scripts_for_the_hand(tmp_path: Path) -> None:
    """One for each array lies beside the manifest."""
    given = campaign(tmp_path)
    made = Campaign.new(
        *(Store.read(given.store), "a", given.bundles, 2, given.profile, None),
        retry=False,
        plugins={},
    )
    paths = batch.write_scripts(made)
    assert [path.name for path in paths] == ["array-0.sh", "array-1.sh"]
    assert [path.read_text() for path in paths] == [batch.script(made, 0), batch.script(made, 1)]
    assert Campaign.read(made.folder) == made
