"""The statistics of a claim: is the champion better than the baseline, on runs that decided
nothing? Pure functions.

    claim([210.1, 190.3, None, ...], [250.2, ...]).sentence      # None: a run that crashed

Small formulas, each with its source; tests check them by hand and against rliable and scipy, whose
quantiles of Student's t are used. The interval is Welch's t: with 5 + 5 runs it covers the truth in
.95 of cases or more for normal and for skewed noise, where a percentile bootstrap covers .87.
A claim has two looks: where the champion is ahead and nothing is shown, as many runs again; its
interval is of 97 % at each, so that both together say *shown* without a gain in about 2.5 % of
cases at most. Looks beyond are descriptive. `python benchmarks/decision.py null` and `power` say
what that reaches.

Units: those of avg_return. What it does not do: choose seeds, start runs, or divide by a score (it
may be negative).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autorl.records import score_text

CONFIDENCE = {1: 0.95, 2: 0.97}  # of the interval at each look, by how many looks a claim may have
HUMPS_FROM = 8  # runs of one file, before two humps are told from luck
HUMPS_APART = 5.0  # standard deviations within the humps

# -- Location and spread ---------------------------------------------------------------------------


mean, variance = statistics.fmean, statistics.variance  # of one score or more; unbiased, of two


def iqm(scores: Sequence[float]) -> float:
    """Interquartile mean: floor(n/4) scores dropped at each end (arXiv:2108.13264)."""
    cut = len(scores) // 4
    return mean(sorted(scores)[cut : len(scores) - cut])


def probability_of_improvement(baseline: Sequence[float], champion: Sequence[float]) -> float:
    """P(a champion's run beats a baseline's), ties half: Mann-Whitney U / (n m)."""
    wins = sum((y > x) + 0.5 * (y == x) for x in baseline for y in champion)
    return wins / (len(baseline) * len(champion))


def humps(scores: Sequence[float]) -> tuple[int, float, float] | None:
    """Does this file take off in some runs and not in others?

    The scores are cut at their widest gap with two runs or more on either side; they have two humps
    where the means of both sides are more than HUMPS_APART standard deviations within the sides
    apart (Ashman's D, doi:10.1086/117248, with pooled variances). Of 8, 10, 20 normal runs it
    says so in 7, 4, 0 % of cases; where 40 % stay on a level 6.5 standard deviations lower, in 76,
    84, 94 %; of runs as skewed as real ones in 20 to 30 %: there, too, some fail.

    Returns:
        how many took off, their mean, the others' mean; None: no two humps, or too few runs.
    """
    x, n = sorted(scores), len(scores)
    if n < HUMPS_FROM:
        return None
    cut = max(range(2, n - 1), key=lambda i: x[i] - x[i - 1])
    low, high = x[:cut], x[cut:]
    within = variance(low) * (len(low) - 1) + variance(high) * (len(high) - 1)
    apart = mean(high) - mean(low)
    if apart <= HUMPS_APART * math.sqrt(within / (n - 2)):
        return None
    return len(high), mean(high), mean(low)


# -- Welch's t -------------------------------------------------------------------------------------


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
    sd: float  # of one run: the root of the mean of both variances


def welch(
    baseline: Sequence[float],
    champion: Sequence[float],
    confidence: float = 0.95,
    floors: tuple[float, float] = (0.0, 0.0),
) -> Interval | None:
    """Welch (1947), degrees of freedom after Satterthwaite (1946).

    None without two runs in each arm, or without any spread.

    Args:
        floors: the least variance of a run, baseline's and champion's; they can only widen it.
    """
    n, m = len(baseline), len(champion)
    if n < 2 or m < 2:
        return None
    of_run = max(variance(baseline), floors[0]), max(variance(champion), floors[1])
    a, b = of_run[0] / n, of_run[1] / m
    if a + b <= 0.0:
        return None
    df = (a + b) ** 2 / (a * a / (n - 1) + b * b / (m - 1))
    stderr = math.sqrt(a + b)
    gain, half = mean(champion) - mean(baseline), t_quantile(0.5 + confidence / 2, df) * stderr
    if any(floors) and (plain := welch(baseline, champion, confidence)):
        half = max(half, (plain.high - plain.low) / 2)  # a floor raises df as well
    return Interval(gain - half, gain + half, stderr, df, math.sqrt(sum(of_run) / 2))


# -- The claim -------------------------------------------------------------------------------------


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
    floor: float | None = None  # standard deviation that the interval takes at least
    floor0: float | None = None
    sd: float | None = None  # one run's, as in the interval
    gain: float | None = None  # mean - mean0
    low: float | None = None  # interval of the gain
    high: float | None = None
    confidence: float = 0.95
    method: str = "Welch's t"
    probability_of_improvement: float | None = None
    # the smallest gain that runs with this spread show in 8 cases of 10; none that can be paid
    smallest: float | None = None
    saturated: bool = False
    look: int = 1
    looks: int = 1  # that may say *shown*
    open: bool = False  # ahead and not shown: another look follows
    behind: bool = False  # not shown, and the baseline scores more


def claim(
    baseline: Sequence[float | None],
    champion: Sequence[float | None],
    floors: tuple[float, float] = (0.0, 0.0),
    look: int = 1,
    looks: int = 1,
    most: float | None = None,
) -> Claim:
    """Baseline against champion on fresh runs; None, NaN and inf are crashes.

    *Shown* means: the interval of the gain lies above 0 and no run of the champion crashed (leaving
    crashes out would be survivor bias). Without any spread in either arm there is no t: then it
    means a higher score in every run, and so many runs that this happens by chance in at most 2.5 %
    (a permutation test). A look after the last of `looks` describes, and never says *shown*.

    Args:
        floors: the least variance of a run of each that the interval takes.
        look: of this pair, with all its runs so far.
        most: the highest score that the environment can pay, where that is known.
    """
    base = [float(x) for x in baseline if x is not None and math.isfinite(x)]
    champ = [float(x) for x in champion if x is not None and math.isfinite(x)]
    crashes, crashes0 = len(champion) - len(champ), len(baseline) - len(base)
    confidence = CONFIDENCE[looks]
    found = Claim(False, "", len(champion), len(baseline), crashes, crashes0, confidence=confidence)
    found = replace(found, look=look, looks=looks)
    lost = ""
    for who, k, n in (("champion", crashes, found.runs), ("baseline", crashes0, found.runs0)):
        lost += f" {k} of the {who}'s {n} runs crashed." if k else ""

    def say(found: Claim, shown: bool, said: str) -> Claim:
        shown = shown and look <= looks
        gain = found.gain if base and champ else len(champ) - len(base)
        ahead, behind = (gain or 0) > 0, (gain or 0) < 0 and not shown
        word = "Shown" if shown else "Not shown" if look <= looks else "Described, not decided"
        more = ahead and not shown and not crashes and look < looks
        sentence = f"{word}: {said}.{lost}"
        return replace(found, shown=shown, sentence=sentence, open=more, behind=behind)

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
        floor=math.sqrt(floors[1]),
        floor0=math.sqrt(floors[0]),
        gain=gain,
        probability_of_improvement=probability_of_improvement(base, champ),
    )
    if len(base) < 2 or len(champ) < 2:
        why = f"{counts} with a score cannot tell a gain from luck; it takes two of each at least"
        return say(found, False, why)

    interval = welch(base, champ, confidence, floors)
    if interval is None:  # no spread in either arm
        method, more = "permutation test", "more" if gain > 0 else "less"
        found = replace(found, low=gain, high=gain, method=method, saturated=gain == 0.0)
        enough = 1 / math.comb(len(base) + len(champ), len(base)) <= (1 - confidence) / 2
        said = f"without any spread, the champion scored {abs(gain):.6g} {more} in every one of "
        said += counts if enough or gain < 0 else f"{counts}, too few to rule out luck"
        if found.saturated:
            said = f"all {counts} scored exactly {base[0]:.6g}: the score is saturated; take a "
            said += "harder environment or a shorter budget"
        return say(found, gain > 0.0 and enough and not crashes, said)

    # power .8 at this spread and this many runs
    quantiles = t_quantile(0.5 + confidence / 2, interval.df) + t_quantile(0.8, interval.df)
    smallest, sd = quantiles * interval.stderr, interval.sd
    payable = most is None or mean(base) + smallest <= most
    found = replace(found, low=interval.low, high=interval.high, sd=sd)
    found = replace(found, smallest=smallest if payable else None)
    low, high, size, one = (score_text(x, sd) for x in (interval.low, interval.high, abs(gain), sd))
    more = "more" if gain >= 0 else "less"
    said = f"the champion scores {size} {more} than the baseline on fresh runs, {counts}; that is "
    said += f"{abs(gain) / sd:.1f} standard deviations of one run (about {one}), "
    said += f"{100 * confidence:.0f} % interval of the difference {low} to {high}"
    if any(f > variance(x) for f, x in zip(floors, (base, champ), strict=True)):
        said += ", no narrower than the spread in the session allows"
    if interval.low > 0.0 and crashes:
        said += "; its crashes forbid a claim"
    elif interval.low <= 0.0 and payable:
        said += f"; runs with this spread show gains from about {score_text(smallest, sd)} on"
    elif interval.low <= 0.0 and most is not None:
        said += f"; with this spread no gain that this environment can pay ({score_text(most, sd)}"
        said += " at most) is likely to be shown by so few runs"
    return say(found, interval.low > 0.0 and not crashes, said)
