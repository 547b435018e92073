"""row 40 | R:vet | thousands of elif"""

from evaluate import evaluate_policy

a = 0
# @ELIF@
evaluate_policy(None)
