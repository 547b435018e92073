"""A recorded episode as a scene: bodies of simple shapes, and where they are in each frame.

    scene = scene_of(recording, recording.episodes[recording.median])

In three dimensions for MuJoCo, whose model is that of the environment's id, in two for the rest.
viewer.py and video.py draw it. What this file does not do: draw, or step an environment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autorl.errors import UserError
from autorl.records import RecordedEpisode, Recording
from autorl.system.arrays import unpack

Numbers = NDArray[np.float64]
Shape = dict[str, Any]  # JSON, for report/player.js too

FOLLOW_SECONDS = 0.7  # over which the camera's path is smoothed


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to see in F frames of B bodies; metres, in `dimensions` d of 2 or 3.

    A shape in 3-D: type, size, color, position, quaternion, all as MuJoCo has them. In 2-D one of
    polygon (corners), line (points; width) or disc (centre; radius), with the name of a color or
    its red, green and blue, 0 to 255. Those of a body are in its own coordinates.
    """

    dimensions: int
    bodies: list[list[Shape]]
    fixed: list[Shape]
    poses: Numbers  # (F, B, 7): position, quaternion; in 2-D (F, B, 3): x, y, angle
    focus: Numbers  # (F, d): where the camera looks
    extent: tuple[float, ...]  # seen around it: a radius; in 2-D half a width and half a height
    returns: Numbers  # (F,) the return so far
    seconds_per_frame: float
    states: Numbers  # (F, D) as recorded
    model: Any = None  # MuJoCo's
    above: bool = False  # all is in one horizontal plane: look down on it


def scene_of(recording: Recording, episode: RecordedEpisode) -> Scene:
    """The scene of one episode.

    Raises:
        UserError: its model is not to be had here, or not the one that was recorded.
        ValueError: the recording is damaged.
    """
    numbers = unpack(episode.states)
    states, returns = numbers[:, :-1], numbers[:, -1]
    about: dict[str, Any] = {
        "returns": returns, "seconds_per_frame": episode.seconds_per_frame, "states": states,
    }  # fmt: skip
    if recording.kind == "mujoco":
        return _mujoco(recording.env_id, states, about)
    if recording.kind == "box2d":
        return _box2d(recording, episode, states, about)
    name = recording.env_id.rpartition(":")[2].rpartition("/")[2].rpartition("-v")[0]
    if name not in WORLDS:
        raise UserError(f"There is no picture of {recording.env_id} yet: its states are recorded.")
    bodies, fixed, each, focus, extent = WORLDS[name](*states.T)
    poses = np.stack([np.stack(np.broadcast_arrays(*pose), -1) for pose in each], 1)
    return Scene(2, bodies, fixed, poses, np.tile(focus, (len(states), 1)), extent, **about)


def _smooth(path: Numbers, seconds_per_frame: float) -> Numbers:
    """A moving average over FOLLOW_SECONDS of a path (F, d)."""
    half = max(1, round(FOLLOW_SECONDS / seconds_per_frame / 2))
    padded = np.pad(path, ((half, half), (0, 0)), "edge")
    window = np.ones(2 * half + 1) / (2 * half + 1)
    return np.stack([np.convolve(column, window, "valid") for column in padded.T], 1)


# -- MuJoCo ----------------------------------------------------------------------------------------


def model_of(env_id: str) -> Any:
    """The MuJoCo model of an environment.

    Raises:
        UserError: the environment cannot be made here.
    """
    import gymnasium as gym

    try:
        env = gym.make(env_id)
    except Exception as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The recording needs the model of {env_id}, which cannot be made here: {why}"
        ) from None
    model = env.unwrapped.model  # type: ignore[attr-defined]
    env.close()
    return model


