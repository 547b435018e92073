"""What is believed of the incumbent's true mean, of the noise, of how often ideas work. Pure.

    posterior = calibrate(scores)                   # the baseline's runs
    posterior = blurred(posterior, rules.drift)     # each further run: the machine may drift
    posterior = at_share(posterior, share, ...)     # or give another share of its cores
    weighing = weigh(posterior, scores)             # a candidate's runs
    posterior = dropped(posterior, weighing)        # or kept(posterior, weighing, rules.sd_step)

A bank of J x K filters (Magill 1965, IEEE Transactions on Automatic Control 10:434): each takes one
size sigma_j and one shape f_k of the noise for true and holds a density of the incumbent's mean m
on the grid centre + sigma_j Z. A candidate's mean is m + gain sigma_j, so its runs Y weigh

    joint(j, k, m, gain) = w_jk p_jk(m) P(gain) prod_Y f_k((y - m) / sigma_j - gain) / sigma_j

Its marginals are what is believed next: of the old incumbent when the candidate is dropped, of the
candidate when it is kept. Summed over all but the gain it also weighs KINDS of session (rules.py).
A run that failed says little under a shape in which runs fail now and then; a run above the level
says much. The means of the path of keeps are held as one normal distribution by their first two
moments (assumed density filtering: Minka 2001, UAI).

Shapes: J sizes, K shapes of noise, M grid points, G gains, A filters awake, n attempts on the path.
What it does not do: decide (update.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from autorl.decision import rules
from autorl.decision.rules import COLUMNS, GAINS, LOG_DENSITY, SIZES, STEP, ZX, Array, Z, mixture

POSITIVE = np.maximum(GAINS, 0)  # (G,)
NO_GAIN = tuple((GAINS == 0).astype(float).tolist())  # P(gain) of the incumbent itself
LEAST_SHARE = 0.05  # what is less is taken for this
TINY = 1e-300
Index = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)  # no slots: what is asked for often is worked out once
class Posterior:
    """Everything believed. Units of avg_return; the densities' grid in units of their sigma."""

    centre: float
    sigma: Array  # (J,)
    weight: Array  # (J, K) of each filter
    density: Array  # (J, K, M) of the incumbent's mean at centre + sigma Z
    odds: Array  # (kinds,) log weights of KINDS
    prior: Array  # (G,) P(gain) of an unseen idea: mixture(odds)
    path_mean: Array  # (n,) of the kept attempts, the baseline first, the incumbent last
    path_cov: Array  # (n, n)
    share: float | None = None  # of its cores that the newest run got, 0..1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Posterior):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)
        )

    @cached_property
    def moments(self) -> tuple[float, float]:
        """Mean and variance of the incumbent's true mean."""
        means = self.sigma[:, None] * (self.density @ Z)
        variances = self.sigma[:, None] ** 2 * (self.density @ Z**2) - means**2
        mean = (self.weight * means).sum()
        variance = float((self.weight * (variances + (means - mean) ** 2)).sum())
        return self.centre + float(mean), max(variance, TINY)

    @property
    def mean(self) -> float:
        """Expected true mean of the incumbent."""
        return self.moments[0]

    @cached_property
    def sd(self) -> float:
        """Standard deviation of one run: the weighted geometric mean of the sizes."""
        return math.exp((self.weight.sum(1) * np.log(self.sigma)).sum())

    @property
    def unsure(self) -> float:
        """Standard deviation of what is believed of the incumbent's mean, in sd."""
        return math.sqrt(self.moments[1]) / self.sd

    @property
    def unseen(self) -> float:
        """What an idea not yet seen would bring if its gain were known, in sd."""
        return float(self.prior @ POSITIVE)

    @property
    def best(self) -> int:
        """Place on the path of the highest mean; of equals the latest."""
        return len(self.path_mean) - 1 - int(np.argmax(self.path_mean[::-1]))

    def chance(self, a: int, b: int) -> float:
        """P(the attempt at place `a` of the path is better than the one at `b`)."""
        cov = self.path_cov
        variance = cov[a, a] + cov[b, b] - 2 * cov[a, b]
        if variance <= 0:
            return 0.5
        lead = self.path_mean[a] - self.path_mean[b]
        return 0.5 * (1 + math.erf(lead / math.sqrt(2 * variance)))


