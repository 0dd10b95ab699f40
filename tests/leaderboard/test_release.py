"""A release is a folder that is never rewritten, to which `latest` leads."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from paibench.benchmark.record import Record
from paibench.leaderboard import build as module
from paibench.leaderboard.build import build_release
from paibench.methods.core.registry import UserError

RecordFactory = Callable[..., Record]
StoreFactory = Callable[[Iterable[Record]], Path]


@pytest.fixture
def store(record_factory: RecordFactory, store_factory: StoreFactory) -> Path:
    return store_factory(
        record_factory(method=method, seed=seed)
        for method in ("random", "snip")
        for seed in range(2)
    )


def test_a_release(store: Path, tmp_path: Path) -> None:
    """Its name is on its pages and in its tables, and `latest` leads to the last one."""
    out = tmp_path / "boards"
    source = "https://example.org/paibench"
    built = build_release([store], out, "2026-12", source=source)
    release = out / "2026-12"
    assert all(path.is_file() and path.is_relative_to(release) for path in built.paths)
    assert sorted(path.name for path in out.iterdir()) == ["2026-12", "latest"]
    page = (out / "latest" / "index.html").read_text()
    assert "Data: release 2026-12; paibench" in page
    assert set(re.findall(rf'href="{source}([^"]*)"', page)) == {
        "",
        "/blob/main/docs/README.md",
        "/blob/main/docs/publishing.md",
        "/blob/main/docs/protocol.md#the-rules-and-their-versions",
        "/blob/main/docs/protocol.md#errata",
    }
    assert "release 2026-12" in (out / "2026-12" / "leaderboard.tex").read_text()
    build_release([store], out, "2027-01")
    assert (out / "latest").resolve() == (out / "2027-01").resolve()
    assert 'href="https' not in (out / "2027-01" / "index.html").read_text()


@pytest.mark.parametrize("name", ["latest", "", "../up", "a/b", ".hidden", "x" * 62, "2026-12"])
def test_refused_names(store: Path, tmp_path: Path, name: str) -> None:
    """A release is not written twice, nor outside of its folder; nothing changes."""
    out = tmp_path / "boards"
    (out / "2026-12").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        build_release([store], out, name)
    assert "\n" not in str(caught.value)
    assert [path.name for path in out.iterdir()] == ["2026-12"]
    assert not list((out / "2026-12").iterdir())


def test_a_build_that_fails_leaves_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a part of a release nor a link to it."""
    monkeypatch.setattr(module, "build_site", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_release([store], tmp_path / "boards", "one")
    assert not list((tmp_path / "boards").iterdir())


def test_a_folder_in_the_place_of_the_link(store: Path, tmp_path: Path) -> None:
    """It is somebody's, and stays."""
    (tmp_path / "latest").mkdir()
    with pytest.raises(UserError, match="is not a link to a release"):
        build_release([store], tmp_path, "one")
    assert [path.name for path in tmp_path.iterdir() if path.name == "one"] == []
