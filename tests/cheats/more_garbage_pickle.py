"""Tries: a hand-over file that is no pickle.

Must come of it: a crash that says what loading it said.
"""

from evaluate import RUN_DIR

(RUN_DIR / "policy.pkl").write_bytes(b"not a pickle at all")
