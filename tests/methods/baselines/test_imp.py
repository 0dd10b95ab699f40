"""Iterative magnitude pruning: rounds, rewinding, what is shared and what is returned."""

import itertools
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

from paibench.methods.baselines.dense import dense_state
from paibench.methods.baselines.imp import at_rate, imp, in_rounds
from paibench.methods.baselines.magnitude import lamp
from paibench.methods.core.mask import Mask, keep_top, prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket, as_ticket, select
from paibench.methods.training.data import Images
from paibench.methods.training.loop import Hooks, Trainer
from paibench.methods.training.recipe import Recipe
from paibench.methods.training.services import COST, SECONDS, Services, State

RECIPE = Recipe(
    epochs=2,
    batch=8,
    lr=0.05,
    momentum=0.9,
    weight_decay=0.01,
    schedule="multistep",
    drops=(0.5,),
    augment="crop-flip",
)
STEPS, PER_EPOCH, EXAMPLES = 10, 5, 40
WHOLE = 4 * 9 + 64 * 5  # prunable weights of `make_net()`


def make_net() -> nn.Module:
    """A convolution, a batch norm (so that there are buffers) and a linear layer."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
        )


def make_data() -> Images:
    draw = torch.Generator().manual_seed(4)
    pixels = torch.randint(0, 256, (EXAMPLES, 1, 6, 6), dtype=torch.uint8, generator=draw)
    return Images(pixels, torch.arange(EXAMPLES) % 5, 5, mean=(0.5,), std=(0.25,))


class Disk:
    """A memo that keeps stages as bytes and can be killed before it computes the n-th of them."""

    def __init__(self) -> None:
        self.stages: dict[str, bytes] = {}
        self.computed: list[str] = []
        self.die_at: int | None = None

    def memo(self, name: str, compute: Callable[[], State]) -> State:
        if name not in self.stages:
            if len(self.computed) == self.die_at:
                raise KeyboardInterrupt
            self.computed.append(name)
            self.stages[name] = save(compute())
        return load(self.stages[name])

    @property
    def results(self) -> dict[str, dict[str, list[Any]]]:
        """The stages without the time that they took."""
        stages = {name: load(data) for name, data in self.stages.items()}
        return {
            name: {key: each.tolist() for key, each in state.items() if key != SECONDS}
            for name, state in stages.items()
        }


def make_task(disk: Disk | None = None, recipe: Recipe = RECIPE) -> Task:
    return Task(make_data(), seed=1, recipe=recipe, services=Services(disk.memo) if disk else None)


def mask_of(density: float, task: Task | None = None, **options: Any) -> Mask:
    net = make_net()
    found = imp(net, task or make_task(), density, **options)
    return select(as_ticket(found).mask, net, density)


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(
    begin: State, mask: Mask | None, start: int, stop: int = STEPS, finetune: bool = False
) -> State:
    """What the training loop makes of a state, without any of the code under test."""
    net = make_net()
    net.load_state_dict(begin)
    trainer = Trainer(net, make_data(), RECIPE, seed=1, mask=mask, finetune=finetune)
    trainer.run(start, stop, Hooks())
    return deepcopy(net.state_dict())


def smallest_pruned(state: State, mask: Mask, kept: int) -> Mask:
    """Keep the `kept` largest |w| among what is left, by sorting a list."""
    left = [
        (float(state[name].flatten()[i].abs()), name, i)
        for name, m in mask.items()
        for i in m.flatten().nonzero().flatten().tolist()
    ]
    result = {name: torch.zeros_like(m) for name, m in mask.items()}
    for _, name, i in sorted(left, reverse=True)[:kept]:
        result[name].view(-1)[i] = True
    return result


@pytest.mark.parametrize(
    ("extra", "kept", "percent"), [(0, 3_865, 1.4404), (1, 3_860, 1.4385)], ids=["exact", "authors"]
)
def test_counts_of_resnet_20(extra: int, kept: int, percent: float) -> None:
    """19 rounds of 20 % leave ResNet-20 the published 1.4385 % by the authors' rule."""
    left = at_rate(268_336, 100, 0.2, extra)[18]
    assert left == kept
    assert round(100 * left / 268_336, 4) == percent


