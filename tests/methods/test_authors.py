"""Scores and masks of the authors' own code, on the same weights and examples.

The vectors come from mil-ad/prospr a921779, naver/force 7494eed, iurada/px-ntk-pruning ed6c40e,
YiteWang/NTK-SAP e23682b, QuanNguyen-Tri/DPaI 137c555, tanayarora09/TLAB f5ac761 (CTS) and
jaeho-lee/layer-adaptive-sparsity 94e53b1 (LAMP), run in float64 on the CPU on three networks: a
perceptron, a convolutional network, and one with batch norms. What these methods draw was given to
the authors' code. The densities are such that truncating the counts of the rounds, as FORCE does,
or rounding them up, as PX and NTK-SAP do, gives the counts of rounding to the nearest, as we do.

PHEW is random: its vectors are how many of 400 masks have each weight, from
ShreyasMalakarjunPatil/PHEW c4a0d40.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from paibench.methods.baselines.magnitude import lamp
from paibench.methods.core.mask import flatten
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, select
from paibench.methods.saliency.force import force
from paibench.methods.saliency.ntk_sap import Kernel, ntk_sap
from paibench.methods.saliency.prospr import prospr
from paibench.methods.saliency.px import Paths, px
from paibench.methods.supermasks.cts import cts
from paibench.methods.topology.dpai import dpai
from paibench.methods.topology.phew import Walks

VECTORS = load_file(Path(__file__).parents[1] / "golden" / "authors.safetensors")
ROUNDS = 4
DENSITIES = {
    ("force", "perceptron"): (0.2016, 0.0494),
    ("force", "convolutional"): (0.1934, 0.0518),
    ("force", "batch norms"): (0.2018, 0.0498),
    ("px", "perceptron"): (0.202, 0.0492),
    ("px", "convolutional"): (0.1926, 0.0514),
    ("px", "batch norms"): (0.1986, 0.0486),
}


def networks() -> dict[str, Callable[[], nn.Module]]:
    return {
        "perceptron": lambda: nn.Sequential(
            *(nn.Flatten(), nn.Linear(72, 12, bias=False), nn.ReLU()),
            *(nn.Linear(12, 10, bias=False), nn.ReLU(), nn.Linear(10, 3, bias=False)),
        ),
        "convolutional": lambda: nn.Sequential(
            *(nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.ReLU(), nn.AvgPool2d(2)),
            *(nn.Conv2d(6, 8, 3, bias=False), nn.ReLU(), nn.Flatten()),
            nn.Linear(8, 3, bias=False),
        ),
        "batch norms": lambda: nn.Sequential(
            *(nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()),
            nn.Linear(128, 3, bias=False),
        ),
    }


def network(name: str) -> nn.Module:
    """Return a network with the weights that the authors' code was given."""
    net = networks()[name]().double()
    state = {
        key.partition("/")[2]: value for key, value in VECTORS.items() if key.startswith(f"{name}/")
    }
    net.load_state_dict(state, strict=False)  # without the counters of batch norms
    return net


def work() -> Task:
    return Task.of(VECTORS["inputs"], VECTORS["labels"], classes=3)


def mask_of(found: Scores, name: str, density: float) -> Tensor:
    return flatten(select(found, network(name), density))


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("order", ["full", "first"])
def test_prospr(name: str, order: str) -> None:
    """The scores of three inner steps, up to their sum."""
    theirs = VECTORS[f"prospr/{name}/{'full' if order == 'full' else 'first_order'}"]
    found = prospr(network(name), work(), 0.1, lr=0.1, order=order)  # type: ignore[arg-type]
    torch.testing.assert_close(flatten(found.values), theirs / theirs.sum(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "density"),
    [
        (name, each)
        for (method, name), both in DENSITIES.items()
        if method == "force"
        for each in both
    ],
)
@pytest.mark.parametrize("variant", ["force", "iter_snip"])
def test_force(name: str, density: float, variant: str) -> None:
    """The masks after four rounds."""
    found = force(network(name), work(), density, rounds=ROUNDS, variant=variant)  # type: ignore[arg-type]
    assert torch.equal(mask_of(found, name, density), VECTORS[f"force/{name}/{variant}/{density}"])


