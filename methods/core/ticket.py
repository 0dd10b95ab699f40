"""What a finder returns: a mask, scores of which the highest are kept, or a ticket."""

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
    layer keeps that many of its own highest scores; otherwise all layers compete. For a search
    in rounds the order of the scores is the order of elimination: the first pruned are lowest.
    """

    values: Mapping[str, Tensor]
    kept: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Ticket:
    """A mask (or scores) with the state from which it is trained.

    `weights` replaces entries of the network's state (parameters and buffers by name) before
    training; without it, the ticket is trained from initialization. Training enters the recipe's
    schedule at step `start`; with `finetune` it uses the schedule's last learning rate throughout.
    `native` holds the supermasks that the search itself would deploy, each as the effective
    weights by name; the harness measures them without training.
    """

    mask: "Mask | Scores"
    weights: Weights | None = None
    start: int = 0
    finetune: bool = False
    native: tuple[Weights, ...] = ()


FinderOutput: TypeAlias = Mask | Scores | Ticket


def as_ticket(output: FinderOutput) -> Ticket:
    """Return the output of a finder as a ticket. Raises ValueError if it is of another type."""
    ticket = output if isinstance(output, Ticket) else Ticket(output)
    _check_type(ticket.mask)
    return ticket


def _check_type(output: object) -> None:
    values = output.values if isinstance(output, Scores) else output
    if not isinstance(values, Mapping):
        raise ValueError(f"expected a Mask, Scores or a Ticket, got {type(values).__name__}")
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name!r:.80} is not a tensor but {type(value).__name__}")


def select(
    output: "Mask | Scores", net: nn.Module, density: float, *, invert: bool = False
) -> Mask:
    """Return the exact mask: `round(density * total)` weights of `prunable(net)`.

    With `invert` the lowest scores are kept instead (the control of Frankle et al. 2021).
    Raises ValueError that names what was expected if the output breaks the contract.
    """
    _check_type(output)
    weights = prunable(net)
    kept_count = num_kept(density, total(weights))
    if isinstance(output, Scores):
        mask = _select_scores(output, weights, kept_count, invert)
    elif invert:
        # a mask does not say which of the pruned weights were the lowest
        raise ValueError("cannot invert: the method returns a mask and no scores")
    else:
        # in the order of the network; names that do not belong there follow, for check_covers
        mask = {name: output[name] for name in weights if name in output} | output
    check_covers(mask, weights)
    for name, tensor in mask.items():
        if tensor.dtype != torch.bool:
            raise ValueError(f"mask of {name} has dtype {tensor.dtype}, needed torch.bool")
    if (count := sum(int(tensor.sum()) for tensor in mask.values())) != kept_count:
        raise ValueError(
            f"mask keeps {count} of {total(weights)} weights, "
            f"density {density!r} asks for {kept_count}"
        )
    return mask


def _select_scores(
    scores: Scores, weights: Mapping[str, Tensor], kept_count: int, invert: bool
) -> Mask:
    check_covers(scores.values, weights)
    # in the order of the network, which decides ties
    values = {name: scores.values[name].detach() for name in weights}
    if invert:
        values = {name: -score.double() for name, score in values.items()}  # uint8 has no -1
    if scores.kept is None:
        return keep_top(values, kept_count)
    if misnamed := set(scores.kept) ^ set(weights):
        raise ValueError(
            f"counts per layer must name exactly the prunable weights; check {min(misnamed)!r}"
        )
    return keep_top_per_layer(values, scores.kept)
