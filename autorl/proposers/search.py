"""Classical search: tune the ALL_CAPS numeric constants at the top of train.py. No key, no network.

    uv run python agent_loop.py run --proposer search

Every proposal changes one to three constants of the *incumbent*, as exact edits. A pool of settings
is drawn, in part by Optuna's multivariate TPE (Bergstra et al. 2011;
https://arxiv.org/abs/2304.11127), in part around the incumbent and anywhere within the bounds; a
small Gaussian process picks the one with the largest expected improvement. Both are warm-started
from the ledger: what every earlier attempt set, by whomever, and its score. State lives in the
ledger alone: the same history gives the same proposal, in any process. A crashed attempt ranks with
the worst measured one; a running one is only remembered, so that it is not repeated.

What it does not do: change structure, or propose a set of values twice. `benchmarks/search.py`
compares it with chance.
"""

import math
import random
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autorl.errors import ProposerError
from autorl.interfaces import Budget
from autorl.proposers.gaussian_process import Array, improvement
from autorl.proposers.search_space import Constant, constants, numbers, rewrite, show
from autorl.records import History, Proposal

MAX_CHANGED = 3  # constants changed at once: a verdict on ten at once teaches nobody anything
STARTUP = 5  # scored attempts before the models are asked; drawn from the pool until then
DRAWS_TPE, DRAWS_NEAR, DRAWS_ANYWHERE = 8, 280, 120  # the pool
NEAR = 0.2  # standard deviation of a draw near the incumbent, in units of the bounds
OUTLIER = 4.0  # scores further below the median than so many interquartile ranges count as that far


@dataclass(frozen=True, slots=True)
class Trial:
    """One earlier attempt, seen from the incumbent's constants: all values, and the score."""

    values: dict[str, float]
    score: float | None  # None: it crashed, or is running
    crashed: bool = False
    runs: int = 1


class SearchProposer:
    """Constants of the incumbent, tuned; see the top of this file."""

    name = "search"

    def __init__(self, seed: int = 0):
        self.seed = seed

    def close(self) -> None:
        """Nothing is held."""

    def propose(self, history: History, budget: Budget | None = None) -> Proposal | None:
        """The next set of constants, as edits; None when the bounds hold nothing new.

        Raises:
            ProposerError: train.py has no constant to tune.
        """
        known = constants(history.train_source)
        if not known:
            raise ProposerError(
                "train.py has no ALL_CAPS numeric constant at module level; "
                "give it one, or choose another --proposer."
            )
        trials = ledger(history, known)
        seed = f"{self.seed}/{history.seed}/{len(history.rows)}/{len(history.refusals)}"
        rng = np.random.default_rng(random.Random(seed).getrandbits(64))
        seen = {_key(t.values) for t in trials} | {_key(_current(known))}
        for values, why, effect in candidates(known, trials, noise_variance(history), rng):
            if _key(values) in seen:
                continue
            seen.add(_key(values))
            changes = {name: v for name, v in values.items() if v != known[name].value}
            source, edits = rewrite(history.train_source, changes)
            if history.vet(source):
                continue
            arrows = [
                f"{name} {known[name].text} → {show(v, known[name].dimension.integer)}"
                for name, v in changes.items()
            ]
            *others, last = changes
            names = f"{', '.join(others)} and {last}" if others else last
            return Proposal(
                title=", ".join(arrows),
                hypothesis=f"{why} {names}.",
                expected_effect=effect,
                edits=edits,
                proposer=self.name,
                params=tuple(values.items()),
            )
        return None


# ---------------------------------------------------------------------------
# The ledger as trials
# ---------------------------------------------------------------------------


def ledger(history: History, known: Mapping[str, Constant]) -> list[Trial]:
    """Every attempt whose constants are known, oldest first; one it lacked is the incumbent's."""
    current = _current(known)
    trials = []
    for row in history.rows:
        stated: Mapping[str, float] = dict(history.params.get(row.n, ()))
        if row.n == history.incumbent:
            stated = current
        elif not stated and history.source_of is not None:
            try:
                stated = numbers(history.source_of(row.n))
            except (OSError, LookupError, ValueError):
                continue
        if not stated:
            continue
        values = {name: float(stated.get(name, value)) for name, value in current.items()}
        crashed, score = row.status == "crash", row.avg_return
        if crashed or (score is not None and not math.isfinite(score)):
            score = None
        trials.append(Trial(values, score, crashed, max(1, row.runs)))
    return trials


def _current(known: Mapping[str, Constant]) -> dict[str, float]:
    return {name: constant.value for name, constant in known.items()}


def noise_variance(history: History) -> float | None:
    """Variance of one run, pooled over attempts measured more than once; None without any."""
    squares, degrees = 0.0, 0
    for row in history.rows:
        if row.runs > 1 and row.stderr is not None and math.isfinite(row.stderr):
            squares += row.stderr**2 * row.runs * (row.runs - 1)
            degrees += row.runs - 1
    return squares / degrees if degrees else None


def _key(values: Mapping[str, float]) -> frozenset[tuple[str, str]]:
    """What makes two sets the same: equal to three digits (two of 1 - x, for discounts)."""
    return frozenset(
        (n, f"{v:.3g}/{1 - v:.2g}" if 0.9 < v < 1 else f"{v:.3g}") for n, v in values.items()
    )


