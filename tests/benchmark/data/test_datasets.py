"""The named data sets hold what their names say, or say in one line why they do not."""

import hashlib
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets as theirs
from PIL import Image
from scipy.io import savemat

from paibench.benchmark.data import constants
from paibench.benchmark.data.dataset import DataSet, load
from paibench.benchmark.data.streaming import Stream
from paibench.methods.core.registry import UserError, find, names
from paibench.methods.core.signature import describe
from paibench.methods.training.data import Images


def read(name: str, root: Path | None, **options: bool | int | float | str | None) -> DataSet:
    return load(name, options, root, "cpu", 0)


def images(split: object) -> Images:
    assert isinstance(split, Images)
    return split


@pytest.mark.parametrize("name", names("datasets"))
def test_every_set_says_its_options_without_being_imported(name: str) -> None:
    """All sets take `examples` and `validation`, and their source says so in a sentence."""
    found = describe(find(name, "datasets"))
    assert {"examples", "validation"} <= set(found.options)
    assert found.options["examples"].default is None
    assert found.options["validation"].default == 0.0
    assert len(found.summary) > 20


def test_digits_are_the_ones_of_scikit_learn() -> None:
    """1,437 + 360 images, all classes in both about equally, the same bytes everywhere."""
    data = read("digits", None)
    assert (data.name, data.classes, data.shape) == ("digits", 10, (1, 8, 8))
    assert data.evaluation == "test"
    train, test = images(data.train), images(data.test)
    assert (len(train), len(test)) == (1437, 360)
    both = torch.cat([train.labels, test.labels]).bincount()
    assert float((test.labels.bincount() - both * 360 / 1797).abs().max()) < 1
    assert int(train.pixels.max()) == 240 and int((train.pixels % 15).sum()) == 0
    assert data.fingerprint.startswith("ae880eedc66a")


@pytest.mark.parametrize("options", [{}, {"validation": 0.5}, {"examples": 50}], ids=str)
def test_digits_are_normalised_by_their_own_moments(options: dict[str, float]) -> None:
    """All inputs that are trained on have mean 0 and standard deviation 1 together."""
    train = read("digits", None, **options).train
    inputs, _ = next(train.batches(torch.arange(len(train)), len(train)))
    assert float(inputs.double().mean()) == pytest.approx(0, abs=1e-6)
    assert float(inputs.double().std(correction=0)) == pytest.approx(1, abs=1e-6)


MISSING = [
    ("mnist", "MNIST"),
    ("fashion_mnist", "FashionMNIST"),
    ("kmnist", "KMNIST"),
    ("cifar10", "cifar-10-batches-py"),
    ("cifar100", "cifar-100-python"),
    ("svhn", "train_32x32.mat"),
    ("tiny_imagenet", "tiny-imagenet-200"),
]


@pytest.mark.parametrize("name, place", MISSING)
def test_a_missing_set_says_where_it_was_looked_for_and_what_fetches_it(
    tmp_path: Path, name: str, place: str
) -> None:
    """The line names the place and the command, and nothing is written."""
    with pytest.raises(UserError) as caught:
        read(name, tmp_path)
    assert str(caught.value) == (
        f"{name}: {tmp_path}/{place} is missing; "
        f"fetch it with: paibench prepare {name} --data {tmp_path}"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [name for name in names("datasets") if name != "digits"])
def test_without_a_data_folder_it_is_asked_for(name: str) -> None:
    """Every set but the embedded one needs the data folder, and says how to give it."""
    says = f"{name}: no data folder given; set PAIBENCH_DATA or --data"
    with pytest.raises(UserError, match=f"^{says}$"):
        read(name, None)


def idx(path: Path, array: np.ndarray) -> None:
    shape = b"".join(length.to_bytes(4, "big") for length in array.shape)
    path.write_bytes(bytes((0, 0, 8, array.ndim)) + shape + array.tobytes())


