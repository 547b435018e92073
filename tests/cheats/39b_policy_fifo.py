"""row 39 | C:no_policy | policy.pkl is a FIFO"""

import os

import evaluate  # noqa: F401

os.mkfifo("policy.pkl")
