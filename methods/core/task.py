"""What a mask finder is given besides the network: training data, a loss, a loop, randomness."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paibench.methods.core.mask import Mask
from paibench.methods.core.random_streams import generator
from paibench.methods.training.checkpoint import Checkpointer
from paibench.methods.training.data import Batch, Images, Split, order
from paibench.methods.training.loop import (
    Hooks,
    Penalty,
    Trainer,
    examples_between,
    steps_per_epoch,
)
from paibench.methods.training.recipe import Recipe
from paibench.methods.training.services import Compute, Cost, Services, State


class Task:
    """Training data and the means to learn from it; nothing here leads to the test set.

    `generator` (on the CPU) is the source of the method's randomness. `recipe` is the training
    recipe of the run; `fit` follows it. `services` store stages and checkpoints, and count
    examples; a task without them stores nothing.
    """

    def __init__(
        self,
        data: Split,
        *,
        seed: int,
        recipe: Recipe,
        device: torch.device | str = "cpu",
        stream: str = "",
        services: Services | None = None,
    ) -> None:
        self._data = data
        self.seed = seed
        self.recipe = recipe
        self.device = torch.device(device)
        self.generator = generator(seed, "finder", stream)
        self._services = Services() if services is None else services

    @property
    def cost(self) -> Cost:
        """The examples that passed forward and backward so far: a cost without a clock."""
        return self._services.cost

    @property
    def seconds_elsewhere(self) -> float:
        """Seconds to add to a clock around the search: those of stages that other runs computed."""
        return self._services.seconds_elsewhere

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        labels: Tensor,
        *,
        classes: int,
        seed: int = 0,
        recipe: Recipe | None = None,
    ) -> "Task":
        """A task from two tensors, for a notebook.

        `inputs` is [n, c, h, w], uint8 (scaled to [0, 1]) or floating point (taken as it is);
        [n, features] is read as [n, 1, 1, features]. `labels` is [n]. Without a recipe,
        `fit` trains ten epochs at learning rate 0.1.
        """
        images = inputs if inputs.dim() == 4 else inputs.flatten(1)[:, None, None, :]
        # one number each, which applies to all channels
        data = Images(images, labels.long(), classes, mean=(0.0,), std=(1.0,))
        recipe = recipe or Recipe(epochs=10)
        return cls(data, seed=seed, recipe=recipe, device=inputs.device)

    @property
    def classes(self) -> int:
        """The number of classes of the labels."""
        return self._data.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return self._data.shape

    @property
    def examples(self) -> int:
        """The number of training examples, which make one epoch."""
        return len(self._data)

    @property
    def steps_per_epoch(self) -> int:
        """The number of training steps in an epoch of the recipe."""
        return steps_per_epoch(len(self._data), self.recipe.batch)

    @property
    def steps(self) -> int:
        """The number of steps that the recipe trains for."""
        return self.recipe.epochs * self.steps_per_epoch

    def batches(
        self,
        count: int | None = None,
        *,
        per_class: int | None = None,
        size: int = 256,
        augment: bool = False,
        epoch: int = 0,
    ) -> Iterator[Batch]:
        """Yield training examples in a shuffled order that is the same at every call of an epoch.

        Yield the first `count` of them, or the first `per_class` of each class (the classes take
        turns), or all, in batches of `size`. As in training, a last batch of a single example is
        omitted, unless it is the only batch or each batch has one. Inputs [b, c, h, w] and labels
        [b] are on the device. With `augment`, the augmentation of the recipe applies.
        """
        # from the seed at every call, because finders with two passes need equal batches
        indices = order(len(self._data), self.seed, epoch)[:count]
        if per_class is not None:
            indices = self._balanced(indices, per_class)
        if len(indices) > size > 1 and len(indices) % size == 1:
            indices = indices[:-1]
        augmentation = self.recipe.augment if augment else "none"
        draw = generator(self.seed, "search augment")
        for inputs, labels in self._data.batches(
            indices, size, augment=augmentation, generator=draw
        ):
            self._services.count(len(labels), 0)
            # a search that only scores reports its progress here
            self._services.heartbeat()
            yield inputs, labels

    def _balanced(self, indices: Tensor, per_class: int) -> Tensor:
        labels = self._data.labels.cpu()[indices]
        members = [indices[labels == label][:per_class] for label in range(self.classes)]
        rounds = max(map(len, members))
        # a slice, because a small class has fewer than `per_class` examples
        return torch.cat([m[i : i + 1] for i in range(rounds) for m in members])

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits [b, classes], and count its backward passes.

        A second pass through the gradient (`create_graph=True`) counts as one more.
        """
        if outputs.requires_grad:  # a second pass runs through the logits, never through the loss
            outputs.register_hook(lambda _: self._services.count(0, len(labels)))  # type: ignore[no-untyped-call]
        return F.cross_entropy(outputs, labels)

    def count(self, forward: int, backward: int) -> None:
        """Count inputs that a method makes itself, such as noise, and report progress."""
        self._services.count(forward, backward)
        self._services.heartbeat()

    def fit(
        self,
        module: nn.Module,
        *,
        mask: Mask | None = None,
        start: int = 0,
        stop: int | None = None,
        before_step: Callable[[], None] | None = None,
        after_epoch: Callable[[int], None] | None = None,
        penalty: Penalty | None = None,
        resumable: bool = False,
        generators: Sequence[torch.Generator] = (),
        **changes: Any,
    ) -> None:
        """Train the parameters of `module` that require gradients, in place.

        Follows the recipe, with `changes` to its fields, from step `start` to step `stop` of
        its schedule. With a mask, pruned weights are exactly 0 from before the first step on.
        `before_step` runs before each forward pass, `after_epoch(epoch)` after each complete
        epoch, and `penalty()` is added to each loss. Raises Diverged if a loss is not finite.

        `resumable` promises that only the state of the module, the `generators` and the arguments
        decide a step: then an interrupted run resumes within this training, with the same bits.
        """
        recipe = replace(self.recipe, **changes)
        total_steps = recipe.epochs * steps_per_epoch(len(self._data), recipe.batch)
        stop = total_steps if stop is None else stop
        hooks = Hooks(before_step, after_epoch, penalty, count=self._after_step)
        trainer = Trainer(module, self._data, recipe, self.seed, mask=mask, generators=generators)
        if resumable and self._services.checkpoint_seconds is not None:
            checkpointer = Checkpointer(trainer, self._services, f"{start} {stop} {recipe}")
            # the checkpointer gives the heartbeat itself: it must save before an interruption
            hooks = replace(hooks, count=self._count, save=checkpointer.after_step)
            if resumed := checkpointer.resume():
                # an earlier attempt passed these examples, and they belong to the cost
                self._count(examples_between(start, resumed[0], len(self._data), recipe.batch))
                start = resumed[0]
        trainer.run(start, stop, hooks)

    def _count(self, examples: int) -> None:
        """Count a training step, in which the examples pass forward and backward."""
        self._services.count(examples, examples)

    def _after_step(self, examples: int) -> None:
        self._count(examples)
        self._services.heartbeat()

    def memo(self, name: str, compute: Compute) -> State:
        """Return what `compute` returns, from the store if this stage was computed before.

        All runs with the same data, model, initialization, recipe and seed share a stage: `name`
        must distinguish everything else that it depends on (the method and its options), in at
        most 64 lower-case letters, digits, `_`, `-` and `.`. While `compute` runs, `generator` is
        a separate one, so that later draws do not depend on whether the stage was cached. Its
        examples count the same whether it is computed or found.
        """
        return self._services.memo(name, lambda: self._with_own_generator(name, compute))

    def _with_own_generator(self, name: str, compute: Compute) -> State:
        outer = self.generator
        self.generator = generator(self.seed, "stage", name)
        try:
            return compute()
        finally:
            self.generator = outer
