"""Recorded episodes as pages and videos: what was recorded is what is drawn, and nothing else."""

import base64
import html.parser
import json
import shutil
import subprocess
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from autorl.errors import UserError
from autorl.records import RecordedEpisode, Recording
from autorl.report.scenes import WORLDS, model_of, scene_of
from autorl.report.video import draw, gl_backend, write_video
from autorl.report.viewer import arms, player_script, script_json, viewer_html
from autorl.system.arrays import pack, unpack
from autorl_worlds import WORLDS as OUR_WORLDS

RED = (192, 57, 43)


def recording(env_id: str, kind: Any, states: Any, **more: Any) -> Recording:
    columns = np.column_stack([states, np.arange(len(states))])
    episode = RecordedEpisode(len(states) - 1.0, len(states), 0.04, pack(columns), **more)
    return Recording(env_id, kind, 100, (episode,), 0)


def cart_pole(angle: float) -> Recording:
    return recording("CartPole-v1", "state", [[0.0, 0.0, angle, 0.0]] * 3)


def test_a_pole_is_drawn_where_it_is() -> None:
    """Straight up, then a quarter to the right; half a metre is 640 / 5.2 / 2 = 62 pixels."""
    for angle, (dx, dy) in ((0.0, (0, -62)), (np.pi / 2, (62, 0))):
        scene = scene_of(r := cart_pole(angle), r.episodes[0])
        picture = draw(scene, 0)
        y, x = 240 + round(0.4 * 640 / 5.2), 320  # the hinge: the view's centre is .4 m above it
        assert tuple(picture[y + dy, x + dx]) == RED
        assert tuple(picture[y - dy - 40, x - dx]) != RED


def test_every_world_has_a_picture() -> None:
    names = {world.env_id.removeprefix("autorl/").removesuffix("-v0") for world in OUR_WORLDS}
    assert names <= WORLDS.keys()
    for world in OUR_WORLDS:
        size = 6 if "Double" in world.env_id else 4
        r = recording(f"autorl_worlds:{world.env_id}", "state", [[0.1] * size] * 2)
        colors = Image.fromarray(draw(scene_of(r, r.episodes[0]), 1)).getcolors(1 << 20)
        assert colors and len(colors) > 3


def test_bodies_of_mujoco_are_where_mujoco_has_them() -> None:
    import mujoco

    model = model_of("Hopper-v5")
    qpos = np.random.default_rng(0).uniform(-0.5, 0.5, (5, model.nq))
    r = recording("Hopper-v5", "mujoco", qpos)
    (arm,) = arms(r, "Baseline")
    numbers = unpack(pack_of(arm))  # (F, 7 bodies + focus + return)
    data = mujoco.MjData(model)
    for row, state in zip(numbers, qpos, strict=True):
        data.qpos[:] = state
        mujoco.mj_forward(model, data)
        assert np.allclose(row[:-4].reshape(-1, 7)[:, :3], data.xpos[1:], atol=1e-4)
    assert [len(shapes) for shapes in arm["bodies"]] == [1, 1, 1, 1]
    assert [shape["type"] for shape in arm["fixed"]] == ["plane"]


MESHES = """<mujoco>
<asset><mesh name="m" vertex="-1 -1 0  1 -1 0  1 1 0  -1 1 0  0 0 2"/></asset>
<worldbody>
  <geom type="plane" size="0 0 1"/> <geom type="box" size=".2 .3 .4" pos="3 0 .4" euler="0 0 45"/>
  <body pos="0 0 2"><freejoint/><geom type="mesh" mesh="m" rgba=".2 .5 .8 1"/>
    <geom type="ellipsoid" size=".3 .4 .5" pos="0 0 2"/></body>
</worldbody></mujoco>"""


class Meshes(gym.Env[Any, Any]):
    observation_space = action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self) -> None:
        import mujoco

        self.model = mujoco.MjModel.from_xml_string(MESHES)


