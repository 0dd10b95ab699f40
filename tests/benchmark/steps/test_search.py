"""Searches: a method is held to its word, kept from the rest, and controlled."""

import copy
import errno
import gc
import pickle
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from factories import spec_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paibench.benchmark.data.dataset import load
from paibench.benchmark.execution.attempt import attempt
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.spec import Spec, recipe_of
from paibench.benchmark.steps.blame import MethodError
from paibench.benchmark.steps.network import make_network
from paibench.benchmark.steps.passed import Passed, hides_cost
from paibench.benchmark.steps.search import (
    SearchResult,
    find,
    load_weights,
    reinit_seed,
    shuffle,
    to_mask,
)
from paibench.benchmark.store.atomic import StoreError
from paibench.benchmark.store.store import Store
from paibench.methods.core.mask import Mask, flatten, layer_counts, prunable
from paibench.methods.core.registry import UserError, is_own, names
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.training.checkpoint import digest
from paibench.methods.training.loop import Diverged
from paibench.methods.training.services import Services

DIGITS = load("digits", {}, None, "cpu", 0)

pytestmark = pytest.mark.usefixtures("hostile")


def search(spec: Spec, net: nn.Module, task: Task) -> SearchResult:
    return to_mask(spec, net, find(spec, net, task), task.steps, task.device)


def net_of(spec: Spec) -> nn.Module:
    return make_network(spec, DIGITS, spec.seed)


def searched(method: Any, **fields: Any) -> SearchResult:
    spec = spec_of(method, **fields)
    task = Task(DIGITS.train, seed=spec.seed, recipe=recipe_of(spec.recipe), stream=str(method))
    return search(spec, net_of(spec), task)


def same(one: Mask, other: Mask) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("keeps_one_more", "keeps 5021 of 50200 weights, density 0.1 asks for 5020"),
        ("scores_nan", "1 of 50200 scores are NaN"),
        ("gives_nothing", "expected a Mask, Scores, Channels or a Ticket, got NoneType"),
        ("gives_integers", "fc1.weight has dtype torch.int32, needed torch.bool"),
        ("forgets_a_layer", "nothing for the prunable weights 'fc3.weight'"),
        ("adds_a_layer", "names that are no prunable weights: '../../x'"),
        ("turns_a_layer", r"fc1.weight has shape \(64, 300\), needed \(300, 64\)"),
        ("starts_late", "starts at step 47, not in 0 to 46"),
    ],
)
def test_broken_contracts(method: str, said: str) -> None:
    """What breaks the contract is refused with what was expected and what came."""
    with pytest.raises(MethodError, match=said):
        searched(method)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (
            "cannot_be_imported",
            "it cannot be imported: ModuleNotFoundError: No module named 'no_such_library'",
        ),
        ("raises", "RuntimeError: first second \\x1b[31m"),
        ("raises_mute", "Mute: its message cannot be read"),
        ("leaves", "SystemExit: 0"),
        (
            "gives_nothing",
            "ValueError: expected a Mask, Scores, Channels or a Ticket, got NoneType",
        ),
    ],
)
def test_a_method_is_blamed_for_what_it_does(method: str, said: str) -> None:
    """Whatever a method raises is its own error, in one line."""
    with pytest.raises(MethodError) as caught:
        searched(method)
    assert str(caught.value) == said
    assert caught.value.__cause__ is not None


def _full(name: str, compute: object) -> dict[str, Tensor]:
    raise StoreError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("method", "fields", "error"),
    [
        ("imp", {"recipe": {"name": "smoke", "lr": 1e30}}, Diverged),
        ({"name": "imp", "rewind_epoch": 9.0}, {}, UserError),
        ("out_of_memory", {}, MemoryError),
        ("asks_too_much", {}, RuntimeError),
        ("imp", {"memo": _full}, StoreError),
    ],
    ids=["diverged", "input", "memory", "refused memory", "disk"],
)
def test_a_method_is_not_blamed_for_the_world(
    method: Any, fields: dict[str, Any], error: type[Exception]
) -> None:
    """Divergence, bad input and want of memory or of disk are raised as they are."""
    services = Services(fields["memo"]) if "memo" in fields else None
    spec = spec_of(method, **{key: value for key, value in fields.items() if key != "memo"})
    task = Task(DIGITS.train, seed=0, recipe=recipe_of(spec.recipe), services=services)
    with pytest.raises(error) as caught:
        search(spec, net_of(spec), task)
    assert not isinstance(caught.value, MethodError)


