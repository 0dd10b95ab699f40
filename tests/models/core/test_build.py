"""Every registered model through `build`: the contract of the models room."""

import inspect
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from paibench.methods.core.mask import prunable
from paibench.methods.core.registry import get, names
from paibench.models.core.build import build
from paibench.models.core.init import SCHEMES

MODELS = names("models")
NORMED = [name for name in MODELS if not name.startswith(("lenet", "conv"))]
SMALLEST = {"lenet-300-100": 1, "lenet-5-caffe": 16}
SMALLEST |= {f"conv-{2 * pairs}": 2**pairs for pairs in (1, 2, 3, 4)}
SMALLEST |= {f"resnet-{depth}": 4 for depth in (20, 32, 44, 56)}
SMALLEST |= {f"resnet-{depth}": 8 for depth in (18, 34, 50)}
SMALLEST |= {f"vgg-{depth}": 16 for depth in (11, 13, 16, 19)}
SMALLEST |= {"wide-resnet": 4, "mobilenet-v2": 8}


def _small(name: str, side: int = 32, *, init: str = "kaiming_normal", seed: int = 0) -> nn.Module:
    options = {"width": 0.125}
    return build(get(name, "models"), (3, side, side), 10, options=options, init=init, seed=seed)


@pytest.mark.parametrize("name", MODELS)
def test_signature(name: str) -> None:
    """A factory takes shape and classes; options are keyword-only, plain, typed, with defaults."""
    factory = get(name, "models")
    shape, classes, *options = inspect.signature(factory).parameters.values()
    types = get_type_hints(factory)  # without the ranges of numbers
    assert (shape.name, classes.name) == ("shape", "classes")
    for option in options:
        assert option.kind is option.KEYWORD_ONLY
        values = get_args(types[option.name])
        assert option.default in values if values else type(option.default) is types[option.name]
    assert "width" in {option.name for option in options}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_everything(name: str) -> None:
    """Logits have one row per image, and the loss depends on every parameter."""
    net = _small(name)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = net(images)
    assert logits.shape == (4, 10)
    F.cross_entropy(logits, torch.arange(4)).backward()  # type: ignore[no-untyped-call]
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("name", MODELS)
def test_smallest_image(name: str) -> None:
    """The smallest size a model names gives finite logits; one pixel less is refused by name."""
    side = SMALLEST[name]
    with torch.no_grad():
        logits = _small(name, side).eval()(torch.rand(2, 3, side, side))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    with pytest.raises(ValueError) as error:
        _small(name, side - 1)
    small = f"3x{side - 1}x{side - 1}"
    expected = f"{name} cannot take images of {small}: the smallest it can take is 1x{side}x{side}"
    assert str(error.value) == expected


@pytest.mark.parametrize("name", MODELS)
def test_half_width(name: str) -> None:
    """Half the width means half of every hidden layer's units."""
    factory: Callable[..., nn.Module] = get(name, "models")
    with torch.device("meta"):
        full, half = (factory((3, 32, 32), 10, width=width) for width in (1.0, 0.5))
    units = [weight.shape[0] for weight in prunable(full).values()]
    assert units[-1] == 10
    halved = [weight.shape[0] for weight in prunable(half).values()]
    assert halved == [*(count // 2 for count in units[:-1]), 10]


@pytest.mark.parametrize("name", NORMED)
def test_without_affine(name: str) -> None:
    """Without affine norms only weights and the last bias are parameters; the count is the same."""
    factory: Callable[..., nn.Module] = get(name, "models")
    with torch.device("meta"):
        affine, bare = (factory((3, 32, 32), 10, affine=value) for value in (True, False))
    assert {n for n, _ in bare.named_parameters()} == {*prunable(bare), "fc.bias"}
    assert len(list(affine.parameters())) > len(list(bare.parameters()))
    shapes: list[Any] = [[w.shape for w in prunable(net).values()] for net in (affine, bare)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("init", SCHEMES)
def test_the_seed_decides(init: str) -> None:
    """The same seed gives the same bits, another seed another start."""
    first, again, other = (_small("resnet-20", 8, init=init, seed=seed) for seed in (0, 0, 1))
    states = [net.state_dict() for net in (first, again, other)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not any(torch.equal(states[0][name], states[2][name]) for name in prunable(first))


def test_the_global_random_state_is_untouched() -> None:
    """Building neither reads nor changes the global random state."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = _small("resnet-20", 8, init="native")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = _small("resnet-20", 8, init="native")
    assert torch.equal(first.get_parameter("fc.weight"), second.get_parameter("fc.weight"))


def test_constructors_do_not_shift_the_weights() -> None:
    """The draws of a constructor do not change the initialized weights."""

    def wasteful(shape: tuple[int, int, int], classes: int) -> nn.Module:
        torch.rand(100)
        return nn.Linear(shape[0], classes)

    def frugal(shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Linear(shape[0], classes)

    made = [
        build(factory, (8, 1, 1), 4, options={}, init="kaiming_normal", seed=3)
        for factory in (wasteful, frugal)
    ]
    assert torch.equal(made[0].get_parameter("weight"), made[1].get_parameter("weight"))
