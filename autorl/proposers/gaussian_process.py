"""A small Gaussian process: which of these points is most likely to beat the incumbent, and by how much?

Scores of a night are few and noisy, so this model is small too: half of it is a sum over single constants (what one
constant does, whatever the others), half knows them together; three numbers are fitted (length, size, and the noise
where replicates do not tell it). Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, algorithm 2.1;
additive kernels: Duvenaud et al. 2011; expected improvement: Jones et al. 1998.

Pure: arrays in, arrays out. It knows nothing of constants, files or runs.
"""

import math

import numpy as np

LENGTHS = (0.25, 0.5, 1.0)  # in units of a constant's bounds
SIZES = (0.3, 1.0, 3.0, 10.0)  # signal variance, in units of the scores' variance
NOISES = (0.05, 0.2, 0.5, 1.0)  # noise variance likewise, when no attempt was measured twice
ADDITIVE = 0.5  # share of the kernel that is a sum over single constants


def kernel(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    """Covariance of points a (N, d) and b (M, d) -> (N, M); 1 on the diagonal."""
    squared = (a[:, None, :] - b[None, :, :]) ** 2
    alone = np.exp(-0.5 * squared / length**2).mean(-1)
    together = np.exp(-0.5 * squared.sum(-1) / (2 * length) ** 2)
    return ADDITIVE * alone + (1 - ADDITIVE) * together


def improvement(
    points: np.ndarray,
    scores: np.ndarray,
    runs: np.ndarray,
    noise: float | None,
    pool: np.ndarray,
    here: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected improvement of each pool point over `here`.

    Args:
        points: (N, d) measured settings, each coordinate in 0..1.   scores: (N,) their mean scores.
        runs: (N,) how many runs each mean rests on.   noise: variance of one run, None when unknown.
        pool: (M, d).   here: (d,) the incumbent.
    Returns:
        expected improvement, mean difference and its standard deviation, each (M,), in the scores' unit.
    """
    middle = np.average(scores, weights=runs)
    scale = float(scores.std()) or 1.0
    y = (scores - middle) / scale
    noises = NOISES if noise is None else (max(noise / scale**2, 1e-4),)
    best: tuple[float, float, float, np.ndarray, np.ndarray] | None = None
    for length in LENGTHS:
        shape = kernel(points, points, length)
        for size in SIZES:
            for variance in noises:
                covariance = (
                    1.0 + size * shape + np.diag(variance / runs)
                )  # 1: the mean itself is uncertain
                weights = np.linalg.solve(covariance, y)
                likelihood = -0.5 * float(y @ weights) - 0.5 * float(
                    np.linalg.slogdet(covariance)[1]
                )
                if best is None or likelihood > best[0]:
                    best = (likelihood, length, size, covariance, weights)
    assert best is not None
    _, length, size, covariance, weights = best
    asked = np.vstack([pool, here[None]])
    cross = 1.0 + size * kernel(asked, points, length)  # (M + 1, N)
    gain = np.linalg.solve(covariance, cross.T)  # (N, M + 1)
    mean = cross @ weights
    variance_of = 1.0 + size - (cross * gain.T).sum(1)
    with_here = 1.0 + size * kernel(asked, here[None], length)[:, 0] - cross @ gain[:, -1]
    difference = mean[:-1] - mean[-1]
    deviation = np.sqrt(np.maximum(variance_of[:-1] + variance_of[-1] - 2 * with_here[:-1], 1e-12))
    u = difference / deviation
    below = 0.5 * (1 + np.array([math.erf(v / math.sqrt(2)) for v in u]))
    density = np.exp(-0.5 * u**2) / math.sqrt(2 * math.pi)
    return (difference * below + deviation * density) * scale, difference * scale, deviation * scale
