"""The confirmation: baseline and champion in turn on fresh seeds; then the claim.

Where the champion is ahead and nothing is shown, another look follows: as many runs again.
"""

import math
import time

from autorl import decision
from autorl.confirm import make_claim, owed, purpose
from autorl.decision.explain import named, percent
from autorl.interfaces import Console
from autorl.loop.active_runs import ActiveRuns
from autorl.loop.research import longest_run
from autorl.records import score_text
from autorl.report import duration
from autorl.session import Bounds, Run, Session
from autorl.session.events import Claimed
from autorl.session.state import CONFIRM_SEEDS


class Confirmation:
    """A driver of the loop.

    Args:
        bounds: its fresh runs of each arm of one look (0 = no confirmation); its hours.
        again: one more look, even if the champion has all that may say *shown*.

    Attributes:
        why, exit_code: as of `Research`.
    """

    def __init__(
        self,
        session: Session,
        runs: ActiveRuns,
        console: Console,
        bounds: Bounds,
        again: bool = False,
    ):
        self.session, self.runs, self.console = session, runs, console
        self.bounds, self.again, self.wanted = bounds, again, bounds.confirm_runs
        self.why, self.exit_code, self._told = "", 0, 0
        self._of, self._left, self._seen = 0, 0, set[int]()
        self._began, self._before = time.monotonic(), len(session.state.claims)

    def finished(self) -> bool:
        if self.runs.active or self._due():
            return False
        claimed = len(self.session.state.claims) > self._before
        if self.wanted and not claimed and self._champion() == 0:
            self.why = "nothing is likely enough to be better than the baseline to be confirmed"
            known = self.session.decision
            if (p := known.posterior) and known.lead is not None:
                self.why += f": {named(known.path[p.best])} is with {percent(known.lead)} chance, "
                self.why += f"{percent(known.rules.champion)} are asked for (`confirm --anyway` "
                self.why += "measures it all the same)"
        if self.wanted:
            self.why = self.why or "the confirmation is done"
        return True

    def _champion(self) -> int:
        """What is claimed; a person may ask for the best there is, however likely."""
        known = self.session.decision
        best = decision.champion(known)
        if not best and self.bounds.anyway and known.lead is not None and known.posterior:
            best = known.path[known.posterior.best]
        return best

    def _due(self) -> bool:
        """A look at the champion that may say *shown*, or the one that was asked for."""
        state, champion = self.session.state, self._champion()
        if not self.wanted or champion == 0:
            return False
        looks = state.looks_at(champion)
        if not looks or (self.again and len(state.claims) == self._before):
            return True
        return bool(looks[-1]["claim"].get("open")) and not self._time_is_up(champion)

    def _time_is_up(self, champion: int) -> bool:
        """Another look would go beyond the hours given."""
        if self.bounds.hours is None:
            return False
        runs = sum(owed(self.session.state, champion, self.wanted).values())
        need = longest_run(self.session) * math.ceil(runs / self.runs.places)
        if need > self.bounds.hours * 3600 - (time.monotonic() - self._began):
            self.why = "no time is left for another look at the champion: `confirm` takes it"
        return bool(self.why)

    def start(self) -> bool:
        """The champion's controls, then runs of the arm that has fewer, then the claim."""
        session, state = self.session, self.session.state
        champion = self._champion()
        active = self.runs.wants
        if controls := decision.controls_owed(session.decision, champion, active):
            if self.runs.room:
                self.runs.start_wanted(controls[0])
            return False
        if active:
            return False
        due = owed(state, champion, self.wanted)
        self._announce(champion, sum(due.values()))
        self._progress(champion, sum(due.values()))
        arm = max(due, key=lambda n: due[n])  # the baseline first
        if due[arm] and self.runs.room and self.runs.quiet():
            index = state.next_seed_index(CONFIRM_SEEDS)
            self.runs.start(arm, purpose(champion), "measure", index, None)
        elif not due[arm] and not self.runs.active:
            claim = make_claim(state, session.decision, champion)
            session.record(Claimed(claim=claim))
            self.console.say(str(claim["claim"]["sentence"]))
        return False

    def _announce(self, champion: int, runs: int) -> None:
        """Once: who is confirmed, and how long it takes."""
        if runs and champion != self._told:
            self._told, self._of, self._left = champion, runs, runs
            self._seen = {run.run for run in self._fresh(champion)}
            known, best = self.session.decision, ""
            if (p := known.posterior) and champion != known.incumbent:
                ours, tip = (score_text(x, p.sd, least=-99) for x in (p.path_mean[p.best], p.mean))
                best = f", by all runs ahead of {named(known.incumbent)}, which is built on it"
                best += f" (estimated at {ours} and {tip}),"
            takes = duration(longest_run(self.session) * math.ceil(runs / self.runs.places))
            self.console.say(
                f"confirming {named(champion)}{best} against the baseline: {runs} fresh runs, "
                f"about {takes}; as many again where it is ahead and nothing is shown"
            )

    def _progress(self, champion: int, left: int) -> None:
        """What each fresh run scored, and how many are done."""
        if left > self._left:  # another look
            self._of = left
        self._left = left
        new = [run for run in self._fresh(champion) if run.run not in self._seen]
        for done, run in enumerate(new, self._of - left - len(new) + 1):
            self._seen.add(run.run)
            score = run.record.avg_return if run.record and run.record.scored else None
            said = "no score" if score is None else score_text(score, self.session.decision.sd)
            self.console.say(
                f"{named(run.attempt)}, run {run.run}: {said}; "
                f"{done} of {self._of} fresh runs are done"
            )

    def _fresh(self, champion: int) -> list[Run]:
        """The runs of this claim that are over and count."""
        runs = self.session.state.runs.values()
        return [r for r in runs if r.purpose == purpose(champion) and r.record and r.counted]
