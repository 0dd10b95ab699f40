"""Makes the golden board again: `python tests/golden/remake.py`, from the top of the checkout.

`store` has 39 records of results/mnist-lenet as they are there: dense, and random, snip and imp
at four densities with three seeds. `board` is what `paibench leaderboard` makes of them, as far as
it does not depend on the versions of what draws: no figures, no Vega, no Parquet. As long as the
number of the protocol stands, the same records give the same numbers: a change to them in `board`
needs a new protocol, a change to words does not. `--store` chooses the records anew.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.records import Problem
from paibench.benchmark.store.store import Store
from paibench.leaderboard.build import build

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "results" / "mnist-lenet"
METHODS = ("dense", "random", "snip", "imp")
DENSITIES = (1.0, 0.5, 0.1, 0.05, 0.02)
KEPT = re.compile(r"leaderboard\.(md|csv)|data/cells\.csv|index\.html|track/[^/]+\.html")


def choose(results: Path, store: Path) -> None:
    """Copy the records of `METHODS` at `DENSITIES` from one store into a new one."""
    shutil.rmtree(store, ignore_errors=True)
    (store / "runs").mkdir(parents=True)
    shutil.copy(results / "bench.json", store)
    for entry in Store.read(results).records():
        if isinstance(entry, Problem):
            raise SystemExit(f"{entry.path}: {entry.reason}")
        spec = Spec.model_validate(entry.record["spec"])
        if spec.method.name in METHODS and spec.density in DENSITIES:
            shard = store / "runs" / entry.path.parent.name
            shard.mkdir(exist_ok=True)
            shutil.copyfile(entry.path, shard / entry.path.name)


def remake(store: Path, board: Path) -> None:
    """Build the board of a store and keep what does not depend on versions."""
    shutil.rmtree(board, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        for path in build([store], Path(folder)).paths:
            name = path.relative_to(folder).as_posix()
            if KEPT.fullmatch(name):
                (board / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, board / name)


if __name__ == "__main__":
    if "--store" in sys.argv[1:]:
        choose(RESULTS, HERE / "store")
    remake(HERE / "store", HERE / "board")
