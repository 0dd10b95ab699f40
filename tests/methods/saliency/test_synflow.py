"""SynFlow: conservation of flow, its invariances, its rounds, and the collapse they prevent."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.baselines.magnitude import magnitude
from paibench.methods.core.mask import (
    Mask,
    apply,
    collapsed,
    flatten,
    keep_top,
    layer_counts,
    prunable,
    unflatten,
)
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import count_ties, select
from paibench.methods.saliency.positive import positive
from paibench.methods.saliency.rounds import prune_in_rounds
from paibench.methods.saliency.snip import snip
from paibench.methods.saliency.synflow import synflow

SHAPE = (2, 8, 8)


def task(*shape: int, seed: int = 0) -> Task:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(12, *(shape or SHAPE), generator=draw, dtype=torch.float64)
    return Task.of(inputs, torch.randint(0, 4, (12,), generator=draw), classes=4, seed=seed)


def chain() -> nn.Sequential:
    """Convolutions with norms of any scale, both kinds of pool, then two linear maps."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3, bias=False),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(5, 7, bias=False),
        nn.ReLU(),
        nn.Linear(7, 4, bias=False),
    )
    for name in ("1.weight", "5.weight"):
        nn.init.uniform_(net.get_parameter(name))
    return net.double()


class Residual(nn.Module):
    """Two blocks of two convolutions: one beside a 1x1 convolution, one beside the identity."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(2, 4, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(6, 5, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(4, 5, 1, bias=False)
        self.conv3 = nn.Conv2d(5, 6, 3, padding=1, bias=False)
        self.conv4 = nn.Conv2d(6, 5, 3, padding=1, bias=False)
        self.head = nn.Linear(5, 3, bias=False)
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.stem(inputs).relu()
        x = (self.conv2(self.conv1(x).relu()) + self.shortcut(x)).relu()
        x = (self.conv4(self.conv3(x).relu()) + x).relu()
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def flows(net: nn.Module) -> tuple[dict[str, Tensor], float]:
    """The scores w * dR/dw of the positive network, and R."""
    copy = positive(net)
    whole = copy(torch.ones(1, *SHAPE, dtype=torch.float64)).sum()
    weights = prunable(copy)
    slopes = torch.autograd.grad(whole, list(weights.values()))
    scores = [(w * g).detach() for w, g in zip(weights.values(), slopes, strict=True)]
    return dict(zip(weights, scores, strict=True)), whole.item()


def test_layers_conserve_flow() -> None:
    """In a chain the scores of every layer add up to R, and none is negative."""
    scores, whole = flows(chain())
    assert all(float(s.sum()) == pytest.approx(whole, rel=1e-12) for s in scores.values())
    assert all(float(s.min()) >= 0 for s in scores.values())


def test_units_conserve_flow() -> None:
    """What flows into a unit flows out of it."""
    scores, _ = flows(chain())
    into, out = scores["9.weight"].sum(1), scores["11.weight"].sum(0)
    torch.testing.assert_close(into, out, rtol=1e-12, atol=0)
    into, out = scores["0.weight"].sum((1, 2, 3)), scores["4.weight"].sum((0, 2, 3))
    torch.testing.assert_close(into, out, rtol=1e-12, atol=0)


def test_cuts_conserve_flow() -> None:
    """Through a block and its shortcut flows R; beside an identity flows less."""
    scores, whole = flows(Residual())
    share = {name.removesuffix(".weight"): float(s.sum()) / whole for name, s in scores.items()}
    assert share["conv1"] == pytest.approx(share["conv2"], rel=1e-12)
    assert share["conv2"] + share["shortcut"] == pytest.approx(1, rel=1e-12)
    assert share["conv3"] == pytest.approx(share["conv4"], rel=1e-12)
    assert share["conv4"] < 0.999
    assert share["stem"] == pytest.approx(1, rel=1e-12) == share["head"]


@pytest.mark.parametrize("make", [chain, Residual])
def test_one_round_ranks_by_the_score(make: Callable[[], nn.Module]) -> None:
    """In one round, what is found is one plus the rank of the score."""
    found = flatten(synflow(make(), task(), 1.0, iterations=1).values) - 1
    scores = flatten(flows(make())[0])
    assert torch.equal(found.argsort(), scores.argsort())
    assert torch.equal(found.sort().values, torch.arange(len(found)).double())


def naive(net: nn.Module, density: float, rounds: int, linear: bool) -> Mask:
    """All rounds with all weights: score, sort, mask, again."""
    mask = {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(net).items()}
    for done in range(1, rounds + 1):
        masked = deepcopy(net)
        apply(masked, mask)
        part = done / rounds
        reached = 1 - (1 - density) * part if linear else density**part
        flat = flatten(flows(masked)[0]).where(flatten(mask), torch.tensor(-1.0).double())
        count = round(reached * len(flat))
        kept = set(sorted(range(len(flat)), key=lambda place: -float(flat[place]))[:count])
        mask = unflatten(torch.tensor([place in kept for place in range(len(flat))]), mask)
    return mask


@pytest.mark.parametrize("density", [0.4, 0.05, 0.02])
@pytest.mark.parametrize("schedule", ["exponential", "linear"])
def test_rounds(density: float, schedule: str) -> None:
    """The top of what is found is the mask that rounds over all weights end with."""
    found = synflow(Residual(), task(), density, iterations=9, schedule=schedule)  # type: ignore[arg-type]
    expected = naive(Residual(), density, 9, schedule == "linear")
    mask = select(found, Residual(), density)
    assert all(torch.equal(mask[name], expected[name]) for name in mask)


def test_order_of_elimination() -> None:
    """Scores grow with the round in which a weight fell: each round's mask is a top of them."""
    found = flatten(synflow(chain(), task(), 0.05, iterations=10).values)
    # the last cut is left to the harness
    left = [int((found >= done).sum()) for done in range(1, 10)]
    assert left == [round(0.05 ** (done / 10) * len(found)) for done in range(1, 10)]
    assert int((found >= 10).sum()) == left[-1]
    half = keep_top(synflow(chain(), task(), 0.05, iterations=10).values, left[4])
    expected = select(synflow(chain(), task(), 0.05**0.5, iterations=5), chain(), 0.05**0.5)
    assert all(torch.equal(half[name], expected[name]) for name in half)


