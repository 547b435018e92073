"""row 40 | R:vet | a sum that ends whoever looks at it recursively"""

from evaluate import evaluate_policy

a = 0
# @SUM@
evaluate_policy(None)
