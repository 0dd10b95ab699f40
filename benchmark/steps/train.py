"""Training of a ticket to the end of its recipe, evaluated after every epoch, resumable exactly."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from paibench.benchmark.record import CurvePoint
from paibench.benchmark.steps.evaluate import evaluate
from paibench.methods.core.mask import Mask
from paibench.methods.training.checkpoint import Checkpointer
from paibench.methods.training.data import Split
from paibench.methods.training.loop import Checkpoint, Diverged, Hooks, Trainer, steps_per_epoch
from paibench.methods.training.recipe import Recipe
from paibench.methods.training.services import Services


@dataclass
class Training:
    """The result of a training: its curve, whose last point is the headline, and its time.

    `predictions` are those of the last evaluation, see `Score`.
    """

    epochs: float
    curve: list[CurvePoint] = field(default_factory=list)
    predictions: bytes = b""
    seconds: float = 0.0
    evaluation_seconds: float = 0.0

    @property
    def best(self) -> CurvePoint:
        """The epoch with the highest accuracy, the earliest of equals. Recorded, never ranked."""
        return max(self.curve, key=lambda point: (point["accuracy"], -point["epoch"]))


def train(
    net: nn.Module,
    mask: Mask,
    data: Split,
    evaluated: Split,
    recipe: Recipe,
    *,
    seed: int,
    start: int = 0,
    finetune: bool = False,
    services: Services | None = None,
    report: Callable[[int, int], object] = lambda step, steps: None,
) -> Training:
    """Train `net` in place under `mask` from step `start` of the recipe's schedule to its end.

    Every epoch is evaluated on the split `evaluated`. With services that save checkpoints, training
    resumes from the last one with the same bits. `report` receives the current step and the
    number of steps. Raises Diverged if a training loss is not finite, or if the loss of the
    last evaluation is not; earlier evaluations decide nothing. Raises Interrupted.
    """
    services = services or Services()
    trainer = Trainer(net, data, recipe, seed, mask=mask, finetune=finetune)
    per_epoch = steps_per_epoch(len(data), recipe.batch)
    stop = recipe.epochs * per_epoch
    result = Training(epochs=(stop - start) / per_epoch)
    checkpointer: Checkpointer | None = None
    first = start
    if services.checkpoint_seconds is not None:
        # the text keeps a training from resuming the checkpoint of another schedule or layout
        checkpointer = Checkpointer(trainer, services, f"2 {start} {finetune} {recipe}")
        if resumed := checkpointer.resume():
            first, (result.curve[:], predictions, result.seconds, result.evaluation_seconds) = (
                resumed
            )
            result.predictions = bytes.fromhex(predictions)
    # the recorded time includes the time of interrupted attempts
    clock = time.perf_counter() - result.seconds
    report(first, stop)

    def evaluate_epoch(epoch: int) -> None:
        before = time.perf_counter()
        score = evaluate(net, evaluated, recipe.precision)
        finite = math.isfinite(score.loss)
        if not finite and epoch + 1 == recipe.epochs:
            raise Diverged(stop)
        result.curve.append(
            {
                "epoch": epoch + 1,
                "train_loss": trainer.losses[-1],
                # JSON has neither infinity nor NaN
                "loss": score.loss if finite else None,
                "accuracy": score.accuracy,
            }
        )
        result.predictions = score.predictions
        result.evaluation_seconds += time.perf_counter() - before
        report((epoch + 1) * per_epoch, stop)

    def so_far() -> tuple[object, str, float, float]:
        seconds = time.perf_counter() - clock
        # a checkpoint holds text and numbers, but no bytes
        return result.curve, result.predictions.hex(), seconds, result.evaluation_seconds

    def after_step(take: Callable[[], Checkpoint]) -> None:
        if checkpointer:
            checkpointer.after_step(take, so_far)
        else:
            services.heartbeat()

    trainer.run(first, stop, Hooks(after_epoch=evaluate_epoch, save=after_step))
    if not result.curve:  # the ticket enters the schedule at its end
        trainer.losses.append(evaluate(net, data, recipe.precision).loss)
        evaluate_epoch(recipe.epochs - 1)
    result.seconds = time.perf_counter() - clock
    return result
