"""Training a ticket to the end of its recipe, evaluated after every epoch, resumable exactly."""

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict, cast

import torch
from torch import nn

from paibench.benchmark.evaluate import evaluate
from paibench.benchmark.provenance import digest, kind_of_place
from paibench.benchmark.pulse import Left
from paibench.methods.batches import Split
from paibench.methods.loop import Checkpoint, Diverged, Hooks, Trainer, steps_per_epoch
from paibench.methods.mask import Mask
from paibench.methods.recipe import Recipe

CHECKPOINT_SECONDS = 20.0
SHARE = 50  # between two checkpoints lies so many times what the last one took,
RAREST = 30  # but not more than so many times what was asked for


class Point(TypedDict):
    """One epoch of a training curve; `epoch` counts from 1, `loss` is None when not finite."""

    epoch: int
    train_loss: float
    loss: float | None
    accuracy: float


@dataclass
class Training:
    """What a training gave: its curve, the last point of which is the headline."""

    epochs: float
    curve: list[Point] = field(default_factory=list)
    seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @property
    def best(self) -> Point:
        """The best epoch, the earliest of equals. Stored, never ranked."""
        return max(self.curve, key=lambda point: (point["accuracy"], -point["epoch"]))


@dataclass(frozen=True)
class Keeper:
    """Where checkpoints go: `save(bytes)` and `load() -> bytes | None`, at most so often.

    Once `leaving()` is true, training saves after the step that it is at, and raises Left.
    """

    save: Callable[[bytes], None]
    load: Callable[[], bytes | None]
    seconds: float = CHECKPOINT_SECONDS
    leaving: Callable[[], bool] = lambda: False


def train(
    net: nn.Module,
    mask: Mask,
    data: Split,
    judge: Split,
    recipe: Recipe,
    *,
    seed: int,
    start: int = 0,
    finetune: bool = False,
    keeper: Keeper | None = None,
    pulse: Callable[[], object] = lambda: None,
    tell: Callable[[int, int], object] = lambda step, steps: None,
) -> Training:
    """Train `net` in place under `mask` from step `start` of the recipe's schedule to its end.

    `judge` is the split that every epoch is evaluated on. With a keeper, training goes on from
    the last checkpoint with the same bits. `tell` hears at which step of how many it is. Raises
    Diverged when a loss in training is not finite, or that of the last evaluation: what earlier
    ones come to decides nothing. Raises Left where the keeper says so.
    """
    trainer = Trainer(net, data, recipe, seed, mask=mask, finetune=finetune)
    per_epoch = steps_per_epoch(len(data), recipe.batch)
    stop = recipe.epochs * per_epoch
    result = Training(epochs=(stop - start) / per_epoch)
    begin = _begin(trainer)
    begun = _resume(trainer, result, keeper, begin) or start
    clock = time.perf_counter()
    due = clock + (keeper.seconds if keeper else 0.0)
    tell(begun, stop)

    def judge_epoch(epoch: int) -> None:
        before = time.perf_counter()
        score = evaluate(net, judge, recipe.precision)
        finite = math.isfinite(score.loss)
        if not finite and epoch + 1 == recipe.epochs:
            raise Diverged(stop)
        result.curve.append(
            {
                "epoch": epoch + 1,
                "train_loss": trainer.losses[-1],
                "loss": score.loss if finite else None,
                "accuracy": score.accuracy,
            }
        )
        result.evaluation_seconds += time.perf_counter() - before
        tell((epoch + 1) * per_epoch, stop)

    def save(take: Callable[[], Checkpoint]) -> None:
        nonlocal due
        leaving, now = keeper is not None and keeper.leaving(), time.perf_counter()
        if keeper and (leaving or now >= due):
            checkpoint = take()
            keeper.save(_pack(checkpoint, result, begin))
            tell(checkpoint["step"], stop)
            took = time.perf_counter() - now
            due = now + took + min(max(keeper.seconds, SHARE * took), RAREST * keeper.seconds)
        if leaving:
            raise Left

    def count(_: int) -> None:
        pulse()

    hooks = Hooks(after_epoch=judge_epoch, count=count, save=save)
    trainer.run(begun, stop, hooks)
    if not result.curve:  # the ticket enters the schedule at its end
        trainer.losses.append(evaluate(net, data, recipe.precision).loss)
        judge_epoch(recipe.epochs - 1)
    result.seconds += time.perf_counter() - clock
    return result


def _begin(trainer: Trainer) -> str:
    """All that decides the bits of a training besides its arguments, as one line.

    The number is that of the checkpoints' form.
    """
    return f"2 {digest(trainer.module.state_dict())} {kind_of_place(trainer.device)}"


def _pack(checkpoint: Checkpoint, result: Training, begin: str) -> bytes:
    buffer = io.BytesIO()
    torch.save({"begin": begin, "checkpoint": checkpoint, "curve": result.curve}, buffer)
    return buffer.getvalue()


def _resume(trainer: Trainer, result: Training, keeper: Keeper | None, begin: str) -> int | None:
    """Go back to the last checkpoint there is; the step that it was saved after.

    None without one, or where it began with other weights, another mask or somewhere else.
    """
    data = keeper.load() if keeper else None
    if data is None:
        return None
    # weights_only: nothing in the file is executed, even though it is our own
    plain: dict[str, Any] = torch.load(
        io.BytesIO(data), map_location=trainer.device, weights_only=True
    )
    if plain.get("begin") != begin:
        return None
    result.curve[:] = plain["curve"]
    return trainer.restore(cast(Checkpoint, plain["checkpoint"]))
