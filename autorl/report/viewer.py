"""Recorded episodes to look at: baseline and champion side by side, in one page without a network.

    left, right = arms(baseline, "Baseline"), arms(champion, "Champion", "median")
    viewer_html("Hopper-v5", "run 3 and run 12", left + right)     # a page of its own

Writing needs no OpenGL, three dimensions need WebGL to be seen, and the page says so where there is
none.

What this file does not do: choose the runs, write files.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from autorl.records import Recording
from autorl.report.page import HERE, filled_in
from autorl.report.scenes import Scene, episodes_of, scene_of
from autorl.system.arrays import pack
from autorl.system.text import one_line

Arm = Mapping[str, Any]  # JSON for player.js


def arms(recording: Recording, label: str, which: str = "median", note: str = "") -> list[Arm]:
    """One arm for an episode of a recording, or one per episode recorded for `grid`.

    Args:
        which: worst, median, best or grid.
        note: a few words under the label, such as which run this is.

    Raises:
        UserError: it cannot be shown here.
        ValueError: the recording is damaged.
    """
    notes = [f"{which} of {recording.num_episodes} episodes", note]
    grid = which == "grid"  # small: its title says whose it is
    return [
        {
            "label": "" if grid else label,
            "note": "" if grid else ", ".join(filter(None, notes)),
            "return": episode.episode_return,
            "steps": episode.length,
            **_json(scene_of(recording, episode)),
        }
        for episode in episodes_of(recording, which)
    ]


def _json(scene: Scene) -> dict[str, Any]:
    frames = len(scene.poses)
    columns = (scene.poses.reshape(frames, -1), scene.focus, scene.returns[:, None])
    return {
        "dimensions": scene.dimensions,
        "bodies": [[_plain(shape) for shape in shapes] for shapes in scene.bodies],
        "fixed": [_plain(shape) for shape in scene.fixed],
        "numbers": asdict(pack(np.concatenate(columns, 1))),  # (F, 7 B + 3 + 1) or (F, 3 B + 2 + 1)
        "extent": scene.extent,
        "above": scene.above,
        "seconds_per_frame": scene.seconds_per_frame,
    }


def _plain(shape: Mapping[str, Any]) -> dict[str, Any]:
    """A shape with its arrays (of a mesh) as text: deflated, base64."""
    return {
        key: base64.b64encode(zlib.compress(value.tobytes(), 9)).decode()
        if isinstance(value, np.ndarray)
        else value
        for key, value in shape.items()
    }


def player_script(arms: Sequence[Arm]) -> str:
    """The player for these arms, with three.js when there are three dimensions."""
    player = (HERE / "player.js").read_text("utf-8")
    if not any(arm["dimensions"] == 3 for arm in arms):
        return player
    licence = (HERE / "vendor" / "three.LICENSE").read_text("utf-8")
    three = (HERE / "vendor" / "three.min.js").read_text("utf-8")
    return f"/* three.js 0.187.0\n{licence}*/\n{three}\n{player}".replace("</script", "<\\/script")


def script_json(value: Any) -> str:
    """JSON that may stand in a script element, whatever its texts say."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def viewer_html(title: str, note: str, arms: Sequence[Arm]) -> str:
    """A page that plays these arms in step and does nothing else."""
    from markupsafe import Markup

    return filled_in(
        "viewer.html",
        title=one_line(title, 200),
        note=one_line(note, 200),
        three_d=any(arm["dimensions"] == 3 for arm in arms),
        style=Markup((HERE / "player.css").read_text("utf-8")),
        script=Markup(player_script(arms)),
        arms=Markup(script_json(arms)),
    )
