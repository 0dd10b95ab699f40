"""The manual agrees with the code: names, options, counts, fields, commands, links, results."""

import json
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import mlcroissant as mlc
import pytest
import torch
import typer
import yaml

from paibench.benchmark.record import PROTOCOL, Environment, Record, Status
from paibench.benchmark.store.failures import RETRIED, Cause, Interruption
from paibench.benchmark.store.layout import stores_in
from paibench.benchmark.sweeps.sweep import expand
from paibench.cli import app
from paibench.commands.options import release_output
from paibench.leaderboard import tables as board
from paibench.leaderboard.frame.load import load
from paibench.leaderboard.stats.summary import summarize, tracks
from paibench.methods.conformance.report import CASES, OTHER
from paibench.methods.core.mask import prunable, total
from paibench.methods.core.registry import Kind, find, get, names
from paibench.methods.core.signature import Option, describe
from paibench.methods.training.recipe import Recipe
from paibench.models.core.init import SCHEMES
from paibench.slurm.profile import Profile

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
IMAGES = {  # the columns of counts in models.md
    "MNIST": ((1, 28, 28), 10),
    "CIFAR-10": ((3, 32, 32), 10),
    "CIFAR-100": ((3, 32, 32), 100),
    "Tiny ImageNet": ((3, 64, 64), 200),
}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """Return the text below each second-level heading."""
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def tables(text: str) -> Iterator[list[dict[str, str]]]:
    """Yield each table as a list of rows, keyed by column, without backticks."""
    for block in re.findall(r"(?:^\|.*\n?)+", text, flags=re.M):
        head, _, *rows = (line.strip().strip("|").split("|") for line in block.splitlines())
        names = [cell.strip() for cell in head]
        yield [dict(zip(names, (c.strip(" `") for c in row), strict=True)) for row in rows]


def table(text: str, first_column: str) -> list[dict[str, str]]:
    """Return the only table with this first column."""
    [rows] = [rows for rows in tables(text) if next(iter(rows[0])) == first_column]
    return rows


def option_rows(text: str) -> dict[str, tuple[str, str]]:
    """Return what each option takes and its default, from the tables of options."""
    options = (row for rows in tables(text) if "takes" in rows[0] for row in rows)
    return {row["option"]: (row["takes"], row["default"]) for row in options}


def as_shown(option: Option) -> tuple[str, str]:
    return option.describe(), repr(option.default)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every `paibench` command line, in shell blocks and in sentences."""
    shell = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    for line in [*shell.splitlines(), *re.findall(r"`(paibench [^`]+)`", without_blocks(text))]:
        for part in re.split(r"&&|\||;", line):
            words = shlex.split(part, comments=True)
            if words[:1] == ["paibench"]:
                yield words[1:]


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


NAMED: list[tuple[Kind, str]] = [
    ("methods", "methods.md"),
    ("models", "models.md"),
    ("datasets", "data.md"),
    ("recipes", "protocol.md"),
]


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_every_name_is_on_its_page(kind: Kind, name: str) -> None:
    """Every method, model, data set and recipe is on the page of its kind."""
    text = page(name)
    rows = re.findall(r"^\| `(.+?)` \|", text, flags=re.M)
    listed = set(sections(text)) if kind == "methods" else set(rows)
    assert set(names(kind)) - listed == set()


@pytest.mark.parametrize("name", names("methods"))
def test_options_of_a_method(name: str) -> None:
    """The table of a method lists its options in order, with types and defaults."""
    options = describe(find(name)).options
    rows = option_rows(sections(page("methods.md"))[name])
    assert list(rows.items()) == [(key, as_shown(value)) for key, value in options.items()]


@pytest.mark.parametrize(("kind", "name"), [NAMED[1], NAMED[2]])
def test_options_of_models_and_data_sets(kind: Kind, name: str) -> None:
    """The tables of options list exactly the options of models and data sets."""
    accepted = {
        (key, *as_shown(option))
        for each in names(kind)
        for key, option in describe(find(each, kind)).options.items()
    }
    assert {(key, *row) for key, row in option_rows(page(name)).items()} == accepted


def test_prunable_counts() -> None:
    """The table of models states the number of prunable weights of each network."""
    for row in table(page("models.md"), "model"):
        for column, (shape, classes) in IMAGES.items():
            with torch.device("meta"):
                net = get(row["model"], "models")(shape, classes)
            assert row[column] == f"{total(prunable(net)):,}", (row["model"], column)


def test_initializations() -> None:
    """The table of initializations lists all of them."""
    assert {row["init"] for row in table(page("models.md"), "init")} == set(SCHEMES)


@pytest.mark.parametrize("name", names("recipes"))
def test_recipe(name: str) -> None:
    """The table of recipes states the settings of each recipe."""
    [row] = [row for row in table(page("protocol.md"), "recipe") if row["recipe"] == name]
    recipe: Recipe = get(name, "recipes")
    assert (row["epochs"], row["batch"]) == (str(recipe.epochs), str(recipe.batch))
    assert row["augment"] == recipe.augment
    assert float(row["decay"]) == pytest.approx(recipe.weight_decay, rel=1e-2)
    rate, _, schedule = row["lr and schedule"].partition(" ")
    assert float(rate.rstrip(",")) == recipe.lr
    if recipe.schedule == "multistep":
        drops = " and ".join(str(round(drop * recipe.epochs)) for drop in recipe.drops)
        assert schedule == f"x{recipe.drop_factor} at {drops}"
    else:
        assert schedule.startswith(recipe.schedule)


def test_fields_of_a_record() -> None:
    """The tables of record fields list all fields in order."""
    text = sections(page("protocol.md"))["The record"]
    fields = [field.alias or name for name, field in Record.model_fields.items()]
    assert [row["field"] for row in table(text, "field")] == fields
    environment = [row["environment"] for row in table(text, "environment")]
    assert environment == list(Environment.model_fields)


def test_outcomes() -> None:
    """The page explains every status and cause, and says which causes are tried again."""
    text = sections(page("protocol.md"))["Outcomes"]
    explained = set(re.findall(r"`(\w+)`", text))
    assert {*get_args(Status), *get_args(Interruption)} <= explained
    causes = {row["cause"]: row["again?"].startswith("yes") for row in table(text, "cause")}
    assert causes == {cause: cause in RETRIED for cause in get_args(Cause)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links(path: Path) -> None:
    """Every relative link leads to an existing file, and its anchor to a heading there."""
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("block", blocks(page("sweeps.md"), "toml"), ids=["pilot", "controls"])
def test_sweeps(block: str) -> None:
    """Every example of a sweep expands to specs."""
    assert expand(tomllib.loads(block)).specs


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands(path: Path) -> None:
    """Every command line names an existing command and passes options that it accepts."""
    for name, *words in commands(path.read_text(encoding="utf-8")):
        assert name in COMMANDS, name
        if words:  # a bare name in a sentence only mentions the command
            try:
                context = COMMANDS[name].make_context(name, words)
                if group := getattr(COMMANDS[name], "commands", None):
                    group[words[0]].make_context(words[0], words[1:], parent=context)
            finally:
                release_output()  # the option --json has taken it


def test_every_command_is_in_the_manual() -> None:
    """The manual mentions every command."""
    mentioned = {name for path in PAGES for name, *_ in commands(path.read_text(encoding="utf-8"))}
    assert set(COMMANDS) - mentioned == set()


def test_conformance_cases() -> None:
    """The table of conformance cases lists all cases in order, with the sentence of each."""
    rows = table(page("add-a-method.md"), "case")
    assert {row["case"]: row["states"] for row in rows} == CASES | OTHER
    assert [row["case"] for row in rows] == [*CASES, *OTHER]


def test_profile() -> None:
    """The table of profile keys lists exactly the keys, and the example is a valid profile."""
    text = page("cluster.md")
    keys = {key.strip("`") for row in table(text, "key") for key in row["key"].split(", ")}
    assert keys == Profile.model_fields.keys() - {"name"}
    [example] = blocks(text, "toml")
    assert Profile(name="a100", **tomllib.loads(example)).device == "cuda"


def test_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    """The code for a notebook runs as printed."""
    [block] = blocks(page("run.md"), "python")
    exec(compile(block, "docs/run.md", "exec"), {})
    assert capsys.readouterr().out.startswith("0.05 {'fc1.weight': ")


def test_the_citation_has_the_version() -> None:
    """CITATION.cff and pyproject.toml agree on version and license."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["authors"]


