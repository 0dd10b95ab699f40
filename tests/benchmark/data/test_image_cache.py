"""Folders of images are decoded once, to the right bytes, and found again while unchanged."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from paibench.benchmark.data.dataset import fingerprint
from paibench.benchmark.data.image_cache import Decoded, cache_folders, decoded
from paibench.benchmark.data.image_folder import listed
from paibench.methods.core.random_streams import generator
from paibench.methods.core.registry import UserError


def picture(path: Path, seed: int, mode: str = "RGB", width: int = 6, height: int = 5) -> None:
    """A picture of noise that PNG keeps to the bit."""
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    values = torch.randint(0, 256, shape, generator=generator(seed)).to(torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.numpy()).save(path)


def pictures(folder: Path, mode: str = "RGB") -> Path:
    """Two classes, three pictures of each to train and two to test."""
    for first, (split, count) in enumerate((("train", 3), ("test", 2))):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                seed = 100 * first + 10 * label + number
                picture(folder / split / name / f"{number}.png", seed, mode)
    return folder


def read(folder: Path, *kept: Path, size: int | None = None) -> Decoded:
    return decoded("pets", [listed("pets", folder, s) for s in ("train", "test")], size, kept)


def all_of(found: Decoded) -> list[Tensor]:
    return [tensor for pair in found.splits for tensor in pair]


@pytest.mark.parametrize("mode, channels", [("RGB", 3), ("L", 1)])
def test_pixels_are_those_of_the_files(tmp_path: Path, mode: str, channels: int) -> None:
    """Every picture is there in order, channels first, grey with one channel; labels by class."""
    folder = pictures(tmp_path / "set", mode)
    for pixels, labels in (found := read(folder, tmp_path / "kept")).splits:
        split = "train" if len(labels) == 6 else "test"
        files = sorted((folder / split).rglob("*.png"))
        oracle = [np.atleast_3d(np.asarray(Image.open(file))).transpose(2, 0, 1) for file in files]
        assert pixels.dtype == torch.uint8 and pixels.shape[1:] == (channels, 5, 6)
        assert np.array_equal(pixels.numpy(), np.stack(oracle))
        assert labels.tolist() == [["cat", "dog"].index(file.parent.name) for file in files]
    assert found.fingerprint == fingerprint(*all_of(found))


def test_one_coloured_picture_makes_all_coloured(tmp_path: Path) -> None:
    """Grey pictures among coloured ones have three equal channels, in every split."""
    folder = pictures(tmp_path / "set", "L")
    picture(folder / "test" / "dog" / "9.png", 9, "RGB")
    (train, _), (test, _) = read(folder).splits
    assert train.shape[1] == test.shape[1] == 3
    assert torch.equal(train[:, 0], train[:, 2])


def test_size_takes_the_middle_square(tmp_path: Path) -> None:
    """A picture twice as wide as high, dark at its sides, is bright when cut to its middle."""
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 4:12] = 200
    for split in ("train", "test"):
        (tmp_path / "set" / split / "cat").mkdir(parents=True)
        Image.fromarray(wide).save(tmp_path / "set" / split / "cat" / "0.png")
    (train, _), _ = read(tmp_path / "set", size=4).splits
    assert train.shape == (1, 1, 4, 4)
    assert torch.equal(train[:, :, :, 1:3], torch.full((1, 1, 4, 2), 200, dtype=torch.uint8))


def swap(file: Path, seed: int) -> None:
    """Other pixels in a file of the same size and time of change."""
    before, length = file.stat(), len(file.read_bytes())
    picture(file, seed)
    data = file.read_bytes()
    assert len(data) <= length + 64
    file.write_bytes(data[:length].ljust(length, b"\0"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_is_unchanged_is_not_decoded_again(tmp_path: Path) -> None:
    """Files of the same sizes and times are taken as they were kept; one touched is read anew."""
    folder, kept = pictures(tmp_path / "set"), tmp_path / "kept"
    file = folder / "train" / "cat" / "0.png"
    first = read(folder, kept)
    swap(file, 77)
    again = read(folder, kept)
    assert again.fingerprint == first.fingerprint
    assert all(map(torch.equal, all_of(first), all_of(again)))
    os.utime(file)
    anew = read(folder, kept)
    assert anew.fingerprint != first.fingerprint
    assert not torch.equal(anew.splits[0][0][0], first.splits[0][0][0])
    assert torch.equal(anew.splits[0][0][1:], first.splits[0][0][1:])


def test_the_size_asked_for_is_part_of_what_is_kept(tmp_path: Path) -> None:
    """Pictures kept at one size are not given out at another."""
    folder, kept = pictures(tmp_path / "set"), tmp_path / "kept"
    shapes = [read(folder, kept, size=size).splits[0][0].shape[2:] for size in (None, 4, 2, 4)]
    assert shapes == [(5, 6), (4, 4), (2, 2), (4, 4)]


@pytest.mark.parametrize("at", [0, 4, 40, -1], ids=["length", "header", "json", "pixels"])
def test_a_damaged_kept_file_is_made_again(tmp_path: Path, at: int) -> None:
    """One flipped byte anywhere in the kept file decodes again and mends it."""
    folder, kept = pictures(tmp_path / "set"), tmp_path / "kept"
    first = read(folder, kept)
    [file] = kept.iterdir()
    whole = file.read_bytes()
    data = bytearray(whole)
    data[at] ^= 0x55
    file.write_bytes(data)
    assert all(map(torch.equal, all_of(read(folder, kept)), all_of(first)))
    assert file.read_bytes() == whole


@pytest.mark.parametrize("data", [b"", b"\2\0\0\0\0\0\0\0[]", b"\4\0\0\0\0\0\0\0null"], ids=repr)
def test_a_kept_file_that_is_none_is_made_again(tmp_path: Path, data: bytes) -> None:
    """Other bytes in place of the kept file are replaced."""
    folder, kept = pictures(tmp_path / "set"), tmp_path / "kept"
    first = read(folder, kept)
    [file] = kept.iterdir()
    file.write_bytes(data)
    assert read(folder, kept).fingerprint == first.fingerprint
    assert file.stat().st_size > 100


@pytest.mark.parametrize("times", [1, 2], ids=["fresh", "kept"])
def test_splits_share_no_memory(tmp_path: Path, times: int) -> None:
    """Each tensor has storage of its own with nothing else in it."""
    folder = pictures(tmp_path / "set")
    for _ in range(times):
        tensors = all_of(read(folder, tmp_path / "kept"))
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == len(tensors)
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)


def test_many_may_ask_at_once(tmp_path: Path) -> None:
    """Eight readers at once get the same pixels, and one whole file is kept."""
    folder, kept = pictures(tmp_path / "set"), tmp_path / "kept"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: read(folder, kept).fingerprint, range(8)))
    assert len(set(found)) == 1
    assert len(list(kept.iterdir())) == 1
    assert read(folder, kept).fingerprint == found[0]


def test_the_next_folder_is_taken_where_one_cannot_be_written(tmp_path: Path) -> None:
    """Where the first place to keep the pixels is no folder, the second is used, and found."""
    folder = pictures(tmp_path / "set")
    (tmp_path / "file").touch()
    places = (tmp_path / "file" / "kept", tmp_path / "kept")
    first = read(folder, *places)
    swap(folder / "train" / "cat" / "0.png", 77)
    assert read(folder, *places).fingerprint == first.fingerprint


def test_where_nothing_can_be_kept_the_pixels_come_with_a_warning(tmp_path: Path) -> None:
    """A full or read-only disk costs time at every start, not the run."""
    folder = pictures(tmp_path / "set")
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="could not be cached, set PAIBENCH_CACHE: .*file"):
        found = read(folder, tmp_path / "file" / "kept")
    assert len(found.splits[0][0]) == 6


def damaged(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-30])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def text(file: Path) -> None:
    file.write_text("no picture")


def deep(file: Path) -> None:
    Image.fromarray(np.full((5, 6), 1000, np.uint16)).save(file)


def larger(file: Path) -> None:
    picture(file, 1, width=7)


@pytest.mark.parametrize(
    "harm, says",
    [
        (damaged, "cannot be decoded: .*; replace it"),
        (emptied, "cannot be decoded: cannot identify image file 'the file'; replace it"),
        (text, "cannot be decoded: cannot identify image file 'the file'; replace it"),
        (deep, "cannot be decoded: mode I;16, more than 8 bits per channel; replace it"),
        (larger, "is 7x5 and the first image is 6x5; set the option size to scale them"),
    ],
)
@pytest.mark.parametrize("place", ["train/dog/1.png", "test/cat/0.png"])
def test_a_picture_that_is_none_is_named(
    tmp_path: Path, harm: object, says: str, place: str
) -> None:
    """A damaged picture, or one unlike the others, is named in one line, and nothing is kept."""
    folder = pictures(tmp_path / "set")
    assert callable(harm)
    harm(folder / place)
    with pytest.raises(UserError) as caught:
        read(folder, tmp_path / "kept")
    assert re.fullmatch(rf"pets: {re.escape(str(folder / place))} {says}", str(caught.value))
    assert not (tmp_path / "kept").exists()


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    """A JPEG that was cut short is refused, not filled up with grey."""
    file = pictures(tmp_path / "set") / "train" / "cat" / "3.jpg"
    Image.fromarray(np.zeros((5, 6, 3), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(UserError, match="train/cat/3.jpg cannot be decoded: .*[Tt]runcated"):
        read(tmp_path / "set")


@pytest.mark.parametrize(
    "root, environment, places",
    [
        ("/d", {"PAIBENCH_CACHE": "/c"}, ["/c"]),
        ("/d", {"XDG_CACHE_HOME": "/x"}, ["/d/.paibench", "/x/paibench"]),
        (None, {"XDG_CACHE_HOME": "/x", "PAIBENCH_CACHE": ""}, ["/x/paibench"]),
    ],
    ids=["named", "beside the data", "no data folder"],
)
def test_where_pixels_are_kept(
    root: str | None, environment: dict[str, str], places: list[str]
) -> None:
    """PAIBENCH_CACHE goes first; else it is the data folder, then the user's own cache."""
    found = cache_folders(None if root is None else Path(root), environment)
    assert found == [Path(place) for place in places]
