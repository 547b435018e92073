"""What a session's runs have in common: what was typed, else what was kept, else what is usual."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from autorl.environments import load_harness
from autorl.errors import UserError
from autorl.records import Job, SandboxMode, from_json
from autorl.session.find import journals, pick_tag, read_state


@dataclass(frozen=True, slots=True)
class Settings:
    """What every run of a session has in common; journaled once, so that runs stay comparable."""

    env_id: str = "BipedalWalker-v3"
    time_budget: float = 720.0  # seconds
    num_eval_episodes: int = 100
    sandbox: SandboxMode = "auto"
    runner: str = "local"
    slots: int = 1
    cores: tuple[int, ...] = ()  # () = all this process may use
    gpu: str = ""
    env_kwargs: dict[str, Any] = field(default_factory=dict)  # of the environment's constructor
    budget_steps: int = 0  # environment steps, self-counted, beside time_budget; 0 = no limit
    confirm_looks: int = 2  # at one pair that may say *shown*: 1 or 2

    def job(self, source: str, seed: int, **more: Any) -> Job:
        """One run of this train.py; `more`: fields that differ from the session's, or are new."""
        names = Job.__dataclass_fields__.keys() & self.__dataclass_fields__.keys()
        ours: dict[str, Any] = {name: getattr(self, name) for name in names}
        return Job(**ours | {"train_source": source, "seed": seed} | more)


@dataclass(frozen=True, slots=True)
class Bounds:
    """When to stop; may differ each time a session is continued."""

    experiments: int | None = None  # decided experiments of the whole session
    hours: float | None = None  # of this process
    max_usd: float | None = None  # of the whole session
    confirm_runs: int = 5  # per arm of one look, at the end; 0 = none
    refusals: int = 10  # unusable proposals in a row
    anyway: bool = False  # a claim on what is not likely enough to be better, too


def resolve_settings(
    root: Path, typed: dict[str, Any], tag: str | None, new: bool = False
) -> tuple[str, Settings, bool]:
    """The tag and the settings that a command means: what was typed, else what the session kept,
    else what is usual.

    Args:
        typed: settings by name. Only the sandbox and the cores may change while a session lives.
        new: a session that exists is not continued.

    Returns:
        The tag, the settings, and whether there is such a session.

    Raises:
        UserError: a typed setting contradicts the session's, or is none.
    """
    harness = load_harness(root)
    usual = {
        "env_id": harness.ENV_ID,
        "time_budget": float(harness.TIME_BUDGET),
        "num_eval_episodes": harness.NUM_EVAL_EPISODES,
        "budget_steps": harness.BUDGET_STEPS,
    }
    if typed.get("env_id", harness.ENV_ID) == harness.ENV_ID:
        usual["env_kwargs"] = harness.ENV_KWARGS
    tag = pick_tag(root, typed.get("env_id", usual["env_id"]), tag, new)
    path = next((p for p in journals(root) if p.parent.name == tag), None)
    if path is None or new or (created := read_state(path).created) is None:
        settings = Settings(**usual | typed)
        if not 0 < settings.time_budget < float("inf"):
            raise UserError(
                f"The budget must be more than 0 seconds, not {settings.time_budget:g}: give "
                "--budget 720, for example."
            )
        if settings.num_eval_episodes < 1:
            raise UserError(
                f"At least one evaluation episode is needed, not {settings.num_eval_episodes}: "
                "give --episodes 100,"
                " for example."
            )
        return tag, settings, False
    kept = from_json(Settings, created.settings)
    if typed.get("env_id", kept.env_id) != kept.env_id:
        raise UserError(
            f"The tag {tag!r} belongs to {kept.env_id}: choose another --tag, or continue it with "
            f"--env-id {kept.env_id}."
        )
    changed = {name: typed[name] for name in ("sandbox", "cores") if name in typed}
    for name, value in asdict(kept).items():
        if name not in changed and typed.get(name, value) != value:
            raise UserError(
                f"The session {tag!r} was begun with {name.replace('_', ' ')} {value}, not "
                f"{typed[name]}: leave the flag"
                " out to continue it, or start another with --tag NAME."
            )
    return tag, replace(kept, **changed), True
