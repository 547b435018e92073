"""Baseline against champion on fresh seeds: which runs are needed, and what they amount to."""

from autorl.confirm.claim import arms, make_claim, next_arm

__all__ = ["arms", "make_claim", "next_arm"]