def test_meshes_come_along() -> None:
    """A pyramid of five corners and six triangles, where its free body is."""
    gym.register("Meshes-v0", Meshes)
    r = recording("Meshes-v0", "mujoco", [[0, 0, z, 1, 0, 0, 0] for z in (2.0, 3.0)])
    (arm,) = arms(r, "Baseline")
    mesh, ellipsoid = arm["bodies"][0]
    vertices = np.frombuffer(zlib.decompress(base64.b64decode(mesh["vertices"])), "<f4")
    faces = np.frombuffer(zlib.decompress(base64.b64decode(mesh["faces"])), "<u4")
    assert (vertices.size, faces.size, faces.max()) == (15, 18, 4)
    assert np.ptp(vertices.reshape(5, 3), axis=0) == pytest.approx([2, 2, 2])
    assert ellipsoid["size"] == [0.3, 0.4, 0.5]
    assert [shape["type"] for shape in arm["fixed"]] == ["plane", "box"]
    assert arm["fixed"][1]["quaternion"] == pytest.approx([0.92388, 0, 0, 0.38268])
    assert unpack(pack_of(arm))[:, 2] == pytest.approx([2.0, 3.0], abs=1e-4)


def pack_of(arm: Any) -> Any:
    return type(pack(np.zeros((1, 1))))(**arm["numbers"])


def test_another_model_is_refused_in_a_sentence() -> None:
    r = recording("Hopper-v5", "mujoco", np.zeros((2, 4)))
    with pytest.raises(UserError, match="4 coordinates and the model here has 6"):
        scene_of(r, r.episodes[0])
    r = recording("NoSuchTask-v0", "mujoco", np.zeros((2, 4)))
    with pytest.raises(UserError, match="cannot be made here"):
        scene_of(r, r.episodes[0])


class Loads(html.parser.HTMLParser):
    """What a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href", "data")]


def test_a_page_loads_nothing_and_runs_no_text() -> None:
    hostile = "</script><script>alert(1)</script><img src=x>"
    sides = arms(cart_pole(0.0), hostile, note=hostile)
    page = viewer_html(hostile, hostile, sides)
    parser = Loads()
    parser.feed(page)
    assert parser.found == []
    assert page.count("<script>") == 2
    assert json.loads(script_json(sides))[0]["label"] == hostile
    assert "THREE" not in page.replace("THREE.", "")  # no library where there are two dimensions
    assert "MIT License" in player_script([{"dimensions": 3}])


@pytest.mark.skipif(bool(find_spec("imageio_ffmpeg")), reason="it brings an ffmpeg")
def test_a_video_without_ffmpeg_is_an_animated_webp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    r = recording("CartPole-v1", "state", [[0.0, 0.0, 0.1 * i, 0.0] for i in range(20)])
    path = write_video(tmp_path / "grid", [scene_of(r, r.episodes[0])] * 5, ["a"] * 5)
    with Image.open(path) as image:
        assert path.suffix == ".webp"
        assert image.size == (4 * 320 / 2, 2 * 240 / 2)  # rows of four
        assert getattr(image, "n_frames", 1) > 5  # equal ones are one


def test_without_opengl_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    gl_backend.cache_clear()
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(UserError, match=r"tried nonsense.*without --mp4"):
        gl_backend()
    gl_backend.cache_clear()


def test_the_player_reads_what_python_packs() -> None:
    """The arithmetic of player.js, by node where there is one."""
    if (node := shutil.which("node")) is None:
        pytest.skip("no node here")
    player, rng = player_script([]), np.random.default_rng(1)
    packed = pack(rng.normal(size=(50, 4)).cumsum(0))
    unpacking = player[player.index("  async function inflate") : player.index("  /* An episode")]
    task = script_json({"low": packed.low, "span": packed.span, "data": packed.data})
    code = f"{unpacking}; unpack({task}).then((x) => console.log(JSON.stringify([...x])))"
    done = subprocess.run([node, "-e", code], capture_output=True, text=True, check=True)
    assert np.allclose(np.reshape(json.loads(done.stdout), (50, 4)), unpack(packed), atol=1e-5)