def calibrate(
    scores: Sequence[float], before: Posterior | None = None, scale: float = 0.0
) -> Posterior:
    """All that is known of the incumbent is these runs.

    Args:
        scores: at least two.
        before: what shapes of noise and ideas are like has been learnt here.
        scale: sd of the incumbent before, 0 for none; less than the geometric mean of both is luck.
    """
    ys = np.array(scores, float)
    centre, sd = float(ys.mean()), float(ys.std(ddof=1))
    sd = max(sd, 1e-9 * max(1.0, abs(centre)))
    steps = np.arange(SIZES) - rules.CALIBRATED_SIZE
    sigma = max(sd, math.sqrt(sd * scale)) * rules.SIGMA_RATIO**steps
    odds, shapes = rules.UNSEEN, rules.SHAPE_WEIGHTS
    if before is not None:
        odds, shapes = before.odds, 0.9 * before.weight.sum(0) + 0.1 * shapes
    j, k = (index.ravel() for index in np.indices((SIZES, len(shapes))))
    log = _log_likelihood(ys, Z, centre, sigma[j], k).reshape(SIZES, len(shapes), len(Z))
    density = np.exp(log) + TINY
    weight = density.sum(2) * shapes
    weight, density = weight / weight.sum(), density / density.sum(2, keepdims=True)
    nowhere = np.zeros(1), np.zeros((1, 1))
    alone = Posterior(centre, sigma, weight, density, odds, mixture(odds), *nowhere)
    mean, variance = alone.moments
    return replace(alone, path_mean=np.array([mean]), path_cov=np.array([[variance]]))


def calibrate_after_jump(before: Posterior, scores: Sequence[float]) -> Posterior:
    """The incumbent came in far beyond luck: it is measured afresh, the path stays."""
    new = calibrate(scores, before, before.sd)
    cov = before.path_cov.copy()
    cov[-1, :] = cov[:, -1] = 0.0
    cov[-1, -1] = new.path_cov[0, 0]
    return replace(new, path_mean=np.append(before.path_mean[:-1], new.path_mean), path_cov=cov)


def calibrate_apart(
    before: Posterior, baseline: Sequence[float], scores: Sequence[float]
) -> Posterior:
    """Other conditions: baseline and incumbent are measured afresh, the path is forgotten."""
    root, new = calibrate(baseline, before), calibrate(scores, before)
    cov = np.diag([root.path_cov[0, 0], new.path_cov[0, 0]])
    return replace(new, path_mean=np.append(root.path_mean, new.path_mean), path_cov=cov)


def _log_likelihood(
    scores: Sequence[float] | Array, z: Array, centre: float, sigma: Array, k: Index
) -> Array:
    """(A, len(z)): log density of the runs at mean centre + sigma z; sigma, k: (A,)."""
    total = np.zeros((len(k), len(z)))
    for y in scores:
        x = ((y - centre) / sigma)[:, None] - z
        at = np.clip(x * rules.PER_SD + (LOG_DENSITY.shape[1] / 2), 0, LOG_DENSITY.shape[1] - 1)
        total += LOG_DENSITY[k[:, None], at.astype(np.int32)] - np.log(sigma)[:, None]
    return total


def blurred(p: Posterior, drift: float) -> Posterior:
    """Another run has gone by: the mean may have drifted by a variance of `drift` sigma^2."""
    a = drift / STEP**2 / 2
    q = (1 - 2 * a) * p.density
    q[:, :, 1:] += a * p.density[:, :, :-1]
    q[:, :, :-1] += a * p.density[:, :, 1:]
    return replace(p, density=q)


def at_share(p: Posterior, share: float | None, variance: float) -> Posterior:
    """The newest run got this share of its cores: what the incumbent would score there is less
    sure, by `variance` sd^2 times the square of the doublings or halvings.

    What is on the path with it is moved alike, so that no difference is: its variances and
    covariances grow by the same.
    """
    if share is None:
        return p
    share = max(share, LEAST_SHARE)
    added = variance * math.log2(share / (p.share or share)) ** 2
    kernel = np.exp(-0.5 * (Z[:, None] - Z) ** 2 / max(added, 1e-9))  # (M, M)
    density = p.density @ (kernel / kernel.sum(1, keepdims=True))
    cov = p.path_cov + added * p.sd**2
    return replace(p, density=density, path_cov=cov, share=share)


@dataclass(frozen=True, slots=True, eq=False)
class Weighing:
    """A candidate's runs against the incumbent; gains in sd."""

    gain: float  # expected
    certainty: float  # what knowing the gain would be worth: E[max(0, gain)] - max(0, E[gain])
    chance: float  # P(gain > 0)
    gains: Array  # (G,) P(gain | runs)
    evidence: Array  # (kinds,) log P(runs | kind of session)
    awake: tuple[Index, Index]  # (A,), (A,): sizes j and shapes k of the filters that took part
    sigma: Array  # (A,)
    now: Array  # (A, M) weight x density of the incumbent's mean
    likelihood: Array  # (A, G, M) of the runs
    prior: Array  # (G,) P(gain) before them


