"""What a finder may hand back, and how each breach of the contract is told."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paibench.methods.core.mask import Mask, flatten, full, layer_counts, prunable
from paibench.methods.core.ticket import Scores, Ticket, as_ticket, count_ties, select


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def scores() -> dict[str, Tensor]:
    """The numbers from 0 to 17, shuffled over two layers of 12 and 6."""
    order = torch.randperm(18, generator=torch.Generator().manual_seed(0)).float()
    return {"0.weight": order[:12].view(3, 4), "2.weight": order[12:].view(2, 3)}


def test_scores() -> None:
    """The highest scores are kept, exactly round(density * total) of them."""
    mask = select(Scores(scores()), net(), 0.3)
    assert flatten(mask).equal(flatten(scores()) >= 13)


def test_inverted_scores() -> None:
    """With `invert`, the lowest scores are kept."""
    mask = select(Scores(scores()), net(), 0.3, invert=True)
    assert flatten(mask).equal(flatten(scores()) < 5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16])
def test_inversion_of_any_type(dtype: torch.dtype) -> None:
    """Scores of an unsigned type can be inverted too."""
    found = Scores({name: score.to(dtype) for name, score in scores().items()})
    assert flatten(select(found, net(), 0.3, invert=True)).equal(flatten(scores()) < 5)


@pytest.mark.parametrize("invert", [False, True])
def test_scores_with_counts(invert: bool) -> None:
    """With counts each layer keeps its own highest scores, inverted its lowest."""
    found = Scores(scores(), {"0.weight": 2, "2.weight": 3})
    mask = select(found, net(), 5 / 18, invert=invert)
    assert layer_counts(mask) == {"0.weight": 2, "2.weight": 3}
    for name, score in scores().items():
        kept, pruned = score[mask[name]], score[~mask[name]]
        assert float(kept.min() - pruned.max()) > 0 or (invert and kept.max() < pruned.min())


@pytest.mark.parametrize("invert", [False, True])
def test_ties(invert: bool) -> None:
    """Among equal scores a lot decides, which depends on the seed, inverted or not."""
    equal = Scores({name: torch.zeros_like(score) for name, score in scores().items()})
    masks = [flatten(select(equal, net(), 0.5, invert=invert, seed=seed)) for seed in range(400)]
    kept = torch.stack(masks).sum(0)
    assert (kept - 200).abs().max() < 5 * (400 / 4) ** 0.5
    assert masks[3].equal(flatten(select(equal, net(), 0.5, invert=invert, seed=3)))


FEW = st.lists(st.integers(0, 3), min_size=18, max_size=18)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(values=FEW, kept=st.integers(1, 18), per_layer=st.booleans(), seed=st.integers(0, 9))
def test_inversion_reverses_the_order(
    values: list[int], kept: int, per_layer: bool, seed: int
) -> None:
    """Ties included: what a mask and the inverted mask of the other density keep is disjoint."""
    found = {"0.weight": torch.tensor(values[:12]), "2.weight": torch.tensor(values[12:])}
    found = {name: score.view_as(scores()[name]) for name, score in found.items()}
    first = min(kept, 12)
    counts = {"0.weight": first, "2.weight": kept - first} if per_layer else None
    mask = select(Scores(found, counts), net(), kept / 18, seed=seed)
    inverse = select(Scores(found, counts), net(), kept / 18, invert=True, seed=seed)
    for one, other in [(mask, inverse)] if per_layer else [(flat_of(mask), flat_of(inverse))]:
        for name in one:
            both = int((one[name] & other[name]).sum())
            assert both == max(0, 2 * int(one[name].sum()) - one[name].numel())


def flat_of(mask: Mask) -> Mask:
    return {"all": flatten(mask)}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(values=FEW, kept=st.integers(1, 18), invert=st.booleans())
def test_ties_at_the_threshold_are_counted(values: list[int], kept: int, invert: bool) -> None:
    """The count is that of the one score which kept and pruned weights share, or 0."""
    found = Scores(
        {
            "0.weight": torch.tensor(values[:12]).view(3, 4),
            "2.weight": torch.tensor(values[12:]).view(2, 3),
        }
    )
    mask = select(found, net(), kept / 18, invert=invert, seed=1)
    marked = list(zip(values, flatten(mask).tolist(), strict=True))
    shared = {v for v, keep in marked if keep} & {v for v, keep in marked if not keep}
    assert count_ties(found, mask) == sum(values.count(value) for value in shared)
    assert count_ties(mask, mask) is None


def test_ties_of_layers_are_counted_in_each() -> None:
    """With counts per layer each layer has its own threshold."""
    equal = {name: torch.ones_like(score) for name, score in scores().items()}
    for count, ties in ((12, 6), (11, 18)):
        found = Scores(equal, {"0.weight": count, "2.weight": 14 - count})
        assert count_ties(found, select(found, net(), 14 / 18)) == ties


def test_order_of_names() -> None:
    """Masks and scores may name layers in any order; the mask has the network's."""
    turned = dict(reversed(scores().items()))
    first = select(Scores(scores()), net(), 0.3)
    assert list(select(Scores(turned), net(), 0.3)) == list(first) == ["0.weight", "2.weight"]
    assert list(select(dict(reversed(first.items())), net(), 0.3)) == list(first)


