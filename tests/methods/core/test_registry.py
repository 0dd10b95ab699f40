"""The registry: names without imports, things by name, and help for a misspelt name."""

import subprocess
import sys
from pathlib import Path

import pytest

from paibench.methods.core import registry
from paibench.methods.core.registry import Kind, UserError, did_you_mean, find, get, names

KINDS: tuple[Kind, ...] = ("methods", "models", "datasets", "recipes")


def install(folder: Path, distribution: str, text: str) -> None:
    """Put a distribution with these entry points on a path entry."""
    info = folder / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path whose distributions the registry sees until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_entries", registry._entries.__wrapped__)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_sorted_and_found(kind: Kind) -> None:
    """Every listed name has an entry point inside the package."""
    listed = names(kind)
    assert listed == sorted(set(listed))
    assert listed
    assert all(find(name, kind).value.startswith("paibench.") for name in listed)


def test_listing_imports_nothing() -> None:
    """Names and entry points are known without importing torch or the modules behind them."""
    code = (
        "import sys; from paibench.methods.core.registry import find, names;"
        "assert 'snip' in names() and find('snip').name == 'snip';"
        "heavy = ('torch', 'numpy', 'paibench.methods.saliency.snip');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_get_gives_the_function() -> None:
    """`get` returns the function that the entry point names."""
    dense = get("dense")
    assert (dense.__module__, dense.__name__) == ("paibench.methods.baselines.dense", "dense")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("snipp", "methods", "unknown method 'snipp'; did you mean snip?"),
        ("resnet20", "models", "unknown model 'resnet20'; did you mean resnet-20"),
        ("cifar_10", "datasets", "unknown data set 'cifar_10'; did you mean cifar10"),
        ("zzz", "recipes", "unknown recipe 'zzz'; known: "),
    ],
)
def test_unknown_names(name: str, kind: Kind, message: str) -> None:
    """The error for an unknown name suggests the nearest names, or lists all."""
    with pytest.raises(UserError) as caught:
        find(name, kind)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_long_name_is_cut_and_stays_on_one_line() -> None:
    """For any text as a name, the message is one short line."""
    with pytest.raises(UserError) as caught:
        find("a\n" * 1000, "recipes")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("name", "known", "answer"),
    [
        ("magnitud", ["snip", "magnitude"], "did you mean magnitude?"),
        ("resnet-2", ["resnet-200", "resnet-20"], "did you mean resnet-20 or resnet-200?"),
        ("xyz", ["b", "a"], "known: a, b"),
        ("xyz", [], "none are known"),
    ],
    ids=["one", "two", "all", "none"],
)
def test_did_you_mean(name: str, known: list[str], answer: str) -> None:
    """The message suggests the nearest names, or lists all if none is near."""
    assert did_you_mean(name, known) == answer


def test_a_plugin_is_found_by_name(site: Path) -> None:
    """A method of another distribution is found in the same way."""
    install(site, "stranger", "[paibench.methods]\nodd = stranger:odd\n")
    (site / "stranger.py").write_text("def odd(): return 'found'\n")
    assert "odd" in names()
    assert get("odd")() == "found"
    sys.modules.pop("stranger")


def test_a_broken_plugin_raises_its_own_error_when_asked_for(site: Path) -> None:
    """A plugin that cannot be imported is listed, and raises on use."""
    install(site, "broken", "[paibench.methods]\nbroken = broken_plugin:broken\n")
    (site / "broken_plugin.py").write_text("import no_such_module_at_all\n")
    assert "broken" in names()
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        get("broken")


def test_a_name_that_two_claim(site: Path) -> None:
    """If two distributions claim a name, the error names both; other names work."""
    install(site, "first", "[paibench.methods]\nodd = first:odd\n")
    install(site, "second", "[paibench.methods]\nodd = second:odd\n")
    with pytest.raises(UserError, match="method 'odd' is claimed by two distributions") as caught:
        find("odd")
    for part in ("first (first:odd)", "second (second:odd)", "uninstall one of them"):
        assert part in str(caught.value)
    assert "odd" in names()
    assert find("snip").name == "snip"


def test_a_name_of_ours_that_another_claims(site: Path) -> None:
    """A third party that claims one of the suite's names is an error too."""
    install(site, "first", "[paibench.methods]\nsnip = first:odd\n")
    with pytest.raises(UserError, match=r"first \(first:odd\) and paibench \("):
        find("snip")


def test_two_that_claim_the_same_function(site: Path) -> None:
    """Two distributions that claim a name with the same value are an error too."""
    install(site, "first", "[paibench.methods]\nodd = first:odd\n")
    install(site, "second", "[paibench.methods]\nodd = first:odd\n")
    with pytest.raises(UserError, match="claimed by two distributions"):
        find("odd")


def test_one_distribution_seen_twice_is_no_conflict(site: Path) -> None:
    """The same entry point found on two paths counts once."""
    install(site, "first", "[paibench.methods]\nodd = first:odd\n")
    install(site / "again", "first", "[paibench.methods]\nodd = first:odd\n")
    sys.path.insert(0, str(site / "again"))
    try:
        assert find("odd").value == "first:odd"
    finally:
        sys.path.remove(str(site / "again"))
