"""List the files of a submission without following links and without opening any file."""

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from paibench.benchmark.store.atomic import LIMIT
from paibench.leaderboard.submission.findings import Fault, Finding, finding

MASK_LIMIT = 2**27  # bytes, enough for a thousand million weights
SWEEP_LIMIT = 2**26

_PREFIX = re.compile(r"[0-9a-f]{2}")
_RECORD = re.compile(r"([0-9a-f]{40})\.json")
_FAILED = re.compile(r"[0-9a-f]{40}\.failed")
_KEY = re.compile(r"[0-9a-f]{40}")
_MASK = re.compile(r"mask-[0-9a-f]{16}\.safetensors")
_MARK = re.compile(r"[0-9a-f]{40}(\.tries)?\.json")
_SMALL = re.compile(r"curve-[0-9a-f]{16}\.json|predictions-[0-9a-f]{16}\.bin")
# A store in which runs are executed also has these. They are counted, not refused, so that a user
# may validate a store before it is exported.
_WORK_FILES = re.compile(r"attempts|checkpoints|claim.*|\.tmp-.*")
_WORK_FOLDERS = {"stages", "submissions", "quarantine", "index", "leaderboard"}


@dataclass
class StoreFiles:
    """The files of one store, each known to be a regular file of an acceptable size."""

    root: Path
    name: str = ""
    """The prefix of its files in findings: the folder of the store and "/", or nothing."""
    records: dict[str, Path] = field(default_factory=dict)
    """By the key in their file name."""
    attachments: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Masks, curves and predictions by key and file name."""
    sweeps: list[Path] = field(default_factory=list)
    marks: list[Path] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unpublished: Counter[str] = field(default_factory=Counter)
    """The number of files that exist only where runs are executed, by kind."""

    def display(self, path: Path) -> str:
        """Return the name of a file in findings."""
        return f"{self.name}{path.relative_to(self.root)}"

    def refuse(self, path: Path, check: str, expected: str, actual: str) -> None:
        """Add a finding for a file that cannot be part of a submission."""
        self.findings.append(finding(self.display(path), None, Fault(check, expected, actual)))


def scan(root: Path, name: str = "") -> StoreFiles:
    """List the files of a store. Raises OSError if a folder cannot be listed."""
    store = StoreFiles(root, name)
    parts = {"runs": _scan_runs, "sweeps": _scan_sweeps, "marks": _scan_marks}
    for entry in _entries(root):
        path = Path(entry.path)
        if entry.name == "bench.json":
            _is_regular(store, entry, LIMIT)
        elif entry.name in parts:
            if _is_folder(store, entry):
                parts[entry.name](store, path)
        elif entry.name in _WORK_FOLDERS and entry.is_dir(follow_symlinks=False):
            store.unpublished[entry.name] += bool(_entries(path))
        else:
            store.refuse(path, "unknown", "the files of a store", "another file or folder")
    for kind, number in sorted(store.unpublished.items()):
        if number:
            fault = Fault("unknown", "only published files", f"{number} of these", "warning")
            store.findings.append(finding(f"{name}{kind}", None, fault))
    return store


def _scan_runs(store: StoreFiles, folder: Path) -> None:
    for prefix in _entries(folder):
        if not _PREFIX.fullmatch(prefix.name):
            store.refuse(Path(prefix.path), "unknown", "folders 00 to ff", "another name")
        elif _is_folder(store, prefix):
            for entry in _entries(Path(prefix.path)):
                _scan_run(store, prefix.name, entry)


def _scan_run(store: StoreFiles, prefix: str, entry: "os.DirEntry[str]") -> None:
    path = Path(entry.path)
    if match := _RECORD.fullmatch(entry.name):
        if not entry.name.startswith(prefix):
            store.refuse(path, "name", f"a key that begins with {prefix}", entry.name)
        elif _is_regular(store, entry, LIMIT):
            store.records[match[1]] = path
    elif _FAILED.fullmatch(entry.name):
        store.unpublished["runs/*/*.failed"] += 1
    elif _KEY.fullmatch(entry.name) and entry.name.startswith(prefix):
        if _is_folder(store, entry):
            _scan_attachments(store, path)
    elif _WORK_FILES.fullmatch(entry.name):
        store.unpublished[f"runs/*/{entry.name[:20]}"] += 1
    else:
        store.refuse(path, "unknown", "KEY.json and the folder KEY", "another name")


def _scan_attachments(store: StoreFiles, folder: Path) -> None:
    attachments = store.attachments.setdefault(folder.name, {})
    for entry in _entries(folder):
        if _WORK_FILES.fullmatch(entry.name):
            kind = entry.name if entry.name in ("attempts", "checkpoints") else "claims"
            store.unpublished[f"runs/*/*/{kind}"] += 1
        elif _MASK.fullmatch(entry.name) or _SMALL.fullmatch(entry.name):
            if _is_regular(store, entry, MASK_LIMIT if _MASK.fullmatch(entry.name) else LIMIT):
                attachments[entry.name] = Path(entry.path)
        else:
            expected = "a mask, a curve and predictions"
            store.refuse(Path(entry.path), "unknown", expected, "another name")


def _scan_sweeps(store: StoreFiles, folder: Path) -> None:
    for entry in _entries(folder):
        if not _RECORD.fullmatch(entry.name):  # a sweep, too, is named after a digest
            store.refuse(Path(entry.path), "unknown", "sweeps named by their hash", "another name")
        elif _is_regular(store, entry, SWEEP_LIMIT):
            store.sweeps.append(Path(entry.path))


def _scan_marks(store: StoreFiles, folder: Path) -> None:
    for entry in _entries(folder):
        if not _MARK.fullmatch(entry.name):
            store.refuse(Path(entry.path), "unknown", "marks named by a key", "another name")
        elif _is_regular(store, entry, LIMIT):
            store.marks.append(Path(entry.path))


def _is_regular(store: StoreFiles, entry: "os.DirEntry[str]", limit: int) -> bool:
    """Return whether this is a regular file of at most `limit` bytes; otherwise add a finding."""
    path = Path(entry.path)
    # A link could lead out of the store, and opening a pipe would wait for ever.
    if not entry.is_file(follow_symlinks=False):
        store.refuse(path, "file", "a regular file", _kind(entry))
        return False
    size = entry.stat(follow_symlinks=False).st_size
    if size > limit:
        store.refuse(path, "file", f"at most {limit} bytes", f"{size} bytes")
    return size <= limit


def _is_folder(store: StoreFiles, entry: "os.DirEntry[str]") -> bool:
    if entry.is_dir(follow_symlinks=False):
        return True
    store.refuse(Path(entry.path), "file", "a folder", _kind(entry))
    return False


def _kind(entry: "os.DirEntry[str]") -> str:
    if entry.is_symlink():
        return "a link"
    if entry.is_dir(follow_symlinks=False):
        return "a folder"
    return "a file" if entry.is_file(follow_symlinks=False) else "a pipe, socket or device"


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    with os.scandir(folder) as entries:
        # The order of a file system differs between machines; that of findings must not.
        return sorted(entries, key=lambda entry: entry.name)
