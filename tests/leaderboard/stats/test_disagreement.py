"""On which share of the images runs disagree, and which densities rank nobody."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accuracies import ERK, board, runs_of
from factories import make_record

from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.leaderboard.board import compute
from paibench.leaderboard.frame.load import load
from paibench.leaderboard.site.pages import track_tables
from paibench.leaderboard.site.tables import track_view
from paibench.leaderboard.stats.disagreement import disagreement, mean_shares
from paibench.leaderboard.stats.floors import verdicts
from paibench.leaderboard.tables import text_rows

IMAGES = 10


def test_shares_are_those_of_a_loop_over_pairs() -> None:
    """The mean over pairs of the share of images on which exactly one of the two is right."""
    draws = np.random.default_rng(0)
    correct, labels = draws.random((7, 33)) < 0.6, np.array([0, 0, 0, 1, 1, 2, 2])
    alike: dict[bool, list[float]] = {True: [], False: []}
    for first, second in combinations(range(7), 2):
        share = float(np.mean(correct[first] != correct[second]))
        alike[labels[first] == labels[second]].append(share)
    expected = np.mean(alike[False]), np.mean(alike[True])
    assert mean_shares(correct, labels) == pytest.approx(expected)


def test_no_pairs() -> None:
    """Of one run of each method there is no pair of seeds; of one method no pair of methods."""
    correct = np.array([[True, False], [True, True]])
    between, within = mean_shares(correct, np.array([0, 1]))
    assert (between, np.isnan(within)) == (0.5, True)
    between, within = mean_shares(correct, np.array([0, 0]))
    assert (np.isnan(between), within) == (True, 0.5)


def test_a_density_at_which_nobody_differs() -> None:
    """Equal methods differ at no density, those that are 20 points better at all."""
    for mean, different in ((0.7, 0), (0.9, 1)):
        runs = runs_of(board({"random": 0.7, ERK: 0.7, "snip": mean}, seed=1))
        found = disagreement(runs, verdicts(runs)[1], [])
        assert list(found["different"]) == [different] * 3
        assert list(found["tested"]) == [2] * 3
        assert found[["images", "methods", "seeds"]].isna().all(axis=None)


def test_too_few_seeds_are_not_tested() -> None:
    """Three seeds give no verdict, so nothing is said about the column."""
    runs = runs_of(board({"random": 0.7, ERK: 0.7, "snip": 0.9}, n=3))
    assert list(disagreement(runs, verdicts(runs)[1], [])["tested"]) == [0] * 3


def publish(store: Store, right: list[int], **fields: Any) -> None:
    """Publish a run that predicts these of ten images correctly."""
    bits = sum(1 << (15 - image) for image in right).to_bytes(2, "big")
    record = make_record(accuracy=len(right) / IMAGES, test_examples=IMAGES, **fields)
    name = store.publish_file(record.key, "predictions.bin", bits)
    whole = record.model_copy(update={"predictions_file": name})
    store.publish_record(whole.key, whole.plain(), new_attempt_id())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five seeds of both floors and of snip, which errs on the same image in all seeds."""
    store = Store.open(tmp_path / "store")
    erk = {"name": "random", "layers": "erk"}
    for seed in range(5):
        for method, wrong in (("random", {seed}), (erk, {seed}), ("snip", {9})):
            right = [image for image in range(IMAGES) if image not in wrong]
            publish(store, right, method=method, seed=seed)
    return store.root


def lines(root: Path) -> list[list[str]]:
    """The rows of the table on the page of the only track."""
    found = compute(load(root), [Store.read(root)])
    (own,) = found.tracks.values()
    (table,) = [each for each in track_tables(track_view(found, own)) if each.id == "disagreement"]
    return [list(row) for row in text_rows(table)][1:]


def test_predictions_of_a_store(root: Path) -> None:
    """The shares, counted by hand; the accuracies are equal, so that the column ranks nobody."""
    # Floors: 20 of their 25 pairs differ on two images; all pairs with snip do. In 20 of the 30
    # pairs of seeds of one method, two images differ; those of snip are equal.
    of_methods, of_seeds = (20 * 2 + 50 * 2) / 75 / IMAGES, 20 * 2 / 30 / IMAGES
    expected = ["90 %", "0 of 2", f"{100 * of_methods:.2f}", f"{100 * of_seeds:.2f}"]
    ((*cells, said),) = lines(root)
    assert cells == expected
    assert said == "This column ranks nobody: no method differs from random by more than chance."


@pytest.mark.parametrize("damage", [b"", b"\xff", b"\xff\xff", None])
def test_predictions_that_cannot_be_read(root: Path, damage: bytes | None) -> None:
    """A file that is missing, cut or of another run counts as none."""
    for path in root.rglob("predictions-*.bin"):
        path.unlink()
        if damage is not None:
            path.write_bytes(damage)
    assert [row[1:4] for row in lines(root)] == [["0 of 2", "–", "–"]]
