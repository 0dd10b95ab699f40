"""One run: from a spec to a record. This file is the suite's one direction as code."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from paibench.benchmark import facts, memory
from paibench.benchmark.checkout import code_at_start
from paibench.benchmark.controls import reinit_seed
from paibench.benchmark.data import DataSet, load
from paibench.benchmark.keeping import Keeper, begin_of
from paibench.benchmark.provenance import code_of, digest, environment, kind_of_place, now
from paibench.benchmark.record import PROTOCOL, Record
from paibench.benchmark.search import Search, load_weights, search
from paibench.benchmark.spec import Named, Spec, recipe_of
from paibench.benchmark.train import Training, train
from paibench.methods.loop import Checkpoint, Diverged, Save, Trainer
from paibench.methods.mask import apply
from paibench.methods.mask_file import to_bytes
from paibench.methods.registry import UserError, get
from paibench.methods.task import Keep, Memo, Task
from paibench.models.build import build


@dataclass(frozen=True)
class Place:
    """Where and how a run is done; recorded, and no part of what is run."""

    device: str = "cpu"
    threads: int = 1
    data: Path | None = None
    memory_mb: int | None = None
    """The most MiB that the process may hold, for the note of a run that wants more."""


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
    keeper: Keeper | None = None
    pulse: Callable[[], object] = lambda: None
    """Called whenever the work gets on."""
    search_keeper: Keeper | None = None
    """For the trainings of a search."""
    searching: Callable[[], object] | None = None
    """Called in its place where a search would keep nothing; it may raise."""
    search_kept: Callable[[int], object] = lambda step: None
    """Told at which step a training of the search was kept."""
    tell: Callable[[int, int], object] = lambda step, steps: None


def run(spec: Spec, place: Place = Place(), means: Means = Means()) -> Outcome:  # noqa: B008
    """Do what the spec says.

    A loss that is not finite gives a record with the status `diverged`. Raises UserError for
    what cannot be run, ValueError when a method breaks its contract.
    """
    started = now()
    code_at_start()  # which may be another by the end
    device = open_device(place)
    memory.reset_peak(device)
    data = _data(spec.dataset, place.data, device, spec.seed)
    net = make_net(spec, data, spec.seed).to(device)
    known: dict[str, Any] = {
        "protocol": PROTOCOL,
        "key": spec.key,
        "spec": spec.canonical,
        **facts.of_data(data),
        "initial_sha256": digest(net.state_dict()),
    }
    files: dict[str, bytes] = {}
    try:
        found = _find(spec, net, data, device, means)
        files["mask.safetensors"] = to_bytes({n: m.cpu() for n, m in found.mask.items()})
        known |= facts.of_search(found, net, data)
        if spec.control == "reinit":
            net = make_net(spec, data, reinit_seed(spec.seed)).to(device)
        load_weights(net, found.ticket.weights)
        known |= facts.before_training(spec, net, found, data)
        apply(net, found.mask)
        training = _train(spec, net, found, data, means)
        files["curve.json"] = json.dumps(training.curve).encode()
        known |= {"status": "done", **facts.of_training(training, net, data)}
    except Diverged as error:
        known |= {"status": "diverged", "reason": str(error)}
    known["peak_memory_mb"] = memory.peak(device)
    return Outcome(
        Record(**known, environment=environment(spec.method.name, device, started)), files
    )


def open_device(place: Place) -> torch.device:
    """The device of a place, its threads set and its arithmetic made repeatable.

    Raises UserError when it is not there.
    """
    torch.set_num_threads(place.threads)
    try:
        device = torch.device(place.device)
    except RuntimeError:
        raise UserError(
            f"device {place.device!r:.80} is unknown; use cpu, cuda or cuda:N"
        ) from None
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise UserError(
                f"device {place.device!r}: no such GPU here; `paibench doctor` lists them"
            )
        # read when CUDA starts, which is not before the first tensor is there
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    elif device.type != "cpu":
        raise UserError(f"device {place.device!r} is not supported; use cpu, cuda or cuda:N")
    return device


def make_net(spec: Spec, data: DataSet, seed: int) -> nn.Module:
    """The spec's network for the shape and the classes of the data, initialized by the seed.

    Raises UserError where it cannot be built.
    """
    options = {key: value for key, value in spec.model.options.items() if value is not None}
    try:
        make = _factory(spec.model.name)
        return build(make, data.shape, data.classes, options=options, init=spec.init, seed=seed)
    except ValueError as error:
        raise UserError(f"model {spec.model}: {error}") from error


def _factory(name: str) -> Callable[..., nn.Module]:
    if not name.startswith("timm:"):
        return cast(Callable[..., nn.Module], get(name, "models"))
    from paibench.models.timm_adapter import timm_factory  # takes seconds, and few runs need it

    return timm_factory(name.removeprefix("timm:"))


@lru_cache(maxsize=1)
def _loaded(named: str, root: Path | None, device: torch.device, seed: int) -> DataSet:
    dataset = Named.model_validate_json(named)
    return load(dataset.name, dataset.options, root, device=device, seed=seed)


def _data(dataset: Named, root: Path | None, device: torch.device, seed: int) -> DataSet:
    """The data set, kept from one run of a process to the next where the seed plays no part."""
    return _loaded(
        dataset.model_dump_json(), root, device, seed if "validation" in dataset.options else 0
    )


def _find(spec: Spec, net: nn.Module, data: DataSet, device: torch.device, means: Means) -> Search:
    task = Task(
        data.train,
        seed=spec.seed,
        recipe=recipe_of(spec.recipe),
        device=device,
        stream=spec.method.name,
        memo=means.memo(kind_of_place(device), data.fingerprint) if means.memo else None,
        pulse=means.pulse,
        or_leave=means.searching,
        keep=_keep(spec, data.fingerprint, means),
    )
    return search(spec, net, task)


def _origin(spec: Spec, fingerprint: str) -> str:
    """The data and the code that a checkpoint must come from to be gone on from."""
    return f"{PROTOCOL} {fingerprint} {code_of(spec.method.name)}"


def _keep(spec: Spec, fingerprint: str, means: Means) -> Keep | None:
    """How the trainings of a search are kept and taken up again.

    It is given to the method, and so knows the data by their fingerprint alone.
    """
    keeper = means.search_keeper
    if keeper is None:
        return None

    def keep(trainer: Trainer, also: str) -> tuple[int | None, Save]:
        begin = begin_of(trainer, f"{_origin(spec, fingerprint)} {also}")
        found = keeper.take_up(trainer, begin)

        def save(take: Callable[[], Checkpoint]) -> None:
            keeper.offer(take, begin, means.search_kept)

        return found[0] if found else None, save

    return keep


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
