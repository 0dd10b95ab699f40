"""What a finder returns: a mask, scores of which the highest are kept, or a ticket."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from paibench.methods.core.mask import (
    Mask,
    Weights,
    check_covers,
    flatten,
    keep_top,
    keep_top_per_layer,
    num_kept,
    prunable,
    total,
)
from paibench.methods.core.random_streams import generator
from paibench.methods.core.registry import UserError


@dataclass(frozen=True)
class Scores:
    """One real number per prunable weight; the highest are kept.

    `values` maps parameter names to tensors of the parameters' shapes. With `kept`, each
    layer keeps that many of its own highest scores; otherwise all layers compete. For a search
    in rounds the order of the scores is the order of elimination: the first pruned are lowest.
    Among equal scores a lot decides.
    """

    values: Mapping[str, Tensor]
    kept: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Channels:
    """One real number per channel, for a mask of whole channels.

    The harness keeps the largest set of the highest channels that needs no more weights than the
    density keeps; so this is the only result that may keep fewer. `scores` [c] are those of the
    channels, `layers` [c] the number of the layer of each, of which the highest one stays. `rows`
    names, for each output unit of a weight [out], its channel, and `columns` the same for the input
    units [in / groups]; -1 is a unit that always stays, as do all units of other weights. Each
    channel is a row of at least one weight. A weight is kept if both of its units are.
    """

    scores: Tensor
    layers: Tensor
    rows: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]

    def kept(self, removed: Tensor, name: str, shape: Collection[int]) -> tuple[Tensor, Tensor]:
        """Return which rows and columns of a weight stay if these channels [c] are removed."""
        sides = []
        for units, count in zip((self.rows, self.columns), tuple(shape)[:2], strict=True):
            channel = units.get(name, torch.full((count,), -1))
            sides.append((channel < 0) | ~removed[channel.clamp(min=0)])
        return sides[0], sides[1]


@dataclass(frozen=True)
class Ticket:
    """A mask (or scores) with the state from which it is trained.

    `weights` replaces entries of the network's state (parameters and buffers by name) before
    training; without it, the ticket is trained from initialization. Training enters the recipe's
    schedule at step `start`; with `finetune` it uses the schedule's last learning rate throughout.
    `native` holds the supermasks that the search itself would deploy, each as the effective
    weights by name; the harness measures them without training. `distances` are those between the
    masks that the search drew as it went, see `MaskHistory`; `notes` are lines for the reader of
    the record. Both are kept with it.
    """

    mask: "Mask | Scores | Channels"
    weights: Weights | None = None
    start: int = 0
    finetune: bool = False
    native: tuple[Weights, ...] = ()
    distances: tuple[tuple[float, ...], ...] = ()
    notes: tuple[str, ...] = ()


FinderOutput: TypeAlias = Mask | Scores | Channels | Ticket


_REAL = {
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
}
MOST_NATIVE = 64
MOST_MASKS = 256
MOST_NOTES, LONGEST_NOTE = 8, 200


def as_ticket(output: object) -> Ticket:
    """Return the output of a finder as a ticket of dictionaries, dense tensors and plain numbers.

    This is the only check of types, in the process of the harness and in a sandbox alike; numpy's
    integers and any kind of mapping are accepted. Raises ValueError that names the field, what it
    is and what is needed.
    """
    ticket = output if isinstance(output, Ticket) else Ticket(output)  # type: ignore[arg-type]
    if not isinstance(ticket.finetune, bool | np.bool_):
        raise ValueError(f"finetune is {_shown(ticket.finetune)}, needed True or False")
    if not isinstance(ticket.native, tuple | list) or len(ticket.native) > MOST_NATIVE:
        raise ValueError(
            f"native is {_shown(ticket.native)}, needed at most {MOST_NATIVE} mappings"
        )
    any_state = _REAL | {torch.bool}
    return Ticket(
        _plain_mask(ticket.mask),
        None if ticket.weights is None else _tensors("weights", ticket.weights, any_state),
        _whole("start", ticket.start),
        bool(ticket.finetune),
        tuple(_tensors("native", weights, any_state) for weights in ticket.native),
        _distances(ticket.distances),
        _notes(ticket.notes),
    )


def _distances(value: object) -> tuple[tuple[float, ...], ...]:
    """Return rows of distances; row t is to the t masks before it."""
    if not isinstance(value, tuple | list) or len(value) > MOST_MASKS:
        raise ValueError(f"distances are {_shown(value)}, needed at most {MOST_MASKS} rows")
    rows = []
    for number, row in enumerate(value):
        if not isinstance(row, tuple | list) or len(row) != number:
            raise ValueError(f"row {number} of distances is {_shown(row)}, needed {number} numbers")
        real = all(isinstance(x, int | float | np.floating) and 0 <= x <= 1 for x in row)
        if not real:
            raise ValueError(f"row {number} of distances has other values than numbers from 0 to 1")
        rows.append(tuple(map(float, row)))
    return tuple(rows)


def _notes(value: object) -> tuple[str, ...]:
    if not isinstance(value, tuple | list) or len(value) > MOST_NOTES:
        raise ValueError(f"notes are {_shown(value)}, needed at most {MOST_NOTES} lines")
    for note in value:
        if not isinstance(note, str) or not note.isprintable() or len(note) > LONGEST_NOTE:
            raise ValueError(
                f"a note is {_shown(note)}, needed a line of at most {LONGEST_NOTE} characters"
            )
    return tuple(map(str, value))


def _plain_mask(output: object) -> "Mask | Scores | Channels":
    if isinstance(output, Channels):
        return _plain_channels(output)
    if isinstance(output, Scores):
        values = _tensors("scores", output.values, _REAL)
        if output.kept is None:
            return Scores(values)
        if not isinstance(output.kept, Mapping):
            raise ValueError(f"kept is {_shown(output.kept)}, needed counts by name")
        counts = {_name("kept", k): _whole(f"kept of {k}", n) for k, n in output.kept.items()}
        return Scores(values, counts)
    if not isinstance(output, Mapping):
        raise ValueError(
            f"expected a Mask, Scores, Channels or a Ticket, got {type(output).__name__}"
        )
    mask = _tensors("mask", output, {torch.bool})
    # a byte of 7 is also true, but sums and operators treat it differently
    return {name: layer.view(torch.uint8) != 0 for name, layer in mask.items()}


def _plain_channels(output: Channels) -> Channels:
    """Return channels of plain tensors on the CPU, whose numbers fit each other."""
    whole = {torch.int64}
    scores = _tensors("channels", {"scores": output.scores}, _REAL)["scores"]
    layers = _tensors("channels", {"layers": output.layers}, whole)["layers"]
    rows, columns = _tensors("rows", output.rows, whole), _tensors("columns", output.columns, whole)
    if scores.dim() != 1 or not len(scores) or layers.shape != scores.shape:
        raise ValueError(
            f"channels have scores {tuple(scores.shape)} and layers {tuple(layers.shape)}, needed "
            "one number of each per channel"
        )
    if bool(scores.isnan().any()):
        raise ValueError(f"{int(scores.isnan().sum())} of {len(scores)} scores are NaN")
    for units in (*rows.values(), *columns.values()):
        if units.dim() != 1 or not bool(((units >= -1) & (units < len(scores))).all()):
            raise ValueError(f"rows and columns must be channels from -1 to {len(scores) - 1}")
    # so there are no more channels than rows, whatever a method returns
    named = torch.zeros(len(scores) + 1, dtype=torch.bool)
    for units in rows.values():
        named[units.cpu()] = True  # -1 is the last entry
    if missing := int((~named[:-1]).sum()):
        raise ValueError(f"{missing} of {len(scores)} channels are rows of no weight")
    return Channels(
        scores.cpu(),
        layers.cpu(),
        {name: units.cpu() for name, units in rows.items()},
        {name: units.cpu() for name, units in columns.items()},
    )


def _tensors(field: str, values: object, dtypes: Collection[torch.dtype]) -> dict[str, Tensor]:
    """Return a mapping as a dictionary of ordinary tensors of one of these types."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{field} is {_shown(values)}, needed tensors by name")
    plain = {}
    for name, value in values.items():
        name = _name(field, name)
        if not isinstance(value, Tensor):
            raise ValueError(f"{field} of {name:.80} is {_shown(value)}, needed a tensor")
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ValueError(f"{field} of {name:.80} is no ordinary dense tensor")
        if value.dtype not in dtypes:
            needed = str(next(iter(dtypes))) if len(dtypes) == 1 else "real numbers"
            raise ValueError(f"{field} of {name:.80} has dtype {value.dtype}, needed {needed}")
        plain[name] = value.detach().as_subclass(Tensor)
    return plain


