"""Training data lent to another process: what arrives is equal, and what is evaluated stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from paibench.benchmark.data.constants import Moments
from paibench.benchmark.data.dataset import DataSet, load
from paibench.benchmark.data.image_folder import listed
from paibench.benchmark.data.streaming import Stream
from paibench.benchmark.sandbox.shared_data import attach, share
from paibench.methods.core.registry import UserError
from paibench.methods.training.data import Batch, Images

CPU = torch.device("cpu")
KNOWN: Moments = ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))


def batches(split: Images | Stream) -> list[Batch]:
    order = torch.tensor([3, 1, 2, 0])
    draw = torch.Generator().manual_seed(0)
    return list(split.batches(order, 3, augment="crop-flip", generator=draw))


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))


def of(train: Images | Stream, evaluation: str = "test") -> DataSet:
    test = Images(torch.zeros(2, 1, 4, 4), torch.zeros(2).long(), 3, (0.0,), (1.0,))
    return DataSet("toy", train, test, "f" * 64, evaluation)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_images(dtype: torch.dtype) -> None:
    """Every batch is that of the original, bit for bit."""
    pixels = torch.randint(0, 256, (4, 3, 8, 8)).to(dtype)
    train = Images(pixels, torch.tensor([0, 2, 1, 2]), 3, *KNOWN)
    loan = share(of(train))
    there = attach(loan.descriptor, loan.about, CPU)
    assert isinstance(there, Images)
    assert (there.classes, there.mean, there.std) == (3, *KNOWN)
    assert same(batches(train), batches(there))


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    """Four image files of two classes."""
    for number, label in enumerate(("cat", "cat", "dog", "dog")):
        folder = tmp_path / "set" / "train" / label
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 260), (number * 60, 9, 9)).save(folder / f"{number}.png")
    return Stream.of("toy", listed("toy", tmp_path / "set", "train"), KNOWN)


def test_a_stream(stream: Stream) -> None:
    """Files that are read as it goes are the same files, and only their folders are told."""
    loan = share(of(stream))
    there = attach(loan.descriptor, loan.about, CPU)
    assert isinstance(there, Stream)
    assert same(batches(stream), batches(there))
    home = Path(stream.folder) / "train"
    assert loan.folders == (home / "cat", home / "dog")


def test_held_out_images_among_the_others(stream: Stream) -> None:
    """What is read from the folders of the training images is not lent where others lie there."""
    with pytest.raises(UserError, match="its held-out images lie among the training images"):
        share(of(stream, "validation"))


def test_a_split_that_only_its_own_data_set_knows() -> None:
    """It is refused with its type."""

    class Odd(Images):
        """A kind of its own, to whoever asks for the name."""

    odd: object = type("Odd", (), {"classes": 3, "mean": (0.0,), "std": (1.0,)})()
    with pytest.raises(UserError, match="have the type Odd"):
        share(of(odd))  # type: ignore[arg-type]


def test_the_test_set_is_not_in_it() -> None:
    """A loan is as large as pixels and labels of the training split, with or without held-out."""
    for options in ({}, {"validation": 0.2}):
        data = load("digits", options, None, "cpu", 0)
        loan = share(data)
        assert os.fstat(loan.descriptor).st_size == len(data.train) * (64 + 8)


def test_one_copy_for_runs_in_a_row() -> None:
    """The same split is lent again without a copy, another one takes its place."""
    data, other = (load("digits", {}, None, "cpu", 0) for _ in range(2))
    files = len(os.listdir("/proc/self/fd"))
    first = share(data)
    assert share(data) is first
    assert share(other) is not first
    assert len(os.listdir("/proc/self/fd")) <= files + 1


def test_a_borrower_changes_nothing() -> None:
    """What it writes to its tensors it sees alone, and it cannot write to the file."""
    data = load("digits", {}, None, "cpu", 0)
    loan = share(data)
    borrower = attach(loan.descriptor, loan.about, CPU)
    assert isinstance(borrower, Images)
    borrower.pixels.zero_()
    another = attach(loan.descriptor, loan.about, CPU)
    assert isinstance(data.train, Images)
    assert isinstance(another, Images)
    assert torch.equal(another.pixels, data.train.pixels)
    code = f"import os; os.pwrite({loan.descriptor}, b'x', 0)"
    done = subprocess.run(
        [sys.executable, "-c", code], pass_fds=[loan.descriptor], capture_output=True, text=True
    )
    assert "PermissionError" in done.stderr