def like_mnist(root: Path, folder: str, counts: tuple[int, int] = (20, 10)) -> Path:
    """A set laid out like MNIST whose n-th image is all n, with label n modulo 10."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for prefix, count in zip(("train", "t10k"), counts, strict=True):
        numbers = np.arange(count, dtype=np.uint8)
        idx(raw / f"{prefix}-images-idx3-ubyte", numbers[:, None, None].repeat(28, 1).repeat(28, 2))
        idx(raw / f"{prefix}-labels-idx1-ubyte", numbers % 10)
    return raw


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known sets have 20 + 10 images."""
    for name in constants.COUNTS:
        monkeypatch.setitem(dict_of(constants.COUNTS), name, (20, 10))


def dict_of(mapping: object) -> dict[str, tuple[int, int]]:
    assert isinstance(mapping, dict)
    return mapping


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name, folder", [("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_sets_like_mnist_are_read(tmp_path: Path, name: str, folder: str) -> None:
    """Images have one channel, both splits are there, and the published moments are used."""
    like_mnist(tmp_path, folder)
    data = read(name, tmp_path)
    assert (data.name, data.classes, data.shape) == (name, 10, (1, 28, 28))
    assert (data.mean, data.std) == constants.MOMENTS[name]
    assert images(data.train).pixels[:, 0, 3, 4].tolist() == list(range(20))
    assert data.test.labels.tolist() == list(range(10))


def cut_short(raw: Path) -> None:
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])


def other_case(raw: Path) -> None:
    (raw / "t10k-labels-idx1-ubyte").rename(raw / "T10K-labels-idx1-ubyte")


def class_gone(raw: Path) -> None:
    idx(raw / "t10k-labels-idx1-ubyte", np.zeros(10, np.uint8))


def other_count(raw: Path) -> None:
    idx(raw / "train-labels-idx1-ubyte", np.arange(19, dtype=np.uint8))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "harm, says",
    [
        (cut_short, "train-images-idx3-ubyte has 15695 bytes, its header says 15696; fetch it"),
        (other_case, "missing; rename T10K-labels-idx1-ubyte beside it to t10k-labels-idx1-ubyte"),
        (class_gone, "class 1 has no example in test; every class needs one"),
        (other_count, "train-labels-idx1-ubyte has 19 examples, expected 20; fetch it with: pai"),
    ],
)
def test_a_damaged_set_is_refused(tmp_path: Path, harm: Callable[[Path], None], says: str) -> None:
    """What is wrong is named in one line."""
    harm(like_mnist(tmp_path, "KMNIST"))
    with pytest.raises(UserError) as caught:
        read("kmnist", tmp_path)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_set_with_the_wrong_count_is_refused(tmp_path: Path) -> None:
    """Twenty images do not pass for the 60,000 of Fashion-MNIST."""
    like_mnist(tmp_path, "FashionMNIST")
    with pytest.raises(UserError, match="ubyte has 20 examples, expected 60000; fetch it with"):
        read("fashion_mnist", tmp_path)


@pytest.mark.usefixtures("small")
def test_other_images_do_not_pass_for_mnist(tmp_path: Path) -> None:
    """MNIST's files are known by their sha256."""
    like_mnist(tmp_path, "MNIST")
    with pytest.raises(UserError, match="damaged: its sha256 is .*, expected ba891046e650"):
        read("mnist", tmp_path)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "name, kind, key, classes",
    [("cifar10", "CIFAR10", "labels", 10), ("cifar100", "CIFAR100", "fine_labels", 100)],
)
def test_cifar_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    kind: str,
    key: str,
    classes: int,
) -> None:
    """All batches are read in order, with their own kind of labels."""
    counts = (20, 10) if classes == 10 else (200, 100)
    monkeypatch.setitem(dict_of(constants.COUNTS), name, counts)
    ours = getattr(theirs, kind)
    folder = tmp_path / ours.base_folder
    folder.mkdir()
    for split, count in zip(("train_list", "test_list"), counts, strict=True):
        rows = np.arange(count, dtype=np.uint8)[:, None].repeat(3072, 1)
        data = pickle.dumps({"data": rows, key: [n % classes for n in range(count)]})
        (folder / split).write_bytes(data)
        monkeypatch.setattr(ours, split, [[split, hashlib.md5(data).hexdigest()]])
    data_set = read(name, tmp_path)
    assert (data_set.classes, data_set.shape) == (classes, (3, 32, 32))
    assert images(data_set.train).pixels[:, 2, 5, 6].tolist() == list(range(counts[0]))
    (folder / "test_list").unlink()
    with pytest.raises(UserError, match="test_list is missing; fetch it with: paibench prepare"):
        read(name, tmp_path)