@given(
    whole=st.integers(1, 5_000),
    density=st.floats(0.001, 1),
    rate=st.floats(0.05, 0.9),
    extra=st.integers(0, 1),
)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_counts_recursion(whole: int, density: float, rate: float, extra: int) -> None:
    """Every count but the last follows from the one before it; the last is the target."""
    target = max(1, round(density * whole))
    levels = at_rate(whole, target, rate, extra)
    assert levels[-1] == target
    for before, after in itertools.pairwise([whole, *levels[:-1]]):
        assert after == before - int(-(-(rate * before) // 1)) - extra
        assert after > target
    assert at_rate(whole, max(1, target // 2), rate, extra)[: len(levels) - 1] == levels[:-1]


@pytest.mark.parametrize("rounds", [1, 2, 5, 10, 20])
def test_a_power_of_the_rate_takes_so_many_rounds(rounds: int) -> None:
    """The density 0.8 ** r, exact or rounded to three digits, takes r rounds of 20 %."""
    for density in (0.8**rounds, float(f"{0.8**rounds:.3g}")):
        assert len(at_rate(266_200, round(density * 266_200), 0.2)) == rounds


@given(
    whole=st.integers(1, 5_000),
    density=st.floats(0.001, 1),
    rounds=st.integers(1, 30),
    extra=st.integers(0, 1),
)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_rounds_are_as_many_as_asked(whole: int, density: float, rounds: int, extra: int) -> None:
    """Counts never rise or pass the target, and each is near the geometric one."""
    target = max(1, round(density * whole))
    levels = in_rounds(whole, target, rounds, extra)
    assert len(levels) == rounds
    assert levels[-1] == target
    assert levels == sorted(levels, reverse=True)
    for number, left in enumerate(levels, start=1):
        assert abs(left - whole * (target / whole) ** (number / rounds)) <= 2 * number + 1


@pytest.mark.parametrize("density", [1 / WHOLE, 0.01, 0.1, 0.2137, 0.5, 0.64, 0.8, 0.99, 1.0])
@pytest.mark.parametrize("counts", ["exact", "authors"])
def test_exact_counts(density: float, counts: str) -> None:
    """Exactly round(density * total) weights are kept, down to a single one."""
    mask = mask_of(density, rate=0.5, counts=counts)
    assert sum(int(kept.sum()) for kept in mask.values()) == round(density * WHOLE)


@pytest.mark.parametrize("after", ["rewind", "rewind_weights", "lr_rewind", "finetune"])
@pytest.mark.parametrize("step", [0, 3, 7], ids=["init", "mid-epoch", "late"])
def test_against_a_plain_loop(after: str, step: int) -> None:
    """Mask and weights are those of train, sort, prune and go back, spelt out."""
    net, finetune = make_net(), after == "finetune"
    init = deepcopy(net.state_dict())
    origin = trained(init, None, 0, stop=step)
    if after == "rewind_weights":
        origin = {name: origin[name] for name in prunable(net)}
    elif after != "rewind":
        origin = {}
    mask = {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(net).items()}
    state = trained(init, None, 0)
    for kept in (178, 89):
        mask = smallest_pruned(state, mask, kept)
        begin = state | origin
        state = trained(begin, mask, step, finetune=finetune)

    found = imp(net, make_task(), 89 / WHOLE, rate=0.5, after=after, rewind_epoch=step / PER_EPOCH)  # type: ignore[arg-type]
    ticket = as_ticket(found)
    assert same(select(ticket.mask, net, 89 / WHOLE), mask)
    assert (ticket.start, ticket.finetune) == (step, finetune)
    if after == "rewind" and step == 0:
        assert isinstance(found, Scores)
    else:
        assert ticket.weights is not None
        assert same(ticket.weights, begin)


def test_level_0_is_the_dense_run() -> None:
    """The first stage is the recipe's own training of the full network, bit for bit."""
    disk, init = Disk(), make_net().state_dict()
    mask_of(0.5, make_task(disk), rate=0.5)
    assert list(disk.stages) == [f"dense-step{STEPS}"]
    stage = load(disk.stages[f"dense-step{STEPS}"])
    stage.pop(COST)
    assert stage.pop(SECONDS) > 0
    assert same(stage, trained(init, None, 0))


class Watched(Task):
    """A task that notes how each training begins, and checks the mask before every step."""

    starts: list[tuple[int, State]]

    def fit(self, module: nn.Module, **arguments: Any) -> None:
        mask: Mask | None = arguments["mask"]
        self.starts = [*getattr(self, "starts", []), (arguments["start"], {})]

        def look() -> None:
            state = module.state_dict()
            if not self.starts[-1][1]:
                self.starts[-1][1].update(deepcopy(state))
            for name, kept in (mask or {}).items():
                assert not state[name][~kept].any()

        super().fit(module, before_step=look, **arguments)
        look()


@pytest.mark.parametrize("step", [0, 5], ids=["init", "late"])
def test_rewinding(step: int) -> None:
    """After a rewind survivors have the bits they had at that step, and the others are 0.

    They stay 0 at every later step, under momentum and weight decay; and so do their successors,
    which are fewer.
    """
    task = Watched(make_data(), seed=1, recipe=RECIPE)
    imp(make_net(), task, 22 / WHOLE, rate=0.5, rewind_epoch=step / PER_EPOCH)
    origin = trained(make_net().state_dict(), None, 0, stop=step)
    levels = task.starts[2:] if step else task.starts[1:]
    left = []
    for start, state in levels:
        assert start == step
        left.append(torch.cat([state[name].flatten() != 0 for name in prunable(make_net())]))
        for name, tensor in state.items():
            alive = tensor != 0
            assert torch.equal(tensor[alive], origin[name][alive])
    assert [int(alive.sum()) for alive in left] == [178, 89, 44]
    assert all(bool((after <= before).all()) for before, after in itertools.pairwise(left))


def test_scores_are_the_order_of_elimination() -> None:
    """The scores of the sparsest run give the masks of every round before it, so masks nest."""
    net = make_net()
    scores = imp(net, make_task(), 0.05, rate=0.5)
    assert isinstance(scores, Scores)
    for kept in (178, 89, 44):
        earlier = mask_of(kept / WHOLE, rate=0.5)
        assert same(select(scores, net, kept / WHOLE), earlier)
    assert all(bool(values.isfinite().all()) for values in scores.values.values())
    first_to_fall = select(scores, net, 0.5, invert=True)
    assert same({name: ~m for name, m in first_to_fall.items()}, mask_of(0.5, rate=0.5))


def test_densities_share_their_levels() -> None:
    """A second density trains only what the first has not, and counts the cost all the same."""
    disk = Disk()
    mask_of(0.25, make_task(disk), rate=0.5)
    dense, level = disk.computed
    assert dense == f"dense-step{STEPS}"
    search, _, number = level.partition("-")
    assert number == "level01"
    task = make_task(disk)
    shared = mask_of(0.1, task, rate=0.5)
    assert disk.computed[2:] == [f"{search}-level02", f"{search}-level03"]
    assert task.cost.forward == task.cost.backward == 4 * 2 * EXAMPLES
    assert same(shared, mask_of(0.1, rate=0.5))


@pytest.mark.parametrize(
    "options",
    [
        {"rate": 0.3},
        {"after": "lr_rewind"},
        {"after": "finetune"},
        {"after": "rewind_weights"},
        {"rewind_epoch": 1.0},
        {"counts": "authors"},
        {"ignore_last": True},
        {"rounds": 3},
    ],
    ids=lambda options: next(iter(options)) + "-" + str(next(iter(options.values()))),
)
def test_names_tell_options_apart(options: dict[str, Any]) -> None:
    """Two settings of an option share the dense run and no later level."""
    density, disk, other = 0.9 if "ignore_last" in options else 0.4, Disk(), Disk()
    settings = {"rate": 0.05} if "ignore_last" in options else {}
    mask_of(density, make_task(disk), **settings)
    mask_of(density, make_task(other), **settings, **options)
    assert set(disk.stages) & set(other.stages) == {f"dense-step{STEPS}"}
    assert len(other.stages) > 1
    assert max(map(len, other.stages)) <= 64


@pytest.mark.parametrize("stage", range(5))
def test_resuming_after_a_kill(stage: int) -> None:
    """Killed at any stage, the next attempt finds what is done and ends with the same ticket."""
    options: dict[str, Any] = {"rate": 0.5, "after": "rewind", "rewind_epoch": 0.6}
    whole, killed = Disk(), Disk()
    expected = imp(make_net(), make_task(whole), 22 / WHOLE, **options)
    killed.die_at = stage
    with pytest.raises(KeyboardInterrupt):
        imp(make_net(), make_task(killed), 22 / WHOLE, **options)
    assert killed.computed == whole.computed[:stage]
    killed.die_at = None
    found = imp(make_net(), make_task(killed), 22 / WHOLE, **options)
    assert killed.computed == whole.computed
    assert len(whole.computed) == 5
    assert killed.results == whole.results
    assert isinstance(found, Ticket) and isinstance(expected, Ticket)
    assert found.weights is not None and expected.weights is not None
    assert same(found.weights, expected.weights)
    assert same(*(select(ticket.mask, make_net(), 22 / WHOLE) for ticket in (found, expected)))


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"rounds": 1}, 10),
        ({"rounds": 4}, 4 * 10),
        ({"rounds": 4, "after": "lr_rewind", "rewind_epoch": 1.0}, 10 + 3 * 5),
        ({"rounds": 2, "rewind_epoch": 0.6}, 10 + 3 + 7),
    ],
    ids=["one-shot", "four rounds", "half the schedule", "rewound"],
)
def test_cost(options: dict[str, Any], steps: int) -> None:
    """A search costs one training per round, and what it takes to get to the rewinding point."""
    task = make_task()
    mask_of(0.1, task, **options)
    assert task.cost.forward == task.cost.backward == steps * RECIPE.batch


