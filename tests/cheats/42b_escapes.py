"""row 42 | R:vet | control characters for the terminal of whoever looks"""

from evaluate import evaluate_policy

title = "@ESCAPE@[2J"
evaluate_policy(None)
