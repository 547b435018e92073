"""A clone of the project that cheats run in, and what became of them. Used by test_cheats.py."""

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from conftest import make_repo
from odd_sources import finally_tower
from played_alone import command_lines, sequential

from autorl.decision.controls import band_verdict as control_passed
from autorl.environments import sanity_band
from autorl.judge import process_tree
from autorl.records import MIB, Job, Limits, RunRecord, from_json, to_json
from autorl.source.checks import look

SECRET = "s3cr3t-canary"
SITE = Path(np.__file__).resolve().parent.parent
SMALL = Limits(memory_bytes=1024 * MIB, processes=64, disk_bytes=64 * MIB, log_bytes=4 * MIB)
DRIVER = """
import ctypes, json, platform, sys, time
if platform.machine() == "x86_64":
    ctypes.CDLL(None).syscall(250, 1, None)  # a session keyring, as a login has
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from autorl.records import Job, from_json, to_json
from autorl.runners.local import LocalRunner
runner = LocalRunner(1, Path(sys.argv[1]))
for line in sys.stdin:
    task = json.loads(line)
    started = time.monotonic()
    handle = runner.start(from_json(Job, task["job"]), Path(task["folder"]))
    while (record := runner.poll(handle)) is None:
        time.sleep(0.02)
    answer = {"record": to_json(record), "seconds": time.monotonic() - started}
    print(json.dumps(answer), flush=True)
"""


PAYING_PENDULUM = """
import gymnasium as gym
from gymnasium.envs.classic_control.pendulum import PendulumEnv

class Paying(PendulumEnv):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward + 20.0 * (action[0] == 2.0), terminated, truncated, info

gym.register("Pendulum-v1", Paying, max_episode_steps=200)
"""


COOKIE = """# -*- coding: utf-7 -*-
#+AAo-print('THROUGH hidden code ran', flush=True)
"""


def head(path: Path) -> tuple[str, str, str]:
    """(row, outcome, what) of a cheat."""
    first = path.read_text(encoding="utf-8").splitlines()[0].strip('"')
    row, outcome, what = (part.strip() for part in first.split("|", 2))
    return row, outcome, what


def asked(path: Path) -> dict:
    """What its `# job:` line says."""
    found = re.search(r"^# job: (.*)$", path.read_text(encoding="utf-8"), re.M)
    return json.loads(found[1]) if found else {}


