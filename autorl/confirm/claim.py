"""The claim at the end of a session: which fresh-seed runs are still owed, and what they amount to.
Pure.

Baseline and champion are measured in turn on training seeds that no decision has used
(CONFIRM_SEEDS on); the judge draws fresh evaluation seeds for each run anyway. All looks at one
pair rest on the same runs and more. What it does not do: start a run, or the statistics (stats.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autorl import decision
from autorl.confirm import stats
from autorl.environments import plausible_maximum
from autorl.records import score_text, to_json
from autorl.session import Run, SessionState

ARMS = "baseline", "champion"
OWN_SPREAD = 3  # runs in the session from which a file's own spread counts, else the learnt one


def purpose(champion: int) -> str:
    """What the runs of this pair are for, in the log."""
    return f"confirm experiment {champion}"


def arms(state: SessionState, champion: int) -> dict[int, list[Run]]:
    """The confirmation's runs of the baseline (0) and the champion, on this hardware, so far."""
    runs: dict[int, list[Run]] = {0: [], champion: []}
    for run in state.runs.values():
        ours = run.purpose == purpose(champion) and run.attempt in runs
        if ours and run.epoch == state.epoch and (run.record is None or run.counted):
            runs[run.attempt].append(run)
    return runs


def owed(state: SessionState, champion: int, want: int) -> dict[int, int]:
    """Runs of either arm that this look still needs, of `want` that no look before it has seen."""
    seen = {run["run"] for look in state.looks_at(champion) for run in look.get("runs", ())}
    new = {n: [r for r in runs if r.run not in seen] for n, runs in arms(state, champion).items()}
    return {n: max(0, want - len(runs)) for n, runs in new.items()}


def least_variance(known: decision.State, n: int) -> float:
    """The variance of a run of attempt `n` as the session measured it, else as it was learnt.

    0 where nothing scatters.
    """
    scores = known.arms[n].scores
    found = stats.variance(scores) if len(scores) >= OWN_SPREAD else (known.sd or 0.0) ** 2
    still = 1e-6 * max(1.0, *(abs(score) for score in scores))  # as a posterior has it
    return found if found > still**2 else 0.0


def make_claim(state: SessionState, known: decision.State, champion: int) -> dict[str, Any]:
    """The statistics, every seed, every return, what was repeated, versions and hardware."""
    runs, settings = arms(state, champion), state.about.settings
    base, champ, before = runs[0], runs[champion], state.looks_at(champion)
    found = stats.claim(
        _scores(base),
        _scores(champ),
        floors=(least_variance(known, 0), least_variance(known, champion)),
        look=len(before) + 1,
        looks=settings.get("confirm_looks", 2),
        most=plausible_maximum(settings["env_id"], settings.get("env_kwargs")),
    )
    again = [r for r in state.runs.values() if r.purpose == purpose(champion) and r.record]
    again = [r for r in again if r not in base + champ]
    sentence = found.sentence
    for who, (n, arm) in zip(ARMS, runs.items(), strict=True):
        sentence += _humps(who, [*known.arms[n].scores, *_scored(arm)], found.sd)
    sentence += _repeated(again, runs, found.sd) if again else ""
    sentence += _follows(found, champion, known.incumbent, state) + _looks(found, before)
    claims = len({c["champion"] for c in state.claims} | {champion})
    return {
        "champion": champion,
        "title": state.attempts[champion].title,
        "commits": {a: state.attempts[n].commit for a, n in zip(ARMS, runs, strict=True)},
        "env_id": settings["env_id"],
        "time_budget": settings["time_budget"],
        "num_eval_episodes": settings["num_eval_episodes"],
        "env_kwargs": settings.get("env_kwargs", {}),
        "budget_steps": settings.get("budget_steps", 0),
        "claim": to_json(replace(found, sentence=f"{sentence} Claims of this session: {claims}.")),
        "back": _back(found, champion) if found.behind else "",
        "claims": claims,
        "runs": to_json([_listed(run) for run in base + champ]),
        "repeated": to_json([_listed(run) | {"steady": run.steady} for run in again]),
        "versions": next((r.record.versions for r in champ if r.record), {}),
        "hardware": "; ".join(sorted({_machine(r) for r in base + champ if r.record}))
        or state.hardware,
    }


