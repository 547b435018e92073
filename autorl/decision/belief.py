"""What the search believes: the incumbent's true mean, its lead over the anchor, and how often ideas work. Pure.

    weighing = weigh(belief, belief.prior, mean, n, s)     # a candidate's n runs against the incumbent
    belief = absorb(belief, weighing, keep=...)            # either way the runs also tell something about the incumbent

A candidate's true mean is the incumbent's plus a gain of d s, where s is one run's standard deviation. What ideas are
worth is a mixture: some are good (exponential, mean SIZE), half of the rest change nothing, the others harm
(exponential, mean 1 s). How many are good is learnt from the session itself, by Bayes' rule over KINDS. So one lucky run
of a null idea is discounted as much as this session's ideas deserve, no run is spent on re-measuring the incumbent, and
a walk downhill is noticed because the candidates that follow come out too low.

The incumbent and the anchor are held as one bivariate normal; a candidate's mixture is folded back into it by its first
two moments (assumed density filtering: Maybeck 1982, Stochastic Models, vol. 2, ch. 12; Minka 2001, UAI).
What it does not do: decide (fold.py), or estimate s.
"""

import math
from dataclasses import dataclass, replace

# ---------------------------------------------------------------------------
# Ideas: what a change may be worth, in s
# ---------------------------------------------------------------------------

_STEPS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)
_WIDTHS = (0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.375, 0.5, 0.5, 0.5, 0.75, 1.0, 1.0)
GAINS = (*(-x for x in reversed(_STEPS)), 0.0, *_STEPS)  # (29,)
LIMIT = _STEPS[-1]  # beyond it a difference speaks for itself
SHARES = {
    0.02: 0.25,
    0.07: 0.25,
    0.15: 0.21,
    0.30: 0.17,
    0.50: 0.12,
}  # of good ideas: how much each is believed at first
KINDS = tuple(
    (good, size) for good in SHARES for size in (0.35, 0.8)
)  # share of good ideas, their mean gain in s
HARM = 1.0  # mean harm of a bad idea, in s
OUTLIER = 1e-9  # likelihood floor: no single run rules anything out


def _exponential(scale: float) -> list[float]:
    weights = [width * math.exp(-step / scale) for step, width in zip(_STEPS, _WIDTHS, strict=True)]
    return [w / sum(weights) for w in weights]


def _prior(good: float, size: float) -> tuple[float, ...]:
    bad = (1 - good) / 2
    return (
        *(bad * w for w in reversed(_exponential(HARM))),
        bad,
        *(good * w for w in _exponential(size)),
    )


PRIORS = tuple(_prior(good, size) for good, size in KINDS)  # (kinds, gains)


def mixture(odds: tuple[float, ...]) -> tuple[float, ...]:
    """P(gain), averaged over KINDS with these log weights."""
    top = max(odds)
    weights = [math.exp(o - top) for o in odds]
    total = math.fsum(weights)
    return tuple(
        sum(w * p for w, p in zip(weights, column, strict=True)) / total
        for column in zip(*PRIORS, strict=True)
    )


# ---------------------------------------------------------------------------
# Belief
# ---------------------------------------------------------------------------

UNSEEN = tuple(math.log(SHARES[good]) for good, _ in KINDS)  # log weights before the first idea
UNSEEN_PRIOR = mixture(UNSEEN)


@dataclass(frozen=True, slots=True)
class Belief:
    """True means of the incumbent and of the anchor, jointly normal, and what ideas are worth. Units of avg_return."""

    mean: float
    var: float
    mean0: float  # the anchor
    var0: float
    cov: float
    odds: tuple[float, ...] = UNSEEN  # log weights of KINDS
    prior: tuple[float, ...] = UNSEEN_PRIOR  # mixture(odds)

    @property
    def good(self) -> float:
        """The share of ideas that gain anything, as learnt so far."""
        return math.fsum(self.prior[len(_STEPS) + 1 :])

    @property
    def lead(self) -> float:
        """Expected gain of the incumbent over the anchor."""
        return self.mean - self.mean0

    @property
    def chance(self) -> float:
        """P(the incumbent is better than the anchor)."""
        var = self.var + self.var0 - 2 * self.cov
        if var <= 0.0:
            return 0.5 + 0.5 * ((self.lead > 0) - (self.lead < 0))
        return 0.5 * (1.0 + math.erf(self.lead / math.sqrt(2 * var)))


def calibrated(mean: float, var: float, odds: tuple[float, ...] = UNSEEN) -> Belief:
    """The incumbent is the anchor, and all that is known of it is this."""
    return Belief(mean, var, mean, var, var, odds, mixture(odds))


def anchored(belief: Belief) -> Belief:
    """The incumbent is the anchor from now on."""
    return replace(belief, mean0=belief.mean, var0=belief.var, cov=belief.var)


def apart(mean: float, var: float, mean0: float, var0: float, odds: tuple[float, ...]) -> Belief:
    """Incumbent and anchor measured separately."""
    return Belief(mean, var, mean0, var0, 0.0, odds, mixture(odds))


def aged(belief: Belief, var: float) -> Belief:
    """Another run has gone by: the machine may have drifted, for incumbent and anchor alike."""
    return replace(belief, var=belief.var + var, var0=belief.var0 + var, cov=belief.cov + var)


