"""Simulated research sessions through the shipped decision/: what it gains, against other rules.

    uv run python benchmarks/decision.py table [SESSIONS] [WORLD ...]

    table [SESSIONS] [WORLD ...]   true gain after 40 and 100 runs, by rule
    places [SESSIONS] [WORLD ...]  the same with 1, 2, 4 and 8 runs at a time
    null [SESSIONS] [WORLD ...]    no good idea: how often a claim says "shown"
    power [TRIALS]                 how often it does, by gain and noise
    coverage [TRIALS]              of Welch's interval, 5 + 5 runs, no floor
    time                           CPU time per call, over 200 runs
    noise RUNS.json                skewness, seed correlation of real runs
                                   -> results/benchmarks/noise.json

Unit: sd, one run's standard deviation at fixed code (simulation.py: what a gain is). Calibration
and repeated runs are paid out of the same budget, the claim's are not. Environment: WORKERS,
processes side by side (2). What it does not do: train anything.
"""

import argparse
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "benchmarks")]

import run_statistics
from simulation import BUDGETS, NULLS, WORLDS, Bold, Nature, Record, Session, adaptive, peer

from autorl import decision as rules
from autorl.confirm import stats as evidence
from autorl.confirm.claim import least_variance
from autorl.confirm.stats import Claim
from autorl.decision.posterior import calibrate

NOISE = PROJECT / "results" / "benchmarks" / "noise.json"

# -- Gains -----------------------------------------------------------------------------------------

# The rule before, `standard`, as recorded: gain after 40 and 100 runs, 300 sessions a world.
BEFORE = {
    "base": (2.52, 6.87), "mid": (0.98, 2.70), "late": (0.34, 0.78), "drift": (2.61, 6.82),
    "real": (1.29, 3.51), "slots": (1.44, 3.73), "take-off": (0.85, 2.00),
    "multiplicative": (1.14, 2.98), "lucky": (0.82, 2.01), "ceiling": (0.74, 1.35),
    "crash": (1.30, 3.41), "late real": (0.44, 1.31), "late slots": (0.53, 1.51),
    "jump": (1.84, 5.43), "late lucky": (0.26, 0.58), "late take-off": (0.26, 0.74),
    "erosion": (0.06, 0.14), "barren": (0.06, 0.12), "mostly harm": (0.86, 2.43),
}  # fmt: skip
# The same with 8 places: 100 sessions (gain after 40, 100 runs).
BEFORE_8 = {"base": (1.69, 4.73), "mid": (0.82, 2.30), "late": (0.17, 0.66), "real": (0.86, 2.59)}

RULES: dict[str, Callable[[Nature], Session]] = {
    "zjianyi/autoRL": lambda nature: peer(Record(), nature),
    "bold": lambda nature: peer(Bold(), nature),
    "adaptive": adaptive,
}


@dataclass(frozen=True)
class Task:
    """Sessions first..last-1 of a world."""

    world: str
    rule: str
    places: int
    first: int
    last: int


def _sessions(task: Task) -> list[Session]:
    world, out = {**WORLDS, **NULLS}[task.world], []
    for seed in range(task.first, task.last):
        nature = Nature(world, seed)
        one = task.places == 1
        out.append(RULES[task.rule](nature) if one else adaptive(nature, places=task.places))
    return out


Simulate = Callable[[str, str, int, int], list[Session]]


