"""Download a data set once, even if many processes ask for it at the same time.

The set is downloaded into a private folder, checked by reading it as a run would, and only then
moved to its final path. A lease lets one process download while the others wait. Correctness
depends on the move alone, which never replaces anything. File locks (`filelock`) would be shorter,
but a network file system may ignore them or keep the lock of a machine that died.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from paibench.benchmark.data.constants import TINY_IMAGENET
from paibench.benchmark.store.lease import acquire
from paibench.benchmark.store.names import new_attempt_id
from paibench.methods.core.registry import UserError, did_you_mean, get, names
from paibench.methods.core.text import printable

LEASE = 3600.0  # seconds after which another process takes over from a machine that died


@dataclass(frozen=True)
class Source:
    """A set that can be downloaded.

    It consists of the files or folders `entries`. `fetch(folder)` downloads them, and
    `check(folder)` raises UserError unless they are complete and correct.
    """

    entries: tuple[str, ...]
    fetch: Callable[[Path], object]
    check: Callable[[Path], object]


def prepare(name: str, root: Path) -> str:
    """Download a data set into the data folder; return one line about what was done.

    Raises UserError if the set cannot be downloaded, the network or the disk fails, or the
    downloaded files are not the set.
    """
    if name in SOURCES:
        return install(name, SOURCES[name], Path(root))
    if name in names("datasets"):
        why = _BY_HAND.get(name, "it belongs to a plugin; see the plugin's documentation")
        raise UserError(f"{name} cannot be downloaded: {why}")
    raise UserError(f"unknown data set {name[:80]!r}; {did_you_mean(name, SOURCES)}")


def install(
    name: str, source: Source, root: Path, *, lease: float = LEASE, pause: float = 1.0
) -> str:
    """Install the entries of a source in `root`; return one line about what was done.

    If another process is downloading, check again every `pause` seconds.
    """
    work = root / ".paibench" / f"prepare-{name}"
    try:
        # checked before any folder is made, since a complete set may be in a read-only folder
        while not is_complete(source, root):
            work.mkdir(parents=True, exist_ok=True)
            acquired = acquire(work, new_attempt_id(), lease)
            if acquired is None:
                time.sleep(pause)
                continue
            try:
                return _install(name, source, root, work)
            finally:
                acquired.release()
    except OSError as error:
        why = " ".join(str(error).split())
        raise UserError(f"{name}: cannot be installed in {printable(root)}: {why}") from error
    return f"{name} is already in {printable(root)}"


def is_complete(source: Source, root: Path) -> bool:
    """Return whether the set is there, complete and correct."""
    if not root.exists() or not set(source.entries) <= set(os.listdir(root)):
        return False
    try:
        source.check(root)
    except UserError:
        return False
    return True


def _install(name: str, source: Source, root: Path, work: Path) -> str:
    if is_complete(source, root):  # another process finished while this one waited
        return f"{name} is already in {printable(root)}"
    for unfinished in work.glob("download-*"):  # of a process that was killed
        shutil.rmtree(unfinished, ignore_errors=True)
    private = Path(tempfile.mkdtemp(prefix="download-", dir=work))
    try:
        try:
            source.fetch(private)
        except (OSError, RuntimeError) as error:
            why = " ".join(str(error).split())[:300]
            raise UserError(f"{name}: the download failed: {why}; try again") from error
        source.check(private)
        aside = _move(source.entries, private, root, work)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    replaced = f"; the damaged one that was there is now in {printable(aside)}" if aside else ""
    return f"{name} is downloaded to {printable(root)}{replaced}"


def _move(entries: Sequence[str], private: Path, root: Path, work: Path) -> Path | None:
    """Move the entries into the data folder; return the folder of those that they replace."""
    damaged = sorted(set(entries) & set(os.listdir(root)))
    # damaged files are moved, not deleted: they belong to the user
    aside = work / f"damaged-{uuid4().hex[:8]}" if damaged else None
    if aside:
        aside.mkdir()
        for entry in damaged:
            os.rename(root / entry, aside / entry)
    for entry in entries:
        if (private / entry).is_dir():
            os.rename(private / entry, root / entry)  # fails if a folder with files is there
        else:
            # unlike rename, link never replaces a file
            os.link(private / entry, root / entry)
    return aside


def _from_torchvision(
    name: str, kind: str, *entries: str, splits: Sequence[dict[str, str]] = ({},)
) -> Source:
    """Return a set that torchvision downloads split by split, checking the md5 of the archives."""

    def fetch(folder: Path) -> None:
        from torchvision import datasets

        for split in splits:
            getattr(datasets, kind)(folder, download=True, **split)

    return Source(entries, fetch, _reader(name))


def _reader(name: str) -> Callable[[Path], object]:
    # the loader itself verifies digests and counts
    return lambda folder: get(name, "datasets")(folder, 0)


def _fetch_tiny_imagenet(folder: Path) -> None:
    from torchvision.datasets.utils import download_and_extract_archive

    url, md5 = TINY_IMAGENET
    download_and_extract_archive(url, str(folder), md5=md5)


SOURCES = {
    "mnist": _from_torchvision("mnist", "MNIST", "MNIST"),
    "fashion_mnist": _from_torchvision("fashion_mnist", "FashionMNIST", "FashionMNIST"),
    "kmnist": _from_torchvision("kmnist", "KMNIST", "KMNIST"),
    "cifar10": _from_torchvision("cifar10", "CIFAR10", "cifar-10-batches-py"),
    "cifar100": _from_torchvision("cifar100", "CIFAR100", "cifar-100-python"),
    "svhn": _from_torchvision(
        "svhn",
        "SVHN",
        "train_32x32.mat",
        "test_32x32.mat",
        splits=[{"split": "train"}, {"split": "test"}],
    ),
    "tiny_imagenet": Source(("tiny-imagenet-200",), _fetch_tiny_imagenet, _reader("tiny_imagenet")),
}

_BY_HAND = {
    "digits": "it is embedded and needs no preparation",
    "imagefolder": "it reads folders that you have",
    "imagenet": "get it from image-net.org, lay it out as imagenet/{train,val}/CLASS/*.JPEG",
}
