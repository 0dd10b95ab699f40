"""A split too large for memory: image files that worker processes decode as they are asked for."""

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

SIDE = 224  # pixels: what networks see
SHORTER_SIDE = 256  # what that is cut from where nothing is augmented
MOST_WORKERS = 16


@dataclass(frozen=True)
class Stream:
    """Image files on disk as a split; see `Split`.

    An image is scaled so that its shorter side has 256 pixels, and the 224x224 at its centre
    are taken. Of the augmentations, "crop" takes a random part of 8 to 100 % of the image and
    scales it to 224x224, "flip" mirrors every other image. The random choices of an image are
    drawn from a seed of its own, so that the number of workers changes nothing.
    """

    name: str
    folder: str
    files: NDArray[np.bytes_]  # a list of a million strings would be copied by every worker
    labels: Tensor
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device = torch.device("cpu")

    @staticmethod
    def of(name: str, listing: Listing, known: Moments) -> "Stream":
        """The files of a listing, normalised by known means and standard deviations."""
        files = np.array([os.fsencode(file) for file in listing.files])
        labels = torch.tensor(listing.labels)
        return Stream(name, str(listing.folder), files, labels, len(listing.classes), *known)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return 3, SIDE, SIDE

    def to(self, device: torch.device | str) -> "Stream":
        """The same split, whose batches arrive on another device."""
        return replace(self, device=torch.device(device))

    def subset(self, indices: Tensor) -> "Stream":
        """The images at `indices`, in that order."""
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
        asked = indices[skip * size :]
        files = _Files(
            self.name, self.folder, self.files[asked.numpy()], _transform(augment), seeds
        )
        loader = DataLoader(
            files,
            batch_size=size,
            num_workers=_workers(len(asked), size),
            collate_fn=_stack,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else the loader would draw from the global one
        )
        labels = self.labels[asked]
        for start, pixels in zip(range(0, len(asked), size), loader, strict=True):
            if isinstance(pixels, str):
                raise UserError(pixels)
            here = Images(pixels, labels[start : start + size], self.classes, self.mean, self.std)
            yield from here.to(self.device).batches(torch.arange(len(here)), len(here))


@dataclass(frozen=True)
class _Files(Dataset[Tensor | str]):
    """What a worker decodes: an image [3, h, w], or one line that says why it could not."""

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
        except UserError as error:  # raised here it would arrive as a page of traceback
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
    complaints = [image for image in images if isinstance(image, str)]
    if complaints:
        return complaints[0]
    return torch.stack([image for image in images if isinstance(image, Tensor)])


def _workers(count: int, size: int) -> int:
    """As many as this process has cores for, and none where there is a single batch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return 0 if count <= size else min(cores or 1, MOST_WORKERS)