@pytest.mark.usefixtures("small")
def test_svhn_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files are read, and the counts are checked."""
    lists = {}
    for split, count in (("train", 20), ("test", 10)):
        labels = np.arange(1, count + 1) % 10
        pixels = np.zeros((32, 32, 3, count), np.uint8)
        pixels[..., 0] = 1
        file = tmp_path / f"{split}_32x32.mat"
        savemat(file, {"X": pixels, "y": np.where(labels == 0, 10, labels)[:, None]})
        lists[split] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(theirs.SVHN, "split_list", lists)
    data = read("svhn", tmp_path)
    assert (data.classes, data.shape, len(data.train), len(data.test)) == (10, (3, 32, 32), 20, 10)
    assert data.test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    monkeypatch.setitem(dict_of(constants.COUNTS), "svhn", (20, 11))
    with pytest.raises(UserError, match="test_32x32.mat has 10 examples, expected 11; fetch it"):
        read("svhn", tmp_path)


def picture(path: Path, value: int, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(value).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(path)


def folder_of(root: Path, evaluated: str = "test") -> Path:
    """Two classes, four images of each to train, two to evaluate."""
    for split, count in (("train", 4), (evaluated, 2)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                picture(root / split / name / f"{number}.png", 10 * label + number + len(split))
    return root


@pytest.mark.parametrize("evaluated", ["test", "val"])
def test_any_folder_of_images_is_a_data_set_of_its_name(tmp_path: Path, evaluated: str) -> None:
    """The set has the folder's name and moments, and its pixels are kept in the data folder."""
    folder_of(tmp_path / "pets", evaluated)
    data = read("imagefolder", tmp_path, path="pets")
    assert (data.name, data.classes, data.shape) == ("pets", 2, (3, 8, 8))
    assert (len(data.train), len(data.test)) == (8, 4)
    pixels = images(data.train).pixels.double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    [kept] = (tmp_path / ".paibench").iterdir()
    assert re.fullmatch(r"pets-[0-9a-f]{16}\.safetensors", kept.name)
    assert read("imagefolder", tmp_path, path="pets").fingerprint == data.fingerprint


def test_a_name_says_how_the_images_were_changed(tmp_path: Path) -> None:
    """Size, subset and validation stand in the name; the folder may be absolute or the root."""
    folder = folder_of(tmp_path / "pets")
    options = {"size": 4, "examples": 4, "validation": 0.5}
    data = read("imagefolder", folder, **options)
    assert data.name == "pets-4px-4-validation-0.5"
    assert (data.shape, len(data.train), len(data.test)) == ((3, 4, 4), 2, 2)
    assert read("imagefolder", tmp_path, path=str(folder), **options).name == data.name


