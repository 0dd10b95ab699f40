"""What a record says of masks, costs and accuracies, against counts by hand."""

from typing import Any

import pytest
import torch
from factories import spec_of
from torch import nn

from paibench.benchmark import run as runs
from paibench.benchmark.data.dataset import load
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps import metrics
from paibench.benchmark.steps.evaluate import evaluate
from paibench.benchmark.steps.network import make_network
from paibench.benchmark.steps.search import SearchResult
from paibench.benchmark.steps.train import Training
from paibench.methods.core.mask import Mask, apply, full, keep_top, prunable
from paibench.methods.core.mask_file import digest as mask_digest
from paibench.methods.core.ticket import Ticket
from paibench.methods.training.checkpoint import digest
from paibench.methods.training.services import Cost

DIGITS = load("digits", {}, None, "cpu", 0)
SIZES = {"fc1.weight": 64 * 300, "fc2.weight": 300 * 100, "fc3.weight": 100 * 10}


def net_of(spec: Spec) -> nn.Module:
    return make_network(spec, DIGITS, spec.seed)


def found_of(mask: Mask, ticket: Ticket | None = None, cost: Cost | None = None) -> SearchResult:
    ticket = ticket or Ticket(mask)
    return SearchResult(ticket, cost or Cost(), 0.5, mask=mask)


def test_counts() -> None:
    """Counts per layer add up, and multiply-adds of linear layers are their weights."""
    net = net_of(spec_of())
    mask = full(prunable(net))
    mask["fc1.weight"][:] = False
    mask["fc1.weight"][7, :5] = True
    known = metrics.mask_metrics(spec_of(), net, found_of(mask), DIGITS)
    assert dict(zip(known["layer_names"], known["layer_sizes"], strict=True)) == SIZES
    assert known["layer_kept"] == [5, 30_000, 1_000]
    assert known["kept"] == 31_005
    assert known["prunable"] == 50_200
    assert known["density"] == 31_005 / 50_200
    assert known["multiply_adds_dense"] == 50_200
    assert known["multiply_adds_sparse"] == 31_005
    assert known["collapsed"] == []
    assert known["at_initialization"] is True
    assert known["mask_sha256"] == mask_digest(mask)
    # one unit of the first layer is left: 5 weights into it, 100 out of it, 1,000 after those
    assert known["density_effective"] == 1_105 / 50_200


def test_collapse_has_no_effective_density() -> None:
    """A layer that keeps nothing is named, and nothing is left of the network's paths."""
    net = net_of(spec_of())
    mask = full(prunable(net))
    mask["fc2.weight"][:] = False
    known = metrics.mask_metrics(spec_of(), net, found_of(mask), DIGITS)
    assert known["collapsed"] == ["fc2.weight"]
    assert known["density_effective"] == 0
    assert known["density"] == 20_200 / 50_200