def linear_chain(seed: int) -> nn.Sequential:
    """Four layers of 800, 1600, 800 and 200 weights."""
    torch.manual_seed(seed)
    sides = ((20, 40), (40, 40), (40, 20), (20, 10))
    net = nn.Sequential(*(nn.Linear(inside, out, bias=False) for inside, out in sides))
    for layer in net:
        nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]
    return nn.Sequential(nn.Flatten(), *net)


@pytest.mark.parametrize("seed", range(5))
def test_collapse(seed: int) -> None:
    """Of 3,400 weights 6 stay: after one round in fewer layers than four, after 100 in each."""
    net, density = linear_chain(seed), 6 / 3400
    once, often = (
        select(synflow(net, task(1, 1, 20), density, iterations=n), net, density) for n in (1, 100)
    )
    assert collapsed(once) and not collapsed(often)
    assert sum(layer_counts(once).values()) == sum(layer_counts(often).values()) == 6


def masks_agree(one: nn.Module, other: nn.Module, **options: object) -> bool:
    first = select(synflow(one, task(), 0.1, iterations=20), one, 0.1)
    found = synflow(other, task(seed=1), 0.1, iterations=20, **options)  # type: ignore[arg-type]
    return all(torch.equal(first[n], mask) for n, mask in select(found, other, 0.1).items())


def test_what_does_not_matter() -> None:
    """Data, labels, signs, the scale of a layer, biases and moved statistics change no mask."""
    other = chain()
    for name in ("1.bias", "5.bias"):
        nn.init.normal_(other.get_parameter(name))
    other(torch.randn(9, *SHAPE, dtype=torch.float64))
    with torch.no_grad():
        other.get_parameter("4.weight").mul_(-4)
    assert masks_agree(chain(), other)
    other.get_parameter("4.weight").data *= torch.rand_like(other.get_parameter("4.weight"))
    assert not masks_agree(chain(), other)


def test_precision() -> None:
    """float32 finds the mask of float64."""
    assert masks_agree(chain(), chain(), precision="float32")
    assert masks_agree(Residual(), Residual().float())


def test_signs_are_left_alone() -> None:
    """The network keeps the signs of its weights."""
    net = chain()
    synflow(net, task(), 0.1, iterations=3)
    assert all(
        torch.equal(a, b) for a, b in zip(net.parameters(), chain().parameters(), strict=True)
    )
    assert bool((net.get_parameter("0.weight") < 0).any())


def test_dead_weights_tie_at_zero() -> None:
    """Weights without flow all score 0, fall first, and never make a mask inexact."""
    dead = chain()
    with torch.no_grad():
        dead.get_parameter("9.weight")[1:] = 0
    for density in (0.5, 0.01):
        mask = select(synflow(dead, task(), density, iterations=7), dead, density)
        assert sum(layer_counts(mask).values()) == round(density * 441)
    assert not mask["11.weight"][:, 1:].any()


