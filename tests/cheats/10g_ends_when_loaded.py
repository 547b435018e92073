"""row 10 | C:exit | a hand-over that ends the process which loads it"""

from evaluate import RUN_DIR

(RUN_DIR / "policy.pkl").write_bytes(b"\x80\x04cos\n_exit\n(K\x2atR.")
