"""What a mask finder is given: data, loss, training, cost, memory."""

import gc
from collections.abc import Callable
from copy import deepcopy
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.core.mask import full, prunable
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.training.data import Images
from paibench.methods.training.loop import Hooks, Trainer
from paibench.methods.training.recipe import Recipe
from paibench.methods.training.services import Cost, Services, State

EXAMPLES, CLASSES = 30, 3
RECIPE = Recipe(epochs=3, batch=8, lr=0.05, momentum=0.9, augment="crop-flip")


def make_data(seed: int = 1) -> Images:
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (EXAMPLES, 1, 6, 6), dtype=torch.uint8, generator=draw)
    labels = torch.arange(EXAMPLES) % CLASSES
    return Images(pixels, labels, CLASSES, mean=(0.5,), std=(0.25,))


def make_task(**arguments: Any) -> Task:
    settings: dict[str, Any] = {"seed": 1, "recipe": RECIPE} | arguments
    return Task(make_data(), **settings)


def make_net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES)
        )


def same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def reachable(root: object) -> list[Tensor]:
    """All tensors that can be come by from an object, through anything but code."""
    seen, tensors, todo = {id(root)}, [], [root]
    while todo:
        thing = todo.pop()
        if isinstance(thing, Tensor):
            tensors.append(thing)
        elif not isinstance(thing, ModuleType | type) and not callable(thing):
            for other in gc.get_referents(thing):
                if id(other) not in seen:
                    seen.add(id(other))
                    todo.append(other)
    return tensors


def test_only_the_training_split_is_reachable() -> None:
    """Only the pixels and labels of the split can be reached from a task."""
    train = make_data()
    held_out = make_data(seed=2)
    task = Task(train, seed=1, recipe=RECIPE)
    list(task.batches())
    assert {id(tensor) for tensor in reachable(task)} == {id(train.pixels), id(train.labels)}
    everything = [task, held_out]
    assert id(held_out.pixels) in {id(tensor) for tensor in reachable(everything)}


def test_figures() -> None:
    """A task knows its classes, shape, examples and steps."""
    task = make_task()
    assert (task.classes, task.shape, task.examples) == (CLASSES, (1, 6, 6), EXAMPLES)
    assert (task.steps_per_epoch, task.steps) == (4, 12)


@pytest.mark.parametrize("augment", [False, True])
def test_batches_are_the_same_at_every_call(augment: bool) -> None:
    """Each call starts again from the first example, whatever was drawn in between."""
    task = make_task()
    first = [inputs for inputs, _ in task.batches(size=7, augment=augment)]
    next(iter(task.batches()))
    torch.rand(5, generator=task.generator)
    second = [inputs for inputs, _ in task.batches(size=7, augment=augment)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_batches_are_the_whole_split_once() -> None:
    """Without a count every example appears once, in an order fixed by the seed."""
    rows = torch.cat([inputs for inputs, _ in make_task().batches(size=7)]).flatten(1)
    other = torch.cat([inputs for inputs, _ in make_task(seed=2).batches(size=7)]).flatten(1)
    data = (make_data().pixels.flatten(1).float() / 255 - 0.5) / 0.25
    distances = torch.cdist(rows, data)
    assert sorted(distances.argmin(1).tolist()) == list(range(EXAMPLES))
    assert float(distances.min(1).values.max()) < 1e-2
    assert not torch.equal(rows, other)


@pytest.mark.parametrize("count", [1, 10, EXAMPLES, 99])
def test_a_count_is_a_beginning(count: int) -> None:
    """The first `count` examples are those that the whole begins with."""
    whole = torch.cat([inputs for inputs, _ in make_task().batches()])
    part = torch.cat([inputs for inputs, _ in make_task().batches(count, size=4)])
    assert torch.equal(part, whole[:count])


def test_per_class_beyond_a_class() -> None:
    """Of a class with fewer examples, all are yielded, however many are asked for."""
    labels = torch.tensor([0, 1, 1, 0, 1])
    task = Task.of(torch.rand(5, 4), labels, classes=2)
    batches = [labels.tolist() for _, labels in task.batches(per_class=2**62)]
    assert batches == [[0, 1, 0, 1, 1]]


@pytest.mark.parametrize("examples", [0, 1])
def test_too_few_examples_to_train_on_are_refused(examples: int) -> None:
    """A training on fewer than two examples ends in one line, before any step."""
    task = Task.of(torch.rand(examples, 4), torch.zeros(examples), classes=2)
    with pytest.raises(UserError, match=f"too few training examples: {examples}; give at least"):
        task.fit(torch.nn.Linear(4, 2))


@pytest.mark.parametrize("per_class", [1, 4, 10])
def test_per_class(per_class: int) -> None:
    """With `per_class`, classes alternate, each in the order of the seed."""
    task = make_task()
    inputs, labels = next(iter(task.batches(per_class=per_class)))
    assert labels.tolist() == list(range(CLASSES)) * per_class
    everything, of = next(iter(task.batches()))
    for label in range(CLASSES):
        assert torch.equal(inputs[labels == label], everything[of == label][:per_class])


def test_augmentation_only_when_asked() -> None:
    """Batches are augmented only on request, and then by the recipe."""
    plain, moved = next(make_task().batches()), next(make_task().batches(augment=True))
    still = next(make_task(recipe=Recipe(epochs=1)).batches(augment=True))
    assert not torch.equal(plain[0], moved[0])
    assert torch.equal(plain[0], still[0])
    assert torch.equal(plain[1], moved[1])


def test_the_generator_is_of_seed_and_stream() -> None:
    """Two methods, or two seeds, draw different numbers; the same spec draws the same."""
    draws = [
        torch.rand(3, generator=make_task(seed=seed, stream=stream).generator).tolist()
        for seed, stream in [(1, "snip"), (1, "snip"), (1, "grasp"), (2, "snip")]
    ]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) == 3


