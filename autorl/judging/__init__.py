"""Inside the judge: processes, files, evaluation, controls. `autorl/judge.py` is the way in."""