@pytest.mark.parametrize(
    "path, says",
    [
        ("dogs", "imagefolder: {}/dogs is missing; set the option path to an existing folder"),
        ("Pets", "imagefolder: {}/Pets is missing; rename pets beside it to Pets"),
        ("../x", "imagefolder: path '../x' leaves the data folder"),
        ("pe\0ts", r"imagefolder: path 'pe\x00ts' leaves the data folder"),
        ("/no/where", "imagefolder: /no is missing; set the option path to an existing folder"),
        ("a\tb", r"imagefolder: the folder's name 'a\tb' cannot be used; use printable char"),
        ("end ", "imagefolder: the folder's name 'end ' cannot be used; use printable char"),
        ("mnist", "imagefolder: 'mnist' is the name of another data set; rename it"),
        ("MNIST", "imagefolder: 'MNIST' is the name of another data set; rename it"),
        (
            "u\u0308",
            "imagefolder: {} has two entries u\u0308, in different forms of Unicode; rename",
        ),
        ("upper", "upper: {}/upper/train is missing; rename Train beside it to train"),
        ("untested", "untested: {}/untested/test is missing; lay {}/untested out as train/CLASS/"),
    ],
)
def test_a_folder_that_will_not_do_is_named(tmp_path: Path, path: str, says: str) -> None:
    """Wrong paths, names and layouts are told apart, and nothing is written."""
    folder_of(tmp_path / "pets")
    names = ("a\tb", "end ", "mnist", "MNIST", "\u00fc", "u\u0308")
    for name in (*names, "upper/Train/cat", "untested/train/cat"):
        (tmp_path / name).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        read("imagefolder", tmp_path, path=path)
    assert str(caught.value).startswith(says.format(tmp_path, tmp_path))
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["My Pets", "Blüten", "v1.5_[2024] (neu)", "100% é & $x", "-x", "花"]
)
def test_a_folder_may_have_any_printable_name(tmp_path: Path, name: str) -> None:
    """The data set has the name that the file system has; a cached file has a plain one."""
    folder_of(tmp_path / name)
    data = read("imagefolder", tmp_path, path=name)
    assert data.name == name
    [kept] = (tmp_path / ".paibench").iterdir()
    assert re.fullmatch(r"[a-z0-9][a-z0-9_.-]*-[0-9a-f]{16}\.safetensors", kept.name)


@pytest.mark.parametrize("absolute", [False, True])
def test_the_two_unicode_forms_of_a_name_are_one(tmp_path: Path, absolute: bool) -> None:
    """A folder and its classes are found in either form, and are named in the composed one."""
    composed, decomposed = "\u00fcbung", "u\u0308bung"
    folder_of(tmp_path / decomposed)
    for old, new in (("train/cat", composed), ("test/cat", decomposed)):
        (tmp_path / decomposed / old).rename(tmp_path / decomposed / old.split("/")[0] / new)
    data = read("imagefolder", tmp_path, path=str(tmp_path / composed) if absolute else composed)
    assert (data.name, data.class_names) == (composed, ("dog", composed))
    assert len(data.train) == 8


def test_only_images_that_are_trained_on_normalise_a_folder(tmp_path: Path) -> None:
    """With held-out or left-out images, the moments are those of the images that remain."""
    folder_of(tmp_path / "pets")
    for options in ({"validation": 0.25}, {"examples": 4}, {"examples": 6, "validation": 0.5}):
        data = read("imagefolder", tmp_path, path="pets", **options)
        pixels = images(data.train).pixels.double() / 255
        assert len(pixels) < 8
        assert data.train.mean == data.test.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
        assert data.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())


def test_a_constant_channel_gives_finite_inputs(tmp_path: Path) -> None:
    """A folder without any blue is normalised by 1 there: all inputs are 0."""
    for path in folder_of(tmp_path / "pets").rglob("*.png"):
        values = np.asarray(Image.open(path)).copy()
        values[..., 2] = 77
        Image.fromarray(values).save(path)
    train = read("imagefolder", tmp_path, path="pets").train
    inputs, _ = next(train.batches(torch.arange(8), 8))
    assert inputs.isfinite().all() and train.std[2] == 1.0
    assert float(inputs[:, 2].abs().max()) < 1e-6


def one_class(folder: Path) -> None:
    for split in ("train", "test"):
        shutil.rmtree(folder / split / "dog")


