"""Training data in memory: images as one tensor on the device, from which batches are taken."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from paibench.methods.core import random_streams
from paibench.methods.training.recipe import Augmentation

Batch = tuple[Tensor, Tensor]
PADDING = 4  # pixels on each side before a random crop


class Split(Protocol):
    """Labelled images that can be read in any order, any number of times."""

    @property
    def classes(self) -> int: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def labels(self) -> Tensor: ...
    def __len__(self) -> int: ...
    def batches(
        self,
        indices: Tensor,
        size: int,
        *,
        augment: Augmentation = "none",
        generator: torch.Generator | None = None,
        skip: int = 0,
    ) -> Iterator[Batch]:
        """The images at `indices` (int64, on the CPU) in that order, `size` at a time.

        Yields normalised float inputs [b, c, h, w] and int64 labels [b] on the device. An
        augmentation draws from `generator`, on the CPU. The first `skip` batches are omitted,
        which does not change the others: that is how an interrupted epoch resumes.
        """
        ...


@dataclass(frozen=True)
class Images:
    """A split that is in memory as one tensor.

    `pixels` [n, c, h, w] is uint8, scaled to [0, 1] on use, or floating point; `labels` [n] is
    int64. `mean` and `std` (one number per channel) normalise the scaled pixels.
    """

    pixels: Tensor
    labels: Tensor
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> "Images":
        """Return the same images on another device."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def subset(self, indices: Tensor) -> "Images":
        """Return the images at `indices`, in that order."""
        indices = indices.to(self.labels.device)
        return replace(self, pixels=self.pixels[indices], labels=self.labels[indices])

    def batches(
        self,
        indices: Tensor,
        size: int,
        *,
        augment: Augmentation = "none",
        generator: torch.Generator | None = None,
        skip: int = 0,
    ) -> Iterator[Batch]:
        """See `Split.batches`."""
        indices = indices.to(self.labels.device)
        augmentation = None
        if augment != "none":
            augmentation = FlipsAndCrops.draw(augment, indices, generator)
        scale, shift = self._normalisation()
        for start in range(skip * size, len(indices), size):
            batch_indices = indices[start : start + size]
            pixels = self.pixels.index_select(0, batch_indices)
            if augmentation is not None:
                pixels = augmentation.apply(pixels, start)
            floats = pixels.to(scale.dtype, copy=True).mul_(scale).sub_(shift)
            yield floats, self.labels.index_select(0, batch_indices)

    def _normalisation(self) -> tuple[Tensor, Tensor]:
        """Return the factor of the pixels and the offset to subtract, each [1, c or 1, 1, 1]."""
        byte = self.pixels.dtype == torch.uint8
        number = torch.get_default_dtype() if byte else self.pixels.dtype
        device = self.pixels.device
        mean = torch.tensor(self.mean, device=device, dtype=number).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=device, dtype=number).view(1, -1, 1, 1)
        return 1 / ((255 if byte else 1) * std), mean / std


@dataclass(frozen=True)
class FlipsAndCrops:
    """The random flips and crops of one epoch, drawn at once so that devices agree."""

    flips: Tensor | None  # [n] bool
    offsets: Tensor | None  # [n, 2] int64, from 0 to 2 * PADDING

    @staticmethod
    def draw(
        augment: Augmentation, images: Tensor, generator: torch.Generator | None
    ) -> "FlipsAndCrops":
        """Draw flips and crops for each of `images` [n], onto its device."""
        # both are always drawn, so that recipes with and without flips have the same crops
        flips = torch.rand(len(images), generator=generator) < 0.5
        crops = torch.randint(0, 2 * PADDING + 1, (len(images), 2), generator=generator)
        return FlipsAndCrops(
            flips.to(images.device) if "flip" in augment else None,
            crops.to(images.device) if "crop" in augment else None,
        )

    def apply(self, pixels: Tensor, start: int) -> Tensor:
        """Return the augmented images [b, c, h, w], with the flips and crops from `start` on."""
        count, _, height, width = pixels.shape
        rows = torch.arange(height, device=pixels.device).expand(count, -1)
        columns = torch.arange(width, device=pixels.device).expand(count, -1)
        if self.flips is not None:
            flips = self.flips[start : start + count]
            columns = torch.where(flips[:, None], columns.flip(1), columns)
        if self.offsets is not None:
            offsets = self.offsets[start : start + count]
            pixels = torch.nn.functional.pad(pixels, (PADDING,) * 4)
            rows, columns = rows + offsets[:, :1], columns + offsets[:, 1:]
        padded_width = pixels.shape[-1]
        # one gather crops and flips all images at once, without a loop over images
        indices = (rows[:, :, None] * padded_width + columns[:, None, :]).view(count, 1, -1)
        flat = pixels.flatten(2)
        augmented = flat.gather(2, indices.expand(-1, flat.shape[1], -1))
        return augmented.view(count, -1, height, width)


def order(count: int, seed: int, epoch: int) -> Tensor:
    """Return the order of the training examples in an epoch: a permutation from the seed."""
    return torch.randperm(count, generator=random_streams.generator(seed, "order", epoch))