@contextmanager
def simulator() -> Iterator[Simulate]:
    """A function (world, rule, sessions, places) -> sessions, on WORKERS processes."""
    workers = int(os.environ.get("WORKERS", "2"))
    with Pool(workers) as pool:

        def simulate(world: str, rule: str, sessions: int, places: int = 1) -> list[Session]:
            cuts = [i * sessions // 8 for i in range(9)]
            tasks = [Task(world, rule, places, a, b) for a, b in itertools.pairwise(cuts)]
            return [s for part in pool.map(_sessions, tasks, chunksize=1) for s in part]

        yield simulate


def _gains(sessions: list[Session]) -> np.ndarray:
    """(2, sessions): after 40 and 100 runs."""
    return np.array([[s.gain[budget] for s in sessions] for budget in BUDGETS])


def _error(gains: np.ndarray) -> np.ndarray:
    """Standard error of the mean."""
    error: np.ndarray = gains.std(-1) / math.sqrt(gains.shape[-1])
    return error


def _row(name: str, sessions: list[Session]) -> str:
    gains = _gains(sessions)
    mean, error = gains.mean(1), _error(gains)
    below = 100 * (gains[1] < -1e-9).mean()
    ideas, keeps, back = np.mean([(s.ideas, s.keeps, s.taken_back) for s in sessions], 0)
    at_40, at_100 = (f"{m:6.2f} ± {e:.2f}" for m, e in zip(mean, error, strict=True))
    gained = f"{name:<20} {at_40} {at_100} {below:7.1f} %"
    return f"{gained} {ideas:7.1f} {keeps:6.1f} {back:6.1f}"


HEAD = f"{'rule':<20} {'gain 40':>13} {'gain 100':>13} {'below':>9}   ideas  keeps   back"


def _shortfall(best: str, apart: np.ndarray) -> str:
    """Of the gains of sessions, (2, sessions)."""
    parts = [f"{d:+.2f} ± {e:.2f}" for d, e in zip(apart.mean(1), _error(apart), strict=True)]
    return f"{'adaptive less ' + best:<36} {parts[0]:>14} {parts[1]:>14}"


def table(sessions: int, only: Sequence[str] = ()) -> None:
    """Every rule in every world, or in those named; differences are paired, but one."""
    with simulator() as simulate:
        for world in only or WORLDS:
            print(f"\n-- {world}: {sessions} sessions, gains in sd; below: the start\n{HEAD}")
            found = {rule: simulate(world, rule, sessions, 1) for rule in RULES}
            for rule, done in found.items():
                print(_row(rule, done))
            before = BEFORE[world]
            print(f"{'standard (recorded)':<20} {before[0]:6.2f}        {before[1]:6.2f}")
            gains = {rule: _gains(done) for rule, done in found.items()}
            for rule in ("zjianyi/autoRL", "bold"):
                print(_shortfall(rule, gains["adaptive"] - gains[rule]))
            apart = gains["adaptive"] - np.array(before)[:, None]
            print(_shortfall("standard", apart), flush=True)


def places(sessions: int, only: Sequence[str] = ()) -> None:
    """Runs side by side: a keep makes the others, together, start again on top of it."""
    with simulator() as simulate:
        for world in only or BEFORE_8:
            print(f"\n-- {world}: {sessions} sessions, gains in sd\n{HEAD}", flush=True)
            for k in (1, 2, 4, 8):
                done = simulate(world, "adaptive", sessions, k)
                rounds = np.mean([s.rounds for s in done])
                print(f"{_row(f'{k} places', done)}   {rounds:.0f} rounds", flush=True)
            if world in BEFORE_8:
                before = BEFORE_8[world]
                print(f"{'standard, 8 (recorded)':<20} {before[0]:4.2f}        {before[1]:6.2f}")


# -- The claim -------------------------------------------------------------------------------------

NOISES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "skewed: 15 % fail to take off": lambda rng, n: (
        rng.standard_normal(n) * 0.62 + np.where(rng.random(n) < 0.15, -1.87, 0.33)
    ),
    "skewed: gamma, skewness -1.6": lambda rng, n: (
        -(rng.gamma(4 / 1.6**2, size=n) - 4 / 1.6**2) / math.sqrt(4 / 1.6**2)
    ),
    "heavy tails: Student's t, 3 df": lambda rng, n: rng.standard_t(3, n),
}


def _claim(base: Sequence[float], champion: Sequence[float], floors: tuple[float, float]) -> Claim:
    """Up to two looks at 5 + 5 runs each, as a session makes them."""
    for look in (1, 2):
        runs = 5 * look
        found = evidence.claim(base[:runs], champion[:runs], floors, look, looks=2)
        if not found.open:
            break
    return found


def _null(task: Task) -> list[Claim]:
    """The claims of a world's sessions."""
    world, claims = NULLS[task.world], []
    for seed in range(task.first, task.last):
        session = adaptive(Nature(world, seed))
        if session.champion and session.state:
            nature = Nature(world, 1_000_000 + seed)  # fresh noise
            nature.arms[1] = session.arm
            base, champion = ([nature.run(arm) for _ in range(10)] for arm in (0, 1))
            floors = [least_variance(session.state, n) for n in (0, session.champion)]
            claims.append(_claim(base, champion, (floors[0], floors[1])))
    return claims


