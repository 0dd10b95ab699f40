"""On a GPU: the same contract, the same bits twice. Run by name: `pytest -m cuda`."""

import pytest
import torch
from factories import spec_of

from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.run import run
from paibench.benchmark.spec import Spec
from paibench.methods.core.mask import layer_counts, prunable, total
from paibench.methods.core.mask_file import digest
from paibench.methods.core.registry import get, names
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import as_ticket, select
from paibench.methods.training.recipe import Recipe
from paibench.models.core.build import build

pytestmark = pytest.mark.cuda

DEVICE = "cuda"
METHODS = [name for name in names() if name != "dense"]


def sparse(method: str) -> Spec:
    return spec_of(method, density=1.0 if method == "dense" else 0.05)


@pytest.mark.parametrize("method", ["dense", *METHODS])
def test_a_run_gives_the_same_bits_twice(method: str) -> None:
    """Mask, trained weights and accuracy are equal, and the device stands in the record."""
    first, second = (run(sparse(method), RunSettings(DEVICE)).record for _ in range(2))
    assert first.stable() == second.stable()
    assert first.status == "done"
    assert first.environment.device == torch.cuda.get_device_name(DEVICE)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_exact_counts_on_a_convolutional_network(method: str, precision: str) -> None:
    """ResNet-20 on the GPU: exactly round(density * total) weights, twice the same."""
    net = build(
        get("resnet-20", "models"), (3, 32, 32), 10, options={}, init="kaiming_normal", seed=0
    ).to(DEVICE)
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=draw).to(DEVICE)
    labels = (torch.arange(64) % 10).to(DEVICE)
    recipe = Recipe(epochs=2, batch=32, augment="crop-flip", precision=precision)  # type: ignore[arg-type]
    masks = []
    for _ in range(2):
        task = Task.of(inputs, labels, classes=10, recipe=recipe)
        masks.append(select(as_ticket(get(method)(net, task, 0.05)).mask, net, 0.05))
    assert all(sum(layer_counts(m).values()) == round(0.05 * total(prunable(net))) for m in masks)
    assert digest(masks[0]) == digest(masks[1])


@pytest.mark.parametrize("method", ["random", "magnitude", "synflow"])
def test_masks_that_need_no_data_are_those_of_the_cpu(method: str) -> None:
    """Initial weights and draws come from the CPU, so device and CPU agree on the mask."""
    here, there = (run(sparse(method), RunSettings(device)).record for device in ("cpu", DEVICE))
    assert here.initial_sha256 == there.initial_sha256
    assert here.mask_sha256 == there.mask_sha256
