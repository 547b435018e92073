"""The statistics of a claim: is the champion better than the baseline, on runs that decided nothing? Pure functions.

    claim([210.1, 190.3, None, ...], [250.2, ...]).sentence      # None: a run that crashed

Small formulas, each with its source, checked by hand and against rliable and scipy in tests/test_evidence.py. The
interval is Welch's t: with 5 + 5 runs it covers the truth in .95 of cases or more for normal and for skewed noise, where
a percentile bootstrap of the mean covers .87 (`python benchmarks/decision.py coverage`).

Units: those of avg_return. What it does not do: choose seeds, start runs, or divide by a score (a score may be negative).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
    """Interquartile mean: drop floor(n/4) scores at each end (Agarwal et al. 2021, arXiv:2108.13264; scipy's trim_mean(.25))."""
    cut = len(scores) // 4
    return mean(sorted(scores)[cut : len(scores) - cut])


def probability_of_improvement(baseline: Sequence[float], champion: Sequence[float]) -> float:
    """P(a champion's run beats a baseline's), ties half: Mann-Whitney U / (n m) (Agarwal et al. 2021, section 4.3)."""
    wins = sum((y > x) + 0.5 * (y == x) for x in baseline for y in champion)
    return wins / (len(baseline) * len(champion))


@dataclass(frozen=True, slots=True)
class Spread:
    """One run's standard deviation at fixed code, and its standard error."""

    s: float
    stderr: float
    df: int


def spread(arms: Sequence[Sequence[float]]) -> Spread | None:
    """Pooled within arms; stderr s / sqrt(2 df) as for normal scores. None without two runs in any arm."""
    df = sum(len(arm) - 1 for arm in arms if len(arm) > 1)
    if df < 1:
        return None
    s = math.sqrt(math.fsum(variance(arm) * (len(arm) - 1) for arm in arms if len(arm) > 1) / df)
    return Spread(s, s / math.sqrt(2 * df), df)


def skewness(scores: Sequence[float]) -> tuple[float, float] | None:
    """Adjusted Fisher-Pearson skewness and its standard error under normality (Joanes & Gill 1998); None if undefined."""
    n = len(scores)
    if n < 3:
        return None
    centre = mean(scores)
    m2 = math.fsum((x - centre) ** 2 for x in scores) / n
    if m2 <= 0.0:
        return None
    g1 = math.fsum((x - centre) ** 3 for x in scores) / n / m2**1.5
    stderr = math.sqrt(6.0 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    return g1 * math.sqrt(n * (n - 1)) / (n - 2), stderr


def seed_correlation(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float] | None:
    """Pearson's r of two programs' scores on the same seeds, with its 95 % interval (Fisher 1921: atanh r +- 1.96/sqrt(n-3)).

    None with fewer than 4 pairs or when one side has no spread. Pairing on seeds pays when the interval's low end is well above 0.
    """
    n = len(first)
    if n != len(second):
        raise ValueError(f"seed_correlation needs pairs: {n} scores against {len(second)}")
    if n < 4:
        return None
    a, b = mean(first), mean(second)
    saa, sbb = math.fsum((x - a) ** 2 for x in first), math.fsum((y - b) ** 2 for y in second)
    if saa <= 0.0 or sbb <= 0.0:
        return None
    r = max(-1.0, min(1.0, math.fsum((x - a) * (y - b) for x, y in zip(first, second, strict=True)) / math.sqrt(saa * sbb)))
    if abs(r) == 1.0:
        return r, r, r
    half = NORMAL_975 / math.sqrt(n - 3)
    return r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927, JASA 22:209); (0, 1) without trials."""
    if trials < 1:
        return 0.0, 1.0
    z2, p = NORMAL_975**2, successes / trials
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = NORMAL_975 / (1 + z2 / trials) * math.sqrt(p * (1 - p) / trials + z2 / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def evaluation_share(std_returns: Sequence[float], episodes: int, s: float) -> float | None:
    """Share of s^2 that is evaluation noise: the mean of std_return^2 / episodes, over s^2. None when s is 0.

    `std_returns`: each run's standard deviation over its episodes.
    """
    if s <= 0.0 or not std_returns or episodes < 1:
        return None
    return mean([std * std / episodes for std in std_returns]) / (s * s)


# ---------------------------------------------------------------------------
# Student's t
# ---------------------------------------------------------------------------

NORMAL_975 = 1.959963984540054


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Continued fraction of the incomplete beta function by Lentz's method (DLMF 8.17.22, https://dlmf.nist.gov/8.17#v)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    value = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for coefficient in (even, odd):
            d = 1.0 + coefficient * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + coefficient / c
            c = c if abs(c) > tiny else tiny
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def t_cdf(t: float, df: float) -> float:
    """P(T <= t) for Student's t with `df` > 0 degrees of freedom, real-valued (DLMF 8.17, Abramowitz & Stegun 26.7.1)."""
    x, a, b = df / (df + t * t), df / 2, 0.5
    if x <= 0.0:
        return 1.0 if t > 0 else 0.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + (b * math.log1p(-x) if x < 1.0 else -math.inf)
    )
    if x >= 1.0:
        tail = 0.5
    elif x < (a + 1) / (a + b + 2):
        tail = 0.5 * front * _beta_fraction(a, b, x) / a
    else:
        tail = 0.5 * (1.0 - front * _beta_fraction(b, a, 1.0 - x) / b)
    return 1.0 - tail if t > 0 else tail


