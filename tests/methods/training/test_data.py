"""Training data in memory: order, batches, normalisation and augmentation."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paibench.methods.core.random_streams import generator
from paibench.methods.training.data import PADDING, Batch, FlipsAndCrops, Images, order
from paibench.methods.training.recipe import Augmentation

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def make_images(count: int = 23, channels: int = 3, height: int = 7, width: int = 5) -> Images:
    draw = torch.Generator().manual_seed(5)
    shape = (count, channels, height, width)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)
    return Images(pixels, torch.arange(count) % 4, 4, MEAN[:channels], STD[:channels])


def joined(batches: list[Batch]) -> Batch:
    return torch.cat([inputs for inputs, _ in batches]), torch.cat(
        [labels for _, labels in batches]
    )


def moved(image: Tensor, flip: bool, down: int, right: int) -> Tensor:
    """One image [c, h, w] cropped out of its padded self and mirrored, pixel by pixel."""
    channels, height, width = image.shape
    result = torch.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                column = width - 1 - x if flip else x
                source_y, source_x = y + down - PADDING, column + right - PADDING
                if 0 <= source_y < height and 0 <= source_x < width:
                    result[c, y, x] = image[c, source_y, source_x]
    return result


def test_normalisation() -> None:
    """Bytes are scaled to [0, 1], then normalised channel by channel."""
    images = make_images()
    inputs, labels = joined(list(images.batches(torch.arange(23), 10)))
    expected = torch.stack(
        [(images.pixels[:, c].double() / 255 - MEAN[c]) / STD[c] for c in range(3)], dim=1
    )
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(labels, images.labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_floating_point_is_not_scaled(dtype: torch.dtype) -> None:
    """Floating-point inputs keep their type and, with mean 0 and deviation 1, their bits."""
    pixels = torch.randn(6, 1, 1, 9, dtype=dtype, generator=torch.Generator().manual_seed(1))
    images = Images(pixels, torch.zeros(6, dtype=torch.int64), 2, (0.0,), (1.0,))
    ((inputs, _),) = images.batches(torch.arange(6), 6)
    assert inputs.dtype == dtype
    assert torch.equal(inputs, pixels)
    inputs.zero_()
    assert bool(images.pixels.any())


@pytest.mark.parametrize(("size", "sizes"), [(23, [23]), (10, [10, 10, 3]), (100, [23])])
def test_batches_follow_the_indices(size: int, sizes: list[int]) -> None:
    """Images come in the order asked for, `size` at a time, the last batch shorter."""
    images, indices = make_images(), order(23, 0, 0)
    batches = list(images.batches(indices, size))
    assert [len(labels) for _, labels in batches] == sizes
    inputs, labels = joined(batches)
    assert torch.equal(labels, images.labels[indices])
    assert torch.equal(inputs, joined(list(images.batches(torch.arange(23), 9)))[0][indices])


@given(
    count=st.integers(1, 6),
    channels=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    augment=st.sampled_from(["flip", "crop", "crop-flip"]),
    seed=st.integers(0, 99),
)
@settings(derandomize=True, max_examples=25, deadline=None)
def test_moves(
    count: int, channels: int, height: int, width: int, augment: Augmentation, seed: int
) -> None:
    """Flips and crops are those of a slow loop over pixels, whatever the shape."""
    images = make_images(count, channels, height, width)
    moves = FlipsAndCrops.draw(augment, torch.arange(count), generator(seed))
    assert (moves.flips is None, moves.offsets is None) == (
        "flip" not in augment,
        "crop" not in augment,
    )
    flips = [False] * count if moves.flips is None else moves.flips.tolist()
    offsets = [[PADDING] * 2] * count if moves.offsets is None else moves.offsets.tolist()
    expected = [
        moved(image, flip, *offset)
        for image, flip, offset in zip(images.pixels, flips, offsets, strict=True)
    ]
    assert torch.equal(moves.apply(images.pixels, 0), torch.stack(expected))


def test_moves_are_uniform() -> None:
    """Half of the images are mirrored, and each of the 81 crops is as likely as another."""
    moves = FlipsAndCrops.draw("crop-flip", torch.arange(81_000), generator(0))
    assert moves.flips is not None and moves.offsets is not None
    assert abs(float(moves.flips.double().mean()) - 0.5) < 0.01
    places = moves.offsets[:, 0] * (2 * PADDING + 1) + moves.offsets[:, 1]
    counts = places.bincount(minlength=81).double()
    assert len(counts) == 81
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 130  # chi-squared, 80 degrees: p = 0.0003


@pytest.mark.parametrize("augment", get_args(Augmentation))
@pytest.mark.parametrize("skip", [1, 2, 3, 4])
def test_skipping(augment: Augmentation, skip: int) -> None:
    """Batches after a skip have the same bits as without it."""
    images, indices = make_images(), order(23, 0, 0)

    def batches(skip: int) -> list[Batch]:
        draw = generator(0, "augment")
        return list(images.batches(indices, 6, augment=augment, generator=draw, skip=skip))

    for (inputs, labels), (expected, same) in zip(batches(skip), batches(0)[skip:], strict=True):
        assert torch.equal(inputs, expected)
        assert torch.equal(labels, same)


def test_a_crop_shows_black_at_the_border() -> None:
    """Padding is pixels of value 0, normalised like all pixels."""
    white = torch.full((64, 1, 8, 8), 255, dtype=torch.uint8)
    images = Images(white, torch.zeros(64, dtype=torch.int64), 2, (0.5,), (0.25,))
    ((inputs, _),) = images.batches(torch.arange(64), 64, augment="crop", generator=generator(0))
    assert set(inputs.flatten().tolist()) == {-2.0, 2.0}


@given(count=st.integers(1, 300), seed=st.integers(0, 9), epoch=st.integers(0, 9))
@settings(derandomize=True, max_examples=20)
def test_order(count: int, seed: int, epoch: int) -> None:
    """The order is a permutation that seed and epoch fix."""
    indices = order(count, seed, epoch)
    assert sorted(indices.tolist()) == list(range(count))
    assert torch.equal(indices, order(count, seed, epoch))


def test_orders_differ() -> None:
    """Another seed or another epoch is another order."""
    orders = {tuple(order(50, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_subset_and_shape() -> None:
    """A subset has the images at its indices and the same other fields."""
    images = make_images()
    part = images.subset(torch.tensor([5, 2, 2]))
    assert (len(part), part.classes, part.mean) == (3, 4, MEAN)
    assert part.shape == images.shape == (3, 7, 5)
    assert torch.equal(part.pixels, images.pixels[[5, 2, 2]])
    assert part.labels.tolist() == [1, 2, 2]
    there = images.to("cpu")
    assert torch.equal(there.pixels, images.pixels)
