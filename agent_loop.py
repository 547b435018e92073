"""autoRL on the command line, from a checkout: `uv run python agent_loop.py --help`. The commands
are in autorl/cli/.
"""

import autorl

if __name__ == "__main__":
    autorl.installed_first()
    from pathlib import Path

    from autorl.cli import main

    main(Path(__file__).resolve().parent)
