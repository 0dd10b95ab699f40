"""How networks are judged, and what their norms see before they are trained."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from paibench.benchmark.steps import evaluate as module
from paibench.benchmark.steps.evaluate import evaluate, reestimate_norms
from paibench.methods.training.checkpoint import digest
from paibench.methods.training.data import Images, order


def images(count: int) -> Images:
    draw = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, 2, 3, 3), generator=draw, dtype=torch.uint8)
    labels = torch.randint(0, 4, (count,), generator=draw)
    return Images(pixels, labels, 4, mean=(0.5, 0.4), std=(0.2, 0.3))


def everything(split: Images) -> tuple[Tensor, Tensor]:
    return next(split.batches(torch.arange(len(split)), len(split)))


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.Flatten(), nn.Linear(5, 4)
        )


@pytest.fixture(params=[500, 3], ids=["one batch", "batches of 3"])
def batch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(module, "EVALUATION_BATCH", request.param)
    yield request.param


@pytest.mark.parametrize("count", [1, 7, 9])
def test_plain_computation(count: int, batch: int) -> None:
    """Accuracy and loss are those of a plain loop over single examples in eval mode."""
    net, split = network(), images(count)
    score = evaluate(net, split)
    net.eval()
    right, losses = [], []
    for image, label in zip(*everything(split), strict=True):
        chances = net(image[None]).detach().double().softmax(1)[0]
        right.append(int(chances.argmax()) == int(label))
        losses.append(-float(chances[label].log()))
    assert score.accuracy == sum(right) / count
    bits = "".join(str(int(each)) for each in right)
    filled = bits.ljust(-(-count // 8) * 8, "0")
    assert "".join(f"{byte:08b}" for byte in score.predictions) == filled
    assert score.loss == pytest.approx(sum(losses) / count, rel=1e-5)


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_evaluation_leaves_no_trace(training: bool) -> None:
    """Neither the mode nor a number of the network changes by evaluating it."""
    net = network().train(training)
    before = digest(net.state_dict())
    evaluate(net, images(5))
    assert net.training == training
    assert all(part.training == training for part in net.modules())
    assert digest(net.state_dict()) == before


def test_norms_of_one_batch() -> None:
    """From one batch, the statistics are the mean and the unbiased variance of what comes in."""
    net, split = network(), images(50)
    reestimate_norms(net, split, seed=0)
    seen = net[0](everything(split)[0]).detach().transpose(0, 1).flatten(1).double()
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean.double(), seen.mean(1), atol=1e-6)
    assert torch.allclose(norm.running_var.double(), seen.var(1), atol=1e-6)


def test_norms_are_averaged_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics of several batches are plain averages; a batch of one is left out."""
    monkeypatch.setattr(module, "EVALUATION_BATCH", 4)
    net, split = network(), images(9)
    reestimate_norms(net, split, seed=3)
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    inputs = everything(split)[0][order(9, 3, 0)]
    parts = [
        net[0](inputs[at : at + 4]).detach().transpose(0, 1).flatten(1).double() for at in (0, 4)
    ]
    means = torch.stack([part.mean(1) for part in parts]).mean(0)
    variances = torch.stack([part.var(1) for part in parts]).mean(0)
    assert torch.allclose(norm.running_mean.double(), means, atol=1e-6)
    assert torch.allclose(norm.running_var.double(), variances, atol=1e-6)


def test_only_statistics_change() -> None:
    """Momentum, mode, parameters and the global random state are afterwards what they were."""
    net, split = network().eval(), images(20)
    parameters = digest(dict(net.named_parameters()))
    state = torch.get_rng_state()
    reestimate_norms(net, split, seed=0)
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == 0.1
    assert not norm.training
    assert digest(dict(net.named_parameters())) == parameters
    assert torch.equal(torch.get_rng_state(), state)
    assert norm.running_mean is not None
    assert not norm.running_mean.is_inference()


def test_dropout_draws_from_the_seed() -> None:
    """Behind dropout too the statistics depend on the seed and not on what ran before."""
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(18), nn.Linear(18, 4))
    found = []
    for before in (1, 2):
        torch.manual_seed(before)
        trial = copy.deepcopy(net)
        reestimate_norms(trial, images(20), seed=0)
        found.append(digest(dict(trial.named_buffers())))
    assert found[0] == found[1]


def test_networks_without_statistics_are_left_alone() -> None:
    """Without running statistics nothing is run at all."""
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(18, track_running_stats=False))
    net.register_forward_hook(lambda *_: pytest.fail("it was run"))
    reestimate_norms(net, images(5), seed=0)
