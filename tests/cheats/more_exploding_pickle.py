"""Tries: a hand-over file that explodes when it is loaded.

Must come of it: a crash of the policy's process, in words; the judge is well.
"""

from evaluate import RUN_DIR

(RUN_DIR / "policy.pkl").write_bytes(b"\x80\x04cos\n_exit\n(K\x2atR.")
