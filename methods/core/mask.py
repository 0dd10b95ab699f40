"""Masks: which weights are prunable, how many are kept, and statistics of the mask.

A mask is a dictionary from parameter name to a boolean tensor of the parameter's shape;
true means kept. Counts are exact: a density keeps `round(density * total)` weights. If only some of
several equal scores can be kept, a lot decides, so that no order of layers or weights matters.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paibench.methods.core.random_streams import derive, generator
from paibench.methods.core.registry import UserError

Mask = dict[str, Tensor]
Weights = dict[str, Tensor]

COVERED = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
_SAMPLE = 1 << 15  # enough that the bracket around a quantile holds well under 2 % of the scores


def prunable(net: nn.Module) -> dict[str, nn.Parameter]:
    """Return the prunable weights by name, in the order of `net.named_parameters()`.

    Prunable are the weights of convolutions and linear layers, input projections of
    `nn.MultiheadAttention` included; biases and parameters of norms are not. A tied weight
    appears once, under its first name.

    This is the only definition: masks, initializations and multiply-adds all use it.
    """
    # by identity: tied weights have several names, but are one parameter
    covered: set[int] = set()
    for module in net.modules():
        if isinstance(module, COVERED):
            covered.add(id(module.weight))
        elif isinstance(module, nn.MultiheadAttention):
            covered.update(id(weight) for weight in input_projections(module))
    return {name: p for name, p in net.named_parameters() if id(p) in covered}


def input_projections(attention: nn.MultiheadAttention) -> list[nn.Parameter]:
    """Return the one input projection, or three if keys and values have other sizes."""
    weights = (
        attention.in_proj_weight,
        attention.q_proj_weight,
        attention.k_proj_weight,
        attention.v_proj_weight,
    )
    return [weight for weight in weights if weight is not None]


def total(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of entries of all tensors together."""
    return sum(tensor.numel() for tensor in tensors.values())


def num_kept(density: float, among: int) -> int:
    """Return how many of `among` weights a density keeps: the nearest integer, halves to even.

    Raises UserError if the density lies outside (0, 1] or keeps no weight.
    """
    if not 0 < density <= 1:
        raise UserError(f"density {density!r} is outside (0, 1]; give the fraction of weights kept")
    if among == 0:
        raise UserError("the network has no prunable weights")
    count = round(density * among)
    if count == 0:
        raise UserError(
            f"density {density!r} keeps none of {among} weights; the smallest is {1 / among:.3g}"
        )
    return count


def flatten(tensors: Mapping[str, Tensor]) -> Tensor:
    """Return all entries as one vector: tensor after tensor, each in row-major order."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors.values()])


def unflatten(flat: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split a vector into tensors with the names and shapes of `like`."""
    pieces = torch.split(flat, [tensor.numel() for tensor in like.values()])
    return {
        name: piece.view(tensor.shape)
        for (name, tensor), piece in zip(like.items(), pieces, strict=True)
    }


def keep_top(scores: Mapping[str, Tensor], kept_count: int, *, seed: int = 0) -> Mask:
    """Return the mask of exactly the `kept_count` highest scores over all layers.

    Among equal scores a lot decides, as in `top`; a method passes `seed=task.seed`.
    Raises ValueError if a score is NaN or there are fewer scores than `kept_count`.
    """
    return unflatten(top(flatten(scores), kept_count, seed=seed), scores)


def keep_top_per_layer(
    scores: Mapping[str, Tensor], kept_counts: Mapping[str, int], *, seed: int = 0
) -> Mask:
    """Return the mask of the `kept_counts[name]` highest scores of each layer.

    Among equal scores a lot decides, as in `top`; each layer has a lot of its own.
    """
    return {
        name: top(
            score.detach().reshape(-1), kept_counts[name], seed=derive(seed, "layer", number)
        ).view(score.shape)
        for number, (name, score) in enumerate(scores.items())
    }


