"""row 42 | R:vet | a comment to a reader, code to Python"""
# @COOKIE@

from evaluate import evaluate_policy

evaluate_policy(None)