def _mujoco(env_id: str, states: Numbers, about: dict[str, Any]) -> Scene:
    import mujoco

    model = model_of(env_id)
    if model.nq != states.shape[1]:
        raise UserError(
            f"The recording of {env_id} has {states.shape[1]} coordinates and the model here has "
            f"{model.nq}: it was made with another version of the environment."
        )
    data, moving = mujoco.MjData(model), [b for b in range(model.nbody) if model.body_weldid[b]]
    visible = [g for g in range(model.ngeom) if model.geom_group[g] < 3 and _color(model, g)[3] > 0]
    carried = [g for g in visible if model.geom_bodyid[g] in moving]
    poses, centres = np.empty((len(states), len(moving), 7)), np.empty((len(states), 2, 3))
    for frame, qpos in enumerate(states):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)  # normalizes quaternions
        poses[frame, :, :3], poses[frame, :, 3:] = data.xpos[moving], data.xquat[moving]
        places = data.geom_xpos[carried]
        centres[frame] = places.min(0), places.max(0)
    bodies: list[list[Shape]] = [[] for _ in moving]
    fixed: list[Shape] = []
    for g in visible:
        body = int(model.geom_bodyid[g])
        (bodies[moving.index(body)] if body in moving else fixed).append(_geom(model, data, g))
    # the camera follows what travels, and looks at all of what does not
    sizes, middle = float(model.geom_rbound[carried].max(initial=0.05)), centres.mean(1)
    radius = float(np.linalg.norm(centres[:, 1] - centres[:, 0], axis=1).max() / 2 + sizes / 2)
    follow = bool(np.ptp(middle[:, :2], axis=0).max() > 1.5 * radius)
    if not follow:
        low, high = centres[:, 0].min(0), centres[:, 1].max(0)
        radius = float(np.linalg.norm(high - low) / 2 + sizes / 2)
        middle = np.tile((low + high) / 2, (len(states), 1))
    seconds = about["seconds_per_frame"]
    focus = _smooth(middle, seconds) if follow else middle
    above = bool(np.ptp(centres[..., 2]) < 0.25 * radius)
    return Scene(3, bodies, fixed, poses, focus, (radius,), model=model, above=above, **about)


def _color(model: Any, geom: int) -> list[float]:
    """Red, green, blue, opacity, 0 to 1; of its material, unless the geom says another."""
    material, rgba = int(model.geom_matid[geom]), model.geom_rgba[geom]
    if material >= 0 and np.allclose(rgba, (0.5, 0.5, 0.5, 1)):  # MuJoCo's default
        rgba = model.mat_rgba[material]
    return [round(float(c), 3) for c in rgba]


def _geom(model: Any, data: Any, geom: int) -> Shape:
    """A geom in its body's coordinates, or in the world's if its body never moves."""
    import mujoco

    position, quaternion = model.geom_pos[geom], model.geom_quat[geom].copy()
    if not model.body_weldid[model.geom_bodyid[geom]]:
        position = data.geom_xpos[geom]
        mujoco.mju_mat2Quat(quaternion, data.geom_xmat[geom])
    shape = {
        "type": mujoco.mjtGeom(model.geom_type[geom]).name[len("mjGEOM_") :].lower(),
        "size": model.geom_size[geom].round(4).tolist(),
        "color": _color(model, geom),
        "position": position.round(4).tolist(),
        "quaternion": quaternion.round(5).tolist(),
    }
    if shape["type"] == "mesh":
        mesh = int(model.geom_dataid[geom])
        at, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        shape["vertices"] = model.mesh_vert[at : at + count]  # (V, 3) float32
        at, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        shape["faces"] = model.mesh_face[at : at + count]  # (T, 3) int32
    return shape


# -- Box2D -----------------------------------------------------------------------------------------


def _box2d(recording: Recording, episode: RecordedEpisode, states: Numbers, about: Any) -> Scene:
    """BipedalWalker is followed, LunarLander is seen whole."""
    scenery, poses = episode.scenery, states.reshape(len(states), -1, 3)  # (F, B, 3)
    bodies = [
        [{"polygon": polygon, "color": body["color"]} for polygon in body["polygons"]]
        for body in recording.shapes
    ]
    ground = scenery["ground"]
    below = [[ground[-1][0], -20.0], [ground[0][0], -20.0]]
    fixed: list[Shape] = [
        {"polygon": ground + below, "color": "hill"},
        {"line": ground, "width": 0.08, "color": "green"},
    ]
    fixed += [{"polygon": box, "color": "steel"} for box in scenery.get("boxes", ())]
    if pad := scenery.get("pad"):
        fixed.append({"line": pad, "width": 0.2, "color": "steel"})
        for x, y in pad:
            pole, flag = [[x, y], [x, y + 1.6]], [[x, y + 1.6], [x + 0.8, y + 1.4], [x, y + 1.2]]
            fixed += [{"line": pole, "width": 0.06, "color": "ink"}]
            fixed += [{"polygon": flag, "color": "red"}]
        centre = np.array([(ground[0][0] + ground[-1][0]) / 2, 6.2])
        return Scene(
            2, bodies, fixed, poses, np.tile(centre, (len(states), 1)), (9.6, 6.8), **about
        )
    path = poses[:, -1, :2] + (0.8, 0.6)  # the hull is drawn last
    focus = _smooth(path, about["seconds_per_frame"])
    return Scene(2, bodies, fixed, poses, focus, (5.2, 3.4), **about)


# -- Classic control and autorl_worlds: states -> bodies, what stands still, poses, focus, extent --

World = tuple[list[list[Shape]], list[Shape], list[Any], tuple[float, float], tuple[float, float]]
RAIL = 2.4  # metres on either side