def _name(field: str, name: object) -> str:
    if isinstance(name, str) and name.isprintable() and len(name) <= 1000:
        return str(name)
    raise ValueError(f"{field} has the name {_shown(name)}, needed that of a parameter")


def _whole(field: str, value: object) -> int:
    """Return a whole number as an int of Python."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    raise ValueError(f"{field} is {_shown(value)}, needed a whole number")


def _shown(value: object) -> str:
    """Return a short text for any value; the repr of a third party's class may raise anything."""
    plain = value is None or isinstance(value, bool | int | float | str)
    return f"{value!r:.80}" if plain else f"a {type(value).__name__}"


def check_ticket(ticket: Ticket, net: nn.Module, steps: int) -> None:
    """Raise ValueError unless a ticket fits a network and a schedule of this many steps."""
    if not 0 <= ticket.start <= steps:
        raise ValueError(f"the ticket starts at step {ticket.start}, not in 0 to {steps}")
    weights = prunable(net)
    if isinstance(ticket.mask, Scores):
        _check_scores(ticket.mask, weights)
    elif isinstance(ticket.mask, Channels):
        _check_channels(ticket.mask, weights)
    else:
        check_covers(ticket.mask, weights)
    check_weights(ticket.weights, net)
    for native in ticket.native:
        check_weights(native, net)


