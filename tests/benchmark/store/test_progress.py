"""The progress that an attempt writes and others read."""

import json
import time
from pathlib import Path

import pytest

from paibench.benchmark.store import progress
from paibench.benchmark.store.progress import Progress, read_progress


def noted(folder: Path) -> dict[str, int]:
    facts: dict[str, int] = json.loads((folder / "headway.json").read_bytes())
    return facts


def test_progress_is_written_and_read(tmp_path: Path) -> None:
    """Stages, the steps of the training and the step at which it resumed are read back."""
    told = Progress(tmp_path)
    told.stage()
    told.stage()
    told.search(7)
    told.train(40, 100)
    told.train(60, 100)
    told.save()
    kept = {"stages": 2, "searched": 7, "begun": 40, "step": 60, "steps": 100}
    written = noted(tmp_path)
    assert abs(written.pop("started") - time.time()) < 60
    assert written == kept | {"waited": 0}
    found = read_progress(tmp_path)
    assert (found.stages, found.begun, found.step, found.steps) == (2, 40, 60, 100)
    assert [path.name for path in tmp_path.iterdir()] == ["headway.json"]


def test_writes_are_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand steps within a second write nothing; the first after it writes."""
    clock = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: clock)
    told = Progress(tmp_path)
    for step in range(1_000):
        told.train(step, 2_000)
    assert not list(tmp_path.iterdir())
    clock += 2 * progress.EVERY
    told.train(1_000, 2_000)
    told.train(1_001, 2_000)
    assert noted(tmp_path)["step"] == 1_000


@pytest.mark.parametrize(
    ("stages", "step", "steps", "words"),
    [
        (0, 0, 0, "in its search"),
        (3, 0, 0, "in its search, 3 stages done"),
        (0, 0, 46, "0 % of its training"),
        (3, 23, 46, "50 % of its training"),
        (0, 46, 46, "100 % of its training"),
    ],
)
def test_in_words(stages: int, step: int, steps: int, words: str) -> None:
    """The text has the number of stages, then the percentage of the training."""
    assert str(Progress(stages=stages, step=step, steps=steps)) == words


def test_progress_changes_the_fingerprint() -> None:
    """Each stage and each step gives a larger fingerprint."""
    told, far = Progress(), []
    for _ in range(3):
        told.stage()
        far.append(told.fingerprint)
    for step in range(1, 4):
        told.train(step, 3)
        far.append(told.fingerprint)
    assert far == sorted(set(far))


@pytest.mark.parametrize(
    "data",
    [None, b"", b"{", b"[]", b"7", b"\xff", b'{"other": 1}', b'{"step": "x"}', b'{"step": null}'],
    ids=repr,
)
def test_unreadable_progress_is_no_progress(tmp_path: Path, data: bytes | None) -> None:
    """With a missing or damaged file, no progress is known."""
    if data is not None:
        (tmp_path / "headway.json").write_bytes(data)
    found = read_progress(tmp_path)
    assert (found.fingerprint, found.steps, str(found)) == ((0, 0, 0, 0), 0, "in its search")


def test_a_folder_that_is_gone_does_not_stop_the_work(tmp_path: Path) -> None:
    """If the file cannot be written, the attempt continues."""
    told = Progress(tmp_path / "gone")
    told.train(1, 2)
    told.save()
    assert list(tmp_path.iterdir()) == []
