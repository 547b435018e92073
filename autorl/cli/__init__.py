"""What a person types. `main(root)` is the command line on the project in the folder `root`."""

from autorl.cli.main import main

__all__ = ["main"]
