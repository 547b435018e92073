"""Statistics of many measured runs that only benchmarks need.

Spread, skewness, seed correlation and proportions: thin faces of scipy.stats that return None where
the figure is undefined. What it does not do: decide or claim anything (autorl/confirm/ does).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from autorl.confirm.stats import mean, variance


@dataclass(frozen=True, slots=True)
class Spread:
    """One run's standard deviation at fixed code, and its standard error."""

    s: float
    stderr: float
    df: int


def spread(arms: Sequence[Sequence[float]]) -> Spread | None:
    """Pooled within arms; stderr s / sqrt(2 df) as for normal scores.

    None without two runs in any arm.
    """
    df = sum(len(arm) - 1 for arm in arms if len(arm) > 1)
    if df < 1:
        return None
    squares = (variance(arm) * (len(arm) - 1) for arm in arms if len(arm) > 1)
    s = math.sqrt(math.fsum(squares) / df)
    return Spread(s, s / math.sqrt(2 * df), df)


def skewness(scores: Sequence[float]) -> tuple[float, float] | None:
    """Adjusted Fisher-Pearson skewness and its standard error under normality.

    Joanes & Gill 1998. None if undefined.
    """
    n = len(scores)
    if n < 3 or max(scores) == min(scores):
        return None
    stderr = math.sqrt(6.0 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    return float(stats.skew(scores, bias=False)), stderr


def seed_correlation(
    first: Sequence[float], second: Sequence[float]
) -> tuple[float, float, float] | None:
    """Pearson's r of two programs' scores on the same seeds, with its 95 % interval (Fisher 1921).

    None with fewer than 4 pairs or when one side has no spread. Pairing on seeds pays when the low
    end is well above 0.
    """
    if len(first) != len(second):
        raise ValueError(f"seed_correlation needs pairs: {len(first)} scores against {len(second)}")
    if len(first) < 4 or min(first) == max(first) or min(second) == max(second):
        return None
    found = stats.pearsonr(first, second)
    low, high = found.confidence_interval(0.95)
    return float(found.statistic), float(low), float(high)


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927, JASA 22:209); (0, 1) without trials."""
    if trials < 1:
        return 0.0, 1.0
    low, high = stats.binomtest(round(successes), trials).proportion_ci(0.95, method="wilson")
    return float(low), float(high)


def evaluation_share(std_returns: Sequence[float], episodes: int, s: float) -> float | None:
    """Share of s^2 that is evaluation noise: the mean of std_return^2 / episodes, over s^2.

    `std_returns`: each run's standard deviation over its episodes. None when s is 0.
    """
    if s <= 0.0 or not std_returns or episodes < 1:
        return None
    return mean([std * std / episodes for std in std_returns]) / (s * s)
