"""The table shows means with intervals and n, and a word for everything that is not there."""

import csv as reader
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import special, stats

from paibench.benchmark.record import PROTOCOL, Record
from paibench.leaderboard.format import sparsity_percent
from paibench.leaderboard.frame.export import csv
from paibench.leaderboard.frame.load import load, tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.stats.summary import reached, summarize, tracks
from paibench.leaderboard.tables import (
    Table,
    accuracy_table,
    markdown,
    terminal,
    text_rows,
)

RecordFactory = Callable[..., Record]
LOST: dict[str, Any] = {"accuracy": None, "accuracy_untrained": None, "reason": "it was lost"}
NASTY = ["<script>alert(1)</script>", "=1+1", "a|b\nc`d`", "\x1b[31mred", "\u202eevil", "[bold]x"]


def summary_of(*records: Record) -> pd.DataFrame:
    return summarize(tabulate(map(row_of, records)))


def table_of(*records: Record) -> Table:
    """The table of records that are all of one track."""
    (found,) = tracks(summary_of(*records))
    return accuracy_table(*found)


def body(table: Table) -> list[list[str]]:
    """The rows of a table as text, without its head."""
    return text_rows(table)[1:]


def shown(*accuracies: float) -> str:
    """The mean and its interval in percent, from 360 test examples, by the formula in the docs."""
    right = np.array(accuracies) * 360 + 0.5
    odds, n = np.log(right / (361 - right)), len(accuracies)
    variance = max(odds.var(ddof=1), (1 / right + 1 / (361 - right)).mean())
    half = stats.t.ppf(0.975, n - 1) * (variance / n) ** 0.5
    mean, low, high = (
        100 * float(x)
        for x in (np.mean(accuracies), *special.expit([odds.mean() - half, odds.mean() + half]))
    )
    above, below = f"{high - mean:.1f}", f"{mean - low:.1f}"
    even = abs(float(above) - float(below)) < 0.15
    return f"{mean:.1f} " + (f"± {max(above, below)}" if even else f"+{above} −{below}")


def printed(found: Table, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(terminal(found))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def usual(record_factory: RecordFactory) -> Table:
    """Two methods, the reference and the floor, three seeds, two densities, some of it lost."""
    records = [
        record_factory(method=method, density=density, seed=seed, accuracy=top + 0.01 * seed)
        for method, top in {"random": 0.5, "snip": 0.6, "imp": 0.8}.items()
        for density in (0.5, 0.1)
        for seed in range(3)
        if (method, density, seed) not in {("imp", 0.1, 1), ("snip", 0.1, 2)}
    ]
    records += [record_factory(method="dense", density=1.0, seed=s, accuracy=0.9) for s in range(3)]
    records += [record_factory(method="imp", density=0.1, seed=1, status="diverged", **LOST)]
    records += [record_factory(method="grasp", density=0.1, seed=1, status="failed", **LOST)]
    return table_of(*records)


def test_rows_are_dense_random_and_then_by_endpoint(usual: Table) -> None:
    """The reference and the floor lead; imp, which lost a run, and grasp have no endpoint."""
    assert [row[0] for row in body(usual)] == ["dense", "random", "snip", "imp", "grasp"]
    assert usual.notes[-1].endswith("sparsities of random; rows without it follow.")


def test_columns_are_sparsities(usual: Table) -> None:
    """From dense to sparse."""
    assert text_rows(usual)[0] == ["method", "0 %", "50 %", "90 %"]


def test_cells_show_interval_n_and_losses(usual: Table) -> None:
    """n stands where it is not that of the title, and what was lost by its name."""
    cells = {row[0]: tuple(row[1:]) for row in body(usual)}
    assert cells["dense"] == (shown(0.9, 0.9, 0.9), "–", "–")
    assert cells["random"] == ("–", *[shown(0.5, 0.51, 0.52)] * 2)
    assert cells["random"][1].startswith("51.0 ± ")
    two = f"{shown(0.8, 0.82)} (n=2), diverged 1/3"
    assert cells["imp"] == ("–", shown(0.8, 0.81, 0.82), two)
    assert cells["snip"] == ("–", shown(0.6, 0.61, 0.62), f"{shown(0.6, 0.61)} (n=2)")
    assert cells["grasp"] == ("–", "–", "failed 1/1")


def test_title_says_what_was_measured(usual: Table) -> None:
    """Model, data, prunable weights, recipe, init, split, seeds, protocol."""
    assert usual.title == (
        "lenet-300-100 on digits, 50,200 prunable weights, recipe lite, init kaiming_normal, "
        f"evaluated on test, n = 3 seeds, protocol {PROTOCOL}"
    )


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        pytest.param(50_200 * 20 // 19, "50,200 prunable weights,", id="95 %"),
        pytest.param(52_843, "50,200 prunable weights (94.9 % of all parameters),", id="just less"),
        pytest.param(100_400, "50,200 prunable weights (50.0 % of all parameters),", id="half"),
        pytest.param(None, "50,200 prunable weights,", id="not recorded"),
    ],
)
def test_a_small_share_is_shown(
    parameters: int | None, said: str, record_factory: RecordFactory
) -> None:
    """The title has the share of the parameters that is prunable if it is under 95 %."""
    assert said in table_of(record_factory(parameters=parameters)).title