def test_scores_that_require_gradients() -> None:
    """Trained scores select a mask without a gradient graph."""
    found = {name: score.requires_grad_() for name, score in scores().items()}
    assert not any(kept.requires_grad for kept in select(Scores(found), net(), 0.3).values())


def test_as_ticket() -> None:
    """A mask or scores become a ticket that starts at initialization."""
    mask, ticket = full(prunable(net())), as_ticket(Ticket(Scores(scores()), start=3))
    plain = as_ticket(mask)
    assert isinstance(plain.mask, dict) and plain.mask.keys() == mask.keys()
    assert all(torch.equal(plain.mask[name], mask[name]) for name in mask)
    assert (plain.weights, plain.start, plain.finetune, plain.native) == (None, 0, False, ())
    assert isinstance(ticket.mask, Scores) and ticket.mask.values.keys() == scores().keys()
    assert ticket.start == 3


def kept(count: int) -> Mask:
    return select(Scores(scores()), net(), count / 18)


NAN = {name: score.where(score != 3, float("nan")) for name, score in scores().items()}


@pytest.mark.parametrize(
    ("found", "options", "message"),
    [
        (None, {}, "expected a Mask, Scores, Channels or a Ticket, got NoneType"),
        (None, {"invert": True}, "expected a Mask, Scores, Channels or a Ticket, got NoneType"),
        ([True], {}, "expected a Mask, Scores, Channels or a Ticket, got list"),
        (kept(6), {"invert": True}, "cannot invert: the method returns a mask and no scores"),
        (kept(5), {}, "mask keeps 5 of 18 weights, density 0.3333333333333333 asks for 6"),
        (
            {name: m.float() for name, m in kept(6).items()},
            {},
            "mask of 0.weight has dtype torch.float32, needed torch.bool",
        ),
        ({"0.weight": kept(6)["0.weight"]}, {}, "nothing for the prunable weights '2.weight'"),
        (kept(6) | {"x": torch.ones(1) > 0}, {}, "names that are no prunable weights: 'x'"),
        (Scores({}), {}, "nothing for the prunable weights '0.weight', '2.weight'"),
        (Scores(NAN), {}, "1 of 18 scores are NaN"),
        (
            Scores(scores(), {"0.weight": 3, "2.weight": 2}),
            {},
            "mask keeps 5 of 18 weights, density 0.3333333333333333 asks for 6",
        ),
        (
            Scores(scores(), {"0.weight": 6}),
            {},
            "counts per layer must name exactly the prunable weights; check '2.weight'",
        ),
        (Scores(scores(), {"0.weight": -1, "2.weight": 7}), {}, "cannot keep -1 of 12 weights"),
    ],
)
def test_refused(found: Any, options: dict[str, bool], message: str) -> None:
    """Each error names what was expected and what was returned, in one line."""
    with pytest.raises(ValueError) as caught:
        select(found, net(), 1 / 3, **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"distances": 3}, "distances are 3, needed at most 256 rows"),
        ({"distances": [()] * 257}, "distances are a list, needed at most 256 rows"),
        ({"distances": [(), ()]}, "row 1 of distances is a tuple, needed 1 numbers"),
        ({"distances": [(), (1.5,)]}, "row 1 of distances has other values than numbers from 0"),
        ({"distances": [(), (float("nan"),)]}, "row 1 of distances has other values than numbers"),
        ({"distances": [(), ("0",)]}, "row 1 of distances has other values than numbers from 0"),
        ({"notes": "a line"}, "notes are 'a line', needed at most 8 lines"),
        ({"notes": ["a line"] * 9}, "notes are a list, needed at most 8 lines"),
        ({"notes": ["two\nlines"]}, r"a note is 'two\nlines', needed a line of at most 200"),
        ({"notes": ["x" * 201]}, "needed a line of at most 200 characters"),
        ({"notes": [b"bytes"]}, "a note is a bytes, needed a line of at most 200 characters"),
    ],
)
def test_refused_beside_the_mask(fields: dict[str, Any], message: str) -> None:
    """Distances between masks and notes are of one form, and short."""
    with pytest.raises(ValueError) as caught:
        as_ticket(Ticket(kept(6), **fields))
    assert message in str(caught.value)


def test_beside_the_mask() -> None:
    """They become tuples of plain numbers and lines."""
    ticket = Ticket(kept(6), distances=[[], [np.float32(0.5)], (0, 1)], notes=["a line"])  # type: ignore[arg-type]
    found = as_ticket(ticket)
    assert (found.distances, found.notes) == (((), (0.5,), (0.0, 1.0)), ("a line",))
