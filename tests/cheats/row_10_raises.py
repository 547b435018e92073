"""Row 10 (an accident, the commonest). An exception in the middle of training.

Must come of it: a crash whose reason ends with the exception, no score.
"""

raise ValueError("the rollout buffer is full")