def test_one_shot() -> None:
    """One round keeps the largest trained weights."""
    state = trained(make_net().state_dict(), None, 0)
    ones = {n: torch.ones_like(w, dtype=torch.bool) for n, w in prunable(make_net()).items()}
    assert same(mask_of(0.1, rounds=1), smallest_pruned(state, ones, round(0.1 * WHOLE)))


def test_the_dense_network_needs_no_training() -> None:
    """At density 1 everything is kept at no cost."""
    task = make_task()
    assert all(bool(kept.all()) for kept in mask_of(1.0, task, rewind_epoch=1.0).values())
    assert task.cost.forward == 0


def test_the_last_layer_can_be_spared() -> None:
    """With ignore_last the last layer stays whole while its weights count."""
    mask = mask_of(0.92, rate=0.03, ignore_last=True)
    assert bool(mask["4.weight"].all())
    assert int(mask["0.weight"].sum()) == round(0.92 * WHOLE) - 320


def test_bf16_states_can_be_stored() -> None:
    """Under a recipe that trains in channels_last memory, stages are stored and found again."""
    disk, recipe = Disk(), Recipe(epochs=2, batch=8, lr=0.05, precision="bf16")
    first = mask_of(0.2, make_task(disk, recipe), rate=0.5)
    assert same(first, mask_of(0.2, make_task(disk, recipe), rate=0.5))
    assert same(first, mask_of(0.2, make_task(None, recipe), rate=0.5))


