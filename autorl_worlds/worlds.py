"""The tasks: constants with their units, dynamics, reward, end. Written once, for numpy and torch.

envs.py mixes these classes into Gymnasium environments, batched.py into batches of torch tensors.
`self.xp` is numpy there and torch here. A quantity (a position, an angle, a reward) is a float64
there and a tensor (N,) here; a state is an array of them, (S,) or (S, N), and unpacks into them.
A world is five small methods. Nothing here draws a picture, ends an episode by time, or resets.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from math import pi
from typing import Any

import numpy as np
from gymnasium import spaces

Quantity = Any  # a float64 or a tensor (N,)
State = Any  # an array of quantities, (S,) or (S, N)


class World:
    """The base of all tasks. The two forms provide `xp`, `array`, `uniform` and `normal`."""

    env_id: str
    max_episode_steps: int
    reward_threshold: float | None = None  # the return at which the task counts as solved
    render_fps = 50
    observation_low: tuple[float, ...]
    observation_high: tuple[float, ...]
    num_actions = 0  # > 0: discrete actions 0 .. num_actions - 1
    max_action = 1.0  # else one continuous action in -max_action .. max_action
    xp: Any  # numpy or torch
    array: Callable[[Sequence[Quantity]], State]
    uniform: Callable[[float, float], Quantity]  # draws: (low, high)
    normal: Callable[[float, float], Quantity]  # draws: (mean, standard deviation)

    def initial_state(self) -> Sequence[Quantity]:
        """The quantities of a state in which an episode begins."""
        raise NotImplementedError

    def physics(self, state: State, action: Quantity) -> Sequence[Quantity]:
        """The quantities of the state one step later; the action is within its bounds."""
        raise NotImplementedError

    def observe(self, state: State) -> Sequence[Quantity]:
        """The quantities that the agent sees."""
        return tuple(state)

    def reward_function(self, state: State, action: Quantity, next_state: State) -> Quantity:
        """The reward of a transition; the action is within its bounds."""
        raise NotImplementedError

    def terminated(self, state: State) -> Quantity:
        """Whether an episode ends in this state; bool."""
        return self.xp.zeros_like(state[0], dtype=self.xp.bool)

    def make_spaces(self) -> tuple[Any, Any]:
        """Observations (obs_dim,) float32 with finite bounds; actions Discrete, or (1,) float32."""
        low, high = (np.array(b, np.float32) for b in (self.observation_low, self.observation_high))
        if self.num_actions:
            return spaces.Box(low, high), spaces.Discrete(self.num_actions)
        return spaces.Box(low, high), spaces.Box(-self.max_action, self.max_action, (1,))


class Pendulum(World):
    """Swing a rod up and hold it there: Gymnasium's Pendulum-v1.

    State (2): angle (rad, 0 is upright), its velocity (rad/s). Observation (3): cos, sin, velocity.
    Action: torque (N m).
    """

    env_id = "autorl/Pendulum-v0"
    max_episode_steps, render_fps = 200, 20
    observation_low, observation_high = (-1.0, -1.0, -8.0), (1.0, 1.0, 8.0)
    max_action, max_speed = 2.0, 8.0  # N m, rad/s
    gravity, mass, length = 10.0, 1.0, 1.0  # m/s^2, kg, m
    dt = 0.05  # s

    def initial_state(self) -> Sequence[Quantity]:
        return self.uniform(-pi, pi), self.uniform(-1, 1)

    def physics(self, state: State, action: Quantity) -> Sequence[Quantity]:
        angle, speed = state
        gain = 3 * self.gravity / (2 * self.length)
        acc = gain * self.xp.sin(angle) + 3 / (self.mass * self.length**2) * action
        speed = self.xp.clip(speed + self.dt * acc, -self.max_speed, self.max_speed)
        return angle + self.dt * speed, speed

    def observe(self, state: State) -> Sequence[Quantity]:
        angle, speed = state
        return self.xp.cos(angle), self.xp.sin(angle), speed

    def reward_function(self, state: State, action: Quantity, next_state: State) -> Quantity:
        angle, speed = state
        from_upright = (angle + pi) % (2 * pi) - pi
        return -(from_upright**2 + 0.1 * speed**2 + 0.001 * action**2)


class PendulumRewardless(Pendulum):
    """The same pendulum with a reward of 0: an empty page for reward design."""

    env_id = "autorl/PendulumRewardless-v0"

    def reward_function(self, state: State, action: Quantity, next_state: State) -> Quantity:
        return self.xp.zeros_like(action)


class MountainCar(World):
    """Rock a weak car out of a valley: Gymnasium's MountainCar-v0.

    State (2) and observation: position, velocity a step. Actions: 0 left, 1 coast, 2 right.
    """

    env_id = "autorl/MountainCar-v0"
    max_episode_steps, reward_threshold, render_fps = 200, -110.0, 30
    min_position, max_position, max_speed = -1.2, 0.6, 0.07
    observation_low, observation_high = (min_position, -max_speed), (max_position, max_speed)
    num_actions = 3
    goal_position, force, gravity = 0.5, 0.001, 0.0025

    def initial_state(self) -> Sequence[Quantity]:
        position = self.uniform(-0.6, -0.4)
        return position, self.xp.zeros_like(position)

    def physics(self, state: State, action: Quantity) -> Sequence[Quantity]:
        position, speed = state
        speed = speed + (action - 1) * self.force - self.gravity * self.xp.cos(3 * position)
        speed = self.xp.clip(speed, -self.max_speed, self.max_speed)
        position = self.xp.clip(position + speed, self.min_position, self.max_position)
        stopped = (position <= self.min_position) & (speed < 0)  # by the wall on the left
        return position, speed * ~stopped

    def reward_function(self, state: State, action: Quantity, next_state: State) -> Quantity:
        return -self.xp.ones_like(action)

    def terminated(self, state: State) -> Quantity:
        return (state[0] >= self.goal_position) & (state[1] >= 0)


class CartPole(World):
    """Balance a pole on a cart: Gymnasium's CartPole-v1.

    State (4) and observation: cart position (m), its velocity (m/s), pole angle (rad, 0 is
    upright), its velocity (rad/s). Actions: 0 pushes left, 1 right. Gymnasium leaves velocities
    without bounds; these are out of reach: 10 N over 4.8 m of rail give about 10 m/s.
    """

    env_id = "autorl/CartPole-v0"
    max_episode_steps, reward_threshold = 500, 475.0
    rail = 2.4  # m, on either side of the centre
    max_angle = 12 * 2 * pi / 360  # rad
    observation_low = (-2 * rail, -20.0, -2 * max_angle, -20.0)
    observation_high = (2 * rail, 20.0, 2 * max_angle, 20.0)
    num_actions = 2
    gravity, force, dt = 9.8, 10.0, 0.02  # m/s^2, N, s
    cart_mass, pole_mass, half_length = 1.0, 0.1, 0.5  # kg, kg, m: to the pole's centre of mass

    def initial_state(self) -> Sequence[Quantity]:
        return [self.uniform(-0.05, 0.05) for _ in range(4)]

    def physics(self, state: State, action: Quantity) -> Sequence[Quantity]:
        """Euler's method on https://coneural.org/florian/papers/05_cart_pole.pdf, no friction."""
        _, x_dot, angle, angle_dot = state
        force, c, s = self.force * (2 * action - 1), self.xp.cos(angle), self.xp.sin(angle)
        mass, moment = self.cart_mass + self.pole_mass, self.pole_mass * self.half_length
        push = (force + moment * angle_dot**2 * s) / mass
        length = self.half_length * (4 / 3 - self.pole_mass * c**2 / mass)
        angle_acc = (self.gravity * s - c * push) / length
        x_acc = push - moment * angle_acc * c / mass
        return tuple(state + self.dt * self.array((x_dot, x_acc, angle_dot, angle_acc)))

    def reward_function(self, state: State, action: Quantity, next_state: State) -> Quantity:
        return self.xp.ones_like(action)

    def terminated(self, state: State) -> Quantity:
        return (abs(state[0]) > self.rail) | (abs(state[2]) > self.max_angle)


