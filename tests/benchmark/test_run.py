"""One run from spec to record: the same bits again, zeros where pruned, controls, divergence."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import factories
import pytest
import torch
from PIL import Image
from torch import nn

from paibench.benchmark import run as runs
from paibench.benchmark.execution.services import Heartbeat, Workspace
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.record import Record
from paibench.benchmark.run import Outcome, run
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps import metrics, network
from paibench.benchmark.steps.device import setup_device
from paibench.benchmark.steps.network import make_network
from paibench.benchmark.store.store import Store
from paibench.methods.core.mask import prunable, total
from paibench.methods.core.mask_file import digest, from_bytes
from paibench.methods.core.registry import UserError

FEW = {"name": "digits", "examples": 100}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Runs set the number of threads; afterwards it is what it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def spec_of(**fields: Any) -> Spec:
    return factories.spec_of(**{"method": "magnitude"} | fields)


def done(**fields: Any) -> Outcome:
    return run(spec_of(**fields))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that runs have trained, as they are when their record is made."""
    networks: list[nn.Module] = []
    of_training = metrics.training_metrics

    def watching(training: Any, net: nn.Module, data: Any) -> dict[str, Any]:
        networks.append(net)
        return of_training(training, net, data)

    monkeypatch.setattr(metrics, "training_metrics", watching)
    return networks


CASES = [
    {},
    {"method": "random"},
    {"method": "snip", "seed": 3},
    {"method": "dense", "density": 1.0},
    {"method": "synflow", "density": 0.02},
    {"method": {"name": "imp", "rate": 0.8}},
    {"method": {"name": "imp", "rate": 0.8, "after": "lr_rewind"}},
    {"model": "conv-2", "dataset": {"name": "digits", "examples": 200}, "method": "grasp"},
    {"control": "shuffle"},
    {"control": "reinit"},
    {"control": "invert"},
    {"init": "signed_constant"},
    {"recipe": {"name": "smoke", "optimizer": "adam", "lr": 0.001}},
    {"recipe": {"name": "smoke", "augment": "crop-flip", "weight_decay": 0.01}},
    {"recipe": {"name": "smoke", "precision": "bf16"}},
]


@pytest.mark.parametrize("fields", CASES, ids=str)
def test_the_same_again(fields: dict[str, Any], trained: list[nn.Module]) -> None:
    """The same spec gives the same bits, and its trained weights are exactly 0 where pruned."""
    first = done(**fields)
    torch.manual_seed(12345)
    again = done(**fields)
    assert first.record.status == "done"
    assert first.record.stable() == again.record.stable()
    assert first.files == again.files
    mask = from_bytes(first.files["mask.safetensors"])
    weights = prunable(trained[0])
    nonzero = sum(int((weight != 0).sum()) for weight in weights.values())
    assert nonzero <= sum(first.record.layer_kept)
    for name, weight in weights.items():
        assert not bool(weight[~mask[name]].any())
    assert first.record.kept == round(first.record.spec.get("density", 1.0) * total(weights))
    assert digest(mask) == first.record.mask_sha256


@pytest.mark.parametrize("method", ["random", "magnitude", "snip"])
def test_a_network_that_masks_do_not_reach(method: str) -> None:
    """A network that computes its weights is refused in one line, before any method is blamed."""
    message = r"^model timm:test_nfnet: stem.conv1 \(ScaledStdConv2d\) computes the weights [^\n]*$"
    with pytest.raises(UserError, match=message):
        done(model="timm:test_nfnet", method=method)


def test_the_mask_of_every_run_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mask itself is tried too, so that a network that passes the first check is refused."""
    monkeypatch.setattr(network, "check", lambda *_, **__: None)
    with pytest.raises(UserError, match=r"^model timm:test_nfnet: stem.conv1 .* computes"):
        done(model="timm:test_nfnet")


def test_unprunable_networks_are_asked_for() -> None:
    """The harness takes `allow_unprunable` for every model; the constructor does not see it."""
    model = {"name": "timm:test_resnet", "allow_unprunable": True}
    asked = done(model=model).record
    assert asked.spec["model"] == model
    assert asked.multiply_adds_sparse == done(model="timm:test_resnet").record.multiply_adds_sparse
    assert done(model={"name": "lenet-300-100", "allow_unprunable": True}).record.status == "done"


def test_shuffle() -> None:
    """The control `shuffle` keeps the counts of every layer and gives another mask."""
    plain, shuffled = done().record, done(control="shuffle").record
    assert shuffled.layer_kept == plain.layer_kept
    assert shuffled.mask_sha256 != plain.mask_sha256
    assert shuffled.initial_sha256 == plain.initial_sha256
    assert shuffled.trained_sha256 != plain.trained_sha256


def test_reinit(trained: list[nn.Module]) -> None:
    """The control `reinit` keeps the mask, and trains other weights."""
    plain, fresh = done().record, done(control="reinit").record
    assert fresh.mask_sha256 == plain.mask_sha256
    assert fresh.trained_sha256 != plain.trained_sha256
    assert fresh.accuracy_untrained != plain.accuracy_untrained


@pytest.mark.parametrize("init", ["signed_constant", "kaiming_normal", "native"])
def test_reinit_is_of_the_same_distribution(init: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh weights are others, with the same spread in each layer."""
    made: list[nn.Module] = []

    def making(*given: Any) -> nn.Module:
        net = make_network(*given)
        made.append(copy.deepcopy(net))
        return net

    monkeypatch.setattr(runs, "make_network", making)
    done(control="reinit", init=init)
    first, fresh = (prunable(net) for net in made)
    for name, weight in first.items():
        assert not torch.equal(weight, fresh[name])
        if init == "signed_constant":
            assert torch.allclose(weight.abs(), fresh[name].abs())
        else:
            assert float(weight.detach().std() / fresh[name].detach().std()) == pytest.approx(
                1, abs=0.1
            )


