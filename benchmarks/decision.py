"""Research nights, simulated, through the shipped decision room: what each rigor gains, and how often it fools itself.

    uv run python benchmarks/decision.py table [NIGHTS] [WORLD ...]   true gain after 40 and 100 runs, by rule and world
    uv run python benchmarks/decision.py places [NIGHTS]    the same for 1, 2, 4 and 8 candidates side by side
    uv run python benchmarks/decision.py stress [NIGHTS]    worlds that the rule was not made for
    uv run python benchmarks/decision.py null [NIGHTS]      nights without one good idea: how often a claim says "shown"
    uv run python benchmarks/decision.py planted [NIGHTS]   one good idea among nulls: how often it is found, after how many runs
    uv run python benchmarks/decision.py coverage [TRIALS]  of the claim's interval, 5 + 5 runs
    uv run python benchmarks/decision.py time               CPU time per call, at 200 runs
    uv run python benchmarks/decision.py noise RUNS.json    s, skewness, seed correlation of real runs -> results/benchmarks/noise.json

Unit: s, one run's standard deviation at fixed code. A night's gain is the champion's true mean less the baseline's; the
anchor checks' runs are paid out of the same budget, the claim's 5 + 5 are not. What it does not do: train anything.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import Pool
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "benchmarks")]

import run_statistics
from simulation import (
    BUDGETS,
    NOISE,
    RULES,
    STRESS,
    WORLDS,
    Nature,
    Night,
    World,
    real_world,
    simulate,
)

from autorl.confirm import stats
from autorl.decision import (
    AttemptFact,
    Control,
    ControlFact,
    Propose,
    Rules,
    RunFact,
    State,
    champion,
    observe,
    start,
    wants,
)

# ---------------------------------------------------------------------------
# Gains
# ---------------------------------------------------------------------------


def _row(name: str, nights: list[Night]) -> str:
    a, b = (np.array([n.gain[k] for n in nights]) for k in BUDGETS)
    keeps, bad = sum(n.keeps for n in nights), sum(n.bad for n in nights)
    se = b.std() / math.sqrt(len(b))
    return (
        f"{name:<40} {a.mean():6.2f} ±{a.std() / math.sqrt(len(a)):.2f} {b.mean():6.2f} ±{se:.2f}   "
        f"{100 * (a < -1e-9).mean():5.1f} % {100 * (b < -1e-9).mean():5.1f} %  {keeps / len(nights):5.1f} {100 * bad / max(1, keeps):4.0f} % "
        f"{np.mean([n.undone for n in nights]):5.1f} {np.mean([n.ideas for n in nights]):5.0f}  {np.mean([n.ledger - n.gain[BUDGETS[1]] for n in nights]):6.2f}"
    )


HEAD = f"{'rule':<40} {'gain 40':>12} {'gain 100':>12}   {'below 40':>7} {'below':>6}  {'keeps':>6} {'null+':>5} {'undone':>6} {'ideas':>5}  {'overclaim':>6}"


def table(nights: int, only: Sequence[str] = ()) -> None:
    """Every rule in every world, or in those named."""
    worlds = dict(WORLDS)
    if (real := real_world()) is not None:
        worlds["real"] = real
    worlds = {name: world for name, world in worlds.items() if not only or name in only}
    with Pool(2) as pool:
        for world_name, world in worlds.items():
            print(
                f"\n-- {world_name}: {nights} nights, gains in s; null+: keeps that gained nothing\n{HEAD}"
            )
            for name, rules in RULES.items():
                print(_row(name, simulate(pool, world, rules, nights)), flush=True)


def stress(nights: int) -> None:
    """The shipped rule, and the one it replaced, where their assumptions fail."""
    with Pool(2) as pool:
        print(HEAD)
        for name, world in STRESS.items():
            for rule in ("anchored adaptive", "standard"):
                print(
                    _row(f"{name}: {rule}", simulate(pool, world, RULES[rule], nights)), flush=True
                )


def places(nights: int) -> None:
    """Candidates side by side: a keep makes the others start again on top of it."""
    with Pool(2) as pool:
        print(
            f"{'world, rule':<40} {'places':>6} {'gain 100':>12} {'below':>7} {'ideas':>6} {'rounds':>6}"
        )
        for world_name in ("base", "late"):
            for rule in ("anchored adaptive", "standard"):
                for k in (1, 2, 4, 8):
                    done = simulate(pool, WORLDS[world_name], RULES[rule], nights, places=k)
                    g = np.array([n.gain[100] for n in done])
                    ideas, rounds = (
                        np.mean([n.ideas for n in done]),
                        np.mean([n.rounds for n in done]),
                    )
                    print(
                        f"{world_name + ', ' + rule:<40} {k:>6} {g.mean():6.2f} ±{g.std() / math.sqrt(len(g)):.2f} {100 * (g < -1e-9).mean():5.1f} % {ideas:6.0f} {rounds:6.0f}",
                        flush=True,
                    )


# ---------------------------------------------------------------------------
# The claim
# ---------------------------------------------------------------------------

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


def null(nights: int) -> None:
    """Nights in which no idea changes anything, then the claim on 5 + 5 fresh runs."""
    print(
        f"{'noise':<20} {'nights':>7} {'claims':>7} {'shown':>6} {'rate':>8}   95 % interval of the rate"
    )
    for noise in ("normal", "skew"):
        world = World(good=0.0, harmful=0.0, noise=noise)
        shown = claims = 0
        with Pool(2) as pool:
            done = simulate(pool, world, Rules(), nights, budgets=(100,))
        rng = np.random.default_rng(11)
        for n in done:
            if n.keeps > 0:
                claims += 1
                nature = Nature(world, rng)
                shown += stats.claim(
                    [nature.run(0.0) for _ in range(5)], [nature.run(0.0) for _ in range(5)]
                ).shown
        low, high = run_statistics.wilson(shown, len(done))
        print(
            f"{noise:<20} {len(done):>7} {claims:>7} {shown:>6} {100 * shown / len(done):6.2f} %   {100 * low:.2f} to {100 * high:.2f} %",
            flush=True,
        )


def planted(nights: int) -> None:
    """Nine nulls, then a gain; then nulls to the end of 40 runs. Its own runs, and whether the champion has it."""
    print(
        f"{'gain':>6} {'rule':<20} {'nights':>7} {'kept at once':>13} {'its runs':>9} {'in the champion':>16} {'nulls kept':>11}"
    )
    for gain in (0.5, 1.0, 2.0, 4.0):
        for rule in (
            "bold: one run against the mean",
            "SPRT .05 (strict)",
            "anchored adaptive",
            "standard",
        ):
            kept = runs = found = nulls = 0
            for k in range(nights):
                nature, truth = Nature(World(), np.random.default_rng(1000 + k)), {0: 0.0}
                state = observe(start(RULES[rule] or Rules()), AttemptFact(0, None, "0", 1000))[0]
                done = 0
                while done < 40:
                    want = wants(state)[0]
                    if isinstance(want, Propose):
                        n = len(truth)
                        truth[n] = truth[want.parent] + (gain if n == 10 else 0.0)
                        state, verdicts = observe(state, AttemptFact(n, want.parent, str(n), 1000))
                    elif isinstance(want, Control):
                        state, verdicts = observe(
                            state, ControlFact(want.attempt, want.kind, passed=True)
                        )
                    else:
                        done += 1
                        state, verdicts = observe(
                            state,
                            RunFact(
                                done, want.attempt, "ok", nature.run(truth[want.attempt]), done
                            ),
                        )
                    for v in verdicts:
                        kept += v.outcome == "keep" and v.attempt == 10
                        nulls += v.outcome == "keep" and v.attempt != 10
                        runs += v.n if v.attempt == 10 and v.outcome in ("keep", "discard") else 0
                found += truth[champion(state)] >= gain
            print(
                f"{gain:>4} s {rule:<20.20} {nights:>7} {kept / nights:13.2f} {runs / nights:9.1f} {found / nights:16.2f} {nulls / nights:11.1f}",
                flush=True,
            )


def coverage(trials: int) -> None:
    """How often the interval holds the true gain (0), against a percentile bootstrap of the mean difference."""
    rng = np.random.default_rng(1)
    print(
        f"{'5 + 5 runs':<34} {'Welch':>8} {'shown':>8} {'bootstrap':>10}   (trials {trials}, standard error {100 * math.sqrt(0.05 * 0.95 / trials):.1f} %)"
    )
    for name, draw in NOISES.items():
        for scale in (1.0, 2.0):
            held = shown = boot = 0
            for _ in range(trials):
                a, b = draw(rng, 5), draw(rng, 5) * scale
                c = stats.claim(a.tolist(), b.tolist())
                assert c.low is not None and c.high is not None
                held += c.low <= 0.0 <= c.high
                shown += c.shown
                again = b[rng.integers(0, 5, (400, 5))].mean(1) - a[
                    rng.integers(0, 5, (400, 5))
                ].mean(1)
                low, high = np.quantile(again, (0.025, 0.975))
                boot += low <= 0.0 <= high
            label = name.split(":")[0] if scale == 1.0 else "  and a champion twice as noisy"
            print(
                f"{(name if scale == 1.0 else label):<34} {held / trials:8.3f} {shown / trials:8.3f} {boot / trials:10.3f}",
                flush=True,
            )


# ---------------------------------------------------------------------------
# Time, and reality
# ---------------------------------------------------------------------------


def seconds(rigor: str, runs: int = 200) -> list[float]:
    """CPU seconds of each of the last fifty runs' observe and the wants that follows it, sorted."""
    nature, truth, spent = Nature(WORLDS["mid"], np.random.default_rng(3)), {0: 0.0}, []
    state: State = observe(start(Rules(rigor=rigor)), AttemptFact(0, None, "0", 1000))[0]  # type: ignore[arg-type]
    done = 0
    while done < runs:
        want = wants(state)[0]
        if isinstance(want, Propose):
            n = len(truth)
            truth[n] = truth[want.parent] + nature.idea()
            state, _ = observe(state, AttemptFact(n, want.parent, str(n), 1000))
        elif isinstance(want, Control):
            state, _ = observe(state, ControlFact(want.attempt, want.kind, passed=True))
        else:
            done += 1
            score = nature.run(truth[want.attempt])
            began = time.thread_time()
            state, _ = observe(state, RunFact(done, want.attempt, "ok", score, done))
            wants(state)
            spent.append(time.thread_time() - began)
    return sorted(spent[-50:])


