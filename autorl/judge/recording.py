"""What was seen while the judge evaluated: the states of a few episodes, to be looked at later.

    recorder = Recorder(envs)                              # in a worker, after the resets
    recorder.take(step, running, ended, returns)           # once a step: reads, touches nothing
    recorder.save(path)                                    # every row, as it is
    write(folder, paths, env_id, returns, lengths)         # a few of them, as recording.json

Every row is kept until the end, since only then it is known which are worst, median and best: for
100 episodes of Hopper 1.4 MB. A picture is never worth a score: what fails here is left out.

What this file does not do: draw (autorl/report), or replay by seed, which would not be bit-equal.
"""

import contextlib
import json
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autorl.records import RecordedEpisode, Recording, to_json
from autorl.system.arrays import pack
from autorl.system.files import atomic_write

NAME = "recording.json"
FRAMES_A_SECOND = 30.0  # of simulated time
MAX_FRAMES = 3_000  # of one episode
TEXT_BYTES = 200_000  # of all episodes together; Modal brings back files of 256 KiB
MANY = 16  # episodes of an environment with a small state: a grid of 4 x 4
# What the environment calls `state` is all there is to see of these.
STATE_ENVS = ("CartPole-", "Pendulum-", "MountainCar", "Acrobot-", "autorl/")

Points = NDArray[np.float64]
Look = Callable[[Sequence[int]], Points]  # rows that are running -> (N, D)


class Recorder:
    """Keeps what there is to see of environments, a frame each 1/30 s of their time.

    Args:
        envs: just reset; an empty sequence, or environments of an unknown kind, record nothing.
    """

    def __init__(self, envs: Sequence[Any]):
        self._look: Look | None = None
        self._every = 0
        self._frames: list[Points] = []  # of each moment: (N, D), what has ended being left over
        self._returns: list[list[float]] = []  # so far, of each moment and row
        self._counts = [0] * len(envs)  # moments at which a row was running
        self._last: dict[int, Points] = {}  # (D + 1,) of a row that ended between two moments
        self._about: dict[str, Any] = {"kind": ""}
        self._scenery: list[dict[str, Points]] = []
        with contextlib.suppress(Exception):
            self._begin([env.unwrapped for env in envs])

    def _begin(self, envs: Sequence[Any]) -> None:
        if not envs:
            return
        env, env_id = envs[0], envs[0].spec.id
        if hasattr(env, "model") and isinstance(getattr(env.data, "qpos", None), np.ndarray):
            kind, self._look = "mujoco", _positions(envs)
        elif hasattr(env, "drawlist"):
            kind, self._look = "box2d", _transforms(envs)
            self._about["shapes"] = [_shapes(body) for body in _moving(env)]
            self._scenery = [_scenery(env) for env in envs]
        elif env_id.startswith(STATE_ENVS):
            kind, self._look = "state", _states(envs)
        else:
            return
        seconds = float(getattr(env, "dt", 0.0) or 1 / env.metadata["render_fps"])
        self._every = max(1, round(1 / FRAMES_A_SECOND / seconds))
        self._about |= {"kind": kind, "seconds_per_frame": self._every * seconds}
        self.take(0, range(len(envs)), (), [0.0] * len(envs))

    def take(
        self, step: int, running: Sequence[int], ended: Sequence[int], returns: Sequence[float]
    ) -> None:
        """Keep a frame of each row that is due: all that are running now and then, else those whose
        episode ends with this step."""
        if self._look is None:
            return
        try:
            if due := step % self._every == 0 and len(self._frames) < MAX_FRAMES:
                self._frames.append(self._look(running))
                self._returns.append(list(returns))
            for row in ended:
                self._counts[row] = len(self._frames)
                if not due:
                    self._last[row] = np.append(self._look([row])[row], returns[row])
        except Exception:
            self._look = None

    def save(self, path: Path) -> None:
        """Write all rows, unless there is nothing to see."""
        if self._look is None:
            return
        with contextlib.suppress(Exception):
            # (N, F, D + 1)
            seen = np.dstack([np.array(self._frames), np.array(self._returns)]).swapaxes(0, 1)
            arrays = {}
            for row, count in enumerate(self._counts):
                last = [self._last[row]] if row in self._last else []
                arrays[f"row{row}"] = np.vstack([seen[row, :count], *last])
                if self._scenery:
                    arrays |= {f"{name}{row}": xy for name, xy in self._scenery[row].items()}
            about = np.array(json.dumps(self._about))
            np.savez(path, about=about, **arrays)  # type: ignore[arg-type]