@pytest.mark.parametrize(
    ("name", "density"),
    [(name, each) for name in networks() for each in DENSITIES["px", name]],
)
def test_px(name: str, density: float) -> None:
    """The scores of the first round up to a factor, and the masks after four."""
    paths = Paths(network(name), "train", squares_last=False)
    squares = flatten(paths.weights).square()
    slopes = paths.gradients(squares, VECTORS["inputs"], data=True)
    ours = squares * torch.cat([slope.flatten() for slope in slopes]).abs()
    theirs = VECTORS[f"px/{name}/first"]
    torch.testing.assert_close(ours / ours.sum(), theirs / theirs.sum(), rtol=1e-6, atol=1e-12)
    found = px(network(name), work(), density, rounds=ROUNDS)
    assert torch.equal(mask_of(found, name, density), VECTORS[f"px/{name}/{density}"])


@pytest.mark.parametrize("key", [key for key in VECTORS if key.startswith("ntk_sap/")])
def test_ntk_sap(key: str) -> None:
    """The scores of the first round, and the masks after four, with the weights as they are."""
    _, name, density = key.split("/")
    net, examples = network(name), 30
    if density == "first":
        kernel = Kernel(net, work(), 0.01, shuffles=False)
        gates = torch.ones_like(flatten(kernel.weights))
        found = (kernel.gradient(gates, examples) + kernel.gradient(gates, examples)).abs()
        torch.testing.assert_close(found.float(), VECTORS[key], rtol=1e-5, atol=1e-12)
        return
    kept = float(VECTORS[key].double().mean())
    result = ntk_sap(net, work(), kept, rounds=ROUNDS, repeats=2, weights="kept")
    assert torch.equal(mask_of(result, name, kept), VECTORS[key])


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("density", [0.2, 0.05])
def test_dpai(name: str, density: float) -> None:
    """The scores after twelve steps, for the same quotas."""
    found = flatten(dpai(network(name), work(), density, steps=12).values)
    torch.testing.assert_close(
        found.float(), VECTORS[f"dpai/{name}/{density}"], rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("objective", ["kl", "loss"])
@pytest.mark.parametrize("density", [0.2, 0.05])
def test_cts(name: str, objective: Any, density: float) -> None:
    """The log-odds after six epochs of four steps."""
    found = cts(network(name), work(), density, objective=objective, epochs=6, batch=8)
    assert isinstance(found, Scores)
    theirs = VECTORS[f"cts/{name}/{objective}/{density}"]
    torch.testing.assert_close(flatten(found.values).float(), theirs, rtol=1e-5, atol=1e-6)


def test_lamp() -> None:
    """The scores of one layer."""
    torch.testing.assert_close(lamp(VECTORS["lamp/weight"]), VECTORS["lamp/score"])


def kept_by_walks(name: str, density: float, seeds: int) -> Tensor:
    """Return how many of our masks have each weight, with the whole last walk, as the authors."""
    counts = torch.zeros(0)
    for seed in range(seeds):
        net = network(name)
        walks = Walks(net, Task.of(VECTORS["inputs"], VECTORS["labels"], classes=3, seed=seed))
        kept_count = int(density * walks.first.numel() + 1e-9)
        while walks.passed() < kept_count:
            walks.add(16)
        mask = walks.first <= walks.first.kthvalue(kept_count).values
        counts = mask.double() if seed == 0 else counts + mask
    return counts


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("density", [0.2, 0.05])
def test_phew(name: str, density: float) -> None:
    """Each weight is in as many masks as in the authors', up to chance."""
    seeds = 100
    ours, theirs = kept_by_walks(name, density, seeds), VECTORS[f"phew/{name}/{density}"].double()
    share = (ours + theirs) / (seeds + 400)
    random = (share > 0.1) & (share < 0.9)
    deviation = (share * (1 - share) * (1 / seeds + 1 / 400)).sqrt()
    z = ((ours / seeds - theirs / 400) / deviation)[random]
    assert len(z) > 40
    # the mean of z^2 is 1 for equal probabilities
    assert 0.8 < float(z.square().mean()) < 1.2
    assert float(z.abs().max()) < 4.5
