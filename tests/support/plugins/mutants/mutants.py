"""The suite's own finders with one fault each, that the conformance suite is to find.

They are found by name where this folder is on the path: it is laid out as installed.
"""

import os
import threading
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paibench.methods.baselines.magnitude import magnitude
from paibench.methods.baselines.random import random
from paibench.methods.core.mask import Mask, keep_top, keep_top_per_layer, num_kept, prunable, total
from paibench.methods.core.scoring import scoring_copy
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.saliency.snip import snip
from paibench.methods.saliency.synflow import synflow
from paibench.methods.supermasks.edge_popup import edge_popup
from paibench.methods.training.services import State

_SEEN: list[dict[str, Tensor]] = []  # what `keeps_in_mind` keeps


def wrong_sign(net: nn.Module, task: Task, density: float) -> Scores:
    """SNIP that keeps what ought to go."""
    found = snip(net, task, density)
    return Scores({name: -score for name, score in found.values.items()})


def wrong_sign_of_weights(net: nn.Module, task: Task, density: float) -> Scores:
    """Magnitude that keeps the smallest."""
    return Scores({name: -weight.detach().abs() for name, weight in prunable(net).items()})


def off_by_one(net: nn.Module, task: Task, density: float) -> Mask:
    """Magnitude that keeps one weight too few, as by a strict comparison with the threshold."""
    scores = magnitude(net, task, density).values
    return keep_top(scores, max(num_kept(density, total(scores)) - 1, 0))


def rounds_by_layer(net: nn.Module, task: Task, density: float) -> Mask:
    """Magnitude by layer that rounds in each, so that the whole is off."""
    scores = magnitude(net, task, density).values
    counts = {name: round(density * score.numel()) for name, score in scores.items()}
    return keep_top_per_layer(scores, counts)


def of_all_parameters(net: nn.Module, task: Task, density: float) -> Mask:
    """Magnitude that keeps a ratio of all parameters, biases and norms too."""
    scores = magnitude(net, task, density).values
    whole = sum(parameter.numel() for parameter in net.parameters())
    return keep_top(scores, min(round(density * whole), total(scores)))


def ignores_the_generator(net: nn.Module, task: Task, density: float) -> Scores:
    """Random with a seed of its own."""
    draw = torch.Generator().manual_seed(0)
    return Scores({n: torch.rand(w.shape, generator=draw) for n, w in prunable(net).items()})


def begins_alike(net: nn.Module, task: Task, density: float) -> Any:
    """Edge-popup that starts from the same scores whatever the seed is."""
    task.generator = torch.Generator().manual_seed(0)
    return edge_popup(net, task, density, epochs=1)


def draws_by_the_clock(net: nn.Module, task: Task, density: float) -> Scores:
    """Magnitude with a noise that no seed decides."""
    draw = torch.Generator().manual_seed(time.time_ns())
    noise = {n: 0.5 + torch.rand(w.shape, generator=draw) for n, w in prunable(net).items()}
    return Scores({name: weight.abs() * noise[name] for name, weight in prunable(net).items()})


def draws_globally(net: nn.Module, task: Task, density: float) -> Scores:
    """Random from the global generator."""
    return Scores({name: torch.rand_like(weight) for name, weight in prunable(net).items()})


def leaks_a_dtype(net: nn.Module, task: Task, density: float) -> Scores:
    """SynFlow that leaves double precision on."""
    torch.set_default_dtype(torch.float64)
    return synflow(net, task, density, iterations=3)


def leaks_a_mode(net: nn.Module, task: Task, density: float) -> Scores:
    """SNIP that leaves gradients off."""
    found = snip(net, task, density)
    torch.set_grad_enabled(False)
    return found


def keeps_in_mind(net: nn.Module, task: Task, density: float) -> Scores:
    """Magnitude that is swayed by the network before."""
    found = dict(magnitude(net, task, density).values)
    if not _SEEN or any(not torch.equal(found[n], _SEEN[-1].get(n, found[n])) for n in found):
        _SEEN.append({name: score.clone() for name, score in found.items()})
    before = _SEEN[-2] if len(_SEEN) > 1 else {}
    swayed = {name: before.get(name, score) for name, score in found.items()}
    return Scores(
        {
            n: score + (swayed[n] if swayed[n].shape == score.shape else 0)
            for n, score in found.items()
        }
    )


def not_a_number(net: nn.Module, task: Task, density: float) -> Scores:
    """SNIP with a division by zero."""
    values = {name: score / score.max() for name, score in snip(net, task, density).values.items()}
    first = next(iter(values.values())).view(-1)
    first[0] = first[0] * 0 / 0
    return Scores(values)


def forgets_the_last_layer(net: nn.Module, task: Task, density: float) -> Scores:
    """Random that leaves out the classifier."""
    return Scores(dict(list(random(net, task, density).values.items())[:-1]))