def test_invert() -> None:
    """The control `invert` of magnitude keeps none of the weights that magnitude keeps."""
    plain, inverted = (
        from_bytes(done(control=control).files["mask.safetensors"])
        for control in ("none", "invert")
    )
    assert not any(bool((plain[name] & inverted[name]).any()) for name in plain)


@pytest.mark.parametrize(
    ("recipe", "step"),
    [
        ({"name": "smoke", "lr": 1e30}, 1),
        ({"name": "smoke", "lr": 1e30, "batch": 1437, "epochs": 1}, 1),
        ({"name": "smoke", "lr": 1e30, "warmup": 1}, 1),
    ],
    ids=["in an epoch", "by the very last step", "with a warmup"],
)
def test_diverged(recipe: dict[str, Any], step: int) -> None:
    """A training that diverges is a record that names the step, with all that was known before."""
    outcome = done(recipe=recipe)
    record = outcome.record
    assert record.status == "diverged"
    assert record.reason == f"the loss was not finite at step {step}"
    assert record.accuracy is None
    assert record.kept == 5020
    assert record.accuracy_untrained is not None
    assert list(outcome.files) == ["mask.safetensors"]


def test_a_folder_keeps_its_name_in_the_record(tmp_path: Path) -> None:
    """A record names a folder as the file system does, and its JSON gives the name back."""
    name = "Blüten & Co. 2024"
    for file in ("train/a/0", "train/a/1", "train/b/0", "train/b/1", "test/a/0", "test/b/0"):
        path = tmp_path / name / f"{file}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((8, 8), 80).save(path)
    spec = spec_of(dataset={"name": "imagefolder", "path": name})
    record = run(spec, RunSettings(data=tmp_path)).record
    assert record.data_name == name
    assert Record.read(json.loads(json.dumps(record.plain()))) == record


def test_diverged_in_the_search() -> None:
    """A search that diverges gives a record without a mask."""
    outcome = done(method="imp", recipe={"name": "smoke", "lr": 1e30})
    assert outcome.record.status == "diverged"
    assert outcome.record.mask_sha256 is None
    assert outcome.files == {}


def test_measuring_does_not_disturb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained weights are the same with and without the accuracy before training."""
    fields: dict[str, Any] = {
        "model": "resnet-20",
        "dataset": {"name": "digits", "examples": 150},
        "recipe": {"name": "smoke", "epochs": 1},
    }
    with_it = done(**fields).record
    monkeypatch.setattr(metrics, "untrained_metrics", lambda *_: {})
    without = done(**fields).record
    assert with_it.accuracy_untrained is not None
    assert without.accuracy_untrained is None
    assert with_it.trained_sha256 == without.trained_sha256
    assert with_it.accuracy == without.accuracy


@pytest.mark.parametrize("number", [1, 2])
def test_threads(number: int) -> None:
    """The threads of the place are set, and are those of the record."""
    record = run(spec_of(dataset=FEW), RunSettings(threads=number)).record
    assert record.environment.threads == number


def test_threads_are_those_of_the_place_whatever_ran_before() -> None:
    """A run at two threads leaves the next one at one thread as it always was."""
    first = run(spec_of(dataset=FEW)).record
    run(spec_of(dataset=FEW), RunSettings(threads=2))
    assert run(spec_of(dataset=FEW)).record.stable() == first.stable()


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "device 'gpu' is unknown; use cpu, cuda or cuda:N"),
        ("meta", "device 'meta' is not supported; use cpu, cuda or cuda:N"),
        ("cuda:99", "device 'cuda:99': no such GPU here; `paibench doctor` lists them"),
    ],
)
def test_devices_that_are_not_there(device: str, said: str) -> None:
    """A device that cannot be used is refused in one line."""
    with pytest.raises(UserError, match=f"^{said}$"):
        setup_device(device, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": {"name": "vgg-16", "width": -1.0}},
        {"model": "timm:no_such_model"},
    ],
    ids=str,
)
def test_models_that_cannot_be_built(fields: dict[str, Any]) -> None:
    """A network that cannot be built is the user's mistake, said in one line."""
    with pytest.raises(UserError) as caught:
        done(**fields)
    assert "\n" not in str(caught.value)


def test_the_heartbeat_beats_with_every_step(tmp_path: Path) -> None:
    """Every step of search and training gives a heartbeat."""
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    spec = spec_of(method={"name": "imp", "rate": 0.8})
    workspace = Workspace(Store.open(tmp_path), spec, "me", Heartbeat(beat), RunSettings())
    run(spec, workspace=workspace)
    assert beats == 2 * 2 * 23 + 2 * 23


PEAKS = """
from paibench.benchmark.run import run
from paibench.benchmark.spec import Spec

def peak(model, **data):
    common = {"recipe": {"name": "smoke", "epochs": 1}, "method": "random", "density": 0.1}
    spec = Spec.of(dataset={"name": "digits", **data}, model=model, **common)
    return run(spec).record.peak_memory_mb

print(peak("lenet-300-100"), peak("wide-resnet", examples=100), peak("lenet-300-100"))
"""


@pytest.mark.slow
def test_peak_memory_is_that_of_the_run() -> None:
    """In one process, a small run after a large one does not report the memory of the large."""
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    small, big, again = map(float, done.stdout.split())
    assert big > max(small, again)
