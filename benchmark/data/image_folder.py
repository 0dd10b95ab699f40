"""List the image files of a folder and their classes, without opening any file.

torchvision's ImageFolder passes over files that it does not know and follows links anywhere; here
both are errors, so that a forgotten or foreign file cannot change a data set unnoticed.
"""

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from paibench.benchmark.data.files import unreadable
from paibench.methods.core.registry import UserError
from paibench.methods.core.text import printable

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Listing:
    """The image files of one split by their paths within `folder`, sorted, with their classes."""

    folder: Path
    files: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]


def listed(name: str, folder: Path, split: str, inner: str = "") -> Listing:
    """Return the images in `folder`/`split`/CLASS/`inner`, classes in the order of their names.

    Hidden files are ignored. Raises UserError for any other file that is not an image, for an
    empty class, and for a link that leaves the folder.
    """
    # the folder itself may be a link, so its real path is what other links are compared with
    home = os.path.realpath(folder)
    folders = ordered(e.name for e in entries(name, folder / split, home) if _is_folder(name, e))
    if not folders:
        raise UserError(
            f"{name}: {printable(folder / split)} has no class folders with images in them"
        )
    # a copy of the set may spell é in the other of its two Unicode forms
    classes = tuple(unicodedata.normalize("NFC", each) for each in folders)
    twin = next((one for one, other in pairwise(classes) if one == other), None)
    if twin is not None:
        raise UserError(
            f"{name}: {printable(folder / split)} has two class folders {twin!r:.80}, in different "
            "forms of Unicode; rename one"
        )
    files: list[str] = []
    labels: list[int] = []
    for label, class_folder in enumerate(folders):
        subfolder = os.path.join(split, class_folder)
        if inner:
            subfolder = os.path.join(subfolder, inner)
        path = folder / subfolder
        names = ordered(e.name for e in entries(name, path, home) if _is_image(name, e))
        if not names:
            raise UserError(f"{name}: {printable(path)} has no images; fill or remove it")
        files += [os.path.join(subfolder, file) for file in names]
        labels += [label] * len(names)
    return Listing(folder, tuple(files), tuple(labels), classes)


def ordered(names: Iterable[str]) -> list[str]:
    """Return names in an order that is the same on every file system."""
    return sorted(names, key=lambda name: (unicodedata.normalize("NFC", name), name))


def entries(name: str, folder: Path, home: str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder except hidden ones; links must stay within `home`."""
    try:
        with os.scandir(folder) as listing:
            visible = [entry for entry in listing if not entry.name.startswith(".")]
    except OSError as error:
        raise unreadable(name, folder, error) from error
    for entry in visible:
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if os.path.commonpath([home, target]) != home:
                raise UserError(
                    f"{name}: {printable(entry.path)} is a link that leaves the folder, "
                    f"to {printable(target)}; replace it by the file itself"
                )
    return visible


def _is_folder(name: str, entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir():
        raise UserError(f"{name}: {printable(entry.path)} is in no class folder; move or remove it")
    return True


def _is_image(name: str, entry: os.DirEntry[str]) -> bool:
    if not (entry.is_file() and entry.name.lower().endswith(ENDINGS)):
        kinds = ", ".join(ENDINGS)
        raise UserError(f"{name}: {printable(entry.path)} is not an image ({kinds}); remove it")
    return True


def same_classes(name: str, *listings: Listing) -> None:
    """Raise UserError if a class is in one split and not in another."""
    # a label is a position in the list of classes, so the lists of all splits must be equal
    for one in listings:
        for other in listings:
            for lacking in sorted(set(one.classes) - set(other.classes)):
                split, other_split = (each.files[0].split(os.sep)[0] for each in (one, other))
                raise UserError(
                    f"{name}: class {lacking!r:.80} is in {split}/ and not in {other_split}/ of "
                    f"{printable(one.folder)}; every split needs every class"
                )


def tiny_imagenet(name: str, folder: Path, hint: str) -> tuple[Listing, Listing]:
    """Return the listings of Tiny ImageNet: train/CLASS/images/* and val/images/*.

    Each line of `val/val_annotations.txt` names a file and its class. Raises UserError if the
    files and the annotations do not agree.
    """
    train = listed(name, folder, "train", inner="images")
    annotations = folder / "val" / "val_annotations.txt"
    try:
        lines = annotations.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise unreadable(name, annotations, error) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: {printable(annotations)} is not plain text; {hint}") from error
    # the further columns of a line are the box of the object
    class_of = dict(line.split("\t")[:2] for line in lines if line.count("\t") > 0)
    home = os.path.realpath(folder)
    images = folder / "val" / "images"
    names = sorted(e.name for e in entries(name, images, home) if _is_image(name, e))
    if names != sorted(class_of):
        unmatched = min(set(names) ^ set(class_of))
        raise UserError(
            f"{name}: {printable(images / unmatched)} and {printable(annotations)} do not "
            f"agree; {hint}"
        )
    numbers = {class_name: label for label, class_name in enumerate(train.classes)}
    unmatched_classes = sorted(set(class_of.values()) ^ set(numbers))
    if unmatched_classes:
        raise UserError(
            f"{name}: class {unmatched_classes[0]!r:.80} is in one of train/ and "
            f"{printable(annotations)}; {hint}"
        )
    files = tuple(os.path.join("val", "images", file) for file in names)
    labels = tuple(numbers[class_of[file]] for file in names)
    return train, Listing(folder, files, labels, train.classes)
