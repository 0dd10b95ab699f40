"""The training loop of tickets and of searches that train."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Protocol, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paibench.methods.core.mask import Mask, as_float, prunable
from paibench.methods.core.random_streams import derive, generator
from paibench.methods.core.registry import UserError
from paibench.methods.training.data import Split, order
from paibench.methods.training.recipe import Recipe


class Diverged(ArithmeticError):
    """A loss that is not finite, or would be after an epoch; `step` is the first (from 0)."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss was not finite at step {step}")
        self.step = step


class Checkpoint(TypedDict):
    """The state from which training resumes bit for bit.

    `epoch_losses` are the losses of the current epoch so far [n], `rng` the states of the global
    generators, which layers such as dropout draw from, `generators` those of `Trainer.generators`.
    """

    step: int
    module: dict[str, Tensor]
    optimizer: dict[str, object]
    losses: list[float]
    epoch_losses: Tensor
    rng: list[Tensor]
    generators: list[Tensor]


Save = Callable[[Callable[[], Checkpoint]], None]


class Penalty(Protocol):
    """A differentiable term that is added to the loss of each step."""

    def __call__(self) -> Tensor: ...


@dataclass(frozen=True)
class Hooks:
    """Callbacks of a training; all are optional.

    `before_step` runs before each forward pass, `after_epoch(epoch)` after each complete epoch,
    `count(examples)` after each step. `save(take)` runs last, after each step and after each
    complete epoch; `take()` returns the checkpoint.
    """

    before_step: Callable[[], None] | None = None
    after_epoch: Callable[[int], None] | None = None
    penalty: Penalty | None = None
    count: Callable[[int], None] | None = None
    save: Save | None = None