def test_a_lone_run_says_what_there_is_not(record_factory: RecordFactory) -> None:
    """One seed, no reference, no floor: a table, and a note for each."""
    found = table_of(record_factory(accuracy=0.9))
    assert body(found) == [["snip", "90.0"]]
    notes = " ".join(found.notes)
    for said in ("one seed", "no dense reference", "no random floor"):
        assert said in notes


def test_marks_are_explained(record_factory: RecordFactory) -> None:
    """Unlike environments and collapsed layers are told in the notes."""
    found = table_of(
        record_factory(seed=0, environment={"threads": 4}, collapsed=["fc1.weight"]),
        record_factory(seed=1),
    )
    assert body(found)[0][1] == f"{shown(0.9, 0.9)}*"
    notes = " ".join(found.notes)
    assert "* averages runs of different environments: threads: 1, 4 (snip)." in notes
    assert "Layers collapsed: snip at 90 % (1/2)." in notes


def test_tickets_not_at_initialization_are_marked_and_come_last(
    record_factory: RecordFactory,
) -> None:
    """The row and its cells have a sign, the note has words, and nobody else stands below."""
    found = table_of(
        *(record_factory(method="imp", seed=s, at_initialization=False) for s in (0, 1)),
        *(record_factory(method="snip", seed=s, accuracy=0.7) for s in (0, 1)),
        *(record_factory(method="synflow", seed=s, at_initialization=True) for s in (0,)),
        record_factory(method="synflow", seed=1, status="failed", **LOST),
    )
    assert [row[0] for row in body(found)] == ["snip", "synflow", "imp‡"]
    assert body(found)[-1][1] == f"{shown(0.9, 0.9)}‡"
    assert "‡ weights not at initialization: imp. They start" in " ".join(found.notes)


def test_survivors_do_not_lead(record_factory: RecordFactory) -> None:
    """A method that lost runs at the middle density stands below those that lost none."""
    found = table_of(
        *(record_factory(seed=s, accuracy=0.6) for s in (0, 1)),
        record_factory(method="imp", seed=0, accuracy=0.99),
        record_factory(method="imp", seed=1, status="diverged", **LOST),
    )
    assert [row[0] for row in body(found)] == ["snip", "imp"]
    note = "After dense and random, rows are in order of the mean at 90 % sparsity."
    assert note in found.notes


def test_unlike_pairs_with_random_are_noted(record_factory: RecordFactory) -> None:
    """A method compared across versions of the code is named with what differs."""
    commits = {"snip": "a" * 40, "random": "b" * 40}
    found = table_of(
        *(
            record_factory(method=name, seed=seed, environment={"commit": commit})
            for name, commit in commits.items()
            for seed in (0, 1)
        )
    )
    assert [row[1] for row in body(found)] == [shown(0.9, 0.9)] * 2
    said = "paibench: 0.1.0 at aaaaaaaa, 0.1.0 at bbbbbbbb (snip)"
    assert f"Not made in the environment of the random runs: {said}." in found.notes


def test_kinds_of_unlikeness_that_would_flood_the_notes_are_counted(
    record_factory: RecordFactory,
) -> None:
    """Three are told, the rest is a number."""
    found = table_of(
        *(
            record_factory(density=0.1 * (k + 1), seed=s, environment={"threads": 1 + s * (k + 1)})
            for k in range(5)
            for s in (0, 1)
        )
    )
    (note,) = [note for note in found.notes if note.startswith("*")]
    assert note.count("threads") == 3 and note.endswith("/ and 2 more kinds, see the CSV.")


