"""Thirty experiments over four places whose results come late, in any order, twice, or never.

    uv run python tests/faults/unreliable.py [SEED]     # prints the table

The session is stopped and resumed once. The loop, git, journal and decisions are real; the runs are
scripted children. Between them and the loop stands a runner that holds results back, hands one
run's result out again as another's, and loses some. What it does not do: kill the loop
(tests/faults/sweep.py).
"""

import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]

from ground import ENV_ID, EPISODES, Site  # noqa: E402

from autorl.loop import Loop  # noqa: E402
from autorl.proposers.replay import Replay  # noqa: E402
from autorl.records import Job, Progress, RunRecord  # noqa: E402
from autorl.runners.base import Runs  # noqa: E402
from autorl.runners.scripted import ScriptedRunner, read_script, scores  # noqa: E402
from autorl.session import Bounds, Settings, open_session  # noqa: E402

PLACES, EXPERIMENTS = 4, 30
BASELINE = (
    'SCRIPT = {\n    "return": 10.0,\n    "noise": 1.0,\n    "seconds": 0.1,\n    "end": "ok",\n}\n'
    + "".join(f"K{k} = 0\n" for k in range(EXPERIMENTS))
)


def ideas() -> list[dict]:
    """No-ops that fit whatever was kept; every sixth a gain, all on one line; two crash."""
    rows = []
    for k in range(EXPERIMENTS):
        search, replace = f"K{k} = 0", f"K{k} = 1"
        if k % 6 == 4:
            # of these, what is not kept first no longer fits
            search, replace = '"return": 10.0', f'"return": {15.0 + k}'
        elif k in (7, 19):
            search, replace = '"end": "ok"', '"end": "raise"'
        rows.append({"title": f"idea {k}", "edits": [{"search": search, "replace": replace}]})
    return rows


class Unreliable(Runs):
    """A interfaces.Runner: a scripted one behind a bad post office."""

    name = "scripted"
    invents_scores = True

    def __init__(self, seed: int):
        super().__init__(PLACES)
        self.inner, self.rng = ScriptedRunner(PLACES), random.Random(seed)
        self.order: list[str] = []  # as started
        self.held: dict[str, tuple[RunRecord, float]] = {}  # done, but still in the post until then
        self.delivered: list[RunRecord] = []
        self.faults: Counter[str] = Counter()
        self.fates: list[str] = []  # of the next results
        self.arrivals: list[int] = []  # places in `order`, as delivered

    def start(self, job: Job, folder: Path) -> str:
        handle = self.inner.start(job, folder)
        self.order.append(handle)
        return handle

    def poll(self, handle: str) -> RunRecord | None:
        if handle not in self.held:
            record = self.inner.poll(handle)
            if record is None:
                return None
            self.held[handle] = record, time.monotonic() + self.rng.choice((0.0, 0.0, 0.1, 0.4))
        record, due = self.held[handle]
        if time.monotonic() < due:
            return None
        del self.held[handle]
        place = self.order.index(handle)
        if any(earlier > place for earlier in self.arrivals):
            self.faults["came before an earlier one"] += 1
        self.arrivals.append(place)
        if not self.fates:  # of every eight one is lost and one another's, however slow the machine
            self.fates = self.rng.sample(["lost", "another's", *["whole"] * 6], 8)
        fate = self.fates.pop()
        if fate == "lost":
            self.faults["lost"] += 1
            return RunRecord("interrupted", "lost", "The post lost it.")
        if fate == "another's" and self.delivered:
            self.faults["another's, for the second time"] += 1
            return self.rng.choice(self.delivered)
        if record.scored:
            self.delivered.append(record)
        return record

    def progress(self, handle: str) -> Progress | None:
        return self.inner.progress(handle)

    def cancel(self, handle: str) -> None:
        self.held.pop(handle, None)
        self.inner.cancel(handle)


class Quiet:
    """A interfaces.Screen that nobody looks at; may stop the loop after a number of lines."""

    loop: Loop | None = None

    def __init__(self, lines: int | None = None):
        self.left = lines

    def say(self, text: str) -> None:
        if self.left is not None and self.loop is not None:
            self.left -= 1
            if self.left == 0:
                self.loop.stop("asked to stop")

    def progress(self, runs: list, waiting: str) -> None:
        pass


@dataclass
class Outcome:
    """What came of it."""

    exits: list[int] = field(default_factory=list)
    faults: Counter = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    outcomes: Counter = field(default_factory=Counter)
    runs: Counter = field(default_factory=Counter)
    rows: list = field(default_factory=list)
    most_at_once: int = 0


def disturbed_session(folder: Path, seed: int = 1) -> Outcome:
    """The loop twice: stopped on the way, then to its own end; I1-I8 are checked after each."""
    site, found = Site.new(folder, ideas(), BASELINE), Outcome()
    settings = Settings(ENV_ID, 5.0, EPISODES, sandbox="off", runner="scripted", slots=PLACES)
    for part in (0, 1):
        session = open_session(site.repo, site.tag, settings, seed=1)
        runner, screen = Unreliable(seed + part), Quiet(25 if part == 0 else None)
        made = [*session.state.attempts.values(), *session.state.refusals]
        taken = sum(x.proposer == "replay" and not x.retry_of for x in made)
        try:
            bounds = Bounds(confirm_runs=1, refusals=100)
            proposer = Replay(site.ideas, taken)
            loop = screen.loop = Loop(session, proposer, runner, bounds, screen)
            found.exits.append(loop.run())
        finally:
            session.close()
        found.faults.update(runner.faults)
        found.broken += [f"part {part + 1}: {b}" for b in site.broken_invariants(ended=part == 1)]
    if found.exits != [130, 0]:
        found.broken.append(f"I8: exit codes {found.exits}")
    ledger, flying = site.state(), 0
    for event in site.events():
        flying += {"started": 1, "run": -1}.get(event["type"], 0)
        found.most_at_once = max(found.most_at_once, flying)
    found.rows = list(ledger.rows())
    found.outcomes.update(row.status for row in found.rows)
    found.outcomes["refused, superseded and no longer fitting"] = len(ledger.refusals)
    for run in ledger.runs.values():
        if run.record is not None:
            found.runs["counted" if run.counted else f"{run.record.status}, {run.record.rule}"] += 1
    # every score that was counted is that of its own commit and seed: it can be computed again
    for run in ledger.runs.values():
        if run.counted and run.record is not None and run.record.scored:
            due = scores(read_script(ledger.attempts[run.attempt].source), run.seed, EPISODES)
            if tuple(run.record.returns) != due:
                found.broken.append(f"I2: run {run.run} counts a score that is not its own")
    return found


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="autorl-unreliable-") as folder:
        seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
        found = disturbed_session(Path(folder) / "a session", seed)
    for row in found.rows:
        mean = "" if row.avg_return is None else f"{row.avg_return:8.3f}"
        print(f"{row.n:>4}  {row.description:<12}{row.status:<12}{row.runs:>3} runs  {mean}")
    tables = {"results that were": found.faults, "runs": found.runs, "rows": found.outcomes}
    for name, counts in tables.items():
        print(f"{name + ':':<20}" + "; ".join(f"{k} {v}" for k, v in sorted(counts.items())))
    print(f"exit codes {found.exits}; at most {found.most_at_once} runs at once")
    print(f"broken invariants: {found.broken or 'none'}")
    return bool(found.broken)


if __name__ == "__main__":
    sys.exit(main())
