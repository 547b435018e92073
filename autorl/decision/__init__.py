"""What to run next, and what the runs so far decide. Pure: facts in, verdicts out.

    state = start(Rules())
    state, verdicts = observe(state, fact)  # fold every fact of the journal, in its order
    wants(state, places, in_flight)         # what to start now
    champion(state)                         # what the session would claim

The rule `adaptive`: a candidate is run once and kept if it is expected to be better, given how
often ideas have worked in this session and how large and how lopsided the luck of a run is; it is
run again only while certainty about it would be worth more than a new idea. An attempt is kept,
discarded, crashed, superseded, or taken back. Nothing is proved here: only a claim on fresh runs
*shows* a gain. `python benchmarks/decision.py table` compares the rule with others.

    rules.py       thresholds, the table of gains, the shapes of noise
    state.py       facts, wants, and what the facts amount to
    posterior.py   what is believed: means, noise, the odds of ideas
    update.py      observe: facts -> verdicts
    next_runs.py   wants, champion, the controls owed
    explain.py     verdicts in figures and words
    controls.py    what a control run showed

Unit: sd is the standard deviation of one run's avg_return at fixed code. No clock, no disk, no
randomness: a resume is the same fold over the same facts. It names no seed and no commit and knows
no budget; the claim is confirm/'s.
"""

from autorl.decision.next_runs import champion, controls_owed, wants
from autorl.decision.rules import VERSION, Rules
from autorl.decision.state import (
    CONTROLS,
    AttemptFact,
    ClaimFact,
    Control,
    ControlFact,
    ControlKind,
    Fact,
    Measure,
    Propose,
    ResumedFact,
    RunFact,
    State,
    Want,
    start,
)
from autorl.decision.update import observe

__all__ = [
    "CONTROLS",
    "VERSION",
    "AttemptFact",
    "ClaimFact",
    "Control",
    "ControlFact",
    "ControlKind",
    "Fact",
    "Measure",
    "Propose",
    "ResumedFact",
    "Rules",
    "RunFact",
    "State",
    "Want",
    "champion",
    "controls_owed",
    "observe",
    "start",
    "wants",
]