def test_results_that_did_not_repeat_are_marked(
    record_factory: RecordFactory, store_factory: Callable[[list[Record]], Path]
) -> None:
    """The first counts, the cell says so, and the note says what that means."""
    root = store_factory([record_factory(accuracy=0.9), record_factory(accuracy=0.8)])
    (found,) = tracks(summarize(load(root).runs))
    shown = accuracy_table(*found)
    assert body(shown)[0][1] == "90.0†"
    assert "† has runs that gave another result when the same spec was run again" in " ".join(
        shown.notes
    )


def test_controls_are_rows_of_their_own(record_factory: RecordFactory) -> None:
    """Named after the method and the control."""
    found = table_of(record_factory(), record_factory(control="shuffle", accuracy=0.95))
    assert [row[0] for row in body(found)] == ["snip, shuffle", "snip"]


@pytest.mark.parametrize(
    ("density", "shown"),
    [
        (1.0, "0 %"),
        (0.5, "50 %"),
        (0.1, "90 %"),
        (0.05623413, "94.38 %"),
        (0.01, "99 %"),
        (0.0072, "99.28 %"),
        (0.00028, "99.972 %"),
    ],
)
def test_sparsity_is_shown_to_three_digits_of_what_is_kept(density: float, shown: str) -> None:
    """Without zeros at the end."""
    assert sparsity_percent(density) == shown


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_hostile_text_stays_text(record_factory: RecordFactory, text: str) -> None:
    """No new rows, columns, tags, formulas, colours or control characters, in any form."""
    kinds = {"dataset": "d", "model": "m", "recipe": "r", "method": "x"}
    option = "".join(filter(str.isprintable, text))  # a spec takes nothing else
    records = [
        record_factory(
            seed=seed,
            environment={"device": f"{text}{seed}", "plugin": text},
            **{field: {"name": name, "option": option} for field, name in kinds.items()},
        )
        for seed in range(2)
    ]
    summary = summary_of(*records)
    found = table_of(*records)
    page = markdown(found)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [3, 3, 3]
    assert not re.search(r"<|(?<!\\)`", page)
    shown = printed(found)
    assert all(mark >= " " or mark == "\n" for mark in page + shown)
    assert "\u202e" not in page + shown
    lines = list(reader.reader(io.StringIO(csv(summary))))
    assert len(lines) == 2 and len(lines[0]) == len(lines[1])
    assert not any(re.match(r"[=+\-@\t\r]", cell) for cell in lines[1])


def test_csv_has_a_line_per_cell_at_full_precision(record_factory: RecordFactory) -> None:
    """Read back, the numbers are those of the summary to the last bit."""
    records = [record_factory(seed=s, accuracy=0.9 + 0.01 / (3 + s)) for s in range(3)]
    summary = summary_of(*records, record_factory(density=0.05))
    lines = list(reader.DictReader(io.StringIO(csv(summary))))
    assert len(lines) == 2
    for name in ("accuracy_mean", "accuracy_std", "density", "sparsity"):
        assert [float(line[name] or "nan") for line in lines] == pytest.approx(
            list(summary[name]), rel=0, abs=0, nan_ok=True
        )


def test_terminal_shows_all_cells(usual: Table) -> None:
    """Every cell of a table that fits stands in the print, as do the notes."""
    shown = printed(usual)
    for cell in (cell for row in body(usual) for cell in row):
        assert cell in shown
    assert "Accuracy in percent" in shown


def test_whole_channels_name_the_sparsity_that_they_reach(record_factory: RecordFactory) -> None:
    """A mask of whole channels may keep fewer weights than its column says."""
    few = record_factory(method="snip", seed=1)
    assert few.kept is not None and few.prunable is not None
    kept = few.kept // 2
    fewer = few.model_copy(
        update={"kept": kept, "density": kept / few.prunable, "channels": 8, "channels_kept": 4}
    )
    table = table_of(fewer)
    assert (
        "Whole channels keep fewer weights than asked for: snip has 95 % under 90 %." in table.notes
    )
    assert not any("Whole channels" in note for note in table_of(few).notes)
    cells = summary_of(fewer)
    assert list(reached(cells)) == pytest.approx([0.05], abs=1e-4)
    assert list(reached(summary_of(few))) == [0.1]