def _check_scores(scores: Scores, weights: Mapping[str, Tensor]) -> None:
    check_covers(scores.values, weights)
    if scores.kept is not None and (misnamed := set(scores.kept) ^ set(weights)):
        raise ValueError(
            f"counts per layer must name exactly the prunable weights; check {min(misnamed)!r:.80}"
        )


def _check_channels(channels: Channels, weights: Mapping[str, Tensor]) -> None:
    for field, side, units in (("rows", 0, channels.rows), ("columns", 1, channels.columns)):
        for name, channel in units.items():
            if name not in weights:
                raise ValueError(f"{field} of {name!r:.80}, which is no prunable weight")
            if len(channel) != weights[name].shape[side]:
                raise ValueError(
                    f"{field} of {name:.80} are {len(channel)}, needed {weights[name].shape[side]}"
                )


def check_weights(weights: Weights | None, net: nn.Module) -> None:
    """Raise ValueError for a name or a shape that the state of the network does not have."""
    state = net.state_dict()
    for name, tensor in (weights or {}).items():
        if name not in state:
            raise ValueError(f"the ticket has weights for {name!r:.80}, which the network has not")
        if tensor.shape != state[name].shape:
            have, need = tuple(tensor.shape), tuple(state[name].shape)
            raise ValueError(f"the ticket's {name} has shape {have}, needed {need}")


def select(
    output: "Mask | Scores | Channels",
    net: nn.Module,
    density: float,
    *,
    invert: bool = False,
    seed: int = 0,
) -> Mask:
    """Return the exact mask: `round(density * total)` weights of `prunable(net)`.

    Whole channels may keep fewer, see `Channels`. Among equal scores a lot decides, which depends
    on the seed. With `invert` the lowest scores are kept instead (the control of Frankle et al.
    2021), and among equal ones those that lose the lot. Raises ValueError that names what was
    expected if the output breaks the contract.
    """
    output = _plain_mask(output)
    weights = prunable(net)
    kept_count = num_kept(density, total(weights))
    if isinstance(output, Channels):
        _check_channels(output, weights)
        return select_channels(output, weights, kept_count, invert=invert, seed=seed)
    if isinstance(output, Scores):
        mask = _select_scores(output, weights, kept_count, invert, seed)
    elif invert:
        # a mask does not say which of the pruned weights were the lowest
        raise ValueError("cannot invert: the method returns a mask and no scores")
    else:
        # in the order of the network; names that do not belong there follow, for check_covers
        mask = {name: output[name] for name in weights if name in output} | output
    check_covers(mask, weights)
    if (count := sum(int(tensor.sum()) for tensor in mask.values())) != kept_count:
        raise ValueError(
            f"mask keeps {count} of {total(weights)} weights, "
            f"density {density!r} asks for {kept_count}"
        )
    return mask