def one_colour(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        Image.new("RGB", (8, 8), (7, 8, 9)).save(path)


def rare(folder: Path) -> None:
    for number in (1, 2, 3):
        (folder / "train" / "dog" / f"{number}.png").unlink()


@pytest.mark.parametrize(
    "harm, options, says",
    [
        (one_class, {}, "data set imagefolder: pets: train has classes = 1; a network needs 2"),
        (one_colour, {}, "data set imagefolder: pets: all training images have one and the same"),
        (rare, {"validation": 0.4}, "pets: class 'dog' has 1 training image, and validation needs"),
        (rare, {"examples": 1}, "pets: examples = 1 is out of range; it has 5 training examples"),
    ],
)
def test_images_that_no_network_can_learn_from_are_refused(
    tmp_path: Path, harm: Callable[[Path], None], options: dict[str, float], says: str
) -> None:
    """The line is about the data, before any method sees them."""
    harm(folder_of(tmp_path / "pets"))
    with pytest.raises(UserError, match=f"^{re.escape(says)}"):
        read("imagefolder", tmp_path, path="pets", **options)


@pytest.mark.parametrize("size", [0, -1, 5000])
def test_a_size_out_of_range_is_refused(tmp_path: Path, size: int) -> None:
    """An image has 1 to 4096 pixels a side."""
    folder_of(tmp_path / "pets")
    with pytest.raises(UserError, match=f"size = {size} is out of range; it is 1 to 4096 pixels"):
        read("imagefolder", tmp_path, path="pets", size=size)


@pytest.mark.usefixtures("small")
def test_tiny_imagenet_is_read(tmp_path: Path) -> None:
    """Folders to train, annotations to evaluate; without its counts it is refused."""
    home = tmp_path / "tiny-imagenet-200"
    for number in range(20):
        name = f"n{number % 2}"
        picture(home / "train" / name / "images" / f"{name}_{number}.JPEG", number)
    for number in range(10):
        picture(home / "val" / "images" / f"val_{number}.JPEG", number)
    lines = [f"val_{number}.JPEG\tn{number % 2}\t0\t0\t1\t1" for number in range(10)]
    (home / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    data = read("tiny_imagenet", tmp_path)
    assert (data.name, data.classes, len(data.train)) == ("tiny_imagenet", 2, 20)
    assert data.test.labels.tolist() == [0, 1] * 5
    assert data.mean == constants.MOMENTS["tiny_imagenet"][0]
    (home / "train" / "n0" / "images" / "n0_0.JPEG").unlink()
    with pytest.raises(UserError, match="200/train has 19 examples, expected 20; fetch it with"):
        read("tiny_imagenet", tmp_path)


@pytest.mark.usefixtures("small")
def test_imagenet_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both splits stay on disk, can be cut like others, and are refused with a wrong count."""
    monkeypatch.setitem(dict_of(constants.COUNTS), "imagenet", (8, 4))
    folder_of(tmp_path / "imagenet", "val")
    data = read("imagenet", tmp_path)
    assert isinstance(data.train, Stream) and isinstance(data.test, Stream)
    assert (data.classes, data.shape, len(data.test)) == (2, (3, 224, 224), 4)
    inputs, labels = next(data.test.batches(torch.tensor([3]), 1))
    assert (tuple(inputs.shape), labels.tolist()) == ((1, 3, 224, 224), [1])
    cut = read("imagenet", tmp_path, examples=6, validation=0.5)
    assert (cut.name, len(cut.train), len(cut.test)) == ("imagenet-6-validation-0.5", 3, 3)
    assert cut.fingerprint == data.fingerprint
    shutil.rmtree(tmp_path / "imagenet" / "val" / "cat")
    with pytest.raises(UserError, match="imagenet/val has 2 examples, expected 4; lay it out by"):
        read("imagenet", tmp_path)


@pytest.fixture
def root() -> Path:
    """The folder with the real data."""
    return Path(os.environ["PAIBENCH_DATA"])


@pytest.mark.data
def test_the_real_mnist(root: Path) -> None:
    """The digits, labels and moments that everybody knows."""
    data = read("mnist", root)
    train, test = images(data.train), images(data.test)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    scaled = train.pixels.double() / 255
    assert round(float(scaled.mean()), 4) == 0.1307
    assert round(float(scaled.std()), 4) == 0.3081


@pytest.mark.data
def test_the_real_cifar10_jpeg(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten classes of 5,000 + 1,000 images whose moments are nearly those of CIFAR-10."""
    monkeypatch.setenv("PAIBENCH_CACHE", str(tmp_path))
    data = read("imagefolder", root, path="cifar10-jpeg")
    assert (data.name, data.classes, data.shape) == ("cifar10-jpeg", 10, (3, 32, 32))
    assert data.train.labels.bincount().tolist() == [5000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert data.mean == pytest.approx(constants.MOMENTS["cifar10"][0], abs=0.001)
    assert data.std == pytest.approx(constants.MOMENTS["cifar10"][1], abs=0.003)