def top(flat: Tensor, kept_count: int, *, seed: int = 0) -> Tensor:
    """Return a boolean vector that marks the `kept_count` highest entries.

    Among equal entries a lot decides. It depends on the seed and on how many entries are tied, and
    is drawn only if some of these are marked and others not. So the same cut always has the same
    result, a lower count marks a part of what a higher one marks, and rounds with different ties
    have different lots. Raises ValueError if an entry is NaN or there are fewer entries than
    `kept_count`.
    """
    if not 0 <= kept_count <= flat.numel():
        raise ValueError(f"cannot keep {kept_count} of {flat.numel()} weights")
    if flat.numel() and bool(flat.max().isnan()):  # the maximum is NaN if any entry is
        raise ValueError(f"{int(flat.isnan().sum())} of {flat.numel()} scores are NaN")
    if kept_count == 0:
        return torch.zeros_like(flat, dtype=torch.bool)
    threshold = kth_highest(flat, kept_count)
    mask = flat >= threshold
    if surplus := int(mask.count_nonzero()) - kept_count:
        tied = flatnonzero(flat == threshold)
        # drawn on the CPU, so that the same entries lose on every device; no permutation, because
        # to rank random numbers is many times faster
        draw = generator(seed, "ties", len(tied))
        lot = torch.rand(len(tied), generator=draw, dtype=torch.float64)
        mask[tied] = top(lot, len(tied) - surplus, seed=seed).to(mask.device)
    return mask


