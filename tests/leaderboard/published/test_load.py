"""Published figures come in our words, with what differs said, and bad rows are refused."""

from collections.abc import Callable
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Named
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import label, models, row_of
from paibench.leaderboard.published.load import (
    COLUMNS,
    FIELDS,
    KINDS,
    comparable,
    load,
    published_for,
)
from paibench.leaderboard.stats.summary import Track, summarize, tracks
from paibench.methods.core.registry import UserError, names

RecordFactory = Callable[..., Record]
HEAD = ",".join(FIELDS)
GOOD = "snip,LeNet-300-100,MNIST,5,98.4,,paper,,Lee 2019,,lenet-300-100,mnist,,,20,,"
FIGURES = load()
SOURCE = pd.read_csv(
    str(files("paibench.leaderboard.published") / "published.csv"), keep_default_na=False
)


def of(dataset: str, model: Named) -> Track:
    return Track(dataset, label(model), "lite", "kaiming_normal", "test", 1)


def file(folder: Path, *lines: str) -> Path:
    path = folder / "their.csv"
    path.write_text("\n".join([HEAD, *lines, ""]), encoding="utf-8")
    return path


def test_every_published_figure_is_a_row() -> None:
    """Fractions between 0 and 1, in documented columns, none without its source."""
    assert len(FIGURES) == 2134
    assert list(FIGURES.columns) == list(COLUMNS)
    assert FIGURES["accuracy"].between(0, 1).all()
    assert FIGURES["density"].dropna().between(0, 1).all()
    assert (FIGURES["source"] != "").all() and set(FIGURES["kind"]) == set(KINDS)


def test_our_names_are_names() -> None:
    """Methods with options, models and data sets that are ours are registered."""
    ours = SOURCE.loc[SOURCE["our_model"] != "", "our_model"]
    assert set(FIGURES.loc[ours.index, "family"]) <= set(names("models"))
    own = set(names("methods"))
    bracketed = FIGURES[FIGURES["method_label"] != FIGURES["method"]]
    assert set(bracketed["method"]) <= own
    assert {"snip", "synflow", "grasp", "magnitude", "random", "imp", "zhou"} <= set(
        FIGURES["method"]
    )
    datasets = {"mnist", "cifar10", "cifar100", "tiny_imagenet", "imagenet"}
    assert set(FIGURES["dataset"]) == datasets <= set(names("datasets"))


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("magnitude_init", "", ("magnitude", "magnitude")),
        ("grasp_abs_variant", "", ("grasp", "grasp(score=abs)")),
        ("imp_late_rewind", "rewind to epoch 12", ("imp", "imp(rewind_epoch=12.0)")),
        ("imp_late_rewind", "single run", ("imp_late_rewind", "imp_late_rewind")),
        ("oneshot_mag_finetune", "", ("imp", "imp(after=finetune, rounds=1)")),
        ("prospr", "", ("prospr", "prospr")),
    ],
)
def test_methods_have_our_names(name: str, setting: str, expected: tuple[str, str]) -> None:
    """A method has our name and options; one that we do not have keeps the name of its source."""
    theirs = SOURCE["method"].eq(name) & SOURCE["setting"].str.contains(setting, regex=False)
    ours = FIGURES.loc[theirs, ["method", "method_label"]].drop_duplicates()
    assert [tuple(row) for row in ours.values.tolist()] == [expected]


def test_the_figures_are_the_reviewed_ones() -> None:
    """Nobody changes a published figure unnoticed: a change of the file changes this line too."""
    file = files("paibench.leaderboard.published") / "published.csv"
    assert (
        sha256(file.read_bytes()).hexdigest()
        == "bf71dccbdd8805b052516f20049c7bb41d44ad7b244ec7d38b2aa6c57a545e5b"
    )


def test_an_interval_comes_from_deviation_and_n() -> None:
    """Of the first row: 70.23, deviation 0.21 over 3 runs; none where the source lacks either."""
    first = FIGURES.iloc[0]
    assert (first["accuracy"], first["std"], first["n"]) == (0.7023, 0.0021, 3)
    half = stats.t.ppf(0.975, 2) * 0.0021 / 3**0.5
    assert [first["low"], first["high"]] == pytest.approx([0.7023 - half, 0.7023 + half], abs=2e-4)
    ends = FIGURES.loc[FIGURES["n"].isna() | FIGURES["std"].isna(), ["low", "high"]]
    assert ends.isna().all(axis=None)
    known = FIGURES.dropna(subset=["low", "high"])
    rounding = 1e-12  # a deviation of 0 gives an interval of width 0
    assert known["low"].between(0, known["accuracy"] + rounding).all()
    assert known["high"].between(known["accuracy"] - rounding, 1).all()


