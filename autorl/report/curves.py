"""Learning curves: the metrics.csv of runs on one grid of wall-clock, so that they can be compared.

Self-reported by train.py throughout, and read as data: what is no number is missing. Pure.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS = 200  # of a curve: equal shares of the time budget
COLUMNS = 24  # of one metrics.csv; what is beyond is not read
RETURN = "episode_return"  # the column that every chart begins with
Curve = NDArray[np.float64]  # (POINTS,), NaN where nothing is known


def read_curves(
    metrics: str, time_budget: float, only: Sequence[str] = (), points: int = POINTS
) -> dict[str, Curve]:
    """The columns of a metrics.csv by name, each (points,): the mean of each 1/points of the
    budget, with straight lines over shares without a row.

    Args:
        metrics: the file's text; the column `seconds` is the time since the run began.
        only: these columns; () = all.
    """
    head, *lines = metrics.split("\n")
    names = head.split(",")[:COLUMNS]
    if "seconds" not in names or not time_budget > 0:
        return {}
    lines = lines[:: max(1, len(lines) // (20 * points))]  # more is not seen in a mean
    rows = [cells[: len(names)] for line in lines if len(cells := line.split(",")) >= len(names)]
    wanted = [n for n in names if n != "seconds" and (not only or n in only)]
    table = {n: np.array([_number(r[names.index(n)]) for r in rows]) for n in (*wanted, "seconds")}
    share = table["seconds"] / time_budget
    curves = {name: _on_grid(share, table[name], points) for name in wanted}
    return {name: curve for name, curve in curves.items() if np.isfinite(curve).any()}


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean at each time of the curves that are known there, (N, P) -> (P,)."""
    known = np.isfinite(curves)
    total, count = np.where(known, curves, 0.0).sum(0), known.sum(0)
    mean: Curve = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return mean


def quarters(curve: Curve) -> list[float | None]:
    """The last value known in each quarter of the budget, (P,) -> 4 numbers; P a multiple of 4."""
    each = (quarter[np.isfinite(quarter)] for quarter in curve.reshape(4, -1))
    return [short(known[-1:])[0] if len(known) else None for known in each]


def short(curve: Curve) -> list[float | None]:
    """Four digits of each number, for JSON; None where nothing is known."""
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in curve]


def grid(looks: Sequence[tuple[float, float]], time_budget: float) -> Curve:
    """(seconds, value) pairs of a run under way as a curve."""
    pairs = np.array(looks, dtype=float).reshape(-1, 2)
    return _on_grid(pairs[:, 0] / time_budget, pairs[:, 1])


def _on_grid(share: Any, values: Any, points: int = POINTS) -> Curve:
    """Values at shares of the time budget: their mean in each of so many bins."""
    known = np.isfinite(values) & (np.abs(values) < 1e15) & (share >= 0) & (share < 1.2)
    bins = np.minimum(share[known] * points, points - 1).astype(int)
    count = np.bincount(bins, minlength=points)
    filled, curve = np.flatnonzero(count), np.full(points, np.nan)
    if len(filled):
        means = np.bincount(bins, values[known], points)[filled] / count[filled]
        inside = np.arange(filled[0], filled[-1] + 1)
        curve[inside] = np.interp(inside, filled, means)
    return curve


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
