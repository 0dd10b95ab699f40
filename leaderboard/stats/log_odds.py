"""Accuracies as log-odds, the scale of all intervals and tests, and comparisons of their means.

Near 100 % a point of accuracy means more than near 50 %, and an interval of accuracies can leave
the range from 0 to 1; on the scale of ln(p / (1 - p)) neither happens. NaN stands for a number that
does not exist. Arrays of one call have one shape.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate, special, stats

Array = NDArray[np.float64]
ALPHA = 0.05
_DEGREES = np.array([1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 15, 30, np.inf])


class Sample(NamedTuple):
    """The runs of a cell, or of many cells: how many, and mean and variance of their log-odds."""

    n: Array
    mean: Array
    variance: Array
    """That of a single run, with n - 1, and at least that which the test images give it."""


class Difference(NamedTuple):
    """The difference of two means, with its 95 % interval and two-sided p value (Welch 1947)."""

    value: Array
    half: Array
    degrees: Array
    p: Array


def log_odds(accuracy: ArrayLike, examples: ArrayLike) -> Array:
    """Return the log-odds of accuracies, which are fractions of so many test examples.

    Half an example is added to the right and to the wrong answers, so that 0 and 1 are finite
    (Haldane 1955, Anscombe 1956).
    """
    right, wrong = _answers(accuracy, examples)
    return np.asarray(np.log(right / wrong))


def accuracy_of(values: ArrayLike) -> Array:
    """Return the accuracies of log-odds."""
    return np.asarray(special.expit(np.asarray(values, dtype=np.float64)))


def sampling_variance(accuracy: ArrayLike, examples: ArrayLike) -> Array:
    """Return the variance of log-odds that comes from the choice of the test examples."""
    right, wrong = _answers(accuracy, examples)
    return np.asarray(1 / right + 1 / wrong)


def _answers(accuracy: ArrayLike, examples: ArrayLike) -> tuple[Array, Array]:
    count = np.asarray(examples, dtype=np.float64)
    right = np.asarray(accuracy, dtype=np.float64) * count
    return right + 0.5, count - right + 0.5


def on_scale(accuracy: pd.Series, examples: pd.Series) -> pd.DataFrame:
    """Return the columns `log_odds` and `least` of each run, as `samples` takes them."""
    numbers = accuracy.astype("float64"), examples.astype("float64")
    columns = {"log_odds": log_odds(*numbers), "least": sampling_variance(*numbers)}
    return pd.DataFrame(columns, index=accuracy.index)


def samples(values: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return `n`, `mean` and `variance` of log-odds for each group of equal values in `by`.

    `values` has a row per run with `log_odds` and `least`, the variance that the test images give
    it. The variance of a group is at least the mean of these: equal results of few seeds do not
    show that there is no spread. It is NaN for n < 2.
    """
    groups = values.groupby(by)
    cells = groups["log_odds"].agg(["count", "mean", "var"]).rename(columns={"count": "n"})
    least = groups["least"].mean()
    cells["variance"] = cells.pop("var").where(lambda var: ~(var < least), least)
    return cells


def sample_of(frame: pd.DataFrame, prefix: str = "") -> Sample:
    """Return the columns `n`, `mean` and `variance` of a frame, whose names have a prefix."""
    names = [f"{prefix}{name}" for name in Sample._fields]
    return Sample(*(frame[name].to_numpy(dtype="float64") for name in names))


def interval(sample: Sample) -> tuple[Array, Array]:
    """Return the ends of the 95 % t interval of a mean, as accuracies; NaN for n < 2."""
    half = half_width(sample)
    return accuracy_of(sample.mean - half), accuracy_of(sample.mean + half)


def in_points(difference: Difference, base: Sample) -> tuple[Array, Array, Array]:
    """Return a difference from a base and the ends of its interval, as fractions of accuracy.

    They are counted from the accuracy at the mean of the base.
    """
    ends = (0.0, -difference.half, difference.half)
    at = accuracy_of(base.mean)
    value, low, high = (accuracy_of(base.mean + difference.value + end) - at for end in ends)
    return value, low, high


def half_width(sample: Sample) -> Array:
    """Return half the width of the 95 % t interval of a mean; NaN for n < 2."""
    degrees = np.where(sample.n > 1, sample.n - 1, np.nan)
    quantile = stats.t.ppf(1 - ALPHA / 2, degrees)
    return np.asarray(quantile * np.sqrt(sample.variance / sample.n))


def welch(one: Sample, other: Sample) -> Difference:
    """Return the mean of `one` minus that of `other`, by Welch's test; NaN for n < 2."""
    value = one.mean - other.mean
    error, degrees = _error(one, other)
    t = np.abs(value) / error
    half = stats.t.ppf(1 - ALPHA / 2, degrees) * error
    return Difference(value, half, degrees, np.asarray(2 * stats.t.sf(t, degrees)))


def _error(one: Sample, other: Sample) -> tuple[Array, Array]:
    """Return the standard error of a difference of means, and its degrees of freedom."""
    first, second = one.variance / one.n, other.variance / other.n
    with np.errstate(invalid="ignore", divide="ignore"):
        least = first**2 / (one.n - 1) + second**2 / (other.n - 1)
        degrees = np.where((one.n > 1) & (other.n > 1), (first + second) ** 2 / least, np.nan)
    return np.sqrt(first + second), degrees


def rank_sets(cells: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the best and the worst rank that each of the cells of one table may have.

    The best is 1 + the number of cells that are significantly better, the worst the number of all
    cells minus those that are significantly worse. All pairs are compared by Games and Howell 1976,
    so that the chance of any false difference in the table is about 5 %.
    """
    count = len(cells.mean)
    rows = Sample(*(part[:, None] for part in cells))
    columns = Sample(*(part[None, :] for part in cells))
    error, degrees = _error(rows, columns)
    value = rows.mean - columns.mean
    limit = studentized_range(max(count, 2), degrees) / np.sqrt(2) * error
    with np.errstate(invalid="ignore"):
        better, worse = value > limit, value < -limit
    best, worst = 1 + worse.sum(axis=1), count - better.sum(axis=1)
    return best.astype(np.int64), worst.astype(np.int64)


def studentized_range(groups: int, degrees: ArrayLike) -> Array:
    """Return the 95 % quantile of the studentized range of so many groups, to a thousandth.

    `degrees` are at least 1, as in every comparison of two means.
    """
    return np.asarray(np.exp(_log_quantile(groups)(1 / np.asarray(degrees, dtype=np.float64))))


@lru_cache(maxsize=256)
def _log_quantile(groups: int) -> interpolate.CubicSpline:
    # computed in few places, because one quantile takes as long as ten thousand comparisons
    quantiles = stats.studentized_range.ppf(1 - ALPHA, groups, _DEGREES)
    return interpolate.CubicSpline(1 / _DEGREES[::-1], np.log(quantiles[::-1]))