def clock() -> None:
    """Decision time per call."""
    print(
        f"{'rigor':<12} {'median ms':>10} {'worst ms':>10}   (a run observed and the next asked for, the last 50 of 200 runs)"
    )
    for rigor in ("bold", "strict", "anchored", "standard"):
        spent = seconds(rigor)
        print(f"{rigor:<12} {1000 * spent[25]:10.3f} {1000 * spent[-1]:10.3f}", flush=True)


def noise(path: Path) -> None:
    """Real runs in, the real world out.

    `path`: a JSON list of {"file", "seed", "avg_return", "std_return", "episodes"}; runs of two files on the same seeds.
    """
    rows = [
        r for r in json.loads(path.read_text()) if r.get("where", "slots") == "slots"
    ]  # benchmarks/slots.py also has runs alone
    files = sorted({r["file"] for r in rows})
    arms = {
        f: {r["seed"]: r for r in rows if r["file"] == f and r["avg_return"] is not None}
        for f in files
    }
    scores = [[r["avg_return"] for r in arm.values()] for arm in arms.values()]
    pooled = run_statistics.spread(scores)
    if pooled is None:
        raise SystemExit("two runs of one file are the least to measure a spread from")
    standard = [
        (x - stats.mean(a)) / math.sqrt(stats.variance(a)) for a in scores if len(a) > 2 for x in a
    ]
    skew = run_statistics.skewness(standard)
    shared = sorted(set.intersection(*(set(a) for a in arms.values()))) if len(files) > 1 else []
    pair = (
        run_statistics.seed_correlation(
            *([arms[f][s]["avg_return"] for s in shared] for f in files[:2])
        )
        if len(files) > 1
        else None
    )
    share = run_statistics.evaluation_share(
        [r["std_return"] for r in rows if r["avg_return"] is not None],
        rows[0]["episodes"],
        pooled.s,
    )
    found = {
        "s": pooled.s, "s_stderr": pooled.stderr, "df": pooled.df,
        "skewness": skew[0] if skew else 0.0, "skewness_stderr": skew[1] if skew else None,
        "seed_correlation": pair[0] if pair else None, "seed_correlation_interval": list(pair[1:]) if pair else None,
        "evaluation_share": share, "runs": {f: len(arms[f]) for f in files},
        "crashes": sum(r["avg_return"] is None for r in rows), "means": {f: stats.mean(a) for f, a in zip(files, scores, strict=True) if a},
    }  # fmt: skip
    NOISE.parent.mkdir(parents=True, exist_ok=True)
    NOISE.write_text(json.dumps(found, indent=1))
    for key, value in found.items():
        print(f"{key:<28} {value}")


def main() -> None:
    acts: dict[str, tuple[Callable[[int], None], int]] = {
        "places": (places, 400),
        "stress": (stress, 400),
        "null": (null, 2000),
        "planted": (planted, 300),
        "coverage": (coverage, 20000),
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", default="table", choices=["table", *acts, "time", "noise"]
    )
    parser.add_argument(
        "more",
        nargs="*",
        help="how many nights or trials; table: also names of worlds; noise: the runs' JSON",
    )
    given = parser.parse_args()
    number = int(given.more.pop(0)) if given.more and given.more[0].isdigit() else 0
    if 0 < number < 20:
        parser.error("20 nights are the least")
    if given.what == "noise":
        if len(given.more) != 1 or not Path(given.more[0]).is_file():
            parser.error(
                "noise needs the runs' file: decision.py noise results/benchmarks/slots.json"
            )
        noise(Path(given.more[0]))
    elif given.what == "time":
        clock()
    elif given.what == "table":
        table(number or 1000, given.more)
    else:
        act, usual = acts[given.what]
        act(number or usual)


if __name__ == "__main__":
    main()
