"""What a method returns or raises is accepted, or blamed, with and without a sandbox alike."""

import errno
from collections import OrderedDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from factories import spec_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from paibench.benchmark.sandbox.ticket_io import pack, unpack
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps import search
from paibench.benchmark.steps.blame import MethodError
from paibench.benchmark.steps.search import SearchResult, find, to_mask
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Channels, Scores, Ticket

SPEC = spec_of("random", density=0.5)
NAMES = ("0.weight", "1.weight")
SHAPES = ((3, 4), (2, 3))
KEPT = {"0.weight": 6, "1.weight": 3}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


def task() -> Task:
    return Task.of(torch.rand(8, 4), torch.arange(8) % 2, classes=2)


def mask(dtype: torch.dtype = torch.bool) -> dict[str, Tensor]:
    """A mask that keeps exactly half of the weights."""
    layers = {name: torch.zeros(shape) for name, shape in zip(NAMES, SHAPES, strict=True)}
    for name, layer in layers.items():
        layer.view(-1)[: KEPT[name]] = 1
    return {name: layer.to(dtype) for name, layer in layers.items()}


def scores(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        name: torch.arange(float(np.prod(shape))).view(shape).to(dtype)
        for name, shape in zip(NAMES, SHAPES, strict=True)
    }


def outcome(method: Callable[..., object], sandboxed: bool, spec: Spec = SPEC) -> str:
    """Return what becomes of a method: the mask and the state, or the error with its type."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "get", lambda name: method)
        try:
            result = find(spec, net(), task())
            if sandboxed:  # what its process sends, and what the harness makes of it
                sent = unpack(pack(result.ticket))
                result = SearchResult(sent, result.cost, result.seconds)
            done = to_mask(spec, net(), result, task().steps, torch.device("cpu"))
        except (MethodError, MemoryError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}"
    ticket = done.ticket
    state = [
        sorted((ticket.weights or {}).items()),
        *(sorted(each.items()) for each in ticket.native),
    ]
    return str((done.mask, ticket.start, ticket.finetune, ticket.weights is None, state))


def both(returned: Callable[[], object]) -> str:
    """Return the outcome of a method that returns this, after checking that both ways agree."""
    plain, boxed = (outcome(lambda *_, **__: returned(), way) for way in (False, True))
    assert plain == boxed
    return plain


ACCEPTED: dict[str, Callable[[], object]] = {
    "mask": mask,
    "ordered": lambda: OrderedDict(mask()),
    "view": lambda: MappingProxyType(mask()),
    "transposed": lambda: {name: layer.T.contiguous().T for name, layer in mask().items()},
    "parameter": lambda: Scores({n: nn.Parameter(s) for n, s in scores().items()}),
    "half scores": lambda: Scores(scores(torch.bfloat16)),
    "byte scores": lambda: Scores(scores(torch.uint8)),
    "channels": lambda: channels(),
    "byte channels": lambda: channels(torch.tensor([1, 2, 3], dtype=torch.uint8)),
    "numpy counts": lambda: Scores(scores(), {n: np.int64(count) for n, count in KEPT.items()}),  # type: ignore[misc]
    "numpy start": lambda: Ticket(mask(), start=np.int32(3)),  # type: ignore[arg-type]
    "numpy bool": lambda: Ticket(mask(), finetune=np.True_),  # type: ignore[arg-type]
    "list of natives": lambda: Ticket(mask(), native=[scores()]),  # type: ignore[arg-type]
    "no weights": lambda: Ticket(mask(), weights={}),
    "whole weights": lambda: Ticket(mask(), weights=scores(torch.int64)),
    "seven": lambda: {n: m.view(torch.uint8).mul(7).view(torch.bool) for n, m in mask().items()},
}


@pytest.mark.parametrize("returned", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(returned: Callable[[], object]) -> None:
    """What has the right values gives the same mask and state both ways."""
    assert not both(returned).startswith("MethodError")


def channels(
    scores: Tensor | None = None,
    layers: Tensor | None = None,
    rows: dict[str, Tensor] | None = None,
) -> Channels:
    """Return three channels of one layer: the rows of the first weight, the columns of the next."""
    units = torch.arange(3)
    return Channels(
        torch.arange(3.0) if scores is None else scores,
        torch.zeros(3).long() if layers is None else layers,
        rows or {"0.weight": units},
        {"1.weight": units},
    )


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "none": (lambda: None, "expected a Mask, Scores, Channels or a Ticket, got NoneType"),
    "pair": (lambda: (mask(), 1), "expected a Mask, Scores, Channels or a Ticket, got tuple"),
    "nested": (
        lambda: Ticket(Ticket(mask())),  # type: ignore[arg-type]
        "expected a Mask, Scores, Channels or a Ticket, got Ticket",
    ),
    "channels": (
        lambda: channels(layers=torch.zeros(2).long()),
        "channels have scores (3,) and layers (2,), needed one number of each per channel",
    ),
    "nan channels": (lambda: channels(torch.tensor([1, 2, float("nan")])), "1 of 3 scores are NaN"),
    "rows": (
        lambda: channels(rows={"0.weight": torch.tensor([0, 3, 1])}),
        "rows and columns must be channels from -1 to 2",
    ),
    "rows of some channels": (
        lambda: channels(rows={"0.weight": torch.tensor([0, -1, 0])}),
        "2 of 3 channels are rows of no weight",
    ),
    "few rows": (
        lambda: channels(rows={"0.weight": torch.tensor([0, 1]), "1.weight": torch.tensor([2, 0])}),
        "rows of 0.weight are 2, needed 3",
    ),
    "other rows": (
        lambda: channels(rows={"x": torch.arange(3)}),
        "rows of 'x', which is no prunable weight",
    ),
    "float rows": (
        lambda: channels(rows={"0.weight": torch.ones(3)}),
        "rows of 0.weight has dtype torch.float32, needed torch.int64",
    ),
    "bytes": (
        lambda: mask(torch.uint8),
        "mask of 0.weight has dtype torch.uint8, needed",
    ),
    "arrays": (
        lambda: {name: layer.numpy() for name, layer in mask().items()},
        "mask of 0.weight is a ndarray, needed a tensor",
    ),
    "lists": (
        lambda: Scores(dict.fromkeys(NAMES, [1.0])),  # type: ignore[arg-type]
        "scores of 0.weight is a list, needed a tensor",
    ),
    "bool scores": (
        lambda: Scores(mask()),
        "scores of 0.weight has dtype torch.bool, needed real numbers",
    ),
    "complex": (
        lambda: Scores(scores(torch.complex64)),
        "scores of 0.weight has dtype torch.complex64, needed real numbers",
    ),
    "sparse": (
        lambda: Scores({n: s.to_sparse() for n, s in scores().items()}),
        "scores of 0.weight is no ordinary dense tensor",
    ),
    "meta": (
        lambda: Scores({n: s.to("meta") for n, s in scores().items()}),
        "scores of 0.weight is no ordinary dense tensor",
    ),
    "numbered": (lambda: dict(enumerate(mask().values())), "mask has the name 0, needed that of"),
    "two lines": (lambda: mask() | {"a\nb": torch.ones(1) > 0}, r"mask has the name 'a\nb', need"),
    "surrogate": (lambda: mask() | {"\udcff": torch.ones(1) > 0}, r"mask has the name '\udcff'"),
    "no counts": (
        lambda: Scores(scores(), {}),
        "counts per layer must name exactly the prunable weights; check '0.weight'",
    ),
    "counts": (lambda: Scores(scores(), [6, 3]), "kept is a list, needed counts by name"),  # type: ignore[arg-type]
    "half counts": (
        lambda: Scores(scores(), KEPT | {"0.weight": 6.0}),  # type: ignore[arg-type]
        "kept of 0.weight is 6.0, needed a whole number",
    ),
    "bool start": (lambda: Ticket(mask(), start=True), "start is True, needed a whole number"),
    "float start": (lambda: Ticket(mask(), start=0.0), "start is 0.0, needed a whole number"),  # type: ignore[arg-type]
    "early": (lambda: Ticket(mask(), start=-1), "the ticket starts at step -1, not in 0 to 10"),
    "finetune": (lambda: Ticket(mask(), finetune=1), "finetune is 1, needed True or False"),  # type: ignore[arg-type]
    "native": (lambda: Ticket(mask(), native=scores()), "native is a dict, needed at most 64"),  # type: ignore[arg-type]
    "natives": (
        lambda: Ticket(mask(), native=(scores(),) * 65),
        "native is a tuple, needed at most 64 mappings",
    ),
    "native names": (
        lambda: Ticket(mask(), native=({"x": torch.ones(1)},)),
        "the ticket has weights for 'x', which the network has not",
    ),
    "weights": (lambda: Ticket(mask(), weights=[1]), "weights is a list, needed tensors by name"),  # type: ignore[arg-type]
    "shapes": (
        lambda: Ticket(mask(), weights={"0.weight": torch.ones(4, 3)}),
        "the ticket's 0.weight has shape (4, 3), needed (3, 4)",
    ),
}


@pytest.mark.parametrize(("returned", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(returned: Callable[[], object], said: str) -> None:
    """What breaks the contract is the method's fault both ways, in a line that names the field."""
    assert both(returned).startswith(f"MethodError: ValueError: {said}")


