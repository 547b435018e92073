"""row 39 | C:no_policy | policy.pkl is a link to a file outside"""

import os

import evaluate  # noqa: F401

os.symlink("/etc/passwd", "policy.pkl")