def test_a_method_cannot_spoil_the_rest() -> None:
    """It works on a copy, and the state of the process is afterwards what it was."""
    spec = spec_of("spoils")
    net = net_of(spec)
    before = digest(net.state_dict())
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    search(spec, net, Task(DIGITS.train, seed=0, recipe=recipe_of(spec.recipe)))
    assert digest(net.state_dict()) == before
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), random_state)


def test_global_randomness_is_repeatable() -> None:
    """A method that draws from the global generator gives the same mask, and another per seed."""
    torch.manual_seed(1)
    first = searched("draws_globally").mask
    torch.manual_seed(2)
    assert same(searched("draws_globally").mask, first)
    assert not same(searched("draws_globally", seed=1).mask, first)


@pytest.mark.parametrize("method", ["random", "magnitude", "snip"])
def test_shuffled(method: str) -> None:
    """The control `shuffle` keeps as many weights in each layer, elsewhere, by the seed."""
    plain = searched(method).mask
    shuffled = searched(method, control="shuffle").mask
    assert layer_counts(shuffled) == layer_counts(plain)
    assert not any(torch.equal(shuffled[name], plain[name]) for name in plain)
    assert same(searched(method, control="shuffle").mask, shuffled)


def test_inverted() -> None:
    """The control `invert` keeps exactly the round(density * total) lowest scores."""
    mask = searched("magnitude", control="invert", density=0.123).mask
    sizes = flatten(prunable(net_of(spec_of("magnitude")))).abs()
    kept = flatten(mask)
    assert int(kept.sum()) == round(0.123 * 50_200)
    assert sizes[kept].max() <= sizes[~kept].min()


def test_masks_have_no_inverse() -> None:
    """Without scores the control `invert` is refused, and says why."""
    with pytest.raises(ValueError, match="cannot invert: the method returns a mask and no scores"):
        searched("prints", control="invert")


IMP = {"name": "imp", "rate": 0.9, "rewind_epoch": 1.0}


def test_reinit_forgets_the_ticket() -> None:
    """The control `reinit` has the same mask, and none of the weights that it came with."""
    plain = searched(IMP)
    fresh = searched(IMP, control="reinit")
    assert plain.ticket.weights is not None
    assert plain.ticket.start == 23
    assert fresh.ticket.weights is None
    assert fresh.ticket.start == 0
    assert same(fresh.mask, plain.mask)


def test_shuffle_keeps_the_ticket() -> None:
    """The control `shuffle` moves the mask only: the weights are those of the ticket."""
    weights = searched(IMP, control="shuffle").ticket.weights
    plain = searched(IMP).ticket.weights
    assert weights is not None
    assert plain is not None
    assert digest(weights) == digest(plain)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"fc9.weight": torch.zeros(3)}, "weights for 'fc9.weight', which the network has not"),
        ({"fc3.bias": torch.zeros(3)}, r"fc3.bias has shape \(3,\), needed \(10,\)"),
    ],
    ids=["name", "shape"],
)
def test_weights_that_do_not_fit(weights: dict[str, Tensor], said: str) -> None:
    """Weights that the network does not have are refused by name and shape."""
    with pytest.raises(ValueError, match=said):
        load_weights(net_of(spec_of("random")), weights)


def test_weights_replace_what_they_name() -> None:
    """A ticket's weights replace the entries that they name, and no others."""
    net = net_of(spec_of("random"))
    first, bias = prunable(net)["fc1.weight"].clone(), torch.full((10,), 7.0)
    load_weights(net, {"fc3.bias": bias})
    assert torch.equal(net.state_dict()["fc3.bias"], bias)
    assert torch.equal(prunable(net)["fc1.weight"], first)
    load_weights(net, None)