def test_convolutions_cost_by_position() -> None:
    """The multiply-adds of a convolution are its weights times the positions of its output."""
    spec = spec_of(model="conv-2")
    net = net_of(spec)
    mask = full(prunable(net))
    name, weight = next(iter(prunable(net).items()))
    mask[name].view(-1)[: weight.numel() // 2] = False
    known = metrics.mask_metrics(spec_of(), net, found_of(mask), DIGITS)
    saved = weight.numel() // 2 * 64  # an image of 8 x 8
    assert known["multiply_adds_dense"] - known["multiply_adds_sparse"] == saved


@pytest.mark.parametrize(
    ("method", "forward", "backward"),
    [
        ("random", 0, 0),
        ("magnitude", 0, 0),
        ("snip", 100, 100),
        ({"name": "snip", "per_class": 3}, 30, 30),
        ("synflow", 100, 100),
        ({"name": "imp", "rate": 0.9}, 2 * 1437, 2 * 1437),
    ],
    ids=str,
)
def test_search_cost(method: Any, forward: int, backward: int) -> None:
    """A search costs the examples that it passed; an epoch is the training split."""
    record = runs.run(spec_of(method=method)).record
    assert record.search_forward == forward
    assert record.search_backward == backward
    assert record.search_epochs == forward / 1437


def test_untrained_accuracy_is_of_the_masked_network() -> None:
    """Without norms it is the plain accuracy of the weights under the mask."""
    spec = spec_of()
    net, mask = net_of(spec), full(prunable(net_of(spec)))
    mask["fc1.weight"][100:] = False
    known = metrics.untrained_metrics(spec, net, found_of(mask), DIGITS)
    apply(net, mask)
    assert known == {"accuracy_untrained": evaluate(net, DIGITS.test).accuracy}


def test_measuring_before_training_changes_nothing() -> None:
    """The network, its statistics and the global random state are as they were."""
    spec = spec_of(model="resnet-20")
    net = net_of(spec)
    before, state = digest(net.state_dict()), torch.get_rng_state()
    metrics.untrained_metrics(spec, net, found_of(full(prunable(net))), DIGITS)
    assert digest(net.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_native_supermasks() -> None:
    """Supermasks that a search would deploy are measured as they are, averaged, with density."""
    spec = spec_of()
    net = net_of(spec)
    weights = {name: weight.detach().clone() for name, weight in prunable(net).items()}
    emptied = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    mask = full(prunable(net))
    found = found_of(mask, Ticket(mask, native=(weights, emptied)))
    known = metrics.untrained_metrics(spec, net, found, DIGITS)
    chance = float((DIGITS.test.labels == 0).float().mean())  # all outputs equal: class 0
    assert known["native_accuracy"] == pytest.approx(
        (known["accuracy_untrained"] + chance) / 2, abs=1e-7
    )
    assert known["native_density"] == 0.5
    shuffled = metrics.untrained_metrics(spec_of(control="shuffle"), net, found, DIGITS)
    assert "native_accuracy" not in shuffled


def test_training() -> None:
    """The headline is the last epoch; the best one is beside it."""
    net = net_of(spec_of())
    curve = [(0.5, 1.0), (0.9, 0.4), (0.8, 0.6)]
    training = Training(2.5, seconds=9.0, evaluation_seconds=2.0)
    for number, (accuracy, loss) in enumerate(curve, start=1):
        training.curve.append(
            {"epoch": number, "train_loss": 0.1 * number, "loss": loss, "accuracy": accuracy}
        )
    assert metrics.training_metrics(training, net, DIGITS) == {
        "accuracy": 0.8,
        "loss": 0.6,
        "train_loss": pytest.approx(0.3),
        "accuracy_best": 0.9,
        "best_epoch": 2,
        "epochs_trained": 2.5,
        "trained_sha256": digest(net.state_dict()),
        "train_seconds": 7.0,
        "evaluation_seconds": 2.0,
    }


def test_data() -> None:
    """A record says on what it was evaluated."""
    known = metrics.data_metrics(load("digits", {"validation": 0.2}, None, "cpu", 0))
    assert known["evaluated_on"] == "validation"
    assert known["train_examples"] + known["test_examples"] == 1437
    assert known["data_fingerprint"] == DIGITS.fingerprint
    assert known["data_name"] == "digits-validation-0.2"


@pytest.mark.parametrize(
    ("density", "control", "ties"),
    [
        (0.5, "none", 30_000),
        (0.3, "none", 19_200),
        (0.3, "shuffle", 19_200),
        (0.3, "invert", 30_000),
        (1.0, "none", 0),
    ],
)
def test_ties_are_recorded(density: float, control: str, ties: int) -> None:
    """With signed constants, fc1 has the largest weights and fc2 the smallest; one is divided."""
    spec = spec_of("magnitude", init="signed_constant", density=density, control=control)
    assert runs.run(spec).record.ties == ties


def test_a_mask_has_no_ties() -> None:
    """For a method that returns a mask the number is not known, and random scores have none."""
    assert runs.run(spec_of("dense", density=1.0)).record.ties is None
    assert runs.run(spec_of("random")).record.ties == 0


@pytest.mark.parametrize("method", ["snip", "synflow"])
def test_layers_without_scores_are_named(method: str) -> None:
    """Residual branches that end in a norm of scale 0 have no score in any of their layers."""
    spec = spec_of(method, model="timm:test_resnet", init="native", density=0.5)
    record = runs.run(spec).record
    net = net_of(spec)
    norms = {
        name.rpartition(".bn")[0]: norm.any()
        for name, norm in net.named_parameters()
        if ".bn" in name and name.endswith("weight")
    }  # of each block, the last one
    zero = [n for n in prunable(net) if ".conv" in n and not norms[n.rpartition(".conv")[0]]]
    (note,) = record.notes
    assert note.startswith(f"all scores are 0 in {len(zero)} of 16 layers: {zero[0]!r}, ")
    assert note.endswith(f" and {len(zero) - 3} more")
    assert record.ties is not None and record.ties >= sum(prunable(net)[n].numel() for n in zero)


@pytest.mark.parametrize(
    ("density", "noted"), [(0.24, True), (0.26, False), (0.9, False), (1.0, False)]
)
def test_a_search_that_ends_far_from_the_density_is_noted(density: float, noted: bool) -> None:
    """A note tells that supermasks have more than twice or less than half the density."""
    spec = spec_of(density=density)
    net = net_of(spec)
    weights = {name: weight.detach() for name, weight in prunable(net).items()}
    half = {name: weight * (weight > 0) for name, weight in weights.items()}
    mask = keep_top(
        {name: weight.abs() for name, weight in weights.items()}, round(50_200 * density)
    )
    found = found_of(mask, Ticket(mask, native=(half,)))
    facts = metrics.mask_metrics(spec, net, found, DIGITS)
    facts |= metrics.untrained_metrics(spec, net, found, DIGITS)
    assert facts["native_density"] == pytest.approx(0.5, abs=0.01)
    expected = f"the search itself ended at density {facts['native_density']:.3g}, not near 0.24"
    assert metrics.notes(found, facts) == ([expected] if noted else [])
