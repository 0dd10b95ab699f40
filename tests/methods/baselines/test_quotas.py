"""Layer quotas: what each rule gives, and what all of them keep to."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from paibench.methods.baselines.quotas import Layers, fill, quotas
from paibench.methods.core.registry import UserError

RULES = get_args(Layers)
NET = {"a": (16, 3, 3, 3), "b": (32, 16, 3, 3), "c": (64, 32, 3, 3), "d": (10, 64)}
SIZES = {"a": 432, "b": 4608, "c": 18_432, "d": 640}
TOTAL = 24_112


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.empty(shape) for name, shape in shapes.items()}


def counts(rule: Any, kept: int) -> dict[str, int]:
    return quotas(weights(NET), rule, kept)


dimensions = st.integers(1, 30)
layers = st.lists(
    st.one_of(
        st.tuples(dimensions, dimensions),
        st.tuples(dimensions, dimensions, *[st.integers(1, 3)] * 2),
    ),
    min_size=1,
    max_size=7,
)


@pytest.mark.parametrize("rule", RULES)
@given(shapes=layers, part=st.floats(0, 1), seed=st.integers(0, 3))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_exact(rule: Any, shapes: list[tuple[int, ...]], part: float, seed: int) -> None:
    """Counts add up exactly, and no layer keeps more than it has or less than nothing."""
    given = weights({str(place): shape for place, shape in enumerate(shapes)})
    kept = max(int(part * sum(each.numel() for each in given.values())), 1)
    try:
        found = quotas(given, rule, kept, seed=seed)
    except UserError as error:
        assert rule in ("uniform_plus", "smart_ratio", "smart_ratio_vgg")
        assert str(error).startswith(f"{rule} fixes ")
        assume(False)
    assert sum(found.values()) == kept
    assert all(0 <= found[name] <= weight.numel() for name, weight in given.items())


@given(
    layers=st.lists(st.tuples(st.integers(1, 5000), st.floats(1e-6, 10)), min_size=1, max_size=8),
    part=st.floats(0, 1),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_fill(layers: list[tuple[int, float]], part: float) -> None:
    """The densities add up, none exceeds 1, and those below 1 are in the ratio asked for."""
    sizes = {str(place): size for place, (size, _) in enumerate(layers)}
    ratios = {str(place): ratio for place, (_, ratio) in enumerate(layers)}
    kept = int(part * sum(sizes.values()))
    found = fill(sizes, ratios, kept)
    assert sum(found[name] * sizes[name] for name in sizes) == pytest.approx(kept, abs=1e-6)
    scales = [found[name] / ratios[name] for name in sizes if found[name] < 1]
    assert all(scale == pytest.approx(max(scales), abs=1e-12) for scale in scales)
    assert all(value <= 1 for value in found.values())
    assert all(max(scales) * ratios[n] >= 1 - 1e-9 for n in sizes if scales and found[n] == 1)


def check_ideal_gas(find: Callable[..., dict[str, int]]) -> None:
    """Check that 1 / density - 1 is proportional to the size of a layer."""
    for kept in (300, 3_000, 12_000):
        found = find("igq", kept)
        forces = [(SIZES[name] / found[name] - 1) / SIZES[name] for name in SIZES]
        assert max(forces) == pytest.approx(min(forces), rel=0.05)


def test_ideal_gas() -> None:
    """The density of a layer is 1 / (F * size + 1), with one F for all."""
    check_ideal_gas(counts)


def test_uniform_plus() -> None:
    """The first convolution is whole, the last layer has at least 0.2, the others are equal."""
    found = counts("uniform_plus", 2_412)
    assert (found["a"], found["d"]) == (432, 128)
    rest = 2_412 - 432 - 128
    assert found["b"] == pytest.approx(rest * 4608 / 23_040, abs=1)
    found = counts("uniform_plus", 12_056)  # here the last layer has more than 0.2 anyway
    assert found["d"] / 640 == pytest.approx((12_056 - 432) / 23_680, abs=0.002)
    linear = quotas(weights({"a": (30, 20), "b": (20, 30), "c": (5, 20)}), "uniform_plus", 130)
    assert linear == {"a": 55, "b": 55, "c": 20}


def check_smart_ratio(find: Callable[..., dict[str, int]], rule: str) -> None:
    """Compare with the formula of the paper, for layers 1, 2 and 3 of 4, the last a classifier."""
    found = find(rule, 1_200)
    assert found["d"] == 192
    ratios = {"a": 4 * 5.0, "b": 3 * 4.0, "c": 2 * 3.0}
    if rule == "smart_ratio_vgg":
        ratios = {name: ratio / place**2 for place, (name, ratio) in enumerate(ratios.items(), 1)}
    unit = (1_200 - 192) / sum(ratio * SIZES[name] for name, ratio in ratios.items())
    for name, ratio in ratios.items():
        assert abs(found[name] - unit * ratio * SIZES[name]) <= 1


@pytest.mark.parametrize("rule", ["smart_ratio", "smart_ratio_vgg"])
def test_smart_ratio(rule: str) -> None:
    """Densities fall by k^2 + k from the last layer to the first; the classifier has 0.3."""
    check_smart_ratio(counts, rule)


def test_the_checks_see_other_rules() -> None:
    """Uniform densities fail the checks of both rules, and the two ratios each other's."""

    def uniform(rule: str, kept: int) -> dict[str, int]:
        return counts("uniform", kept)

    def swapped(rule: str, kept: int) -> dict[str, int]:
        return counts("smart_ratio", kept)

    with pytest.raises(AssertionError):
        check_ideal_gas(uniform)
    with pytest.raises(AssertionError):
        check_smart_ratio(uniform, "smart_ratio")
    with pytest.raises(AssertionError):
        check_smart_ratio(swapped, "smart_ratio_vgg")


def test_surplus_goes_to_the_next_layers() -> None:
    """What Smart-Ratio cannot place in a layer goes to the following ones, in turn."""
    found = counts("smart_ratio", 16_000)
    assert (found["a"], found["b"], found["d"]) == (432, 4608, 192)
    assert found["c"] == 16_000 - 432 - 4608 - 192
    assert counts("smart_ratio", TOTAL - 100) == {**SIZES, "d": 540}


@pytest.mark.parametrize(
    ("rule", "kept", "message"),
    [
        ("smart_ratio", 150, "smart_ratio fixes 192 weights of d, but the density keeps 150"),
        ("uniform_plus", 400, "uniform_plus fixes 432 weights of a, but the density keeps 400"),
        ("uniform_plus", 500, "uniform_plus fixes 560 weights of a and d, but the density keeps"),
    ],
)
def test_too_few_weights(rule: str, kept: int, message: str) -> None:
    """A density that is below what a rule fixes is refused."""
    with pytest.raises(UserError, match=f"^{message}"):
        counts(rule, kept)
