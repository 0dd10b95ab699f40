"""On how many test images two methods differ, and at which densities none differs from random."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from paibench.benchmark.store.store import Store
from paibench.leaderboard.stats.summary import TRACK, ended

_BY = [*TRACK, "density_asked"]
# Of `floors.verdicts`.
_DIFFERENT = ("better", "floor", "worse", "between")
_UNTESTED = ("too few seeds", "no endpoint")


def disagreement(
    runs: pd.DataFrame, verdict_cells: pd.DataFrame, stores: Sequence[Store]
) -> pd.DataFrame:
    """Return a row per track and density with methods beside random pruning.

    Columns: `tested`, the methods with a verdict on their difference from random, and `different`,
    those that differ significantly (at this density, see `floors.verdicts`); `images` of the
    evaluation split; and the mean share of images on which exactly one of two runs is right:
    `methods`, over the pairs of runs of two methods, and `seeds`, over the pairs of one method.
    The last three are NaN without predictions. Neither `dense` nor controls take part.
    """
    cells = verdict_cells.assign(
        tested=~verdict_cells["outcome"].isin(_UNTESTED),
        different=verdict_cells["outcome"].isin(_DIFFERENT),
    )
    counts = cells.groupby(_BY)[["tested", "different"]].sum().reset_index()
    own = runs[ended(runs) & (runs["control"] == "none") & (runs["method"] != "dense")]
    own = own[own["predictions_file"].notna()]
    shares = pd.DataFrame(list(_shares(own, stores)), columns=[*_BY, "images", "methods", "seeds"])
    # The keys keep their types if there are no predictions at all.
    return counts.merge(shares.astype(counts[_BY].dtypes.to_dict()), on=_BY, how="left")


def _shares(runs: pd.DataFrame, stores: Sequence[Store]) -> Iterator[Mapping[str, object]]:
    """Yield the shares of each track and density of which there are predictions."""
    for names, own in runs.groupby(_BY):
        size = int(own["test_examples"].max())
        rows = [
            (label, correct)
            for key, file, label, examples in zip(
                *(own[name] for name in ("key", "predictions_file", "method_label")),
                own["test_examples"],
                strict=True,
            )
            if examples == size and (correct := _correct(stores, key, file, size)) is not None
        ]
        if len(rows) > 1:
            labels = pd.factorize(np.array([label for label, _ in rows]))[0]
            of_methods, of_seeds = mean_shares(np.stack([correct for _, correct in rows]), labels)
            shares = {"images": size, "methods": of_methods, "seeds": of_seeds}
            yield dict(zip(_BY, names, strict=True)) | shares


def mean_shares(correct: NDArray[np.bool_], labels: NDArray[np.intp]) -> tuple[float, float]:
    """Return the mean share of columns in which two rows differ: of unlike and of equal labels.

    `correct` has shape [rows, images]; a mean over no pairs is NaN.
    """
    values = correct.astype(np.float32)
    right = values.sum(axis=1)
    # |a xor b| = |a| + |b| - 2 |a and b|, for all pairs in one product.
    differ = (right[:, None] + right - 2 * (values @ values.T)) / correct.shape[1]
    upper = np.triu(np.ones(differ.shape, dtype=bool), 1)
    alike = labels[:, None] == labels
    pairs = differ[upper & ~alike], differ[upper & alike]
    of_methods, of_seeds = (float(part.mean()) if len(part) else np.nan for part in pairs)
    return of_methods, of_seeds


def _correct(stores: Sequence[Store], key: str, file: str, size: int) -> NDArray[np.bool_] | None:
    """Return which examples a run predicts correctly, or None if no store has an intact file."""
    for store in stores:
        try:
            bits = np.frombuffer(store.read_file(key, file), np.uint8)
        except (OSError, ValueError):  # which Corrupt and UserError are
            continue
        if len(bits) == -(-size // 8):
            return np.unpackbits(bits, count=size).astype(bool)
    return None