def test_what_differs_is_said() -> None:
    """The best epoch on the test set, another network, a doubt about what was run."""
    synaptic = FIGURES[FIGURES["source"].str.contains("Synaptic-Flow")]
    assert synaptic["differs"].str.startswith("the best epoch on the test set").all()
    assert synaptic.loc[synaptic["method"] == "grasp", "doubt"].str.contains("SIGN").all()
    assert FIGURES["differs"].str.contains("shortcuts are 3x3 convolutions").sum() == 316
    last = FIGURES[FIGURES["setting"].str.startswith("n=246")]
    assert set(last["differs"]) == {"last epoch; 182 ep (90 for ImageNet)"}


def test_controls_and_untrained_accuracies_are_told_apart() -> None:
    """A shuffled mask is no row of its method, and a supermask without training no trained one."""
    gems = FIGURES[FIGURES["source"].str.contains("Rare Gems") & (FIGURES["method"] == "gem_miner")]
    found = gems.set_index("setting")[["control", "measure"]]
    assert list(found.loc["sanity: layer-wise mask shuffle"]) == ["shuffle", "accuracy"]
    assert list(found.loc["sanity: weight reinit"]) == ["reinit", "accuracy"]
    before = "BEFORE weight training (random weights + mask)"
    assert list(found.loc[before]) == ["none", "accuracy_untrained"]
    assert list(found.loc["AFTER finetune"]) == ["none", "accuracy"]
    assert set(FIGURES.loc[FIGURES["method"] == "zhou", "measure"]) == {"native_accuracy"}


@pytest.mark.parametrize(
    ("dataset", "model", "there"),
    [
        ("mnist", "lenet-300-100", True),
        ("mnist", {"name": "lenet-300-100", "width": 2.0}, False),
        ("mnist(examples=100)", "lenet-300-100", False),
        ("cifar10", {"name": "resnet-20", "shortcut": "conv"}, True),
        ("cifar10", "resnet-32", False),
        ("cifar10", {"name": "resnet-32", "width": 2.0}, True),
        ("cifar10", {"name": "wide-resnet", "depth": 22}, True),
        ("cifar10", "wide-resnet", False),
        ("digits", "lenet-300-100", False),
        ("mnist", "timm:resnet10t", False),
    ],
)
def test_only_the_same_network_on_the_same_data_compares(
    dataset: str, model: str | dict[str, Any], there: bool
) -> None:
    """Of the same width, depth and data; none of what stands in doubt or has no density."""
    named = Named.model_validate(model)
    found = comparable(of(dataset, named), named, FIGURES)
    assert (len(found) > 0) == there
    assert (found["doubt"] == "").all() and found["density"].notna().all()


def test_what_is_drawn_is_of_methods_shown_and_the_best_source(
    record_factory: RecordFactory,
) -> None:
    """VGG-16 has author data and a third party's sweep of SNIP: the authors' are drawn."""
    where = {"dataset": "cifar10", "model": "vgg-16"}
    runs = tabulate([row_of(record_factory(method="snip", **where))])
    ((track, cells),) = tracks(summarize(runs))
    found = published_for(track, models(runs)[track.model], cells, FIGURES)
    assert set(found["method_label"]) == {"snip"} and set(found["control"]) == {"none"}
    assert set(found["kind"]) == {"author-data"} and len(found) == 18


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (GOOD.replace(",5,", ",0,"), "row 2, column density_percent: '0' is no number above 0"),
        (GOOD.replace(",5,", ",500,"), "column density_percent: '500' is no number above 0 and at"),
        (GOOD.replace("98.4", "nan"), "column accuracy_percent: 'nan' is no number from 0 to 100"),
        (GOOD.replace("98.4", ""), "column accuracy_percent: '' is no number"),
        (GOOD.replace("98.4,", "98.4,-1"), "column std: '-1' is no number"),
        (GOOD.replace("paper", "rumour"), "column kind: 'rumour' is none of author-data"),
        (GOOD.replace("snip", " "), "column method: is empty"),
        (GOOD.replace(",20,", ",many,"), "column n: 'many' is not a number of runs"),
        (GOOD.replace(",,,20", ",,best,20"), "column measure: 'best' is none of accuracy"),
        (GOOD.replace("lenet-300-100,", '"{""name"": 1}",'), "column our_model: '{"),
        (GOOD + ",more", "row 2: has 18 columns, not 17"),
        (GOOD + "\n" + GOOD, "row 3: is the same as row 2"),
        ('"' + GOOD, "row 2: unexpected end of data"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, line: str, said: str) -> None:
    """File, row and column are named, in one line."""
    path = file(tmp_path, line)
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(path) in str(caught.value) and said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_files_are_refused(tmp_path: Path) -> None:
    """No file, other columns, bytes that are no text."""
    path = tmp_path / "their.csv"
    with pytest.raises(UserError, match="cannot be read"):
        load(path)
    path.write_text("a,b\n")
    with pytest.raises(UserError, match="row 1: the columns must be method, model"):
        load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        load(path)


def test_another_file_of_the_same_form_is_read(tmp_path: Path) -> None:
    """One good row is one row."""
    (row,) = load(file(tmp_path, GOOD)).to_dict("records")
    assert (row["density"], row["accuracy"], row["model"]) == (0.05, 0.984, "lenet-300-100")
