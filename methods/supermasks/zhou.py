"""Zhou supermask: learn the probability that each weight is used.

Paper: Zhou et al., "Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask", NeurIPS 2019.

The search does not depend on the density: it ends with one probability per weight. The authors
sample a mask from these in training and in tests, and report the mean accuracy of ten samples:
those are the ticket's `native` supermasks. The mask at the requested density keeps the weights
with the highest probabilities over all layers. This is our reading: it makes the method comparable
with the others, and it is not the number that the paper reports.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import Weights, flatten, num_kept, prunable, total, unflatten
from paibench.methods.core.random_streams import derive
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket
from paibench.methods.supermasks.supermask import Supermask, cache_name, masked
from paibench.methods.training.services import State


def zhou(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    signed_constant: bool = False,
    rescale: bool = False,
    lr: Annotated[float, "(0, inf)"] = 100.0,
    samples: Annotated[int, "[1, inf)"] = 10,
) -> Ticket:
    """Return the logits of the learned probabilities as scores; the weights are not trained.

    Logits start at 0 and are trained by SGD with momentum 0.9, no weight decay and a constant
    learning rate; epochs, batches and augmentation are those of the recipe. Each forward pass
    draws a new mask. Weights, biases and norms do not change. Runs that differ only in density
    share one search. Raises UserError if `samples` is below 1.

    Options:
        signed_constant: replace each weight by its sign times the standard deviation of its
            layer, in the search and in the ticket.
        rescale: dynamic weight rescaling: multiply a layer's weights by the size of the layer
            over the number of weights that the drawn mask uses.
        lr: the learning rate of the logits; the authors' 100 is for 2,000 epochs on MNIST.
        samples: the number of masks drawn for the native supermasks.
    """
    weights = prunable(net)
    num_kept(density, total(weights))  # refuses a density that keeps no weight
    if samples < 1:
        raise UserError(f"zhou: samples = {samples} must be at least 1")
    frozen: Weights = {name: weight.detach() for name, weight in weights.items()}
    if signed_constant:
        # the authors use the deviation of the population
        frozen = {name: w.sign() * w.std(correction=0) for name, w in frozen.items()}

    def compute() -> State:
        # from the seed only, because runs that differ in density share this search
        draw = torch.Generator(task.device).manual_seed(derive(task.seed, "zhou"))
        logits = torch.zeros_like(flatten(frozen))
        supermask = Supermask(net, logits, Stochastic(draw, rescale), frozen)
        task.fit(
            supermask,
            optimizer="sgd",
            lr=lr,
            momentum=0.9,
            nesterov=False,
            weight_decay=0.0,
            schedule="constant",
            warmup=0,
            resumable=True,
            # a resumed training must continue the stream of masks
            generators=[draw],
        )
        return {"logits": supermask.scores.detach()}

    name = cache_name("zhou", signed_constant=signed_constant, rescale=rescale, lr=lr)
    logits = task.memo(name, compute)["logits"].to(task.device)
    sample = Stochastic(_on(task), rescale)
    with torch.no_grad():
        native = tuple(sample(logits, frozen) for _ in range(samples))
    scores = Scores(unflatten(logits, weights))
    return Ticket(scores, weights=frozen if signed_constant else None, native=native)


def _on(task: Task) -> torch.Generator:
    """Return a generator on the task's device, seeded by the task's own."""
    seed = int(torch.randint(2**62, (), generator=task.generator))
    return torch.Generator(task.device).manual_seed(seed)


class Stochastic:
    """Effective weights under a mask that is drawn again at every call."""

    def __init__(self, draw: torch.Generator, rescale: bool) -> None:
        self.draw = draw
        self.rescale = rescale

    def __call__(self, logits: Tensor, weights: Weights) -> Weights:
        p = logits.sigmoid()
        uniform = torch.rand(p.shape, dtype=p.dtype, device=p.device, generator=self.draw)
        mask = torch.lt(uniform, p.detach(), out=uniform)
        effective = masked(p, mask, weights)
        if not self.rescale:
            return effective
        parts = zip(unflatten(mask, weights).values(), unflatten(p, weights).values(), strict=True)
        return {
            name: product * _rescaling(*part)
            for (name, product), part in zip(effective.items(), parts, strict=True)
        }


def _rescaling(mask: Tensor, p: Tensor) -> Tensor:
    """Return the size of a layer over the ones in its mask, with a straight-through gradient."""
    ones = mask.sum() + (p.sum() - p.sum().detach())
    # the authors divide by 0 if a drawn mask is empty
    return torch.full_like(ones, mask.numel()) / ones.clamp(min=1)
