"""The published results, which a submission may add to but not change."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from paibench.benchmark.store.atomic import read
from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.leaderboard.submission.checks.cross import Run
from paibench.leaderboard.submission.findings import Fault, Finding, finding
from paibench.leaderboard.submission.open import open_record
from paibench.leaderboard.submission.scan import MASK_LIMIT, StoreFiles


class Baseline:
    """Published stores: the digests of their records and marks, and the names of their files."""

    def __init__(self, stores: Sequence[StoreFiles] = ()) -> None:
        self._stores = stores

    @cached_property
    def records(self) -> dict[str, str]:
        """The sha256 of the file of each record, by key."""
        return _digests(path for store in self._stores for path in store.records.values())

    @cached_property
    def marks(self) -> dict[str, str]:
        """The sha256 of the file of each mark, by key."""
        return _digests(path for store in self._stores for path in store.marks)

    def attachments(self, key: str) -> set[str]:
        """Return the names of the published mask and curve of a record."""
        return {name for store in self._stores for name in store.attachments.get(key, ())}

    def has_sweep(self, name: str) -> bool:
        """Return whether a sweep is published."""
        return any(path.name == name for store in self._stores for path in store.sweeps)

    def runs_except(self, keys: Collection[str]) -> list[Run]:
        """Return the valid published records, without those of `keys`."""
        # A submitted copy of a published run would otherwise count twice.
        return [
            Run(f"{store.display(path)} (published)", submitted, new=False)
            for store in self._stores
            for key, path in store.records.items()
            if key not in keys and (submitted := open_record(path, key).submitted)
        ]

    def lost(self, stores: Sequence[StoreFiles]) -> Iterator[Finding]:
        """Find published files that these stores lack or have changed.

        Only a folder of stores is all that is published, so a single store gives no findings.
        """
        if not all(store.name for store in self._stores):
            return
        present = {name: path for store in stores for name, path in _files(store)}
        for store in self._stores:
            # Changed records are found when they are opened, so they are not reported twice.
            compared = {path for files in store.attachments.values() for path in files.values()}
            compared.update(store.sweeps)
            for name, path in _files(store):
                # A renamed file counts as removed: its name has its key or its hash.
                if name not in present:
                    yield finding(name, None, Fault("removed", "a published file", "nothing"))
                elif path in compared and digest(path) != digest(present[name]):
                    fault = Fault("changed", "the published bytes", "other bytes")
                    yield finding(name, None, fault)


def digest(path: Path) -> str | None:
    """Return the sha256 of a file, or None if it cannot be read."""
    with suppress(OSError, Corrupt):
        return sha256(read(path, MASK_LIMIT)).hexdigest()
    return None


def _digests(paths: Iterable[Path]) -> dict[str, str]:
    return {path.stem: value for path in paths if (value := digest(path))}


def _files(store: StoreFiles) -> Iterator[tuple[str, Path]]:
    """Every published file with its name."""
    attached = (path for files in store.attachments.values() for path in files.values())
    for path in (*store.records.values(), *attached, *store.sweeps, *store.marks):
        yield store.display(path), path
