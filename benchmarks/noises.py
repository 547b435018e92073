"""How the runs of a simulated session scatter, and what an idea does to them.

Unit: sd, the standard deviation of one run of the baseline. Used by simulation.py.
"""

import math
from dataclasses import dataclass

import numpy as np

Arm = tuple[float, ...]  # what a world knows of one attempt; the first is its level


@dataclass
class Draws:
    """The random streams of one session: ideas from one, noise from another."""

    seed: int
    runs: int = 0

    def __post_init__(self) -> None:
        self.ideas = np.random.default_rng((self.seed, 1))
        self.noise = np.random.default_rng((self.seed, 2))
        self.phase = float(self.ideas.uniform(0, 2 * math.pi))


@dataclass(frozen=True)
class Noise:
    """Normal; a gain moves the level."""

    def root(self) -> Arm:
        """The baseline."""
        return (0.0,)

    def child(self, arm: Arm, gain: float, luck: float) -> Arm:
        """`arm` with an idea worth `gain`; `luck`, uniform in 0..1, chooses how it works."""
        return (arm[0] + gain,)

    def run(self, arm: Arm, draws: Draws) -> float:
        """One score."""
        return arm[0] + draws.noise.standard_normal()

    def truth(self, arm: Arm) -> float:
        """Gain over the baseline."""
        return arm[0]


NORMAL = Noise()


@dataclass(frozen=True)
class Drift(Noise):
    """Normal, on a machine that goes up and down over 40 runs."""

    height: float = 0.5

    def run(self, arm: Arm, draws: Draws) -> float:
        wave = self.height * math.sin(2 * math.pi * draws.runs / 40 + draws.phase)
        return arm[0] + draws.noise.standard_normal() + wave


@dataclass(frozen=True)
class Gamma(Noise):
    """Skewed as real runs are (results/benchmarks/noise.json): few, but far below."""

    skewness: float = -2.5554

    def run(self, arm: Arm, draws: Draws) -> float:
        shape = 4 / self.skewness**2
        luck = (draws.noise.gamma(shape) - shape) / math.sqrt(shape)
        return arm[0] + math.copysign(1, self.skewness) * luck


# Real runs of one file each (results/benchmarks/slots.json).
SLOTS = (
    (-41.5, 249.0, 268.3, 283.0, 287.3, 288.8, 296.5, 297.0, 300.1, 301.4, 304.4, 310.4),
    (24.8, 171.2, 225.6, 233.7, 242.8, 263.9, 267.8, 285.2, 289.1, 296.5, 297.8, 303.7),
    (186.9, 239.4, 271.0, 287.2, 288.9, 297.6),
)
_RESIDUALS = np.concatenate([np.array(runs) - np.mean(runs) for runs in SLOTS])
RESIDUALS = _RESIDUALS / _RESIDUALS.std()


@dataclass(frozen=True)
class Residuals(Noise):
    """Drawn from real runs."""

    def run(self, arm: Arm, draws: Draws) -> float:
        drawn = draws.noise.choice(RESIDUALS) + 0.05 * draws.noise.standard_normal()
        return float(arm[0] + drawn)


@dataclass(frozen=True)
class TakeOff(Noise):
    """A share of the runs stays far below; half of the ideas move the level, half that share.

    Arm: level, share.
    """

    stay: float = 0.4

    FALL = math.sqrt((1 - 0.09) / 0.24)  # so that one run's sd is 1

    def root(self) -> Arm:
        return (0.0, self.stay)

    def child(self, arm: Arm, gain: float, luck: float) -> Arm:
        level, stay = arm
        if luck < 0.5:
            return (level + gain / (1 - stay), stay)
        return (level, float(np.clip(stay - gain / max(self.FALL + level, 0.5), 0.02, 0.95)))

    def run(self, arm: Arm, draws: Draws) -> float:
        level = arm[0] if draws.noise.random() >= arm[1] else -self.FALL
        return level + 0.3 * draws.noise.standard_normal()

    def truth(self, arm: Arm) -> float:
        return arm[0] * (1 - arm[1]) - self.FALL * (arm[1] - self.stay)


@dataclass(frozen=True)
class Multiplicative(Noise):
    """The spread grows with the mean."""

    variation: float = 0.36

    def root(self) -> Arm:
        return (1 / self.variation,)

    def child(self, arm: Arm, gain: float, luck: float) -> Arm:
        return (arm[0] * math.exp(self.variation * gain),)

    def run(self, arm: Arm, draws: Draws) -> float:
        return arm[0] * (1 + self.variation * max(-2.5, draws.noise.standard_normal()))

    def truth(self, arm: Arm) -> float:
        return math.log(arm[0] * self.variation) / self.variation


@dataclass(frozen=True)
class Jump(Multiplicative):
    """Some ideas let a share of the runs break through to a multiple.

    Arm: usual mean, share, multiple.
    """

    def root(self) -> Arm:
        return (1 / self.variation, 0.0, 1.0)

    def child(self, arm: Arm, gain: float, luck: float) -> Arm:
        mean, share, high = arm
        if gain > 0 and luck < 0.15:
            return (mean, min(0.95, share + 0.35), max(high, 1.0) * 3.0)
        if share > 0 and luck > 0.7:
            return (mean, float(np.clip(share + 0.25 * np.sign(gain), 0, 0.95)), high)
        return (mean * math.exp(self.variation * gain), share, high)

    def run(self, arm: Arm, draws: Draws) -> float:
        mean, share, high = arm
        level = mean * (high if draws.noise.random() < share else 1.0)
        return level * (1 + 0.8 * self.variation * draws.noise.standard_normal())

    def truth(self, arm: Arm) -> float:
        mean, share, high = arm
        return math.log(mean * self.variation * (1 + share * (high - 1))) / self.variation


@dataclass(frozen=True)
class Rare(Noise):
    """A share of the runs is off by `shift`."""

    share: float
    shift: float
    usual: float  # sd of the others

    def run(self, arm: Arm, draws: Draws) -> float:
        off = self.shift if draws.noise.random() < self.share else 0.0
        total = math.sqrt(self.usual**2 + self.shift**2 * self.share * (1 - self.share))
        luck = off + self.usual * draws.noise.standard_normal() - self.shift * self.share
        return arm[0] + luck / total


@dataclass(frozen=True)
class Ceiling(Noise):
    """No score is higher than `cap`."""

    cap: float = 2.0

    def run(self, arm: Arm, draws: Draws) -> float:
        return min(self.cap, arm[0] + draws.noise.standard_normal())

    def truth(self, arm: Arm) -> float:
        return self._mean(arm[0]) - self._mean(0.0)

    def _mean(self, level: float) -> float:
        """E[min(cap, N(level, 1))]."""
        z = self.cap - level
        below = 0.5 * (1 + math.erf(z / math.sqrt(2)))
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        return level * below - density + self.cap * (1 - below)
