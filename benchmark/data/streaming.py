"""A split that is too large for memory: worker processes decode image files on demand."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from paibench.benchmark.data.constants import Moments
from paibench.benchmark.data.image_cache import rgb
from paibench.benchmark.data.image_folder import Listing
from paibench.methods.core.registry import UserError
from paibench.methods.training.data import Batch, Images
from paibench.methods.training.recipe import Augmentation

SIDE = 224  # pixels of the input of a network
SHORTER_SIDE = 256  # pixels of the image that it is cropped from without augmentation
MOST_WORKERS = 16


@dataclass(frozen=True)
class Stream:
    """Image files on disk as a split; see `Split`.

    An image is scaled so that its shorter side has 256 pixels, and cropped to 224x224 at its
    centre. The augmentation "crop" takes a random part of 8 to 100 % of the image and scales it
    to 224x224; "flip" mirrors half of the images. Every image has its own random seed, so the
    number of workers does not affect the result.
    """

    name: str
    folder: str
    files: NDArray[np.bytes_]  # every worker would copy a list of a million strings
    labels: Tensor
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device = torch.device("cpu")

    @staticmethod
    def of(name: str, listing: Listing, pixel_moments: Moments) -> "Stream":
        """Return the files of a listing, normalised by these means and standard deviations."""
        files = np.array([os.fsencode(file) for file in listing.files])
        labels = torch.tensor(listing.labels)
        return Stream(
            name, str(listing.folder), files, labels, len(listing.classes), *pixel_moments
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return 3, SIDE, SIDE

    def to(self, device: torch.device | str) -> "Stream":
        """Return the split with batches on another device."""
        return replace(self, device=torch.device(device))

    def subset(self, indices: Tensor) -> "Stream":
        """Return the images at `indices`, in that order."""
        return replace(self, files=self.files[indices.numpy()], labels=self.labels[indices])

    def batches(
        self,
        indices: Tensor,
        size: int,
        *,
        augment: Augmentation = "none",
        generator: torch.Generator | None = None,
        skip: int = 0,
    ) -> Iterator[Batch]:
        """See `Split.batches`; raises UserError that names a file that cannot be decoded."""
        seeds = None
        if augment != "none":
            seeds = torch.randint(2**62, (len(indices),), generator=generator)[skip * size :]
        remaining = indices[skip * size :]
        files = _Files(
            self.name, self.folder, self.files[remaining.numpy()], _transform(augment), seeds
        )
        loader = DataLoader(
            files,
            batch_size=size,
            num_workers=_workers(len(remaining), size),
            collate_fn=_stack,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # without it, the loader draws from the global one
        )
        labels = self.labels[remaining]
        for start, pixels in zip(range(0, len(remaining), size), loader, strict=True):
            if isinstance(pixels, str):
                raise UserError(pixels)
            batch = Images(pixels, labels[start : start + size], self.classes, self.mean, self.std)
            yield from batch.to(self.device).batches(torch.arange(len(batch)), len(batch))


@dataclass(frozen=True)
class _Files(Dataset[Tensor | str]):
    """The items that workers decode: an image [3, h, w], or the error in one line."""

    name: str
    folder: str
    files: NDArray[np.bytes_]
    transform: Callable[[Image.Image], Tensor]
    seeds: Tensor | None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor | str:
        path = os.path.join(self.folder, os.fsdecode(self.files[index]))
        try:
            image, _ = rgb(self.name, path)
        except UserError as error:  # a raised error would arrive as a page of traceback
            return str(error)
        with torch.random.fork_rng(devices=[]):
            if self.seeds is not None:
                torch.default_generator.manual_seed(int(self.seeds[index]))
            return self.transform(image)


def _transform(augment: Augmentation) -> Callable[[Image.Image], Tensor]:
    """Return the transform from an image file's content to the pixels of an input."""
    # torchvision takes longer to import than torch: every process would wait, and few use it
    from torchvision import transforms

    whole = [transforms.Resize(SHORTER_SIDE), transforms.CenterCrop(SIDE)]
    steps = [transforms.RandomResizedCrop(SIDE)] if "crop" in augment else whole
    steps += [transforms.RandomHorizontalFlip()] if "flip" in augment else []
    transform: Callable[[Image.Image], Tensor] = transforms.Compose(
        [*steps, transforms.PILToTensor()]
    )
    return transform


def _stack(images: Sequence[Tensor | str]) -> Tensor | str:
    errors = [image for image in images if isinstance(image, str)]
    if errors:
        return errors[0]
    return torch.stack([image for image in images if isinstance(image, Tensor)])


def _workers(count: int, size: int) -> int:
    """Return the number of workers: one per core of this process, none for a single batch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return 0 if count <= size else min(cores or 1, MOST_WORKERS)
