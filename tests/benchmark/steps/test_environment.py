"""Where a record was made: digests of tensors, and what is known of the place."""

import hashlib
import re
from importlib.metadata import version

import pytest
import torch
from torch import Tensor

from paibench.benchmark.provenance import code_digest_at_start
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps import environment as environments
from paibench.benchmark.steps.environment import code_of, environment, now
from paibench.methods.training.checkpoint import digest

SPEC = Spec.of(dataset="digits", model="lenet-300-100", recipe="smoke", method="snip", density=0.1)
TENSORS = {"b": torch.tensor([[1, 2], [3, 4]]), "a": torch.tensor([0.5, -0.0])}


def test_digest_by_hand() -> None:
    """The digest is that of one line and the bytes of each tensor, in the order of the names."""
    whole = hashlib.sha256()
    whole.update(b"a torch.float32 (2,)\n" + TENSORS["a"].numpy().tobytes())
    whole.update(b"b torch.int64 (2, 2)\n" + TENSORS["b"].numpy().tobytes())
    assert digest(TENSORS) == whole.hexdigest()


@pytest.mark.parametrize(
    "same",
    [
        dict(reversed(TENSORS.items())),
        TENSORS | {"b": TENSORS["b"].t().contiguous().t()},
        TENSORS | {"a": TENSORS["a"].clone().requires_grad_()},
    ],
    ids=["other order", "other memory layout", "with gradients"],
)
def test_digests_that_agree(same: dict[str, Tensor]) -> None:
    """Order and layout in memory are no part of a digest."""
    assert digest(same) == digest(TENSORS)


@pytest.mark.parametrize(
    "other",
    [
        TENSORS | {"a": torch.tensor([0.5, 0.0])},
        TENSORS | {"a": torch.tensor([0.5, -0.0], dtype=torch.float64)},
        TENSORS | {"b": torch.tensor([1, 2, 3, 4])},
        {"b": TENSORS["b"], "c": TENSORS["a"]},
        {"b": TENSORS["b"]},
    ],
    ids=["sign of zero", "type", "shape", "name", "missing"],
)
def test_digests_that_differ(other: dict[str, Tensor]) -> None:
    """Every bit, type, shape and name is part of a digest."""
    assert digest(other) != digest(TENSORS)


@pytest.mark.parametrize("tensor", [torch.tensor(3), torch.zeros(0), torch.zeros(3).bfloat16()])
def test_digests_of_odd_tensors(tensor: Tensor) -> None:
    """Scalars, empty tensors and bfloat16 have digests too."""
    assert len(digest({"x": tensor})) == 64


def test_code_of_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of the whole package, whichever of the suite's methods it is."""
    assert code_digest_at_start() in code_of("snip") == code_of("grasp")
    before = code_of("snip")
    monkeypatch.setattr(environments, "code_digest_at_start", lambda: "0" * 64)
    assert code_of("snip") == before.replace(code_digest_at_start(), "0" * 64) != before


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names versions, threads, the plugin and the job."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    started = now()
    here = environment(SPEC, torch.device("cpu"), started)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", here.finished)
    assert here.started == started <= here.finished
    assert here.threads == torch.get_num_threads()
    assert (here.torch, here.paibench) == (torch.__version__, version("paibench"))
    assert (here.plugin, here.plugin_version) == ("paibench", version("paibench"))
    assert here.plugin_origin is here.plugin_sha256 is here.other_plugins is here.isolation is None
    assert here.slurm_job == "17"
    assert here.cuda is here.driver is None
    assert here.host
    assert here.device
