"""`paibench status` without SLURM, with it, and with a controller that does not answer."""

import json
import os
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.failures import record_failure
from paibench.benchmark.store.lease import LEASE_SECONDS
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.progress import Progress
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.sweep import expand
from paibench.slurm.profile import Profile
from paibench.slurm.submission import Submission

Say = Callable[..., tuple[int, str, str]]
SWEEP = """
name = "s"
[product]
dataset = "digits"
model = "lenet-300-100"
recipe = "lite"
method = "snip"
density = 0.1
seed = [0, 1, 2, 3]
"""
NAMED = {"dataset": "digits", "model": "lenet-300-100", "recipe": "lite", "method": "snip"}
DONE, RUNNING, BROKEN, ASKED = (Spec.of(**NAMED, density=0.1, seed=seed) for seed in range(4))
ATTEMPT = "j17.0.node1.4711.0123abcd"


@pytest.fixture
def store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_factory: Callable[..., Record]
) -> Store:
    """A sweep with one run of each kind, on a machine without SLURM."""
    (tmp_path / "s.toml").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    store = Store.open(tmp_path / "runs" / "s")
    store.publish_record(DONE.key, record_factory(seed=0).plain(), new_attempt_id())
    assert store.acquire_lease(RUNNING.key, ATTEMPT)
    store.attempt_folder(RUNNING.key, ATTEMPT).mkdir(parents=True)
    Progress(store.attempt_folder(RUNNING.key, ATTEMPT), step=1, steps=4).save()
    record_failure(store, BROKEN, new_attempt_id(), "killed", "by somebody")
    return store


def command(folder: Path, name: str, prints: str, status: int = 0) -> None:
    """Write a command of SLURM that always prints the same."""
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{f'echo {prints!r}' if prints else ':'}\nexit {status}\n")
    path.chmod(0o755)


@pytest.fixture
def submission(store: Store) -> Submission:
    """A submission of all four runs in one job."""
    specs = (DONE, RUNNING, BROKEN, ASKED)
    submission = Submission.new(
        store, "s", [specs], 10, Profile(name="p"), None, retry=False, plugins={}
    )
    submission.write()
    return submission


def test_text(store: Store, say: Say) -> None:
    """One line of counts, then the running and the failed runs."""
    status, out, err = say("status", "s.toml")
    counts, running, failed = out.splitlines()
    assert (status, err) == (0, "")
    assert counts == "runs/s: 1 of 4 runs done, 1 running, 1 failed (1 killed), 1 missing".replace(
        "runs/s", str(store.root)
    )
    assert running.startswith(f"  {RUNNING.key[:12]} on node1, job 17 since 20")
    assert running.endswith(", 25 % of its training")
    assert failed == f"  {BROKEN.key[:12]} killed: by somebody; will be retried"


def test_json(store: Store, say: Say) -> None:
    """The JSON lists every run by its full key."""
    found = json.loads(say("status", str(store.root), "--json")[1])
    assert (found["runs"], found["done"], found["missing"]) == (3, 1, 0)  # no sweep was recorded
    assert found["running"][RUNNING.key]["attempt"] == ATTEMPT
    assert (found["running"][RUNNING.key]["step"], found["running"][RUNNING.key]["steps"]) == (1, 4)
    assert found["failed"][BROKEN.key]["cause"] == "killed"
    assert found["queue_known"] is True


def test_queued_runs(store: Store, submission: Submission, say: Say, tmp_path: Path) -> None:
    """The missing runs of a job are queued, and so are failed runs that it retries."""
    command(tmp_path, "sbatch", "")
    command(tmp_path, "squeue", f"18|18_0|0|PENDING|{submission.name}-0|Priority")
    found = json.loads(say("status", "s.toml", "--json")[1])
    assert found["queued"].keys() == {BROKEN.key, ASKED.key}
    assert found["queued"][ASKED.key] == {"job": "18_0", "state": "PENDING", "reason": "Priority"}
    assert (found["missing"], found["failed"]) == (0, {})
    assert "1 running, 2 queued, 0 failed, 0 missing" in say("status", "s.toml")[1]


def test_a_held_job(store: Store, submission: Submission, say: Say, tmp_path: Path) -> None:
    """A job that will never start by itself is named, with its reason."""
    reason = "launch failed requeued held"
    command(tmp_path, "sbatch", "")
    command(tmp_path, "squeue", f"18|18_0|0|PENDING|{submission.name}-0|{reason}")
    said = say("status", "s.toml")[1]
    assert f"job 18_0 is held permanently ({reason}); submit replaces it" in said


