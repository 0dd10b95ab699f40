"""The arithmetic of masks: what is prunable, exact counts, and ties that a lot decides."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from paibench.methods.core.mask import (
    Mask,
    MaskHistory,
    apply,
    apportion,
    as_float,
    check_covers,
    collapsed,
    density,
    flatten,
    full,
    keep_top,
    keep_top_per_layer,
    kth_highest,
    layer_counts,
    num_kept,
    prunable,
    top,
    total,
    unflatten,
)
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.training.recipe import Recipe

quick = settings(max_examples=60, deadline=None, derandomize=True)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    )


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (net(), ["0.weight", "4.weight"]),
        (nn.Conv1d(1, 1, 1), ["weight"]),
        (nn.Conv3d(1, 1, 1, bias=False), ["weight"]),
        (nn.ConvTranspose2d(1, 1, 1), ["weight"]),
        (nn.MultiheadAttention(4, 2), ["in_proj_weight", "out_proj.weight"]),
        (
            nn.MultiheadAttention(4, 2, kdim=3),
            ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
        ),
        (nn.Sequential(nn.Embedding(3, 4), nn.LayerNorm(4), nn.PReLU(), nn.Bilinear(2, 2, 2)), []),
    ],
    ids=["conv and linear", "1d", "3d", "transposed", "attention", "three projections", "others"],
)
def test_prunable(module: nn.Module, names: list[str]) -> None:
    """Masks cover the weights of convolutions and linear maps, no bias and no norm."""
    assert list(prunable(module)) == names


def test_tied_weights_count_once() -> None:
    """A weight that two modules share is prunable under its first name."""
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert list(prunable(tied)) == ["0.weight"]


@pytest.mark.parametrize(
    ("wanted", "among", "kept"),
    [(1.0, 7, 7), (0.5, 5, 2), (0.5, 7, 4), (0.1, 268_336, 26_834), (1 / 3400, 3400, 1)],
)
def test_kept_at(wanted: float, among: int, kept: int) -> None:
    """A density keeps the nearest whole number of weights, halves to even."""
    assert num_kept(wanted, among) == kept


@pytest.mark.parametrize(
    ("wanted", "among", "message"),
    [
        (0.0, 10, r"density 0.0 is outside \(0, 1\]"),
        (-0.5, 10, r"density -0.5 is outside"),
        (1.01, 10, r"density 1.01 is outside"),
        (float("nan"), 10, "density nan is outside"),
        (0.01, 10, "density 0.01 keeps none of 10 weights; the smallest is 0.1$"),
        (0.5, 0, "the network has no prunable weights$"),
    ],
)
def test_kept_at_refuses(wanted: float, among: int, message: str) -> None:
    """A density outside (0, 1], or one that keeps no weight, is refused with the reason."""
    with pytest.raises(UserError, match=f"^{message}"):
        num_kept(wanted, among)


@given(
    scores=st.lists(st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0, float("inf"), -float("inf")])),
    data=st.data(),
)
@quick
def test_top(scores: list[float], data: st.DataObject) -> None:
    """Exactly `kept` entries are marked, no other is higher, and a higher count marks these too."""
    kept = data.draw(st.integers(0, len(scores)))
    seed = data.draw(st.integers(0, 2**31))
    flat = torch.tensor(scores, dtype=torch.float32)
    found = top(flat, kept, seed=seed)
    assert sorted(flat[found].tolist()) == sorted(scores)[len(scores) - kept :]
    assert found.equal(top(flat, kept, seed=seed))
    assert bool((found <= top(flat, min(kept + 1, len(scores)), seed=seed)).all())


TIED = torch.tensor([2.0, 1.0, 0.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0])


def test_a_lot_is_fair() -> None:
    """Over seeds, each of six tied entries is kept equally often, and each pair of them too."""
    kept = torch.stack([top(TIED, 5, seed=seed) for seed in range(3_000)]).double()
    assert kept[:, [0, 5]].all() and not kept[:, 2].any()
    places = [1, 3, 4, 6, 7, 8]
    assert (kept.mean(0)[places] - 3 / 6).abs().max() < 5 * (0.25 / 3_000) ** 0.5
    together = (kept.T @ kept / 3_000)[places][:, places]
    pairs = together[~torch.eye(6, dtype=torch.bool)]
    # of two tied entries both are kept with probability (3 / 6) * (2 / 5)
    assert (pairs - 0.2).abs().max() < 5 * (0.16 / 3_000) ** 0.5


def test_lots_of_rounds_are_fair() -> None:
    """Halved three times with one seed, each of eight tied entries is the last equally often."""
    last = torch.zeros(8)
    for seed in range(4_000):
        left = torch.ones(8)
        for count in (4, 2, 1):
            left = top(left, count, seed=seed).float()
        last += left
    assert (last - 500).abs().max() < 5 * (4_000 * 7 / 64) ** 0.5


def test_a_lot_is_drawn_only_for_a_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a tie at the threshold no random number is drawn."""
    monkeypatch.setattr("paibench.methods.core.mask.generator", None)
    for kept in (0, 1, 2, 8, 9):
        assert int(top(TIED, kept).sum()) == kept
    with pytest.raises(TypeError):
        top(TIED, 3)


