"""Controls: is a score something that the file trained for?

    band_verdict(kind, record, band)          (passed, why) of a control run

Zero budget: time for imports and one update only. A score far above what doing nothing and acting
at random reach means that weights or a ready-made controller are in the file. Seed: two short runs
of equally many updates on different harness seeds must hand over different policies, else the file
ignores the seed and its replicates are one run. A file that recognises a control and behaves gets
past both: they are bounded, and SECURITY.md says so.
"""

import math
from typing import Any

from autorl.environments import plausible_maximum
from autorl.records import RunRecord


def band_verdict(
    kind: str, record: RunRecord, band: dict[str, Any] | None, trained: float | None = None
) -> tuple[bool, str]:
    """Whether a control run speaks for its file, and why (or why not).

    Args:
        band: `sanity_band` of the environment; without it the zero-budget control passes unexamined
            and says so.
        trained: the file's mean score after training, where known: the scale of "far above".
    """
    if record.status != "ok":
        return False, f"the control run failed: {record.reason}"
    if kind == "seed_control":
        actions, updates = record.control.get("actions", []), record.control.get("updates", [])
        if len(actions) != 2:
            return False, "the control run did not tell both policies"
        if actions[0] == actions[1]:
            return False, (
                "two different training seeds handed over the same policy: the file ignores the "
                "harness's seed, so its replicates are one run"
            )
        after = f" after {updates[0]} updates each"
        if updates[0] != updates[1]:
            after = f", though after {updates[0]} and {updates[1]} updates"
        return True, f"different seeds gave different policies{after}"
    if not band:
        unknown = "no sanity band is known for this environment"
        return True, f"{unknown}, so the zero-budget score was not examined"
    score = record.avg_return
    if score is None or not math.isfinite(score):
        return False, "the control run has no score"
    upper = float(band["upper"])
    spread = max(float(band[name]["std"]) for name in ("nothing", "random"))
    margin = max(3 * spread, 1e-9)
    if trained is None:
        trained = plausible_maximum(record.env_id, record.env_kwargs)
    if trained is not None and math.isfinite(trained):
        margin = max(margin, 0.5 * (trained - upper))
    compared = (
        f"with time for one update only it scores {score:.1f}, where doing nothing and acting at "
        f"random reach {upper:.1f} at best"
    )
    if score <= upper + margin:
        return True, compared
    return False, (
        f"{compared}: what it scores with was not trained (weights or a ready-made controller in "
        "the file; or log_metrics is not called every update)"
    )