class CartDoublePendulum(World):
    """Swing two rods in series up by the cart that carries them. Nothing drives the joints.

    State (6): cart position x (m), angles a, b of the lower and the upper rod (rad, each from the
    vertical, 0 is upright), and their velocities. Observation (8): x, x', cos a, sin a, cos b,
    sin b, a', b'. Action: cart force as a fraction of max_force. Both rods hang at the start.
    Leaving the rail ends the episode.

    Reward a step, in 0 .. 1, with h in -1 .. 1 the height of the tip (1: both rods are upright):
    (1 + h) / 2 * (1 - 0.1 action^2) * exp(-0.1 x^2 - 0.001 (a'^2 + b'^2)).
    Velocities have no limit in the physics, only in the observation, so that its bounds are finite.
    Random forces reach 6 m/s and 28 rad/s; forces that pump energy in, 18 m/s and 140 rad/s.
    """

    env_id = "autorl/CartDoublePendulum-v0"
    max_episode_steps = 500
    rail = 2.4  # m, on either side of the centre
    seen_speed, seen_rate = 20.0, 50.0  # m/s, rad/s: what is faster is observed as this
    observation_low = (-2 * rail, -seen_speed, -1.0, -1.0, -1.0, -1.0, -seen_rate, -seen_rate)
    observation_high = (2 * rail, seen_speed, 1.0, 1.0, 1.0, 1.0, seen_rate, seen_rate)
    gravity = 9.81  # m/s^2
    cart_mass, lower_mass, upper_mass = 1.0, 0.5, 0.5  # kg
    lower_length, upper_length = 0.6, 0.6  # m
    max_force = 20.0  # N
    cart_friction, joint_friction = 0.05, 0.002  # N s/m; N m s/rad, in each joint
    dt, substeps = 0.02, 2  # s; Runge-Kutta steps in it
    initial_noise = 0.05  # rad, the standard deviation of each angle at the start
    centre_cost, effort_cost, speed_cost = 0.1, 0.1, 0.001

    def initial_state(self) -> Sequence[Quantity]:
        lower, upper = self.normal(pi, self.initial_noise), self.normal(pi, self.initial_noise)
        still = self.xp.zeros_like(lower)
        return still, lower, upper, still, still, still

    def physics(self, state: State, action: Quantity) -> Sequence[Quantity]:
        """The classical Runge-Kutta method of fourth order."""
        h, force = self.dt / self.substeps, self.max_force * action
        for _ in range(self.substeps):
            k1 = self.derivative(state, force)
            k2 = self.derivative(state + h / 2 * k1, force)
            k3 = self.derivative(state + h / 2 * k2, force)
            k4 = self.derivative(state + h * k3, force)
            state = state + h / 6 * (k1 + 2 * (k2 + k3) + k4)
        return tuple(state)

    def derivative(self, state: State, force: Quantity) -> State:
        """The state's derivative: M (x'', a'', b'') = f, solved by elimination.

        M is symmetric: [d1, d2 cos a, d3 cos b], [., d4, d5 cos(a - b)], [., ., d6]. By hand, since
        that is the same on every device and several times faster than a solver.
        A. Bogdanov, Optimal Control of a Double Inverted Pendulum on a Cart, OGI CSE-04-006, 2004.
        """
        d1, d2, d3, d4, d5, d6 = self.inertia
        x_dot, a_dot, b_dot = state[3:]
        (cos_a, cos_b), (sin_a, sin_b) = self.xp.cos(state[1:3]), self.xp.sin(state[1:3])
        h, k = d2 * cos_a, d3 * cos_b
        m = d5 * (cos_a * cos_b + sin_a * sin_b)  # d5 cos(a - b)
        n = d5 * (sin_a * cos_b - cos_a * sin_b)  # d5 sin(a - b)
        aa, bb, joint = a_dot * a_dot, b_dot * b_dot, self.joint_friction * (b_dot - a_dot)
        f0 = force + d2 * sin_a * aa + d3 * sin_b * bb - self.cart_friction * x_dot
        f1 = d2 * self.gravity * sin_a - n * bb - self.joint_friction * a_dot + joint
        f2 = d3 * self.gravity * sin_b + n * aa - joint
        h1, k1 = h / d1, k / d1  # the first row, divided by d1, leaves the others without x''
        p11, p12, p22, q1, q2 = d4 - h * h1, m - h * k1, d6 - k * k1, f1 - h1 * f0, f2 - k1 * f0
        b_acc = (q2 * p11 - q1 * p12) / (p11 * p22 - p12 * p12)
        a_acc = (q1 - p12 * b_acc) / p11
        x_acc = (f0 - h * a_acc - k * b_acc) / d1
        return self.array((x_dot, a_dot, b_dot, x_acc, a_acc, b_acc))

    @cached_property
    def inertia(self) -> tuple[float, float, float, float, float, float]:
        """d1 .. d6 of the mass matrix."""
        m0, m1, m2 = self.cart_mass, self.lower_mass, self.upper_mass
        l1, l2 = self.lower_length, self.upper_length
        d1, d2, d3 = m0 + m1 + m2, (m1 / 2 + m2) * l1, m2 * l2 / 2
        return d1, d2, d3, (m1 / 3 + m2) * l1**2, m2 * l1 * l2 / 2, m2 * l2**2 / 3

    def observe(self, state: State) -> Sequence[Quantity]:
        xp, (x, a, b, x_dot, *_) = self.xp, state
        x_dot = xp.clip(x_dot, -self.seen_speed, self.seen_speed)
        a_dot, b_dot = xp.clip(state[4:], -self.seen_rate, self.seen_rate)
        return x, x_dot, xp.cos(a), xp.sin(a), xp.cos(b), xp.sin(b), a_dot, b_dot

    def reward_function(self, state: State, action: Quantity, next_state: State) -> Quantity:
        x, a, b, _, a_dot, b_dot = next_state
        l1, l2 = self.lower_length, self.upper_length
        height = (l1 * self.xp.cos(a) + l2 * self.xp.cos(b)) / (l1 + l2)
        cost = self.centre_cost * x**2 + self.speed_cost * (a_dot**2 + b_dot**2)
        return (1 + height) / 2 * (1 - self.effort_cost * action**2) * self.xp.exp(-cost)

    def terminated(self, state: State) -> Quantity:
        return abs(state[0]) > self.rail


WORLDS = (Pendulum, PendulumRewardless, MountainCar, CartPole, CartDoublePendulum)
