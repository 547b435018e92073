"""The order in which things happen: what is proposed, what runs, what it costs, and what follows."""

from autorl.loop.loop import Loop

__all__ = ["Loop"]
