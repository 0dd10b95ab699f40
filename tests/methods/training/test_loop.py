"""The training loop: exact steps, exact zeros, exact resumption."""

import io
import itertools
import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paibench.methods.core.mask import Mask, prunable
from paibench.methods.training.data import Images, order
from paibench.methods.training.loop import (
    Checkpoint,
    Diverged,
    Hooks,
    Span,
    Trainer,
    autocast,
    examples_between,
    steps_per_epoch,
    to_layout,
)
from paibench.methods.training.recipe import Recipe

EXAMPLES, PER_EPOCH = 27, 4  # batches of 8, 8, 8 and 3


def make_data(examples: int = EXAMPLES) -> Images:
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (examples, 1, 6, 6), dtype=torch.uint8, generator=draw)
    return Images(pixels, torch.arange(examples) % 3, 3, mean=(0.5,), std=(0.25,))


def make_net(dropout: float = 0.0) -> nn.Module:
    """A network with all that a state can hold: buffers, biases, and dropout where asked."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(64, 3),
        )


def recipe(**fields: Any) -> Recipe:
    return Recipe(**({"epochs": 5, "batch": 8, "lr": 0.05} | fields))


def half(net: nn.Module) -> Mask:
    draw = torch.Generator().manual_seed(3)
    return {name: torch.rand(w.shape, generator=draw) < 0.5 for name, w in prunable(net).items()}


def trainer(net: nn.Module | None = None, mask: Mask | None = None, **fields: Any) -> Trainer:
    return Trainer(net or make_net(), make_data(), recipe(**fields), seed=7, mask=mask)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


OPTIMIZERS = {
    "sgd": {"momentum": 0.0},
    "momentum": {"momentum": 0.9, "weight_decay": 0.01},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.01},
}
optimizers = pytest.mark.parametrize("fields", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())


def by_hand(net: nn.Module, data: Images, how: Recipe) -> None:
    """The same training by the textbook, one parameter after another."""
    net.train()
    first = {p: torch.zeros_like(p) for p in net.parameters()}
    second = {p: torch.zeros_like(p) for p in net.parameters()}
    inputs = (data.pixels.float() / 255 - 0.5) / 0.25
    clock = 0
    for epoch in range(how.epochs):
        for batch in torch.split(order(len(data), 7, epoch), how.batch):
            clock += 1
            net.zero_grad()
            F.cross_entropy(net(inputs[batch]), data.labels[batch]).backward()  # type: ignore[no-untyped-call]
            for p in net.parameters():
                assert p.grad is not None
                g = p.grad + how.weight_decay * p.detach()
                if how.optimizer == "adam":
                    first[p] = 0.9 * first[p] + 0.1 * g
                    second[p] = 0.999 * second[p] + 0.001 * g * g
                    spread = (second[p] / (1 - 0.999**clock)).sqrt() + 1e-8
                    move = first[p] / (1 - 0.9**clock) / spread
                else:
                    first[p] = how.momentum * first[p] + g
                    move = g + how.momentum * first[p] if how.nesterov else first[p]
                with torch.no_grad():
                    p.sub_(how.lr_at(epoch) * move)


@optimizers
def test_steps_are_the_textbook_ones(fields: dict[str, Any]) -> None:
    """Two epochs give the weights of an optimizer spelt out, to rounding."""
    how = recipe(**fields, epochs=2, schedule="multistep", drops=(0.5,))
    ours, theirs = make_net(), make_net()
    Trainer(ours, make_data(), how, seed=7).run(0, 2 * PER_EPOCH, Hooks())
    by_hand(theirs, make_data(), how)
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, theirs.state_dict()[name], rtol=2e-4, atol=2e-5)


@optimizers
def test_pruned_weights_stay_exactly_0(fields: dict[str, Any]) -> None:
    """Pruned weights are 0 before the first step and after every step; kept ones change."""
    net = make_net()
    mask, init = half(net), deepcopy(net.state_dict())
    trained = trainer(net, mask, **fields)

    def check(_: int = 0) -> None:
        for name, weight in prunable(net).items():
            assert not weight[~mask[name]].any()

    check()
    trained.run(0, 3 * PER_EPOCH, Hooks(before_step=check, count=check))
    for name, weight in prunable(net).items():
        assert bool((weight != init[name])[mask[name]].all())


def test_a_full_mask_changes_nothing() -> None:
    """Training under the mask that keeps everything is training without one."""
    net, free = make_net(), make_net()
    full = {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(net).items()}
    trainer(net, full).run(0, PER_EPOCH, Hooks())
    trainer(free).run(0, PER_EPOCH, Hooks())
    assert same(net.state_dict(), free.state_dict())


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
@pytest.mark.parametrize(
    "fields", [OPTIMIZERS["nesterov"], OPTIMIZERS["adam"]], ids=["sgd", "adam"]
)
@pytest.mark.parametrize("kills", [(1,), (4,), (1, 2, 3, 4)], ids=str)
def test_resuming(kills: tuple[int, ...], fields: dict[str, Any], augment: str) -> None:
    """Killed after any epoch and restored in another process, training ends with the same bits."""
    fields = fields | {"augment": augment, "schedule": "cosine"}
    whole = trainer(make_net(dropout=0.4), half(make_net()), **fields)
    whole.run(0, 5 * PER_EPOCH, Hooks())

    stored, step = b"", 0
    for stop in (*kills, 5):
        torch.rand(3)  # whatever else the process draws
        part = trainer(make_net(dropout=0.4), half(make_net()), **fields)
        if stored:
            step = part.restore(torch.load(io.BytesIO(stored), weights_only=True))
        buffer = io.BytesIO()
        part.run(step, stop * PER_EPOCH, Hooks())
        torch.save(part.checkpoint(stop * PER_EPOCH), buffer)
        stored = buffer.getvalue()
    assert same(part.module.state_dict(), whole.module.state_dict())
    assert part.losses == whole.losses


@pytest.mark.parametrize("augment", ["none", "flip", "crop", "crop-flip"])
@pytest.mark.parametrize("stops", [(1,), (6,), (11,), (5, 7)], ids=str)
def test_stopping_within_an_epoch(stops: tuple[int, ...], augment: str) -> None:
    """Training in parts gives the bits of an uninterrupted training."""
    whole, parts = trainer(augment=augment, momentum=0.9), trainer(augment=augment, momentum=0.9)
    whole.run(0, 3 * PER_EPOCH, Hooks())
    for start, stop in itertools.pairwise((0, *stops, 3 * PER_EPOCH)):
        parts.run(start, stop, Hooks())
    assert same(parts.module.state_dict(), whole.module.state_dict())


class Kept(BaseException):
    """Stands for the end of the process, after a checkpoint."""


def resumed(start: int, step: int, **fields: Any) -> Trainer:
    """A training from `start` to its end, kept after `step` and gone on from in fresh objects."""
    buffer = io.BytesIO()

    def save(take: Any) -> None:
        if (checkpoint := take())["step"] == step:
            torch.save(checkpoint, buffer)
            raise Kept

    with pytest.raises(Kept):
        trainer(make_net(dropout=0.4), half(make_net()), **fields).run(start, 12, Hooks(save=save))
    torch.rand(3)  # whatever else the process draws
    part = trainer(make_net(dropout=0.4), half(make_net()), **fields)
    buffer.seek(0)
    assert part.restore(torch.load(buffer, weights_only=True)) == step
    part.run(step, 12, Hooks())
    return part


@pytest.mark.parametrize(
    "fields", [OPTIMIZERS["nesterov"], OPTIMIZERS["adam"]], ids=["sgd", "adam"]
)
@pytest.mark.parametrize("start", [0, 1, 6])
def test_resuming_within_an_epoch(start: int, fields: dict[str, Any]) -> None:
    """A checkpoint after any step resumes with the same bits."""
    fields = fields | {"augment": "crop-flip", "schedule": "cosine"}
    whole = trainer(make_net(dropout=0.4), half(make_net()), **fields)
    whole.run(start, 12, Hooks())
    for step in range(start + 1, 12, 3):  # each place within an epoch
        part = resumed(start, step, **fields)
        assert same(part.module.state_dict(), whole.module.state_dict())
        assert part.losses == whole.losses


@pytest.mark.parametrize(("bad", "step"), [(5, 6), (5, 7), (6, 7), (7, 7)])
def test_divergence_before_a_checkpoint_is_named_after_it(bad: int, step: int) -> None:
    """A loss that was not finite before the checkpoint was taken is found at the same step."""
    steps, checkpoint = itertools.count(), io.BytesIO()
    net = make_net()

    def poison() -> None:
        if next(steps) == bad:
            with torch.no_grad():
                net[5].bias.fill_(math.inf)  # type: ignore[index]

    def save(take: Any) -> None:
        if (taken := take())["step"] == step:
            torch.save(taken, checkpoint)
            raise Kept

    with pytest.raises(Kept):
        trainer(net).run(0, 12, Hooks(before_step=poison, save=save))
    net = make_net()
    part = trainer(net)
    checkpoint.seek(0)
    start = part.restore(torch.load(checkpoint, weights_only=True))
    steps = itertools.count(start)
    with pytest.raises(Diverged, match=f"at step {bad}$"):
        part.run(start, 12, Hooks(before_step=poison))


def test_dropout_is_drawn_anew_in_every_epoch() -> None:
    """Dropout depends on seed and epoch, and not on earlier draws of the process."""
    white = Images(torch.ones(8, 1, 6, 6), torch.arange(8) % 3, 3, (0.0,), (1.0,))

    def dropped(seed: int, start: int = 0) -> list[list[float]]:
        net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 3))
        seen: list[list[float]] = []
        net[1].register_forward_hook(lambda _, __, output: seen.append(output.flatten().tolist()))
        Trainer(net, white, recipe(), seed=seed).run(start, 3, Hooks())
        return seen

    first, second, third = dropped(seed=7)
    assert first != second and second != third and third != first
    assert dropped(seed=7, start=1) == [second, third]
    assert dropped(seed=8)[0] != first


@pytest.mark.parametrize("start", [0, 1, 4, 10, 19])
@pytest.mark.parametrize("finetune", [False, True], ids=["schedule", "last rate"])
def test_the_rate_is_that_of_the_step(start: int, finetune: bool) -> None:
    """Entered at step k, step t has the rate of step k + t; to fine-tune, always the last rate."""
    how = recipe(schedule="multistep", drops=(0.4, 0.8), warmup=1)
    part = Trainer(make_net(), make_data(), how, seed=7, finetune=finetune)
    rates: list[float] = []
    part.run(
        start,
        5 * PER_EPOCH,
        Hooks(before_step=lambda: rates.append(part.optimizer.param_groups[0]["lr"])),
    )
    schedule = [how.lr_at(4 if finetune else step // PER_EPOCH) for step in range(5 * PER_EPOCH)]
    assert rates == schedule[start:]


@pytest.mark.parametrize("start", [0, 3, 4])
@pytest.mark.parametrize("bad", [4, 6, 9])
def test_divergence_names_the_first_step(start: int, bad: int) -> None:
    """The first step whose loss is not finite is named, counted from the schedule's beginning."""
    net = make_net()
    net[5].eval()  # type: ignore[index]
    steps = itertools.count(start)

    def poison() -> None:
        if next(steps) == bad:
            with torch.no_grad():
                net[5].bias.fill_(math.inf)  # type: ignore[index]

    with pytest.raises(Diverged, match=f"the loss was not finite at step {bad}$") as caught:
        trainer(net).run(start, 5 * PER_EPOCH, Hooks(before_step=poison))
    assert caught.value.step == bad
    assert [part.training for part in net.modules()] == [True] * 6 + [False]