def reachable(roots: list[object]) -> Iterator[object]:
    """All that can be come by from these objects: their parts, attributes and closures.

    Not through modules, classes and the globals of functions, which lead everywhere.
    """
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.FrameType):
            continue
        seen.add(id(thing))
        yield thing
        if isinstance(thing, types.FunctionType):
            todo += [*(thing.__closure__ or ()), *(thing.__defaults__ or ()), thing.__dict__]
        elif isinstance(thing, Tensor):
            todo += [thing.untyped_storage(), *vars(thing).values()]
        else:
            todo += gc.get_referents(thing)


def shown(roots: list[object]) -> set[str]:
    """Which parts of the digits can be come by from these objects."""
    train, test = DIGITS.train, DIGITS.test
    signs = {
        "training pixels": train.pixels[:5],  # type: ignore[attr-defined]
        "test pixels": test.pixels[:5],  # type: ignore[attr-defined]
        "last test pixels": test.pixels[-5:],  # type: ignore[attr-defined]
        "test inputs": next(test.batches(torch.arange(5), 5))[0],
        "training labels": train.labels[:50],
        "test labels": test.labels[:50],
        "last test labels": test.labels[-50:],
    }
    storages = [t for t in reachable(roots) if isinstance(t, torch.UntypedStorage)]
    raw = [bytes(storage) for storage in storages]
    return {
        name
        for name, sign in signs.items()
        if any(sign.contiguous().numpy().tobytes() in each for each in raw)
    }


def test_the_test_set_is_out_of_reach(tmp_path: Path) -> None:
    """Nothing that even a trusted method is given leads to a pixel or a label of the test set."""
    store = Store.open(tmp_path / "store")
    assert attempt(spec_of("holds"), store, RunSettings(trusted=True)) == "done"
    import hostile

    assert shown(hostile.HELD) == {"training pixels", "training labels"}
    assert len(shown([hostile.HELD, DIGITS])) == 6  # the look itself does find what is there


@pytest.mark.parametrize("control", ["shuffle", "invert"])
def test_a_mask_is_not_moved_onto_trained_zeros(control: str) -> None:
    """Controls that move a mask say nothing of a ticket whose weights are 0 elsewhere."""
    method = {"name": "imp", "rounds": 2, "after": "finetune"}
    with pytest.raises(UserError, match=f"control {control} shows nothing for imp"):
        searched(method, control=control)


@pytest.mark.parametrize("control", ["none", "reinit"])
def test_a_ticket_of_trained_weights_may_stay_where_it_is(control: str) -> None:
    """Without a control, or with fresh weights, such a ticket is as good as any."""
    found = searched({"name": "imp", "rounds": 2, "after": "finetune"}, control=control)
    assert sum(layer_counts(found.mask).values()) == 5020


# test_controls: The controls: what they change, and what they leave exactly as it was.


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    shapes = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 7)), min_size=1, max_size=4))
    bits = [draw(st.lists(st.booleans(), min_size=a * b, max_size=a * b)) for a, b in shapes]
    return {
        f"layer{i}.weight": torch.tensor(flat).view(shape)
        for i, (flat, shape) in enumerate(zip(bits, shapes, strict=True))
    }


@settings(derandomize=True, max_examples=50, deadline=None)
@given(mask=masks(), seed=st.integers(0, 2**31 - 1))
def test_shuffle_keeps_counts(mask: Mask, seed: int) -> None:
    """Names, order, shapes and the count of each layer stay; the given mask is not touched."""
    before = {name: kept.clone() for name, kept in mask.items()}
    shuffled = shuffle(mask, seed)
    assert list(shuffled) == list(mask)
    assert {n: k.shape for n, k in shuffled.items()} == {n: k.shape for n, k in mask.items()}
    assert layer_counts(shuffled) == layer_counts(mask)
    assert all(torch.equal(mask[name], before[name]) for name in mask)


def test_shuffle_follows_the_seed() -> None:
    """The same seed shuffles alike, another one does not, and layers do not share their places."""
    mask = {name: torch.arange(400).view(20, 20) < 100 for name in ("a", "b")}
    first, again, other = shuffle(mask, 0), shuffle(mask, 0), shuffle(mask, 1)
    assert all(torch.equal(first[name], again[name]) for name in mask)
    assert not torch.equal(first["a"], other["a"])
    assert not torch.equal(first["a"], first["b"])
    assert not torch.equal(first["a"], mask["a"])


