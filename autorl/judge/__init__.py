"""One measured run: a Job in, a RunRecord out, in a process of its own. (`judge.measure.measure` is that process's work.)"""

from autorl.judge.process import collect, launch, read_progress

__all__ = ["collect", "launch", "read_progress"]
