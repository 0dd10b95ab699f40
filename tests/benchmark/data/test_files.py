"""Files are found by exact names and read to the byte; missing and damaged ones are named."""

import hashlib
import io
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from paibench.benchmark.data import files
from paibench.methods.core.registry import UserError
from paibench.methods.core.text import printable

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
PIXELS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def idx_bytes(array: np.ndarray) -> bytes:
    """An array as an idx file: two zeros, the type, the rank, the shape (big-endian), the bytes."""
    shape = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes((0, 0, 8, array.ndim)) + shape + array.tobytes()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three images of 4x5 with labels 0, 1, 2."""
    (tmp_path / IMAGES).write_bytes(idx_bytes(PIXELS))
    (tmp_path / LABELS).write_bytes(idx_bytes(np.arange(3, dtype=np.uint8)))
    return tmp_path


def test_idx_files_are_read_to_the_byte(raw: Path) -> None:
    """Pixels get a channel and stay bytes, labels become int64, the known hash is accepted."""
    known = {IMAGES: hashlib.sha256((raw / IMAGES).read_bytes()).hexdigest()}
    pixels, labels = files.idx("toy", raw, "train", known, "fix it", 3)
    assert pixels.dtype == torch.uint8 and np.array_equal(pixels.numpy(), PIXELS[:, None])
    assert labels.dtype == torch.int64 and labels.tolist() == [0, 1, 2]


WHOLE = idx_bytes(PIXELS)


@pytest.mark.parametrize(
    "data, says",
    [
        (WHOLE[:-1], "has 75 bytes, its header says 76; fix it"),
        (WHOLE + b"\0", "has 77 bytes, its header says 76; fix it"),
        (WHOLE[:10], "is not an idx file of bytes; fix it"),
        (b"\x1f\x8b" + WHOLE, "is not an idx file of bytes; fix it"),
        (b"", "is empty; fix it"),
        (bytes((0, 0, 8, 3)) + b"\xff" * 12, "its header says 79228162458924105385300197391; "),
        (idx_bytes(PIXELS[:2]), "has 2 examples, expected 3; fix it"),
        (
            WHOLE[:-1] + b"\0",
            "is damaged: its sha256 is [0-9a-f]{64}, expected .{64}; fix it",
        ),
    ],
    ids=["cut", "longer", "header cut", "packed", "empty", "absurd", "fewer", "flipped"],
)
def test_an_idx_file_that_is_damaged_is_named(raw: Path, data: bytes, says: str) -> None:
    """The file, what is wrong with it and what to do stand in one line."""
    (raw / IMAGES).write_bytes(data)
    known = {IMAGES: hashlib.sha256(WHOLE).hexdigest()}
    with pytest.raises(UserError) as caught:
        files.idx("toy", raw, "train", known, "fix it", 3)
    assert re.match(rf"toy: {re.escape(str(raw / IMAGES))} .*{says}", str(caught.value))
    assert "\n" not in str(caught.value)


def test_labels_are_counted_too(raw: Path) -> None:
    """As many labels as images are asked for."""
    (raw / LABELS).write_bytes(idx_bytes(np.arange(4, dtype=np.uint8)))
    with pytest.raises(UserError, match=f"{LABELS} has 4 examples, expected 3; fix it"):
        files.idx("toy", raw, "train", {}, "fix it", 3)


def test_a_folder_in_place_of_a_file_is_named(raw: Path) -> None:
    """What is no plain file is not opened."""
    (raw / IMAGES).unlink()
    (raw / IMAGES).mkdir()
    with pytest.raises(UserError, match=f"{IMAGES} is not a file; fix it"):
        files.idx("toy", raw, "train", {}, "fix it", 3)


class Bomb:
    """What a pickle can do to those who open it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the pickle was run')",)


def batch(first: int, key: str) -> bytes:
    """Two images of CIFAR as its authors pickled them: rows of 3,072 bytes and a list."""
    rows = (np.arange(2 * 3072) + first).astype(np.uint8).reshape(2, 3072)
    return pickle.dumps({"data": rows, key: [first, first + 1]}, protocol=2)


