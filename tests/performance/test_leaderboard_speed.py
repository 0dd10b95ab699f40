"""What a hundred thousand records cost: to read them, and to make a leaderboard of them."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.atomic import create_once
from paibench.benchmark.store.checksummed_json import decode, encode
from paibench.benchmark.store.store import Store

REAL = Path(__file__).parents[2] / "results" / "mnist-lenet"
MODELS = ["lenet-300-100", "conv-2", "conv-4", "resnet-20", "vgg-16"]
METHODS = ["random", "snip", "grasp", "synflow", "edge_popup"]
CONTROLS = ["none", "shuffle", "reinit", "invert"]
DENSITIES = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005]
FULL = 100_000
PER_SWEEP = 10_000

_LOAD = """
import json, resource, sys, time
from pathlib import Path
from paibench.leaderboard.frame.load import load
start, began = time.perf_counter(), time.process_time()
frame = load(Path(sys.argv[1]))
took = time.perf_counter() - start
both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
used = time.process_time() - began + both[1].ru_utime + both[1].ru_stime
peak = sum(usage.ru_maxrss for usage in both) / 1024
print(json.dumps([took, used, peak, len(frame.runs), len(frame.problems)]))
"""


def asked() -> Iterator[dict[str, Any]]:
    """Specs of 100 methods and controls at 10 densities, 20 seeds, on 5 models."""
    for seed, variant, density, control, method, model in product(
        range(20), range(5), DENSITIES, CONTROLS, METHODS, MODELS
    ):
        options = {"variant": variant} if variant else {}
        yield {
            "dataset": "mnist",
            "model": model,
            "recipe": {"name": "lenet-mnist", "epochs": 10, "schedule": "cosine"},
            "method": {"name": method, **options},
            "density": density,
            "seed": seed,
            "control": control,
        }


def store_of(root: Path, count: int) -> None:
    """A store of so many records, each a real one but for its spec, results and times.

    Each has the folder of its one attempt, and all stand in sweeps of 10,000 runs.
    """
    store = Store.open(root)
    folder = min((REAL / "runs").glob("*/*.json"))
    real = decode(folder.read_bytes())
    noise = random.Random(0)
    sweep: dict[str, Any] = {}
    for number, plain in enumerate(islice(asked(), count)):
        spec = Spec.model_validate(plain)
        kept = round(spec.density * real["prunable"])
        layers = [kept - kept // 10, kept // 10, 0]
        data = encode(
            real
            | {"key": spec.key, "spec": spec.canonical, "kept": kept, "layer_kept": layers}
            | {"density": kept / real["prunable"], "density_effective": kept / real["prunable"]}
            | {"mask_sha256": spec.key + "0" * 24, "accuracy": 0.9 + noise.random() / 20}
            | {"accuracy_untrained": 0.1 + noise.random() / 20, "loss": noise.random()}
            | {"search_seconds": noise.random(), "train_seconds": 100 * noise.random()}
        )
        store.record_path(spec.key).write_bytes(data)
        attempts = store.run_folder(spec.key) / "attempts"
        attempts.joinpath(f"host.1.{number:08x}").mkdir(parents=True)
        sweep[spec.key] = spec.canonical
        if len(sweep) == PER_SWEEP:
            create_once(
                root / "sweeps" / f"{number:040x}.json", encode({"name": "s", "runs": sweep})
            )
            sweep = {}


def _command(store: Path, out: Path) -> tuple[float, float, dict[str, Any]]:
    """The seconds and the MiB that `paibench leaderboard` takes, and what it says."""
    command = [sys.executable, "-m", "paibench", "leaderboard", str(store), "--out", str(out)]
    start = time.perf_counter()
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = json.loads(process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return time.perf_counter() - start, usage.ru_maxrss / 1024, said


@pytest.mark.slow
def test_a_hundred_thousand_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Read within 10 s and 2 GiB, each record at the same cost whatever their number."""
    each = {}
    for count in (FULL // 4, FULL // 2, FULL):
        store_of(tmp_path / str(count), count)
        command = [sys.executable, "-c", _LOAD, str(tmp_path / str(count))]
        tries = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for _ in range(3)
        ]
        (took, used, *_), peak = min(tries), max(peak for _, _, peak, *_ in tries)
        spread = max(tries)[0] - took
        each[count] = used / count
        with capsys.disabled():
            print(
                f"\n{count:,} records: read in {took:.1f} s (n = 3, spread {spread:.1f} s), "
                f"{used:.1f} s of processor, peak {peak:.0f} MiB of both processes"
            )
        assert all(found[3:] == [count, 0] for found in tries)
    whole, highest, built = _command(tmp_path / str(FULL), tmp_path / "out")
    largest = max(path.stat().st_size for path in (tmp_path / "out").rglob("*.html"))
    with capsys.disabled():
        print(
            f"paibench leaderboard of {FULL:,} records: {whole:.1f} s, peak {highest:.0f} MiB, "
            f"{len(built['files'])} files, the largest page {largest / 1e6:.2f} MB"
        )
    assert (built["done"], built["unreadable"]) == (FULL, 0)
    assert largest < 3_000_000
    assert whole < 60
    assert highest < 2048
    assert each[FULL] < 1.5 * each[FULL // 4]
    assert took < 10, "of two cores that nothing else runs on"
    assert peak < 2048
