"""The statistics of a claim: is the champion better than the baseline, on runs that decided
nothing? Pure functions.

    claim([210.1, 190.3, None, ...], [250.2, ...]).sentence      # None: a run that crashed

Small formulas, each with its source; tests check them by hand and against rliable and scipy, whose
quantiles of Student's t are used. The interval is Welch's t: with 5 + 5 runs it covers the truth in
.95 of cases or more for normal and for skewed noise, where a percentile bootstrap covers .87.

Units: those of avg_return. What it does not do: choose seeds, start runs, or divide by a score (it
may be negative).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

# ---------------------------------------------------------------------------
# Location and spread
# ---------------------------------------------------------------------------


def mean(scores: Sequence[float]) -> float:
    """Arithmetic mean of at least one score."""
    return math.fsum(scores) / len(scores)


def variance(scores: Sequence[float]) -> float:
    """Unbiased sample variance of at least two scores."""
    centre = mean(scores)
    return math.fsum((x - centre) ** 2 for x in scores) / (len(scores) - 1)


def iqm(scores: Sequence[float]) -> float:
    """Interquartile mean: floor(n/4) scores dropped at each end (arXiv:2108.13264)."""
    cut = len(scores) // 4
    return mean(sorted(scores)[cut : len(scores) - cut])


def probability_of_improvement(baseline: Sequence[float], champion: Sequence[float]) -> float:
    """P(a champion's run beats a baseline's), ties half: Mann-Whitney U / (n m)."""
    wins = sum((y > x) + 0.5 * (y == x) for x in baseline for y in champion)
    return wins / (len(baseline) * len(champion))


# ---------------------------------------------------------------------------
# Welch's t
# ---------------------------------------------------------------------------


def t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p for Student's t with `df` > 0 degrees of freedom, real-valued."""
    from scipy.stats import t  # a second to import, and only a claim needs it

    return float(t.ppf(p, df))


@dataclass(frozen=True, slots=True)
class Interval:
    """Welch's interval of mean(champion) - mean(baseline)."""

    low: float
    high: float
    stderr: float
    df: float


def welch(
    baseline: Sequence[float], champion: Sequence[float], confidence: float = 0.95
) -> Interval | None:
    """Welch (1947), degrees of freedom after Satterthwaite (1946).

    None without two runs in each arm, or without any spread.
    """
    n, m = len(baseline), len(champion)
    if n < 2 or m < 2:
        return None
    a, b = variance(baseline) / n, variance(champion) / m
    if a + b <= 0.0:
        return None
    df = (a + b) ** 2 / (a * a / (n - 1) + b * b / (m - 1))
    stderr = math.sqrt(a + b)
    gain, half = mean(champion) - mean(baseline), t_quantile(0.5 + confidence / 2, df) * stderr
    return Interval(gain - half, gain + half, stderr, df)


# ---------------------------------------------------------------------------
# The claim
# ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claim:
    """What a session may tell a person. A missing figure is None."""

    shown: bool
    sentence: str  # the verdict in words
    runs: int  # of the champion, crashes included
    runs0: int  # of the baseline
    crashes: int = 0
    crashes0: int = 0
    mean: float | None = None
    mean0: float | None = None
    iqm: float | None = None
    iqm0: float | None = None
    std: float | None = None
    std0: float | None = None
    gain: float | None = None  # mean - mean0
    low: float | None = None  # interval of the gain
    high: float | None = None
    confidence: float = 0.95
    method: str = "Welch's t"
    probability_of_improvement: float | None = None
    smallest: float | None = (
        None  # the smallest gain that runs with this spread show in 8 cases of 10
    )
    saturated: bool = False


def claim(
    baseline: Sequence[float | None], champion: Sequence[float | None], confidence: float = 0.95
) -> Claim:
    """Baseline against champion on fresh runs; None, NaN and inf are crashes.

    *Shown* means: the interval of the gain lies above 0 and no run of the champion crashed (leaving
    crashes out would be survivor bias). Without any spread in either arm there is no t: then it
    means a higher score in every run, and so many runs that this happens by chance in at most 2.5 %
    (a permutation test).
    """
    base = [float(x) for x in baseline if _finite(x)]
    champ = [float(x) for x in champion if _finite(x)]
    crashes, crashes0 = len(champion) - len(champ), len(baseline) - len(base)
    found = Claim(False, "", len(champion), len(baseline), crashes, crashes0, confidence=confidence)
    lost = ""
    for who, k, n in (("champion", crashes, found.runs), ("baseline", crashes0, found.runs0)):
        lost += f" {k} of the {who}'s {n} runs crashed." if k else ""

    def say(found: Claim, shown: bool, said: str) -> Claim:
        return replace(
            found, shown=shown, sentence=f"{'Shown' if shown else 'Not shown'}: {said}.{lost}"
        )

    if not base or not champ:
        who = "champion" if not champ else "baseline"
        return say(found, False, f"the {who} has no run with a score")
    gain, counts = mean(champ) - mean(base), f"{len(base)} + {len(champ)} runs"
    found = replace(
        found,
        mean=mean(champ),
        mean0=mean(base),
        iqm=iqm(champ),
        iqm0=iqm(base),
        std=math.sqrt(variance(champ)) if len(champ) > 1 else None,
        std0=math.sqrt(variance(base)) if len(base) > 1 else None,
        gain=gain,
        probability_of_improvement=probability_of_improvement(base, champ),
    )
    if len(base) < 2 or len(champ) < 2:
        why = f"{counts} with a score cannot tell a gain from luck; it takes two of each at least"
        return say(found, False, why)

    interval = welch(base, champ, confidence)
    if interval is None:  # no spread in either arm
        method = "permutation test"
        found = replace(found, low=gain, high=gain, method=method, saturated=gain == 0.0)
        enough = 1 / math.comb(len(base) + len(champ), len(base)) <= (1 - confidence) / 2
        if found.saturated:
            said = (
                f"all {counts} scored exactly {_num(base[0])}: the score is saturated; take a "
                "harder environment or a"
                " shorter budget"
            )
        elif gain > 0.0 and not enough:
            said = f"the champion scored {_num(gain)} more in every run, but {counts} are too few"
            said += " to rule out luck"
        else:
            more = "more" if gain > 0 else "less"
            said = f"without any spread, the champion scored {_num(abs(gain))} {more} in every"
            said += f" one of {counts}"
        return say(found, gain > 0.0 and enough and not crashes, said)

    # power .8 at this spread and this many runs
    quantiles = t_quantile(0.5 + confidence / 2, interval.df) + t_quantile(0.8, interval.df)
    smallest = quantiles * interval.stderr
    found = replace(found, low=interval.low, high=interval.high, smallest=smallest)
    shown = interval.low > 0.0 and not crashes
    bounds = f"{confidence:.0%} interval {_num(interval.low)} to {_num(interval.high)}, {counts}"
    more = "more" if gain >= 0 else "less"
    said = f"the champion scores {_num(abs(gain))} {more} than the baseline ({bounds})"
    if not shown and interval.low > 0.0:
        said += "; its crashes forbid a claim"
    elif not shown:
        said += f"; runs with this spread show gains from about {_num(smallest)} on"
    return say(found, shown, said)


def _finite(score: float | None) -> TypeGuard[float]:
    return isinstance(score, (int, float)) and not isinstance(score, bool) and math.isfinite(score)


def _num(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
