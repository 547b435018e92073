"""row 41 | R:vet | nested finally: a compiler needs gigabytes for 3 kB"""

# @FINALLY@

from evaluate import evaluate_policy

evaluate_policy(None)
