"""The layout of folders: small enough to read at a glance, and the same for code and tests."""

import ast
import os
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("benchmark", "leaderboard", "methods", "models", "slurm")
MOST_ENTRIES = 12
OF_NO_ROOM = {"browser", "golden", "performance", "project", "support"}
"""Folders of tests that are about the whole."""

PARTS = {
    "benchmark.sandbox.child": "runs in another process than its parent, without its imports",
    "benchmark.sandbox.process": "starts and limits the process that its parent talks to",
    "commands": "one file per group of commands, tested through the command line",
    "leaderboard.figures.build": "draws all figures; tested through the files of a leaderboard",
    "leaderboard.site.output": "writes the files of the site, tested through the site",
    "leaderboard.site.slugs": "names the pages of the site, tested through the site",
    "leaderboard.submission.baseline": "what a submission is compared with; tested by validation",
    "leaderboard.submission.checks": "one file per group of checks, tested by validation",
    "methods.conformance.cases": "the contract that tests run through its runner",
    "methods.conformance.probes": "what the cases of the contract observe",
}
"""Modules, or folders of them, that one module imports and no test, with the reason."""


def folders(root: Path) -> Iterator[Path]:
    """Yield a folder and all below it, except recorded data and caches."""
    for folder, names, _ in os.walk(root):
        names[:] = [name for name in names if name not in ("__pycache__", "golden")]
        yield Path(folder)


def module_of(path: Path) -> str:
    """Return the dotted name of a file without `paibench.`, "" for another file."""
    inner = path.relative_to(ROOT)
    if inner.is_relative_to("src/paibench"):
        inner = inner.relative_to("src/paibench")
    name = ".".join(inner.with_suffix("").parts).removesuffix(".__init__")
    return name if name.partition(".")[0] in (*ROOMS, "commands", "cli") else ""


def python_files(*roots: str) -> list[Path]:
    return [path for root in roots for path in sorted((ROOT / root).rglob("*.py"))]


@cache
def modules() -> dict[str, Path]:
    """Return every module of the package by its name without `paibench.`."""
    return {module_of(path): path for path in python_files(*ROOMS, "src/paibench/commands")}


def imported_by(path: Path) -> set[str]:
    """Return the modules of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return {name.removeprefix("paibench.") for name in found} & modules().keys()


@pytest.mark.parametrize("root", [*ROOMS, "src/paibench", "tests"])
def test_no_folder_has_many_entries(root: str) -> None:
    """A folder has at most twelve files and folders."""
    counts = {
        str(folder.relative_to(ROOT)): len(set(os.listdir(folder)) - {"__pycache__"})
        for folder in folders(ROOT / root)
    }
    assert {name: count for name, count in counts.items() if count > MOST_ENTRIES} == {}


def test_tests_lie_as_the_code_does() -> None:
    """The folder of a test is that of its module, below `tests`; `slurm` has two kinds of tests."""
    lost = []
    for path in python_files("tests"):
        inner = path.parent.relative_to(ROOT / "tests")
        parts = [part for part in inner.parts if part not in ("unit", "real")]
        places = [ROOT.joinpath(*parts), ROOT.joinpath("src", "paibench", *parts)]
        known = OF_NO_ROOM.intersection(parts) or any(place.is_dir() for place in places)
        if path.name.startswith("test_") and not known:
            lost.append(str(inner))
    assert lost == []


def test_a_module_has_two_importers_or_a_test() -> None:
    """A module that only one other module imports belongs into it, unless it is tested."""
    importers = defaultdict(set)
    for path in python_files(*ROOMS, "src/paibench", "tests"):
        for name in imported_by(path):
            importers[name].add(path)
    sections = []
    for name, path in modules().items():
        own_test = ROOT.joinpath("tests", *name.split(".")[:-1], f"test_{path.name}")
        names = {name.rsplit(".", cut)[0] for cut in range(name.count(".") + 1)}
        tested = own_test.is_file() or any(
            each.is_relative_to(ROOT / "tests") for each in importers[name]
        )
        if path.name != "__init__.py" and len(importers[name]) == 1 and not tested:
            sections += [name] if not names & PARTS.keys() else []
    assert sections == []
