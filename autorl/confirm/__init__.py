"""Baseline against champion on fresh seeds: which runs are needed, and what they amount to."""

from autorl.confirm.claim import make_claim, owed, purpose

__all__ = ["make_claim", "owed", "purpose"]
