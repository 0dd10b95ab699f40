"""Networks of plugins: checked once after they are made, and blamed by name."""

import re
from pathlib import Path

import pytest
import torch
from factories import spec_of

from paibench.benchmark.data.dataset import load
from paibench.benchmark.execution.attempt import Failed, attempt
from paibench.benchmark.steps.blame import PluginError
from paibench.benchmark.steps.network import make_network
from paibench.benchmark.store.store import Store

DIGITS = load("digits", {}, None, "cpu", 0)


pytestmark = pytest.mark.usefixtures("parts")


FAULTS = {
    "none_at_all": "it gives None, needed an nn.Module",
    "words": "it gives a str, needed an nn.Module",
    "wide": "its output for 2 images has the shape (2, 13), needed one tensor of shape (2, 10)",
    "flat": "its output for 2 images has the shape (20,), needed one tensor of shape (2, 10)",
    "narrow_batch": "its output for 2 images has the shape (1, 10), needed one tensor of shape (2,",
    "tuples": "its output is a tuple, needed one tensor of shape (2, 10)",
    "dicts": "its output is a dict, needed one tensor of shape (2, 10)",
    "whole_numbers": "its output has the type torch.int64, needed floating-point numbers",
    "endless": "its output at initialization is not finite",
    "halves": "its parameter 'first.weight' is torch.float16 on cpu, needed torch.float32 on cpu",
    "doubles": "its parameter 'first.weight' is torch.float64 on cpu, needed torch.float32 on cpu",
    "complex_numbers": "its parameter 'scale' is torch.complex64 on cpu, needed torch.float32 on c",
    "lazies": "its parameter '1.weight' has no shape yet; use a module that is not lazy",
    "meta": "its parameter 'first.weight' is torch.float32 on meta, needed torch.float32 on cpu",
    "no_weights": "it has no prunable weights; use convolutions and linear layers of torch.nn",
    "frozen": "its parameter 'first.weight' must require gradients",
    "odd_names": r"its parameter 'a\\nb.weight' needs a printable name of at most 200 letters",
    "uncopied": "RuntimeError: Only Tensors created explicitly by the user",
    "raises_value": "ValueError: first second",
    "opens_no_file": "FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'",
    "leaves_at_once": "SystemExit: 3",
    "interrupts": "GeneratorExit: enough",
    "raises_forward": "KeyError: 'logits'",
    "cannot_be_imported": "it cannot be imported: ModuleNotFoundError: No module named 'no_such_l",
    "is_no_function": "AttributeError: module 'parts_models' has no attribute 'nothing'",
}


@pytest.mark.parametrize(("model", "said"), FAULTS.items(), ids=FAULTS.keys())
def test_faults_of_a_model(model: str, said: str) -> None:
    """A model that breaks the contract is named with what it gave and what is needed."""
    with pytest.raises(PluginError) as caught:
        make_network(spec_of(model=model), DIGITS, 0)
    assert str(caught.value).startswith(f"model {model} (parts 1.0): {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("normed", "the weight of first (ParametrizedLinear) is no parameter of the network but"),
        ("near_sighted", "it would not see 0 of 8 rows and 4 of 8 columns of the images; use"),
    ],
)
def test_networks_that_cannot_be_pruned(tmp_path: Path, model: str, said: str) -> None:
    """A network that works, but that no mask can make sparse, is a bad input and nobody's fault."""
    with pytest.raises(Failed, match=f"^model {model}: {re.escape(said)}") as caught:
        attempt(spec_of("magnitude", model=model), Store.open(tmp_path / "store"))
    assert caught.value.cause == "input"


def test_the_check_leaves_no_trace() -> None:
    """A checked network is in train mode, and neither it nor the global state has changed."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    net = make_network(spec_of(model="resnet-20"), DIGITS, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(module.training for module in net.modules())
    batches = [b for name, b in net.named_buffers() if name.endswith("num_batches_tracked")]
    assert batches and not any(map(int, batches))


@pytest.mark.parametrize(
    ("method", "when"), [("edge_popup", " (in the search of edge_popup)"), ("random", "")]
)
def test_a_model_that_fails_later(tmp_path: Path, method: str, when: str) -> None:
    """An error in a forward pass of search or training is the model's, and not the method's."""
    store = Store.open(tmp_path / "store")
    with pytest.raises(Failed) as caught:
        attempt(spec_of(method, model="raises_in_training"), store)
    said = f"model raises_in_training (parts 1.0): RuntimeError: no training today{when}"
    assert (caught.value.cause, str(caught.value)) == ("plugin", said)
