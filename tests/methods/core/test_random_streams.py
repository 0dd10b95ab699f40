"""Seeds derived from a seed and a name."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paibench.methods.core.random_streams import derive, generator


@pytest.mark.parametrize(
    ("seed", "parts", "value"),
    [
        (0, (), 3_456_079_177_858_693_020),
        (0, ("order", 0), 3_955_691_223_199_900_983),
        (7, ("noise", 12), 1_431_054_306_284_389_886),
    ],
    ids=["seed alone", "first epoch", "later epoch"],
)
def test_derived_seeds_are_pinned(seed: int, parts: tuple[str | int, ...], value: int) -> None:
    """A derived seed never changes, or finished runs could not be repeated."""
    assert derive(seed, *parts) == value


@given(seed=st.integers(-(2**70), 2**70), name=st.text(), number=st.integers())
@settings(derandomize=True, max_examples=30)
def test_derived_seeds_are_halved_hashes(seed: int, name: str, number: int) -> None:
    """The seed is the first half of a sha256 without its last bit, and fits 63 bits."""
    text = f"{seed}/{name}/{number}".encode()
    assert derive(seed, name, number) == int(hashlib.sha256(text).hexdigest()[:16], 16) // 2
    assert 0 <= derive(seed, name, number) < 2**63


def test_streams_differ() -> None:
    """Different seeds, names and numbers give different streams."""
    streams: list[tuple[int, *tuple[str | int, ...]]] = [
        (0, "order", 0),
        (0, "order", 1),
        (0, "noise", 0),
        (1, "order", 0),
        (0, "order"),
    ]
    draws = {tuple(torch.rand(4, generator=generator(*stream)).tolist()) for stream in streams}
    assert len(draws) == len(streams)


def test_generators_repeat_and_leave_the_global_one_alone() -> None:
    """Two generators of one stream give the same numbers, whatever is drawn elsewhere."""
    before = torch.get_rng_state()
    first = torch.rand(5, generator=generator(3, "augment", 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, torch.rand(5, generator=generator(3, "augment", 2)))
    assert generator(3).device.type == "cpu"