def test_leaves_everything_as_it_was() -> None:
    """The network, its gradients and modes and the global randomness are untouched; runs repeat."""
    net = make_net()
    net[1].eval()  # type: ignore[index]
    before, draw = deepcopy(net.state_dict()), torch.get_rng_state()
    first = imp(net, make_task(), 0.1, rewind_epoch=1.0)
    second = imp(net, make_task(), 0.1, rewind_epoch=1.0)
    assert same(net.state_dict(), before)
    assert torch.equal(torch.get_rng_state(), draw)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert [part.training for part in net.modules()] == [True, True, False, True, True, True]
    assert same(*(select(as_ticket(found).mask, net, 0.1) for found in (first, second)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, r"rate 0.0 is outside \(0, 1\)"),
        ({"rate": 1.0}, r"rate 1.0 is outside \(0, 1\)"),
        ({"rounds": 0}, "rounds = 0 is out of range; give 1 or more"),
        ({"rounds": 3, "rate": 0.5}, "rate and rounds exclude each other"),
        ({"rewind_epoch": -1.0}, "rewind_epoch = -1.0 is out of range"),
        ({"rewind_epoch": 2.0}, "less than the recipe's 2 epochs"),
        ({"rewind_epoch": float("nan")}, "rewind_epoch = nan is out of range"),
        ({"ignore_last": True}, "keeps 36 weights, fewer than the 320 of 4.weight"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    """What makes no sense is refused before any training, in one line."""
    task = make_task()
    with pytest.raises(UserError, match=message) as caught:
        imp(make_net(), task, 0.1, **options)
    assert "\n" not in str(caught.value)
    assert task.cost.forward == 0


def test_a_nan_is_not_ranked() -> None:
    """A training that ends with a weight that is NaN is no basis for a mask."""

    def memo(_: str, compute: Callable[[], State]) -> State:
        state: dict[str, Tensor] = compute()
        state["4.weight"][0, 0] = torch.nan
        return state

    with pytest.raises(ValueError, match="1 of 356 scores are NaN"):
        imp(make_net(), Task(make_data(), seed=1, recipe=RECIPE, services=Services(memo)), 0.1)


def test_lamp() -> None:
    """With LAMP, a round keeps the highest shares within each layer of what remains."""
    found = mask_of(0.3, rounds=1, score="lamp")
    state = dense_state(make_net(), make_task(), STEPS)
    shares = {name: lamp(state[name]) for name in prunable(make_net())}
    assert same(found, keep_top(shares, round(0.3 * WHOLE)))
    assert not same(found, mask_of(0.3, rounds=1))