def measured(belief: Belief, score: float, noise: float, anchor: bool) -> Belief:
    """One run of the incumbent, or of the anchor (Kalman's update of both)."""
    b = belief
    own, mean = (b.var0, b.mean0) if anchor else (b.var, b.mean)
    total = own + noise
    if total <= 0.0:
        return b
    error = (score - mean) / total
    to, to0 = (b.cov, b.var0) if anchor else (b.var, b.cov)
    return replace(
        b,
        mean=b.mean + to * error,
        mean0=b.mean0 + to0 * error,
        var=b.var - to * to / total,
        var0=b.var0 - to0 * to0 / total,
        cov=b.cov - to * to0 / total,
    )


# ---------------------------------------------------------------------------
# A candidate
# ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weighing:
    """A candidate's runs against what is believed of the incumbent; gains in s."""

    D: float  # (its mean - the incumbent's) / s, as measured
    gain: float  # expected
    var: float  # of the gain, in s^2
    chance: float  # P(gain > 0)
    LLR: float  # log P(runs | gain > 0) / P(runs | gain <= 0)
    worth: float  # what one run more is expected to add to the decision, in s
    evident: bool  # beyond GAINS: the belief is not asked
    posterior: tuple[float, ...]  # P(gain | runs)
    evidence: tuple[float, ...]  # log P(runs | kind), for KINDS
    n: int
    s: float


def weigh(belief: Belief, prior: tuple[float, ...], mean: float, n: int, s: float) -> Weighing:
    """Hold `n` runs averaging `mean` against the incumbent; s > 0, n >= 1.

    `prior` is belief.prior, or what is already known of this very idea.
    """
    noise = s * s / n
    own = max(belief.var, s * s / 64)
    D = (mean - belief.mean) / s
    if abs(D) > LIMIT:
        sure = 1.0 if D > 0 else 0.0
        return Weighing(
            D,
            D,
            1.0 / n,
            sure,
            math.copysign(math.inf, D),
            0.0,
            True,
            prior,
            (0.0,) * len(KINDS),
            n,
            s,
        )
    spread = (own + noise) / (s * s)
    likelihood = [math.exp(-0.5 * (D - g) ** 2 / spread) + OUTLIER for g in GAINS]
    posterior = _normalised(prior, likelihood)
    gain = sum(p * g for p, g in zip(posterior, GAINS, strict=True))
    var = sum(p * g * g for p, g in zip(posterior, GAINS, strict=True)) - gain * gain
    half = len(_STEPS) + 1
    chance, before = sum(posterior[half:]), sum(prior[half:])
    LLR = _log(chance) - _log(1 - chance) - _log(before) + _log(1 - before)
    # One run more at y: the decision would then be worth max(0, E[gain | y]); six points stand for the y to come.
    kappa = own / (own + noise)
    centre, following = (
        kappa * D,
        (own * (1 - kappa)) / (s * s) + 1.0,
    )  # of y given the gain: centre + (1 - kappa) gain, in s
    width = math.sqrt(following + (1 - kappa) ** 2 * var)
    value = weight = 0.0
    for z in (-2.0, -1.2, -0.4, 0.4, 1.2, 2.0):
        y = centre + (1 - kappa) * gain + z * width
        num = den = 0.0
        for p, g in zip(posterior, GAINS, strict=True):
            density = p * math.exp(-0.5 * (y - centre - (1 - kappa) * g) ** 2 / following)
            den += density
            num += density * g
        value += max(0.0, num)
        weight += den
    worth = value / weight - max(0.0, gain)
    evidence = tuple(
        _log(sum(p * x for p, x in zip(kind, likelihood, strict=True))) for kind in PRIORS
    )
    return Weighing(D, gain, max(0.0, var), chance, LLR, worth, False, posterior, evidence, n, s)


def learnt(belief: Belief, weighing: Weighing) -> Belief:
    """Belief about what ideas are worth, after one more of them."""
    odds = tuple(o + e for o, e in zip(belief.odds, weighing.evidence, strict=True))
    return replace(belief, odds=odds, prior=mixture(odds))


def absorb(belief: Belief, weighing: Weighing, keep: bool) -> Belief:
    """The belief once this candidate is decided: about the old incumbent, or about the candidate in its place."""
    b, w = belief, weighing
    s, noise = w.s, w.s * w.s / w.n
    if w.evident:  # it says nothing about the incumbent, and needs nothing from it
        return replace(b, mean=b.mean + w.D * s, var=noise, cov=0.0) if keep else b
    own = max(b.var, s * s / 64)
    kappa = own / (own + noise)
    gain, var = w.gain * s, w.var * s * s
    mean, rest = b.mean + kappa * (w.D * s - gain), own * (1 - kappa)
    new = rest + kappa * kappa * var
    pull = b.cov / own  # the anchor leans on the incumbent
    mean0, var0 = b.mean0 + pull * (mean - b.mean), max(0.0, b.var0 + pull * pull * (new - own))
    if not keep:
        return replace(b, mean=mean, var=new, mean0=mean0, var0=var0, cov=pull * new)
    child, between = rest + (1 - kappa) ** 2 * var, rest - kappa * (1 - kappa) * var
    return replace(b, mean=mean + gain, var=child, mean0=mean0, var0=var0, cov=pull * between)


def _normalised(prior: tuple[float, ...], likelihood: list[float]) -> tuple[float, ...]:
    product = [p * x for p, x in zip(prior, likelihood, strict=True)]
    total = sum(product)
    return tuple(x / total for x in product)


def _log(x: float) -> float:
    return math.log(max(x, 1e-300))
