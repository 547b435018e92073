"""The order of a session: what is proposed, what runs, what it costs, what follows."""

from autorl.loop.loop import Loop

__all__ = ["Loop"]
