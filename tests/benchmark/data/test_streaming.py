"""A stream of image files gives what the files hold, the same for any number of workers."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from paibench.benchmark.data import streaming
from paibench.benchmark.data.image_folder import Listing
from paibench.benchmark.data.streaming import Stream
from paibench.methods.core.random_streams import generator
from paibench.methods.core.registry import UserError
from paibench.methods.training.recipe import Augmentation

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    """Six pictures of 256x256 whose red is 40 times their number, of noise otherwise."""
    files = []
    for number in range(6):
        values = np.random.default_rng(number).integers(0, 256, (256, 256, 3), np.uint8)
        values[:, :, 0] = 40 * number
        files.append(f"{number}.png")
        Image.fromarray(values).save(tmp_path / files[-1], compress_level=0)
    listing = Listing(tmp_path, tuple(files), (0, 1, 2, 0, 1, 2), ("a", "b", "c"))
    return Stream.of("toy", listing, (MEAN, STD))


def all_of(stream: Stream, augment: Augmentation = "none", skip: int = 0) -> list[Tensor]:
    indices = torch.tensor([5, 0, 3, 1, 4])
    batches = stream.batches(indices, 2, augment=augment, generator=generator(7), skip=skip)
    return [inputs for inputs, _ in batches]


def test_a_stream_is_a_split(stream: Stream) -> None:
    """It knows its length, shape, labels and classes, and gives all images in the order asked."""
    assert (len(stream), stream.classes, stream.shape) == (6, 3, (3, 224, 224))
    batches = list(stream.batches(torch.tensor([5, 0, 3, 1, 4]), 2))
    assert [tuple(inputs.shape) for inputs, _ in batches] == [(n, 3, 224, 224) for n in (2, 2, 1)]
    assert torch.cat([labels for _, labels in batches]).tolist() == [2, 0, 0, 1, 1]
    red = torch.cat([inputs for inputs, _ in batches])[:, 0, 0, 0] * STD[0] + MEAN[0]
    assert (red * 255).round().int().tolist() == [200, 0, 120, 40, 160]


def test_without_augmentation_the_centre_is_taken(stream: Stream, tmp_path: Path) -> None:
    """A picture whose shorter side is 256 is cut to the 224x224 at its centre and normalised."""
    inputs, _ = next(stream.batches(torch.tensor([3]), 1))
    pixels = np.asarray(Image.open(tmp_path / "3.png"))[16:240, 16:240].astype(np.float32) / 255
    expected = torch.from_numpy((pixels - MEAN) / STD).float().permute(2, 0, 1)
    torch.testing.assert_close(inputs[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_workers_change_nothing(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, augment: Augmentation
) -> None:
    """One worker, two or none give the same bits."""
    found = []
    for workers in (0, 1, 2):
        monkeypatch.setattr(streaming, "_workers", lambda count, size, n=workers: n)
        found.append(torch.cat(all_of(stream, augment)))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in this process: quicker for six pictures."""
    monkeypatch.setattr(streaming, "_workers", lambda count, size: 0)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("augment", ["none", "flip", "crop", "crop-flip"])
def test_skipped_batches_change_nothing_after_them(stream: Stream, augment: Augmentation) -> None:
    """What follows the first two batches is the same whether they were read or left out."""
    assert torch.equal(
        torch.cat(all_of(stream, augment)[2:]), torch.cat(all_of(stream, augment, 2))
    )


@pytest.mark.usefixtures("alone")
def test_a_flip_mirrors_about_half_of_the_images(stream: Stream) -> None:
    """With "flip", every image is the plain one or its mirror image, and both occur."""
    indices = torch.zeros(16, dtype=torch.int64) + 2
    plain, _ = next(stream.batches(indices[:1], 1))
    moved, _ = next(stream.batches(indices, 16, augment="flip", generator=generator(1)))
    mirrored = [torch.equal(image, plain[0].flip(2)) for image in moved]
    kept = [torch.equal(image, plain[0]) for image in moved]
    assert sum(mirrored) + sum(kept) == 16 and 3 <= sum(mirrored) <= 13


@pytest.mark.usefixtures("alone")
def test_a_crop_is_drawn_for_each_image(stream: Stream) -> None:
    """With "crop", no two draws of one image are alike, and equal generators draw alike."""
    indices = torch.zeros(8, dtype=torch.int64) + 2
    first, second = (
        next(stream.batches(indices, 8, augment="crop", generator=generator(1)))[0]
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert len({image.sum().item() for image in first}) == 8


def test_the_global_generator_is_left_alone(stream: Stream) -> None:
    """Reading draws nothing from torch's own random numbers, with workers or without."""
    before = torch.get_rng_state()
    all_of(stream, "crop-flip")
    next(stream.batches(torch.tensor([1]), 1, augment="crop-flip", generator=generator(0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("alone")
def test_a_subset_is_those_images(stream: Stream) -> None:
    """A subset has the chosen files and labels in order."""
    part = stream.subset(torch.tensor([4, 1]))
    assert (len(part), part.labels.tolist()) == (2, [1, 1])
    inputs, _ = next(part.batches(torch.arange(2), 2))
    whole, _ = next(stream.batches(torch.tensor([4, 1]), 2))
    assert torch.equal(inputs, whole)


def test_batches_arrive_on_the_device(stream: Stream) -> None:
    """A stream that was moved gives its batches there."""
    inputs, labels = next(stream.to("meta").batches(torch.tensor([1]), 1))
    assert (inputs.device.type, labels.device.type) == ("meta", "meta")


def test_a_damaged_image_is_named_in_one_line(stream: Stream, tmp_path: Path) -> None:
    """What a worker cannot decode ends the epoch with the file's name, not a page of traceback."""
    file = tmp_path / "3.png"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError) as caught:
        all_of(stream)
    assert str(caught.value).startswith(f"toy: {file} cannot be decoded: ")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("alone")
def test_images_are_turned_as_their_exif_says(stream: Stream, tmp_path: Path) -> None:
    """A stream reads files like the other sets: the same image on its side gives the same input."""
    exif = Image.Exif()
    exif[0x0112] = 6
    upright, _ = next(stream.batches(torch.tensor([4]), 1))
    pixels = np.asarray(Image.open(tmp_path / "4.png"))
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "4.png", exif=exif)
    turned, _ = next(stream.batches(torch.tensor([4]), 1))
    assert torch.equal(turned, upright)


def test_reading_may_stop_early(stream: Stream) -> None:
    """Whoever needs one batch takes one; the workers end with it."""
    [(inputs, _)] = islice(stream.batches(torch.arange(6), 2), 1)
    assert len(inputs) == 2