def weigh(p: Posterior, scores: Sequence[float], known: Sequence[float] | None = None) -> Weighing:
    """Hold a candidate's runs against what is believed of the incumbent.

    `known` is P(gain) where this very idea was seen before, on another incumbent.
    """
    prior = p.prior if known is None else np.array(known)
    j, k = np.nonzero(p.weight > rules.ASLEEP)
    sigma = p.sigma[j]
    log = _log_likelihood(scores, ZX, p.centre, sigma, k)
    likelihood = (np.exp(log - log.max()) + 1e-30)[:, COLUMNS]
    now = p.density[j, k] * p.weight[j, k][:, None]
    of_gain = np.matmul(likelihood, now[:, :, None])[:, :, 0]  # (A, G)
    joint = of_gain * prior
    joint /= joint.sum()
    sd = p.sd
    gain = float((joint @ GAINS * sigma).sum() / sd)
    worth = float((joint @ POSITIVE * sigma).sum() / sd)
    evidence = np.log(rules.PRIORS @ of_gain.sum(0) / of_gain.sum() + TINY)
    certainty, chance = worth - max(0.0, gain), float(joint[:, GAINS > 0].sum())
    told = gain, certainty, chance, joint.sum(0), evidence
    return Weighing(*told, (j, k), sigma, now, likelihood, prior)


