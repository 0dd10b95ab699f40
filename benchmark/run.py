"""One run: from a spec to a record. This file is the suite's one direction as code."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paibench.benchmark.data.dataset import DataSet, load
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.provenance import code_digest_at_start
from paibench.benchmark.record import PROTOCOL, Record
from paibench.benchmark.sandbox.parent import Aids, search_in_sandbox
from paibench.benchmark.spec import Named, Spec, recipe_of
from paibench.benchmark.steps import metrics
from paibench.benchmark.steps.checkpoint import Checkpointer, keep_with
from paibench.benchmark.steps.device import peak_memory_mb, reset_peak_memory, setup_device
from paibench.benchmark.steps.environment import code_of, digest, environment, kind_of_place, now
from paibench.benchmark.steps.network import make_network
from paibench.benchmark.steps.search import (
    MethodError,
    Search,
    find,
    load_weights,
    reinit_seed,
    to_mask,
)
from paibench.benchmark.steps.train import Training, train
from paibench.methods.core.mask import apply
from paibench.methods.core.mask_file import pack
from paibench.methods.core.registry import is_own
from paibench.methods.core.task import Memo, Task
from paibench.methods.training.loop import Diverged, steps_per_epoch


@dataclass(frozen=True)
class Outcome:
    """A record and the files that lie beside it, by name."""

    record: Record
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Means:
    """What a run is given to be resumable: shared stages, checkpoints, a sign of life."""

    memo: Callable[[str, str], Memo] | None = None
    """Given the kind of place and the fingerprint of the data."""
    keeper: Checkpointer | None = None
    pulse: Callable[[], object] = lambda: None
    """Called whenever the work gets on."""
    search_keeper: Checkpointer | None = None
    """For the trainings of a search."""
    searching: Callable[[], object] | None = None
    """Called in the place of `pulse` where a search would keep nothing; it may raise."""
    leaving: Callable[[], bool] = lambda: False
    search_kept: Callable[[int], object] = lambda step: None
    """Told at which step a training of the search was kept."""
    tell: Callable[[int, int], object] = lambda step, steps: None
    hidden: tuple[Path, ...] = ()
    """Folders that no third party's method is to see, besides the data."""


def run(spec: Spec, settings: RunSettings = RunSettings(), means: Means = Means()) -> Outcome:  # noqa: B008
    """Do what the spec says.

    A loss that is not finite gives a record with the status `diverged`. Raises UserError for
    what cannot be run, ValueError when a method breaks its contract.
    """
    started = now()
    code_digest_at_start()  # which may be another by the end
    device = setup_device(settings.device, settings.threads)
    reset_peak_memory(device)
    data = _data(spec.dataset, settings.data, device, spec.seed)
    net = make_network(spec, data, spec.seed).to(device)
    known: dict[str, Any] = {
        "protocol": PROTOCOL,
        "key": spec.key,
        "spec": spec.canonical,
        **metrics.data_metrics(data),
        "initial_sha256": digest(net.state_dict()),
    }
    files: dict[str, bytes] = {}
    found: Search | None = None
    try:
        found = _find(spec, net, data, settings, means)
        _check_untouched(known["initial_sha256"], net)
        files["mask.safetensors"] = pack(found.mask).to_bytes()
        known |= metrics.mask_metrics(found, net, data)
        if spec.control == "reinit":
            net = make_network(spec, data, reinit_seed(spec.seed)).to(device)
        load_weights(net, found.ticket.weights)
        known |= metrics.untrained_metrics(spec, net, found, data)
        apply(net, found.mask)
        training = _train(spec, net, found, data, means)
        files["curve.json"] = json.dumps(training.curve).encode()
        known |= {"status": "done", **metrics.training_metrics(training, net, data)}
    except Diverged as error:
        known |= {"status": "diverged", "reason": str(error)}
    known["peak_memory_mb"] = max(peak_memory_mb(device), found.find.peak_mb if found else 0.0)
    where = environment(spec, device, started, found.find.isolation if found else None)
    return Outcome(Record(**known, environment=where), files)


@lru_cache(maxsize=1)
def _loaded(dataset: Named, root: Path | None, device: torch.device, seed: int) -> DataSet:
    return load(dataset.name, dataset.options, root, device=device, seed=seed)


def _data(dataset: Named, root: Path | None, device: torch.device, seed: int) -> DataSet:
    """The data set, kept from one run of a process to the next where the seed plays no part."""
    return _loaded(dataset, root, device, seed if "validation" in dataset.options else 0)


def _find(spec: Spec, net: nn.Module, data: DataSet, settings: RunSettings, means: Means) -> Search:
    """What the method finds: the suite's own in this process, a third party's in one of its own."""
    device = next(net.parameters()).device
    memo = means.memo(kind_of_place(device), data.fingerprint) if means.memo else None
    origin = _origin(spec, data.fingerprint)
    own = is_own(spec.method.name)
    if own or settings.trusted:
        keeper = means.search_keeper
        task = Task(
            data.train,
            seed=spec.seed,
            recipe=recipe_of(spec.recipe),
            device=device,
            stream=spec.method.name,
            memo=memo,
            pulse=means.pulse,
            or_leave=means.searching,
            # given to the method, it knows the data by their fingerprint alone
            keep=keep_with(keeper, origin, means.search_kept) if keeper else None,
        )
        found = find(spec, net, task)
        found = found if own else replace(found, isolation="trusted")
    else:
        aids = Aids(
            memo=memo,
            keeper=means.search_keeper,
            origin=origin,
            kept=means.search_kept,
            pulse=means.pulse,
            leaving=means.leaving,
            hidden=means.hidden,
        )
        found = search_in_sandbox(spec, net, data, settings, aids)
    recipe = recipe_of(spec.recipe)
    steps = recipe.epochs * steps_per_epoch(len(data.train), recipe.batch)
    return to_mask(spec, net, found, steps, device)


def _check_untouched(initial: str, net: nn.Module) -> None:
    """Raise MethodError where a search has changed the network that training starts from."""
    if digest(net.state_dict()) != initial:
        raise MethodError(
            "the search changed the initial weights of the harness's network; return a Ticket with "
            "the weights that training is to start from"
        )


def _origin(spec: Spec, fingerprint: str) -> str:
    """The data and the code that a checkpoint must come from to be gone on from."""
    return f"{PROTOCOL} {fingerprint} {code_of(spec.method.name)}"


def _train(spec: Spec, net: nn.Module, found: Search, data: DataSet, means: Means) -> Training:
    return train(
        net,
        found.mask,
        data.train,
        data.test,
        recipe_of(spec.recipe),
        seed=spec.seed,
        start=found.ticket.start,
        finetune=found.ticket.finetune,
        keeper=means.keeper,
        pulse=means.pulse,
        tell=means.tell,
        of=f"{spec.key} {_origin(spec, data.fingerprint)}",
    )
