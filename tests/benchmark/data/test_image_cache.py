"""Folders of images are decoded once, to the right bytes, and found again while unchanged."""

import os
import re
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.datasets.folder import default_loader

from paibench.benchmark.data.dataset import fingerprint
from paibench.benchmark.data.image_cache import Decoded, cache_folders, decoded, rgb
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
        (deep, "cannot be decoded: it has more than 8 bits per channel; replace it"),
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


GREY, COLOUR = np.arange(30, dtype=np.uint8).reshape(5, 6), np.arange(90, dtype=np.uint8)


def palette(*colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(GREY % len(colours), "P")
    image.putpalette([value for colour in colours for value in colour])
    return image


def with_alpha(mode: str) -> Image.Image:
    """An image whose alpha is not constant."""
    base = Image.fromarray(GREY if mode == "LA" else COLOUR.reshape(5, 6, 3)).convert(mode)
    base.putalpha(Image.fromarray(GREY * 8))
    return base


@pytest.mark.parametrize(
    "image, file, grey",
    [
        (Image.fromarray(GREY), "a.png", True),
        (Image.fromarray(GREY), "a.jpg", True),
        (Image.fromarray(GREY % 2 * 255).convert("1"), "a.png", True),
        (Image.fromarray(GREY), "a.pgm", True),
        (with_alpha("LA"), "a.png", True),
        (with_alpha("LA"), "a.tif", True),
        (palette((9, 9, 9), (70, 70, 70)), "a.png", True),
        (palette((9, 9, 9), (70, 70, 71)), "a.png", False),
        (palette((9, 9, 9), (70, 70, 70)), "a.bmp", True),
        (with_alpha("RGBA"), "a.png", False),
        (Image.fromarray(GREY).convert("RGB"), "a.png", False),
        (Image.fromarray(GREY).convert("RGBA"), "a.webp", False),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_a_file_that_stores_grey_values_is_grey(
    tmp_path: Path, image: Image.Image, file: str, grey: bool
) -> None:
    """Alpha and a palette of greys do not make a colour of grey; three equal channels do."""
    image.save(tmp_path / file)
    assert rgb("pets", str(tmp_path / file))[1] is grey


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped(tmp_path: Path, mode: str) -> None:
    """Every pixel keeps the colour that the file stores, however transparent it is."""
    image = with_alpha(mode)
    image.save(tmp_path / "a.png")
    pixels, _ = rgb("pets", str(tmp_path / "a.png"))
    assert np.array_equal(np.asarray(pixels)[..., : len(mode) - 1], np.asarray(image)[..., :-1])


@pytest.mark.parametrize("key", [0, bytes([0, 90])], ids=["one colour", "alpha of each colour"])
def test_a_transparent_colour_of_a_palette_is_kept(tmp_path: Path, key: int | bytes) -> None:
    """A palette with transparency has the colours of the palette, without a warning."""
    image = palette((9, 9, 9), (70, 70, 71))
    image.save(tmp_path / "a.png", transparency=key)
    pixels, _ = rgb("pets", str(tmp_path / "a.png"))
    assert np.array_equal(np.asarray(pixels)[..., 2], np.where(GREY % 2, 71, 9))


def test_a_grey_set_with_alpha_has_one_channel(tmp_path: Path) -> None:
    """Grey images with and without alpha are one channel together."""
    folder = pictures(tmp_path / "set", "L")
    with_alpha("LA").save(folder / "train" / "cat" / "9.png")
    (train, _), (test, _) = read(folder).splits
    assert train.shape[1] == test.shape[1] == 1
    assert np.array_equal(train[3, 0].numpy(), GREY)


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
    9: lambda a: a,  # not an orientation
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("file", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_an_image_is_turned_as_its_exif_says(tmp_path: Path, file: str, orientation: int) -> None:
    """Each of the eight orientations is applied once; torchvision's loader applies none."""
    blocks = np.array([[[200, 0, 0], [0, 200, 0], [0, 0, 200]], [[90] * 3, [0] * 3, [200] * 3]])
    stored = blocks.astype(np.uint8).repeat(16, 0).repeat(16, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / file, exif=exif, quality=95)
    pixels = np.asarray(rgb("pets", str(tmp_path / file))[0]).astype(int)
    expected = UPRIGHT[orientation](stored).astype(int)
    assert pixels.shape == expected.shape
    # JPEG and WebP change colours, most of all at the edges of the blocks
    assert np.abs(pixels - expected)[8::16, 8::16].max() <= 8
    if file == "a.jpg":
        theirs = default_loader(str(tmp_path / file))
        assert np.abs(np.asarray(theirs).astype(int) - stored)[8::16, 8::16].max() <= 8


def test_a_rotated_image_needs_its_shape_upright(tmp_path: Path) -> None:
    """An image on its side fits the others if it does once turned."""
    folder = pictures(tmp_path / "set")
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = np.asarray(Image.open(folder / "train" / "cat" / "0.png")).swapaxes(0, 1)
    Image.fromarray(sideways).save(folder / "train" / "cat" / "9.png", exif=exif)
    assert read(folder).splits[0][0].shape == (7, 3, 5, 6)


def test_damaged_exif_turns_nothing(tmp_path: Path) -> None:
    """Pixels are read as they are if the EXIF beside them is none."""
    stored = np.zeros((8, 16, 3), np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.jpg", exif=b"Exif\0\0no exif at all")
    assert np.array_equal(np.asarray(rgb("pets", str(tmp_path / "a.jpg"))[0]), stored)


def png16(path: Path, colour_type: int) -> None:
    """A PNG of 3x2 pixels with 16 bits per channel; Pillow writes none in colour."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour_type]
    rows = b"".join(b"\0" + bytes(range(6 * channels)) for _ in range(2))

    def chunk(kind: bytes, data: bytes) -> bytes:
        tail = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + tail

    header = struct.pack(">IIBBBBB", 3, 2, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def tiff16(path: Path) -> None:
    """A TIFF of 3x2 pixels with 16 bits for red, green and blue."""
    entries = [(256, 3, 1, 3), (257, 3, 1, 2), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 140), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, 36), (284, 3, 1, 1)]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + struct.pack("<I", 0)
    path.write_bytes(head + struct.pack("<HHH", 16, 16, 16) + bytes(range(36)))


DEEP: dict[str, Callable[[Path], object]] = {
    "grey.png": lambda path: png16(path, 0),
    "rgb.png": lambda path: png16(path, 2),
    "grey-alpha.png": lambda path: png16(path, 4),
    "rgba.png": lambda path: png16(path, 6),
    "rgb.tif": tiff16,
    "i16.tif": lambda path: Image.fromarray(GREY.astype(np.uint16)).save(path),
    "i32.tif": lambda path: Image.fromarray(GREY.astype(np.int32)).save(path),
    "f.tif": lambda path: Image.fromarray(GREY.astype(np.float32)).save(path),
    "p2.pgm": lambda path: path.write_bytes(b"P2 3 1 256\n0 1 256\n"),
    "p3.ppm": lambda path: path.write_bytes(b"P3 1 1 # three\n 1023\n0 1 1023\n"),
    "p5.pgm": lambda path: path.write_bytes(b"P5 2 1 65535\n" + bytes(4)),
    "p6.ppm": lambda path: path.write_bytes(b"P6 2 1 65535\n" + bytes(12)),
    "p6-12.ppm": lambda path: path.write_bytes(b"P6 2 1 4095\n" + bytes(12)),
    "pf.ppm": lambda path: path.write_bytes(b"Pf 1 1 -1.0\n" + bytes(4)),
}


@pytest.mark.parametrize("file", DEEP)
def test_more_than_8_bits_are_refused(tmp_path: Path, file: str) -> None:
    """No format has its lower bits cut off in silence."""
    DEEP[file](tmp_path / file)
    with pytest.raises(UserError, match="cannot be decoded: it has more than 8 bits per channel;"):
        rgb("pets", str(tmp_path / file))


@pytest.mark.parametrize(
    "data", [b"P6 1 1 15\n\x01\x02\x0f", b"P3 1 1 15\n1 2 15\n", b"P6 1 1 255\n\x11\x22\xff"]
)
def test_8_bits_or_fewer_are_scaled_to_8(tmp_path: Path, data: bytes) -> None:
    """The largest value of a PPM becomes 255."""
    (tmp_path / "a.ppm").write_bytes(data)
    assert np.asarray(rgb("pets", str(tmp_path / "a.ppm"))[0]).tolist() == [[[17, 34, 255]]]


@pytest.mark.parametrize("file", ["a.png", "a.webp", "a.tif"])
def test_several_frames_are_refused(tmp_path: Path, file: str) -> None:
    """An animation or a document of several pages is no image of one class."""
    first, second = (Image.fromarray(GREY * factor).convert("RGB") for factor in (1, 8))
    first.save(tmp_path / file, save_all=True, append_images=[second])
    with pytest.raises(UserError, match="cannot be decoded: it has 2 frames, not one; replace it"):
        rgb("pets", str(tmp_path / file))


def test_the_photograph_of_a_jpeg_with_several_pictures_is_read(tmp_path: Path) -> None:
    """Cameras append previews to a JPEG; its first picture is the photograph."""
    first, second = (Image.new("RGB", (8, 8), (value,) * 3) for value in (10, 200))
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[second])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    pixels, grey = rgb("pets", str(tmp_path / "a.jpg"))
    assert np.asarray(pixels)[4, 4].tolist() == [10, 10, 10] and not grey


@pytest.mark.parametrize("mode, file", [("CMYK", "a.jpg"), ("CMYK", "a.tif"), ("YCbCr", "a.jpg")])
def test_other_colour_spaces_become_rgb(tmp_path: Path, mode: str, file: str) -> None:
    """Full red is full red, whatever the colour space that a file stores it in."""
    Image.new("RGB", (8, 8), (255, 0, 0)).convert(mode).save(tmp_path / file, quality=100)
    pixels = np.asarray(rgb("pets", str(tmp_path / file))[0]).astype(int)
    assert np.abs(pixels - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("form", ["GIF", "JPEG2000", "ICO"])
def test_the_content_must_have_a_format_of_the_list(tmp_path: Path, form: str) -> None:
    """An ending does not let another format in; one of the list may have another's ending."""
    image = Image.fromarray(COLOUR.reshape(5, 6, 3))
    image.save(tmp_path / "b.jpg", "PNG")
    assert np.array_equal(np.asarray(rgb("pets", str(tmp_path / "b.jpg"))[0]), np.asarray(image))
    image.save(tmp_path / "a.png", form)
    with pytest.raises(UserError, match="cannot be decoded: cannot identify image file"):
        rgb("pets", str(tmp_path / "a.png"))


def test_names_that_differ_only_in_case_share_no_cached_file(tmp_path: Path) -> None:
    """Equal files in two folders are cached for each, under names that any file system keeps."""
    folder, kept = pictures(tmp_path / "set"), tmp_path / "kept"
    parts = [listed("pets", folder, split) for split in ("train", "test")]
    for name in ("Blüten 2024", "blüten 2024"):
        decoded(name, parts, None, [kept])
    files = [file.name for file in kept.iterdir()]
    assert len(files) == 2
    assert all(re.fullmatch(r"bl-ten-2024-[0-9a-f]{16}\.safetensors", file) for file in files)
