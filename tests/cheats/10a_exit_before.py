"""row 10 | C:no_policy | exit 0 before handing anything over"""

import sys

print("avg_return: 999")
sys.exit(0)
