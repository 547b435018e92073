"""What to run next, and what the runs so far decide. Pure: facts in, verdicts out.

    state = start(Rules())
    state, verdicts = observe(state, fact)      # fold every fact of the journal; the verdicts that this fact settled
    wants(state, places, in_flight)             # what to start now
    champion(state)                             # what the session would claim: the incumbent, if it is likely better

Rigor "standard" keeps an idea when its expected gain is positive under what `belief` has learnt of this session's ideas;
a path of keeps that is very likely better than the anchor is proved by fresh runs, one that is likely worse is taken
back. "anchored" holds candidates against the incumbent's mean with a test that grows stricter with each path taken
back; "strict" is one sequential test; "bold" is one run against the mean. `python benchmarks/decision.py` compares them.

    facts.py    rules, facts, wants        belief.py   the running estimate behind "standard"
    state.py    what the facts amount to   fold.py      observe: facts -> verdicts
    verdicts.py in figures and words       wanting.py   wants, champion

Unit: s is the standard deviation of one run's avg_return at fixed code, pooled within attempts over the session.
No clock, no disk, no randomness: a resume is the same fold over the same facts. It names no seed and no commit and does
not know the budget; the claim to a person is evidence.py's.
"""

from autorl.decision.facts import (
    AttemptFact,
    Comparison,
    Control,
    ControlFact,
    Fact,
    Measure,
    Propose,
    ResumedFact,
    Rules,
    RunFact,
    Want,
)
from autorl.decision.fold import observe
from autorl.decision.state import Arm, Scored, State, start
from autorl.decision.wanting import champion, controls_owed, wants

__all__ = [
    "Arm",
    "AttemptFact",
    "Comparison",
    "Control",
    "ControlFact",
    "Fact",
    "Measure",
    "Propose",
    "ResumedFact",
    "Rules",
    "RunFact",
    "Scored",
    "State",
    "Want",
    "champion",
    "controls_owed",
    "observe",
    "start",
    "wants",
]