def _rod(length: float, width: float, color: str) -> list[Shape]:
    """A rod that stands on its hinge."""
    hinge = {"disc": [0, 0], "radius": width / 3, "color": "paper"}
    return [{"line": [[0, 0], [0, length]], "width": width, "color": color}, hinge]


def _rail() -> list[Shape]:
    ends = [[[x, -0.1], [x, 0.1]] for x in (-RAIL, RAIL)]
    rail: list[Shape] = [{"line": [[-RAIL, 0], [RAIL, 0]], "width": 0.03, "color": "grey"}]
    return rail + [{"line": end, "width": 0.05, "color": "steel"} for end in ends]


CART: list[Shape] = [
    {"polygon": [[-0.2, -0.1], [0.2, -0.1], [0.2, 0.1], [-0.2, 0.1]], "color": "steel"}
]


def _cart_pole(x: Numbers, _: Numbers, angle: Numbers, *__: Numbers) -> World:
    bodies, poses = [CART, _rod(1.0, 0.1, "red")], [(x, 0, 0), (x, 0, -angle)]
    return bodies, _rail(), poses, (0, 0.4), (2.6, 1.0)


def _cart_double_pendulum(x: Numbers, a: Numbers, b: Numbers, *_: Numbers) -> World:
    length = 0.6
    bodies = [CART, _rod(length, 0.08, "red"), _rod(length, 0.08, "blue")]
    joint = (x + length * np.sin(a), length * np.cos(a), -b)
    dots: list[Shape] = [
        {"disc": [0.2 * i, 2 * length], "radius": 0.012, "color": "grey"} for i in range(-12, 13)
    ]
    return bodies, dots + _rail(), [(x, 0, 0), (x, 0, -a), joint], (0, 0), (2.6, 1.4)


def _pendulum(angle: Numbers, *_: Numbers) -> World:
    hub: list[Shape] = [{"disc": [0, 0], "radius": 0.12, "color": "grey"}]
    return [_rod(1.0, 0.15, "red")], hub, [(0, 0, -angle)], (0, 0), (1.3, 1.2)


def _acrobot(a: Numbers, b: Numbers, *_: Numbers) -> World:
    """Angles from hanging down, the second relative to the first."""
    a = np.unwrap(a)  # it is recorded in -pi .. pi
    second = (np.sin(a), -np.cos(a), a + np.unwrap(b) + pi)
    goal: list[Shape] = [{"line": [[-2.2, 1], [2.2, 1]], "width": 0.015, "color": "green"}]
    bodies = [_rod(1.0, 0.12, "red"), _rod(1.0, 0.12, "blue")]
    return bodies, goal, [(0, 0, a + pi), second], (0, 0), (2.4, 2.2)


def _mountain_car(position: Numbers, *_: Numbers) -> World:
    xs = np.linspace(-1.35, 0.8, 130)
    road = np.stack([xs, 0.45 * np.sin(3 * xs)], 1).tolist()
    goal, height = 0.5, 0.45 * float(np.sin(1.5))
    flag = [[goal, height + 0.2], [goal + 0.1, height + 0.17], [goal, height + 0.14]]
    fixed: list[Shape] = [
        {"polygon": [*road, [0.8, -3], [-1.35, -3]], "color": "hill"},
        {"line": road, "width": 0.012, "color": "green"},
        {"line": [[goal, height], flag[0]], "width": 0.008, "color": "ink"},
        {"polygon": flag, "color": "red"},
    ]
    body = [[-0.08, 0.03], [0.08, 0.03], [0.08, 0.06], [0.03, 0.09], [-0.05, 0.09], [-0.08, 0.06]]
    car: list[Shape] = [{"polygon": body, "color": "blue"}]
    car += [{"disc": [x, 0.026], "radius": 0.024, "color": "ink"} for x in (-0.045, 0.045)]
    slope = np.arctan(1.35 * np.cos(3 * position))
    pose = (position, 0.45 * np.sin(3 * position), slope)
    return [car], fixed, [pose], (-0.3, 0.1), (0.95, 0.65)


WORLDS: dict[str, Callable[..., World]] = {
    "CartPole": _cart_pole,
    "CartDoublePendulum": _cart_double_pendulum,
    "Pendulum": _pendulum,
    "PendulumRewardless": _pendulum,
    "Acrobot": _acrobot,
    "MountainCar": _mountain_car,
    "MountainCarContinuous": _mountain_car,
}


def episodes_of(recording: Recording, which: str) -> Sequence[RecordedEpisode]:
    """The worst, median or best episode of a recording, or for `grid` all of it."""
    if which == "grid":
        return recording.episodes
    place = {"worst": 0, "median": recording.median, "best": -1}[which]
    return [recording.episodes[place]]
