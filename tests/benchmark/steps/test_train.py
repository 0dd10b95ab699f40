"""Training a ticket: its curve, its zeros, and going on from a checkpoint with the same bits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from paibench.benchmark.steps.evaluate import evaluate
from paibench.benchmark.steps.train import Training, train
from paibench.methods.core.mask import Mask, apply, layer_counts, prunable
from paibench.methods.training.checkpoint import digest
from paibench.methods.training.data import Images
from paibench.methods.training.loop import Diverged
from paibench.methods.training.recipe import Recipe
from paibench.methods.training.services import Interrupted, Services

RECIPE = Recipe(
    epochs=4, batch=8, lr=0.05, weight_decay=1e-3, schedule="cosine", augment="crop-flip"
)
PER_EPOCH = 3  # 23 images, 8 at a time


def images(count: int) -> Images:
    draw = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 1, 4, 4), generator=draw, dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 3, 3, mean=(0.5,), std=(0.2,))


DATA, JUDGE = images(23), images(11)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(16, 3),
        )


def masked(share: float = 0.5, seed: int = 0) -> Mask:
    draw = torch.Generator().manual_seed(seed)
    weights = prunable(network())
    return {name: torch.rand(w.shape, generator=draw) < share for name, w in weights.items()}


class Killed(BaseException):
    """Stands for the end of the process."""


@dataclass
class Shelf:
    """Checkpoints in memory; with `kill`, the process ends at so many saves."""

    kill: int = 0
    saved: list[bytes] = field(default_factory=list)

    def services(
        self, seconds: float = 0, on_heartbeat: Callable[[], object] = lambda: None
    ) -> Services:
        return _ShelfServices(self, seconds, on_heartbeat)


class _ShelfServices(Services):
    def __init__(
        self, shelf: Shelf, seconds: float | None, on_heartbeat: Callable[[], object]
    ) -> None:
        super().__init__()
        self.checkpoint_seconds = seconds
        self._shelf, self._on_heartbeat = shelf, on_heartbeat

    def heartbeat(self) -> None:
        self._on_heartbeat()

    def load(self) -> bytes | None:
        return self._shelf.saved[-1] if self._shelf.saved else None

    def save(self, data: bytes, step: int) -> None:
        self._shelf.saved.append(data)
        if len(self._shelf.saved) == self._shelf.kill:
            raise Killed


def trained(
    net: nn.Module | None = None, mask: Mask | None = None, **changes: Any
) -> tuple[Training, str]:
    """The training of a fresh network, and the digest of its weights."""
    net = net or network()
    given: dict[str, Any] = {"recipe": RECIPE, "seed": 5} | changes
    result = train(net, mask or masked(), DATA, JUDGE, **given)
    return result, digest(net.state_dict())


@pytest.mark.parametrize("kills", [[1], [2], [3], [5], [12], [*range(1, 13)]], ids=str)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_resumed_bits(kills: list[int], optimizer: Any) -> None:
    """Killed after any step, or after each, training ends with the same weights and curve."""
    recipe = Recipe(
        epochs=4, batch=8, lr=0.01, optimizer=optimizer, augment="crop-flip", weight_decay=1e-3
    )
    whole, bits = trained(recipe=recipe)
    shelf = Shelf()
    for kill in kills:
        shelf.kill = kill
        with pytest.raises(Killed):
            trained(recipe=recipe, services=shelf.services())
        assert len(shelf.saved) == kill
    shelf.kill = 0
    resumed, again = trained(recipe=recipe, services=shelf.services())
    assert again == bits
    assert resumed.curve == whole.curve
    assert resumed.epochs == whole.epochs == 4


@pytest.mark.parametrize("step", [0, 1, 5, 7])
def test_killed_between_checkpoints(step: int) -> None:
    """Killed within a step, before the first checkpoint too, it ends with the same bits."""
    whole, bits = trained()
    shelf, steps = Shelf(), 0

    def pulse() -> None:
        nonlocal steps
        if steps == step:
            raise Killed
        steps += 1

    with pytest.raises(Killed):
        trained(services=shelf.services(on_heartbeat=pulse))
    assert len(shelf.saved) == step
    resumed, again = trained(services=shelf.services())
    assert (again, resumed.curve) == (bits, whole.curve)
    assert resumed.predictions == whole.predictions


def _another_mask() -> dict[str, Any]:
    return {"mask": masked(seed=1)}


def _other_weights() -> dict[str, Any]:
    net = network()
    nn.init.ones_(prunable(net)["0.weight"])
    return {"net": net}


def _another_number_of_threads() -> dict[str, Any]:
    torch.set_num_threads(torch.get_num_threads() + 1)
    return {}


@pytest.mark.parametrize(
    "change", [_another_mask, _other_weights, _another_number_of_threads], ids=lambda f: f.__name__
)
def test_checkpoints_of_other_trainings(change: Callable[[], dict[str, Any]]) -> None:
    """A checkpoint that began otherwise, or elsewhere, is not gone on from."""
    shelf, threads = Shelf(kill=3), torch.get_num_threads()
    with pytest.raises(Killed):
        trained(services=shelf.services())
    shelf.kill, steps = 0, 0

    def pulse() -> None:
        nonlocal steps
        steps += 1

    try:
        resumed, _ = trained(**change(), services=shelf.services(on_heartbeat=pulse))
    finally:
        torch.set_num_threads(threads)
    assert steps == 4 * PER_EPOCH
    assert [point["epoch"] for point in resumed.curve] == [1, 2, 3, 4]


def test_checkpoints_are_not_more_frequent_than_asked() -> None:
    """Nothing is saved before its time has come."""
    shelf = Shelf()
    trained(services=shelf.services(seconds=3600))
    assert shelf.saved == []


@pytest.mark.parametrize("asked", [1, 2, 3, 4, 8, 11, 12])
def test_left_at_the_next_step(asked: int) -> None:
    """Asked to leave, training is kept after that very step, and goes on from there."""
    whole, bits = trained()
    shelf, steps = Shelf(), 0

    def pulse() -> None:
        nonlocal steps
        steps += 1

    def stop() -> None:
        pulse()
        if steps >= asked:
            raise Interrupted

    with pytest.raises(Interrupted):
        trained(services=shelf.services(3600, stop))
    assert (steps, len(shelf.saved)) == (asked, 1)
    resumed, again = trained(services=shelf.services(3600, pulse))
    assert steps == 4 * PER_EPOCH
    assert (again, resumed.curve) == (bits, whole.curve)
    assert resumed.predictions == whole.predictions


def test_the_time_of_all_attempts_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of a training that was left are those before and after, and none between."""
    clock = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: clock)

    def pulse() -> None:
        nonlocal clock
        clock += 1

    def stop() -> None:
        pulse()
        if clock == 8:
            raise Interrupted

    shelf = Shelf()
    with pytest.raises(Interrupted):
        trained(services=shelf.services(3600, stop))
    clock += 1000
    resumed, _ = trained(services=shelf.services(3600, pulse))
    assert (resumed.seconds, clock) == (4 * PER_EPOCH, 1000 + 4 * PER_EPOCH)