def combined(known: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """P(gain) of several ideas in one: as if their gains were independent and added."""
    total = np.array(known[0])
    for other in known[1:]:
        sums = np.clip(GAINS[:, None] + GAINS, GAINS[0], GAINS[-1])
        low = np.clip(np.searchsorted(GAINS, sums, side="right") - 1, 0, len(GAINS) - 2)
        part = (sums - GAINS[low]) / (GAINS[low + 1] - GAINS[low])
        mass = np.outer(total, np.array(other))
        total = np.bincount(low.ravel(), (mass * (1 - part)).ravel(), len(GAINS))
        total += np.bincount((low + 1).ravel(), (mass * part).ravel(), len(GAINS))
    return tuple(total.tolist())


def learnt(p: Posterior, w: Weighing) -> Posterior:
    """What ideas are worth, after one more of them."""
    odds = p.odds + w.evidence
    return replace(p, odds=odds, prior=mixture(odds))


def dropped(p: Posterior, w: Weighing) -> Posterior:
    """The incumbent stays; the candidate's runs say something of its mean, too."""
    after = np.matmul(w.prior, w.likelihood) * w.now  # (A, M)
    total = after.sum(1)
    density = p.density.copy()
    density[w.awake] = after / np.maximum(total, TINY)[:, None]
    p = replace(p, density=density, weight=_settled(p, w, total))
    mean, variance = p.moments
    if abs(mean - p.centre) > 0.5 * p.sd:
        p = replace(p, density=_moved(p.density, Z[0], (mean - p.centre) / p.sigma), centre=mean)
    return _pulled(p, mean, variance)


def run_again(p: Posterior, score: float) -> Posterior:
    """One more run of the incumbent."""
    return dropped(p, weigh(p, [score], NO_GAIN))


def kept(p: Posterior, w: Weighing, sd_step: float) -> Posterior:
    """The candidate is the incumbent."""
    joint = w.likelihood * (w.prior[None, :, None] * w.now[:, None, :])  # (A, G, M)
    of_gain, at = joint.sum(2), joint @ Z  # (A, G)
    total = of_gain.sum()
    s, s2 = w.sigma, w.sigma**2
    old = (at.sum(1) * s).sum() / total  # less the centre
    gain = (of_gain @ GAINS * s).sum() / total
    old_var = (joint.sum(1) @ Z**2 * s2).sum() / total - old**2
    gain_var = (of_gain @ GAINS**2 * s2).sum() / total - gain**2
    cov = (at @ GAINS * s2).sum() / total - old * gain
    p = _pulled(p, p.centre + old, old_var)
    share = (old_var + cov) / max(old_var, TINY)
    p = _grown(p, p.centre + old + gain, old_var + gain_var + 2 * cov, share)

    after = np.zeros((len(s), len(ZX)))  # density of m + gain
    for g in range(len(GAINS)):
        after[:, COLUMNS[g, 0] : COLUMNS[g, 0] + len(Z)] += joint[:, g]
    total = after.sum(1)
    density = np.zeros((*p.weight.shape, len(ZX)))
    density[:, :, rules.PAD : rules.PAD + len(Z)] = p.density
    density[w.awake] = after / np.maximum(total, TINY)[:, None]
    centred = _moved(density, ZX[0], (old + gain) / p.sigma)
    weight, centre = _settled(p, w, total), p.centre + float(old + gain)
    p = _loosened(replace(p, weight=weight, density=centred, centre=centre), sd_step)
    return _pulled(p, *p.moments)


def jumped(p: Posterior, scores: Sequence[float]) -> Posterior:
    """The candidate, far beyond luck, is the incumbent; `calibrate_after_jump` follows."""
    return _grown(p, float(np.mean(scores)), p.sd**2, 0.0)


def gone_back(p: Posterior, place: int) -> Posterior:
    """The attempt at `place` of the path is the incumbent again."""
    mean, variance = float(p.path_mean[place]), p.path_cov[place, place]
    width = np.maximum(math.sqrt(variance) / p.sigma, STEP)
    density = np.exp(-0.5 * (Z / width[:, None]) ** 2)
    density = np.repeat((density / density.sum(1)[:, None])[:, None, :], p.weight.shape[1], 1)
    end = place + 1
    path, cov = p.path_mean[:end], p.path_cov[:end, :end]
    return replace(p, centre=mean, density=density, path_mean=path, path_cov=cov)


def _settled(p: Posterior, w: Weighing, total: Array) -> Array:
    """Filter weights (J, K) after a candidate: those awake share what they had by `total`, (A,)."""
    weight = p.weight.copy()
    weight[w.awake] = total / total.sum() * p.weight[w.awake].sum()
    return weight


def _shifted(density: Array, at: Array) -> Array:
    """Densities (..., n) at the fractional indices `at`, linear between points, 0 outside."""
    low, last = np.floor(at).astype(int), density.shape[-1] - 2
    part, inside = at - low, (low >= 0) & (low <= last)
    low = np.clip(low, 0, last)
    out: Array = (density[..., low] * (1 - part) + density[..., low + 1] * part) * inside
    return out


def _moved(density: Array, first: float, shift: Array) -> Array:
    """Densities (J, K, n) at first + i STEP, onto Z about a centre `shift` (J,) sigma higher."""
    rows = [_shifted(d, (Z + s - first) / STEP) for d, s in zip(density, shift, strict=True)]
    out: Array = np.array(rows) + 1e-12
    out /= out.sum(2, keepdims=True)
    return out


def _loosened(p: Posterior, step: float) -> Posterior:
    """An edit may make runs noisier or quieter: one size up or down, with chance `step` each."""
    mass = p.density * p.weight[:, :, None]
    out = (1 - 2 * step) * mass
    out[0] += step * mass[0]
    out[-1] += step * mass[-1]
    for source, target, ratio in (
        (slice(0, SIZES - 1), slice(1, SIZES), rules.SIGMA_RATIO),
        (slice(1, SIZES), slice(0, SIZES - 1), 1 / rules.SIGMA_RATIO),
    ):
        moved = _shifted(mass[source], (Z * ratio - Z[0]) / STEP) + 1e-15
        out[target] += step * moved * (mass[source].sum(2) / moved.sum(2))[:, :, None]
    weight = out.sum(2)
    sigma, density, weight = p.sigma, out / weight[:, :, None], weight / weight.sum()
    up = round(float(weight.sum(1) @ np.arange(SIZES)) - (SIZES - 1) / 2)
    if up:  # keep the likely sizes in the middle of the bank
        sigma = sigma * rules.SIGMA_RATIO**up
        source_row = np.clip(np.arange(SIZES) + up, 0, SIZES - 1)
        new = np.arange(SIZES) + up != source_row
        density, weight = density[source_row], weight[source_row]
        weight[new] = 1e-9
        weight = weight / weight.sum()
    return replace(p, sigma=sigma, density=density, weight=weight)


def _pulled(p: Posterior, mean: float, variance: float) -> Posterior:
    """The incumbent's moments are these now; what they say of the others on the path."""
    pull = p.path_cov[:, -1] / p.path_cov[-1, -1]
    cov = p.path_cov + np.outer(pull, pull) * (variance - p.path_cov[-1, -1])
    return replace(p, path_mean=p.path_mean + pull * (mean - p.path_mean[-1]), path_cov=cov)


def _grown(p: Posterior, mean: float, variance: float, share: float) -> Posterior:
    """One attempt more on the path; its covariance with the others is `share` of the last's."""
    n = len(p.path_mean)
    cov = np.zeros((n + 1, n + 1))
    cov[:n, :n] = p.path_cov
    cov[n, :n] = cov[:n, n] = share * p.path_cov[:, -1]
    cov[n, n] = variance
    return replace(p, path_mean=np.append(p.path_mean, mean), path_cov=cov)
