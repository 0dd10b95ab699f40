"""The measurements of a record: the harness takes them, never the method."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from paibench.benchmark.data.dataset import DataSet
from paibench.benchmark.spec import Spec, recipe_of
from paibench.benchmark.steps.evaluate import evaluate, reestimate_norms
from paibench.benchmark.steps.search import SearchResult, load_weights
from paibench.benchmark.steps.train import Training
from paibench.methods.core.effective_density import effective
from paibench.methods.core.mask import (
    Mask,
    apply,
    collapsed,
    layer_counts,
    listed,
    num_kept,
    prunable,
    total,
)
from paibench.methods.core.registry import UserError
from paibench.methods.core.ticket import Channels, Scores, removed_channels
from paibench.methods.training.checkpoint import digest
from paibench.models.core.check import computed_fault
from paibench.models.core.macs import uses


def data_metrics(data: DataSet) -> dict[str, Any]:
    return {
        "data_fingerprint": data.fingerprint,
        "data_name": data.name,
        "evaluated_on": data.evaluation,
        "train_examples": len(data.train),
        "test_examples": len(data.test),
    }


def mask_metrics(spec: Spec, net: nn.Module, result: SearchResult, data: DataSet) -> dict[str, Any]:
    """Return what is known without training: counts, effective density, operations, cost.

    Raises UserError if the network does not use masked weights as 0.
    """
    counts, sizes = result.packed.kept, result.packed.sizes
    used = uses(net, result.mask, data.shape)
    if fault := computed_fault(net, used):
        raise UserError(f"model {spec.model}: {fault}")
    reached = effective(net, result.mask, data.shape)
    return {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "prunable": sum(sizes.values()),
        "kept": sum(counts.values()),
        # from the mask, because the density of the spec is only what was asked for
        "density": sum(counts.values()) / sum(sizes.values()),
        "density_effective": None if reached is None else _density(reached),
        "layer_names": list(counts),
        "layer_sizes": [sizes[name] for name in counts],
        "layer_kept": list(counts.values()),
        "collapsed": collapsed(result.mask),
        "ties": result.ties,
        **_channels(result, spec),
        "multiply_adds_dense": sum(use.dense for use in used.values()),
        "multiply_adds_sparse": sum(use.sparse for use in used.values()),
        "at_initialization": result.ticket.weights is None,
        "mask_distances": [[round(d, 6) for d in row] for row in result.ticket.distances],
        "mask_sha256": result.packed.sha256,
        "search_forward": result.cost.forward,
        "search_backward": result.cost.backward,
        "search_epochs": result.cost.forward / len(data.train),
        "search_seconds": result.seconds,
    }


def _channels(result: SearchResult, spec: Spec) -> dict[str, Any]:
    """Return how many channels a mask of whole channels has, and how many it keeps."""
    channels = result.ticket.mask
    if not isinstance(channels, Channels):
        return {}
    kept_count = num_kept(spec.density, total(result.mask))
    inverts = spec.control == "invert"
    removed = removed_channels(channels, result.mask, kept_count, invert=inverts, seed=spec.seed)
    return {"channels": len(removed), "channels_kept": int((~removed).sum())}


def notes(result: SearchResult, facts: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the record should know, one line each.

    `facts` are those of `mask_metrics` and `untrained_metrics`.
    """
    remarks = list(result.ticket.notes)
    scores, layers = result.ticket.mask, facts["layer_names"]
    if isinstance(scores, Scores) and facts["kept"] < facts["prunable"]:
        zero = [name for name in layers if not scores.values[name].any()]
        if zero:
            remarks.append(
                f"all scores are 0 in {len(zero)} of {len(layers)} layers: {listed(zero)}"
            )
    density, native = facts["density"], facts.get("native_density")
    if native is not None and not density / 2 <= native <= 2 * density:
        remarks.append(f"the search itself ended at density {native:.3g}, not near {density:.3g}")
    return remarks


def untrained_metrics(
    spec: Spec, net: nn.Module, result: SearchResult, data: DataSet
) -> dict[str, Any]:
    """Return the accuracy of the ticket before training, and of the search's own supermasks.

    Everything is measured on copies, because measuring changes the statistics of batch norms.
    """
    recipe = recipe_of(spec.recipe)

    def untrained(change: Callable[[nn.Module], None]) -> float:
        trial = copy.deepcopy(net)
        change(trial)
        reestimate_norms(trial, data.train, spec.seed, recipe.precision)
        return evaluate(trial, data.test, recipe.precision).accuracy

    facts: dict[str, Any] = {
        "accuracy_untrained": untrained(lambda trial: apply(trial, result.mask))
    }
    # a control changes the mask of the ticket, not the supermasks of the search
    if result.ticket.native and spec.control == "none":
        natives = result.ticket.native
        accuracies = [untrained(lambda trial, w=w: load_weights(trial, w)) for w in natives]  # type: ignore[misc]
        # supermasks may also contain biases and norms, which densities do not count
        names = set(prunable(net))
        nonzero = sum(int((t != 0).sum()) for w in natives for n, t in w.items() if n in names)
        facts["native_accuracy"] = sum(accuracies) / len(natives)
        facts["native_density"] = nonzero / len(natives) / total(prunable(net))
    return facts


def training_metrics(training: Training, net: nn.Module, data: DataSet) -> dict[str, Any]:
    last, best = training.curve[-1], training.best
    return {
        "accuracy": last["accuracy"],
        "loss": last["loss"],
        "train_loss": last["train_loss"],
        "accuracy_best": best["accuracy"],
        "best_epoch": best["epoch"],
        "epochs_trained": training.epochs,
        "trained_sha256": digest(net.state_dict()),
        "train_seconds": training.seconds - training.evaluation_seconds,
        "evaluation_seconds": training.evaluation_seconds,
    }


def _density(mask: Mask) -> float:
    return sum(layer_counts(mask).values()) / total(mask)
