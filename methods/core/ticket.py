"""What a mask finder may hand back: a mask, scores to keep the top of, or a ticket."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import (
    Mask,
    Weights,
    check_covers,
    keep_top,
    keep_top_per_layer,
    num_kept,
    prunable,
    total,
)


@dataclass(frozen=True)
class Scores:
    """One real number per prunable weight; the highest are kept.

    `values` maps parameter names to tensors of the parameters' shapes. With `kept`, each
    layer keeps that many of its own highest scores; without, layers compete. For a search in
    rounds the order of the scores is the order of elimination: what fell first scores lowest.
    """

    values: Mapping[str, Tensor]
    kept: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Ticket:
    """A mask (or scores) together with how its training begins.

    `weights` replaces entries of the network's state (parameters and buffers by name) before
    training; absent, the ticket is trained from initialization. Training enters the recipe's
    schedule at step `start`; with `finetune` it runs at the schedule's last learning rate
    instead. `native` holds the supermasks that the search itself would deploy, each as the
    effective weights by name; the harness measures them as they are, without training.
    """

    mask: "Mask | Scores"
    weights: Weights | None = None
    start: int = 0
    finetune: bool = False
    native: tuple[Weights, ...] = ()


FinderOutput: TypeAlias = Mask | Scores | Ticket


def as_ticket(found: FinderOutput) -> Ticket:
    """The same find as a ticket. Raises ValueError for what is none, saying what came."""
    ticket = found if isinstance(found, Ticket) else Ticket(found)
    _check_type(ticket.mask)
    return ticket


def _check_type(found: object) -> None:
    values = found.values if isinstance(found, Scores) else found
    if not isinstance(values, Mapping):
        raise ValueError(f"expected a Mask, Scores or a Ticket, got {type(values).__name__}")
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name!r:.80} is no tensor but {type(value).__name__}")


def select(found: "Mask | Scores", net: nn.Module, density: float, *, invert: bool = False) -> Mask:
    """The exact mask of a find: `round(density * total)` kept, over exactly `prunable(net)`.

    With `invert` the lowest scores are kept instead (the control of Frankle et al. 2021).
    Raises ValueError when the find breaks the contract, saying what was expected and what came.
    """
    _check_type(found)
    weights = prunable(net)
    kept = num_kept(density, total(weights))
    if isinstance(found, Scores):
        mask = _select_scores(found, weights, kept, invert)
    elif invert:
        raise ValueError("cannot invert: the method gives a mask and no scores")
    else:
        mask = {name: found[name] for name in weights if name in found} | found
    check_covers(mask, weights)
    for name, tensor in mask.items():
        if tensor.dtype != torch.bool:
            raise ValueError(f"mask of {name} has dtype {tensor.dtype}, needed torch.bool")
    if (count := sum(int(tensor.sum()) for tensor in mask.values())) != kept:
        raise ValueError(
            f"mask keeps {count} of {total(weights)} weights, density {density!r} asks for {kept}"
        )
    return mask


def _select_scores(found: Scores, weights: Mapping[str, Tensor], kept: int, invert: bool) -> Mask:
    check_covers(found.values, weights)
    values = {name: found.values[name].detach() for name in weights}
    if invert:
        values = {name: -score.double() for name, score in values.items()}  # uint8 has no -1
    if found.kept is None:
        return keep_top(values, kept)
    if odd := set(found.kept) ^ set(weights):
        raise ValueError(f"counts per layer must name all prunable weights: {min(odd)!r} is odd")
    return keep_top_per_layer(values, found.kept)