def test_loss() -> None:
    """The loss is the mean cross-entropy."""
    outputs, labels = (
        torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
        torch.arange(5) % 3,
    )
    expected = -outputs.log_softmax(1)[range(5), labels].mean()
    torch.testing.assert_close(make_task().loss(outputs, labels), expected)


def first_pass(net: nn.Module, task: Task) -> tuple[Tensor, ...]:
    inputs, labels = next(task.batches(10))
    loss = task.loss(net(inputs), labels)
    return torch.autograd.grad(loss, list(net.parameters()), create_graph=True)


def forward_only(net: nn.Module, task: Task) -> None:
    for inputs, labels in task.batches(size=8):
        task.loss(net(inputs), labels)


def without_gradients(net: nn.Module, task: Task) -> None:
    with torch.no_grad():
        forward_only(net, task)


def one_backward(net: nn.Module, task: Task) -> None:
    first_pass(net, task)


def double_backward(net: nn.Module, task: Task) -> None:
    gradients = first_pass(net, task)
    along = torch.stack([(g * g).sum() for g in gradients]).sum()
    torch.autograd.grad(along, list(net.parameters()))


def functional(net: nn.Module, task: Task) -> None:
    net.eval()  # batch norm counts batches in place, which the transform refuses
    inputs, labels = next(task.batches(10))

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return task.loss(torch.func.functional_call(net, parameters, (inputs,)), labels)

    torch.func.grad(loss)({name: p.detach() for name, p in net.named_parameters()})


def one_epoch(net: nn.Module, task: Task) -> None:
    task.fit(net, stop=task.steps_per_epoch)


def half_a_schedule(net: nn.Module, task: Task) -> None:
    task.fit(net, start=6)


@pytest.mark.parametrize(
    ("search", "cost"),
    [
        (forward_only, Cost(30, 0)),
        (without_gradients, Cost(30, 0)),
        (one_backward, Cost(10, 10)),
        (double_backward, Cost(10, 20)),
        (functional, Cost(10, 10)),
        (one_epoch, Cost(30, 30)),
        (half_a_schedule, Cost(8 + 6 + 30, 8 + 6 + 30)),
    ],
    ids=lambda value: getattr(value, "__name__", "cost"),
)
def test_cost(search: Callable[[nn.Module, Task], None], cost: Cost) -> None:
    """Each forward pass and each backward pass of an example is counted."""
    task = make_task()
    search(make_net(), task)
    assert task.cost == cost


def test_fit_follows_the_recipe() -> None:
    """`fit` is the training loop on the task's data, recipe and seed, bit for bit."""
    net, reference, mask = make_net(), make_net(), full(prunable(make_net()))
    mask["1.weight"][::2] = False
    make_task().fit(net, mask=mask, start=5, stop=11)
    Trainer(reference, make_data(), RECIPE, seed=1, mask=mask).run(5, 11, Hooks())
    assert same(net.state_dict(), reference.state_dict())


def test_fit_takes_changes_to_the_recipe() -> None:
    """Arguments of `fit` replace fields of the recipe, for that training only."""
    net, reference, task = make_net(), make_net(), make_task()
    task.fit(net, epochs=1, lr=0.2, augment="none")
    changed = Recipe(epochs=1, batch=8, lr=0.2, momentum=0.9)
    Trainer(reference, make_data(), changed, seed=1).run(0, 4, Hooks())
    assert same(net.state_dict(), reference.state_dict())
    assert task.recipe == RECIPE


def test_fit_passes_hooks_on() -> None:
    """The hooks of the loop can be used in a search."""
    events: list[object] = []

    def penalty() -> Tensor:
        events.append("penalty")
        return torch.zeros(())

    make_task().fit(
        make_net(),
        stop=5,
        before_step=lambda: events.append("step"),
        after_epoch=events.append,
        penalty=penalty,
    )
    assert events == ["step", "penalty"] * 4 + [0] + ["step", "penalty"]


def test_fit_trains_what_requires_gradients() -> None:
    """Frozen parameters keep their bits."""
    net = make_net()
    before = deepcopy(net.state_dict())
    net[4].requires_grad_(False)
    make_task().fit(net)
    after = net.state_dict()
    assert torch.equal(after["4.weight"], before["4.weight"])
    assert not torch.equal(after["1.weight"], before["1.weight"])