def test_published_stores_are_listed() -> None:
    """The list of published stores has every store with its number of runs and its protocol."""
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| .* \| (\d+) \| (\d+) \| (yes|no) \|", text, re.M)
    stores = stores_in(ROOT / "results")
    assert sorted(name for name, *_ in rows) == [store.name for store in stores]
    for store, (_, number, protocol, masks) in zip(stores, sorted(rows), strict=True):
        runs = load(store).runs
        assert (len(runs), set(runs["protocol"])) == (int(number), {int(protocol)})
        assert (masks == "yes") == (len(list(store.rglob("mask-*.safetensors"))) == len(runs))


@pytest.mark.parametrize(
    ("page", "store"),
    [
        ("README.md", "mnist-lenet"),
        ("docs/mnist-lenet.md", "mnist-lenet"),
        ("docs/mnist-lenet.md", "mnist-floors"),
        ("docs/early-bird.md", "fashion-mnist-early-bird"),
        ("docs/edge-popup.md", "edge-popup-mnist"),
        ("docs/edge-popup.md", "edge-popup-cifar10-jpeg"),
    ],
)
def test_results(page: str, store: str) -> None:
    """The printed table of each track is the table that the published records give."""
    for track, cells in tracks(summarize(load(ROOT / "results" / store).runs)):
        rows = [
            line
            for line in board.markdown(board.accuracy_table(track, cells)).splitlines()
            if line.startswith("|")
        ]
        assert "\n".join(rows) in (ROOT / page).read_text(encoding="utf-8")


def test_the_description_for_machines() -> None:
    """results/croissant.json is what its program makes."""
    program = runpy.run_path(str(ROOT / "tests" / "golden" / "croissant.py"))
    text = (ROOT / "results" / "croissant.json").read_text(encoding="utf-8")
    assert text == program["text"](), "run `python tests/golden/croissant.py`"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")
def test_mlcroissant_reads_the_results() -> None:
    """The description has no faults, and each record has the accuracy that its file has."""
    dataset = mlc.Dataset(jsonld=str(ROOT / "results" / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())
    read = {run["runs/key"].decode(): run["runs/accuracy"] for run in dataset.records("runs")}
    paths = (ROOT / "results").glob("*/runs/*/*.json")
    assert read == {path.stem: json.loads(path.read_text())["accuracy"] for path in paths}


def test_the_last_rules_are_those_of_the_program() -> None:
    """The table of rules ends with the current protocol."""
    (head,) = re.findall(r"^\| rule \|(.*)\|$", page("protocol.md"), flags=re.M)
    assert [int(number) for number in head.split("|")] == list(range(1, PROTOCOL + 1))
