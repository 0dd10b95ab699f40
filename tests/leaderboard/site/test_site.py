"""The site depends on records alone, is reproducible, and never reads text as markup."""

import json
import math
import re
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from accuracies import ERK, GRID
from factories import make_record
from hypothesis import given
from hypothesis import strategies as st

from paibench.benchmark.record import Record
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.records import Problem
from paibench.benchmark.store.store import Store
from paibench.leaderboard.board import compute
from paibench.leaderboard.frame.load import Frame, load, tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.site.build import SiteBuilt, build_site
from paibench.leaderboard.site.chart import _highlighted, spread
from paibench.leaderboard.site.tables import (
    TrackView,
    accuracy_tables,
    headline,
    index_table,
    track_view,
)
from paibench.methods.core.registry import UserError, find
from paibench.methods.core.signature import describe

RecordFactory = Callable[..., Record]
StoreFactory = Callable[[Iterable[Record]], Path]

LOST: dict[str, Any] = {
    "accuracy": None,
    "accuracy_untrained": None,
    "reason": "it grew without end",
}
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    '" onmouseover="alert(4)',
    "' onfocus='alert(5)' autofocus='",
    "javascript:alert(6)",
    "<a href=javascript:alert(7)>x</a>",
    "<svg/onload=alert(8)>",
    "{{ 7 * 7 }}{% raw %}",
    "=HYPERLINK('https://example.org')",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnp.exe\u2066",
    "nul\x00byte\x08",
    "]]>--><!-- &lt;b&gt; `${alert(9)}`",
]
TEXTS = ["reason", "dataset", "model", "recipe", "init", "method", "method_label", "split"] + [
    *("data_name", "evaluated_on", "mask_file", "curve_file", "conflict", "started", "finished"),
    *("host", "device", "paibench", "commit", "python", "torch", "timm", "cuda", "driver"),
    *("plugin", "plugin_version", "plugin_origin", "plugin_sha256", "other_plugins"),
    *("isolation", "slurm_job", "mask_sha256", "trained_sha256"),
]


