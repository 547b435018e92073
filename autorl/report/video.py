"""Recorded episodes as a video, without a display: MP4, else an animated WebP.

    path = write_video(Path("watch"), [[scene], [scene]], ["Baseline", "Champion"])

MuJoCo draws its own scenes through OpenGL, in a child process, because it commits to a backend when
it is imported: $MUJOCO_GL if that is set, else the first of EGL, OSMesa and GLFW that can draw.
Everything else is drawn by Pillow. H.264 is written by imageio-ffmpeg (`uv sync --extra video`) or
the system's ffmpeg.

What this file does not do: play, or choose what to show.
"""

import functools
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from autorl.errors import UserError
from autorl.report.scenes import Scene, Shape
from autorl.system.text import last_line

Picture = NDArray[np.uint8]  # (height, width, 3)

FPS = 30
SIZE, SMALL = (640, 480), (320, 240)  # of an arm: of up to three, of more
HOLD_SECONDS = 1.0  # the last frame
SMOOTH = 2  # drawn so many times larger, then averaged
COLORS = {
    "paper": "#f6f8fa", "ink": "#263238", "grey": "#b0bec5", "steel": "#455a64",
    "hill": "#d9e4d6", "red": "#c0392b", "blue": "#2c6fbb", "green": "#3a8a5c",
}  # fmt: skip
BACKENDS = ("egl", "osmesa", "glfw")
PROBE_SECONDS = 60
NO_GL = (
    "No OpenGL works here (tried {}), which MuJoCo needs for a video: install libosmesa6 or "
    "libegl1, or look at the page that `watch` writes without --mp4."
)


def write_video(path: Path, scenes: Sequence[Scene], captions: Sequence[str]) -> Path:
    """Write scenes side by side, more than three in rows of four, and say where.

    Args:
        path: without a suffix, which is .mp4, or .webp where there is no ffmpeg.

    Raises:
        UserError: nothing here can draw it.
    """
    size = SIZE if len(scenes) <= 3 else SMALL
    seconds = max(len(s.poses) * s.seconds_per_frame for s in scenes) + HOLD_SECONDS
    streams = [
        _mujoco_frames(scene, size, seconds) if scene.model else _drawn(scene, size, seconds)
        for scene in scenes
    ]
    frames = (
        _tiled([_captioned(p, c) for p, c in zip(pictures, captions, strict=True)])
        for pictures in zip(*streams, strict=True)
    )
    return _encode(path, frames)


def _places(scene: Scene, seconds: float) -> list[int]:
    """The recorded frame that each frame of the video shows; the last one stays."""
    at = np.arange(round(seconds * FPS)) / FPS / scene.seconds_per_frame
    return [int(place) for place in np.minimum(at + 1e-6, len(scene.poses) - 1)]


def _captioned(picture: Picture, caption: str) -> Picture:
    if not caption:
        return picture
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image, "RGBA"), ImageFont.load_default(18)
    left, top, right, bottom = draw.textbbox((18, 14), caption, font)
    draw.rounded_rectangle((left - 8, top - 6, right + 8, bottom + 6), 6, (255, 255, 255, 200))
    draw.text((18, 14), caption, "#263238", font)
    return np.asarray(image)


def _tiled(pictures: Sequence[Picture]) -> Picture:
    """One picture of all: a row of up to three, else rows of four."""
    columns = len(pictures) if len(pictures) <= 3 else 4
    blank = [np.full_like(pictures[0], 255)] * (-len(pictures) % columns)
    cells = [*pictures, *blank]
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells), columns)]
    return np.concatenate(rows)


# -- Two dimensions, by Pillow ---------------------------------------------------------------------


def _drawn(scene: Scene, size: tuple[int, int], seconds: float) -> Iterator[Picture]:
    for place in _places(scene, seconds):
        yield draw(scene, place, size)


def draw(scene: Scene, frame: int, size: tuple[int, int] = SIZE) -> Picture:
    """One frame of a scene in two dimensions."""
    width, height = SMOOTH * size[0], SMOOTH * size[1]
    image = Image.new("RGB", (width, height), COLORS["paper"])
    zoom = min(width / 2 / scene.extent[0], height / 2 / scene.extent[1])
    corner = scene.focus[frame] + np.array([-width / 2, height / 2]) / zoom
    pen = ImageDraw.Draw(image)
    for shape in scene.fixed:
        _shape(pen, shape, np.zeros(3), corner, zoom)
    for shapes, pose in zip(scene.bodies, scene.poses[frame], strict=True):
        for shape in shapes:
            _shape(pen, shape, pose, corner, zoom)
    return np.asarray(image.reduce(SMOOTH))


def _shape(pen: ImageDraw.ImageDraw, shape: Shape, pose: Any, corner: Any, zoom: float) -> None:
    """Draw a shape of a body with this pose (x, y, angle)."""
    x, y, angle = pose
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.array(shape.get("polygon") or shape.get("line") or [shape["disc"]])
    pixels = (points @ turn.T + (x, y) - corner) * (zoom, -zoom)
    corners = [tuple(pixel) for pixel in pixels.tolist()]
    color = shape["color"]
    fill = COLORS[color] if isinstance(color, str) else tuple(color)
    if "disc" in shape:
        pen.circle(corners[0], shape["radius"] * zoom, fill)
    elif "polygon" in shape:
        pen.polygon(corners, fill)
    else:
        pen.line(corners, fill, max(1, round(shape["width"] * zoom)), "curve")
        for end in (corners[0], corners[-1]):  # round ends
            pen.circle(end, shape["width"] * zoom / 2, fill)


# -- MuJoCo, by OpenGL in a child process ----------------------------------------------------------

