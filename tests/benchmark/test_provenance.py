"""The code behind a run, by its commit and by its bytes."""

import os
import shutil
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

import paibench
from paibench.benchmark import provenance

PACKAGE = Path(paibench.__file__).parent
_SKIP = shutil.ignore_patterns("__pycache__")


def checkout_at(path: Path) -> Any:
    """Return the module as imported from that folder."""
    spec = spec_from_file_location("elsewhere", path / "benchmark" / "provenance.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a copy of the package in plain folders."""
    return Path(shutil.copytree(PACKAGE, tmp_path / "paibench", ignore=_SKIP))


# -- digest -----------------------------------------------------------------------------------


def test_a_copy_has_the_same_digest(copied: Path) -> None:
    """The digest depends neither on the folder and its links nor on compiled files."""
    digest = provenance.code_digest()
    assert len(digest) == 64
    assert checkout_at(copied).code_digest() == digest
    (copied / "methods" / "__pycache__").mkdir()
    (copied / "methods" / "__pycache__" / "snip.py").write_text("changed = True\n")
    (copied / "methods" / "notes.txt").write_text("no code")
    assert checkout_at(copied).code_digest() == digest


def test_temporary_files_of_an_editor_do_not_count(copied: Path) -> None:
    """A lock that is a link to nowhere, and a hidden copy of a file, are not code."""
    before = checkout_at(copied).code_digest()
    (copied / "methods" / ".#snip.py").symlink_to("user@host.4711:1700000000")
    (copied / "methods" / ".snip.py").write_text("changed = True\n")
    assert checkout_at(copied).code_digest() == before


def test_any_file_changes_the_digest(copied: Path) -> None:
    """One more byte in any Python file changes the digest."""
    before = checkout_at(copied).code_digest()
    files = sorted(copied.rglob("*.py"))
    assert len(files) > 80
    digests = {before}
    for path in (files[0], *files[1:-1:9], files[-1]):
        content = path.read_bytes()
        path.write_bytes(content + b"\n")
        digests.add(checkout_at(copied).code_digest())
        path.write_bytes(content)
    assert len(digests) == 1 + len((files[0], *files[1:-1:9], files[-1]))
    assert checkout_at(copied).code_digest() == before


@pytest.mark.parametrize("change", ["renamed", "moved", "added", "removed", "two exchanged"])
def test_names_are_part_of_the_digest(copied: Path, change: str) -> None:
    """A renamed, added or removed file changes the digest."""
    before = checkout_at(copied).code_digest()
    snip, grasp = (
        copied / "methods" / "saliency" / "snip.py",
        copied / "methods" / "saliency" / "grasp.py",
    )
    match change:
        case "renamed":
            snip.rename(snip.with_name("snap.py"))
        case "moved":
            snip.rename(copied / "models" / "snip.py")
        case "added":
            snip.with_name("empty.py").touch()
        case "removed":
            snip.unlink()
        case "two exchanged":
            one, other = snip.read_bytes(), grasp.read_bytes()
            snip.write_bytes(other)
            grasp.write_bytes(one)
    assert checkout_at(copied).code_digest() != before


# -- commit -----------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the package folder of a checkout like ours, whose rooms are links."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    root = tmp_path / "repository"
    (root / "benchmark").mkdir(parents=True)
    (root / "src" / "paibench").mkdir(parents=True)
    (root / "src" / "paibench" / "benchmark").symlink_to("../../benchmark")
    shutil.copy(PACKAGE / "benchmark" / "provenance.py", root / "benchmark")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "all")
    return root / "src" / "paibench"


def test_the_commit_of_a_checkout(repository: Path) -> None:
    """The commit is the one that is checked out; untracked files change nothing."""
    head = git(repository, "rev-parse", "HEAD")
    assert checkout_at(repository).commit() == (head, False)
    (repository / "notes.txt").touch()
    assert checkout_at(repository).commit() == (head, False)


def test_a_changed_checkout(repository: Path) -> None:
    """A file that differs from the commit is noticed until it is committed."""
    head = git(repository, "rev-parse", "HEAD")
    with open(repository / "benchmark" / "provenance.py", "a") as file:
        file.write("# more\n")
    assert checkout_at(repository).commit() == (head, True)
    git(repository, "commit", "--quiet", "-a", "-m", "more")
    assert checkout_at(repository).commit() == (git(repository, "rev-parse", "HEAD"), False)


def test_code_that_lies_in_a_checkout_of_something_else(repository: Path) -> None:
    """An installation inside a repository that does not contain it has no commit."""
    inside = repository.parent / "venv" / "paibench"
    shutil.copytree(repository, inside)
    assert checkout_at(inside).commit() == (None, None)


def test_code_outside_of_any_checkout(repository: Path, tmp_path: Path) -> None:
    """Without a repository, or without a first commit, there is no commit."""
    outside = Path(shutil.copytree(repository, tmp_path / "outside"))
    assert checkout_at(outside).commit() == (None, None)
    git(outside, "init", "--quiet")
    git(outside, "add", ".")
    assert checkout_at(outside).commit() == (None, None)


def test_without_git(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without git, the commit is unknown."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout_at(repository).commit() == (None, None)


def test_a_change_that_cannot_be_looked_for_is_not_ruled_out(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If git gives the commit but not the state of the files, the state is unknown."""
    head, real = git(repository, "rev-parse", "HEAD"), shutil.which("git")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "git"
    script.write_text(f'#!/bin/sh\ncase "$*" in *status*) exit 128;; esac\nexec {real} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert checkout_at(repository).commit() == (head, None)
