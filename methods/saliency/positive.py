"""The positive copy of a network, through which SynFlow's flow runs.

Every weight has its absolute value, biases and shifts are 0, and the input is tiny. The output is
then proportional to the input, for far more networks than the paper has:

- No activation reaches a cap (ReLU6), and a smooth one (SiLU, GELU) is its tangent at 0.
- A gate (sigmoid, softmax) is its value at 0, a constant. Weights that act only through a gate,
  such as queries and keys, carry a flow that is smaller by many orders, and fall first.
- A norm with statistics of its input divides by a constant, the root mean square of the whole
  input. Otherwise the flow of a residual network would grow with each block until it overflows.
- A product of two activations (SwiGLU, squared ReLU) divides by the size of one factor, likewise,
  and each factor gets half of the flow.

Sizes are powers of two, so that they change no bit of the scores of a network of rectifiers.
"""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from paibench.methods.core.mask import prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.text import in_words

SIZES = {
    torch.float64: (2.0**-200, 2.0**-400, 2.0**-600, 2.0**-800),
    torch.float32: (2.0**-60, 2.0**-80),
}
"""The sizes of the input to try. Activations grow by 2**250 in networks with many branches."""
_MUCH_SMALLER = {torch.float64: 2.0**-100, torch.float32: 2.0**-20}

# for each norm, the positions of its scale and of the flag that asks for statistics of the input
_NORMS: dict[Callable[..., Any], tuple[int | None, int | None]] = {
    F.layer_norm: (2, None),
    torch.layer_norm: (2, None),
    F.rms_norm: (2, None),
    torch.rms_norm: (2, None),
    F.group_norm: (2, None),
    torch.group_norm: (2, None),
    F.batch_norm: (3, 5),
    torch.batch_norm: (1, 5),
    F.instance_norm: (3, 5),
    torch.instance_norm: (1, 5),
    F.normalize: (None, None),
}
_BY_FEATURE = {F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm}
_BATCH_NORMS = {F.batch_norm, torch.batch_norm}
_CASTS = {"float", "half", "bfloat16", "to", "type", "type_as"}
_PRODUCTS = {"mul", "matmul", "bmm"}
_POWERS = {2: "square", 0.5: "sqrt", -0.5: "rsqrt"}
# what a norm does to means and mean squares before it takes the root
_KEEP = {"mean", "add", "sub", "clamp", "clamp_min", "unsqueeze", "view", "reshape", "expand"}


