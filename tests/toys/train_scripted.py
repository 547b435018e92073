"""A train.py for `--runner scripted` (autorl/runners/scripted.py): it ends as the literal says."""

SCRIPT = {"return": 10.0, "noise": 1.0, "seconds": 0.02, "end": "ok"}