THINGS: list[Any] = [
    None,
    True,
    0,
    1,
    -1,
    2.0,
    np.int64(2),
    np.bool_(True),
    "x",
    [],
    {},
    (),
    Ticket,
]
DTYPES = [torch.bool, torch.uint8, torch.int16, torch.float16, torch.float64, torch.complex64]
layers = st.one_of(
    st.sampled_from(THINGS),
    st.builds(torch.ones, st.sampled_from(SHAPES), dtype=st.sampled_from(DTYPES)),
)
mappings = st.dictionaries(st.sampled_from([*NAMES, "0.bias", "x", 5]), layers, max_size=3)
sound = st.sampled_from([mask(), scores(), KEPT])
anything = st.one_of(st.sampled_from(THINGS), mappings, sound)
masks = st.one_of(anything, st.builds(Scores, anything, anything))
tickets = st.builds(
    Ticket, masks, anything, st.sampled_from(THINGS), st.sampled_from(THINGS), anything
)


@given(st.one_of(masks, tickets))
def test_any_return(returned: object) -> None:
    """Whatever a method returns, both ways give the same mask and state, or the same error."""
    both(lambda: returned)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "MethodError: OSError: [Errno 28] ",
        ),
        (FileNotFoundError(2, "none"), "MethodError: FileNotFoundError: [Errno 2] none"),
        (SystemExit(3), "MethodError: SystemExit: 3"),
        (GeneratorExit("x"), "MethodError: GeneratorExit: x"),
        (StopIteration("x"), "MethodError: StopIteration: x"),
        (MemoryError("x"), "MemoryError: x"),
        (RuntimeError("can't allocate memory: x"), "RuntimeError: can't allocate memory: x"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.usefixtures("hostile")
def test_what_a_method_raises(error: BaseException, said: str) -> None:
    """An error of a third party's own code has one cause, whatever its type."""

    def method(*_: object, **__: object) -> None:
        raise error

    spec = spec_of("raises", density=0.5)
    assert {outcome(method, way, spec)[: len(said)] for way in (False, True)} == {said}
