"""The claim at the end of a session: which fresh-seed runs are still owed, and what they amount to.
Pure.

Baseline and champion are measured in turn on training seeds that no decision has used
(CONFIRM_SEEDS on); the judge draws fresh evaluation seeds for each run anyway. What it does not do:
start a run, or the statistics (stats.py).
"""

from typing import Any

from autorl.confirm import stats
from autorl.records import to_json
from autorl.session import Run, SessionState


def arms(state: SessionState, champion: int) -> dict[int, list[Run]]:
    """The confirmation's runs of the baseline (0) and the champion, on this hardware, so far."""
    runs: dict[int, list[Run]] = {0: [], champion: []}
    for run in state.runs.values():
        ours = run.purpose == f"confirm {state.claims}" and run.attempt in runs
        if ours and run.epoch == state.epoch and (run.record is None or run.counted):
            runs[run.attempt].append(run)
    return runs


def next_arm(runs: dict[int, list[Run]], want: int) -> int | None:
    """The arm that needs a run next: whichever has fewer; None when both are full."""
    n = min(runs, key=lambda a: (len(runs[a]), a))
    return n if len(runs[n]) < want else None


def make_claim(state: SessionState, champion: int, runs: dict[int, list[Run]]) -> dict[str, Any]:
    """The statistics, every seed, every return, what was repeated, versions and hardware."""
    base, champ, claims = runs[0], runs[champion], state.claims
    repeated = [
        r
        for r in state.runs.values()
        if r.purpose == f"confirm {claims}" and r.record is not None and r not in base + champ
    ]
    settings = state.about.settings

    def score(run: Run) -> float | None:
        return run.record.avg_return if run.record and run.record.scored else None

    def listed(arm: str, run: Run) -> dict[str, Any]:
        record = run.record
        assert record is not None
        return {
            "arm": arm,
            "run": run.run,
            "seed": run.seed,
            "avg_return": score(run),
            "status": record.status,
            "reason": record.reason,
            "isolation": record.isolation,
            "eval_seeds": list(record.eval_seeds),
            "returns": list(record.returns),
        }

    figures = to_json(stats.claim([score(r) for r in base], [score(r) for r in champ]))
    if repeated:
        figures["sentence"] += (
            f" {len(repeated)} {'run was' if len(repeated) == 1 else 'runs were'} repeated, and "
            f"{'is' if len(repeated) == 1 else 'are'} listed{_with(repeated, base, champ)}."
        )
    if claims:
        figures["sentence"] += f" It is claim number {claims + 1} of this session."
    return {
        "champion": champion,
        "title": state.attempts[champion].title,
        "commits": {
            "baseline": state.attempts[0].commit,
            "champion": state.attempts[champion].commit,
        },
        "env_id": settings["env_id"],
        "time_budget": settings["time_budget"],
        "num_eval_episodes": settings["num_eval_episodes"],
        "claim": figures,
        "earlier_claims": claims,
        "runs": [listed("baseline", r) for r in base] + [listed("champion", r) for r in champ],
        "repeated": [
            listed("baseline" if r.attempt == 0 else "champion", r) | {"steady": r.steady}
            for r in repeated
        ],
        "versions": next((r.record.versions for r in champ if r.record), {}),
        "hardware": "; ".join(sorted({_machine(r) for r in base + champ if r.record}))
        or state.hardware,
    }


def _with(repeated: list[Run], base: list[Run], champ: list[Run]) -> str:
    """What the repeated runs that have scores would change; a crash has none and changes more."""
    said = []
    for arm in (base, champ):
        n = arm[0].attempt if arm else 0
        again = [r for r in repeated if r.attempt == n]
        scores = [
            [r.record.avg_return for r in runs if r.record and r.record.avg_return is not None]
            for runs in (arm, arm + again)
        ]
        if len(scores[1]) > len(scores[0]) > 0:
            without, both = map(stats.mean, scores)
            name = f"experiment {n}" if n else "the baseline"
            said.append(f"{name}'s mean is {without:.6g} without and {both:.6g} with them")
    return "".join(f"; {part}" for part in said)


def _machine(run: Run) -> str:
    """What a run ran on, in words."""
    record = run.record
    assert record is not None
    return ", ".join(
        part
        for part in (record.hardware, f"{record.cores} cores" if record.cores else "", record.gpu)
        if part
    )
