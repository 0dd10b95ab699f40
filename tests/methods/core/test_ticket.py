"""What a finder may hand back, and how each breach of the contract is told."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.core.mask import Mask, flatten, full, layer_counts, prunable
from paibench.methods.core.ticket import Scores, Ticket, as_ticket, select


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
    """Among equal scores the earlier weight is kept, inverted or not."""
    equal = {name: torch.zeros_like(score) for name, score in scores().items()}
    mask = select(Scores(equal), net(), 0.5, invert=invert)
    assert flatten(mask).tolist() == [True] * 9 + [False] * 9


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
        (None, {}, "expected a Mask, Scores or a Ticket, got NoneType"),
        (None, {"invert": True}, "expected a Mask, Scores or a Ticket, got NoneType"),
        ([True], {}, "expected a Mask, Scores or a Ticket, got list"),
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