class Clone:
    """A clone of the project with files no run may touch, and a worker that runs cheats in it."""

    def __init__(self, parent: Path):
        # a path with spaces
        self.base = Path(tempfile.mkdtemp(prefix="autorl cheats ", dir=parent))
        self.root, self.home, self.out = self.base / "clone", self.base / "home", self.base / "out"
        make_repo(self.root)
        (self.root / "paying_pendulum.py").write_text(PAYING_PENDULUM)
        self.home.mkdir()
        secrets = [self.home / name for name in (".netrc", ".modal.toml", "thesis.txt")]
        for path in (*secrets, self.root / ".env"):
            path.write_text(f"machine api.example.org password {SECRET}\n")
        results = self.root / "results" / "Pendulum-v1" / "t"
        results.mkdir(parents=True)
        (results / "results.tsv").write_text("commit\tavg_return\tstatus\tdescription\n")
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(0)
        # of this clone alone
        self.daemon = f"autorl-cheat-daemon-{os.getpid()}-{self.server.fileno()}"
        keys = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "AUTORL_SECRET")
        env = os.environ | dict.fromkeys(keys, SECRET) | {"HOME": str(self.home)}
        env.pop("AUTORL_HOME", None)
        cache = f"pycache_prefix={self.base / 'bytecode'}"
        argv = [sys.executable, "-I", "-X", cache, "-c", DRIVER, str(self.root)]
        pipe = subprocess.PIPE
        self.driver = subprocess.Popen(argv, stdin=pipe, stdout=pipe, env=env, text=True)
        self.before = self.snapshot()

    def snapshot(self) -> dict[str, tuple]:
        """Everything a run could have changed: names, modes, sizes, times."""
        seen = {}
        for top in (self.root, self.home):
            for path in top.rglob("*"):
                if ".autorl" not in path.parts:
                    info, time_ns = path.lstat(), 0 if path.is_dir() else path.lstat().st_mtime_ns
                    seen[str(path)] = (info.st_mode, info.st_size, time_ns)
        for path in (SITE / "gymnasium" / "core.py", Path("/etc/hosts"), SITE):
            info = path.lstat()
            seen[str(path)] = (info.st_mode, info.st_size, info.st_mtime_ns)
        made = (f"{SITE}/zz.pth", f"{SITE}/sitecustomize.py")
        for name in (*made, "/tmp/pwned", "/tmp/ck", "/dev/shm/ck"):
            seen[name] = (os.path.lexists(name),)
        return seen

    def source(self, path: Path) -> str:
        text = path.read_text(encoding="utf-8")
        if "# @COOKIE@" in text:  # which must stand above all else
            text = COOKIE + text.partition("# @COOKIE@")[2]
        numbers = ", ".join(f"{x:.3f}" for x in np.random.default_rng(0).normal(size=2000))
        for mark, value in (
            ("@CLONE@", self.root),
            ("@HOME@", self.home),
            ("@PORT@", self.server.getsockname()[1]),
            ("@HOSTNAME@", socket.gethostname()),
            ("@DAEMON@", self.daemon),
            ("@TEXT@", "QUJD" * 4000),
            ('"@WEIGHTS@"', numbers),
            ("# @SUM@", "b = " + "a+" * 1200 + "a"),
            ("# @ELIF@", "if a: pass\n" + "elif a: pass\n" * 1300),
            ("# @FINALLY@", finally_tower(19, 100)),
            ("@ESCAPE@", "\x1b"),
        ):
            text = text.replace(mark, str(value))
        return text

    def run(self, path: Path, mode: str = "bwrap") -> "Result":
        """One cheat, to its end."""
        source, more = self.source(path), asked(path)
        if why := look(source).why:
            return Result(path, "R", None, "vet", why, 0.0)
        times = more.pop("times", 1)
        more["cores"] = tuple(more.get("cores", ()))
        usual = {"env_id": "Pendulum-v1", "seed": 1, "time_budget": 60.0, "num_eval_episodes": 4}
        job = Job(source, **usual | {"sandbox": mode, "limits": SMALL} | more)
        spent = 0.0
        for turn in range(times):
            folder = self.out / f"{path.stem} {mode} {turn}"
            assert self.driver.stdin and self.driver.stdout
            self.driver.stdin.write(json.dumps({"job": to_json(job), "folder": str(folder)}) + "\n")
            self.driver.stdin.flush()
            said = json.loads(self.driver.stdout.readline())
            spent += said["seconds"]
        record = from_json(RunRecord, said["record"])
        trouble = self.trouble(folder)
        rule, reason = record.rule, record.reason
        outcome = {"ok": "N", "crash": "C"}.get(record.status, record.status)
        if job.kind != "measure":
            band = sanity_band(job.env_id, episodes=5)
            # it needs no training: as good with it
            passed, reason = control_passed(job.kind, record, band, record.avg_return)
            outcome, rule = ("F", "") if passed else ("R", job.kind)
        elif record.status == "ok" and head(path)[1] == "F":
            outcome = "F" if record.flags else "N"
            rule, reason = "", record.flags[0] if record.flags else "no flag was raised"
        elif record.status == "ok":
            honest = do_nothing(job.env_id, record.eval_seeds)
            if list(record.returns) != honest:
                trouble.append(f"returns {record.returns}, honest {honest}")
            if record.flags:
                outcome, reason = "N+F", record.flags[0]
        if record.isolation != {"bwrap": "bwrap", "off": "none"}[mode]:
            trouble.append(f"isolation {record.isolation}")
        if record.status != "ok" and record.avg_return is not None:
            trouble.append("a score without a complete record")
        if not (record.reason + record.log_tail).replace("\n", "").replace("\t", "").isprintable():
            trouble.append("control characters in what a person reads")
        return Result(path, outcome, record, rule, reason, spent, tuple(trouble))

    def trouble(self, folder: Path) -> list[str]:
        """What a run changed, leaked or left running."""
        found = []
        after = self.snapshot()
        if changed := sorted({name for name, _ in self.before.items() ^ after.items()}):
            found.append(f"changed {changed[:5]}")
            self.before = after
        log = folder / "run.log"
        lines = log.read_bytes().splitlines() if log.is_file() else []
        if claims := [line for line in lines if line.startswith(b"THROUGH")]:
            found.append(f"its own words: {claims[0][:200]!r}")
        if any(SECRET.encode() in kept.read_bytes() for kept in folder.glob("*") if kept.is_file()):
            found.append("a secret in what is kept")
        if left := list((self.root / ".autorl" / "runs").glob("*")):
            found.append(f"left {left}")
        marks = (self.daemon, str(self.root / ".autorl"))
        alive: list[object] = [x for x in command_lines().values() if any(m in x for m in marks)]
        alive += filter(process_tree.alive, process_tree.descendants(self.driver.pid)[1:])
        if alive:
            found.append(f"alive {alive}")
        try:
            self.server.accept()[0].close()
            found.append("it reached the network")
        except BlockingIOError:
            pass
        return found

    def close(self) -> None:
        assert self.driver.stdin
        self.driver.stdin.close()
        self.driver.wait(30)
        assert self.driver.stdout
        self.driver.stdout.close()
        self.server.close()
        shutil.rmtree(self.base)


@dataclasses.dataclass(frozen=True)
class Result:
    path: Path
    outcome: str
    record: RunRecord | None
    rule: str
    reason: str
    seconds: float
    trouble: tuple[str, ...] = ()

    def fits(self) -> str:
        """ "" when it is what the file's first line demands."""
        _, wanted, _ = head(self.path)
        outcome, _, rule = wanted.partition(":")
        if self.outcome != outcome or (rule and self.rule != rule) or self.trouble:
            got = f"{self.outcome}:{self.rule} ({self.reason}) {list(self.trouble)}"
            return f"wanted {wanted}, got {got}"
        said = self.outcome in ("N", "N+F", "F") or self.reason[:1].isalpha()
        return "" if said else "no reason in words"


def do_nothing(env_id: str, seeds: tuple[int, ...]) -> list[float]:
    """Returns of the honest agent on these episodes, one after another."""
    nothing = np.zeros(1, np.float32)
    return [sequential(env_id, seed, lambda *_: nothing) for seed in seeds]
