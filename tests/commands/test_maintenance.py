"""`paibench logs` and `paibench gc`."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from factories import spec_of
from fake_commands import fake_commands

from paibench.benchmark.store.failures import record_failure
from paibench.benchmark.store.progress import Progress
from paibench.benchmark.store.store import Store
from paibench.slurm.cleanup import ALIVE_SECONDS
from paibench.slurm.profile import Profile
from paibench.slurm.submission import Submission

Say = Callable[..., tuple[int, str, str]]
SPEC = spec_of("snip", recipe="lite")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A run with two attempts: the first was preempted, the second has not ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    store = Store.open(tmp_path / "runs" / "s")
    for number, name in enumerate(("j5.0.a.1.00000000", "j5.1.b.2.11111111")):
        folder = store.attempt_folder(SPEC.key, name)
        folder.mkdir(parents=True)
        (folder / "log.txt").write_text(f"printed by {name}\n")
        Progress(folder, step=10 * number, steps=100).save()
        os.utime(folder, (number, number))
    record_failure(store, SPEC, "j5.0.a.1.00000000", "preempted", "its job was preempted")
    os.utime(store.attempt_folder(SPEC.key, "j5.0.a.1.00000000"), (0, 0))
    return store


def test_logs(store: Store, say: Say) -> None:
    """Every attempt in order, with its end and its output."""
    status, out, err = say("logs", SPEC.key[:8])
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "== j5.0.a.1.00000000: preempted: its job was preempted",
        "printed by j5.0.a.1.00000000",
        "== j5.1.b.2.11111111: no failure noted",
        "printed by j5.1.b.2.11111111",
    ]


def test_logs_as_json(store: Store, say: Say) -> None:
    """The JSON also has the progress of each attempt."""
    found = json.loads(say("logs", SPEC.key, "--out", str(store.root), "--json")[1])
    assert [attempt["ended"] for attempt in found] == ["preempted", None]
    assert [attempt["progress"] for attempt in found] == [
        "0 % of its training",
        "10 % of its training",
    ]


def test_logs_of_an_unknown_run(store: Store, say: Say) -> None:
    """An unknown key is refused in one line."""
    status, out, err = say("logs", "zzz")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "no run begins with 'zzz' in runs/s, quickstart; give more characters of" in err


def test_gc(store: Store, say: Say) -> None:
    """Old stages and temporary files are removed; attempts and new stages stay."""
    for name in ("old", "new"):
        store.publish_stage("ab" * 20, name, b"stage")
    before = time.time() - 40 * 86_400
    left = store.root / "runs" / "00" / ".tmp-left"
    left.write_bytes(b"half a reco")
    for path in (store.stage_path("ab" * 20, "old"), left):
        os.utime(path, (before, before))
    found = json.loads(say("gc", str(store.root), "--json")[1])
    assert found == {"leases": 0, "unfinished": 1, "stages": 1, "submissions": 0}
    assert store.read_stage("ab" * 20, "new") == b"stage"
    assert len(store.attempts(SPEC.key)) == 2
    assert say("gc", str(store.root))[1].endswith(
        ": 0 leases released; 0 unfinished files, 0 stages and 0 submissions removed\n"
    )


def submission(store: Store, days: float) -> Submission:
    """Write a submission of the run that is this many days old."""
    given = (store, "s", [(SPEC,)], 10, Profile(name="p"), None)
    made = Submission.new(*given, retry=False, plugins={})
    made.write()
    before = time.time() - days * 86_400
    os.utime(made.folder / "manifest.json", (before, before))
    return made


def test_gc_after_dead_jobs(
    store: Store, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease of a dead job is released; an old submission without jobs is removed."""
    _, young, at_work = submission(store, 31), submission(store, 29), submission(store, 31)
    line = f"18|18_0|0|RUNNING|{at_work.name}-0|None"
    known = f'case "$*" in *"-j 5 "*) ;; *) echo "{line}";; esac'
    fake_commands(tmp_path, monkeypatch, sbatch="exit 1", squeue=known, sacct="")
    owner = "j5.1.b.2.11111111"
    assert store.acquire_lease(SPEC.key, owner)
    claim = store.run_folder(SPEC.key) / "claim"
    before = time.time() - 2 * ALIVE_SECONDS
    os.utime(claim, (before, before))
    found = json.loads(say("gc", str(store.root), "--json")[1])
    assert found == {"leases": 1, "unfinished": 0, "stages": 0, "submissions": 1}
    assert not claim.exists()
    assert [note["cause"] for note in store.failures(SPEC.key)] == ["preempted", "lost"]
    left = {path.name for path in (store.root / "submissions").iterdir()}
    assert left == {young.folder.name, at_work.folder.name}


def test_gc_without_an_answer(
    store: Store, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the controller does not answer, no job counts as dead."""
    kept = submission(store, 31)
    fake_commands(tmp_path, monkeypatch, sbatch="exit 1", squeue="exit 1", sacct="exit 1")
    assert store.acquire_lease(SPEC.key, "j5.1.b.2.11111111")
    found = json.loads(say("gc", str(store.root), "--json")[1])
    assert (found["leases"], found["submissions"]) == (0, 0)
    assert (store.run_folder(SPEC.key) / "claim").exists()
    assert kept.folder.exists()


def test_gc_of_another_folder(store: Store, say: Say, tmp_path: Path) -> None:
    """A folder that is not a store is left unchanged."""
    (tmp_path / "x").mkdir()
    status, _, err = say("gc", "x")
    assert (status, err.count("\n")) == (2, 1)
    assert "is not a paibench store" in err
    assert os.listdir(tmp_path / "x") == []
