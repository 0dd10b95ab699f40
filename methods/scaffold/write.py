"""Writing a package for a new method: everything but the idea."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from paibench.methods.core.registry import UserError, did_you_mean, names

SHAPES = {
    "oneshot": "scores from a few batches, once",
    "synflow": "scores in rounds, each with what is left",
    "imp": "trainings that are stages, and pruning between them",
    "edge_popup": "scores that are trained while the weights stay",
}
"""What a method may start from."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def write_package(name: str, folder: Path, shape: str = "oneshot") -> list[Path]:
    """Lay a package for a method of this name out in a new folder; its files.

    Raises UserError for a name that cannot be used or is taken, an unknown shape, and a folder
    that is there already. Nothing is written then.
    """
    _check_name(name)
    if shape not in SHAPES:
        raise UserError(f"--from {shape!r:.80} is unknown; {did_you_mean(shape, SHAPES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{str(folder)!r:.200} is there already; name another place with --at")
    source = f"src/paibench_{name}"
    texts = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        ".gitignore": "gitignore",
        ".github/workflows/check.yml": "check.yml",
        f"{source}/{name}.py": f"{shape}.py",
        f"tests/test_{name}.py": "test_method.py",
    }
    known = {"name": name, "dashed": name.replace("_", "-")}
    written = {path: _text(file).safe_substitute(known) for path, file in texts.items()}
    written |= {f"{source}/__init__.py": f'"""{name}, a mask finder for paibench."""\n'}
    for path, text in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return [folder / path for path in sorted(written)]


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise UserError(
            f"{name!r:.80} cannot be the name of a method; take 1 to 40 of a-z 0-9 _ that start "
            "with a letter, and no word of Python's own"
        )
    if name in names():
        raise UserError(f"{name} is the name of a method already; choose another")


def _text(file: str) -> Template:
    return Template((files("paibench.methods.scaffold") / "files" / f"{file}.txt").read_text())
