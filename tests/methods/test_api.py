"""The names that `paibench.methods` offers to authors of methods."""

import subprocess
import sys
from importlib.resources import files

import pytest

import paibench.methods
from paibench.methods import api

TEMPLATES = sorted(
    path.name
    for path in (files("paibench.methods.scaffold") / "files").iterdir()
    if path.name.endswith(".py.txt")
)


def test_the_package_has_the_names_of_the_api() -> None:
    """Each public name is the one that its own module defines."""
    names = [name for name in vars(api) if not name.startswith("_")]
    assert {"Mask", "Scores", "Task", "Ticket", "get", "keep_top", "prunable"} <= {*names}
    assert all(getattr(paibench.methods, name) is getattr(api, name) for name in names)
    assert {*names} <= {*dir(paibench.methods)}


def test_unknown_names() -> None:
    """An unknown name is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="'paibench.methods' has no attribute 'prunabel'"):
        paibench.methods.prunabel  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import paibench.methods; paibench.methods.names()",
        "from paibench.cli import main; sys.argv[1:] = ['--help']; main()",
        "from paibench.cli import main; sys.argv[1:] = ['methods']; main()",
    ],
    ids=["import", "--help", "methods"],
)
def test_listing_methods_imports_no_torch(code: str) -> None:
    """Torch takes seconds to import, so only the use of a name does that."""
    # the command line ends the process itself, so the check is registered for its exit
    watch = (
        "import atexit, os, sys; atexit.register(lambda: 'torch' in sys.modules and os._exit(9))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{watch}\n{code}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_import_from_one_place(template: str) -> None:
    """A new method needs one import from paibench; its tests also use the conformance cases."""
    text = (files("paibench.methods.scaffold") / "files" / template).read_text()
    lines = [line for line in text.splitlines() if line.startswith("from paibench")]
    public = [line for line in lines if "conformance" not in line]
    assert [line.split(" import ")[0] for line in public] == ["from paibench.methods"]
