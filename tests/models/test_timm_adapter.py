"""timm's networks as models."""

import pytest
import timm
import torch

from paibench.methods.core.mask import prunable
from paibench.models.core.build import Option, build
from paibench.models.timm_adapter import accepted, timm_factory

VIT = "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        pytest.param("resnet10t", (3, 32, 32), {}, id="residual"),
        pytest.param("resnet10t", (1, 28, 28), {"drop_rate": 0.1}, id="one channel"),
        pytest.param("test_mambaout", (3, 32, 32), {}, id="entry point without annotation"),
        pytest.param(VIT, (3, 32, 32), {"patch_size": 4, "depth": 2}, id="transformer"),
        pytest.param(VIT, (3, 16, 32), {"depth": 1}, id="rectangle"),
    ],
)
def test_logits(name: str, shape: tuple[int, int, int], options: dict[str, Option]) -> None:
    """Networks are built for the shape, in train mode, and give one finite row per image."""
    net = build(timm_factory(name), shape, 10, options=options, init="kaiming_normal", seed=0)
    assert net.training
    assert prunable(net)
    logits = net(torch.rand(4, *shape))
    assert logits.shape == (4, 10)
    assert logits.isfinite().all()


def test_vit_tokens() -> None:
    """Patches of 4 cut 32x32 pixels into 64 tokens; with the class token there are 65 positions."""
    net = timm_factory(VIT)((3, 32, 32), 10, patch_size=4, depth=1)
    assert net.get_parameter("pos_embed").shape == (1, 65, 192)


def test_same_network_as_timms() -> None:
    """The adapter gives timm's own network, down to the bits of its native initialization."""
    torch.manual_seed(0)
    ours = timm_factory("resnet10t")((3, 32, 32), 10).state_dict()
    torch.manual_seed(0)
    theirs = timm.create_model("resnet10t", num_classes=10).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", ["resnet10", "hf-hub:timm/resnet18", "", "nothing like it"])
def test_unknown_network(name: str) -> None:
    """A name that timm does not list is refused in one line, before anything is loaded."""
    with pytest.raises(ValueError, match="^timm has no network '.*'; [^\n]+$"):
        timm_factory(name)


def test_nearest_network() -> None:
    """A misspelt name meets the nearest ones."""
    with pytest.raises(ValueError, match="did you mean vit_tiny_patch16_224 or "):
        timm_factory("vit_tiny_patch16_22")


@pytest.mark.parametrize("option", ["patch_siz", "features_only", "pretrained", "num_classes"])
def test_unknown_option(option: str) -> None:
    """An option that the constructor does not name is refused, even where timm would drop it."""
    message = f"^timm:{VIT} has no option '{option}'; (did you mean|known:) "
    with pytest.raises(ValueError, match=message):
        timm_factory(VIT)((3, 32, 32), 10, **{option: 1})


def test_inherited_options() -> None:
    """Options of a parent class are accepted if the class passes them on."""
    assert set(accepted("deit_tiny_distilled_patch16_224")) >= {"patch_size", "drop_rate"}


@pytest.mark.parametrize(
    ("shape", "options", "reason"),
    [
        pytest.param((1, 8, 8), {"patch_size": 16}, "", id="patch exceeds the image"),
        pytest.param((3, 32, 32), {"num_heads": 5}, "divisible", id="bad value"),
        pytest.param((3, 32, 32), {"global_pool": ""}, "shape", id="no classifier output"),
    ],
)
def test_unbuildable(shape: tuple[int, int, int], options: dict[str, Option], reason: str) -> None:
    """A network that timm cannot build, or would build wrongly, is refused with the reason."""
    with pytest.raises(ValueError, match=f"^timm:{VIT} cannot be built for [^\n]*{reason}[^\n]*$"):
        timm_factory(VIT)(shape, 10, **options)
