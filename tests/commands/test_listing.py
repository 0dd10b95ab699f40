"""Lists: a broken plugin is a row of its own, and hides nothing else."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from paibench.methods.core import registry
from paibench.methods.core.registry import SINGULAR, Kind

Say = Callable[..., tuple[int, str, str]]

SOURCES = {
    "raises": "raise RuntimeError('first\\nsecond')",
    "leaves": "import sys; sys.exit(3)",
    "imports": "import no_such_library",
    "syntax": "thing = (",
    "text": "thing = 'a text'",
    "epochs": "from paibench.methods import Recipe; thing = Recipe(epochs=0)",
    "types": "from paibench.methods import Recipe; thing = Recipe(epochs='many')",
    "unchecked": """
from paibench.methods import Recipe
class Free(Recipe):
    def __post_init__(self): pass
thing = Free(epochs=1, lr=-1.0)
""",
}
RECIPES = {
    "raises": "RuntimeError: first second",
    "leaves": "SystemExit: 3",
    "imports": "ModuleNotFoundError: No module named 'no_such_library'",
    "syntax": "SyntaxError: '(' was never closed",
    "text": "it is a str, not a Recipe",
    "epochs": "recipe: epochs takes int in [1, inf), not 0",
    "types": "recipe: epochs takes int in [1, inf), not 'many'",
    "unchecked": "recipe: lr takes float in (0, inf), not -1.0",
    "absent": "ModuleNotFoundError: No module named 'plugin_absent'",
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Installs a distribution with the text of its entry points until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_entries", registry._entries.__wrapped__)
    for name, source in SOURCES.items():
        (tmp_path / f"plugin_{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, f"plugin_{name}", raising=False)

    def put(distribution: str, text: str) -> None:
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(text)

    return put


@pytest.mark.parametrize(("name", "reason"), RECIPES.items(), ids=RECIPES.keys())
def test_a_broken_recipe(
    say: Say, install: Callable[[str, str], None], name: str, reason: str
) -> None:
    """It is a row of the list and one line elsewhere, and the other recipes are listed."""
    install("odd", f"[paibench.recipes]\n{name} = plugin_{name}:thing\n")
    said = f"recipe {name} (odd: plugin_{name}:thing) is broken: {reason}"
    status, out, _ = say("recipes")
    assert status == 0
    assert any(line.split(maxsplit=1)[1].startswith(f"broken: {said}") for line in out.splitlines())
    assert "lite" in out
    listed = json.loads(say("recipes", "--json")[1])
    assert listed[name]["broken"].startswith(said)
    assert listed["lite"]["epochs"] == 20
    run = ("run", "--method", "random", "--density", "0.5", "--recipe", name)
    for command in (run, ("recipes", name)):
        status, out, err = say(*command)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"paibench: {said}")


@pytest.mark.parametrize("kind", SINGULAR)
def test_other_broken_plugins(say: Say, install: Callable[[str, str], None], kind: Kind) -> None:
    """A name claimed twice, one that no spec may contain, and a missing module are rows too."""
    install("one", f"[paibench.{kind}]\ntwice = json:load\nBad Name = json:load\nno = no_mod:x\n")
    install("two", f"[paibench.{kind}]\ntwice = json:dump\nbare = json\n")
    status, out, _ = say(kind)
    rows = [line for line in out.splitlines() if "broken: " in line]
    assert status == 0
    assert {row.split("broken")[0].strip() for row in rows} == {"twice", "Bad Name", "no", "bare"}
    listed = json.loads(say(kind, "--json")[1])
    plain = listed if kind == "recipes" else {row["name"]: row for row in listed}
    assert "claimed by two distributions: " in plain["twice"]["broken"]
    assert plain["Bad Name"]["broken"].startswith("its name cannot be used; ")
    assert sum("broken" in row for row in plain.values()) == 4


def test_entry_points_that_cannot_be_read(say: Say, install: Callable[[str, str], None]) -> None:
    """A distribution whose list of entry points is damaged hides no other one."""
    install("damaged", "[paibench.methods]\nno value at all\n")
    status, out, _ = say("methods", "--json")
    assert status == 0
    assert "snip" in {row["name"] for row in json.loads(out)}


def test_the_report_names_plugins(say: Say, install: Callable[[str, str], None]) -> None:
    """`doctor` lists the plugins of third parties, and what of them is broken."""
    install("odd", "[paibench.recipes]\ntext = plugin_text:thing\n")
    _, out, _ = say("doctor", "--json")
    said = "recipe text is broken: recipe text (odd: plugin_text:thing) is broken: it is a str"
    assert json.loads(out)["plugins"].startswith(said)