@pytest.mark.parametrize("rounds", [1, 7])
def test_dead_weights_are_counted_as_ties(rounds: int) -> None:
    """If weights without flow must be kept, a lot decides among all of them at once."""
    dead = chain()
    with torch.no_grad():
        dead.get_parameter("9.weight")[1:] = 0
    dead_count = int((flatten(flows(dead)[0]) == 0).sum())
    density = (441 - dead_count + 10) / 441
    found = synflow(dead, task(), density, iterations=rounds)
    mask = select(found, dead, density)
    assert count_ties(found, mask) == dead_count == int((flatten(found.values) == 0).sum())
    assert bool(flatten(mask)[flatten(flows(dead)[0]) > 0].all())


def test_without_any_flow_the_lot_decides_all() -> None:
    """If no weight has flow, the order has ties only."""
    zeros = torch.zeros(4, dtype=torch.float64)
    assert not prune_in_rounds(zeros + 1, lambda: [zeros], [3, 2]).any()


def test_the_last_cut_is_exact() -> None:
    """Scores that differ in the last bit of float64 are told apart at the last cut."""
    one = torch.ones(4, dtype=torch.float64)
    products = torch.tensor([1e-30, 1e-30 * (1 + 2**-52), 1.0, 1e-30], dtype=torch.float64)
    order = prune_in_rounds(one, lambda: [products], [4, 4, 2])
    assert order.tolist() == [3, 4, 5, 3]


def test_one_layer_is_magnitude() -> None:
    """In one round on a network of one layer, flow ranks by the absolute value."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(128, 4))
    flow, size = (
        select(finder, net, 0.1)
        for finder in (synflow(net, task(), 0.1, iterations=1), magnitude(net, task(), 0.1))
    )
    assert torch.equal(flow["1.weight"], size["1.weight"])


class Summed(Task):
    """A task whose loss is the sum of the outputs."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.sum()


@pytest.mark.parametrize("make", [chain, Residual])
def test_snip_of_the_sum(make: Callable[[], nn.Module]) -> None:
    """On absolute weights and ones, SNIP of the sum of the outputs is the flow."""
    ones = Summed.of(torch.ones(4, *SHAPE, dtype=torch.float64), torch.arange(4), classes=4)
    found = flatten(snip(positive(make()), ones, 0.1, mode="eval").values)
    scores = flatten(flows(make())[0])
    torch.testing.assert_close(found, scores / scores.sum(), rtol=1e-12, atol=0)


def test_overflow() -> None:
    """Flow beyond the largest number is an error that names the layer and the precision."""
    large = chain().float()
    with torch.no_grad():
        for place in (0, 4, 9, 11):
            large.get_parameter(f"{place}.weight").mul_(1e30)
    with pytest.raises(UserError, match=r"^the flow overflows float32 in 4 \(Conv2d\); use prec"):
        synflow(large, task(), 0.1, precision="float32")
    assert masks_agree(chain().float(), large)


@pytest.mark.parametrize(
    "norm",
    [
        nn.GroupNorm(1, 3),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.InstanceNorm2d(3, affine=True),
        nn.LayerNorm([3, 6, 6]),
        nn.RMSNorm([3, 6, 6], elementwise_affine=False),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_norms_of_the_input(norm: nn.Module) -> None:
    """A norm that takes its statistics from the input is linear: the order is as without it."""
    convolution, head = nn.Conv2d(2, 3, 3), nn.Linear(108, 4)
    net = nn.Sequential(convolution, norm, nn.ReLU(), nn.Flatten(), head).double()
    plain = nn.Sequential(convolution, nn.Identity(), nn.ReLU(), nn.Flatten(), head).double()
    found, expected = (synflow(each, task(), 0.1).values for each in (net, plain))
    for name, order in expected.items():
        torch.testing.assert_close(found[name], order)


def test_attention() -> None:
    """Where flow can fall with a weight the score is an absolute value, and none is negative."""
    block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, dtype=torch.float64)
    net = nn.Sequential(nn.Flatten(2), nn.Linear(64, 8).double(), block, nn.Flatten())
    values = synflow(net, task(), 0.1, iterations=3).values
    assert all(bool((score >= 0).all()) for score in values.values())


def test_iterations() -> None:
    """No rounds is no way to prune."""
    with pytest.raises(UserError, match="^iterations = 0 is out of range; give 1 or more$"):
        synflow(chain(), task(), 0.1, iterations=0)
