"""What stands beside a loop at work: the dashboard's figures, and the command of `--notify`."""

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace

from autorl import report
from autorl.errors import UserError
from autorl.report import curves
from autorl.report.progress import Standing
from autorl.session import Bounds, Session, program
from autorl.session.events import Claimed, Event
from autorl.session.experiment import mean_curves
from autorl.system.text import last_line, one_line

NOTIFY_SECONDS = 30.0  # that a command of --notify may take
VERDICTS = 3


class Standings:
    """A session's standing, gathered anew only when something became known.

    Args:
        bounds: of this process, which began now.
    """

    def __init__(self, session: Session, bounds: Bounds):
        self.session, self.bounds = session, bounds
        hours = bounds.hours
        self._ends = None if hours is None else time.monotonic() + 3600 * hours
        self._events, self._known = -1, Standing("", "", (), (), "")
        self._curves: dict[int, tuple[float, ...]] = {}  # by number of the incumbent's runs

    def __call__(self) -> Standing:
        if self._events != self.session.log.count:
            self._events = self.session.log.count
            with self.session.mutex:
                self._known = self._gather()
        return replace(self._known, ends=self._ends)

    def _gather(self) -> Standing:
        session, state, bounds = self.session, self.session.state, self.bounds
        rows, spent, best = state.rows(decided_only=False), state.spent(), state.incumbent()
        incumbent = "none yet"
        curve: tuple[float, ...] = ()
        if best is not None and (row := state.row(best)).runs:
            runs = f"{row.runs} {'run' if row.runs == 1 else 'runs'}"
            incumbent = f"#{best.n}  {row.score or 'no score'} ({runs})  {row.description}"
            curve = self._curve(best.n, row.runs)
        ends = []
        if bounds.max_usd is not None:
            ends.append(f"${spent:.2f} of ${bounds.max_usd:.2f}")
        if bounds.experiments is not None:
            decided = sum(r.status != "running" and r.n > 0 for r in rows)
            ends.append(f"experiment {decided} of {bounds.experiments}")
        said = tuple(
            (v.outcome, f"#{v.attempt}  {mean}  {state.attempts[v.attempt].title}")
            for v in state.verdicts[-VERDICTS:]
            for mean in (f"{v.mean:,.1f}" if v.mean is not None else "no score",)
        )
        so_far, title = report.summarize(rows, spent), f"{session.tag} on {session.settings.env_id}"
        return Standing(title, incumbent, curve, said, report.headline(so_far), tuple(ends))

    def _curve(self, n: int, runs: int) -> tuple[float, ...]:
        key = (n << 20) + runs
        if key not in self._curves:
            state, budget = self.session.state, self.session.settings.time_budget
            found = mean_curves(self.session.root, state.runs_of(n), budget, (curves.RETURN,))
            self._curves = {key: tuple(found[curves.RETURN].tolist()) if found else ()}
        return self._curves[key]


class Notifier:
    """Runs a person's command at a claim, a pause and the end.

    Args:
        command: a command line, with the rights of the person who gave it; "" = none.

    Raises:
        UserError: there is no such command.
    """

    def __init__(self, command: str | None = None):
        try:
            self.argv = shlex.split(command or "")
        except ValueError as error:
            raise UserError(f"--notify {command!r} is no command line: {error}.") from None
        if self.argv and shutil.which(self.argv[0]) is None:
            raise UserError(f"--notify: there is no command {self.argv[0]!r}; check its name.")

    def watch(self, session: Session, say: Callable[[str], None]) -> None:
        """Tell of every claim of this session."""

        def learn(event: Event) -> None:
            if isinstance(event, Claimed):
                self.tell(session, "claim", str(event.claim["claim"].get("sentence", "")), say)

        session.observers.append(learn)

    def tell(self, session: Session, event: str, why: str, say: Callable[[str], None]) -> None:
        """Run the command: AUTORL_EVENT says claim, pause or end, standard input says the rest.

        A command that fails or takes too long is said, and changes nothing.
        """
        if not self.argv:
            return
        try:
            done = subprocess.run(
                self.argv,
                input=summary_text(session, event, why),
                text=True,
                capture_output=True,
                errors="replace",
                timeout=NOTIFY_SECONDS,
                cwd=session.root,
                env=os.environ | {"AUTORL_EVENT": event, "AUTORL_TAG": session.tag},
            )
            if done.returncode:
                said = last_line(done.stderr or done.stdout)
                say(f"--notify ended with exit code {done.returncode}: {said}")
        except (OSError, subprocess.TimeoutExpired) as error:
            say(f"--notify did not work: {one_line(str(error))}")


def summary_text(session: Session, event: str, why: str) -> str:
    """What a person wants to read on a phone."""
    state, root = session.state, session.root
    rows = state.rows()
    summary = report.summarize(rows, state.spent())
    lines = [f"autoRL {event}: {session.tag} on {session.settings.env_id}", one_line(why)]
    for name, row in (("baseline", summary.baseline), ("incumbent", summary.best)):
        if row is not None:
            lines.append(f"{name}: #{row.n}  {row.score or 'no score'}  {row.description}")
    lines += [report.headline(summary), f"{program(root)} status --tag {session.tag}"]
    return "".join(f"{one_line(line)}\n" for line in lines if line)
