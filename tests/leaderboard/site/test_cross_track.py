"""The section about several tracks says what is compared, and has intervals only from five on."""

import re
from collections import defaultdict

import pandas as pd
import pytest
from accuracies import ERK, board, runs_of

from paibench.leaderboard.site.cross_track import CrossTrackSection, cross_track_section
from paibench.leaderboard.stats.cross_track import cross_track
from paibench.leaderboard.tables import Table

MEANS = {"random": 0.6, ERK: 0.7, "snip": 0.8}
HREFS: defaultdict[str, str] = defaultdict(lambda: "method/x.html")


def section(count: int, seeds: int = 6) -> CrossTrackSection:
    """The section for so many tracks of two data sets."""
    frames = [
        runs_of(board(MEANS, n=seeds, seed=k), model=f"m{k}", dataset=f"d{k % 2}")
        for k in range(count)
    ]
    return cross_track_section(cross_track(pd.concat(frames, ignore_index=True)), HREFS)


def texts(table: Table) -> dict[str, list[tuple[str, str]]]:
    return {row.name: [(cell.text, cell.detail) for cell in row.cells] for row in table.rows}


def test_two_tracks_have_rank_sets_alone() -> None:
    """The text says why; there is no p and no interval in any text."""
    found = section(2)
    assert [table.id for table in found.tables] == ["rank-sets"]
    text = " ".join(found.paragraphs)
    assert "3 methods in one configuration each, both random floors among them," in text
    assert "on 2 tracks (2 data sets, 2 models), n = 6 seeds." in text
    assert (
        "There are 2 tracks; a comparison across tracks needs 5, so there are no mean ranks and no "
        "test." in text
    )
    assert "p = " not in repr(found) and "interval" not in repr(found)


def test_rank_sets_are_in_words() -> None:
    """n is in the caption, a word says if there are few seeds; rows by name, columns by track."""
    (table,) = section(2).tables
    assert [column.title for column in table.columns] == ["m0 on d0", "m1 on d1"]
    assert texts(table) == {
        "random": [("3 of 3", "")] * 2,
        ERK: [("2 of 3", "")] * 2,
        "snip": [("1 of 3", "")] * 2,
    }
    assert "an error of 5 % for each track; n = 6. " in table.caption
    (table,) = section(2, seeds=3).tables
    assert {detail for cells in texts(table).values() for _, detail in cells} == {"provisional"}


def test_rank_sets_of_several_ranks_have_a_dash() -> None:
    """The cells are sorted by the middle of the set."""
    runs = runs_of(board({"random": 0.6, "a": 0.8, "b": 0.8}))
    (table,) = cross_track_section(cross_track(runs), HREFS).tables
    cell = table.rows[0].cells[0]
    assert (table.rows[0].name, cell.text, cell.value) == ("a", "1–2 of 3", 1.5)
    assert (cell.low, cell.high) == (1, 2)


def test_five_tracks_have_mean_ranks_and_wins() -> None:
    """Each with its interval, and the text says where it is from and what it cannot say."""
    found = section(5)
    assert [table.id for table in found.tables] == ["rank-sets", "mean-ranks", "wins"]
    for words in (
        "on 5 tracks (2 data sets, 5 models)",
        "The unit is the track",
        "2,000 draws of tracks, and of seeds within each drawn track",
        "Few tracks say little",
        "share data or networks",
        "Ranks ignore the size",
    ):
        assert words in " ".join(found.paragraphs)
    ranks, wins = map(texts, found.tables[1:])
    assert ranks == {
        "snip": [("1.00", "1.00 to 1.00, 5 tracks")],
        ERK: [("2.00", "2.00 to 2.00, 5 tracks")],
        "random": [("3.00", "3.00 to 3.00, 5 tracks")],
    }
    all_, none, own = ("100 %", "100 to 100"), ("0 %", "0 to 0"), ("·", "")
    assert wins == {"snip": [own, all_, all_], ERK: [none, own, all_], "random": [none, none, own]}


@pytest.mark.parametrize("count", [1, 5])
def test_names_and_reasons_are_cleaned(count: int) -> None:
    """Invisible characters of records are not in any text."""
    frames = [runs_of(board({"random": 0.6, "a\u202eb": 0.7}), model=f"m{k}") for k in range(count)]
    late = runs_of({("c\u202ed", 0.5): [0.5, 0.5]}, model="m0", at_initialization=False)
    runs = pd.concat([*frames, late], ignore_index=True)
    found = cross_track_section(cross_track(runs), HREFS)
    assert "\u202e" not in str(found) and "\\u202e" not in repr(found)
    assert found.left_out == ("cd: weights not at initialization in 1 track",)


def test_nothing_to_compare_is_said() -> None:
    """Without methods there is no table."""
    found = cross_track_section(cross_track(runs_of({("dense", 1.0): [0.9]})), HREFS)
    nothing = "No method has an endpoint of two seeds in any track, so none are compared."
    assert found == CrossTrackSection(nothing, (), (), ())


def test_the_result_in_words() -> None:
    """The method with the best mean rank, beside the better floor; none with few tracks."""
    assert section(2).result == "2 tracks are too few for a test, so each has its own ranking."
    found = section(5)
    numbers = r"\d\.\d( of 3)? \(\d\.\d to \d\.\d\)"
    assert re.fullmatch(
        rf"snip has the best mean rank over 5 tracks, {numbers}; "
        rf"random\(layers=erk\) has {numbers}\.",
        found.result,
    )
