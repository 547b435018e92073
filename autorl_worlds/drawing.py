"""Pictures of the worlds: a state in, an RGB array out, by Pillow. No display and no OpenGL.

    picture = drawing.draw("autorl/CartPole-v0", (0.1, 0.0, 0.05, 0.0))    # (400, 600, 3) uint8

A state is that of envs.py, or one column of a batched `state`. No animation here, and no files.
"""

from cmath import rect
from collections.abc import Callable, Sequence
from math import cos, pi, sin

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from autorl_worlds import worlds

try:
    from PIL import Image, ImageDraw
except ImportError:
    raise gym.error.DependencyNotInstalled("Pictures need Pillow: install pillow.") from None

WIDTH, HEIGHT, SCALE = 600, 400, 3  # pixels; drawn SCALE times larger, then averaged: smooth edges
PAPER, INK, GREY, STEEL, HILL = "#f7f8fa", "#263238", "#b0bec5", "#455a64", "#dde5dc"
RED, BLUE, GREEN = "#c0392b", "#2c6fbb", "#3a8a5c"


def draw(env_id: str, state: Sequence[float] | NDArray[np.float64]) -> NDArray[np.uint8]:
    """The picture of a world in a state (S,); raises DependencyNotInstalled without Pillow."""
    drawings: dict[str, Callable[..., _Canvas]] = {
        worlds.Pendulum.env_id: _pendulum,
        worlds.PendulumRewardless.env_id: _pendulum,
        worlds.MountainCar.env_id: _mountain_car,
        worlds.CartPole.env_id: _cart_pole,
        worlds.CartDoublePendulum.env_id: _cart_double_pendulum,
    }
    return np.asarray(drawings[env_id](*map(float, state)).image.reduce(SCALE))


class _Canvas:
    """An image in metres, `width` wide around `centre`. A point is a complex number, x + iy."""

    def __init__(self, width: float, centre: complex = 0) -> None:
        self.image = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._zoom, self._middle = WIDTH * SCALE / width, centre  # pixels a metre

    def _pixel(self, point: complex) -> tuple[float, float]:
        offset = (point - self._middle) * self._zoom
        return WIDTH * SCALE / 2 + offset.real, HEIGHT * SCALE / 2 - offset.imag

    def line(self, points: Sequence[complex], width: float, colour: str) -> None:
        pixels = [self._pixel(p) for p in points]
        self._draw.line(pixels, colour, max(1, round(width * self._zoom)), joint="curve")
        for end in (points[0], points[-1]):  # round ends
            self.disc(end, width / 2, colour)

    def disc(self, centre: complex, radius: float, colour: str) -> None:
        self._draw.circle(self._pixel(centre), radius * self._zoom, colour)

    def polygon(self, points: Sequence[complex], colour: str) -> None:
        self._draw.polygon([self._pixel(p) for p in points], colour)

    def cart(self, x: float, rail: float) -> None:
        self.line([-rail, rail], 0.03, GREY)
        for end in (-rail, rail):
            self.line([end - 0.1j, end + 0.1j], 0.05, STEEL)
        self.polygon([x - 0.2 - 0.1j, x + 0.2 - 0.1j, x + 0.2 + 0.1j, x - 0.2 + 0.1j], STEEL)


def _pendulum(angle: float, *_: float) -> _Canvas:
    canvas = _Canvas(width=3.3)
    canvas.line([0, rect(worlds.Pendulum.length, pi / 2 - angle)], 0.15, RED)
    canvas.disc(0, 0.045, INK)
    return canvas


def _mountain_car(position: float, *_: float) -> _Canvas:
    def road(x: float) -> complex:  # the hill whose slope is the gravity of the physics
        return complex(x, 0.45 * sin(3 * x))

    world = worlds.MountainCar
    canvas = _Canvas(1.86, centre=complex((world.min_position + world.max_position) / 2, 0.08))
    hill = [road(x) for x in np.linspace(world.min_position - 0.1, world.max_position + 0.1, 120)]
    canvas.polygon([*hill, 1 - 2j, -2 - 2j], HILL)
    canvas.line(hill, 0.012, GREEN)
    goal, place = road(world.goal_position), road(position)
    canvas.line([goal, goal + 0.2j], 0.008, INK)
    canvas.polygon([goal + 0.2j, goal + 0.1 + 0.17j, goal + 0.14j], RED)
    ahead = complex(1, 0.45 * 3 * cos(3 * position))
    ahead /= abs(ahead)  # multiplying by it turns the car along the road
    body = (-0.08 + 0.03j, 0.08 + 0.03j, 0.08 + 0.06j, 0.03 + 0.09j, -0.05 + 0.09j, -0.08 + 0.06j)
    canvas.polygon([place + ahead * corner for corner in body], BLUE)
    for wheel in (-0.045 + 0.026j, 0.045 + 0.026j):
        canvas.disc(place + ahead * wheel, 0.024, INK)
    return canvas


def _cart_pole(x: float, _: float, angle: float, *__: float) -> _Canvas:
    canvas = _Canvas(width=5.2, centre=0.4j)
    canvas.cart(x, worlds.CartPole.rail)
    canvas.line([x, x + rect(2 * worlds.CartPole.half_length, pi / 2 - angle)], 0.1, RED)
    canvas.disc(x, 0.035, PAPER)
    return canvas


def _cart_double_pendulum(x: float, a: float, b: float, *_: float) -> _Canvas:
    world, canvas = worlds.CartDoublePendulum, _Canvas(width=5.2)
    for i in range(-12, 13):  # dots at the height of the tip when both rods stand
        canvas.disc(complex(0.2 * i, world.lower_length + world.upper_length), 0.01, GREY)
    canvas.cart(x, world.rail)
    joint = x + rect(world.lower_length, pi / 2 - a)
    canvas.line([x, joint], 0.08, RED)
    canvas.line([joint, joint + rect(world.upper_length, pi / 2 - b)], 0.08, BLUE)
    for hinge in (x, joint):
        canvas.disc(hinge, 0.025, PAPER)
    return canvas
