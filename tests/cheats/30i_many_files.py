"""row 30 | C:disk | small files without end (an accident)"""

from evaluate import RUN_DIR

number = 0
while True:
    (RUN_DIR / f"{number}.txt").touch()
    number += 1
