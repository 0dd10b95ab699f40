"""Zhou supermask: learn for each weight the probability with which it is used.

Paper: Zhou et al., "Deconstructing Lottery Tickets: Zeros, Signs, and the Supermask", NeurIPS 2019.

The search knows no density: it ends with one probability per weight, and what the authors
deploy is a mask sampled from them, in tests as in training, with an accuracy that is the mean
over ten samples. Those samples are the ticket's `native` supermasks. The mask at the density
asked holds the weights with the highest probabilities over all layers. That is our reading: it
makes the method comparable with the others, and is not the number that the paper reports.
"""

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
    lr: float = 100.0,
    samples: int = 10,
) -> Ticket:
    """The weights with the highest learned probabilities; the weights themselves are not trained.

    Logits start at 0 and follow SGD with momentum 0.9, no weight decay and a constant learning
    rate; epochs, batches and augmentation are the recipe's. Each forward pass draws a fresh
    mask. Weights, biases and norms stay as they are. Runs that differ in the density alone
    share one search. Raises UserError when `samples` is below 1.

    Options:
        signed_constant: use sign(weight) times the standard deviation of the layer's weights
            in place of each weight, in the search and in the ticket.
        rescale: dynamic weight rescaling; multiply a layer's weights by its size over the
            number of weights that the drawn mask uses.
        lr: learning rate of the logits; the authors' 100 goes with 2,000 epochs of MNIST.
        samples: how many masks are drawn for the native supermasks.
    """
    weights = prunable(net)
    num_kept(density, total(weights))
    if samples < 1:
        raise UserError(f"zhou: samples = {samples} must be at least 1")
    frozen: Weights = {name: weight.detach() for name, weight in weights.items()}
    if signed_constant:
        frozen = {name: w.sign() * w.std(correction=0) for name, w in frozen.items()}

    def compute() -> State:
        # seeded by the task's seed alone: the search is shared, whoever comes first
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
    """A generator on the task's device that follows from the task's own."""
    seed = int(torch.randint(2**62, (), generator=task.generator))
    return torch.Generator(task.device).manual_seed(seed)


class Stochastic:
    """Effective weights under a mask that is drawn afresh at every call."""

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
    """The size of a layer over the ones in its mask, with the straight-through gradient for p."""
    ones = mask.sum() + (p.sum() - p.sum().detach())
    return torch.full_like(ones, mask.numel()) / ones.clamp(min=1)