def test_memo_finds_a_stage_and_its_cost_again() -> None:
    """A stage is computed once; its result and cost are the same if it is found."""
    stages: dict[str, State] = {}

    def memo(name: str, compute: Callable[[], State]) -> State:
        if name not in stages:
            stages[name] = compute()
        return stages[name]

    def run() -> tuple[State, Cost]:
        task, net = make_task(services=Services(memo)), make_net()
        list(task.batches(10))

        def compute() -> State:
            task.fit(net)
            return net.state_dict()

        state = task.memo("stage", compute)
        return state, task.cost

    (first, spent), (second, spent_again) = run(), run()
    assert list(stages) == ["stage"]
    assert spent == spent_again == Cost(10 + 3 * EXAMPLES, 3 * EXAMPLES)
    assert same(first, second)
    assert first.keys() == make_net().state_dict().keys()


def test_a_found_stage_takes_as_long_as_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages within stages, too: a clock around the search counts what it does itself."""
    now = 0.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("paibench.methods.training.services.perf_counter", lambda: now)
    stages: dict[str, State] = {}

    def memo(name: str, compute: Callable[[], State]) -> State:
        wait(1)  # to look, or until another run has computed it
        if name not in stages:
            stages[name] = compute()
            wait(2)  # to store it
        return dict(stages[name])

    def search(inner: float, outer: float) -> float:
        task, begun = make_task(services=Services(memo)), now
        work = torch.ones(1)

        def first() -> State:
            wait(inner)
            return {"x": work}

        def second() -> State:
            state = task.memo("first", first)
            wait(outer)
            return state

        wait(10)
        task.memo("second", second)
        return now - begun + task.seconds_elsewhere

    assert search(inner=100, outer=50) == 160
    assert search(inner=0, outer=0) == 160
    del stages["second"]
    assert search(inner=0, outer=7) == 117


def test_without_a_memo_stages_are_computed() -> None:
    """A task in a notebook computes each stage."""
    calls: list[int] = []

    def compute() -> State:
        calls.append(1)
        return {"x": torch.ones(2)}

    task = make_task()
    assert [task.memo("stage", compute)["x"].tolist() for _ in range(2)] == [[1, 1]] * 2
    assert len(calls) == 2


class Beating(Services):
    def __init__(self, beats: list[int]) -> None:
        super().__init__()
        self.beats = beats

    def heartbeat(self) -> None:
        self.beats.append(1)


def test_every_batch_and_step_gives_a_heartbeat() -> None:
    """Every batch and every training step gives a heartbeat."""
    beats: list[int] = []
    task = make_task(services=Beating(beats))
    list(task.batches(size=10))
    assert len(beats) == 3
    task.fit(make_net())
    assert len(beats) == 3 + task.steps


@pytest.mark.parametrize(
    ("inputs", "shape", "scaled"),
    [
        (torch.full((9, 2, 3, 4), 51, dtype=torch.uint8), (2, 3, 4), 0.2),
        (torch.full((9, 2, 3, 4), 51.0), (2, 3, 4), 51.0),
        (torch.full((9, 7), 0.5), (1, 1, 7), 0.5),
    ],
    ids=["bytes", "floats", "features"],
)
def test_of_tensors(inputs: Tensor, shape: tuple[int, int, int], scaled: float) -> None:
    """A task of two tensors scales bytes to [0, 1] and does not change floats."""
    labels = torch.arange(9, dtype=torch.int32) % 3
    task = Task.of(inputs, labels, classes=3)
    assert (task.shape, task.classes, task.examples) == (shape, 3, 9)
    ((x, y),) = task.batches()
    torch.testing.assert_close(x, torch.full((9, *shape), scaled))
    assert sorted(y.tolist()) == sorted(labels.tolist())
    assert y.dtype == torch.int64


def test_a_task_of_tensors_trains() -> None:
    """Without a recipe `fit` trains ten epochs."""
    draw = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(40, 36, generator=draw), torch.arange(40) % CLASSES
    net, task = make_net(), Task.of(inputs, labels, classes=CLASSES, seed=3)
    task.fit(net)
    assert task.cost.forward == 10 * 40
    assert bool((net.eval()(inputs).argmax(1) == labels).double().mean() > 0.8)


def test_draws_after_a_stage_are_the_same_found_or_computed() -> None:
    """The draws of a stage do not change the later draws of the task."""
    disk: dict[str, State] = {}

    def memo(name: str, compute: Callable[[], State]) -> State:
        if name not in disk:
            disk[name] = compute()
        return disk[name]

    def draws(task: Task) -> Tensor:
        stage = task.memo("stage", lambda: {"drawn": torch.rand(3, generator=task.generator)})
        return torch.cat([stage["drawn"], torch.rand(3, generator=task.generator)])

    computed, found, without = (
        draws(make_task(services=Services(m) if m else None)) for m in (memo, memo, None)
    )
    assert torch.equal(computed, found)
    assert torch.equal(computed, without)
