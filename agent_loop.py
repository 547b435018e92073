"""autoRL on the command line, from a checkout: `uv run python agent_loop.py --help`. The commands
are in autorl/cli/.
"""

from pathlib import Path

from autorl.cli import main

if __name__ == "__main__":
    main(Path(__file__).resolve().parent)
