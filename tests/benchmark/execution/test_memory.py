"""The peak of the memory that a run has held."""

import resource
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch

from paibench.benchmark.execution import memory
from paibench.benchmark.execution.attempt import attempt
from paibench.benchmark.execution.memory import memory_kills
from paibench.benchmark.execution.pool import Pool
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps.device import peak_memory_mb, reset_peak_memory
from paibench.benchmark.store.failures import is_final
from paibench.benchmark.store.store import Store

CPU = torch.device("cpu")


@pytest.mark.xfail(sys.platform != "linux", reason="peaks cannot be forgotten there")
def test_peaks_are_those_of_one_run() -> None:
    """What an earlier run held is forgotten, and what a later one gave back is not."""
    reset_peak_memory(CPU)
    before = peak_memory_mb(CPU)
    torch.ones(500 * 2**20 // 4)  # 500 MiB, held for a moment
    after = peak_memory_mb(CPU)
    reset_peak_memory(CPU)
    assert before + 400 < after
    assert peak_memory_mb(CPU) < after - 400


@pytest.mark.xfail(sys.platform != "linux", reason="peaks cannot be forgotten there")
def test_freed_memory_that_the_c_library_keeps_is_forgotten() -> None:
    """Small blocks stay in the process when they are freed, if a later one is still in use."""
    reset_peak_memory(CPU)
    blocks = [bytes(60_000) for _ in range(5_000)]  # 300 MB
    held = peak_memory_mb(CPU)
    last = blocks[-1]
    del blocks
    reset_peak_memory(CPU)
    assert peak_memory_mb(CPU) < held - 200
    assert len(last) == 60_000


# test_memory_limit: A limit on memory makes want of memory an error that names its cause.

pytestmark = pytest.mark.usefixtures("hostile")
LIMIT = 2_000


ASK = f"""
import numpy as np, torch
from paibench.benchmark.execution.memory import limit_memory

gigabytes = 4 << 30
before = np.empty(gigabytes, np.uint8), torch.empty(gigabytes, dtype=torch.uint8)
del before
limit_memory({LIMIT})
print(len(np.ones(100 << 20, np.uint8)) >> 20)
try:
    np.empty(gigabytes, np.uint8)
except MemoryError:
    print("MemoryError")
try:
    torch.empty(gigabytes, dtype=torch.uint8)
except RuntimeError as error:
    print("can't allocate memory" in str(error))
"""


def test_more_than_the_limit_is_refused() -> None:
    """What fits is given; what does not is refused to numpy and torch, and nobody is killed."""
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True)
    assert (done.stdout.split(), done.returncode) == (["100", "MemoryError", "True"], 0)


HARD = """
import resource
from paibench.benchmark.execution.memory import limit_memory

hard = 1_500 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
for megabytes in (3_000, 1_000):
    limit_memory(megabytes)
    print(*(limit // 2**20 for limit in resource.getrlimit(resource.RLIMIT_DATA)))
"""


def test_a_harder_limit_stays() -> None:
    """Where the system allows less, the limit is what it allows."""
    done = subprocess.run([sys.executable, "-c", HARD], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["1500 1500", "1000 1500"]


@pytest.mark.slow
def test_a_run_that_wants_too_much(tmp_path: Path) -> None:
    """It fails for want of memory, its note says of how much, and with more it is done."""
    asked = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.1}
    modest, greedy = (Spec.of(**asked, method=name) for name in ("random", "asks_for_gigabytes"))
    store = Store.open(tmp_path / "store")
    pool = Pool(store, RunSettings(memory_mb=LIMIT))
    with closing(pool.run([modest, greedy])) as told:
        causes = {event.spec.method.name: event.cause for event in told}
    assert causes == {"random": "", "asks_for_gigabytes": "memory"}
    note = store.last_failure(greedy.key) or {}
    assert (note["cause"], note["memory_mb"]) == ("memory", LIMIT)
    assert "can't allocate memory" in note["reason"]
    assert [is_final(store, greedy.key, mb) for mb in (LIMIT, LIMIT + 1)] == [True, False]
    # without a limit of its own it would get a share of what this machine has free at the moment
    assert attempt(greedy, store, RunSettings(memory_mb=8_000)) == "done"
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("name", "text", "kills"),
    [
        ("memory.events", "low 0\nhigh 0\nmax 31\noom 2\noom_kill 3\noom_group_kill 0\n", 3),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n", 4),
        ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", 0),
        ("memory.stat", "oom_kill 5\n", 0),
    ],
    ids=["v2", "v1", "old v1", "neither"],
)
def test_kills_are_counted_by_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, kills: int
) -> None:
    """Both kinds of control group say how often the system has killed for want of memory."""
    (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_control_groups", lambda: [tmp_path / "gone", tmp_path])
    assert memory_kills() == kills


def test_every_control_group_of_memory_is_asked() -> None:
    """The folders are below the one of the system, for v2 and for v1's memory."""
    groups = memory._control_groups()
    assert all(folder.is_relative_to("/sys/fs/cgroup") for folder in groups)
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    assert len(groups) == sum(line.split(":")[1] in ("", "memory") for line in lines)