@pytest.mark.parametrize("key", ["labels", "fine_labels"])
def test_cifar_batches_are_read_in_order(tmp_path: Path, key: str) -> None:
    """Rows become [3, 32, 32], channel after channel, and labels follow the batches."""
    known = []
    for number in range(2):
        data = batch(2 * number, key)
        (tmp_path / f"batch_{number}").write_bytes(data)
        known.append((f"batch_{number}", hashlib.md5(data).hexdigest()))
    pixels, labels = files.cifar("toy", tmp_path, known, key, "fix it")
    assert pixels.dtype == torch.uint8 and pixels.shape == (4, 3, 32, 32)
    assert pixels[2].flatten()[:3].tolist() == [2, 3, 4]
    assert labels.tolist() == [0, 1, 2, 3]


def test_a_pickle_that_is_not_the_known_one_is_never_opened(tmp_path: Path) -> None:
    """Other bytes in place of a batch are refused by their md5 before anything runs."""
    (tmp_path / "batch").write_bytes(pickle.dumps(Bomb()))
    known = [("batch", hashlib.md5(b"the real one").hexdigest())]
    with pytest.raises(UserError, match="batch is damaged: its md5 is .*, expected .*; fix it"):
        files.cifar("toy", tmp_path, known, "labels", "fix it")


def test_svhn_is_read_with_ten_as_zero(tmp_path: Path) -> None:
    """[32, 32, 3, n] becomes [n, 3, 32, 32], and the label 10 becomes 0."""
    images = np.arange(32 * 32 * 3 * 2).astype(np.uint8).reshape(32, 32, 3, 2)
    file = io.BytesIO()
    savemat(file, {"X": images, "y": np.array([[10], [3]], np.uint8)})
    (tmp_path / "train.mat").write_bytes(file.getvalue())
    digest = hashlib.md5(file.getvalue()).hexdigest()
    pixels, labels = files.svhn("toy", tmp_path / "train.mat", digest, "fix it")
    assert int(pixels[1, 2, 30, 7]) == int(images[30, 7, 2, 1])
    assert labels.tolist() == [0, 3]
    with pytest.raises(UserError, match="train.mat is damaged: its md5 is"):
        files.svhn("toy", tmp_path / "train.mat", "0" * 32, "fix it")


@pytest.mark.parametrize(
    "labels, says",
    [
        ([0, 1, 3], "train has labels from 0 to 3, not 0 to 2"),
        ([-1, 0, 1], "train has labels from -1 to 1, not 0 to 2"),
        ([0, 2, 2], "class 1 has no example in train; every class needs one"),
    ],
)
def test_labels_out_of_range_and_empty_classes_are_refused(labels: list[int], says: str) -> None:
    """Every class from 0 on has an example, and there is no other."""
    assert files.label_fault("train", torch.tensor(labels), 3) == says
    assert files.label_fault("train", torch.tensor([2, 0, 1]), 3) is None


def test_a_path_is_found_part_by_part(tmp_path: Path) -> None:
    """A path whose parts exist under exactly these names is returned."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert files.locate("toy", tmp_path, "a/b", "fix it") == tmp_path / "a" / "b"
    assert files.locate("toy", tmp_path, "", "fix it") == tmp_path


@pytest.mark.parametrize(
    "root, parts, says",
    [
        (None, "a", "toy: no data folder given; set PAIBENCH_DATA or --data"),
        ("nowhere", "a", "toy: the data folder {}/nowhere does not exist; fix it"),
        ("", "c", "toy: {}/c is missing; fix it"),
        ("", "Raw/b", "toy: {}/Raw/b is missing; rename B beside it to b"),
        ("", "raw", "toy: {}/raw is missing; rename Raw beside it to raw"),
        ("", "file/b", "toy: {}/file cannot be read: Not a directory"),
    ],
    ids=["no root", "no folder", "missing", "case of a file", "case of a folder", "not a folder"],
)
def test_a_missing_part_is_named_with_a_hint(
    tmp_path: Path, root: str | None, parts: str, says: str
) -> None:
    """A missing part is named in full, and a name that differs in case only is suggested."""
    (tmp_path / "Raw" / "B").mkdir(parents=True)
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        files.locate("toy", None if root is None else tmp_path / root, parts, "fix it")
    assert str(caught.value) == says.format(tmp_path)


def test_a_path_is_printed_in_one_line() -> None:
    """Line breaks, escapes and undecodable bytes are written out, letters stay as they are."""
    assert printable("/é\n\x1b[31m\udcff") == "/é\\n\\x1b[31m\\udcff"


def test_an_unreadable_file_is_named_with_the_reason() -> None:
    """The line ends with the reason that the system gives."""
    error = PermissionError(13, "Permission denied")
    says = "toy: /x cannot be read: Permission denied"
    assert str(files.unreadable("toy", Path("/x"), error)) == says