def t_quantile(p: float, df: float) -> float:
    """The t with P(T <= t) = p, for .5 <= p < 1, by bisection."""
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        high *= 2.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True, slots=True)
class Interval:
    """Welch's interval of mean(champion) - mean(baseline)."""

    low: float
    high: float
    stderr: float
    df: float


def welch(baseline: Sequence[float], champion: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Welch (1947), degrees of freedom after Satterthwaite (1946). None without two runs in each arm, or without any spread."""
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
    smallest: float | None = None  # the smallest gain that runs with this spread show in 8 cases of 10
    saturated: bool = False


def claim(baseline: Sequence[float | None], champion: Sequence[float | None], confidence: float = 0.95) -> Claim:
    """Baseline against champion on fresh runs; None, NaN and inf are crashes.

    *Shown* means: the interval of the gain lies above 0 and no run of the champion crashed (leaving crashes out would
    be survivor bias). Without any spread in either arm there is no t: then it means a higher score in every run, and so
    many runs that this happens by chance in at most 2.5 % (a permutation test).
    """
    base = [float(x) for x in baseline if _finite(x)]
    champ = [float(x) for x in champion if _finite(x)]
    crashes, crashes0 = len(champion) - len(champ), len(baseline) - len(base)
    common = {"runs": len(champion), "runs0": len(baseline), "crashes": crashes, "crashes0": crashes0, "confidence": confidence}
    lost = "".join(
        f" {k} of the {who}'s {n} runs crashed."
        for who, k, n in (("champion", crashes, len(champion)), ("baseline", crashes0, len(baseline)))
        if k
    )
    if not base or not champ:
        who = "champion" if not champ else "baseline"
        return Claim(shown=False, sentence=f"Not shown: the {who} has no run with a score.{lost}", **common)  # type: ignore[arg-type]

    gain, chance = mean(champ) - mean(base), probability_of_improvement(base, champ)
    numbers = {
        **common, "mean": mean(champ), "mean0": mean(base), "iqm": iqm(champ), "iqm0": iqm(base), "gain": gain,
        "std": math.sqrt(variance(champ)) if len(champ) > 1 else None,
        "std0": math.sqrt(variance(base)) if len(base) > 1 else None,
        "probability_of_improvement": chance,
    }  # fmt: skip
    counts = f"{len(base)} + {len(champ)} runs"
    if len(base) < 2 or len(champ) < 2:
        sentence = f"Not shown: {counts} with a score cannot tell a gain from luck; it takes two of each at least.{lost}"
        return Claim(shown=False, sentence=sentence, **numbers)  # type: ignore[arg-type]

    interval = welch(base, champ, confidence)
    if interval is None:
        saturated = gain == 0.0
        enough = 1 / math.comb(len(base) + len(champ), len(base)) <= (1 - confidence) / 2
        shown = gain > 0.0 and enough and not crashes
        if saturated:
            said = f"all {counts} scored exactly {_num(base[0])}: the score is saturated; take a harder environment or a shorter budget"
        elif gain > 0.0 and not enough:
            said = f"the champion scored {_num(gain)} more in every run, but {counts} are too few to rule out luck"
        else:
            said = f"without any spread, the champion scored {_num(abs(gain))} {'more' if gain > 0 else 'less'} in every one of {counts}"
        sentence = f"{'Shown' if shown else 'Not shown'}: {said}.{lost}"
        return Claim(shown=shown, sentence=sentence, low=gain, high=gain, method="permutation test", saturated=saturated, **numbers)  # type: ignore[arg-type]

    smallest = (t_quantile(0.5 + confidence / 2, interval.df) + t_quantile(0.8, interval.df)) * interval.stderr
    shown = interval.low > 0.0 and not crashes
    bounds = f"{confidence:.0%} interval {_num(interval.low)} to {_num(interval.high)}, {counts}"
    said = f"the champion scores {_num(abs(gain))} {'more' if gain >= 0 else 'less'} than the baseline ({bounds})"
    if not shown:
        said += (
            "; its crashes forbid a claim" if interval.low > 0.0 else f"; runs with this spread show gains from about {_num(smallest)} on"
        )
    sentence = f"{'Shown' if shown else 'Not shown'}: {said}.{lost}"
    return Claim(shown=shown, sentence=sentence, low=interval.low, high=interval.high, smallest=smallest, **numbers)  # type: ignore[arg-type]


def _finite(score: float | None) -> TypeGuard[float]:
    return isinstance(score, (int, float)) and not isinstance(score, bool) and math.isfinite(score)


def _num(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