# A child writes frames as raw bytes. Shadows and reflections are off: in software they take seven
# eighths of the time. The camera looks a little down at the focus; from above at what is flat.
CHILD = """
import json, sys
import mujoco, numpy as np
task = json.loads(sys.stdin.readline())
if not task:
    ball = "<mujoco><worldbody><geom size='1'/></worldbody></mujoco>"
    model = mujoco.MjModel.from_xml_string(ball)
    with mujoco.Renderer(model, 8, 8) as renderer:
        renderer.update_scene(mujoco.MjData(model))
        renderer.render()
    sys.exit()
model, (width, height) = mujoco.MjModel.from_binary_path(task["model"]), task["size"]
model.vis.global_.offwidth, model.vis.global_.offheight = width, height
floors = model.geom_matid[model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE]
for texture in model.mat_texid[floors[floors >= 0]].ravel():
    if texture >= 0:  # black and white flicker as they pass: light greys
        size = model.tex_height[texture] * model.tex_width[texture] * model.tex_nchannel[texture]
        pixels = model.tex_data[model.tex_adr[texture] :][:size]
        pixels[:] = 160 + pixels // 4
data, camera = mujoco.MjData(model), mujoco.MjvCamera()
camera.azimuth, camera.elevation = task["azimuth"], task["elevation"]
camera.distance = task["distance"]
states, last = np.load(task["states"]), -1
with mujoco.Renderer(model, height, width) as renderer:
    for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
        renderer.scene.flags[flag] = 0
    for place in task["places"]:
        if place != last:
            data.qpos[:], camera.lookat[:], last = states[place, :-3], states[place, -3:], place
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera)
            picture = renderer.render().tobytes()
        sys.stdout.buffer.write(picture)
"""


def _environment(backend: str) -> dict[str, str]:
    """A child's: this backend, and conda's libraries, where OSMesa may be."""
    env = os.environ | {"MUJOCO_GL": backend}
    if conda := os.environ.get("CONDA_PREFIX"):
        paths = [os.environ.get("LD_LIBRARY_PATH", ""), str(Path(conda) / "lib")]
        env["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
    return env


@functools.cache
def gl_backend() -> str:
    """The OpenGL backend that draws here: $MUJOCO_GL alone, where that is set.

    Raises:
        UserError: none.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower()
    tried = (asked,) if asked else BACKENDS
    for backend in tried:
        try:
            subprocess.run(
                [sys.executable, "-P", "-c", CHILD],
                input=b"null\n",
                env=_environment(backend),
                capture_output=True,
                timeout=PROBE_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return backend
    raise UserError(NO_GL.format(", ".join(tried)))


def _mujoco_frames(scene: Scene, size: tuple[int, int], seconds: float) -> Iterator[Picture]:
    import mujoco

    backend = gl_backend()
    with tempfile.TemporaryDirectory() as folder:
        model, states = Path(folder, "model.mjb"), Path(folder, "states.npy")
        mujoco.mj_saveModel(scene.model, str(model), None)
        np.save(states, np.concatenate([scene.states, scene.focus], 1))
        azimuth, elevation = (90.0, -65.0) if scene.above else (109.0, -12.0)
        half = np.sin(np.deg2rad(float(scene.model.vis.global_.fovy)) / 2)
        task = {
            "model": str(model),
            "states": str(states),
            "size": size,
            "places": _places(scene, seconds),
            "azimuth": azimuth,
            "elevation": elevation,
            "distance": 1.25 * scene.extent[0] / half,
        }
        command, env = [sys.executable, "-P", "-c", CHILD], _environment(backend)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe) as child:
            assert child.stdin and child.stdout
            with child.stdin:
                child.stdin.write(json.dumps(task).encode() + b"\n")
            try:
                count = size[0] * size[1] * 3
                while len(data := child.stdout.read(count)) == count:
                    yield np.frombuffer(data, np.uint8).reshape(size[1], size[0], 3)
            finally:
                child.kill()


# -- Files -----------------------------------------------------------------------------------------


def _ffmpeg() -> str | None:
    """A program that writes H.264."""
    if importlib.util.find_spec("imageio_ffmpeg"):
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    if program := shutil.which("ffmpeg"):
        command = [program, "-hide_banner", "-encoders"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        return program if "libx264" in listed.stdout else None
    return None


def _encode(path: Path, frames: Iterator[Picture]) -> Path:
    """H.264 where there is an ffmpeg for it, else an animated WebP."""
    if (program := _ffmpeg()) is None:
        return _webp(path, frames)
    first = next(frames)
    height, width = first.shape[:2]
    target = path.with_name(path.name + ".mp4")
    command = [program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", str(FPS), "-i", "-", "-c:v", "libx264"]
    command += ["-crf", "21", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as encoder:
        assert encoder.stdin and encoder.stderr
        try:
            with encoder.stdin as sink:
                sink.write(first.tobytes())
                for frame in frames:
                    sink.write(frame.tobytes())
        except BrokenPipeError:
            pass
        said = encoder.stderr.read()
    if encoder.returncode:
        raise UserError(f"ffmpeg ({program}) did not write {target.name}: {last_line(said)}")
    return target


def _webp(path: Path, frames: Iterator[Picture]) -> Path:
    """Ten pictures a second of half the size: all of them are in memory at once."""
    target = path.with_name(path.name + ".webp")
    images = [Image.fromarray(frame).reduce(2) for frame in itertools.islice(frames, 0, None, 3)]
    images[0].save(
        target, save_all=True, append_images=images[1:], duration=3000 // FPS, loop=0, quality=75
    )
    return target
