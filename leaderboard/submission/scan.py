"""Which files a submission holds: listed without following a link and without opening any."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from paibench.benchmark.store.atomic import LIMIT
from paibench.leaderboard.submission.findings import Fault, Finding, finding

MASK_LIMIT = 2**27  # bytes; a thousand million weights
SWEEP_LIMIT = 2**26

_SHARD = re.compile(r"[0-9a-f]{2}")
_RECORD = re.compile(r"([0-9a-f]{40})\.json")
_FAILED = re.compile(r"[0-9a-f]{40}\.failed")
_FOLDER = re.compile(r"[0-9a-f]{40}")
_MASK = re.compile(r"mask-[0-9a-f]{16}\.safetensors")
_CURVE = re.compile(r"curve-[0-9a-f]{16}\.json")
_SWEEP = re.compile(r"[0-9a-f]{40}\.json")
_AT_WORK = re.compile(r"attempts|checkpoints|claim.*|\.tmp-.*")  # beside a run in a store of work
_OF_A_STORE = {"stages", "submissions", "quarantine", "index", "leaderboard"}


@dataclass
class Tree:
    """The files of one store that are to be read, each known to be plain and not too large."""

    root: Path
    name: str = ""
    """What its files are called by: the store's folder and "/", or nothing."""
    records: dict[str, Path] = field(default_factory=dict)
    """By the key of their file name."""
    beside: dict[str, dict[str, Path]] = field(default_factory=dict)
    """Masks and curves by key and file name."""
    sweeps: list[Path] = field(default_factory=list)
    marks: list[Path] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unpublished: Counter[str] = field(default_factory=Counter)
    """How many of each kind of thing there are that a store of work has and no submission."""

    def shown(self, path: Path) -> str:
        """A file of it as findings name it."""
        return f"{self.name}{path.relative_to(self.root)}"

    def refuse(self, path: Path, check: str, expected: str, came: str) -> None:
        """Note that a file cannot be part of a submission."""
        self.findings.append(finding(self.shown(path), None, Fault(check, expected, came)))


def scan(root: Path, name: str = "") -> Tree:
    """What lies in a store. Raises OSError where a folder cannot be listed."""
    tree = Tree(root, name)
    for entry in _entries(root):
        path = Path(entry.path)
        if entry.name == "bench.json":
            _plain(tree, entry, LIMIT)
        elif entry.name in ("runs", "sweeps", "marks") and _is_folder(tree, entry):
            {"runs": _runs, "sweeps": _sweeps, "marks": _marks}[entry.name](tree, path)
        elif entry.name in _OF_A_STORE and entry.is_dir(follow_symlinks=False):
            tree.unpublished[entry.name] += bool(_entries(path))
        elif entry.name not in ("runs", "sweeps", "marks"):
            tree.refuse(path, "unknown", "the files of a store", "another file or folder")
    for kind, number in sorted(tree.unpublished.items()):
        if number:
            came = f"{number} of them"
            fault = Fault("unknown", "only what is published", came, "warning")
            tree.findings.append(finding(f"{name}{kind}", None, fault))
    return tree


def _runs(tree: Tree, folder: Path) -> None:
    for shard in _entries(folder):
        if not _SHARD.fullmatch(shard.name):
            tree.refuse(Path(shard.path), "unknown", "folders 00 to ff", "another name")
        elif _is_folder(tree, shard):
            for entry in _entries(Path(shard.path)):
                _run(tree, shard.name, entry)


def _run(tree: Tree, shard: str, entry: "os.DirEntry[str]") -> None:
    path = Path(entry.path)
    if found := _RECORD.fullmatch(entry.name):
        if not entry.name.startswith(shard):
            tree.refuse(path, "name", f"a key that begins with {shard}", entry.name)
        elif _plain(tree, entry, LIMIT):
            tree.records[found[1]] = path
    elif _FAILED.fullmatch(entry.name):
        tree.unpublished["runs/*/*.failed"] += 1
    elif _FOLDER.fullmatch(entry.name) and entry.name.startswith(shard):
        if _is_folder(tree, entry):
            _beside(tree, path)
    elif _AT_WORK.fullmatch(entry.name):
        tree.unpublished[f"runs/*/{entry.name[:20]}"] += 1
    else:
        tree.refuse(path, "unknown", "KEY.json and the folder KEY", "another name")


def _beside(tree: Tree, folder: Path) -> None:
    found = tree.beside.setdefault(folder.name, {})
    for entry in _entries(folder):
        if _AT_WORK.fullmatch(entry.name):
            kind = entry.name if entry.name in ("attempts", "checkpoints") else "claims"
            tree.unpublished[f"runs/*/*/{kind}"] += 1
        elif _MASK.fullmatch(entry.name) or _CURVE.fullmatch(entry.name):
            if _plain(tree, entry, MASK_LIMIT if _MASK.fullmatch(entry.name) else LIMIT):
                found[entry.name] = Path(entry.path)
        else:
            tree.refuse(Path(entry.path), "unknown", "a mask and a curve", "another name")


def _sweeps(tree: Tree, folder: Path) -> None:
    for entry in _entries(folder):
        if not _SWEEP.fullmatch(entry.name):
            tree.refuse(Path(entry.path), "unknown", "sweeps by their hash", "another name")
        elif _plain(tree, entry, SWEEP_LIMIT):
            tree.sweeps.append(Path(entry.path))


def _marks(tree: Tree, folder: Path) -> None:
    for entry in _entries(folder):
        if not _RECORD.fullmatch(entry.name):
            tree.refuse(Path(entry.path), "unknown", "marks by the key of a run", "another name")
        elif _plain(tree, entry, LIMIT):
            tree.marks.append(Path(entry.path))


def _plain(tree: Tree, entry: "os.DirEntry[str]", limit: int) -> bool:
    """Whether this is a plain file of at most so many bytes; noted where it is not."""
    path = Path(entry.path)
    if not entry.is_file(follow_symlinks=False):
        tree.refuse(path, "file", "a plain file", _kind(entry))
        return False
    size = entry.stat(follow_symlinks=False).st_size
    if size > limit:
        tree.refuse(path, "file", f"at most {limit} bytes", f"{size} bytes")
    return size <= limit


def _is_folder(tree: Tree, entry: "os.DirEntry[str]") -> bool:
    if entry.is_dir(follow_symlinks=False):
        return True
    tree.refuse(Path(entry.path), "file", "a folder", _kind(entry))
    return False


def _kind(entry: "os.DirEntry[str]") -> str:
    if entry.is_symlink():
        return "a link"
    if entry.is_dir(follow_symlinks=False):
        return "a folder"
    return "a file" if entry.is_file(follow_symlinks=False) else "a pipe, socket or device"


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def stores(root: Path) -> Iterator[tuple[str, Path]]:
    """The stores of a folder by their names: itself, as "", or those that lie in it."""
    if "bench.json" in os.listdir(root):
        yield "", root
        return
    for entry in _entries(root):
        if entry.is_dir(follow_symlinks=False) and "bench.json" in os.listdir(entry.path):
            yield entry.name, Path(entry.path)