def test_divergence_in_the_last_step() -> None:
    """A gradient that overflows in the very last step, after a finite loss, is divergence too."""
    net, steps = make_net(), itertools.count(1)
    last = 5 * PER_EPOCH
    net[5].weight.register_hook(  # type: ignore[index]
        lambda gradient: gradient * (math.inf if next(steps) == last else 1)
    )
    with pytest.raises(Diverged, match=f"not finite at step {last}$"):
        trainer(net).run(0, last, Hooks())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing(smoothing: float) -> None:
    """A share of the loss is the mean over all classes; the note is the mean over the epoch."""
    net, data = make_net(), make_data(24)
    reference = deepcopy(net).requires_grad_(False)
    how = recipe(epochs=1, lr=1e-30, label_smoothing=smoothing)
    trained = Trainer(net, data, how, seed=7)
    trained.run(0, 3, Hooks())
    losses = []
    for batch in torch.split(order(24, 7, 0), 8):
        inputs = (data.pixels[batch].float() / 255 - 0.5) / 0.25
        logs = reference(inputs).log_softmax(1)
        right = logs.gather(1, data.labels[batch, None]).mean()
        losses.append(-(1 - smoothing) * right - smoothing * logs.mean())
    assert trained.losses == [pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)]


def test_bf16() -> None:
    """The forward pass is in bfloat16 and channels_last; parameters stay float32 and finite."""
    net = make_net()
    seen: list[tuple[torch.dtype, bool]] = []

    def look(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        last = output.is_contiguous(memory_format=torch.channels_last)
        seen.append((output.dtype, last))

    net[0].register_forward_hook(look)  # type: ignore[index]
    trained = trainer(net, half(net), precision="bf16", momentum=0.9)
    trained.run(0, 5 * PER_EPOCH, Hooks())
    assert set(seen) == {(torch.bfloat16, True)}
    assert all(p.dtype == torch.float32 and bool(p.isfinite().all()) for p in net.parameters())
    assert trained.losses[-1] < trained.losses[0]
    assert all(not w[~half(net)[name]].any() for name, w in prunable(net).items())


def test_bf16_is_near_fp32() -> None:
    """An epoch in bfloat16 has about the loss of one in float32."""
    losses = []
    for precision in ("fp32", "bf16"):
        trained = trainer(precision=precision)
        trained.run(0, PER_EPOCH, Hooks())
        losses += trained.losses
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


def test_layout() -> None:
    """Only images of a bf16 recipe change their layout, and no values."""
    images, rows = torch.rand(2, 3, 4, 4), torch.rand(2, 3)
    assert to_layout(images, "fp32") is images
    assert to_layout(rows, "bf16") is rows
    last = to_layout(images, "bf16")
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, images)
    with autocast("fp32", torch.device("cpu")):
        assert (rows @ rows.T).dtype == torch.float32


