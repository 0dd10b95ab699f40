"""The controls: what they change, and what they leave exactly as it was."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paibench.benchmark.controls import reinit_seed, shuffle
from paibench.methods.mask import Mask, layer_counts


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    shapes = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 7)), min_size=1, max_size=4))
    bits = [draw(st.lists(st.booleans(), min_size=a * b, max_size=a * b)) for a, b in shapes]
    return {
        f"layer{i}.weight": torch.tensor(flat).view(shape)
        for i, (flat, shape) in enumerate(zip(bits, shapes, strict=True))
    }


@settings(derandomize=True, max_examples=50, deadline=None)
@given(mask=masks(), seed=st.integers(0, 2**31 - 1))
def test_shuffle_keeps_counts(mask: Mask, seed: int) -> None:
    """Names, order, shapes and the count of each layer stay; the given mask is not touched."""
    before = {name: kept.clone() for name, kept in mask.items()}
    shuffled = shuffle(mask, seed)
    assert list(shuffled) == list(mask)
    assert {n: k.shape for n, k in shuffled.items()} == {n: k.shape for n, k in mask.items()}
    assert layer_counts(shuffled) == layer_counts(mask)
    assert all(torch.equal(mask[name], before[name]) for name in mask)


def test_shuffle_follows_the_seed() -> None:
    """The same seed shuffles alike, another one does not, and layers do not share their places."""
    mask = {name: torch.arange(400).view(20, 20) < 100 for name in ("a", "b")}
    first, again, other = shuffle(mask, 0), shuffle(mask, 0), shuffle(mask, 1)
    assert all(torch.equal(first[name], again[name]) for name in mask)
    assert not torch.equal(first["a"], other["a"])
    assert not torch.equal(first["a"], first["b"])
    assert not torch.equal(first["a"], mask["a"])


def test_shuffle_reaches_every_place() -> None:
    """Over many seeds a single kept weight comes to lie everywhere, about equally often."""
    mask = {"a": torch.arange(4) == 0}
    places = sum(shuffle(mask, seed)["a"].int() for seed in range(400))
    assert isinstance(places, torch.Tensor)
    assert int(places.sum()) == 400
    assert places.min() > 60  # 100 expected, with a standard deviation of 8.7


def test_reinit_seeds_are_seeds_of_their_own() -> None:
    """The seeds of fresh weights are valid, differ from one another and from the runs' own."""
    fresh = [reinit_seed(seed) for seed in range(1_000)]
    assert all(0 <= seed < 2**31 for seed in fresh)
    assert len({*fresh, *range(1_000)}) == 2_000