def _positions(envs: Sequence[Any]) -> Look:
    live = [env.data.qpos for env in envs]
    return lambda rows: np.concatenate(live).reshape(len(live), -1)


def _states(envs: Sequence[Any]) -> Look:
    return lambda rows: np.array([env.state for env in envs], np.float64)


def _transforms(envs: Sequence[Any]) -> Look:
    bodies = [_moving(env) for env in envs]

    def look(rows: Sequence[int]) -> Points:
        seen = np.zeros((len(envs), 3 * len(bodies[0])))
        for row in rows:
            numbers = array("d")
            for body in bodies[row]:
                place = body.position
                numbers.extend((place.x, place.y, body.angle))
            seen[row] = numbers
        return seen

    return look


def _moving(env: Any) -> list[Any]:
    """The bodies that Box2D moves, in the order in which they are drawn."""
    return [body for body in env.drawlist if body.type == 2]


def _shapes(body: Any) -> dict[str, Any]:
    """A body's colour (0 to 255) and its polygons, in its own coordinates."""
    polygons = [[list(corner) for corner in f.shape.vertices] for f in body.fixtures]
    return {"color": list(body.color1), "polygons": polygons}


def _scenery(env: Any) -> dict[str, Points]:
    """The ground of one episode of BipedalWalker or LunarLander, from what they keep to draw it."""
    if hasattr(env, "terrain_poly"):
        ground = [polygon[0] for polygon, _ in env.terrain_poly]
        stumps = env.terrain[len(ground) :]  # and stairs, and the walls of pits
        boxes = [tuple(body.fixtures[0].shape.vertices) for body in stumps]
        return {"ground": np.array(ground), "boxes": np.array(boxes)}
    ground = [env.sky_polys[0][0], *(polygon[1] for polygon in env.sky_polys)]
    pad = [(x, env.helipad_y) for x in (env.helipad_x1, env.helipad_x2)]
    return {"ground": np.array(ground), "pad": np.array(pad)}


# -- The judge's side ------------------------------------------------------------------------------


def write(
    folder: Path,
    saved: Sequence[Path],
    env_id: str,
    returns: Sequence[float],
    lengths: Sequence[int],
) -> None:
    """Keep the worst, the median and the best episode; of a small state 16, evenly by return.

    Args:
        folder: gets recording.json.
        saved: where the workers' recorders wrote, in the order of their rows.
    """
    with contextlib.suppress(Exception):
        recording = _select(saved, env_id, returns, lengths)
        data = json.dumps(to_json(recording)).encode()
        atomic_write(folder / NAME, data, durable=False)


def _select(
    saved: Sequence[Path], env_id: str, returns: Sequence[float], lengths: Sequence[int]
) -> Recording:
    places: list[tuple[Any, int]] = []  # of each episode: its worker's file, its row there
    for path in saved:
        file = np.load(path)
        count = sum(name.startswith("row") for name in file.files)
        places += ((file, row) for row in range(count))
    about = json.loads(str(places[0][0]["about"]))
    order = sorted(range(len(returns)), key=lambda episode: returns[episode])
    last = len(order) - 1
    ranks = {0, last // 2, last}
    if about["kind"] == "state":
        ranks |= {round(i * last / (MANY - 1)) for i in range(MANY)}
    episodes = []
    for episode in (order[rank] for rank in sorted(ranks)):
        file, row = places[episode]
        states, seconds = file[f"row{row}"], about["seconds_per_frame"]
        while len((packed := pack(states)).data) > TEXT_BYTES // len(ranks) and len(states) > 2:
            states, seconds = states[::2], 2 * seconds
        scenery = {
            name: file[f"{name}{row}"].round(3).tolist()
            for name in ("ground", "boxes", "pad")
            if f"{name}{row}" in file
        }
        recorded = RecordedEpisode(returns[episode], lengths[episode], seconds, packed, scenery)
        episodes.append(recorded)
    median, shapes = sorted(ranks).index(last // 2), tuple(about.get("shapes", ()))
    return Recording(env_id, about["kind"], len(returns), tuple(episodes), median, shapes)
