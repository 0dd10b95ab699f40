"""A third-party data set: `paibench run --dataset stripes`."""

from pathlib import Path

import torch

from paibench.benchmark.data.dataset import DataSet, fingerprint
from paibench.methods import Images

CLASSES, SIDE = 4, 12


def stripes(
    root: Path | None, seed: int, *, noise: float = 1.0, validation: float = 0.0
) -> DataSet:
    """Grey stripes of four directions under noise: 2,000 images to train on and 500 to test.

    Each call generates the same images; a data set on disk would read them from the data folder
    `root`. `validation` holds out a fraction of the training images by the seed of the run.
    """
    draw = torch.Generator().manual_seed(12345)
    train, test = (_images(count, noise, draw) for count in (2_000, 500))
    parts = (Images(pixels, labels, CLASSES, (), ()) for pixels, labels in (train, test))
    whole = DataSet(f"stripes-{noise:g}", *parts, fingerprint(*train, *test))
    # normalised last, because images that are held out must not influence the training
    return whole.subset(examples=None, validation=validation, seed=seed).normalised()


def _images(count: int, noise: float, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels [n, 1, 12, 12] (uint8) and labels [n]."""
    labels = torch.arange(count) % CLASSES
    angles = labels * torch.pi / CLASSES
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    along = rows * angles.cos()[:, None, None] + columns * angles.sin()[:, None, None]
    phase = 2 * torch.pi * torch.rand(count, 1, 1, generator=draw)
    values = torch.sin(1.3 * along + phase) + noise * torch.randn(count, SIDE, SIDE, generator=draw)
    return (128 + 40 * values).clamp(0, 255).to(torch.uint8)[:, None], labels
