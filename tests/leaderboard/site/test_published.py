"""Published figures stand beside ours on the page of a track, and are never ranked."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.record import Record
from paibench.leaderboard.board import compute
from paibench.leaderboard.frame.load import Frame, tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.site.build import build_site

RecordFactory = Callable[..., Record]


def page_of(tmp_path: Path, factory: RecordFactory, **fixed: Any) -> str:
    """Return the page of the only track of a site with dense, and snip at two sparsities."""
    asked = [("dense", 1.0), ("snip", 0.05), ("snip", 0.02)]
    records = [
        factory(method=method, density=density, seed=seed, accuracy=0.95 + 0.001 * seed, **fixed)
        for method, density in asked
        for seed in range(3)
    ]
    built = build_site(compute(Frame(tabulate(map(row_of, records)))), tmp_path)
    (path,) = [path for path in built.paths if path.parent.name == "track"]
    return path.read_text(encoding="utf-8")


def rows_of(page: str, name: str) -> list[str]:
    """Return the rows of a table of a page."""
    found = re.search(rf'<section class="board" id="{name}"(.*?)</section>', page, re.S)
    return re.findall(r'<tr><th scope="row">(.*?)</tr>', found[1], re.S) if found else []


def chart(page: str) -> dict[str, Any]:
    """Return the chart of a page."""
    found = re.search(r'id="chart-spec">(.*?)</script>', page, re.S)
    assert found
    spec: dict[str, Any] = json.loads(found[1])
    return spec


def test_published_figures_stand_beside_ours(tmp_path: Path, record_factory: RecordFactory) -> None:
    """A row has both means, difference, n, source and protocol; SNIP published 98.4 at 95 %."""
    rows = rows_of(page_of(tmp_path, record_factory, dataset="mnist"), "published")
    (row,) = [row for row in rows if ">snip</a>" in row and ">95 %</td>" in row]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    assert cells[2:4] == ["98.4<small>n = ?</small>", "95.1 +2.1 −3.9<small>n = 3</small>"]
    assert cells[4] == "−3.3"
    assert "which epoch counts is not said" in cells[5]
    assert cells[6] == "Lee 2019 Table 1<small>kind: paper</small>"


def test_published_markers_are_hollow(tmp_path: Path, record_factory: RecordFactory) -> None:
    """Published figures have a separate layer, and a tooltip with their source."""
    page = page_of(tmp_path, record_factory, dataset="mnist")
    spec = chart(page)
    (layer,) = [each for each in spec["layer"] if "data" in each and "tooltip" in each["encoding"]]
    values = spec["datasets"][layer["data"]["name"]]
    assert [(each["method"], each["density"], each["mean"]) for each in values] == [
        ("dense", 1.0, 98.3),
        ("snip", 0.02, 97.6),
        ("snip", 0.05, 98.4),
    ]
    assert layer["mark"]["type"] == "point" and layer["mark"]["filled"] is False
    assert layer["mark"]["shape"] == "diamond"
    fields = {each["field"] for each in layer["encoding"]["tooltip"]}
    assert {"source", "differs", "n"} <= fields
    assert "Hollow diamonds are published figures" in page


def test_published_figures_are_not_ranked(tmp_path: Path, record_factory: RecordFactory) -> None:
    """The ranking and our lines contain only our runs."""
    page = page_of(tmp_path, record_factory, dataset="mnist")
    assert len(rows_of(page, "ranked")) == 2
    assert not any("98.4" in row for row in rows_of(page, "ranked"))
    spec = chart(page)
    assert {value["n"] for value in spec["datasets"][spec["data"]["name"]]} == {3}
    assert not any("data-r" in row for row in rows_of(page, "published"))


@pytest.mark.parametrize(
    "fixed",
    [{"dataset": "digits"}, {"dataset": "mnist", "model": {"name": "lenet-300-100", "width": 0.5}}],
    ids=["data without papers", "another width"],
)
def test_a_track_without_published_figures_has_no_section(
    tmp_path: Path, record_factory: RecordFactory, fixed: dict[str, Any]
) -> None:
    """The page has no table, no markers and no sentence about them."""
    page = page_of(tmp_path, record_factory, **fixed)
    assert rows_of(page, "published") == []
    assert "ublished" not in page
