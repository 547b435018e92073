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

from autorl.decision.next_runs import champion as champion
from autorl.decision.next_runs import controls_owed as controls_owed
from autorl.decision.next_runs import wants as wants
from autorl.decision.rules import VERSION as VERSION
from autorl.decision.rules import Rules as Rules
from autorl.decision.state import CONTROLS as CONTROLS
from autorl.decision.state import AttemptFact as AttemptFact
from autorl.decision.state import ClaimFact as ClaimFact
from autorl.decision.state import Control as Control
from autorl.decision.state import ControlFact as ControlFact
from autorl.decision.state import ControlKind as ControlKind
from autorl.decision.state import Fact as Fact
from autorl.decision.state import Measure as Measure
from autorl.decision.state import Propose as Propose
from autorl.decision.state import ResumedFact as ResumedFact
from autorl.decision.state import RunFact as RunFact
from autorl.decision.state import State as State
from autorl.decision.state import Want as Want
from autorl.decision.state import start as start
from autorl.decision.update import observe as observe
