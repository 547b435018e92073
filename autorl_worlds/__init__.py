"""Worlds: small control tasks, each in two forms that agree. Importing this registers the ids.

    import autorl_worlds, gymnasium
    env = gymnasium.make("autorl/CartDoublePendulum-v0")   # the truth: one environment, float64

    from autorl_worlds.batched import CartDoublePendulum
    envs = CartDoublePendulum(4096, device="cuda", seed=1)  # its twin: N environments in torch

A score is measured on the Gymnasium form (envs.py). The batched form (batched.py) is for training:
it never leaves its device, and its reward is one method to override. The tasks themselves are in
worlds.py, drawing.py makes pictures. vector.py makes these and any other environments, one or N at
once. Needs numpy and gymnasium; torch for the batched form, Pillow for pictures; EnvPool is used
where it is installed; nothing else.
"""

from gymnasium.envs.registration import register

from autorl_worlds.worlds import WORLDS

for _world in WORLDS:
    register(
        id=_world.env_id,
        entry_point=f"autorl_worlds.envs:{_world.__name__}Env",
        max_episode_steps=_world.max_episode_steps,
        reward_threshold=_world.reward_threshold,
    )
