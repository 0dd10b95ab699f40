"""One run, from a spec to a record: network, data, search, training, evaluation."""

import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paibench.benchmark.data.dataset import DataSet, load
from paibench.benchmark.execution.services import Workspace
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.provenance import code_digest_at_start
from paibench.benchmark.record import PROTOCOL, Record
from paibench.benchmark.sandbox.parent import search_in_sandbox
from paibench.benchmark.spec import Named, Spec, recipe_of
from paibench.benchmark.steps import metrics
from paibench.benchmark.steps.blame import MethodError, attributing_errors
from paibench.benchmark.steps.device import peak_memory_mb, reset_peak_memory, setup_device
from paibench.benchmark.steps.environment import code_of, environment, machine_kind, now
from paibench.benchmark.steps.network import make_network, remarks
from paibench.benchmark.steps.search import (
    SearchResult,
    find,
    load_weights,
    reinit_seed,
    to_mask,
)
from paibench.benchmark.steps.train import Training, train
from paibench.methods.core.mask import apply
from paibench.methods.core.registry import is_own
from paibench.methods.core.task import Task
from paibench.methods.training.checkpoint import digest
from paibench.methods.training.loop import Diverged, steps_per_epoch
from paibench.methods.training.services import Services


@dataclass(frozen=True)
class Outcome:
    """A record and the files that belong beside it, by name."""

    record: Record
    files: dict[str, bytes] = field(default_factory=dict)


def run(
    spec: Spec,
    settings: RunSettings = RunSettings(),  # noqa: B008
    workspace: Workspace | None = None,
) -> Outcome:
    """Execute a spec; with a workspace, stages and checkpoints of its store are used.

    A loss that is not finite gives a record with the status `diverged`. Raises UserError for a run
    that is impossible, MethodError if the method breaks its contract, and Interrupted.
    """
    started = now()
    code_digest_at_start()  # the files may have changed when the run ends
    device = setup_device(settings.device, settings.threads)
    reset_peak_memory(device)
    data = _data(spec, settings.data, device)
    net = make_network(spec, data, spec.seed).to(device)
    facts: dict[str, Any] = {
        "protocol": PROTOCOL,
        "key": spec.key,
        "spec": spec.canonical,
        **metrics.data_metrics(data),
        "notes": remarks(spec, data),
        "initial_sha256": digest(net.state_dict()),
    }
    files: dict[str, bytes] = {}
    result: SearchResult | None = None
    try:
        result = _search(spec, net, data, settings, workspace)
        # a trusted method runs in this process and could reach the harness's own network
        _check_untouched(facts["initial_sha256"], net)
        # stored before training, so that a diverged training keeps its mask
        files["mask.safetensors"] = result.packed.to_bytes()
        facts |= metrics.mask_metrics(spec, net, result, data)
        if spec.control == "reinit":
            net = make_network(spec, data, reinit_seed(spec.seed)).to(device)
        load_weights(net, result.ticket.weights)
        facts |= metrics.untrained_metrics(spec, net, result, data)
        facts["notes"] = [*facts["notes"], *metrics.notes(result, facts)]
        apply(net, result.mask)
        training = _train(spec, net, result, data, workspace)
        files["curve.json"] = json.dumps(training.curve).encode()
        files["predictions.bin"] = training.predictions
        facts |= {"status": "done", **metrics.training_metrics(training, net, data)}
    except Diverged as error:
        facts |= {"status": "diverged", "reason": str(error)}
    # a sandboxed search uses memory outside of this process
    facts["peak_memory_mb"] = max(peak_memory_mb(device), result.peak_mb if result else 0.0)
    current = environment(spec, device, started, result.isolation if result else None)
    return Outcome(Record(**facts, environment=current), files)


@lru_cache(maxsize=1)
def _load(dataset: Named, root: Path | None, device: torch.device, seed: int) -> DataSet:
    return load(dataset.name, dataset.options, root, device=device, seed=seed)


def _data(spec: Spec, root: Path | None, device: torch.device) -> DataSet:
    """Return the data set, which a process keeps for its next run."""
    # The seed matters only if it chooses the held-out examples; otherwise all seeds share the data.
    seed = spec.seed if "validation" in spec.dataset.options else 0
    with attributing_errors(spec, "datasets"):
        return _load(spec.dataset, root, device, seed)


def _search(
    spec: Spec, net: nn.Module, data: DataSet, settings: RunSettings, workspace: Workspace | None
) -> SearchResult:
    """Search in this process for the suite's own methods, and in a sandbox for others."""
    device = next(net.parameters()).device
    services = Services()
    if workspace:
        origin = _origin(spec, data, device)
        services = workspace.search_services(origin, machine_kind(device), data.fingerprint)
    recipe = recipe_of(spec.recipe)
    own = is_own(spec.method.name)
    if own or settings.trusted:
        task = Task(
            data.train,
            seed=spec.seed,
            recipe=recipe,
            device=device,
            stream=spec.method.name,
            services=services,
        )
        result = find(spec, net, task)
        result = result if own else replace(result, isolation="trusted")
    else:
        # the store holds the records of other runs, which a method must neither read nor write
        hidden = [workspace.store.root] if workspace else []
        result = search_in_sandbox(spec, net, data, settings, services, hidden)
    steps = recipe.epochs * steps_per_epoch(len(data.train), recipe.batch)
    return to_mask(spec, net, result, steps, device)


def _check_untouched(initial: str, net: nn.Module) -> None:
    """Raise MethodError if a search changed the network that training starts from."""
    if digest(net.state_dict()) != initial:
        raise MethodError(
            "the search changed the initial weights of the harness's network; return a Ticket with "
            "the weights that training is to start from"
        )


def _origin(spec: Spec, data: DataSet, device: torch.device) -> str:
    """Return the data, code and machine that a checkpoint must come from to be resumed."""
    with attributing_errors(spec, "methods"):
        code = code_of(spec.method.name)
    return f"{PROTOCOL} {data.fingerprint} {code} {machine_kind(device)}"


def _train(
    spec: Spec, net: nn.Module, result: SearchResult, data: DataSet, workspace: Workspace | None
) -> Training:
    origin = _origin(spec, data, next(net.parameters()).device)
    return train(
        net,
        result.mask,
        data.train,
        data.test,
        recipe_of(spec.recipe),
        seed=spec.seed,
        start=result.ticket.start,
        finetune=result.ticket.finetune,
        services=workspace.training_services(origin) if workspace else None,
        report=workspace.progress.train if workspace else lambda step, steps: None,
    )