def prunes_biases(net: nn.Module, task: Task, density: float) -> Scores:
    """Magnitude of everything that has a gradient."""
    return Scores({name: p.detach().abs() for name, p in net.named_parameters()})


def not_a_mask(net: nn.Module, task: Task, density: float) -> dict[str, Tensor]:
    """Magnitude whose mask is of numbers."""
    scores = magnitude(net, task, density).values
    mask = keep_top(scores, num_kept(density, total(scores)))
    return {name: kept.float() for name, kept in mask.items()}


def counts_nothing(net: nn.Module, task: Task, density: float) -> Scores:
    """SNIP with a loss of its own, and data that it went through once but used twice."""
    copy = scoring_copy(net, "train")
    weights = prunable(copy)
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for inputs, labels in task.batches(per_class=4):
        for _ in range(2):
            loss = F.cross_entropy(copy(inputs), labels)
            slopes = torch.autograd.grad(loss, list(weights.values()))
            for name, slope in zip(weights, slopes, strict=True):
                sums[name] += slope
    return Scores({name: (weights[name] * sums[name]).detach().abs() for name in weights})


def forgets_its_state(net: nn.Module, task: Task, density: float) -> Scores:
    """A search in two stages, of which the second needs what the first left in the process."""
    scores = {name: torch.zeros_like(weight) for name, weight in prunable(net).items()}

    def first() -> State:
        for name, score in scores.items():
            score += net.state_dict()[name].abs()
        return {}

    def second() -> State:
        return {name: score * 2 for name, score in scores.items()}

    task.memo("forgets.first", first)
    return Scores(task.memo("forgets.second", second))


def takes_anything(net: nn.Module, task: Task, density: float, **options: Any) -> Scores:
    """Random that swallows options that it does not have."""
    return random(net, task, density)


def in_single_precision(net: nn.Module, task: Task, density: float) -> Scores:
    """SNIP for float32 alone."""
    inputs, labels = next(task.batches(per_class=4))
    task.loss(net(inputs.float()), labels).backward()  # type: ignore[no-untyped-call]
    weights = prunable(net).items()
    return Scores({n: (w * w.grad).detach().abs() for n, w in weights if w.grad is not None})


def knows_two_layers(net: nn.Module, task: Task, density: float) -> Scores:
    """Magnitude for networks whose layers follow one another."""
    weights = prunable(net)
    shapes = [weight.shape for weight in weights.values()]
    for before, after in zip(shapes, shapes[1:], strict=False):
        if len(after) == 2 and len(before) == 2 and after[1] % before[0]:
            raise ValueError(f"a layer of {before[0]} outputs before one of {after[1]} inputs")
    return magnitude(net, task, density)


def changes_the_data(net: nn.Module, task: Task, density: float) -> Scores:
    """SNIP that normalises the training data where they lie."""
    found = snip(net, task, density)
    data: Any = task._data
    data.pixels.sub_(data.pixels.mean())
    return found


def has_an_option_of_no_type(
    net: nn.Module, task: Task, density: float, *, power: list[int] | None = None
) -> Scores:
    """Magnitude whose option nobody can check before the run."""
    return magnitude(net, task, density)


def knows_no_tied_weights(net: nn.Module, task: Task, density: float) -> Scores:
    """Magnitude by the modules, each of which has a weight under its own name."""
    named = {f"{name}.weight": module for name, module in net.named_modules()}
    layers = {n: m for n, m in named.items() if isinstance(m, nn.Linear | nn.Conv2d)}
    if layers.keys() - prunable(net).keys():
        raise KeyError(min(layers.keys() - prunable(net).keys()))
    return magnitude(net, task, density)


def needs_biases(net: nn.Module, task: Task, density: float) -> Scores:
    """Magnitude plus the bias of the unit, where each is taken to have one."""
    biases = {name: p for name, p in net.named_parameters() if name.endswith("bias")}
    if not biases:
        raise StopIteration
    return magnitude(net, task, density)


def needs_square_layers(net: nn.Module, task: Task, density: float) -> Scores:
    """Magnitude times a share that is computed for groups as if there were none."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.shape[1] != module.in_channels:
            raise ValueError(f"{module.in_channels} inputs, but weights for fewer")
    return magnitude(net, task, density)


def leaks_a_hook(net: nn.Module, task: Task, density: float) -> Scores:
    """SNIP that listens to all modules, and goes on listening."""
    nn.modules.module.register_module_forward_hook(lambda *_: None)
    return snip(net, task, density)


def leaks_a_setting(net: nn.Module, task: Task, density: float) -> Scores:
    """Magnitude that sets a variable of the environment for itself."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
    return magnitude(net, task, density)


def leaves_a_thread(net: nn.Module, task: Task, density: float) -> Scores:
    """Random that has somebody look on, and does not send them home."""
    threading.Thread(target=time.sleep, args=(60.0,), daemon=True).start()
    return random(net, task, density)
