"""Row 30 (an accident: a print in the inner loop). Tries: output without end.

Must come of it: a crash that names the limit; the log that is kept is bounded.
"""

while True:
    print("x" * 100_000)
