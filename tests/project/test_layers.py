"""Imports point down: read from the source, nested ones too, and held to the table of the design.

Level 0 is the ground that methods, networks and harness stand on; networks take the one definition
of a prunable weight from there. Level 1 is finders, networks and plain values, level 2 the harness,
level 3 the doing of a run, level 4 what is made of many runs, level 5 the front door.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("benchmark", "leaderboard", "methods", "models", "slurm")

LEVELS = {
    "models": 1,
    "methods": 1,
    **dict.fromkeys(("methods.core", "methods.training"), 0),
    # what holds of all finders, and is written for new ones, knows none of them
    **dict.fromkeys(("methods.conformance", "methods.scaffold"), 0),
    "benchmark": 1,
    **dict.fromkeys(("benchmark.data", "benchmark.steps"), 2),
    **dict.fromkeys(("benchmark.run", "benchmark.execution", "benchmark.sandbox"), 3),
    "leaderboard": 4,
    "slurm": 4,
}
"""The level of every folder and file: that of the longest name here that begins its own."""
TORCH = {"numpy", "safetensors", "torch"}
THIRD_PARTY = {
    "methods": TORCH,
    "models": {"torch"},
    "plain": {"pydantic"},
    "benchmark": TORCH | {"PIL", "pydantic", "scipy", "sklearn", "torchvision"},
    "leaderboard": {"altair", "jinja2", "matplotlib", "numpy", "pandas", "pyarrow", "rich"}
    | {"scipy", "seaborn", "vl_convert"},
    "slurm": {"pydantic", "submitit"},
    "paibench": {"rich", "torch", "typer"},
}


@cache
def files() -> dict[str, Path]:
    """Every module of the package by its dotted name without `paibench.`."""
    door = ROOT / "src" / "paibench"
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    named = {path: path.relative_to(ROOT) for path in found}
    outside = [*door.glob("*.py"), *(door / "commands").rglob("*.py")]
    named |= {path: path.relative_to(door) for path in outside}
    return {
        ".".join(name.with_suffix("").parts).removesuffix(".__init__"): path
        for path, name in named.items()
    }


@cache
def imports(module: str) -> frozenset[str]:
    """The full names of all modules that a module imports, at its top or anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(files()[module].read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.add(inner if inner.removeprefix("paibench.") in files() else source)
    return frozenset(found)


def ours(module: str) -> set[str]:
    """The modules of the package that a module imports, as `files` names them."""
    full = {name for name in imports(module) if f"{name}.".startswith("paibench.")}
    return {name.removeprefix("paibench").lstrip(".") or "__init__" for name in full}


def theirs(module: str) -> set[str]:
    """All others that it imports."""
    return {name for name in imports(module) if not f"{name}.".startswith("paibench.")}


def below(module: str) -> set[str]:
    """The module and all of ours that it imports, directly or not."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting.extend(ours(name))
    return reached


def room(module: str) -> str:
    first = module.partition(".")[0]
    return first if first in ROOMS else "paibench"


def level(module: str) -> int:
    """The row of the table that a module stands in."""
    names = [module.rsplit(".", cut)[0] for cut in range(module.count(".") + 1)]
    return next((LEVELS[name] for name in names if name in LEVELS), 5)


def misplaced(module: str) -> Iterator[str]:
    """Every import of a module that the table does not allow, with the reason."""
    here = room(module)
    for other in sorted(ours(module)):
        there = room(other)
        if level(other) > level(module):
            yield f"{other} is above it"
        elif there != here and level(other) == level(module):
            yield f"{other} is beside it"
        elif there == "methods" != here and level(other) == 1:
            yield f"{other} is a finder, which is got by name through the registry"
        elif here in ("methods", "models") and there != here and level(other) > 0:
            yield f"{other} is of another room, which {here} know nothing of"
    allowed = THIRD_PARTY["plain" if here == "benchmark" and level(module) == 1 else here]
    allowed = allowed | ({"timm"} if module == "models.timm_adapter" else set())
    allowed = allowed | ({"pytest"} if module.startswith("methods.conformance") else set())
    for other in sorted(theirs(module)):
        top = other.partition(".")[0]
        if other.startswith(".") or top in ROOMS:
            yield f"{other} is not said in full: write paibench.…"
        elif top not in allowed | sys.stdlib_module_names:
            yield f"{other} is not for level {level(module)}"


@pytest.mark.parametrize("module", sorted(files()))
def test_imports_point_down(module: str) -> None:
    """A module imports what stands below it in the table, or beside it in its own room."""
    assert list(misplaced(module)) == []


def test_there_are_no_cycles() -> None:
    """Any module can be imported first."""
    graph = {module: ours(module) for module in files()}
    assert set(TopologicalSorter(graph).static_order()) == files().keys()


@pytest.mark.parametrize(
    "module",
    sorted(
        name
        for name in files()
        if room(name) in ("leaderboard", "slurm")
        or (room(name) == "benchmark" and level(name) == 1)
    ),
)
def test_a_laptop_needs_no_torch(module: str) -> None:
    """Plain values, leaderboard and submission reach no module that imports torch."""
    heavy = {
        name: other
        for name in below(module)
        for other in theirs(name)
        if other.partition(".")[0] == "torch"
    }
    assert heavy == {}


def test_the_leaderboard_runs_without_torch() -> None:
    """The same as seen by the interpreter, third parties included."""
    board = [f"paibench.{name}" for name in sorted(files()) if room(name) == "leaderboard"]
    code = f"import sys, {', '.join(board)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_levels_are_of_files() -> None:
    """Every name in the table is a file or a folder."""
    assert LEVELS.keys() - files().keys() == set()


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("methods.core.mask", "import paibench.methods.saliency.snip", "snip is above it"),
        ("methods.snip", "import paibench.benchmark.spec", "benchmark.spec is beside it"),
        (
            "methods.snip",
            "from paibench.models.core.build import x",
            "models.core.build is beside it",
        ),
        (
            "models.vgg",
            "from paibench.methods.saliency.snip import x",
            "methods.saliency.snip is beside it",
        ),
        ("benchmark.spec", "def f():\n    from paibench.benchmark import run", "run is above it"),
        (
            "benchmark.run",
            "from paibench.methods.saliency.snip import snip",
            "methods.saliency.snip is a finder",
        ),
        ("benchmark.spec", "import torch.nn", "torch.nn is not for level 1"),
        ("leaderboard", "import paibench.slurm", "slurm is beside it"),
        ("leaderboard", "import torch", "torch is not for level 4"),
        ("benchmark.run", "import paibench.commands.run", "commands.run is above it"),
        ("benchmark.run", "from . import spec", ". is not said in full"),
        ("benchmark.run", "import methods", "methods is not said in full"),
        ("models.vgg", "import timm", "timm is not for level 1"),
    ],
    ids=lambda value: value if " " not in value else "",
)
def test_the_test_sees_what_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, source: str, said: str
) -> None:
    """Each kind of wrong import is found, also inside a function."""
    path = tmp_path / "wrong.py"
    path.write_text(source)
    monkeypatch.setitem(files(), module, path)
    monkeypatch.setattr(sys.modules[__name__], "imports", imports.__wrapped__)
    assert [said in found for found in misplaced(module)] == [True]
