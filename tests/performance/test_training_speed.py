"""How fast the suite trains, as ratios to the plainest loop within one run.

Run alone on an idle machine: `pytest -m slow -s tests/performance/test_training_speed.py`.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paibench.benchmark.recipes import cifar_resnet, cifar_vgg, lenet_mnist
from paibench.methods.core.registry import get
from paibench.methods.core.task import Task
from paibench.methods.saliency.rounds import RemainingWeights
from paibench.methods.saliency.synflow import synflow
from paibench.methods.supermasks.edge_popup import edge_popup
from paibench.methods.training.data import Images
from paibench.methods.training.loop import Hooks, Trainer
from paibench.methods.training.recipe import Recipe
from paibench.models.core.build import build

pytestmark = pytest.mark.slow

BATCH = 128
THREADS = 2
Shape = tuple[int, int, int]
SHAPE: Shape = (3, 32, 32)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


def images(shape: Shape, steps: int) -> Images:
    draw = torch.Generator().manual_seed(0)
    count = BATCH * steps
    pixels = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=draw)
    labels = torch.randint(0, 10, (count,), generator=draw)
    return Images(pixels, labels, 10, (0.5,) * shape[0], (0.25,) * shape[0])


def network(model: str, shape: Shape) -> nn.Module:
    return build(get(model, "models"), shape, 10, options={}, init="kaiming_normal", seed=0)


def plain_epoch(net: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    """The plainest loop: floats made beforehand, a permutation, slices, SGD as it comes."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    order = torch.randperm(len(labels))
    for start in range(0, len(labels), BATCH):
        chosen = order[start : start + BATCH]
        loss = F.cross_entropy(net(inputs[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def ratio(first: Callable[[], None], second: Callable[[], None], repeats: int) -> float:
    """How many times longer the first takes than the second: the median over interleaved pairs."""

    def seconds(work: Callable[[], None]) -> float:
        clock = time.perf_counter()
        work()
        return time.perf_counter() - clock

    first()
    second()
    return statistics.median(seconds(first) / seconds(second) for _ in range(repeats))


@pytest.mark.parametrize(
    ("model", "shape", "recipe", "steps", "repeats", "least"),
    [
        pytest.param("lenet-300-100", (1, 28, 28), lenet_mnist, 400, 9, 0.9, id="lenet-300-100"),
        pytest.param("resnet-20", (3, 32, 32), cifar_resnet, 6, 7, 1.9, id="resnet-20"),
        pytest.param("vgg-16", (3, 32, 32), cifar_vgg, 3, 5, 1.8, id="vgg-16"),
    ],
)
def test_training_is_as_fast_as_a_plain_loop_or_faster(
    model: str, shape: Shape, recipe: Recipe, steps: int, repeats: int, least: float
) -> None:
    """Loading, augmentation and mask included; convolutional networks with precision bf16."""
    data = images(shape, steps)
    if len(shape) and shape[0] == 3:
        recipe = replace(recipe, precision="bf16")
    recipe = replace(recipe, epochs=1, lr=0.01)
    floats = data.pixels.float() / 255
    net, ours = network(model, shape), network(model, shape)
    trainer = Trainer(ours, data, recipe, seed=0)
    found = ratio(
        lambda: plain_epoch(net, floats, data.labels),
        lambda: trainer.run(0, steps, Hooks()),
        repeats,
    )
    print(f"\n{model}: {found:.2f} times the throughput of the plain loop, n = {repeats} pairs")
    assert found >= least


@pytest.mark.parametrize(
    ("model", "shape", "steps", "repeats", "most"),
    [
        pytest.param("lenet-300-100", (1, 28, 28), 300, 9, 1.5, id="lenet-300-100"),
        pytest.param("vgg-16", (3, 32, 32), 3, 5, 1.3, id="vgg-16"),
    ],
)
def test_an_edge_popup_step_costs_little_more_than_a_dense_step(
    model: str, shape: Shape, steps: int, repeats: int, most: float
) -> None:
    """Ranking the scores at every step is cheap beside the forward and backward pass."""
    data = images(shape, steps)
    recipe = Recipe(epochs=1, batch=BATCH, lr=0.1)
    net, dense = network(model, shape), network(model, shape)
    trainer = Trainer(dense, data, recipe, seed=0)

    def search() -> None:
        edge_popup(net, Task(data, seed=0, recipe=recipe), 0.1)

    found = ratio(search, lambda: trainer.run(0, steps, Hooks()), repeats)
    print(f"\n{model}: an edge-popup step takes {found:.2f} dense steps, n = {repeats} pairs")
    assert found <= most


def test_synflow_spends_its_time_on_scores_and_not_on_choosing_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """100 iterations on VGG-16: under a third of the time goes into choosing weights.

    All is choosing but the forward and backward pass and the products of weights and slopes.
    """
    scoring = 0.0
    scores = RemainingWeights.scores

    def timed(standing: RemainingWeights, slopes: Callable[[], Sequence[Tensor]]) -> Tensor:
        nonlocal scoring
        clock = time.perf_counter()
        found = scores(standing, slopes)
        scoring += time.perf_counter() - clock
        return found

    monkeypatch.setattr(RemainingWeights, "scores", timed)
    net, task = network("vgg-16", SHAPE), Task(images(SHAPE, 1), seed=0, recipe=Recipe(epochs=1))
    clock = time.perf_counter()
    synflow(net, task, 0.05)
    whole = time.perf_counter() - clock
    choosing = 1 - scoring / whole
    print(f"\nvgg-16: {100 * choosing:.0f} % of {whole:.1f} s go into choosing weights")
    assert choosing < 1 / 3
