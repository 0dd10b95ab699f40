"""What the site of a hundred thousand runs costs its maker and its readers."""

import math
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.leaderboard.board import compute
from paibench.leaderboard.frame.load import Frame, tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.site.build import build_site

MODELS = ["lenet-300-100", "conv-2", "conv-4", "resnet-20", "vgg-16"]
DENSITIES = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005]
LARGEST = 3_000_000


def synthetic(record: Record, count: int, models: int) -> pd.DataFrame:
    """So many runs that differ from one record in what was asked and in their accuracy."""
    per_method = models * len(DENSITIES) * 5
    asked = [
        (MODELS[n % models], DENSITIES[n // models % 10], n // models // 10 % 5, n // per_method)
        for n in range(count)
    ]
    one = row_of(record)
    rows = []
    noise = np.random.default_rng(0).normal(0, 0.005, count).tolist()
    for (model, density, seed, which), error in zip(asked, noise, strict=True):
        method = ["random", "snip", "synflow", "grasp", "magnitude"][which % 5]
        options = {"per_class": which // 5} if which >= 5 else {}
        spec = Spec.model_validate(
            {"dataset": "mnist", "model": model, "recipe": "lite", "density": density}
            | {"method": {"name": method, **options}, "seed": seed}
        )
        label = f"{method}(per_class={which // 5})" if options else method
        rows.append(
            {
                **one,
                "key": spec.key,
                "dataset": "mnist",
                "model": model,
                "method": method,
                "method_label": label,
                "density_asked": density,
                "seed": seed,
                "accuracy": min(0.99, 0.9 - 0.1 / (1 + math.log(1 / density)) + error),
                "mask_sha256": spec.key + "0" * 24,
                "search_seconds": 1 + abs(error),
            }
        )
    return tabulate(rows)


@pytest.mark.slow
@pytest.mark.parametrize("models", [5, 1], ids=["five tracks", "one track"])
def test_a_hundred_thousand_runs(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    record_factory: Callable[..., Record],
    models: int,
) -> None:
    """Built within 40 s; no page with all that it loads is above 3 MB."""
    frame = Frame(synthetic(record_factory(), 100_000, models))
    start = time.perf_counter()
    built = build_site(compute(frame), tmp_path)
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pages = {name: size for name, size in built.bytes.items() if name.endswith(".html")}
    vega = built.bytes["assets/vega.js"]
    scripts = sum(size for name, size in built.bytes.items() if name.startswith("assets/")) - vega
    charts = {name: size for name, size in pages.items() if name.startswith("track/")}
    shard = max(size for name, size in built.bytes.items() if name.startswith("data/runs/"))
    largest = max(pages, key=lambda name: pages[name])
    with capsys.disabled():
        print(
            f"\n100,000 runs: site in {took:.1f} s, peak {peak:.0f} MiB of the whole process, "
            f"{sum(built.bytes.values()) / 1e6:.0f} MB in {len(built.paths)} files; largest page "
            f"{largest} {pages[largest] / 1e6:.2f} MB, largest track "
            f"{max(charts.values()) / 1e6:.2f} MB, Vega {vega / 1e6:.2f} MB, "
            f"other assets {scripts / 1e6:.2f} MB, "
            f"largest shard {shard / 1e6:.2f} MB"
        )
        print("\n".join(line for line in built.left_out if "want of room" in line))
    assert pages[largest] + scripts < LARGEST
    assert max(charts.values()) + scripts + vega < LARGEST
    assert pages["run.html"] + scripts + shard < LARGEST
    assert took < 40
