"""A made-up session on the disk, journal and run folders, as large as a test wants it."""

import math
import random
from pathlib import Path

from autorl.records import MachineShare, RunRecord, Verdict
from autorl.session import Settings
from autorl.session import events as e
from autorl.session.event_log import encode

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = (PROJECT / "train.py").read_text(encoding="utf-8")
COLUMNS = "episode_return,episode_length,approx_kl,clipfrac,explained_variance,entropy,sps"
BUDGET = 720.0
EVIL = "<script>fetch('http://evil.example/')</script><img src=x onerror=alert(1)>"
EVIL += "\x1b[31m\u202e\x07"
TITLES = (
    "a wider critic with layer normalisation",
    "GAE lambda 0.9 for a shorter horizon",
    "twice the environments, half the steps",
    "anneal the entropy bonus to zero",
)


def curve(rng: random.Random, top: float, rows: int) -> str:
    """A metrics.csv that learns towards `top`."""
    lines = [f"seconds,step,{COLUMNS}"]
    for i in range(rows):
        share = (i + 1) / rows
        mean = top * (1 - math.exp(-4 * share)) + rng.gauss(0, 0.06 * abs(top))
        noise = [rng.random() for _ in range(6)]
        cells = (share * BUDGET * 0.99, int(4e6 * share), mean, *noise)
        lines.append(",".join(f"{v:.9g}" for v in cells))
    return "\n".join(lines) + "\n"


def make_session(
    root: Path, experiments: int, rows: int = 300, seed: int = 0, evil: bool = False
) -> Path:
    """Write a session of so many experiments under root/results; returns its folder.

    Args:
        rows: of each metrics.csv.
        evil: every text that a run or a researcher can choose is hostile.
    """
    rng, tag = random.Random(seed), "made"
    folder = root / "results" / "Walker2d-v5" / tag
    settings = Settings("Walker2d-v5", BUDGET, 100)
    fields = {name: getattr(settings, name) for name in Settings.__dataclass_fields__}
    events: list[e.Event] = [
        e.Created(env_id="Walker2d-v5", tag=tag, settings=fields, root_seed=1, base="b" * 40,
                  baseline=e.Baseline(SOURCE, "k0"), harness="h" * 16, hardware="2 cores",
                  autorl="0.2.0", rules=2, versions={"torch": "2.15.0"}),
    ]  # fmt: skip
    best, mean, run, source = 0, 1500.0, 0, SOURCE
    for n in range(experiments):
        words = EVIL if evil else f"{TITLES[n % 4]} ({n})"
        change = f"LEARNING_RATE = {rng.random():.6f}  # experiment {n}\nCLIP_COEF = {n}\n"
        text = source + change if n else source
        events.append(e.Attempted(n=n, parent=best if n else None, source=text, title=words,
                                  key=f"k{n}", hypothesis=f"{words}: the critic lags behind, so "
                                  "advantages are mostly noise.", proposer="claude"))  # fmt: skip
        events.append(e.Pinned(n=n, commit=f"{n + 1:040x}"))
        kind = "baseline" if n == 0 else rng.choices(("keep", "discard", "crash"), (1, 6, 1))[0]
        score = mean + rng.gauss(120, 40) if kind == "keep" else mean + rng.gauss(-250, 200)
        runs = 0 if kind == "crash" else 1 if n else 4
        scores = [score + rng.gauss(0, 90) for _ in range(runs)]
        for value in scores or [None]:
            run += 1
            where = folder / "runs" / str(n) / str(run)
            where.mkdir(parents=True)
            (where / "metrics.csv").write_text(curve(rng, value or 300.0, rows))
            events.append(e.RunStarted(run=run, attempt=n, purpose="candidate", kind="measure",
                                       seed_index=run, seed=run, epoch=0,
                                       folder=str(where.relative_to(root))))  # fmt: skip
            log = f'  File "train.py", line {SOURCE[: SOURCE.index("def main")].count(chr(10)) + 1}'
            record = RunRecord(
                "ok" if value is not None else "crash", avg_return=value, std_return=80.0,
                reason="" if value is not None else f"ValueError: {words}", total_seconds=734.0,
                rule="" if value is not None else "exit", isolation="bwrap",
                log_tail=f"Traceback\n{log}, in main\nValueError: {words}\n",
                machine=MachineShare(cpu_share=0.97), versions={"torch": "2.15.0"},
            )  # fmt: skip
            unsteady = rng.random() < 0.05 and value is not None
            events.append(e.RunEnded(run=run, record=record, steady=not unsteady,
                                   why="it got 50 % of its cores" if unsteady else ""))  # fmt: skip
        reason = f"Run {run} scored {score:,.0f}, the incumbent is believed to score {mean:,.0f}."
        beaten = best if n else None
        events.append(e.Decided(verdict=Verdict(n, kind, reason, beaten, len(scores), score, mean)))
        if kind in ("baseline", "keep"):
            best, mean, source = n, max(mean, score), text
            events.append(e.BranchMoved(commit=f"{n + 1:040x}"))
            events.append(e.ControlEnded(run=run, attempt=n, kind="zero_budget", passed=True,
                                         reason="untrained, it scores as nothing"))  # fmt: skip
    title = EVIL if evil else "the same again"
    events.append(e.Refused(title=title, reason="No change.", proposer="x"))
    if best:
        sentence = f"Shown: {EVIL if evil else 'the champion'} is 412.0 better (95 %: 210 to 610)."
        claim = {"gain": 412.0, "low": 210.0, "high": 610.0, "confidence": 0.95, "shown": True}
        claim |= {"sentence": sentence, "runs": 5, "runs0": 5, "mean": mean, "mean0": 1500.0}
        told = {"champion": best, "claim": claim, "runs": [], "commits": {}}
        events.append(e.Claimed(claim=told))
    lines = [encode(type(event)(**{**_fields(event), "seq": i})) for i, event in enumerate(events)]
    (folder / "journal.jsonl").write_bytes(b"".join(lines))
    return folder


def _fields(event: e.Event) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__struct_fields__}
