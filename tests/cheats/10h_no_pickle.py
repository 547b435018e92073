"""row 10 | C:exit | a hand-over that is no pickle"""

from evaluate import RUN_DIR

(RUN_DIR / "policy.pkl").write_bytes(b"not a pickle at all")