def test_an_unavailable_controller(
    store: Store, submission: Submission, say: Say, tmp_path: Path
) -> None:
    """The status from the store is shown, with a note that more may be queued."""
    before = json.loads(say("status", "s.toml", "--json")[1])
    command(tmp_path, "sbatch", "", 1)
    command(tmp_path, "squeue", "", 1)
    found = json.loads(say("status", "s.toml", "--json")[1])
    assert found == before | {"queue_known": False}
    assert "SLURM does not answer: missing runs may be queued" in say("status", "s.toml")[1]


def test_an_aborted_submission(store: Store, submission: Submission, say: Say) -> None:
    """The reason of an abort is shown until the next submission."""
    submission.abort("3 runs in a row failed: no data")
    assert "  aborted: 3 runs in a row failed: no data\n" in say("status", "s.toml")[1]
    assert json.loads(say("status", "s.toml", "--json")[1])["aborted"] == submission.aborted


def test_watch(store: Store, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is refreshed every five seconds until no run is running."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            (store.run_folder(RUNNING.key) / "claim").unlink()

    monkeypatch.setattr("paibench.commands.sweep.sleep", sleep)
    status, out, _ = say("status", "s.toml", "--watch")
    looks = [line for line in out.splitlines() if "of 4 runs done" in line]
    assert (status, pauses) == (0, [5.0, 5.0])
    assert ["1 running" in look for look in looks] == [True, True, False]


def test_watch_queued_runs(
    store: Store, submission: Submission, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queued runs are watched as well."""
    (store.run_folder(RUNNING.key) / "claim").unlink()
    command(tmp_path, "sbatch", "")
    command(tmp_path, "squeue", f"18|18_0|0|PENDING|{submission.name}-0|Priority")
    monkeypatch.setattr(
        "paibench.commands.sweep.sleep", lambda seconds: command(tmp_path, "squeue", "")
    )
    out = say("status", "s.toml", "--watch")[1]
    assert [" 3 queued" in line for line in out.splitlines() if "runs done" in line] == [
        True,
        False,
    ]


def test_many_dead_jobs(store: Store, say: Say, tmp_path: Path) -> None:
    """For a thousand dead jobs, the controller is asked once and accounting never."""
    count = 1_000
    text = SWEEP.replace("[0, 1, 2, 3]", str([*range(1_000, 1_000 + count)]))
    (tmp_path / "many.toml").write_text(text)
    specs = expand(tomllib.loads(text)).specs
    given = (store, "s", [(spec,) for spec in specs], 1_001, Profile(name="p"), None)
    Submission.new(*given, retry=False, plugins={}).write()
    for number, spec in enumerate(specs):
        owner = f"j{number}.0-test.far.1.0123abcd"
        attempt = store.attempt_folder(spec.key, owner)
        attempt.mkdir(parents=True)
        (attempt / "headway.json").write_text('{"step": 1, "steps": 4}')
        claim = store.run_folder(spec.key) / "claim"
        claim.write_text(f"{owner} far/boot/7 1 1 {number:032x} 1700000000\n")
        os.utime(claim, (time.time() - 2 * LEASE_SECONDS,) * 2)
    for name in ("sbatch", "squeue", "sacct", "scontrol"):
        command(tmp_path, name, "")
        script = tmp_path / "bin" / name
        script.write_text(f"#!/bin/sh\necho {name} $1 >> {tmp_path}/calls\n")
    begun = time.monotonic()
    found = json.loads(say("status", "many.toml", "--out", str(store.root), "--json")[1])
    told = time.monotonic()
    assert (found["missing"], found["running"], found["queue_known"]) == (count, {}, True)
    assert (tmp_path / "calls").read_text() == "squeue -h\n"
    options = ("--out", str(store.root), "--json", "--dry-run")
    planned = json.loads(say("submit", "many.toml", *options)[1])
    assert (planned["queued"], planned["under_way"]) == (count, 0)
    assert told - begun < 60
    assert time.monotonic() - told < 60
    assert "sacct" not in (tmp_path / "calls").read_text()


def test_many_failures(tmp_path: Path, store: Store, say: Say) -> None:
    """Twenty runs of each kind are shown, and all with --all."""
    for seed in range(100, 130):
        spec = Spec.of(**NAMED, density=0.1, seed=seed)
        record_failure(store, spec, new_attempt_id(), "plugin", "it raised")
    said = say("status", str(store.root))[1]
    assert "  and 11 more (--all shows them)\n" in said
    assert said.count("plugin: it raised") <= 20
    assert say("status", str(store.root), "--all")[1].count("plugin: it raised") == 30
