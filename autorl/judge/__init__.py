"""One measured run: a Job in, a RunRecord out, in a process of its own (`measure.measure`)."""

from autorl.judge.process import collect, launch, read_progress

__all__ = ["collect", "launch", "read_progress"]
