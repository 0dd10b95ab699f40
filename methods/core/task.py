"""What a mask finder is given besides the network: training data, a loss, a loop, randomness."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paibench.methods.core.mask import Mask
from paibench.methods.core.random_streams import generator
from paibench.methods.training.data import Batch, Images, Split, order
from paibench.methods.training.loop import (
    Hooks,
    Penalty,
    Save,
    Trainer,
    examples_between,
    steps_per_epoch,
)
from paibench.methods.training.recipe import Recipe

State = dict[str, Tensor]
Memo = Callable[[str, Callable[[], State]], State]
Keep = Callable[[Trainer, str], tuple[int | None, Save]]
"""Given a trainer before its first step, and what else decides its steps: the step at which an
earlier attempt was kept, the trainer put there, or None; and the hook that keeps this one."""


@dataclass
class Cost:
    """Examples that a search has passed forward and backward through the network."""

    forward: int = 0
    backward: int = 0


class Task:
    """Training data and the means to learn from it; nothing here leads to the test set.

    `generator` (on the CPU) is the source of the method's randomness. `cost` counts the
    examples that pass forward and backward, so that the cost of a search is known without a
    clock. `recipe` is the spec's own way of training; `fit` follows it. `pulse` is called
    whenever the search gets on, or `or_leave` in its place where nothing would be kept; `spent` is
    told of all examples that pass forward and backward.
    """

    def __init__(
        self,
        data: Split,
        *,
        seed: int,
        recipe: Recipe,
        device: torch.device | str = "cpu",
        stream: str = "",
        memo: Memo | None = None,
        pulse: Callable[[], object] | None = None,
        or_leave: Callable[[], object] | None = None,
        keep: Keep | None = None,
        spent: Callable[[int, int], object] = lambda forward, backward: None,
    ) -> None:
        self._data = data
        self.seed = seed
        self.recipe = recipe
        self.device = torch.device(device)
        self.generator = generator(seed, "finder", stream)
        self.cost = Cost()
        self._memo = memo
        self._pulse = pulse or (lambda: None)
        self._get_on = or_leave or self._pulse
        self._keep = keep
        self._spent = spent

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
        data = Images(images, labels.long(), classes, mean=(0.0,), std=(1.0,))
        recipe = recipe or Recipe(epochs=10)
        return cls(data, seed=seed, recipe=recipe, device=inputs.device)

    @property
    def classes(self) -> int:
        """How many classes the labels have."""
        return self._data.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return self._data.shape

    @property
    def examples(self) -> int:
        """How many training examples there are: one epoch."""
        return len(self._data)

    @property
    def steps_per_epoch(self) -> int:
        """How many steps of the recipe make an epoch."""
        return steps_per_epoch(len(self._data), self.recipe.batch)

    @property
    def steps(self) -> int:
        """How many steps the recipe trains for."""
        return self.recipe.epochs * self.steps_per_epoch

    def batches(
        self,
        count: int | None = None,
        *,
        per_class: int | None = None,
        size: int = 256,
        augment: bool = False,
    ) -> Iterator[Batch]:
        """Training examples in a fixed shuffled order, the same from the start at every call.

        The first `count` of them, or the first `per_class` of each class (class after class in
        turn), or all; `size` at a time. Inputs [b, c, h, w] and labels [b] are on the device.
        They are not augmented unless asked, and then as the recipe says.
        """
        indices = order(len(self._data), self.seed, 0)[:count]
        if per_class is not None:
            indices = self._balanced(indices, per_class)
        how = self.recipe.augment if augment else "none"
        draw = generator(self.seed, "search augment")
        for inputs, labels in self._data.batches(indices, size, augment=how, generator=draw):
            self._spend(len(labels), 0)
            self._get_on()
            yield inputs, labels

    def _balanced(self, indices: Tensor, per_class: int) -> Tensor:
        labels = self._data.labels.cpu()[indices]
        members = [indices[labels == label][:per_class] for label in range(self.classes)]
        return torch.cat([m[i : i + 1] for i in range(per_class) for m in members])

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy of logits [b, classes]; its backward passes are counted.

        A second pass through the gradient (`create_graph=True`) counts as one more.
        """
        if outputs.requires_grad:  # the second pass comes by the logits, never by the loss
            outputs.register_hook(lambda _: self._spend(0, len(labels)))  # type: ignore[no-untyped-call]
        return F.cross_entropy(outputs, labels)

    def _spend(self, forward: int, backward: int) -> None:
        self.cost.forward += forward
        self.cost.backward += backward
        self._spent(forward, backward)

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
        `before_step` runs before each forward pass, `after_epoch(epoch)` after each whole
        epoch, and `penalty()` is added to each loss. Raises Diverged on a loss that is no
        finite number.

        `resumable` promises that only the state of the module, the `generators` and the arguments
        decide a step: then an interrupted run resumes within this training, with the same bits.
        """
        recipe = replace(self.recipe, **changes)
        whole = recipe.epochs * steps_per_epoch(len(self._data), recipe.batch)
        hooks = Hooks(before_step, after_epoch, penalty, count=self._count_and_get_on)
        stop = whole if stop is None else stop
        trainer = Trainer(module, self._data, recipe, self.seed, mask=mask, generators=generators)
        if resumable and self._keep:
            kept, save = self._keep(trainer, f"{start} {stop} {recipe}")
            hooks = replace(hooks, count=self._count_both, save=save)
            start = self._behind(start, kept, recipe)
        trainer.run(start, stop, hooks)

    def _count_and_get_on(self, examples: int) -> None:
        self._count(examples)
        self._get_on()

    def _count_both(self, examples: int) -> None:
        self._count(examples)
        self._pulse()

    def _count(self, examples: int) -> None:
        """Count a step: its examples pass forward and backward."""
        self._spend(examples, examples)

    def _behind(self, start: int, kept: int | None, recipe: Recipe) -> int:
        """The step to go on from; what lies behind it was passed by an earlier attempt."""
        if kept is None:
            return start
        self._count(examples_between(start, kept, len(self._data), recipe.batch))
        return kept

    def memo(self, name: str, compute: Callable[[], State]) -> State:
        """What `compute` returns, found again if this stage of the search was done before.

        A stage is shared by every run with the same data, model, initialization, recipe and
        seed: `name` must tell apart everything else that it depends on (the method and its
        options), in at most 64 lower-case letters, digits, `_`, `-` and `.`. While it computes,
        `generator` is one of its own. The examples it cost are counted the same whether it is
        computed or found.
        """
        return self._counted(name, lambda: self._apart(name, compute))

    def _apart(self, name: str, compute: Callable[[], State]) -> State:
        """With a generator of its own, so that found or computed, later draws are the same."""
        outside = self.generator
        self.generator = generator(self.seed, "stage", name)
        try:
            return compute()
        finally:
            self.generator = outside

    def _counted(self, name: str, compute: Callable[[], State]) -> State:
        def with_cost() -> State:
            before = replace(self.cost)
            state = dict(compute())
            spent = (self.cost.forward - before.forward, self.cost.backward - before.backward)
            self.cost = before
            return state | {"cost.examples": torch.tensor(spent)}

        state = dict(self._memo(name, with_cost) if self._memo else with_cost())
        forward, backward = state.pop("cost.examples").tolist()
        self.cost.forward += forward
        self.cost.backward += backward
        return state
