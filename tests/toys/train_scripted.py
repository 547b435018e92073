"""A train.py for `--runner scripted`: the run ends as the literal says. See autorl/runners/scripted.py."""

SCRIPT = {"return": 10.0, "noise": 1.0, "seconds": 0.02, "end": "ok"}
