"""Which weights the operations of one forward pass use: multiply-adds, and proof that masks hold.

The passes here see every operation, so that a layer counts however it is called: as a module, as a
function, or inside attention.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from paibench.methods.core.mask import Mask, apply, full, prunable
from paibench.models.core.layers import Shape

_aten = torch.ops.aten
# Operations that copy entries to other places without changing them.
_MOVES = frozenset(
    {
        *(_aten.cat, _aten.stack, _aten.constant_pad_nd, _aten.index, _aten.index_select),
        *(_aten.embedding, _aten.repeat, _aten.roll, _aten.flip, _aten.gather),
    }
)


@dataclass(frozen=True)
class Use:
    """What one image costs in the layer of a weight, and whether its mask holds."""

    dense: int
    """Multiply-adds, pruned weights included."""
    sparse: int
    """Multiply-adds of the kept weights."""
    computed: bool
    """True if the network uses a function of the weight that is not 0 where the weight is."""


def multiply_adds(net: nn.Module, shape: Shape) -> dict[str, int]:
    """Return the multiply-adds for one image, by the name of each prunable weight.

    Their sum is the dense cost. A weight counts once for each position at which it is applied.
    Biases, norms and activations do not count, and of attention only the projections count, not
    the products of queries, keys and values. A layer that is never called counts 0.
    """
    return {name: use.dense for name, use in uses(net, full(prunable(net)), shape).items()}


def uses(net: nn.Module, mask: Mask, shape: Shape) -> dict[str, Use]:
    """Return how a network uses each prunable weight for one image, with the mask applied.

    A copy of the network is run once, in eval mode, on one zero image of `shape`.
    """
    return traced(copy.deepcopy(net).eval(), mask, torch.zeros(1, *shape))


@torch.no_grad()
def traced(net: nn.Module, mask: Mask, images: Tensor) -> dict[str, Use]:
    """Apply the mask to a network itself, run it once as it is, and return how it uses weights."""
    apply(net, mask)
    trace = _Trace(prunable(net), mask)
    images = images.to(next(net.parameters()).device)
    fused = torch.backends.mha.get_fastpath_enabled()
    # the fused attention of torch would be one operation, which hides the projections
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []), trace:
            net(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return trace.uses()


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follow weights through the operations of a forward pass.

    Every entry of a weight and of what is computed from it has a label: the number of the weight
    (from 1), negative if the entry has to be 0 because the weight is pruned there; 0 is no weight.
    Labels belong to storages, so that views have those of their base.
    """

    def __init__(self, weights: Mapping[str, Tensor], mask: Mask) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = list(weights)
        self._labels: dict[int, Tensor] = {}
        # a storage that is freed could return as another tensor with the same address
        self._alive: list[Tensor] = []
        # by label
        self._dense = self._sparse = self._wrong = torch.zeros(len(weights) + 1, dtype=torch.int64)
        for number, (name, weight) in enumerate(weights.items(), 1):
            self._write(weight, torch.where(mask[name], number, -number))

    def uses(self) -> dict[str, Use]:
        return {
            name: Use(
                int(self._dense[number]), int(self._sparse[number]), bool(self._wrong[number])
            )
            for number, name in enumerate(self._names, 1)
        }

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        operands = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        labelled = [(t, labels) for t in operands if (labels := self._read(t)) is not None]
        if not labelled:
            return result
        flops: Callable[..., int] | None = flop_registry.get(func.overloadpacket)
        if flops is not None:
            # a matrix operation: what comes out is an activation
            count = flops(*args, **kwargs, out_val=result)
            for tensor, labels in labelled:
                self._use(tensor, labels, count // 2 // tensor.numel())
            return result
        for output in tree_leaves(result):
            if isinstance(output, Tensor) and self._read(output) is None:
                self._write(output, self._derived(func, args, kwargs, labelled, output))
        return result

    def _use(self, tensor: Tensor, labels: Tensor, positions: int) -> None:
        self._dense = self._dense + positions * self._count(labels.abs())
        self._sparse = self._sparse + positions * self._count(labels.clamp(min=0))
        self._wrong = self._wrong + self._count(-labels[(labels < 0) & (tensor != 0)])

    def _count(self, numbers: Tensor) -> Tensor:
        return torch.bincount(numbers.flatten(), minlength=len(self._dense)).cpu()

    def _derived(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        labelled: list[tuple[Tensor, Tensor]],
        output: Tensor,
    ) -> Tensor:
        """Return the labels of a new tensor that an operation computes from labelled ones."""
        if func.overloadpacket in _MOVES:
            moved: Tensor = func(*tree_map(self._as_labels, args), **kwargs)
            return moved
        fitting = [labels for _, labels in labelled if labels.shape == output.shape]
        if fitting:
            # position by position; where one operand is kept, the result may be other than 0
            return torch.stack(fitting).amax(0)
        # another shape, such as a mean: nothing says which of its entries have to be 0, so none
        # may be used as a weight
        return -labelled[0][1].abs().amax().expand(output.shape)

    def _as_labels(self, argument: Any) -> Any:
        """Return the labels of a tensor of weights or activations, and anything else as it is."""
        if not isinstance(argument, Tensor) or not argument.is_floating_point():
            return argument
        labels = self._read(argument)
        return torch.zeros_like(argument, dtype=torch.int16) if labels is None else labels

    def _read(self, tensor: Tensor) -> Tensor | None:
        flat = self._labels.get(tensor.untyped_storage()._cdata)
        if flat is None:
            return None
        return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def _write(self, tensor: Tensor, labels: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._labels:
            entries = storage.nbytes() // tensor.element_size()
            self._labels[storage._cdata] = torch.zeros(
                entries, dtype=torch.int16, device=tensor.device
            )
            self._alive.append(tensor)
        flat = self._labels[storage._cdata]
        flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).copy_(labels)
