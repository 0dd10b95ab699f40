"""Published figures stand beside ours at nearly equal density, each with its interval and n."""

from collections.abc import Callable

import pandas as pd
import pytest

from paibench.benchmark.record import Record
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import models, row_of
from paibench.leaderboard.published.compare import as_table, reproduction
from paibench.leaderboard.published.load import load
from paibench.leaderboard.stats.summary import Track, summarize, tracks
from paibench.leaderboard.tables import text_rows

RecordFactory = Callable[..., Record]
MNIST = {"dataset": "mnist", "model": "lenet-300-100"}
PUBLISHED = load()
VGG = {"dataset": "cifar10", "model": "vgg-16"}


def found_for(*records: Record) -> tuple[Track, pd.DataFrame]:
    runs = tabulate(map(row_of, records))
    ((track, cells),) = tracks(summarize(runs))
    return track, reproduction(track, models(runs)[track.model], cells, PUBLISHED)


def test_difference_is_ours_minus_theirs(record_factory: RecordFactory) -> None:
    """SNIP on LeNet-300-100 keeps 5 %: 98.4 in the paper, 97 here."""
    runs = [
        record_factory(density=0.05, seed=s, accuracy=a, **MNIST)
        for s, a in enumerate((0.96, 0.98))
    ]
    _, found = found_for(*runs)
    (row,) = found.to_dict("records")
    assert (row["theirs"], row["ours"], row["ours_n"]) == (0.984, 0.97, 2)
    assert row["difference"] == pytest.approx(-0.014)
    assert row["source"] == "Lee 2019 Table 1" and row["kind"] == "paper"


@pytest.mark.parametrize(("density", "there"), [(0.0525, True), (0.0475, True), (0.053, False)])
def test_densities_may_differ_by_a_twentieth(
    record_factory: RecordFactory, density: float, there: bool
) -> None:
    """Five percent of the published density of 5 %, and no more."""
    _, found = found_for(record_factory(density=density, **MNIST))
    assert (len(found) > 0) == there


def test_both_intervals_and_counts_are_told(record_factory: RecordFactory) -> None:
    """Author data of three runs has an interval, a single run of a third party has none."""
    track, found = found_for(
        *(record_factory(density=0.1, seed=s, accuracy=0.92 + s / 100, **VGG) for s in range(3))
    )
    authors = found[found["kind"] == "author-data"]
    assert list(authors["theirs_n"]) == [3, 3] and (authors["theirs_low"] < authors["theirs"]).all()
    single = found[found["differs"].str.contains("single run")]
    assert list(single["theirs_n"]) == [1] and single["theirs_high"].isna().all()
    head, *rows = text_rows(as_table(track, found))
    assert all(len(row) == len(head) for row in rows)
    assert any("(n=3)" in row[3] and "±" in row[3] for row in rows)
    assert any("(n=1)" in row[3] and "±" not in row[3] for row in rows)


def test_controls_stand_beside_controls(record_factory: RecordFactory) -> None:
    """A shuffled mask of ours is compared with a shuffled one of theirs alone."""
    _, found = found_for(record_factory(density=0.1, control="shuffle", **VGG))
    assert set(found["control"]) == {"shuffle"} and len(found) == 1


def test_without_a_result_there_is_no_row(record_factory: RecordFactory) -> None:
    """Nothing is imputed; neither is anything compared that nobody published."""
    lost = record_factory(density=0.05, status="failed", accuracy=None, accuracy_untrained=None,
                          reason="it was lost", **MNIST)  # fmt: skip
    assert found_for(lost)[1].empty
    assert found_for(record_factory(density=0.05))[1].empty


def test_doubted_figures_are_no_reference(record_factory: RecordFactory) -> None:
    """GraSP of Synaptic-Flow had the wrong sign, so only others' GraSP is beside ours."""
    _, found = found_for(record_factory(method="grasp", density=0.1, **VGG))
    assert len(found) and not found["source"].str.contains("Synaptic-Flow").any()
