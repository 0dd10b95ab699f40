"""DPaI: learn a mask with many paths and few dead units; neither data nor weights are used.

Paper: Xiang et al., "DPaI: Differentiable Pruning at Initialization with Node-Path Balance
Principle", ICLR 2025.

Each weight has a score s, drawn from a normal distribution. The mask keeps the highest |s| of each
layer, with Erdos-Renyi quotas. A step moves the scores along the gradient of the logarithm of the
number of paths from input to output, which reaches pruned weights too: all of it times 1 - alpha,
and the part that leads into units and kernels without a path times alpha.

Paths are counted as in SynFlow, with the mask in place of the weights and a tiny input, so that the
count does not overflow: norms, activations and pooling pass on what they get. The defaults are
those of the authors' script (alpha 0.99, beta 0.5, Adam with learning rate 0.005) and of its
command line (500 steps); their experiments take 3,000.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from paibench.methods.baselines.quotas import quotas
from paibench.methods.core.mask import Mask, keep_top_per_layer, num_kept, prunable, total
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.saliency.positive import Flow
from paibench.methods.saliency.rectifiers import Rectifiers

TINY = 2.0**-400


def dpai(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    steps: Annotated[int, "[1, inf)"] = 500,
    alpha: Annotated[float, "[0, 1]"] = 0.99,
    beta: Annotated[float, "[0, 1]"] = 0.5,
    lr: Annotated[float, "(0, inf)"] = 0.005,
) -> Scores:
    """Return |s| after the search, with the number of weights of each layer.

    Options:
        steps: the number of steps of Adam on the scores.
        alpha: the weight of dead units and kernels against the number of paths.
        beta: the weight of dead kernels against dead units.
        lr: the learning rate of the scores.

    Raises UserError if the network has no synaptic flow.
    """
    weights = prunable(net)
    counts = quotas(weights, "erk", num_kept(density, total(weights)), seed=task.seed)
    paths = Flow(net, task.shape, torch.float64)
    scores = {
        name: torch.randn(weight.shape, generator=task.generator, dtype=torch.float64)
        .to(weight.device)
        .requires_grad_()
        for name, weight in weights.items()
    }
    optimizer = torch.optim.Adam(scores.values(), lr=lr)
    halvings = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2, steps * 3 // 4], 0.5)
    for _ in range(steps):
        sizes = {name: score.detach().abs() for name, score in scores.items()}
        masks = keep_top_per_layer(sizes, counts, seed=task.seed)
        for (name, score), slope in zip(scores.items(), path_gradients(paths, masks), strict=True):
            # straight through the choice of the highest |s|
            score.grad = -balanced(slope, masks[name], alpha, beta) * score.detach().sign()
        optimizer.step()
        halvings.step()
        task.count(1, 1)
    return Scores({name: score.detach().abs() for name, score in scores.items()}, counts)


def path_gradients(paths: Flow, mask: Mask) -> list[Tensor]:
    """Return the derivatives of the logarithm of the number of paths with respect to the mask.

    For a kept weight this is the share of the paths that pass through it.
    """
    for name, weight in paths.weights.items():
        weight.data.copy_(mask[name])
    # the derivative of a rectifier at 0 would hide the paths behind a unit that nothing reaches
    with Rectifiers(lambda x: x):
        flow = paths()
    if not float(flow.detach()) > 0:
        return [torch.zeros_like(weight) for weight in paths.weights.values()]
    # the number of paths behind the first layer is as large as the whole, and must not overflow
    slopes = torch.autograd.grad(
        flow, list(paths.weights.values()), torch.full_like(flow, TINY), materialize_grads=True
    )
    if not bool(torch.stack([slope.sum() for slope in slopes]).isfinite().all()):
        raise paths.not_finite()
    return [slope / (TINY * flow.detach()) for slope in slopes]


def balanced(slope: Tensor, mask: Tensor, alpha: float, beta: float) -> Tensor:
    """Return the direction of a layer: paths, and the paths into dead units and kernels.

    The first axis is the unit that a weight leads to, the second the one that it comes from; the
    others are the kernel.
    """
    per_kernel = (slope * mask).reshape(*slope.shape[:2], -1).sum(2)
    dead_unit = (per_kernel.sum(1) == 0).view(-1, *(1,) * (slope.dim() - 1))
    dead_kernel = (per_kernel == 0).view(*slope.shape[:2], *(1,) * (slope.dim() - 2))
    dead = (1 - beta) * slope * dead_unit + beta * slope * dead_kernel
    return (1 - alpha) * slope + alpha * dead
