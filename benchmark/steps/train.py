"""Training a ticket to the end of its recipe, evaluated after every epoch, resumable exactly."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from paibench.benchmark.record import CurvePoint
from paibench.benchmark.steps.checkpoint import Checkpointer, fingerprint
from paibench.benchmark.steps.evaluate import evaluate
from paibench.methods.core.mask import Mask
from paibench.methods.training.data import Split
from paibench.methods.training.loop import Checkpoint, Diverged, Hooks, Trainer, steps_per_epoch
from paibench.methods.training.recipe import Recipe


@dataclass
class Training:
    """What a training gave: its curve, the last point of which is the headline."""

    epochs: float
    curve: list[CurvePoint] = field(default_factory=list)
    seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @property
    def best(self) -> CurvePoint:
        """The best epoch, the earliest of equals. Stored, never ranked."""
        return max(self.curve, key=lambda point: (point["accuracy"], -point["epoch"]))


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
    keeper: Checkpointer | None = None,
    pulse: Callable[[], object] = lambda: None,
    tell: Callable[[int, int], object] = lambda step, steps: None,
    of: str = "",
) -> Training:
    """Train `net` in place under `mask` from step `start` of the recipe's schedule to its end.

    `judge` is the split that every epoch is evaluated on. With a keeper, training goes on from
    the last checkpoint with the same bits. `of` is all that its arguments do not show: a
    checkpoint of another is not gone on from. `tell` hears at which step of how many it is. Raises
    Diverged when a loss in training is not finite, or that of the last evaluation: what earlier
    ones come to decides nothing. Raises Left where the keeper says so.
    """
    trainer = Trainer(net, data, recipe, seed, mask=mask, finetune=finetune)
    per_epoch = steps_per_epoch(len(data), recipe.batch)
    stop = recipe.epochs * per_epoch
    result = Training(epochs=(stop - start) / per_epoch)
    begin = fingerprint(trainer, f"{of} {start} {finetune} {recipe}")
    begun = start
    if keeper and (found := keeper.take_up(trainer, begin)):
        begun, (result.curve[:], result.seconds, result.evaluation_seconds) = found
    clock = time.perf_counter() - result.seconds
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
        if keeper:
            spent = time.perf_counter() - clock, result.evaluation_seconds
            also = (result.curve, *spent)
            keeper.offer(take, begin, lambda step: tell(step, stop), also)

    def count(_: int) -> None:
        pulse()

    hooks = Hooks(after_epoch=judge_epoch, count=count, save=save)
    trainer.run(begun, stop, hooks)
    if not result.curve:  # the ticket enters the schedule at its end
        trainer.losses.append(evaluate(net, data, recipe.precision).loss)
        judge_epoch(recipe.epochs - 1)
    result.seconds = time.perf_counter() - clock
    return result
