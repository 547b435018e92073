"""Proposals as commits, on a branch that is never checked out; the one place that runs git."""

from autorl.git.repository import Repository

__all__ = ["Repository"]