def test_modes_and_global_randomness_are_left_alone() -> None:
    """Dropout draws from the global generator, which is set back, as is the mode of each part."""
    net = make_net(dropout=0.5)
    net[1].eval()  # type: ignore[index]
    before = torch.get_rng_state()
    trainer(net).run(0, PER_EPOCH + 1, Hooks())
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in net.modules()] == [True, True, False, True, True, True, True]


def test_frozen_parameters_do_not_move() -> None:
    """What requires no gradient is not decayed either."""
    net = make_net()
    frozen = net[0].weight.requires_grad_(False)  # type: ignore[index]
    before = frozen.clone()
    trainer(net, weight_decay=0.1, momentum=0.9).run(0, PER_EPOCH, Hooks())
    assert torch.equal(frozen, before)


def test_the_order_of_hooks() -> None:
    """Before the pass, penalty, count, checkpoint; at the end of an epoch its hook goes first."""
    events: list[object] = []
    net = make_net()
    net.register_forward_pre_hook(lambda *_: events.append("forward"))

    def penalty() -> Tensor:
        events.append("penalty")
        return torch.zeros(())

    def save(take: Any) -> None:
        checkpoint: Checkpoint = take()
        events.append(("save", checkpoint["step"], len(checkpoint["losses"])))

    hooks = Hooks(
        before_step=lambda: events.append("before"),
        after_epoch=lambda epoch: events.append(("epoch", epoch)),
        penalty=penalty,
        count=events.append,
        save=save,
    )
    trainer(net).run(2, PER_EPOCH + 1, hooks)
    step = ["before", "forward", "penalty"]
    whole_epoch = [("epoch", 0), ("save", PER_EPOCH, 1)]
    within = [("save", 3, 0), ("save", PER_EPOCH + 1, 1)]
    assert events == [*step, 8, within[0], *step, 3, *whole_epoch, *step, 8, within[1]]


