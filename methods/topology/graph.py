"""The graph of a network: its units, and the layers, sums and concatenations between them.

A unit is a channel, or a feature of a linear layer. The graph is recorded while the network runs
once. Activations, norms and pooling pass each unit on, so that what goes in and what comes out is
one group of units; layers lead from one group to another.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from paibench.methods.core.mask import prunable
from paibench.methods.core.registry import UserError
from paibench.methods.saliency.positive import name_of

Kind: TypeAlias = Literal["layer", "flatten", "sum", "product", "cat", "unknown"]

# operations that pass each unit on, if the length of the axis of units stays the same
_SAME = {
    *("relu", "relu6", "leaky_relu", "rrelu", "prelu", "elu", "selu", "celu", "gelu", "silu"),
    *("mish", "hardswish", "hardsigmoid", "hardtanh", "sigmoid", "logsigmoid", "tanh", "softplus"),
    *("softsign", "threshold", "clamp", "square", "pow", "abs", "neg", "exp", "sqrt", "rsqrt"),
    *("batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm", "local_response_norm"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout"),
    *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "lp_pool2d"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("boolean_dispatch", "interpolate", "pad", "contiguous", "clone", "detach"),
    *("to", "float", "double", "half", "bfloat16", "type", "type_as", "expand", "expand_as"),
    *("add", "sub", "rsub", "mul", "div", "truediv", "rtruediv", "radd", "rmul", "iadd", "imul"),
}
_RESHAPES = {"flatten", "view", "reshape"}
_REDUCTIONS = {"mean", "sum", "amax", "squeeze", "log_softmax", "softmax"}
_SUMS = {"add", "sub", "radd", "iadd"}
_PRODUCTS = {"mul", "rmul", "imul"}
_LAYERS = {"conv1d", "conv2d", "conv3d", "linear"}


@dataclass
class Step:
    """What leads from groups of units to another one.

    `name` is that of the weight of a layer, or else that of the operation; a weight is of the
    shape [out, in / groups, *kernel]. `repeats` is the number of positions of each channel that
    `flatten` turns into units of their own.
    """

    kind: Kind
    inputs: list[int]
    output: int
    name: str
    groups: int = 1
    repeats: int = 1


@dataclass(frozen=True)
class Graph:
    """Groups of units, numbered in the order in which they occur, and the steps between them.

    `sizes[g]` is the number of units of group g, `scales` the group that each scale of a batch
    norm belongs to, by name. Every group but the first is the output of one step.
    """

    sizes: list[int]
    steps: list[Step]
    output: int
    scales: dict[str, int]

    @cached_property
    def producers(self) -> dict[int, Step]:
        """The step that each group is the output of."""
        return {step.output: step for step in self.steps}

    @cached_property
    def _ancestors(self) -> list[set[int]]:
        """For each group, itself and all groups that lead to it."""
        return self._back(through_layers=True)

    @cached_property
    def _near(self) -> list[set[int]]:
        """For each group, itself and the groups that lead to it without a layer between."""
        return self._back(through_layers=False)

    def _back(self, *, through_layers: bool) -> list[set[int]]:
        found: list[set[int]] = []
        for group in range(len(self.sizes)):
            step, before = self.producers.get(group), set[int]()
            if step and (through_layers or step.kind != "layer"):
                before = before.union(*(found[each] for each in step.inputs))
            found.append({group} | before)
        return found

    def without_shortcuts(self) -> "Graph":
        """Return the graph without the terms of sums that bypass layers and have none themselves.

        What leads to no output is left out too.
        """
        steps = []
        for step in self.steps:
            inputs = list(step.inputs)
            if step.kind == "sum":
                for term in step.inputs:
                    rest = [other for other in inputs if other != term]
                    before = set().union(*(self._ancestors[other] for other in rest))
                    if rest and self._near[term] & before:
                        inputs = rest
            steps.append(Step(step.kind, inputs, step.output, step.name, step.groups, step.repeats))
        graph = Graph(self.sizes, steps, self.output, self.scales)
        used = graph._ancestors[graph.output]
        return Graph(self.sizes, [s for s in steps if s.output in used], self.output, self.scales)

    def check(self, method: str) -> None:
        """Raise UserError if an operation is not known."""
        for step in self.steps:
            if step.kind == "unknown":
                raise UserError(
                    f"{method} cannot follow the units of the network through {step.name!r}; "
                    "use another method or network"
                )

    def offsets(self, step: Step) -> list[int]:
        """Return the first unit of each input of a concatenation."""
        return list(accumulate((self.sizes[group] for group in step.inputs[:-1]), initial=0))


def graph_of(net: nn.Module, shape: Sequence[int]) -> Graph:
    """Return the graph of a network for inputs of this shape, without the batch.

    The network itself is not changed.
    """
    copy = deepcopy(net).eval()
    weight = next(iter(prunable(copy).values()))
    # two examples, because a norm may refuse a batch of one
    inputs = torch.ones(2, *shape, dtype=weight.dtype, device=weight.device)
    recorder = _Recorder(copy, inputs)
    with torch.no_grad(), recorder:
        output = copy(inputs)
    return recorder.graph(output)


class _Recorder(TorchFunctionMode):
    """Records the steps while a network runs."""

    def __init__(self, net: nn.Module, inputs: Tensor) -> None:
        super().__init__()
        self._weights = {id(weight): name for name, weight in prunable(net).items()}
        self._scales = {
            id(module.weight): f"{name}.weight" if name else "weight"
            for name, module in net.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine
        }
        self._sizes = [inputs.shape[1]]
        self._steps: list[Step] = []
        self._found_scales: dict[str, int] = {}
        # By identity: a tensor, which must stay alive, its group and its axis of units.
        self._tensors: dict[int, tuple[Tensor, int, int]] = {id(inputs): (inputs, 0, 1)}

    def graph(self, output: object) -> Graph:
        """Return the graph, given what the network returned."""
        if not isinstance(output, Tensor) or id(output) not in self._tensors:
            raise UserError("the network does not return one tensor that depends on its input")
        return Graph(self._sizes, self._steps, self._tensors[id(output)][1], self._found_scales)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, and record what it does to units."""
        kwargs = kwargs or {}
        known = [
            self._tensors[id(x)]
            for x in _all_tensors((*args, *kwargs.values()))
            if id(x) in self._tensors
        ]
        before = [(x.shape, group, axis) for x, group, axis in known]
        result = func(*args, **kwargs)
        outputs = list(_all_tensors((result,)))
        if known and outputs:
            name = name_of(func)
            single = isinstance(result, Tensor)
            if not (single and self._record(name, before, args, kwargs, result)):
                for output in outputs:
                    self._add(
                        Step("unknown", [group for _, group, _ in before], 0, name), output, 1
                    )
        return result

    def _record(
        self,
        name: str,
        inputs: list[tuple[torch.Size, int, int]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        output: Tensor,
    ) -> bool:
        """Record a known operation; return False if it is not known."""
        shape, group, axis = inputs[0]
        groups = [each for _, each, _ in inputs]
        if name in _LAYERS:
            weight = kwargs["weight"] if "weight" in kwargs else args[1]
            place = len(shape) - 1 if name == "linear" else 1
            if id(weight) not in self._weights or len(inputs) > 1 or axis != place:
                return False
            step = Step("layer", groups, 0, self._weights[id(weight)])
            step.groups = shape[axis] // weight.shape[1]
            self._add(step, output, place)
        elif name in ("cat", "concat", "concatenate"):
            place = kwargs.get("dim", args[1] if len(args) > 1 else 0) % output.dim()
            if any(each != place for _, _, each in inputs) or len(inputs) != len(args[0]):
                return False
            self._add(Step("cat", groups, 0, name), output, place)
        elif len(inputs) > 1:
            if len({(s[a], len(s), a) for s, _, a in inputs}) > 1:
                return False
            if name not in _SUMS | _PRODUCTS:
                return False
            if len(set(groups)) == 1:
                self._tensors[id(output)] = output, group, axis
            else:
                kind: Kind = "sum" if name in _SUMS else "product"
                self._add(Step(kind, groups, 0, name), output, axis)
        elif name in _RESHAPES:
            return self._reshape(name, shape, group, axis, output)
        else:
            after = _axis(name, args, kwargs, shape, axis)
            if after is None or output.dim() <= after or output.shape[after] != shape[axis]:
                return False
            if name in ("batch_norm", "instance_norm"):
                for value in (*args, *kwargs.values()):
                    if id(value) in self._scales:
                        self._found_scales[self._scales[id(value)]] = group
            self._tensors[id(output)] = output, group, after
        return True

    def _reshape(self, name: str, shape: torch.Size, group: int, axis: int, output: Tensor) -> bool:
        units = shape[axis]
        if axis == len(shape) - 1 and output.shape[-1] == units:
            self._tensors[id(output)] = output, group, output.dim() - 1
        elif axis != 1 or output.dim() < 2 or output.shape[0] != shape[0]:
            return False
        elif output.shape[1] == units:
            self._tensors[id(output)] = output, group, 1
        elif output.dim() == 2:
            repeats = output.shape[1] // units
            step = Step("flatten", [group], 0, name, repeats=repeats)
            self._add(step, output, 1)
        else:
            return False
        return True

    def _add(self, step: Step, output: Tensor, axis: int) -> None:
        step.output = len(self._sizes)
        self._sizes.append(output.shape[axis] if output.dim() > axis else 0)
        self._steps.append(step)
        self._tensors[id(output)] = output, step.output, axis


def _axis(
    name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], shape: torch.Size, axis: int
) -> int | None:
    """Return the axis of units after an operation with one input, or None if it is not known."""
    dims = len(shape)
    if name == "getitem":
        parts = args[1] if isinstance(args[1], tuple) else (args[1],)
        # numbers drop an axis, and lists and tensors may change the order of units
        slices = all(isinstance(part, slice) or part is Ellipsis for part in parts)
        return axis if slices else None
    if name in _SAME:
        return axis
    if name in ("permute", "transpose", "swapaxes"):
        order = args[1] if len(args) == 2 and not isinstance(args[1], int) else args[1:]
        places = [int(place) % dims for place in (*order, *kwargs.values())]
        if name == "permute":
            return places.index(axis) if axis in places else None
        return {places[0]: places[1], places[1]: places[0]}.get(axis, axis)
    if name in _REDUCTIONS:
        given = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if given is None:
            return None
        removed = {place % dims for place in ((given,) if isinstance(given, int) else given)}
        if axis in removed:
            return None
        keeps = name.endswith("softmax") or kwargs.get("keepdim", len(args) > 2 and args[2])
        return axis if keeps else axis - sum(place < axis for place in removed)
    return None


def _all_tensors(values: Sequence[Any]) -> Sequence[Tensor]:
    """Return the tensors among values, and among those in lists and tuples."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found.extend(_all_tensors(value))
    return found
