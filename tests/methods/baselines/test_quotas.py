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


AUTHORS: dict[str, list[tuple[int, ...]]] = {
    "small": [(16, 3, 3, 3), (32, 16, 3, 3), (64, 32, 3, 3), (10, 64)],
    "deep": [(16, 3, 3, 3), *[(16, 16, 3, 3)] * 3, (32, 16, 3, 3), *[(32, 32, 3, 3)] * 2, (10, 32)],
    "wide": [(64, 3, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3), (256, 256, 3, 3), (10, 256)],
}


@pytest.mark.parametrize(
    ("net", "density", "rule", "theirs"),
    [
        ("small", 0.2, "igq", [370.4, 1661.6, 2277.5, 513.5]),
        ("small", 0.05, "igq", [206.9, 365.7, 388.8, 245.1]),
        ("deep", 0.2, "igq", [320.1, 804.4, 804.4, 804.4, 974.6, 1089.8, 1089.8, 254.2]),
        ("deep", 0.05, "igq", [147.0, 203.2, 203.2, 203.2, 212.6, 217.6, 217.6, 131.4]),
        ("wide", 0.2, "igq", [1695.6, 40632.2, 69259.2, 78473.8, 2489.6]),
        ("wide", 0.05, "igq", [1561.3, 13271.0, 15342.3, 15752.0, 2210.4]),
        ("small", 0.2, "uniform_plus", [432.0, 852.5, 3409.9, 128.0]),
        ("small", 0.05, "uniform_plus", [432.0, 129.1, 516.5, 128.0]),
        ("deep", 0.2, "uniform_plus", [432.0, 434.2, 434.2, 434.2, 868.4, 1736.9, 1736.9, 64.0]),
        ("wide", 0.05, "uniform_plus", [1728.0, 3530.6, 14122.3, 28244.7, 512.0]),
        ("small", 0.2, "smart_ratio", [229, 1466, 2933, 192]),
        ("small", 0.05, "smart_ratio", [50, 320, 641, 192]),
        ("deep", 0.2, "smart_ratio", [321, 1335, 1001, 715, 953, 1144, 572, 96]),
        ("wide", 0.05, "smart_ratio", [285, 8117, 19482, 19482, 768]),
        ("small", 0.2, "smart_ratio_vgg", [432, 2560, 1637, 192]),
        ("deep", 0.2, "smart_ratio_vgg", [432, 2304, 2304, 451, 258, 215, 79, 96]),
        ("deep", 0.05, "smart_ratio_vgg", [432, 623, 179, 72, 61, 51, 18, 96]),
        ("wide", 0.2, "smart_ratio_vgg", [1728, 73728, 75336, 40989, 768]),
    ],
)
def test_authors(net: str, density: float, rule: Any, theirs: list[float]) -> None:
    """Their counts, up to the rounding of each layer, which they truncate or leave out.

    From avysogorets/effective-sparsity 7924cfe (igq, uniform_plus) and
    JingtongSu/sanity-checking-pruning 65aa267 (smart_ratio, with its two kinds of networks).
    """
    given = weights({str(place): shape for place, shape in enumerate(AUTHORS[net])})
    kept = round(density * sum(each.numel() for each in given.values()))
    found = quotas(given, rule, kept).values()
    assert all(abs(ours - other) <= 2 for ours, other in zip(found, theirs, strict=True))
