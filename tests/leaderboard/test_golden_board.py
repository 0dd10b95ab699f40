"""For as long as the protocol's number stands, the same records give the same board."""

import csv
import difflib
import math
import re
import statistics
from pathlib import Path

import pytest

from paibench.leaderboard.build import build
from paibench.leaderboard.frame.load import load

GOLDEN = Path(__file__).parents[1] / "golden"
BOARD = sorted(p for p in (GOLDEN / "board").rglob("*") if p.is_file())
NAMES = [path.relative_to(GOLDEN / "board").as_posix() for path in BOARD]
_FLOAT = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")
_SIZE = re.compile(r' width="\d+" height="\d+"(?= loading)')


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The board of the golden store, made now."""
    out = tmp_path_factory.mktemp("golden")
    build([GOLDEN / "store"], out)
    return out


def comparable(path: Path) -> list[str]:
    """The lines of a file, without what another version of scipy or matplotlib may change.

    That is the 11th digit of a number in a CSV, and the size of a figure in a page.
    """
    text = path.read_bytes().decode()
    if path.suffix == ".csv":
        text = _FLOAT.sub(lambda number: f"{float(number[0]):.10g}", text)
    return _SIZE.sub("", text).split("\n")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_records_give_the_same_board(made: Path, name: str) -> None:
    """Other numbers need a new protocol; other words, `python tests/golden/remake.py`."""
    before, now = comparable(GOLDEN / "board" / name), comparable(made / name)
    changed = list(difflib.unified_diff(before, now, "golden", "now", lineterm="", n=0))
    assert [line[:300] for line in changed[:20]] == []


def test_the_golden_board_is_whole(made: Path) -> None:
    """Tables, start page and the page of every track are there, and no more."""
    tracks = sorted(path.relative_to(made).as_posix() for path in made.glob("track/*.html"))
    tables = ["data/cells.csv", "index.html", "leaderboard.csv", "leaderboard.md"]
    assert tables + tracks == NAMES


def test_the_golden_records_are_of_one_protocol() -> None:
    """39 sound records, which are made anew when results/mnist-lenet is."""
    frame = load(GOLDEN / "store")
    assert frame.problems == ()
    assert set(frame.runs["protocol"]) == {1}
    assert frame.runs.groupby("method").size().to_dict() == {
        "dense": 3,
        "imp": 12,
        "random": 12,
        "snip": 12,
    }


def test_a_golden_number_is_right() -> None:
    """Mean and interval of snip at 95 % sparsity, from its three records by hand."""
    runs = load(GOLDEN / "store").runs
    own = runs[(runs["method"] == "snip") & (runs["density_asked"] == 0.05)]
    accuracies = own["accuracy"].tolist()
    with open(GOLDEN / "board" / "leaderboard.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "snip"]
    (row,) = [row for row in rows if float(row["density_asked"]) == 0.05]
    assert len(accuracies) == int(row["accuracy_n"]) == 3
    assert float(row["accuracy_mean"]) == pytest.approx(sum(accuracies) / 3, rel=1e-12)
    odds = [math.log((1e4 * a + 0.5) / (1e4 - 1e4 * a + 0.5)) for a in accuracies]
    half = 4.302652729911275 * statistics.stdev(odds) / math.sqrt(3)
    low = 1 / (1 + math.exp(half - statistics.mean(odds)))
    assert float(row["accuracy_low"]) == pytest.approx(low, rel=1e-9)