def kth_highest(flat: Tensor, k: int) -> Tensor:
    """Return the k-th highest entry (k from 1), exactly.

    Long vectors are not sorted: a sample brackets the answer, and only the entries inside the
    bracket are ranked. If the bracket misses the answer, all entries are ranked.
    """
    if flat.numel() <= 8 * _SAMPLE:
        return flat.kthvalue(flat.numel() - k + 1).values
    # with a constant stride, the result needs no random numbers
    sample = flat[:: flat.numel() // _SAMPLE].sort(descending=True).values
    middle = k * sample.numel() // flat.numel()
    # at the median, about three standard deviations of a rank in a random sample
    margin = sample.numel() // 128
    above = max(middle - margin, 0)
    high = sample[above] if above else flat.max()
    low = sample[min(middle + margin, sample.numel() - 1)]
    # If the answer lies near an end, one side of the bracket is enough, and faster.
    if 4 * k <= flat.numel():
        candidates, higher = flat[flatnonzero(flat >= low)], 0
    elif 4 * (flat.numel() - k) <= flat.numel():
        candidates = flat[flatnonzero(flat <= high)]
        higher = flat.numel() - candidates.numel()
    else:
        candidates = flat[flatnonzero((flat <= high) & (flat >= low))]
        higher = int((flat > high).count_nonzero())
    rank = k - higher
    if not 1 <= rank <= candidates.numel():
        return flat.kthvalue(flat.numel() - k + 1).values
    return candidates.kthvalue(candidates.numel() - rank + 1).values


def flatnonzero(marks: Tensor) -> Tensor:
    """Return the indices at which a boolean vector is true, in order."""
    if marks.device.type != "cpu":
        return marks.nonzero().view(-1)
    return torch.from_numpy(np.flatnonzero(marks.numpy()))  # several times faster than torch's


def apportion(
    sizes: Mapping[str, int], densities: Mapping[str, float], kept_count: int, *, seed: int = 0
) -> dict[str, int]:
    """Return integer counts per layer that follow the densities and sum to exactly `kept_count`.

    This is the largest-remainder method: each layer gets the floor of `density * size`, and the
    shortfall goes to the largest remainders, never beyond a layer's size. Among equal remainders a
    lot decides, which depends on the seed. The densities must add up to `kept_count` weights within
    one weight per layer.
    """
    quotas = {name: densities[name] * size for name, size in sizes.items()}
    counts = {name: min(int(quotas[name]), size) for name, size in sizes.items()}
    lot = torch.randperm(len(sizes), generator=generator(seed, "remainders")).tolist()
    names = [list(sizes)[number] for number in lot]
    # sorted is stable, so that equal remainders stay in the order of the lot
    by_remainder = sorted(names, key=lambda name: counts[name] - quotas[name])
    # Rounding can put the sum one above `kept_count`, so the correction goes either way.
    while (shortfall := kept_count - sum(counts.values())) != 0:
        step = 1 if shortfall > 0 else -1
        movable = [name for name in by_remainder[::step] if 0 <= counts[name] + step <= sizes[name]]
        if not movable:
            raise ValueError(f"cannot keep {kept_count} of {sum(sizes.values())} weights")
        for name in movable[: abs(shortfall)]:
            counts[name] += step
    return counts


class MaskHistory:
    """Keeps masks of one network, and the distances between all of them.

    The distance of two masks is the fraction of weights that only one of them keeps (the
    normalised Hamming distance): 0 for equal masks, 1 for opposite ones.
    """

    def __init__(self) -> None:
        self._bits: list[NDArray[np.uint8]] = []
        self.distances: list[tuple[float, ...]] = []
        """Row t has the distances of mask t from the masks 0 to t - 1."""

    def add(self, mask: Mask) -> tuple[float, ...]:
        """Add a mask, and return its distances from all earlier ones, the oldest first."""
        flat = flatten(mask).cpu().numpy()
        return self.add_packed(np.packbits(flat), len(flat))

    def add_packed(self, bits: NDArray[np.uint8], size: int) -> tuple[float, ...]:
        """Add a mask of `size` weights that `numpy.packbits` has packed; see `add`."""
        row = tuple(int(np.unpackbits(bits ^ earlier).sum()) / size for earlier in self._bits)
        self._bits.append(bits)
        self.distances.append(row)
        return row


def full(tensors: Mapping[str, Tensor]) -> Mask:
    """Return the mask that keeps every weight."""
    return {name: torch.ones_like(t, dtype=torch.bool) for name, t in tensors.items()}


def apply(net: nn.Module, mask: Mask) -> None:
    """Set the pruned weights of `net` to exactly 0, in place."""
    weights = prunable(net)
    with torch.no_grad():
        torch._foreach_mul_([weights[name] for name in mask], as_float(mask, weights))


def as_float(mask: Mask, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the mask as 0 and 1 in the type and memory layout of the weights it multiplies."""
    return [
        torch.empty_like(weights[name], requires_grad=False).copy_(layer_mask)
        for name, layer_mask in mask.items()
    ]


def layer_counts(mask: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the number of kept weights of each layer."""
    return {name: int(layer_mask.sum()) for name, layer_mask in mask.items()}


def density(mask: Mapping[str, Tensor]) -> float:
    """Return the number of kept weights over the number of prunable weights."""
    return sum(layer_counts(mask).values()) / total(mask)


def collapsed(mask: Mapping[str, Tensor]) -> list[str]:
    """Return the layers that keep no weight while another layer keeps some."""
    counts = layer_counts(mask)
    return [name for name, count in counts.items() if count == 0] if any(counts.values()) else []


def check_covers(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless `tensors` have the names and shapes of the prunable weights."""
    if missing := listed(name for name in weights if name not in tensors):
        raise ValueError(f"nothing for the prunable weights {missing}")
    if extra := listed(name for name in tensors if name not in weights):
        raise ValueError(f"names that are no prunable weights: {extra}")
    for name, tensor in tensors.items():
        if tensor.shape != weights[name].shape:
            have, need = tuple(tensor.shape), tuple(weights[name].shape)
            raise ValueError(f"{name} has shape {have}, needed {need}")


def listed(names: Iterable[str]) -> str:
    """Return the first three names and the number of the others, for a message."""
    names = list(names)
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if names[3:] else "")