def test_a_lot_takes_nothing_from_other_streams() -> None:
    """The global generator of torch, which methods may use, stays as it is."""
    state = torch.get_rng_state()
    top(TIED, 3)
    apportion({"a": 3, "b": 3}, {"a": 0.5, "b": 0.5}, 3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.cuda
def test_a_lot_is_the_same_on_a_gpu() -> None:
    """A GPU keeps the same of many tied entries as the CPU."""
    flat = torch.randint(0, 3, (1_000_000,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(top(flat.cuda(), 400_000, seed=5).cpu(), top(flat, 400_000, seed=5))


@pytest.mark.parametrize("names", ["abc", "cab", "xyz"])
def test_no_layer_is_preferred(names: str) -> None:
    """Of tied layers each keeps its share, whatever their names and their order."""
    sizes = dict(zip(names, (600, 300, 100), strict=True))
    for order in (list(names), list(reversed(names))):
        scores = {name: torch.zeros(sizes[name]) for name in order}
        counts = [layer_counts(keep_top(scores, 500, seed=seed)) for seed in range(200)]
        for name, size in sizes.items():
            mean = sum(count[name] for count in counts) / 200
            assert abs(mean - size / 2) < 5 * (size / 4 / 200) ** 0.5


def test_layers_have_lots_of_their_own() -> None:
    """Two layers with the same ties keep different ones of them."""
    scores = {"a": torch.zeros(100), "b": torch.zeros(100)}
    mask = keep_top_per_layer(scores, {"a": 50, "b": 50}, seed=1)
    assert 10 < int((mask["a"] & mask["b"]).sum()) < 40


@pytest.mark.parametrize("kept", [-1, 4])
def test_top_refuses_counts(kept: int) -> None:
    """A request for more weights than there are is refused."""
    with pytest.raises(ValueError, match=f"^cannot keep {kept} of 3 weights$"):
        top(torch.zeros(3), kept)


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_top_refuses_nan(kept: int) -> None:
    """A NaN score is an error."""
    with pytest.raises(ValueError, match="^1 of 3 scores are NaN$"):
        top(torch.tensor([1.0, float("nan"), 2.0]), kept)


VECTORS = {
    "random": lambda n, draw: torch.rand(n, generator=draw),
    "skewed": lambda n, draw: torch.rand(n, generator=draw) ** 40,
    "few values": lambda n, draw: torch.randint(0, 3, (n,), generator=draw).float(),
    "ascending": lambda n, draw: torch.arange(n, dtype=torch.float64),
    "periodic": lambda n, draw: torch.arange(n).remainder(8).float(),
    "one outlier": lambda n, draw: torch.arange(n).eq(1).float(),
}


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.6, 0.97, 1.0])
def test_long_vectors(name: str, part: float) -> None:
    """Over a million entries the k-th highest is the one that sorting finds, even where a
    sample misleads."""
    flat = VECTORS[name](1_100_000, torch.Generator().manual_seed(0))
    k = max(round(part * len(flat)), 1)
    assert kth_highest(flat, k) == flat.sort(descending=True).values[k - 1]


@given(
    layers=st.lists(st.tuples(st.integers(1, 300), st.floats(0, 1)), min_size=1, max_size=8),
    spare=st.integers(-3, 3),
)
@quick
def test_shares(layers: list[tuple[int, float]], spare: int) -> None:
    """Counts add up exactly, fit their layers, and differ from the quotas by at most one."""
    sizes = {str(place): size for place, (size, _) in enumerate(layers)}
    densities = {str(place): part for place, (_, part) in enumerate(layers)}
    asked = sum(densities[name] * size for name, size in sizes.items())
    kept = min(max(round(asked) + spare, 0), sum(sizes.values()))
    counts = apportion(sizes, densities, kept)
    assert sum(counts.values()) == kept
    assert all(0 <= counts[name] <= size for name, size in sizes.items())
    if kept == round(asked):
        assert all(abs(counts[name] - densities[name] * sizes[name]) <= 1 for name in sizes)


def test_shares_go_to_the_largest_remainders() -> None:
    """The shortfall of the floors goes to the largest remainders, and a lot breaks ties."""
    sizes = {"a": 10, "b": 10, "c": 10}
    assert apportion(sizes, {"a": 0.12, "b": 0.17, "c": 0.12}, 4) == {"a": 1, "b": 2, "c": 1}
    equal = dict.fromkeys(sizes, 0.15)
    counts = [apportion(sizes, equal, 4, seed=seed) for seed in range(600)]
    assert all(sorted(count.values()) == [1, 1, 2] for count in counts)
    for name in sizes:
        assert abs(sum(count[name] == 2 for count in counts) - 200) < 5 * (600 * 2 / 9) ** 0.5
    with pytest.raises(ValueError, match="^cannot keep 31 of 30 weights$"):
        apportion(sizes, dict.fromkeys(sizes, 1.0), 31)


def test_flatten_is_row_major() -> None:
    """Vectors are row-major whatever the memory layout, and unflatten to the same tensors."""
    tensors = {"a": torch.rand(2, 3, 4, 5), "b": torch.rand(3).requires_grad_()}
    tensors["c"] = tensors["a"].contiguous(memory_format=torch.channels_last)
    flat = flatten(tensors)
    assert torch.equal(flat[:120], flat[123:]) and not flat.requires_grad
    assert all(torch.equal(t, tensors[name]) for name, t in unflatten(flat, tensors).items())


SCORES = {"a": torch.tensor([[5.0, 1.0], [3.0, 3.0]]), "b": torch.tensor([4.0, 3.0, 0.0])}


def test_keep_top() -> None:
    """Layers compete: the two highest are in different ones."""
    assert listed(keep_top(SCORES, 2)) == {
        "a": [[True, False], [False, False]],
        "b": [True, False, False],
    }


def test_keep_top_per_layer() -> None:
    """Each layer keeps its own highest."""
    assert listed(keep_top_per_layer(SCORES, {"a": 3, "b": 0})) == {
        "a": [[True, False], [True, True]],
        "b": [False, False, False],
    }


def listed(mask: Mask) -> dict[str, object]:
    return {name: kept.tolist() for name, kept in mask.items()}


def test_reports_add_up() -> None:
    """Counts per layer add up to the density times the number of weights."""
    mask = keep_top(SCORES, 5)
    assert layer_counts(mask) == {"a": 3, "b": 2}
    assert (total(mask), density(mask), density(full(SCORES))) == (7, 5 / 7, 1.0)


@pytest.mark.parametrize(
    ("kept", "names"), [({"a": 2, "b": 0}, ["b"]), ({"a": 1, "b": 1}, []), ({"a": 0, "b": 0}, [])]
)
def test_collapsed(kept: dict[str, int], names: list[str]) -> None:
    """A layer has collapsed if it keeps no weight while another layer keeps some."""
    assert collapsed(keep_top_per_layer(SCORES, kept)) == names


def half(weights: Mapping[str, Tensor]) -> Mask:
    return keep_top({name: weight.abs() for name, weight in weights.items()}, total(weights) // 2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_apply(layout: torch.memory_format) -> None:
    """Pruned weights become 0, and nothing else changes, whatever the memory layout."""
    masked = net().to(memory_format=layout)
    mask = half(prunable(masked))
    apply(masked, mask)
    for name, parameter in net().named_parameters():
        kept = mask.get(name, torch.tensor(True))
        assert torch.equal(masked.get_parameter(name), parameter * kept)


def test_factors() -> None:
    """Factors have the type and the memory layout of their weights, and no gradient."""
    weights = prunable(net().half().to(memory_format=torch.channels_last))
    for factor, weight in zip(as_float(half(weights), weights), weights.values(), strict=True):
        assert (factor.dtype, factor.stride()) == (torch.float16, weight.stride())
        assert not factor.requires_grad


def test_pruned_weights_stay_zero() -> None:
    """After training with momentum and weight decay, pruned weights are exactly 0."""
    recipe = Recipe(epochs=2, batch=8, lr=0.1, momentum=0.9, weight_decay=0.1)
    task = Task.of(torch.rand(32, 1, 4, 4), torch.arange(32) % 3, classes=3, recipe=recipe)
    trained = net()
    mask = half(prunable(trained))
    task.fit(trained, mask=mask)
    for name, weight in prunable(trained).items():
        assert not weight[~mask[name]].any()
        assert bool((weight[mask[name]] != prunable(net())[name][mask[name]]).all())


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "nothing for the prunable weights '0.weight', '4.weight'"),
        ({"0.weight": torch.zeros(4, 1, 3, 3)}, "nothing for the prunable weights '4.weight'"),
        (
            {name: torch.zeros(1) for name in ("0.weight", "4.weight", "0.bias", "x", "y", "z")},
            "names that are no prunable weights: '0.bias', 'x', 'y' and 1 more",
        ),
        (
            {"0.weight": torch.zeros(4, 1, 3, 3), "4.weight": torch.zeros(16, 3)},
            r"4.weight has shape \(16, 3\), needed \(3, 16\)",
        ),
    ],
    ids=["nothing", "a layer is missing", "names too many", "a shape"],
)
def test_check_covers(found: dict[str, Tensor], message: str) -> None:
    """Tensors that do not cover exactly the prunable weights are refused with the difference."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_covers(found, prunable(net()))


def small(bits: list[bool]) -> Mask:
    flat = torch.tensor(bits)
    return {"a": flat[:3], "b": flat[3:].view(1, -1)}


@given(
    st.integers(4, 40).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=5)
    )
)
@settings(max_examples=60)
def test_distances(masks: list[list[bool]]) -> None:
    """The fraction of the weights that differ, to each earlier mask, the oldest first."""
    history = MaskHistory()
    for number, bits in enumerate(masks):
        row = history.add(small(bits))
        flat = flatten(small(bits))
        assert row == tuple(
            float((flat != flatten(small(earlier))).double().mean()) for earlier in masks[:number]
        )
        assert row == history.distances[number]


def test_equal_and_opposite_masks() -> None:
    """0 and 1; and the distance of two masks does not depend on their order."""
    history, other = MaskHistory(), MaskHistory()
    one, two = [True, False, True, False, False], [True, True, True, False, True]
    for bits in (one, one, [not bit for bit in one], two):
        history.add(small(bits))
    for bits in (two, one):
        other.add(small(bits))
    assert history.distances[1:3] == [(0.0,), (1.0, 1.0)]
    assert other.distances[1] == history.distances[3][:1] == (0.4,)
