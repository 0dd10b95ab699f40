"""What the axes of a figure show: where densities stand, how far lines part, what is enlarged."""

import math

import numpy as np
import pandas as pd

_LOW = 0.15  # of the means, so many may lie below what is enlarged
_GAIN = 3  # how much larger it must become to be worth a panel
_FLAT = 5  # points between the lowest and the highest mean that one panel shows well


def places(densities: pd.Series) -> dict[float, float]:
    """Where each density stands on the x axis, the densest first."""
    return {density: -math.log10(density) for density in sorted(densities.unique(), reverse=True)}


def shifts(at: dict[float, float], count: int) -> list[float]:
    """How far each line is moved aside, so that bars part and points stay at their density.

    Neighbours are 0.4 % of the axis apart, the outermost at most 1.5 % of it and a tenth of the
    way to the next density from where they belong.
    """
    x = list(at.values())
    if count < 2 or len(x) < 2:
        return [0.0] * count
    reach = min(min(0.015, 0.002 * (count - 1)) * (x[-1] - x[0]), 0.1 * float(min(np.diff(x))))
    return list(np.linspace(-reach, reach, count))


def zoom(means: pd.Series, dense: pd.Series) -> tuple[float, float] | None:
    """The part of the y axis to enlarge: from where a few of the means lie below to just above all.

    Both in percent. None where this would not help: where the means lie close together, or
    most of them fill the whole range.
    """
    everything = pd.concat([means, dense]).dropna()
    if means.dropna().empty:
        return None
    low, lowest, high = means.quantile(_LOW), everything.min(), everything.max()
    if high - lowest < _FLAT or _GAIN * (high - low) > high - lowest:
        return None
    margin = max(0.1 * (high - low), 0.1)
    return float(low - margin), float(min(high + margin, 100))