# ---------------------------------------------------------------------------
# What to try next
# ---------------------------------------------------------------------------


def candidates(
    known: Mapping[str, Constant],
    trials: list[Trial],
    noise: float | None,
    rng: np.random.Generator,
) -> Iterator[tuple[dict[str, float], str, str]]:
    """(full set of values, why, expected effect), the most promising first."""
    here = _units(known, _current(known))
    pool = np.vstack([_draw(here, DRAWS_NEAR, NEAR, rng), _draw(here, DRAWS_ANYWHERE, None, rng)])
    scored = sum(t.score is not None for t in trials)
    if scored < STARTUP:
        why = f"Too few scores yet ({scored}) to model them: a look at"
        order = rng.permutation(len(pool))
        effects = ["Unknown."] * len(pool)
    else:
        pool = np.vstack([pool, _draw_tpe(known, trials, here, rng)])
        modelled = [t for t in trials if t.score is not None or t.crashed]
        scores = _bounded([t.score for t in modelled])
        runs = np.array([t.runs for t in modelled], float)
        points = np.array([_units(known, t.values) for t in modelled])
        expected, difference, deviation = improvement(points, scores, runs, noise, pool, here)
        order = np.argsort(-expected, kind="stable")
        why = (
            f"Of {len(pool)} settings near and far this has the largest expected improvement, "
            f"by a model of {len(modelled)} attempts, of"
        )
        effects = [
            f"{d:+.3g} ± {s:.2g} in avg_return against the incumbent, by that model."
            for d, s in zip(difference, deviation, strict=True)
        ]
    for i in order:
        values = {}
        for k, (name, constant) in enumerate(known.items()):
            low, high = constant.dimension.x_bounds
            moved = constant.dimension.to_value(low + pool[i, k] * (high - low))
            values[name] = constant.value if pool[i, k] == here[k] else moved
        yield values, why, effects[i]


def _units(known: Mapping[str, Constant], values: Mapping[str, float]) -> Array:
    """Where values stand between their bounds, (d,) in 0..1, each on its constant's own scale."""
    out = np.empty(len(known))
    for k, (name, constant) in enumerate(known.items()):
        low, high = constant.dimension.x_bounds
        out[k] = (constant.dimension.to_x(values[name]) - low) / (high - low)
    return out


def _free(count: int, size: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which constants each of `count` draws may change, one to MAX_CHANGED: (count, size)."""
    ranks = rng.random((count, size)).argsort(1).argsort(1)
    return ranks < rng.integers(1, min(MAX_CHANGED, size) + 1, (count, 1))


def _draw(here: Array, count: int, near: float | None, rng: np.random.Generator) -> Array:
    """Settings (count, d): normal steps from the incumbent, or (near None) anywhere in bounds."""
    shape = (count, len(here))
    if near is None:
        drawn = rng.random(shape)
    else:
        drawn = np.clip(here + rng.normal(0.0, near, shape), 0.0, 1.0)
    return np.where(_free(*shape, rng), drawn, here)


def _bounded(scores: list[float | None]) -> Array:
    """Scores for the model, (N,): a disaster is low but not all there is; a crash is the worst."""
    known = np.array([s for s in scores if s is not None])
    low, middle, high = np.percentile(known, [25, 50, 75])
    floor = max(float(known.min()), float(middle - OUTLIER * max(high - low, 1e-9)))
    return np.array([floor if s is None else max(s, floor) for s in scores])


def _draw_tpe(
    known: Mapping[str, Constant], trials: list[Trial], here: Array, rng: np.random.Generator
) -> Array:
    """Settings (DRAWS_TPE, d) from Optuna's multivariate TPE; what is not to change stays fixed."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = list(known)
    spaces: dict[str, optuna.distributions.BaseDistribution] = {
        n: optuna.distributions.FloatDistribution(0.0, 1.0) for n in names
    }
    # Pruned, without a value: below every measured one.
    state = {False: optuna.trial.TrialState.COMPLETE, True: optuna.trial.TrialState.PRUNED}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ExperimentalWarning: multivariate, PartialFixedSampler
        tpe = optuna.samplers.TPESampler(
            multivariate=True,
            n_startup_trials=STARTUP,
            seed=int(rng.integers(2**31)),
            warn_independent_sampling=False,
        )
        study = optuna.create_study(direction="maximize")
        for t in trials:
            if t.crashed or t.score is not None:
                params = dict(zip(names, _units(known, t.values).tolist(), strict=True))
                study.add_trial(
                    optuna.trial.create_trial(
                        params=params, distributions=spaces, value=t.score, state=state[t.crashed]
                    )
                )
        out = np.repeat(here[None], DRAWS_TPE, 0)
        for k, free in enumerate(_free(DRAWS_TPE, len(names), rng)):
            held = {n: float(here[i]) for i, n in enumerate(names) if not free[i]}
            study.sampler = optuna.samplers.PartialFixedSampler(held, tpe) if held else tpe
            drawn = study.ask(spaces).params
            out[k, free] = [drawn[names[i]] for i in np.flatnonzero(free)]
    return out
