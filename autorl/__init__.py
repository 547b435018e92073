"""autoRL: autoresearch for reinforcement learning. The rooms; `loop.py` is the only file that knows their order."""
