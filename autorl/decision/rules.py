"""The constants of the rule `adaptive`: thresholds, what ideas may be worth, how runs may scatter.

Unit: sd, the standard deviation of one run's avg_return at fixed code.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# of the rules; a session's verdicts follow from its runs under one version (1: "standard", before
# adaptive; 2: unsteady runs; 3: every run counts; 4: whoever's run first meets another share;
# 5: an incumbent far from what was calibrated)
VERSION = 5

Array = npt.NDArray[np.floating[Any]]

# -- Thresholds ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rules:
    """Every threshold of the rule; `benchmarks/decision.py table` is how they were chosen."""

    calibration_runs: int = 4  # of the baseline; of a new incumbent after a jump; on other hardware
    retest: float = 1.5  # run again while certainty is worth more than this many unseen ideas
    max_runs: int = 4  # of a candidate
    champion: float = 0.85  # chance of leading the baseline from which a kept attempt is champion
    go_back: float = 0.75  # chance of an ancestor being better: the branch goes back to it
    sd_step: float = 0.1  # chance that an edit makes runs noisier by SIGMA_RATIO; as much quieter
    drift: float = 0.002  # sd^2 that the incumbent's mean may drift from one run to the next
    share: float = 1.0  # sd^2 that half or twice the share of the machine may move every mean
    unsure: float = 0.9  # sd; the share moved and the incumbent's mean is known less well: run it
    far: float = 4.0  # sd; every run further off than this, and
    evident: float = 6.0  # sd; their mean further than this: the difference speaks for itself
    merged: int = 4  # superseded ideas that are made again in one attempt
    controls: bool = True  # zero_budget and seed_control, before a claim and
    control_at: float = 0.95  # when the champion first leads the baseline with this chance
    max_crashes: int = 5  # candidates in a row: then the incumbent is run, and the search stops
    equal: float = 0.001  # sd; scores no further apart are the same
    max_equal: int = 10  # candidates in a row at a saturated score, then the search stops


# -- Ideas: what a change may be worth, in sd ------------------------------------------------------

_STEPS = np.array([0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6])
_WIDTHS = np.array([0.25] * 7 + [0.375, 0.5, 0.5, 0.5, 0.75, 1, 1])
GAINS = np.concatenate([-_STEPS[::-1], [0.0], _STEPS])  # (G,)
SHARES = {0.02: 0.25, 0.07: 0.25, 0.15: 0.21, 0.30: 0.17, 0.50: 0.12}  # of good ideas: P at first
KINDS = tuple((good, size) for good in SHARES for size in (0.35, 0.8))  # share, mean gain of good
HARMFUL = 0.5  # of the ideas that are not good; the others change nothing
HARM = 1.0  # mean harm


def _exponential(scale: float) -> Array:
    weights: Array = _WIDTHS * np.exp(-_STEPS / scale)
    weights /= weights.sum()
    return weights


def _prior(good: float, size: float) -> Array:
    bad = 1 - good
    harm, gain = bad * HARMFUL * _exponential(HARM)[::-1], good * _exponential(size)
    return np.concatenate([harm, [bad * (1 - HARMFUL)], gain])


PRIORS = np.array([_prior(*kind) for kind in KINDS])  # (kinds, G): P(gain | kind of session)
UNSEEN = np.log([SHARES[good] for good, _ in KINDS])  # (kinds,) log weights before the first idea


def mixture(odds: Array) -> Array:
    """P(gain), shape (G,), for these log weights of KINDS, shape (kinds,)."""
    weights = np.exp(odds - odds.max())
    prior: Array = (weights / weights.sum()) @ PRIORS
    return prior


# -- Noise: the shape of one run's luck, mean 0, sd 1 ----------------------------------------------

PER_SD = 64  # table entries per sd
X = np.arange(-20, 20.0001, 1 / PER_SD)  # (X,)


def _normal(mean: float, sd: float) -> Array:
    return np.exp(-0.5 * ((X - mean) / sd) ** 2) / sd


def _below(skewness: float, smooth: float) -> Array:
    """A mirrored gamma density: most runs just above the mean, few far below."""
    shape, x = 4 / skewness**2, np.arange(0, 20, 1 / PER_SD) + 0.5 / PER_SD
    density, first = np.zeros_like(X), np.searchsorted(X, 0)
    density[first : first + len(x)] = (x ** (shape - 1) * np.exp(-x))[: len(X) - first]
    blur = _normal(0, smooth)
    return np.convolve(density, blur / blur.sum(), "same")[::-1]


def _log_density(density: Array) -> Array:
    """Standardised to mean 0 and sd 1, over heavy tails: no single run rules anything out."""
    density = density / density.sum() * PER_SD
    mean = (X * density).sum() / PER_SD
    sd = math.sqrt(((X - mean) ** 2 * density).sum() / PER_SD)
    tails = 0.002 / (1 + np.abs(X) / 2) ** 2.5 + 1e-12
    log: Array = np.log(np.interp(mean + sd * X, X, density) * sd + tails)
    return log


SHAPES = {
    "normal": (0.4, _normal(0, 1)),
    "seldom above its level": (0.2, _below(2.6, 0.05)),  # skewness as measured on real runs
    "one in ten fails": (0.2, 0.9 * _normal(0, 1) + 0.1 * _normal(-6, 1.2)),
    "one in ten is lucky": (0.2, 0.9 * _normal(0, 1) + 0.1 * _normal(5, 1.2)),
}
LOG_DENSITY = np.array([_log_density(density) for _, density in SHAPES.values()])  # (K, X)
SHAPE_WEIGHTS = np.array([weight for weight, _ in SHAPES.values()])  # (K,) before the first run

# -- The grid on which the incumbent's mean is held ------------------------------------------------

SIZES = 8  # J: sizes of sigma side by side
SIGMA_RATIO = math.sqrt(2)  # of one size to the next
CALIBRATED_SIZE = 3  # index of the size that equals the spread of the calibration
STEP = 0.25  # sigma
Z = np.arange(-16, 17) * STEP  # (M,) the incumbent's mean less the centre, in sigma
_GAIN_STEPS = np.round(GAINS / STEP).astype(int)
PAD = int(_GAIN_STEPS.max())
ZX = np.arange(-16 - PAD, 17 + PAD) * STEP  # (M + 2 PAD,) a candidate's mean less the centre
COLUMNS = PAD + _GAIN_STEPS[:, None] + np.arange(len(Z))  # (G, M) columns of ZX: m + gain
# of the machine's share: two runs of a quiet one got .99 to 1.00 (benchmarks/LOG.md)
TOLERANCE = 0.90
ASLEEP = 1e-3  # filters of less weight are left out of a candidate's update
