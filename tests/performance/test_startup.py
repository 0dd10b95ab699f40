"""How long the command line takes to answer; run with `pytest -m slow tests/performance`.

Times are of the processor, which other work on the machine disturbs least.
"""

import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from paibench.benchmark.store.store import Store

pytestmark = pytest.mark.slow

SWEEP = """
[product]
dataset = "digits"
model = ["lenet-300-100", {name = "lenet-300-100", width = 0.5}]
recipe = ["lite", {name = "lite", epochs = 3}]
method = ["random", "snip", {name = "grasp", per_class = 5}, "synflow", "imp"]
density = [0.5, 0.2, 0.1, 0.05, 0.02]
"""


def seconds(folder: Path, *arguments: str) -> float:
    """Seconds of the processor for one command, which must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "paibench", *arguments]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a sweep of 100 runs, one of 10,000, and a store."""
    (tmp_path / "small.toml").write_text(SWEEP)
    (tmp_path / "large.toml").write_text(f"{SWEEP}seed = {list(range(100))}")
    Store.open(tmp_path / "store")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("methods",), ("models",), ("plan", "small.toml"), ("status", "store")],
    ids=" ".join,
)
def test_an_answer_comes_at_once(folder: Path, arguments: tuple[str, ...]) -> None:
    """Help, catalogues, plans and status answer in under 0.3 seconds (median of 5)."""
    assert median(seconds(folder, *arguments) for _ in range(5)) < 0.3


def test_ten_thousand_runs_are_planned_in_two_seconds(folder: Path) -> None:
    """A plan checks every run of a sweep and computes its key (median of 3)."""
    assert median(seconds(folder, "plan", "large.toml") for _ in range(3)) < 2
