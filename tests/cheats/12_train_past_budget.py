"""row 12 | C:late | train past the budget"""

# job: {"time_budget": 2}

while True:
    sum(range(1000))
