"""What a folder of images holds is listed strictly, and every oddity is named."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from paibench.benchmark.data.image_folder import listed, same_classes, tiny_imagenet
from paibench.methods.core.registry import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with two files each in train/ and one each in test/; nothing is opened."""
    for split, count in (("train", 2), ("test", 1)):
        for name in ("cat", "dog"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "set" / split / name / f"{number}.PNG").touch()
    return tmp_path / "set"


def test_files_are_listed_in_the_order_of_their_names(folder: Path) -> None:
    """Classes are numbered by name; hidden files are passed over, links within are followed."""
    (folder / "train" / ".DS_Store").touch()
    (folder / "train" / "cat" / "._0.PNG").touch()
    (folder / "train" / "dog" / "a.jpg").symlink_to(folder / "test" / "dog" / "0.PNG")
    found = listed("pets", folder, "train")
    cats, dogs = ("cat/0.PNG", "cat/1.PNG"), ("dog/0.PNG", "dog/1.PNG", "dog/a.jpg")
    assert found.files == tuple(f"train/{file}" for file in cats + dogs)
    assert found.labels == (0, 0, 1, 1, 1)
    assert found.classes == ("cat", "dog")
    assert found.folder == folder


def empty_class(folder: Path) -> None:
    (folder / "train" / "ant").mkdir()


def loose_file(folder: Path) -> None:
    (folder / "train" / "0.png").touch()


def no_image(folder: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").touch()


def nested(folder: Path) -> None:
    (folder / "train" / "cat" / "more.png").mkdir()


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "train" / "cat" / "2.png")


def link_out(folder: Path) -> None:
    (folder.parent / "secret.png").touch()
    (folder / "train" / "cat" / "2.png").symlink_to("../../../secret.png")


def class_link_out(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    (folder / "train" / "elk").symlink_to(folder.parent / "elsewhere")


def dead_link(folder: Path) -> None:
    (folder / "train" / "cat" / "2.png").symlink_to("3.png")


def no_classes(folder: Path) -> None:
    os.rename(folder / "train", folder / "old")
    (folder / "train").mkdir()


def no_split(folder: Path) -> None:
    os.rename(folder / "train", folder / "old")


def line_break(folder: Path) -> None:
    (folder / "train" / "cat" / "a\nb.txt").touch()


@pytest.mark.parametrize(
    "harm, says",
    [
        (empty_class, "train/ant has no images; fill or remove it"),
        (loose_file, "train/0.png is in no class folder; move or remove it"),
        (no_image, r"train/cat/notes.txt is not an image \(.jpg, .*\); remove it"),
        (nested, r"train/cat/more.png is not an image"),
        (pipe, r"train/cat/2.png is not an image"),
        (link_out, "train/cat/2.png is a link that leaves the folder, to .*/secret.png"),
        (class_link_out, "train/elk is a link that leaves the folder"),
        (dead_link, "train/cat/2.png is not an image"),
        (no_classes, "train has no class folders with images in them"),
        (no_split, "train cannot be read: No such file or directory"),
        (line_break, r"train/cat/a\\nb.txt is not an image"),
    ],
)
def test_what_does_not_belong_is_named(
    folder: Path, harm: Callable[[Path], None], says: str
) -> None:
    """Anything that is not an image of a class within the folder is refused in one line."""
    harm(folder)
    with pytest.raises(UserError) as caught:
        listed("pets", folder, "train")
    assert re.search(rf"pets: {re.escape(str(folder))}/{says}", str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split, other", [("train", "test"), ("test", "train")])
def test_a_class_absent_from_one_split_is_named(folder: Path, split: str, other: str) -> None:
    """Both splits need every class, whichever of them lacks it."""
    (folder / split / "Dog").mkdir()
    (folder / split / "Dog" / "0.png").touch()
    with pytest.raises(UserError, match=f"class 'Dog' is in {split}/ and not in {other}/"):
        same_classes("pets", *(listed("pets", folder, each) for each in ("train", "test")))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The layout of Tiny ImageNet with two classes of two, and two images to validate."""
    for name in ("n01", "n02"):
        (tmp_path / "train" / name / "images").mkdir(parents=True)
        (tmp_path / "train" / name / f"{name}_boxes.txt").touch()
        for number in range(2):
            (tmp_path / "train" / name / "images" / f"{name}_{number}.JPEG").touch()
    (tmp_path / "val" / "images").mkdir(parents=True)
    for number in range(2):
        (tmp_path / "val" / "images" / f"val_{number}.JPEG").touch()
    lines = "val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n"
    (tmp_path / "val" / "val_annotations.txt").write_text(lines)
    return tmp_path


def test_tiny_imagenet_takes_the_classes_of_its_val_from_the_annotations(tiny: Path) -> None:
    """Training classes are folders, those of val are lines; both are numbered alike."""
    train, val = tiny_imagenet("tiny", tiny, "fix it")
    assert train.files[0] == "train/n01/images/n01_0.JPEG"
    assert train.labels == (0, 0, 1, 1)
    assert val.files == ("val/images/val_0.JPEG", "val/images/val_1.JPEG")
    assert val.labels == (1, 0)


@pytest.mark.parametrize(
    "lines, says",
    [
        ("", "val/images/val_0.JPEG and .*val_annotations.txt do not agree; fix it"),
        ("val_0.JPEG\tn02\n", "val/images/val_1.JPEG and .* do not agree"),
        ("val_0.JPEG\tn02\nval_1.JPEG\tn01\nval_2.JPEG\tn01\n", "val_2.JPEG and .* do not agree"),
        ("val_0.JPEG\tn02\nval_1.JPEG\tn03\n", "class 'n01' is in one of train/ and .*; fix it"),
        ("\xe9", "val_annotations.txt is not plain text; fix it"),
    ],
    ids=["empty", "cut short", "image missing", "unknown class", "not text"],
)
def test_annotations_that_do_not_fit_are_refused(tiny: Path, lines: str, says: str) -> None:
    """Every image of val has one line and every line its image, of a known class."""
    (tiny / "val" / "val_annotations.txt").write_text(lines, encoding="latin-1")
    with pytest.raises(UserError, match=says):
        tiny_imagenet("tiny", tiny, "fix it")


def test_missing_annotations_are_named(tiny: Path) -> None:
    """Without its annotations, val has no labels."""
    (tiny / "val" / "val_annotations.txt").unlink()
    with pytest.raises(UserError, match="val_annotations.txt cannot be read: No such file"):
        tiny_imagenet("tiny", tiny, "fix it")