def _select_scores(
    scores: Scores, weights: Mapping[str, Tensor], kept_count: int, invert: bool, seed: int
) -> Mask:
    _check_scores(scores, weights)
    # in the order of the network, so that the order of the output does not change the lot
    values = {name: scores.values[name].detach() for name in weights}
    if scores.kept is None:
        if not invert:
            return keep_top(values, kept_count, seed=seed)
        return complement(keep_top(values, total(weights) - kept_count, seed=seed))
    if not invert:
        return keep_top_per_layer(values, scores.kept, seed=seed)
    pruned = {name: weights[name].numel() - count for name, count in scores.kept.items()}
    return complement(keep_top_per_layer(values, pruned, seed=seed))


def select_channels(
    channels: Channels,
    weights: Mapping[str, Tensor],
    kept_count: int,
    *,
    invert: bool = False,
    seed: int = 0,
) -> Mask:
    """Return the mask of the largest set of whole channels with at most `kept_count` weights.

    Raises UserError if the highest channel of each layer alone has more.
    """
    removed = removed_channels(channels, weights, kept_count, invert=invert, seed=seed)
    mask = {}
    for name, weight in weights.items():
        row, column = (
            side.to(weight.device) for side in channels.kept(removed, name, weight.shape)
        )
        ones = torch.ones_like(weight, dtype=torch.bool)
        kernel = (1,) * (weight.dim() - 2)
        mask[name] = ones & row.view(-1, 1, *kernel) & column.view(1, -1, *kernel)
    return mask


def removed_channels(
    channels: Channels,
    weights: Mapping[str, Tensor],
    kept_count: int,
    *,
    invert: bool = False,
    seed: int = 0,
) -> Tensor:
    """Return which channels [c] are removed: as few as possible of the lowest, see `Channels`."""
    scores = channels.scores.detach().double().cpu()
    scores = -scores if invert else scores
    lot = torch.rand(len(scores), generator=generator(seed, "ties", len(scores)))
    rising = torch.tensor(np.lexsort((lot.numpy(), scores.numpy())))
    last_of = dict(zip(channels.layers[rising].tolist(), rising.tolist(), strict=True))
    stays = set(last_of.values())
    removable = torch.tensor([c for c in rising.tolist() if c not in stays], dtype=torch.int64)

    def removing(count: int) -> Tensor:
        removed = torch.zeros(len(scores), dtype=torch.bool)
        removed[removable[:count]] = True
        return removed

    def remaining(count: int) -> int:
        kept, removed = 0, removing(count)
        for name, weight in weights.items():
            row, column = channels.kept(removed, name, weight.shape)
            kept += int(row.sum()) * int(column.sum()) * weight[0, 0].numel()
        return kept

    # the first count at which the weights are few enough
    low, high = 0, len(removable)
    if remaining(high) > kept_count:
        raise UserError(
            f"whole channels keep at least {remaining(high)} weights, and the density keeps "
            f"{kept_count}; give a higher density, or prune single weights"
        )
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if remaining(middle) <= kept_count else (middle + 1, high)
    return removing(low)


def complement(mask: Mask) -> Mask:
    """Return the mask that keeps exactly what `mask` prunes."""
    return {name: ~layer_mask for name, layer_mask in mask.items()}


def count_ties(output: "Mask | Scores | Channels", mask: Mask) -> int | None:
    """Return the number of weights whose order a lot decided, or None for a plain mask or channels.

    These are the weights with the score at which `mask`, selected from `output`, separates kept
    from pruned weights, if some of them are kept and others not. With counts per layer, each layer
    has its own such score.
    """
    if not isinstance(output, Scores):
        return None
    if output.kept is None:
        values = {name: output.values[name] for name in mask}
        return _tied(flatten(values), flatten(mask))
    return sum(_tied(output.values[name].detach(), kept) for name, kept in mask.items())


def _tied(scores: Tensor, mask: Tensor) -> int:
    kept, pruned = scores[mask], scores[~mask]
    if not len(kept) or not len(pruned):
        return 0
    # the second pair is for inverted masks, which keep the lowest scores
    for threshold, other in ((kept.min(), pruned.max()), (pruned.min(), kept.max())):
        if threshold == other:
            return int((scores == threshold).count_nonzero())
    return 0