class Flow:
    """The flow through the positive copy of a network for a tiny input: the sum of its outputs.

    Calling it returns the flow, which can be differentiated with respect to `weights`, the
    prunable weights of the copy. Raises UserError if the flow does not start at the input, does
    not reach the output or is not proportional to the input.
    """

    def __init__(self, net: nn.Module, shape: Iterable[int], precision: torch.dtype) -> None:
        self._net = positive(net).to(precision)
        self.weights = prunable(self._net)
        for name, tensor in self._net.state_dict().items():
            if not bool(tensor.isfinite().all()):
                raise UserError(f"the network cannot be scored: {name} is not finite")
        device = next(iter(self.weights.values())).device
        self._ones = torch.ones(1, *shape, dtype=precision, device=device)
        self._size = SIZES[precision][0]
        try:
            self._remove_sources()
            self._choose_size()
        except (UserError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a network may raise anything
            if "allocate memory" in str(error):
                raise
            raise UserError(
                f"the network cannot be run in {_name(precision)} on a tiny input, as synflow "
                f"does: {in_words(error)}"
            ) from error

    def __call__(self) -> Tensor:
        return self._run(self._size)

    def _run(self, size: float, form: "LinearForm | None" = None) -> Tensor:
        """Return the flow for an input of ones times `size`."""
        with form or LinearForm(size or self._size):
            output: Tensor = self._net(self._ones * size)
        return output.sum()

    def _remove_sources(self) -> None:
        """Set to 0 what sends flow itself, such as position embeddings."""
        while bool(self._run(0) != 0):
            if (source := self._source()) is not None:
                source.zero_()
                continue
            at_zeros, at_ones = self._outputs(0), self._outputs(1)
            sending = [
                (name, kind, torch.equal(zeros, ones))
                for (name, kind, zeros), (_, _, ones) in zip(at_zeros, at_ones, strict=False)
                if bool(zeros.any())
            ]
            name, kind, is_constant = sending[0] if sending else ("", "", False)
            # a gate has another output for an input of ones, encodings of positions do not
            if not is_constant:
                place = f" after {name} ({kind})" if sending else ""
                raise UserError(
                    "the network has no synaptic flow: its output is not 0 for an input of 0"
                    f"{place}; use another method"
                )
            self._net.get_submodule(name).register_forward_hook(_zeros)

    def _source(self) -> Tensor | None:
        """Return the first tensor of the run that changes the flow for an input of 0.

        Later ones may be scales, which only pass on the flow of a source. Return None if the first
        one is a scale too.
        """
        tensors = {**dict(self._net.named_parameters()), **dict(self._net.named_buffers())}
        others = [
            tensor.requires_grad_()
            for name, tensor in tensors.items()
            if tensor.is_floating_point()
            and name not in self.weights
            # torch cannot differentiate with respect to them, and they are those of initialization
            and not name.endswith(("running_mean", "running_var"))
        ]
        form = LinearForm(self._size)
        flow = self._run(0, form)
        gradients: Iterable[Tensor] = ()
        if others and flow.requires_grad:
            gradients = torch.autograd.grad(flow, others, materialize_grads=True)
        for tensor in others:
            tensor.requires_grad_(False)
        used = {}
        for tensor, gradient in zip(others, gradients, strict=False):
            if bool(tensor.any()) and bool((tensor * gradient).any()):
                used[form.used.get(id(tensor), len(form.used))] = tensor
        first = used[min(used)] if used else None
        return None if first is None or id(first) in form.scales else first

    def _choose_size(self) -> None:
        """Choose an input so small that a much smaller one gives each layer the same share of flow.

        Then no activation is near a cap, and no gate has left its value at 0.
        """
        precision = self._ones.dtype
        factor = _MUCH_SMALLER[precision]
        for self._size in SIZES[precision]:
            flow, shares = self._shares(self._size)
            if not bool(flow):
                break
            smaller_flow, smaller_shares = self._shares(self._size * factor)
            if torch.allclose(smaller_flow / factor, flow, rtol=1e-3, atol=0) and torch.allclose(
                smaller_shares, shares, rtol=1e-3, atol=1e-9
            ):
                return
        if self._size == SIZES[precision][0]:
            reason = "0 for a tiny input of ones"
        else:
            self._size = SIZES[precision][0]
            reason = f"not proportional to a tiny input{self._first_bend()}"
        raise UserError(
            f"the network has no synaptic flow: its output is {reason}; use another method"
        )

    def _shares(self, size: float) -> tuple[Tensor, Tensor]:
        """Return the flow, and the share of it that each layer has."""
        flow = self._run(size)
        gradients = torch.autograd.grad(flow, list(self.weights.values()), materialize_grads=True)
        if not bool(flow.isfinite()):
            raise self.not_finite()
        sums = [(w * g).sum() for w, g in zip(self.weights.values(), gradients, strict=True)]
        if not bool(torch.stack(sums).isfinite().all()):
            raise self.not_finite()
        return flow.detach(), torch.stack(sums).detach() / flow.detach()

    def _first_bend(self) -> str:
        """Return the first module whose output is not proportional to its size."""
        for (name, kind, once), (_, _, twice) in zip(
            self._outputs(self._size), self._outputs(2 * self._size), strict=False
        ):
            # the output of a gate does not change
            if not any(torch.allclose(twice, k * once, rtol=1e-3, atol=0) for k in (1, 2)):
                return f" after {name} ({kind})"
        return ""

    def _outputs(self, size: float) -> list[tuple[str, str, Tensor]]:
        """Return name, class and output of each module, in the order of the run."""
        outputs = []

        def keep(name: str, module: nn.Module, output: object) -> None:
            if isinstance(output, Tensor):
                outputs.append((name, type(module).__name__, output.detach().clone()))

        handles = [
            module.register_forward_hook(
                lambda module, _, output, name=name: keep(name, module, output)
            )
            for name, module in self._net.named_modules()
            if name
        ]
        try:
            self._run(size)
        finally:
            for handle in handles:
                handle.remove()
        return outputs

    def not_finite(self) -> UserError:
        """Return the reason why a score is not finite, as an error."""
        for name, kind, output in self._outputs(self._size):
            if not bool(output.isfinite().all()):
                dtype = _name(output.dtype)
                advice = "; use precision=float64" if dtype == "float32" else ""
                return UserError(f"the flow overflows {dtype} in {name} ({kind}){advice}")
        return UserError(
            "the flow through the network is finite, but its gradient is not: an operation, such "
            "as a square root, has no finite derivative at 0; use another method than synflow"
        )


def _zeros(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    return torch.zeros_like(output)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class LinearForm(TorchFunctionMode):
    """Runs a network such that its output is proportional to its input, which has this size.

    It replaces functions and not modules. So it finds the norms that a network calls as functions
    or writes out, and each scale acts along the axis that its function defines.
    """

    def __init__(self, size: float) -> None:
        super().__init__()
        self._size = size
        # By identity: the mean, or the mean square, of a tensor, and that tensor.
        self._means: dict[int, tuple[Tensor, Tensor]] = {}
        self._squares: dict[int, tuple[Tensor, Tensor]] = {}
        self.used: dict[int, int] = {}
        """The position in the run at which a leaf of the graph is first used, by identity."""
        self.scales: set[int] = set()
        """The leaves that multiply activations, by identity."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what the function returns, or its linear form."""
        kwargs = kwargs or {}
        for value in (*args, *kwargs.values()):
            for tensor in value if isinstance(value, list | tuple) else (value,):
                if (leaf := _leaf(tensor)) is not None:
                    self.used.setdefault(id(leaf), len(self.used))
        if func in _NORMS:
            return self._norm(func, args, kwargs)
        x, y = (*args, None, None)[:2]
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return func(*args, **kwargs)
        name = _POWERS.get(y, "pow") if (name := name_of(func)) == "pow" else name
        if name in _CASTS:
            output = func(*args, **kwargs)
            # a narrower type may have no numbers that are so small
            widest = torch.promote_types(x.dtype, output.dtype)
            narrower = output.is_floating_point() and output.dtype != widest
            return x.to(output.device) if narrower else output
        if name in ("native_layer_norm", "native_group_norm", "native_batch_norm"):
            raise UserError(
                f"synflow does not know the norm torch.{name}; let the network call "
                f"{name.removeprefix('native_')} of torch.nn.functional"
            )
        if name == "sub" and id(y) in self._means and self._means[id(y)][1] is x:
            return x  # the mean is 0, as that of a batch norm at initialization
        if name in ("sqrt", "rsqrt") and id(x) in self._squares:
            root = torch.ones_like(x) * self._root_mean_square(self._squares[id(x)][1])
            return root.reciprocal() if name == "rsqrt" else root
        if name == "mul" and (leaf := _leaf(y)) is not None and x.grad_fn and _leaf(x) is None:
            self.scales.add(id(leaf))
        if name == "std" or (name in ("norm", "linalg_vector_norm") and self._is_small(x)):
            return torch.ones_like(func(*args, **kwargs)) * self._root_mean_square(x)
        if name == "square" and self._is_small(x):
            output = _halved(x * (x / (self._size * self._root_mean_square(x))))
        elif name in _PRODUCTS and self._is_small(x) and self._is_small(y):
            y_over_size = y / (self._size * self._root_mean_square(y))
            output = _halved(func(x, y_over_size, *args[2:], **kwargs))
        else:
            output = func(*args, **kwargs)
        self._remember(name, x, y, output)
        return output

    def _norm(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        scale_position, flag_position = _NORMS[func]
        x = args[0] if args else kwargs["input"]
        scale = kwargs.get("weight")
        if scale_position is not None and len(args) > scale_position:
            scale = args[scale_position]
        self.scales.add(id(_leaf(scale)))
        if func is F.normalize and not self._is_small(x):
            return func(*args, **kwargs)  # it keeps the signs of weights
        if flag_position is not None:
            flag = "training" if func in _BATCH_NORMS else "use_input_stats"
            default = kwargs.get(flag, func not in _BATCH_NORMS)
            if not (args[flag_position] if len(args) > flag_position else default):
                return func(*args, **kwargs)
        flow = x / self._root_mean_square(x)
        if scale is None:
            return flow
        # one entry per feature of [..., f], or per channel of [n, c, ...]
        return flow * (scale if func in _BY_FEATURE else scale.view(-1, *(1,) * (x.dim() - 2)))

    def _remember(self, name: str, x: Tensor, y: object, output: Any) -> None:
        """Keep the means and the mean squares, from which a norm computes its divisor."""
        if name in ("square", "var") or (name == "mul" and x is y):
            self._squares[id(output)] = output, x
        elif name == "var_mean":
            self._squares[id(output[0])] = output[0], x
            self._means[id(output[1])] = output[1], x
        elif name == "mean" and id(x) not in self._squares:
            self._means[id(output)] = output, x
        elif name in _KEEP:
            for known in (self._means, self._squares):
                if id(x) in known:
                    known[id(output)] = output, known[id(x)][1]

    def _is_small(self, x: object) -> bool:
        """Return whether a tensor is of the input, and not of weights alone, by its size."""
        return isinstance(x, Tensor) and bool(x.detach().abs().amax() < self._size**0.5)

    def _root_mean_square(self, x: Tensor) -> Tensor:
        """Return the root mean square of all entries, or 1 if it is 0.

        The unit is the size of the input, or 1 for a function of weights alone.
        """
        unit = self._size if self._is_small(x) else 1
        root = (x.detach() / unit).square().mean().sqrt()
        return torch.where(root > 0, root, 1)


def _leaf(value: object) -> Tensor | None:
    """Return the leaf of the graph that a value is, or is a view of."""
    if not isinstance(value, Tensor) or not value.requires_grad:
        return None
    tensor = value if value._base is None else value._base
    return tensor if tensor.is_leaf else None


def _halved(product: Tensor) -> Tensor:
    """Return the product with half of its gradient, so that both factors together get its flow."""
    return product.detach() + (product - product.detach()) / 2


def name_of(func: Callable[..., Any]) -> str:
    """Return the name of an operation: `mul` for torch.mul, x * y, x.mul_(y) and x *= y."""
    name: str = getattr(func, "__name__", "")
    return name.removeprefix("__i" if name.startswith("__i") else "__").strip("_")


def positive(net: nn.Module) -> nn.Module:
    """Return a copy of `net` in which nothing is negative and biases are 0."""
    copy = deepcopy(net).eval()
    for module in copy.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            # flow is conserved only with the statistics of initialization
            module.reset_running_stats()
    with torch.no_grad():
        # buffers too: the authors take the absolute value of the whole state dict
        for name, tensor in (*copy.named_parameters(), *copy.named_buffers()):
            last = name.rpartition(".")[2]
            if last.endswith("bias") or last.startswith("bias_"):  # `bias_ih_l0` of an LSTM
                tensor.zero_()
            elif tensor.is_floating_point():
                tensor.abs_()
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    for weight in prunable(copy).values():
        weight.requires_grad_()
    return copy