def test_the_penalty_is_minimised_and_not_noted() -> None:
    """Its gradient adds to the loss's; the noted losses are those of the data alone."""
    net, free = make_net(), make_net()
    weight = net[5].weight  # type: ignore[index]
    plain = trainer(free, momentum=0.0)
    trained = trainer(net, momentum=0.0)
    plain.run(0, 1, Hooks())
    trained.run(0, 1, Hooks(penalty=lambda: 3 * weight.sum()))
    assert trained.losses == plain.losses
    torch.testing.assert_close(weight, free[5].weight - 0.05 * 3)  # type: ignore[index]


@pytest.mark.parametrize(
    ("examples", "batch", "steps"), [(24, 8, 3), (25, 8, 3), (26, 8, 4), (7, 8, 1), (2, 2, 1)]
)
def test_steps_per_epoch(examples: int, batch: int, steps: int) -> None:
    """A last batch of one example is left out: batch norm could not be trained on it."""
    counts: list[int] = []
    how = recipe(epochs=1, batch=batch)
    Trainer(make_net(), make_data(examples), how, seed=7).run(0, steps, Hooks(count=counts.append))
    assert steps_per_epoch(examples, batch) == steps == len(counts)
    assert sum(counts) == examples - (examples % batch == 1)


@pytest.mark.parametrize(
    ("span", "epochs"),
    [
        (Span(0, 10, 5), [(0, 0, 5), (1, 0, 5)]),
        (Span(3, 11, 5), [(0, 3, 5), (1, 0, 5), (2, 0, 1)]),
        (Span(5, 5, 5), []),
        (Span(6, 8, 5), [(1, 1, 3)]),
    ],
    ids=["whole", "cut", "empty", "within"],
)
def test_span(span: Span, epochs: list[tuple[int, int, int]]) -> None:
    """A span touches these epochs, each from its first to its last step."""
    assert list(span.epochs()) == epochs


def test_a_network_learns() -> None:
    """On data that can be learned, the loss falls and the labels are found."""
    data = make_data(60)
    pixels = data.pixels // 4
    pixels[torch.arange(60), 0, 2 * data.labels] = 255  # a bright row, another one for each class
    data = Images(pixels, data.labels, 3, (0.5,), (0.25,))
    net = make_net()
    trained = Trainer(net, data, recipe(epochs=10), seed=7)
    trained.run(0, 80, Hooks())
    assert trained.losses[-1] < 0.1 * trained.losses[0]
    ((inputs, labels),) = data.batches(torch.arange(60), 60)
    assert bool((net.eval()(inputs).argmax(1) == labels).all())


@pytest.mark.parametrize("examples", [17, 24, 25])
@pytest.mark.parametrize("start", [0, 1, 5])
@pytest.mark.parametrize("stop", [5, 6, 9])
def test_examples_between(examples: int, start: int, stop: int) -> None:
    """They are those of the batches, one after the other; a last one of a single image is none."""
    sizes = [min(8, examples - at) for at in range(0, examples, 8)]
    passed = [size for size in sizes if size > 1] * stop
    assert examples_between(start, stop, examples, 8) == sum(passed[start:stop])
