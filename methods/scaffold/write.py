"""Write the package of a new method: everything except the idea."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from paibench.methods.core.registry import UserError, did_you_mean, names

SHAPES = {
    "oneshot": "scores from a few batches",
    "synflow": "scores in rounds, computed again for the remaining weights",
    "imp": "rounds of training and pruning, each a cached stage",
    "edge_popup": "trained scores on frozen weights",
}
"""The templates of a method, with a description."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def write_package(name: str, folder: Path, shape: str = "oneshot") -> list[Path]:
    """Write a package for a method of this name to a new folder; return its files.

    Raises UserError, before anything is written, for a name that is invalid or taken, an unknown
    shape, or a folder that is not empty.
    """
    _check_name(name)
    if shape not in SHAPES:
        raise UserError(f"--from {shape!r:.80} is unknown; {did_you_mean(shape, SHAPES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{str(folder)!r:.200} already exists; choose another folder with --at")
    source = f"src/paibench_{name}"
    texts = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        ".github/workflows/check.yml": "check.yml",
        f"{source}/{name}.py": f"{shape}.py",
        f"tests/test_{name}.py": "test_method.py",
    }
    blanks = {"name": name, "dashed": name.replace("_", "-")}
    # safe, because the workflow has ${{ }} of its own
    written = {path: _template(file).safe_substitute(blanks) for path, file in texts.items()}
    written |= {f"{source}/__init__.py": f'"""{name}, a mask finder for paibench."""\n'}
    for path, text in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [folder / path for path in sorted(written)]


def _check_name(name: str) -> None:
    # the name becomes that of a module and of a function
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UserError(
            f"{name!r:.80} cannot be the name of a method; use 1 to 40 of a-z 0-9 _, starting "
            "with a letter, and no keyword of Python"
        )
    if name in names():
        raise UserError(f"{name} is already the name of a method; choose another")


def _template(file: str) -> Template:
    return Template((files("paibench.methods.scaffold") / "files" / f"{file}.txt").read_text())