@dataclass(frozen=True)
class Span:
    """The steps `start` to `stop` of a schedule with `per_epoch` steps per epoch."""

    start: int
    stop: int
    per_epoch: int

    def epochs(self) -> Iterator[tuple[int, int, int]]:
        """Yield each epoch of the span, with its first and last step counted within the epoch."""
        for epoch in range(self.start // self.per_epoch, -(-self.stop // self.per_epoch)):
            first = max(self.start - epoch * self.per_epoch, 0)
            yield epoch, first, min(self.stop - epoch * self.per_epoch, self.per_epoch)


def steps_per_epoch(examples: int, batch: int) -> int:
    """Return the number of steps of an epoch, without a last batch of a single example.

    Raises UserError if no batch is left.
    """
    # a batch norm cannot train on a single example
    steps = examples // batch + (examples % batch > 1)
    if not steps:
        raise UserError(f"there are too few training examples: {examples}; give at least 2")
    return steps


def examples_between(start: int, stop: int, examples: int, batch: int) -> int:
    """Return how many examples pass through the network in the steps `start` to `stop`."""
    per_epoch = steps_per_epoch(examples, batch)
    epoch_examples = examples - (examples % batch == 1)

    def until(step: int) -> int:
        epochs, steps = divmod(step, per_epoch)
        return epochs * epoch_examples + steps * batch

    return until(stop) - until(start)


@dataclass
class Trainer:
    """A module in training, with its optimizer and the mask of the weights that are not 0.

    `generators` are those that its forward pass draws from, besides the global ones.
    """

    module: nn.Module
    data: Split
    recipe: Recipe
    seed: int
    mask: Mask | None = None
    finetune: bool = False
    generators: Sequence[torch.Generator] = ()
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        # first, because the factors of the mask take the memory layout of the weights
        if self.recipe.precision == "bf16":
            self.module.to(memory_format=torch.channels_last)
        self._parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = _optimizer(self.recipe, self._parameters)
        self.device = next(self.module.parameters()).device
        self._pruned: tuple[list[Tensor], list[Tensor]] | None = None
        self._partial_epoch: Checkpoint | None = None
        # a full mask costs nothing in a step
        if self.mask is not None and not all(
            bool(layer_mask.all()) for layer_mask in self.mask.values()
        ):
            weights = prunable(self.module)
            covered: list[Tensor] = [weights[name] for name in self.mask]
            self._pruned = covered, as_float(self.mask, weights)
            self._prune()

    def run(self, start: int, stop: int, hooks: Hooks) -> None:
        """Train from step `start` to step `stop` of the recipe's schedule.

        Raises Diverged if a loss is not finite.
        """
        per_epoch = steps_per_epoch(len(self.data), self.recipe.batch)
        with _training(self.module), _private_randomness(self.device):
            for epoch, first, last in Span(start, stop, per_epoch).epochs():
                # seeded per epoch, so that a training that starts late sees the same dropout
                torch.manual_seed(derive(self.seed, "noise", epoch))
                self._epoch(epoch, first, last, per_epoch, hooks)
                if last == per_epoch and hooks.after_epoch:
                    hooks.after_epoch(epoch)
                if last == per_epoch and hooks.save:
                    hooks.save(partial(self.checkpoint, (epoch + 1) * per_epoch))

    def _epoch(self, epoch: int, first: int, last: int, per_epoch: int, hooks: Hooks) -> None:
        rate = self.recipe.lr_at(self.recipe.epochs - 1 if self.finetune else epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batches = self.data.batches(
            order(len(self.data), self.seed, epoch),
            self.recipe.batch,
            augment=self.recipe.augment,
            generator=generator(self.seed, "augment", epoch),
            skip=first,
        )
        losses = self._resume_epoch()
        start, end = epoch * per_epoch + first, (epoch + 1) * per_epoch
        # earlier losses of a resumed epoch come first, and Diverged counts steps from them
        first_loss = start - len(losses)
        for step, (inputs, labels) in enumerate(islice(batches, last - first), start + 1):
            losses.append(self._step(inputs, labels, hooks))
            if hooks.count:
                hooks.count(len(labels))
            if hooks.save and step < end:  # the last step is saved by `run`, after `after_epoch`
                hooks.save(partial(self.checkpoint, step, losses))
        self._record(losses, first_loss)

    def _resume_epoch(self) -> list[Tensor]:
        """Return the earlier losses of this epoch if a checkpoint within it was restored."""
        partial, self._partial_epoch = self._partial_epoch, None
        if partial is None or not len(partial["epoch_losses"]):
            return []
        # random layers continue within the epoch's stream
        _set_rng_states(partial["rng"], self.device)
        return list(partial["epoch_losses"].to(self.device))

    def _step(self, inputs: Tensor, labels: Tensor, hooks: Hooks) -> Tensor:
        if hooks.before_step:
            hooks.before_step()
        with autocast(self.recipe.precision, self.device):
            outputs = self.module(to_layout(inputs, self.recipe.precision))
        loss = F.cross_entropy(
            # bfloat16 has 8 bits of precision, too few for the sum of exponentials
            outputs.float() if outputs.dtype == torch.bfloat16 else outputs,
            labels,
            label_smoothing=self.recipe.label_smoothing,
        )
        self.optimizer.zero_grad()
        (loss if hooks.penalty is None else loss + hooks.penalty()).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        # the optimizer moves pruned weights too: they have gradients and momentum
        self._prune()
        return loss.detach()

    def _prune(self) -> None:
        if self._pruned is not None:
            with torch.no_grad():
                weights, factors = self._pruned
                torch._foreach_mul_(weights, factors)

    def _record(self, losses: list[Tensor], first_step: int) -> None:
        """Record the mean loss of an epoch. Raises Diverged if one is not finite."""
        # losses are read once per epoch: reading each one would make a GPU wait at every step
        if not losses:
            return
        stacked = torch.stack(losses).double().cpu()
        bad = (~stacked.isfinite()).nonzero()
        if len(bad):
            raise Diverged(first_step + int(bad[0]))
        # a gradient can overflow at a finite loss; the next loss would show it, if there is one
        finite = [parameter.isfinite().all() for parameter in self._parameters]
        if not bool(torch.stack(finite).all()):  # a GPU waits once, and not for each layer
            raise Diverged(first_step + len(losses))
        self.losses.append(float(stacked.mean()))

    def checkpoint(self, step: int, epoch_losses: Sequence[Tensor] = ()) -> Checkpoint:
        """Return the state after `step` steps; the next step changes it, so store it at once.

        `epoch_losses` are the losses of the current epoch so far.
        """
        return {
            "step": step,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": list(self.losses),
            "epoch_losses": torch.stack(list(epoch_losses)).cpu()
            if epoch_losses
            else torch.empty(0),
            "rng": _rng_states(self.device),
            "generators": [each.get_state() for each in self.generators],
        }

    def restore(self, checkpoint: Checkpoint) -> int:
        """Restore a checkpoint; return the step to resume from."""
        self.module.load_state_dict(checkpoint["module"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.losses[:] = checkpoint["losses"]
        for each, state in zip(self.generators, checkpoint["generators"], strict=True):
            # states of generators stay on the CPU, but checkpoints are loaded to the device
            each.set_state(state.cpu())
        self._partial_epoch = checkpoint
        return checkpoint["step"]


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context for a forward pass in this precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def to_layout(inputs: Tensor, precision: str) -> Tensor:
    """Return images in the memory layout of the precision."""
    if precision == "bf16" and inputs.dim() == 4:
        return inputs.contiguous(memory_format=torch.channels_last)
    return inputs


def _optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    decay = recipe.weight_decay
    # fused: one kernel updates all parameters
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=recipe.lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        parameters,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=decay,
        fused=True,
    )


@contextmanager
def _training(module: nn.Module) -> Iterator[None]:
    """Set training mode, and restore the mode of each submodule afterwards."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.train()
    try:
        yield
    finally:
        for submodule, mode in modes:
            submodule.training = mode


def _rng_states(device: torch.device) -> list[Tensor]:
    """Return the states of the global generators that training on this device draws from."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]


def _set_rng_states(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1].cpu(), device)


@contextmanager
def _private_randomness(device: torch.device) -> Iterator[None]:
    """Restore the global generators afterwards; layers such as dropout draw from them."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