# -- words -----------------------------------------------------------------------------------------


def _follows(found: stats.Claim, champion: int, tip: int, state: SessionState) -> str:
    """What becomes of the champion; the branch stands at experiment `tip`."""
    then = "stays on the branch, kept for now and not shown."
    if found.behind:
        there = f"refs/autorl/{state.about.tag}/{champion}"
        then = f"stays at {there}; the branch goes back to the baseline."
    elif found.shown or any(look["claim"]["shown"] for look in state.looks_at(champion)):
        then = "stays on the branch, and the note on its commit says what was shown."
    elif found.open:
        then = "stays on the branch; as many runs again of each follow."
    if tip != champion and not found.behind:
        then += f" The branch stands at experiment {tip}, built on it."
    return f" The champion, experiment {champion}, {then}"


def _back(found: stats.Claim, champion: int) -> str:
    """Why the branch goes back to the baseline."""
    less = "no run of it was scored"
    if found.gain is not None:
        less = f"it scored {score_text(-found.gain, found.sd)} less than the baseline on fresh runs"
    return f"The claim did not show experiment {champion} to be a gain ({less})"


def _looks(found: stats.Claim, before: Sequence[Mapping[str, Any]]) -> str:
    """Which look it is, of how many, and what the earlier ones said."""
    words = ("shown" if look["claim"]["shown"] else "not shown" for look in before)
    said = "; ".join(f"look {n}: {word}" for n, word in enumerate(words, 1))
    late = found.look > found.looks
    which = "at this pair, too late to show a gain" if late else f"of {found.looks} at this pair"
    return f" Look {found.look} {which}{f' ({said})' if said else ''}."


def _humps(who: str, scores: Sequence[float], sd: float | None) -> str:
    """The rate at which a file takes off, of all its runs in the session."""
    if (two := stats.humps(scores)) is None:
        return ""
    count, high, low = two
    levels = f"about {score_text(high, sd)}, the others about {score_text(low, sd)}"
    return f" {count} of {len(scores)} runs of the {who} in this session took off ({levels})."


def _repeated(again: Sequence[Run], runs: Mapping[int, Sequence[Run]], sd: float | None) -> str:
    """How many runs do not count, and the means with them."""
    means = []
    for n, arm in runs.items():
        if extra := _scored([r for r in again if r.attempt == n]):
            without = _scored(arm)
            both = (score_text(stats.mean(x), sd) for x in ([*without, *extra], without) if x)
            who = "champion" if n else "baseline"
            means.append(f"the mean of the {who} is {' with them, without '.join(both)}")
    told = f"; {', '.join(means)}" if means else ""
    return f" Runs repeated, which are listed and do not count: {len(again)}{told}."


# -- runs ------------------------------------------------------------------------------------------


def _scores(runs: Sequence[Run]) -> list[float | None]:
    return [r.record.avg_return if r.record and r.record.scored else None for r in runs]


def _scored(runs: Sequence[Run]) -> list[float]:
    return [score for score in _scores(runs) if score is not None]


def _listed(run: Run) -> dict[str, Any]:
    record, (score,) = run.record, _scores([run])
    told = ("status", "reason", "isolation", "eval_seeds", "returns")
    arm = "champion" if run.attempt else "baseline"
    known = {"arm": arm, "run": run.run, "seed": run.seed, "avg_return": score}
    return known | {name: getattr(record, name) for name in told}


def _machine(run: Run) -> str:
    """What a run ran on, in words."""
    record = run.record
    assert record is not None
    cores = f"{record.cores} cores" if record.cores else ""
    return ", ".join(part for part in (record.hardware, cores, record.gpu) if part)