def test_shuffle_reaches_every_place() -> None:
    """Over many seeds a single kept weight comes to lie everywhere, about equally often."""
    mask = {"a": torch.arange(4) == 0}
    places = sum(shuffle(mask, seed)["a"].int() for seed in range(400))
    assert isinstance(places, torch.Tensor)
    assert int(places.sum()) == 400
    assert places.min() > 60  # 100 expected, with a standard deviation of 8.7


def test_reinit_seeds_are_seeds_of_their_own() -> None:
    """The seeds of fresh weights are valid, differ from one another and from the runs' own."""
    fresh = [reinit_seed(seed) for seed in range(1_000)]
    assert all(0 <= seed < 2**31 for seed in fresh)
    assert len({*fresh, *range(1_000)}) == 2_000


def _counts(epochs: int, counted: bool, copies: Callable[[nn.Module], nn.Module]) -> Any:
    """A method that passes all training examples through a copy of the network."""

    def method(net: nn.Module, task: Task, density: float) -> Scores:
        net = copies(net)
        for _ in range(epochs):
            for inputs, _labels in task.batches():
                net(inputs)
        if not counted:
            task.cost.forward = 0
        return Scores({name: weight.detach().abs() for name, weight in prunable(net).items()})

    return method


@pytest.mark.parametrize(
    "copies",
    [lambda net: net, copy.deepcopy, lambda net: copy.deepcopy(copy.deepcopy(net))],
    ids=["own", "copy", "copy of a copy"],
)
@pytest.mark.parametrize("counted", [True, False])
def test_examples_that_a_search_does_not_count(
    monkeypatch: pytest.MonkeyPatch, counted: bool, copies: Any
) -> None:
    """The record says how many examples passed, if the method counts fewer."""
    method = _counts(40, counted, copies)
    monkeypatch.setattr("paibench.benchmark.steps.search.get", lambda name: method)
    spec = spec_of("snip")
    task = Task(DIGITS.train, seed=0, recipe=recipe_of(spec.recipe), stream="snip")
    notes = find(spec, net_of(spec), task).ticket.notes
    text = "the search passed 57480 examples forward and counted 0, so its cost is higher than"
    assert [note.startswith(text) for note in notes] == [True] * (not counted)


@pytest.mark.parametrize("method", [name for name in names("methods") if is_own(name)])
def test_our_methods_count_what_they_pass(method: str) -> None:
    """No search of ours passes a tenth of the training examples more than it counts."""
    spec = spec_of(method, density=1.0 if method == "dense" else 0.2)
    task = Task(DIGITS.train, seed=0, recipe=recipe_of(spec.recipe), stream=method)
    notes = find(spec, net_of(spec), task).ticket.notes
    assert not [note for note in notes if note.startswith("the search passed")]


@pytest.mark.parametrize(
    ("recorded", "repeated", "hidden"),
    [(False, False, False), (True, True, False), (True, False, False), (False, True, True)],
)
def test_a_record_that_hides_its_cost(recorded: bool, repeated: bool, hidden: bool) -> None:
    """Only a repetition that says more than the record shows a hidden cost."""
    net = net_of(spec_of("snip"))
    passed = Passed(net)
    net(torch.ones(200, *DIGITS.shape))
    note = passed.note(0, 1437)
    assert note is not None and passed.note(0, 2001) is None and passed.note(100, 1437) is None
    notes = [["other", *[note] * present] for present in (recorded, repeated)]
    assert hides_cost(*notes) == hidden


def test_a_counted_network_can_be_pickled() -> None:
    """A method may save its network; and what counts does not change outputs or state."""
    net = net_of(spec_of("snip"))
    inputs = torch.ones(2, *DIGITS.shape)
    before, names = net(inputs), list(net.state_dict())
    passed = Passed(net)
    loaded = pickle.loads(pickle.dumps(net))
    assert torch.equal(net(inputs), before) and torch.equal(loaded(inputs), before)
    assert passed.examples == 2 and list(net.state_dict()) == names
