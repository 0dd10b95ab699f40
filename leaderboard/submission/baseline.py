"""What is published already, which a submission may add to and must not change."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.leaderboard.submission.checks.cross import Run
from paibench.leaderboard.submission.findings import Fault, Finding, finding
from paibench.leaderboard.submission.open import open_record
from paibench.leaderboard.submission.scan import MASK_LIMIT, Tree


class Reference:
    """Published stores: the bytes of their records and marks by key, and which files there are."""

    def __init__(self, trees: Sequence[Tree]) -> None:
        self._trees = trees

    @cached_property
    def digests(self) -> dict[str, str]:
        """The sha256 of the file of each record."""
        return _digests(path for tree in self._trees for path in tree.records.values())

    @cached_property
    def marks(self) -> dict[str, str]:
        """The same of each mark."""
        return _digests(path for tree in self._trees for path in tree.marks)

    def beside(self, key: str) -> set[str]:
        """The names of the mask and the curve of a record, as far as they are published."""
        return {name for tree in self._trees for name in tree.beside.get(key, ())}

    def has_sweep(self, name: str) -> bool:
        """Whether a sweep is published."""
        return any(path.name == name for tree in self._trees for path in tree.sweeps)

    def runs(self, but: Collection[str]) -> list[Run]:
        """The published records that are sound, but for those with these keys."""
        found = []
        for tree in self._trees:
            for key, path in tree.records.items():
                if key not in but and (submitted := open_record(path, key).found):
                    found.append(Run(f"{tree.shown(path)} (published)", submitted, new=False))
        return found

    def lost(self, trees: Sequence[Tree]) -> Iterator[Finding]:
        """What is published in folders of stores and is not in these any more, or is other."""
        there = {name: path for tree in trees for name, path in _files(tree)}
        for tree in self._trees if all(tree.name for tree in self._trees) else ():
            for name, path in _files(tree):
                if name not in there:
                    yield finding(name, None, Fault("removed", "a published file", "nothing"))
                    continue
                told = path.parent.name not in tree.beside and path not in tree.sweeps
                if not told and _digest(path) != _digest(there[name]):  # told of as a record
                    yield finding(name, None, Fault("changed", "its bytes", "other bytes"))


NOTHING = Reference(())


def _files(tree: Tree) -> Iterator[tuple[str, Path]]:
    """Every published file by its name."""
    beside = (path for files in tree.beside.values() for path in files.values())
    for path in (*tree.records.values(), *beside, *tree.sweeps, *tree.marks):
        yield tree.shown(path), path


def _digest(path: Path) -> str | None:
    with suppress(OSError, Corrupt):
        return sha256(read(path, MASK_LIMIT)).hexdigest()
    return None


def _digests(paths: Iterator[Path]) -> dict[str, str]:
    found = {}
    for path in paths:
        with suppress(OSError, Corrupt):
            found[path.stem] = sha256(read(path)).hexdigest()
    return found
