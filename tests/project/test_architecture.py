"""docs/architecture.md describes the code and the store as they are."""

import ast
import os
import re
from pathlib import Path

from paibench.benchmark.store.store import Store

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmark", "leaderboard", "methods", "models", "slurm", "src/paibench")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def tree(heading: str) -> list[str]:
    """The paths in the first text block below a heading, with folders given by indentation."""
    block = re.search(rf"^## {heading}\n.*?^```text\n(.*?)^```", PAGE, flags=re.M | re.S)
    assert block, f"docs/architecture.md has no tree below {heading!r}"
    paths: list[str] = []
    parents: list[str] = []
    for line in filter(None, block[1].splitlines()):
        indent = len(line) - len(line.lstrip())
        parents[indent // 2 :] = [line.split()[0].rstrip("/")]
        paths.append("/".join(parents))
    return paths


def modules() -> dict[str, Path]:
    """The folders and modules of the package, by path from the root, with the file to read."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    own = [path for path in files if "templates" not in path.parts]
    named = {path: path.parent if path.name == "__init__.py" else path for path in own}
    return {name.relative_to(ROOT).as_posix(): path for path, name in named.items()}


def summary(path: Path) -> str:
    """The first line of the docstring of a file."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def test_the_tree_names_every_module_once() -> None:
    """The tree has a line for each folder and module of the code, and no other line."""
    listed = tree("The tree")
    expected = modules()
    missing = [
        f"add a line for {name}: {summary(expected[name])}"
        for name in sorted(expected.keys() - set(listed))
    ]
    stale = [f"remove the line for {name}" for name in sorted(set(listed) - expected.keys())]
    twice = [f"{name} has two lines" for name in sorted(set(listed)) if listed.count(name) > 1]
    assert "\n".join(missing + stale + twice) == ""


def test_the_store_is_drawn_as_it_is_made(tmp_path: Path) -> None:
    """Every file and folder of a new store is in the drawing of a store."""
    drawn = {path.split("/")[1] for path in tree("The store on disk")[1:]}
    assert set(os.listdir(Store.open(tmp_path / "store").root)) - drawn == set()


def test_the_page_names_files_that_exist() -> None:
    """Every file that a sentence or a glossary entry names exists."""
    prose = re.sub(r"^```.*?^```", "", PAGE, flags=re.M | re.S)
    named = re.findall(r"`((?:\w+/)+(?:\w+\.(?:py|csv))?)`", prose)
    short = ("", "src/paibench/")
    assert [name for name in named if not any((ROOT / s / name).exists() for s in short)] == []
