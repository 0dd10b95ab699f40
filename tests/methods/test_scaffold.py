"""The package of a new method passes the conformance cases as written, for each template."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from paibench.methods.conformance import CASES
from paibench.methods.conformance.cases import results
from paibench.methods.core.registry import UserError
from paibench.methods.scaffold.write import SHAPES, write_package

Say = Callable[..., tuple[int, str, str]]
FILES = {
    "pyproject.toml",
    "README.md",
    ".gitignore",
    ".github/workflows/check.yml",
    "src/paibench_my_idea/__init__.py",
    "src/paibench_my_idea/my_idea.py",
    "tests/test_my_idea.py",
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_each_template_conforms(tmp_path: Path, shape: str) -> None:
    """Every case passes without installing the package."""
    write_package("my_idea", tmp_path / "new", shape)
    file = tmp_path / "new/src/paibench_my_idea/my_idea.py"
    cases = [case for case in CASES if case != "gpu" or torch.cuda.is_available()]
    found = [(each.case, each.outcome, each.details) for each in results(f"{file}:my_idea", cases)]
    assert found == [(case, "passed", "") for case in cases]


def test_the_files(tmp_path: Path, say: Say) -> None:
    """All files are written, and no placeholder remains."""
    status, out, _ = say("new-method", "my_idea", "--at", str(tmp_path / "new"))
    assert status == 0
    written = {path for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert {str(path.relative_to(tmp_path / "new")) for path in written} == FILES
    assert all(str(path) in out for path in written)
    texts = {path.name: path.read_text() for path in written}
    assert not any("$" in text.replace("${{", "") for text in texts.values())
    assert 'my_idea = "paibench_my_idea.my_idea:my_idea"' in texts["pyproject.toml"]
    assert 'name = "paibench-my-idea"' in texts["pyproject.toml"]
    assert 'check("my_idea", case)' in texts["test_my_idea.py"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("snip",), "snip is already the name of a method; choose another"),
        (("Mine",), "'Mine' cannot be the name of a method; use "),
        (("class",), "'class' cannot be the name of a method"),
        (("../x",), "'../x' cannot be the name of a method"),
        (("a" * 41,), "cannot be the name of a method"),
        (("mine", "--from", "synflo"), "--from 'synflo' is unknown; did you mean synflow?"),
        (("mine", "--at", "taken"), "'taken' already exists; choose another folder with --at"),
    ],
    ids=["taken", "capital", "keyword", "path", "long", "shape", "folder"],
)
def test_refusals(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Say,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    """A refusal is one line with status 2, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    status, out, err = say("new-method", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "file"]


def test_an_empty_folder_is_accepted(tmp_path: Path) -> None:
    """An empty folder is used, and one that is not empty is refused."""
    assert len(write_package("mine", tmp_path)) == len(FILES)
    with pytest.raises(UserError, match="already exists"):
        write_package("mine", tmp_path)
