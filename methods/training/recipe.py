"""Recipes: hyper-parameters of training as plain data, which a spec refers to by name."""

import math
from dataclasses import dataclass, field
from typing import Literal

from paibench.methods.core.registry import UserError

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

    epochs: int
    batch: int = 128
    optimizer: Optimizer = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    drops: tuple[float, ...] = field(default=())
    drop_factor: float = 0.1
    warmup: int = 0
    augment: Augmentation = "none"
    label_smoothing: float = 0.0
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        for name, good in {
            "epochs": self.epochs >= 1,
            # a batch norm cannot train on a single example
            "batch": self.batch >= 2,
            "lr": self.lr > 0 and math.isfinite(self.lr),
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": 0 <= self.weight_decay < math.inf,
            "drops": all(0 < drop < 1 for drop in self.drops),
            "drop_factor": 0 < self.drop_factor <= 1,
            "warmup": 0 <= self.warmup < max(self.epochs, 1),
            "label_smoothing": 0 <= self.label_smoothing < 1,
        }.items():
            if not good:
                raise UserError(f"recipe: {name} = {getattr(self, name)!r} is out of range")

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
