"""`submit --wait` on a real cluster ends in any case."""

from pathlib import Path

import pytest
from cluster import Cluster
from terminal import Terminal, stable, wait


@pytest.fixture
def terminal(quiet_cluster: Cluster, tmp_path: Path) -> Terminal:
    """A folder with a sweep of one small run."""
    terminal = Terminal(tmp_path, quiet_cluster, {"OMP_NUM_THREADS": "1"})
    terminal.profile(cpus=1)
    terminal.sweep(method="random", seed=[0])
    return terminal


def test_what_never_comes_is_not_waited_for(terminal: Terminal) -> None:
    """A run without data is retried, but only a few times."""
    terminal.sweep(dataset="mnist", recipe="lenet-mnist", method="random", seed=[0])
    answer = terminal.run("--wait")
    said = "paibench: 3 submissions in a row gave no new record, so that no other is made"
    assert (answer.status, said in answer.err) == (1, True), answer
    assert terminal.queue() == []
    [key] = [spec.key for spec in terminal.specs]
    causes = [note["cause"] for note in terminal.store.failures(key)]
    assert causes == ["input"] * 5  # the first submission, another that found as much, and three


def test_a_cancelled_job_is_submitted_again(terminal: Terminal) -> None:
    """--wait resubmits a run whose job was cancelled."""
    terminal.sweep(method="random", recipe={"name": "lite", "epochs": 300}, seed=[0])
    waiting = terminal.start("--wait")
    wait(lambda: terminal.queue() == ["RUNNING"])
    terminal.run(command="cancel")
    out, err = waiting.communicate(timeout=180)
    assert (waiting.returncode, err.endswith("sweep: 1 done, 0 failed permanently\n")) == (0, True)
    assert len(stable(terminal.store)) == 1
