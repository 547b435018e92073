"""A small Gaussian process: which point is most likely to beat the incumbent, and by how much?

The scores of a session are few and noisy, so this model is small too: half of it is a sum over
single constants (what one does, whatever the others), half knows them together; three numbers are
fitted (length, size, and the noise where replicates do not tell it). Rasmussen & Williams, Gaussian
Processes for Machine Learning, 2006, algorithm 2.1; additive kernels: Duvenaud et al. 2011;
expected improvement: Jones et al. 1998.

Pure: arrays in, arrays out. It knows nothing of constants, files or runs.
"""

import itertools
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LENGTHS = (0.25, 0.5, 1.0)  # in units of a constant's bounds
SIZES = (0.3, 1.0, 3.0, 10.0)  # signal variance, in units of the scores' variance
NOISES = (0.05, 0.2, 0.5, 1.0)  # noise variance likewise, when no attempt was measured twice
ADDITIVE = 0.5  # share of the kernel that is a sum over single constants


def kernel(a: Array, b: Array, length: float) -> Array:
    """Covariance of points a (N, d) and b (M, d) -> (N, M); 1 on the diagonal."""
    squared = (a[:, None, :] - b[None, :, :]) ** 2
    alone: Array = np.exp(-0.5 * squared / length**2).mean(-1)
    together: Array = np.exp(-0.5 * squared.sum(-1) / (2 * length) ** 2)
    return ADDITIVE * alone + (1 - ADDITIVE) * together


def improvement(
    points: Array, scores: Array, runs: Array, noise: float | None, pool: Array, here: Array
) -> tuple[Array, Array, Array]:
    """Expected improvement of each pool point over `here`.

    Args:
        points: (N, d) measured settings, each coordinate in 0..1.
        scores: (N,) their mean scores.
        runs: (N,) how many runs each mean rests on.
        noise: variance of one run, None when unknown.
        pool: (M, d).
        here: (d,) the incumbent.
    Returns:
        expected improvement, mean difference and its standard deviation, each (M,), in the unit of
        the scores.
    """
    scale = float(scores.std()) or 1.0
    y = (scores - np.average(scores, weights=runs)) / scale
    noises = NOISES if noise is None else (max(noise / scale**2, 1e-4),)
    shapes = {length: kernel(points, points, length) for length in LENGTHS}

    def covariance_of(fit: tuple[float, float, float]) -> Array:
        length, size, variance = fit
        # 1: the mean itself is uncertain.
        return 1.0 + size * shapes[length] + np.diag(variance / runs)

    def log_likelihood(fit: tuple[float, float, float]) -> float:
        covariance = covariance_of(fit)
        return -0.5 * float(y @ np.linalg.solve(covariance, y) + np.linalg.slogdet(covariance)[1])

    fit = max(itertools.product(LENGTHS, SIZES, noises), key=log_likelihood)
    length, size, _ = fit
    asked = np.vstack([pool, here])
    cross = 1.0 + size * kernel(asked, points, length)  # (M + 1, N)
    gain = np.linalg.solve(covariance_of(fit), cross.T)  # (N, M + 1)
    mean = y @ gain
    variance = 1.0 + size - (cross * gain.T).sum(1)
    with_here = 1.0 + size * kernel(asked, here[None], length)[:, 0] - cross @ gain[:, -1]
    difference = mean[:-1] - mean[-1]
    deviation = np.sqrt(np.maximum(variance[:-1] + variance[-1] - 2 * with_here[:-1], 1e-12))
    u, normal = difference / deviation, NormalDist()
    below = np.array([normal.cdf(v) for v in u])
    density = np.array([normal.pdf(v) for v in u])
    expected = difference * below + deviation * density
    return expected * scale, difference * scale, deviation * scale