def test_it_tells_where_it_is() -> None:
    """First the step that it goes on from, then each epoch's end and each checkpoint."""
    told: list[tuple[int, int]] = []
    shelf = Shelf(kill=5)
    with pytest.raises(Killed):
        trained(services=shelf.services(), report=lambda *step: told.append(step))
    assert told[0] == (0, 12)
    shelf.kill, told[:] = 0, []
    trained(services=shelf.services(3600), report=lambda *step: told.append(step))
    assert told == [(5, 12), (6, 12), (9, 12), (12, 12)]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_zeros(optimizer: Any) -> None:
    """Pruned weights are exactly 0 after momentum and weight decay; kept ones have moved."""
    net, mask = network(), masked()
    recipe = Recipe(epochs=2, batch=8, optimizer=optimizer, lr=0.05, weight_decay=0.1)
    train(net, mask, DATA, JUDGE, recipe, seed=0)
    for name, weight in prunable(net).items():
        assert torch.equal(weight != 0, mask[name])
        assert not torch.equal(weight, prunable(network())[name] * mask[name])
    assert sum(layer_counts(mask).values()) < sum(w.numel() for w in prunable(net).values())


def test_curve() -> None:
    """There is a point for each epoch; the last one is what the network then gives."""
    net = network()
    result = train(net, masked(), DATA, JUDGE, RECIPE, seed=0)
    score = evaluate(net, JUDGE)
    assert [point["epoch"] for point in result.curve] == [1, 2, 3, 4]
    assert (result.curve[-1]["accuracy"], result.curve[-1]["loss"]) == score[:2]
    assert result.predictions == score.predictions
    assert result.seconds >= result.evaluation_seconds > 0


def test_best_epoch() -> None:
    """The best epoch is the first of those with the highest accuracy."""
    accuracies = (0.1, 0.5, 0.3, 0.5)
    result = Training(4.0)
    for number, accuracy in enumerate(accuracies, start=1):
        result.curve.append({"epoch": number, "train_loss": 1.0, "loss": 1.0, "accuracy": accuracy})
    assert result.best["epoch"] == 2


@pytest.mark.parametrize(("start", "epochs"), [(0, 4.0), (3, 3.0), (4, 8 / 3), (11, 1 / 3)])
def test_late_start(start: int, epochs: float) -> None:
    """From step k on, so many epochs are trained as are left, and they are numbered as such."""
    result, _ = trained(start=start)
    assert result.epochs == epochs
    assert [p["epoch"] for p in result.curve] == list(range(start // PER_EPOCH + 1, 5))


def test_start_at_the_end() -> None:
    """A ticket that enters the schedule at its end is judged as it is."""
    net, mask = network(), masked()
    apply(net, mask)
    before = digest(net.state_dict())
    result = train(net, mask, DATA, JUDGE, RECIPE, seed=0, start=4 * PER_EPOCH)
    assert digest(net.state_dict()) == before
    assert result.epochs == 0
    assert [point["epoch"] for point in result.curve] == [4]
    assert result.curve[0]["accuracy"] == evaluate(net, JUDGE).accuracy
    assert result.curve[0]["train_loss"] == evaluate(net, DATA).loss


def test_finetuning_is_at_the_last_rate() -> None:
    """With `finetune` every epoch has the learning rate of the schedule's last."""
    last = RECIPE.lr_at(3)
    slow = Recipe(epochs=4, batch=8, lr=last, weight_decay=1e-3, augment="crop-flip")
    assert trained(finetune=True)[1] == trained(recipe=slow)[1]


def test_diverged_in_training() -> None:
    """A loss that is not finite ends the training and names the step."""
    wild = Recipe(epochs=3, batch=8, lr=1e38)
    with pytest.raises(Diverged, match="at step 1$"):
        trained(recipe=wild)


def test_diverged_in_the_last_step() -> None:
    """What the very last step breaks is seen too: by the evaluation."""
    wild = Recipe(epochs=1, batch=23, lr=1e38)
    with pytest.raises(Diverged, match="at step 1$"):
        trained(recipe=wild)
