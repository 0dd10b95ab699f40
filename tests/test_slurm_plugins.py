"""Third parties' methods before anything is queued, and on the node."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paibench.methods import registry
from paibench.methods.registry import UserError
from paibench.slurm.plugins import changed, third_party, try_out

METADATA = "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n"
SOUND = "def sound(net, task, density):\n    return {}\n"
BROKEN = "raise ImportError('two\\nlines')\n"


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two installed modules, one of which cannot be imported; this process finds them."""
    (tmp_path / "sound_one.py").write_text(SOUND)
    (tmp_path / "broken_one.py").write_text(BROKEN)
    about = tmp_path / "stranger-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)
    entries = "sound = sound_one:sound\nbroken = broken_one:broken\nabsent = absent_one:absent\n"
    (about / "entry_points.txt").write_text(f"[paibench.methods]\n{entries}")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._entries.cache_clear()
    yield tmp_path
    registry._entries.cache_clear()


@pytest.fixture
def installed(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, where workers find them too."""
    monkeypatch.setenv("PYTHONPATH", str(stranger))
    return stranger


@pytest.mark.usefixtures("stranger")
def test_whose_a_method_is() -> None:
    """Ours need not be tried out."""
    assert third_party(["snip", "sound", "random", "broken"]) == ["broken", "sound"]
    assert try_out(["snip", "random"]) == {}


@pytest.mark.usefixtures("installed")
def test_a_sound_method_is_known_by_its_file() -> None:
    """Its digest is that of the file as it is; trying it out imports it in another process."""
    assert {name: len(digest) for name, digest in try_out(["sound"]).items()} == {"sound": 64}
    assert "sound_one" not in sys.modules


@pytest.mark.parametrize("method", ["broken", "absent"])
@pytest.mark.usefixtures("installed")
def test_a_method_that_cannot_be_imported(method: str) -> None:
    """It is refused in one line."""
    with pytest.raises(
        UserError, match=f"^method {method} cannot be imported where jobs run: "
    ) as e:
        try_out(["sound", method])
    assert "\n" not in str(e.value)


@pytest.mark.usefixtures("stranger")
def test_a_method_that_only_we_find(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on our own path alone is not there for a job."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(
        UserError, match="method sound cannot be imported where jobs run: .*unknown"
    ):
        try_out(["sound"])


def test_a_method_that_changed(installed: Path) -> None:
    """Another file is noticed, for the methods of a job and no others; a missing one is not."""
    then = try_out(["sound"])
    assert changed(then, ["sound", "snip"]) is None
    (installed / "sound_one.py").write_text(SOUND + "# edited\n")
    assert changed(then, ["snip"]) is None
    said = "the code of method sound changed after this was submitted; submit again"
    assert changed(then, ["sound"]) == said
