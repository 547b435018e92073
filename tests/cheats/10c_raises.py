"""row 10 | C:exit | raises (the plainest accident)"""

import evaluate  # noqa: F401

raise RuntimeError("loss is NaN")
