"""Recipes: hyper-parameters of training as plain data, which a spec refers to by name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Annotated, Literal, get_args, get_origin

from paibench.methods.core.registry import UserError
from paibench.methods.core.signature import Interval, Option

Optimizer = Literal["sgd", "adam"]
Schedule = Literal["constant", "multistep", "cosine"]
Augmentation = Literal["none", "flip", "crop", "crop-flip"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyper-parameters of a training of weights or scores.

    The learning rate changes once per epoch. It rises in equal steps to `lr` over the first
    `warmup` epochs, and is multiplied by `drop_factor` at each of `drops`, which are fractions of
    the number of epochs, so that a shorter recipe keeps its shape. `precision` bf16 means bfloat16
    autocast and channels_last memory; parameters stay in float32.
    """

    epochs: Annotated[int, "[1, inf)"]
    # a batch norm cannot train on a single example
    batch: Annotated[int, "[2, inf)"] = 128
    optimizer: Optimizer = "sgd"
    lr: Annotated[float, "(0, inf)"] = 0.1
    momentum: Annotated[float, "[0, 1)"] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, "[0, inf)"] = 0.0
    schedule: Schedule = "constant"
    drops: tuple[float, ...] = field(default=())
    drop_factor: Annotated[float, "(0, 1]"] = 0.1
    warmup: Annotated[int, "[0, inf)"] = 0
    augment: Augmentation = "none"
    label_smoothing: Annotated[float, "[0, 1)"] = 0.0
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for name, option in settings().items():
            try:
                option.accept(getattr(self, name))
            except ValueError as error:
                raise UserError(f"recipe: {name} {error}") from error
        if not isinstance(self.drops, tuple) or not all(
            isinstance(drop, float) and 0 < drop < 1 for drop in self.drops
        ):
            raise UserError(
                f"recipe: drops takes fractions between 0 and 1, not {self.drops!r:.80}"
            )
        if self.warmup >= self.epochs:
            raise UserError(f"recipe: warmup = {self.warmup} leaves none of {self.epochs} epochs")
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            raise UserError("recipe: nesterov = True needs a momentum above 0")

    def lr_at(self, epoch: int) -> float:
        """Return the learning rate of an epoch (from 0)."""
        if epoch < self.warmup:
            # from epoch 0 on: a rate of 0 would waste an epoch
            return self.lr * (epoch + 1) / self.warmup
        if self.schedule == "cosine":
            progress = (epoch - self.warmup) / (self.epochs - self.warmup)
            return self.lr * (1 + math.cos(math.pi * progress)) / 2
        if self.schedule == "multistep":
            # rounded, because a product such as 0.29 * 100 is not a whole number
            passed = sum(epoch >= round(drop * self.epochs) for drop in self.drops)
            return self.lr * self.drop_factor**passed
        return self.lr


@cache
def settings() -> Mapping[str, Option]:
    """Return the plain fields of a recipe, which a spec may change, as options."""
    options = {}
    for each in fields(Recipe):
        annotation, *interval = (
            get_args(each.type) if get_origin(each.type) is Annotated else (each.type,)
        )
        if get_origin(annotation) is Literal:
            options[each.name] = Option((), get_args(annotation), None)
        elif isinstance(annotation, type):
            range_ = Interval.read(*interval) if interval else None
            options[each.name] = Option((annotation.__name__,), (), None, range_)
    return options
