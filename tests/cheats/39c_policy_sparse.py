"""row 39 | C:exit | policy.pkl is a sparse terabyte"""

import os

import evaluate  # noqa: F401

os.truncate(os.open("policy.pkl", os.O_CREAT | os.O_RDWR), 1 << 40)