def null(sessions: int, only: Sequence[str] = ()) -> None:
    """Sessions in which no idea changes anything for the better, then a claim on fresh runs."""
    head = "sessions  claims  behind  shown     rate   95 % interval of the rate"
    print(f"behind: the branch went back to the baseline\n{'world':<22} {head}")
    cuts = [i * sessions // 8 for i in range(9)]
    with Pool(int(os.environ.get("WORKERS", "2"))) as pool:
        for world in only or NULLS:
            tasks = [Task(world, "adaptive", 1, a, b) for a, b in itertools.pairwise(cuts)]
            claims = [c for part in pool.map(_null, tasks, chunksize=1) for c in part]
            behind, shown = sum(c.behind for c in claims), sum(c.shown for c in claims)
            low, high = run_statistics.wilson(shown, sessions)
            rate = f"{100 * shown / sessions:6.2f} %   {100 * low:.2f} to {100 * high:.2f} %"
            print(f"{world:<22} {sessions:>8} {len(claims):>7} {behind:>7} {shown:>6} {rate}")
            sys.stdout.flush()


def power(trials: int) -> None:
    """How often a claim says *shown*, by gain and noise; runs of an arm at that.

    The floor is the variance of 6 runs of the baseline and 4 of the champion, or what the session
    has learnt from a calibration of 4 for both.
    """
    rng = np.random.default_rng(1)
    print(f"{trials} trials, standard error {50 / math.sqrt(trials):.1f} % at .5")
    head = "measured   learnt  runs"
    print(f"{'noise':<34} {'gain, sd':>9} {'champion sd x':>14}   {head}")
    for name, draw in NOISES.items():
        for gain, scale in ((0.0, 1.0), (0.0, 3.0), (1.0, 1.0), (1.5, 1.0), (2.0, 1.0)):
            shown, runs = np.zeros(2), 0
            for _ in range(trials):
                base = draw(rng, 10).tolist()
                champion = (gain + scale * draw(rng, 10)).tolist()
                measured = draw(rng, 6).var(ddof=1), (scale * draw(rng, 4)).var(ddof=1)
                learnt = calibrate(draw(rng, 4).tolist()).sd ** 2
                both = [_claim(base, champion, f) for f in (measured, (learnt, learnt))]
                shown += [c.shown for c in both]
                runs += both[0].runs
            rates = "  ".join(f"{share:7.3f}" for share in shown / trials)
            told = f"{name:<34} {gain:>9} {scale:>14.0f}"
            print(f"{told}   {rates}  {runs / trials:4.1f}", flush=True)


def coverage(trials: int) -> None:
    """How often the interval holds the true gain (0), against a percentile bootstrap."""
    rng = np.random.default_rng(1)
    error = 100 * math.sqrt(0.05 * 0.95 / trials)
    print(f"{trials} trials, standard error {error:.1f} %")
    print(f"{'5 + 5 runs':<34} {'Welch':>8} {'shown':>8} {'bootstrap':>10}")
    for name, draw in NOISES.items():
        for scale in (1.0, 2.0):
            held = shown = boot = 0
            for _ in range(trials):
                a, b = draw(rng, 5), draw(rng, 5) * scale
                c = evidence.claim(a.tolist(), b.tolist())
                assert c.low is not None
                assert c.high is not None
                held += c.low <= 0.0 <= c.high
                shown += c.shown
                means = [x[rng.integers(0, 5, (400, 5))].mean(1) for x in (b, a)]
                low, high = np.quantile(means[0] - means[1], (0.025, 0.975))
                boot += low <= 0.0 <= high
            label = name.split(":")[0] if scale == 1.0 else "  and a champion twice as noisy"
            shares = f"{held / trials:8.3f} {shown / trials:8.3f} {boot / trials:10.3f}"
            print(f"{(name if scale == 1.0 else label):<34} {shares}", flush=True)


# -- Time, and reality -----------------------------------------------------------------------------


def seconds(runs: int = 200) -> list[float]:
    """CPU seconds of each run's observe and the wants that follows it, sorted."""
    nature, spent, done = Nature(WORLDS["mid"], 3), [], 0
    state, _ = rules.observe(rules.start(), rules.AttemptFact(0, None, "0"))
    while done < runs:
        want = rules.wants(state)[0]
        if isinstance(want, rules.Propose):
            n = len(nature.arms)
            nature.grow(n, want.parent, nature.idea())
            state, _ = rules.observe(state, rules.AttemptFact(n, want.parent, str(n)))
        elif isinstance(want, rules.Control):
            state, _ = rules.observe(state, rules.ControlFact(want.attempt, want.kind, passed=True))
        else:
            done += 1
            score = nature.run(want.attempt)
            began = time.thread_time()
            state, _ = rules.observe(state, rules.RunFact(done, want.attempt, "ok", score, done))
            rules.wants(state)
            spent.append(time.thread_time() - began)
    return sorted(spent)


def clock() -> None:
    """Decision time per call."""
    spent = [1000 * s for s in seconds()]
    print(f"a run observed and the next asked for, {len(spent)} runs, CPU ms")
    median, high = spent[len(spent) // 2], spent[int(0.99 * len(spent))]
    print(f"median {median:.2f}, 99 % {high:.2f}, worst {spent[-1]:.2f}")


def noise(path: Path) -> None:
    """Real runs in, the real world out.

    `path`: a JSON list of {"file", "seed", "avg_return", "std_return", "episodes"}; runs of two
    files on the same seeds.
    """
    rows = json.loads(path.read_text())
    rows = [r for r in rows if r.get("where", "slots") == "slots"]  # slots.py has runs alone, too
    scored = [r for r in rows if r["avg_return"] is not None]
    files = sorted({r["file"] for r in rows})
    arms = {f: {r["seed"]: r["avg_return"] for r in scored if r["file"] == f} for f in files}
    scores = [list(arm.values()) for arm in arms.values()]
    pooled = run_statistics.spread(scores)
    if pooled is None:
        raise SystemExit("two runs of one file are the least to measure a spread from")
    standard: list[float] = []
    for a in scores:
        if len(a) > 2:
            mean, sd = evidence.mean(a), math.sqrt(evidence.variance(a))
            standard += ((x - mean) / sd for x in a)
    skew, pair = run_statistics.skewness(standard), None
    if len(files) > 1:
        shared = sorted(set.intersection(*(set(a) for a in arms.values())))
        pair = run_statistics.seed_correlation(*([arms[f][s] for s in shared] for f in files[:2]))
    spreads = [r["std_return"] for r in scored]
    share = run_statistics.evaluation_share(spreads, rows[0]["episodes"], pooled.s)
    found = {
        "s": pooled.s,
        "s_stderr": pooled.stderr,
        "df": pooled.df,
        "skewness": skew[0] if skew else 0.0,
        "skewness_stderr": skew[1] if skew else None,
        "seed_correlation": pair[0] if pair else None,
        "seed_correlation_interval": list(pair[1:]) if pair else None,
        "evaluation_share": share,
        "runs": {f: len(arms[f]) for f in files},
        "crashes": len(rows) - len(scored),
        "means": {f: evidence.mean(a) for f, a in zip(files, scores, strict=True) if a},
    }
    NOISE.parent.mkdir(parents=True, exist_ok=True)
    NOISE.write_text(json.dumps(found, indent=1))
    for key, value in found.items():
        print(f"{key:<28} {value}")


def main() -> None:
    listed = {"table": table, "places": places, "null": null}
    counted = {"power": (power, 2000), "coverage": (coverage, 20000)}
    whole = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=whole)
    choices = [*listed, *counted, "time", "noise"]
    parser.add_argument("what", nargs="?", default="table", choices=choices)
    more = "how many sessions or trials; names of worlds; noise: the runs' JSON"
    parser.add_argument("more", nargs="*", help=more)
    given = parser.parse_args()
    number = int(given.more.pop(0)) if given.more and given.more[0].isdigit() else 0
    if given.what == "noise":
        if len(given.more) != 1 or not Path(given.more[0]).is_file():
            usage = "decision.py noise results/benchmarks/slots.json"
            parser.error(f"noise needs the runs' file: {usage}")
        noise(Path(given.more[0]))
    elif given.what == "time":
        clock()
    elif given.what in listed:
        worlds = NULLS if given.what == "null" else WORLDS
        if unknown := set(given.more) - set(worlds):
            there = f"there are {', '.join(worlds)}"
            parser.error(f"no such world: {', '.join(sorted(unknown))}; {there}")
        listed[given.what](number or 300, given.more)
    else:
        act, usual = counted[given.what]
        act(number or usual)


if __name__ == "__main__":
    main()