class Seen(HTMLParser):
    """The elements of a page with their attributes, its links, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.shapes: set[tuple[str, tuple[str, ...]]] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shapes.add((tag, tuple(sorted(name for name, _ in attrs))))
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data: str) -> None:
        self.text += data


def some(factory: RecordFactory, **fixed: Any) -> list[Record]:
    """Return dense, random and three methods at three sparsities, with controls and a lost run."""
    tops = {"random": 0.5, "snip": 0.6, "imp": 0.8, "zhou": 0.7}
    records = [
        factory(
            **{
                "method": method,
                "density": density,
                "seed": seed,
                "accuracy": top + 0.1 * density + 0.01 * math.sin(7 * seed + 100 * top),
                "search_seconds": 1.5,
                "native_accuracy": top - 0.2 if method == "zhou" else None,
                "native_density": 0.5 if method == "zhou" else None,
                "at_initialization": method != "imp",
            }
            | fixed
        )
        for method, top in tops.items()
        for density in (0.5, 0.1, 0.02)
        for seed in range(3)
    ]
    for seed in range(3):
        records += [factory(**{"method": "dense", "density": 1.0, "seed": seed} | fixed)]
        shuffled = {"method": "snip", "density": 0.1, "seed": seed, "control": "shuffle"}
        records += [factory(**shuffled | {"accuracy": 0.6} | fixed)]
    lost = {"method": "grasp", "density": 0.1, "status": "diverged", **LOST}
    return [*records, factory(**lost | fixed)]


def frame_of(records: Iterable[Record]) -> Frame:
    return Frame(tabulate(map(row_of, records)))


def text(built: SiteBuilt, ending: str) -> str:
    (path,) = [path for path in built.paths if path.as_posix().endswith(ending)]
    return path.read_text(encoding="utf-8")


def pages(built: SiteBuilt) -> dict[Path, str]:
    return {p: p.read_text(encoding="utf-8") for p in built.paths if p.suffix == ".html"}


def track_page(built: SiteBuilt) -> str:
    """Return the page of the only track."""
    (page,) = [page for path, page in pages(built).items() if path.parent.name == "track"]
    return page


def cells_without_a_number(built: SiteBuilt) -> list[str]:
    """Return the cells of tables that print or sort by NaN, None and the like."""
    cells = [
        cell
        for page in pages(built).values()
        for cell in re.findall(r"<td(?: data-.*?)?>.*?</td>", page)
    ]
    assert cells
    return [cell for cell in cells if re.search(r"\b(nan|None|NaN|NaT|inf|undefined)\b", cell)]


def hostile_frame(factory: RecordFactory) -> Frame:
    """Return records in which every text field is hostile, in all ways of `HOSTILE`."""
    runs = frame_of(some(factory)).runs
    for place, name in enumerate(TEXTS):
        values = [HOSTILE[(place + row) % len(HOSTILE)] for row in range(len(runs))]
        if name in ("dataset", "model", "recipe", "init", "split"):  # two tracks, not fifty
            values = [HOSTILE[(place + row % 2) % len(HOSTILE)] for row in range(len(runs))]
        runs[name] = pd.Series(values, index=runs.index, dtype="str")
    runs["method_label"] = runs["method"] + runs["method_label"]
    names = [HOSTILE for _ in runs.index]
    runs["layer_names"] = pd.Series(names, index=runs.index, dtype="object")
    problems = tuple(Problem(Path(f"ab/{place}.json"), bad) for place, bad in enumerate(HOSTILE))
    return Frame(runs, problems)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilt:
    """A site of one track."""
    folder = tmp_path_factory.mktemp("built")
    return build_site(compute(frame_of(some(make_record))), folder / "site")


def test_hostile_text_is_text(tmp_path: Path, record_factory: RecordFactory) -> None:
    """Hostile records add no element and no attribute to the pages of a harmless site."""
    harmless = [*some(record_factory), *some(record_factory, dataset="mnist")]
    usual = build_site(compute(frame_of(harmless)), tmp_path / "usual")
    known = set().union(*(Seen(page).shapes for page in pages(usual).values()))
    frame = hostile_frame(record_factory)
    found = build_site(compute(frame), tmp_path / "hostile")
    for page in pages(found).values():
        seen = Seen(page)
        assert seen.shapes - known == set()
        assert [link for link in seen.links if ":" in link and link != "data:,"] == []
    everything = " ".join(Seen(page).text for page in pages(found).values())
    assert "<script>alert(1)</script>" in everything


def test_hostile_text_has_no_invisible_characters(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """No page and no data of a run has control or bidirectional characters."""
    found = build_site(compute(hostile_frame(record_factory)), tmp_path)
    ours = [path for path in found.paths if path.suffix in (".html", ".csv")]
    ours += [path for path in found.paths if "data/runs/" in path.as_posix()]
    for path in ours:
        data = path.read_text(encoding="utf-8")
        assert re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", data) is None
        assert re.search(r"\\u00(0|1|7f)|\\u20(2[a-e]|6[6-9])", data) is None


def test_hostile_text_is_not_a_formula(tmp_path: Path, record_factory: RecordFactory) -> None:
    """No cell of the CSV begins like a formula."""
    found = build_site(compute(hostile_frame(record_factory)), tmp_path)
    cells = pd.read_csv(tmp_path / "data" / "cells.csv", dtype="str")
    assert len(found.paths) > 10
    texts = cells[["dataset", "model", "method", "method_label", "recipe", "init"]].stack()
    assert texts[texts.str.match(r"[=+\-@\t\r]")].empty


def test_the_same_records_give_the_same_bytes(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """The bytes do not depend on the order of the records, nor on an earlier build."""
    records = [*some(record_factory), *some(record_factory, dataset="mnist")]
    one = build_site(compute(frame_of(records)), tmp_path / "one")
    two = build_site(compute(frame_of(reversed(records))), tmp_path / "two")
    assert {path.relative_to(tmp_path / "one"): path.read_bytes() for path in one.paths} == {
        path.relative_to(tmp_path / "two"): path.read_bytes() for path in two.paths
    }


def test_pages_load_nothing_from_other_hosts(built: SiteBuilt) -> None:
    """Every link and script of a page is a file of the site, and its policy allows nothing else."""
    for path, page in pages(built).items():
        links = [link.partition("#")[0] for link in Seen(page).links]
        files = [path.parent / link for link in links if link and link != "data:,"]
        assert [file for file in files if not file.resolve().is_file()] == []
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in page
        assert re.search(r"<style|<script>|\son\w+=|\sstyle=", page) is None


def test_the_start_page_has_numbers_with_n(built: SiteBuilt) -> None:
    """The start page has means with intervals, n and rank sets, and names lost runs."""
    page = Seen(text(built, "/index.html")).text
    assert re.search(r"6\d\.\d \+\d\.\d −\d\.\d", page)
    assert re.search(r"1(–\d+)? of \d+\s*provisional", page)
    assert "n = 3 if a cell has none" in page
    assert "diverged 1/1" in page
    assert "self-reported" in page
    assert (
        "diverged: grasp at 90 % sparsity, lenet-300-100 on digits, seed 0: it grew without end"
        in page
    )
    assert "Across tracks" not in page


def view_of(accuracies: dict[tuple[str, float], list[float]]) -> TrackView:
    """The only track of runs with these accuracies, by method label and density."""
    erk = {"name": "random", "layers": "erk"}
    records = [
        make_record(
            method=erk if label == ERK else label, density=density, seed=seed, accuracy=accuracy
        )
        for (label, density), values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    found = compute(frame_of(records))
    (own,) = found.tracks.values()
    return track_view(found, own)


def equal(accuracy: float, *labels: str, n: int = 5) -> dict[tuple[str, float], list[float]]:
    """Runs with nearly one accuracy at three densities."""
    values = [accuracy + seed / 1000 for seed in range(n)]
    return {(label, density): values for label in labels for density in GRID}


FLOORS = equal(0.7, "random") | equal(0.72, ERK)


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        (
            FLOORS | equal(0.9, "snip") | equal(0.72, "grasp"),
            "snip has the highest mean over all sparsities, 90.1 +1.8 −2.1 %, rank 1 of 4; "
            "random(layers=erk) has 72.1 +2.8 −3.0 %. 1 of 2 methods beats both random floors.",
        ),
        (
            FLOORS | equal(0.9, "snip") | equal(0.95, "imp"),
            "snip has the highest mean over all sparsities, 90.1 +1.8 −2.1 %, rank 2 of 4; "
            "random(layers=erk) has 72.1 +2.8 −3.0 %. imp, whose search trains the weights, has "
            "95.1 +1.2 −1.6 %. 2 of 2 methods beat both random floors.",
        ),
        (
            FLOORS | equal(0.9, "snip") | {("dense", 1.0): [0.98] * 5},
            "snip has the highest mean over all sparsities, 90.1 +1.8 −2.1 %, rank 1 of 3; "
            "random(layers=erk) has 72.1 +2.8 −3.0 %. snip beats both random floors. "
            "The dense network has 98.0 +0.6 −1.3 %.",
        ),
        (
            equal(0.7, "random", n=3) | equal(0.9, "snip", n=3),
            "snip has the highest mean over all sparsities, 90.0 +3.3 −4.7 %, rank 1 of 2; "
            "random has 70.0 +5.6 −6.3 %. With 3 seeds, there is no verdict.",
        ),
        (
            FLOORS | equal(0.6, "snip"),
            "Random pruning has the highest mean over all sparsities: random(layers=erk) "
            "72.1 +2.8 −3.0 %; snip has 60.2 ± 3.2 %, rank 3 of 3. snip does not beat both "
            "random floors.",
        ),
        (FLOORS, "There is no method to compare with random pruning."),
        (equal(0.9, "snip"), "There is no method to compare with random pruning."),
    ],
    ids=["one", "imp", "dense", "three-seeds", "worse", "floors", "no-floors"],
)
def test_the_result_in_words(
    accuracies: dict[tuple[str, float], list[float]], expected: str
) -> None:
    """The best method beside the better floor, and how many methods beat both."""
    assert headline(view_of(accuracies)) == expected


def test_the_short_table_has_the_sparsities_that_differ(built: SiteBuilt) -> None:
    """Of four, the three at which the means differ most, in the order of the sparsities."""
    same = {("random", 0.9): [0.8] * 5, ("snip", 0.9): [0.8] * 5}
    means = {0.5: 0.81, 0.1: 0.95, 0.02: 0.9}
    other = {("snip", density): [mean] * 5 for density, mean in means.items()}
    view = view_of(same | other | {("random", density): [0.8] * 5 for density in means})
    table = index_table(view, accuracy_tables(view), "title")
    keys = ["d0.5", "d0.1", "d0.02", "rank", "verdict", "epochs", "uses", "paper"]
    assert [column.key for column in table.columns] == keys


def test_the_page_of_a_method_has_its_whole_description(built: SiteBuilt) -> None:
    """A page cuts long texts of records, but these are ours and longer."""
    doc = describe(find("imp")).doc
    assert max(map(len, doc.split("\n\n"))) > 1_000
    shown = Seen(text(built, "method/imp.html")).text
    assert " ".join(doc.split()) in " ".join(shown.split())


def test_several_tracks_are_compared(tmp_path: Path, record_factory: RecordFactory) -> None:
    """Two tracks give rank sets and no test, and name the methods left out."""
    records = [*some(record_factory), *some(record_factory, dataset="mnist")]
    page = text(build_site(compute(frame_of(records)), tmp_path), "/index.html")
    assert "Across tracks" in page and "Rank sets by track" in page
    assert "There are 2 tracks; a comparison across tracks needs 5" in page
    assert "Ranks ignore the size of a difference." in page
    assert "imp: weights not at initialization in 2 tracks" in page


def test_no_text_of_ours_is_cut(built: SiteBuilt) -> None:
    """A page shows at most 400 characters of a text, so that ours must be shorter."""
    for page in (text(built, "/index.html"), track_page(built)):
        assert re.findall(r"[^<>]{0,40}…", page) == []
    assert "does not mean as good as random." in track_page(built)


def test_each_class_has_its_section(built: SiteBuilt) -> None:
    """Tickets not at initialization, controls and supermasks are not in the ranking."""
    page = track_page(built)
    parts = dict(re.findall(r'<section class="board" id="([\w-]+)"(.*?)</section>', page, re.S))
    named = {
        key: set(re.findall(r'scope="row"><a[^>]*>([^<]+)', part)) for key, part in parts.items()
    }
    assert named["ranked"] == {"dense", "random", "snip", "zhou", "grasp"}
    assert named["elsewhere"] == {"imp"}
    assert named["controls"] == {"snip, shuffle"}
    assert named["supermasks"] == {"zhou"}
    assert named["verdicts"] == {"snip"}


def test_the_chart_has_the_numbers_of_the_table(built: SiteBuilt) -> None:
    """The chart has means in percent with n; its names do not depend on earlier charts."""
    page = track_page(built)
    spec = json.loads(re.search(r'id="chart-spec">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    values = next(iter(spec["datasets"].values())) if "datasets" in spec else spec["data"]["values"]
    assert {value["n"] for value in values} == {3}
    assert {value["kind"] for value in values} == {"ranked", "elsewhere", "controls"}
    assert all(0 <= value["low"] <= value["mean"] <= value["high"] <= 100 for value in values)
    assert [layer["name"] for layer in spec["layer"]] == [f"layer_{at}" for at in range(6)]
    assert {value["uses"] for value in values} <= {"", "no data", "one batch", "learned mask"} | {
        "trained weights"
    }


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([9, 5, 1], [9, 5, 1]),
        ([5, 5], [5.5, 4.5]),
        ([5, 5, 5, 0], [6, 5, 4, 0]),
        ([5, 4.9, 3.9], [5.6, 4.6, 3.6]),
        ([], []),
    ],
)
def test_labels_are_moved_apart(places: list[float], expected: list[float]) -> None:
    """Labels that would overlap stand around their mean, in order, one gap apart."""
    assert spread(places, 1) == pytest.approx(expected)


@given(st.lists(st.floats(0, 100), max_size=12).map(lambda found: sorted(found, reverse=True)))
def test_labels_keep_their_order_and_their_gap(places: list[float]) -> None:
    """No two labels are nearer than the gap, and their mean stays."""
    found = spread(places, 4)
    assert all(above - below >= 4 - 1e-9 for above, below in pairwise(found))
    assert sum(found) == pytest.approx(sum(places), abs=1e-6)


def test_the_lines_in_colour() -> None:
    """At most eight rows are highlighted: the references, and the first of the ranking."""
    rows = ["dense", "random", *(f"m{at}" for at in range(9)), "random(layers=erk)"]
    expected = ["dense", "random", "random(layers=erk)", "m0", "m1", "m2", "m3", "m4"]
    assert _highlighted(rows) == expected


def run_of(built: SiteBuilt, key: str) -> dict[str, Any]:
    """Return the row of a run as its page loads it."""
    script = text(built, f"data/runs/{key[:2]}.js")
    runs = json.loads(script.removeprefix("paibenchRuns(").removesuffix(");\n"))
    return runs[key]  # type: ignore[no-any-return]


def test_a_run_has_its_record_and_curve(
    tmp_path: Path, record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """The data of a run have every column, and its curve from the store."""
    record = record_factory(accuracy=0.75, environment={"host": "here"})
    root = store_factory([record_factory(seed=1)])
    store = Store.open(root)
    curve = json.dumps([{"epoch": 1, "accuracy": 0.5}, {"epoch": 2, "accuracy": 0.75}]).encode()
    name = store.publish_file(record.key, "curve.json", curve)
    whole = Record.read(record.plain() | {"curve_file": name})
    store.publish_record(record.key, whole.plain(), new_attempt_id())
    run = run_of(build_site(compute(load(root), [Store.read(root)]), tmp_path / "site"), record.key)
    assert (run["accuracy"], run["host"], run["seed"]) == (0.75, "here", 0)
    assert run["curve"]["accuracy"] == [0.5, 0.75]
    assert run["layer_kept"] == record.layer_kept


@pytest.mark.parametrize(
    "curve",
    [b"not json", b"[]", b"{}", b"[1]", b'[{"epoch": "x", "accuracy": "<b>"}]', b"[" * 9999],
    ids=["no json", "empty", "object", "numbers", "texts", "deep"],
)
def test_a_broken_curve_is_left_out(
    curve: bytes, tmp_path: Path, record_factory: RecordFactory, store_factory: StoreFactory
) -> None:
    """If a curve cannot be read, the page of its run has none."""
    store = Store.open(store_factory([]) if (tmp_path / "store").exists() else tmp_path / "store")
    record = record_factory()
    name = store.publish_file(record.key, "curve.json", curve)
    whole = Record.read(record.plain() | {"curve_file": name})
    store.publish_record(record.key, whole.plain(), new_attempt_id())
    built = build_site(compute(load(store.root), [store]), tmp_path / "site")
    assert "curve" not in run_of(built, record.key)


@pytest.mark.parametrize(
    "case",
    [
        *("one method", "only skipped"),
        *(
            pytest.param(case, marks=pytest.mark.slow)
            for case in ("one seed", "mixed protocols", "no dense or random", "0 %")
        ),
    ],
)
def test_incomplete_stores_have_a_site(
    case: str, tmp_path: Path, record_factory: RecordFactory
) -> None:
    """Whatever results are missing, there is a site, and it prints no NaN."""
    records = {
        "one method": [record_factory(seed=seed) for seed in range(3)],
        "one seed": [r for r in some(record_factory) if r.spec.get("seed", 0) == 0],
        "mixed protocols": [*some(record_factory), *some(record_factory, protocol=2, seed=9)],
        "only skipped": [record_factory(status="skipped", **LOST)],
        "no dense or random": [record_factory(method=m, seed=1) for m in ("snip", "grasp")],
        "0 %": [record_factory(accuracy=0.0, seed=seed) for seed in range(2)],
    }[case]
    unique = {record.key + str(record.protocol): record for record in records}.values()
    found = build_site(compute(frame_of(unique)), tmp_path)
    assert cells_without_a_number(found) == []


def test_a_frame_without_records_is_one_line(tmp_path: Path, record_factory: RecordFactory) -> None:
    """An empty frame and one with only failures raise an error."""
    failed = frame_of([record_factory(status="failed", **LOST)])
    for frame in (Frame(tabulate([])), failed):
        with pytest.raises(UserError, match="no records to show"):
            build_site(compute(frame), tmp_path / "site")


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """A file with the name of the folder raises an error."""
    (tmp_path / "site").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        build_site(compute(frame_of([record_factory()])), tmp_path / "site")


def test_not_a_number_is_never_printed(tmp_path: Path, record_factory: RecordFactory) -> None:
    """NaN and infinity in a frame are never printed as numbers."""
    frame = frame_of(some(record_factory))
    runs = frame.runs.assign(search_seconds=math.inf, peak_memory_mb=math.nan, loss=-math.inf)
    runs.loc[runs["method"] == "snip", "accuracy"] = math.nan
    found = build_site(compute(Frame(runs)), tmp_path)
    assert cells_without_a_number(found) == []
    shards = [p.read_text() for p in found.paths if "data/runs/" in p.as_posix()]
    assert not any("NaN" in shard or "Infinity" in shard for shard in shards)


def ranks_of(page: str, name: str) -> set[str]:
    """Return the best ranks in the row of a method on the page of a track."""
    ranked = re.search(r'id="ranked"(.*?)</section>', page, re.S)[1]  # type: ignore[index]
    row = re.search(rf">{name}</a></th>(.*?)</tr>", ranked, re.S)[1]  # type: ignore[index]
    return set(re.findall(r'data-r="(\d+)"', row))


@pytest.mark.parametrize("public", [False, True], ids=["private", "public"])
def test_the_level_stands_beside_the_rank_on_a_public_site(
    tmp_path: Path, record_factory: RecordFactory, public: bool
) -> None:
    """Levels are always shown; a public site shows them with every rank, and changes none."""
    frame = frame_of(some(record_factory))
    given = {"snip": "verified", "zhou": "checked"}
    methods = zip(frame.runs["key"], frame.runs["method"], strict=True)
    marks = {key: given[method] for key, method in methods if method in given}
    private = build_site(compute(frame, levels=marks), tmp_path / "private")
    built = build_site(compute(frame, levels=marks, public=public), tmp_path / "site")
    page = track_page(built)
    assert re.search(r">zhou</a></th>.*?<td>checked</td>", page, re.S)
    assert ranks_of(page, "zhou") == ranks_of(track_page(private), "zhou") != set()
    assert bool(re.search(r"rank [\d–]+ of \d, checked<", page)) == public
    index = Seen(text(built, "/index.html")).text
    assert "9 checked" in index and "12 verified" in index and "none with an accuracy" in index
    assert ("The level stands beside every rank" in index) == public
    assert run_of(built, min(marks))["mark"] in ("checked", "verified")


def test_a_lost_run_does_not_change_the_level(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """Lost runs do not lower the level of a cell; a row has the lowest level of its cells."""
    records = [*some(record_factory)]
    lost = record_factory(method="snip", density=0.1, seed=9, status="diverged", **LOST)
    verified = {record.key: "verified" for record in records}
    for more, mark in ((lost, "verified"), (record_factory(density=0.1, seed=9), "self-reported")):
        built = build_site(compute(frame_of([*records, more]), levels=verified), tmp_path / mark)
        page = track_page(built)
        ranked = re.search(r'id="ranked"(.*?)</section>', page, re.S)[1]  # type: ignore[index]
        row = re.search(r">snip</a></th>(.*?)</tr>", ranked, re.S)[1]  # type: ignore[index]
        assert re.search(rf"<td>{mark}(<small[^>]*>verified at 2, self-reported at 1)?", row)
        assert ("self-reported at 1" in row) == (mark == "self-reported")


def test_large_tables_are_cut_and_say_so(
    tmp_path: Path, record_factory: RecordFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that would be too large has the first rows of its table, and the site says so."""
    monkeypatch.setattr("paibench.leaderboard.site.tables._PAGE_BYTES", 1)
    records = [
        record_factory(method={"name": "snip", "per_class": number}, accuracy=0.5 + number / 100)
        for number in range(1, 31)
    ]
    found = build_site(compute(frame_of(records)), tmp_path)
    page = track_page(found)
    assert "This page shows 20 of 30 rows" in page
    assert any("10 rows of ranking do not fit" in line for line in found.left_out)
