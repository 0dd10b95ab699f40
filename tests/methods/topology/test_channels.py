"""Whole channels: which can be removed, the mask, and the smaller network."""

import copy

import pytest
import torch
from torch import Tensor, nn

from paibench.methods.conformance.networks import SHAPE, network
from paibench.methods.core.mask import Mask, apply, full, layer_counts, prunable, total
from paibench.methods.core.registry import UserError, get
from paibench.methods.core.ticket import Channels, removed_channels, select
from paibench.methods.topology.channels import channels_of, layers_of, smaller


class Net(nn.Module):
    """Two convolutions with norms, one of them in a branch, and a flattened image."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.b, self.norm_b = nn.Conv2d(5, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.c, self.norm_c = nn.Linear(36, 6), nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm_a(self.a(x)))
        x = nn.functional.max_pool2d(torch.relu(self.norm_b(self.b(x))), 2).flatten(1)
        logits: Tensor = self.head(torch.relu(self.norm_c(self.c(x))))
        return logits


def drawn(seed: int = 0) -> Net:
    """A network with random scales, shifts and statistics of norms."""
    torch.manual_seed(seed)
    net = Net().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean):
                    assert tensor is not None
                    tensor.normal_()
                assert module.running_var is not None
                module.running_var.uniform_(0.5, 2)
    return net


def channels(net: nn.Module, shape: tuple[int, ...] = SHAPE) -> Channels:
    layers = layers_of(net, shape)
    return channels_of(layers, {each.scale: net.get_parameter(each.scale) for each in layers})


def by_hand(net: Net, removed: dict[str, list[int]]) -> Mask:
    mask = full(prunable(net))
    for channel in removed.get("a", []):
        mask["a.weight"][channel] = False
        mask["b.weight"][:, channel] = False
    for channel in removed.get("b", []):
        mask["b.weight"][channel] = False
        mask["c.weight"][:, 9 * channel : 9 * channel + 9] = False
    for channel in removed.get("c", []):
        mask["c.weight"][channel] = False
        mask["head.weight"][:, channel] = False
    return mask


def test_layers() -> None:
    """Rows, columns and the norm of each layer; a flattened channel has several columns."""
    found = [(each.weight, each.scale, each.next) for each in layers_of(drawn(), SHAPE)]
    assert found == [
        ("a.weight", "norm_a.weight", (("b.weight", 1),)),
        ("b.weight", "norm_b.weight", (("c.weight", 9),)),
        ("c.weight", "norm_c.weight", (("head.weight", 1),)),
    ]


def test_what_stays_whole() -> None:
    """Channels that are added to others, in groups, without a norm, or of a tied weight."""
    assert layers_of(network("batch-norm"), SHAPE) == []
    assert layers_of(network("plain"), SHAPE) == []
    assert layers_of(network("tied"), SHAPE) == []
    assert layers_of(network("transformer"), SHAPE) == []
    resnet = get("resnet-20", "models")((3, 8, 8), 10)
    names = [each.weight for each in layers_of(resnet, (3, 8, 8))]
    assert len(names) == 9  # the first convolution of each block
    vgg = get("vgg-11", "models")((3, 32, 32), 10, width=0.125)
    assert len(layers_of(vgg, (3, 32, 32))) == 8


@pytest.mark.parametrize("density", [0.08, 0.1, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("invert", [False, True])
def test_the_largest_set_within_the_density(density: float, invert: bool) -> None:
    """Channels go in the order of their scores, one by one, until the weights are few enough."""
    net = drawn()
    scales = {"a": net.norm_a.weight, "b": net.norm_b.weight, "c": net.norm_c.weight}
    sign = -1 if invert else 1
    order = sorted(
        (sign * float(value), layer, channel)
        for layer, scale in scales.items()
        for channel, value in enumerate(scale.tolist())
    )
    last = {layer: max(each for each in order if each[1] == layer) for layer in scales}
    removed: dict[str, list[int]] = {}
    queue = [each for each in order if each not in last.values()]
    while sum(layer_counts(by_hand(net, removed)).values()) > round(density * total(prunable(net))):
        _, layer, channel = queue.pop(0)
        removed.setdefault(layer, []).append(channel)
    mask = select(channels(net), net, density, invert=invert)
    expected = by_hand(net, removed)
    assert all(torch.equal(mask[name], expected[name]) for name in expected)


def test_too_sparse_for_whole_channels() -> None:
    """One channel of each layer has so many weights."""
    net = drawn()
    least = sum(
        layer_counts(
            by_hand(net, {"a": [1, 2, 3, 4], "b": [1, 2, 3], "c": [*range(1, 6)]})
        ).values()
    )
    with pytest.raises(UserError, match=f"whole channels keep at least {least} weights, and the"):
        select(channels(net), net, 0.02)


def test_many_channels() -> None:
    """The order of 200,000 channels needs no pass over all of them for each."""
    count = 200_000
    weights = {"w": torch.empty(count, 1, device="meta")}
    given = Channels(torch.rand(count), torch.zeros(count).long(), {"w": torch.arange(count)}, {})
    removed = removed_channels(given, weights, 1000)
    assert int((~removed).sum()) == 1000
    assert float(given.scores[~removed].min()) > float(given.scores[removed].max())


def test_equal_scores_are_kept_by_a_lot() -> None:
    """Over seeds, each of several equal channels is removed as often as others."""
    net = drawn()
    with torch.no_grad():
        net.norm_a.weight.fill_(-9.0)
    given = channels(net)
    removed = torch.stack(
        [removed_channels(given, prunable(net), 420, seed=seed)[:5] for seed in range(60)]
    )
    share = removed.double().mean(0)
    assert bool((removed.sum(1) < 5).all())
    assert float(share.min()) > 0 and float(share.max() - share.min()) < 0.4


@pytest.mark.parametrize("density", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("training", [False, True])
def test_the_smaller_network(density: float, training: bool) -> None:
    """Its outputs are those of the masked network, in evaluation and in training."""
    net = drawn(3)
    mask = select(channels(net), net, density)
    small = smaller(net, mask, SHAPE).train(training)
    masked = copy.deepcopy(net).train(training)
    apply(masked, mask)
    x = torch.randn(7, *SHAPE)
    torch.testing.assert_close(small(x), masked(x), atol=1e-5, rtol=1e-5)
    assert total(prunable(small)) == sum(layer_counts(mask).values())
    assert net.a.out_channels == 5  # the given network is as it was


def test_the_check_sees_a_wrong_column() -> None:
    """A smaller network without another column has other outputs."""
    net = drawn(3)
    mask = select(channels(net), net, 0.4)
    small = smaller(net, mask, SHAPE)
    with torch.no_grad():
        first = next(iter(prunable(small).values()))
        first.copy_(first.roll(1, 0))
    apply(net, mask)
    x = torch.randn(7, *SHAPE)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(small(x), net(x), atol=1e-5, rtol=1e-5)


def test_vgg() -> None:
    """A network of the suite, with the multiply-adds of the channels that stay."""
    net = get("vgg-11", "models")((3, 32, 32), 10, width=0.125).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.0)
    mask = select(channels(net, (3, 32, 32)), net, 0.2)
    small = smaller(net, mask, (3, 32, 32))
    apply(net, mask)
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(small(x), net(x), atol=1e-5, rtol=1e-5)
    assert total(prunable(small)) <= 0.2 * total(prunable(net))


def test_a_mask_of_single_weights() -> None:
    """Only channels whose outputs nobody uses are removed; the rest is 0 where it is pruned."""
    net = drawn(1)
    mask = {name: torch.rand(weight.shape) < 0.5 for name, weight in prunable(net).items()}
    mask["b.weight"][:, 2] = False
    small = smaller(net, mask, SHAPE)
    apply(net, mask)
    x = torch.randn(7, *SHAPE)
    torch.testing.assert_close(small(x), net(x), atol=1e-5, rtol=1e-5)
    assert prunable(small)["a.weight"].shape == (4, 2, 3, 3)


def test_a_layer_without_channels() -> None:
    """It would be no network."""
    net = drawn()
    mask = full(prunable(net))
    mask["b.weight"].fill_(False)
    with pytest.raises(UserError, match=r"the mask keeps no channel of a\.weight"):
        smaller(net, mask, SHAPE)
