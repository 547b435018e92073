"""tests/cheats/ through the real judge and sandbox: no row earns a score it did not train for.

    uv run pytest tests/test_cheats.py            # half of the rows from a clone under /tmp, half
                                                  # from one under HOME
    uv run pytest tests/test_cheats.py -m long    # the slower rows, some rows from the other clone,
                                                  # some without a sandbox
    uv run python tests/test_cheats.py [ROW ...]  # the table: row, outcome, status, rule, reason

The first line of each file says its row, the outcome it must have and why. N: the run counts and
its returns are bit for bit those of the agent it hands over (it does nothing). C:rule: it crashes
with that rule and has no score. R:rule: it is refused by the static look or by a control. F: only a
person can tell; the file passes, and that is said. A file that prints THROUGH says so of itself: it
found what it must not find.
"""

import dataclasses
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import make_repo

from autorl.decision.controls import band_verdict as control_passed
from autorl.environments import sanity_band
from autorl.judge import process_tree, sandbox
from autorl.records import MIB, Job, Limits, RunRecord, from_json, to_json
from autorl.source.checks import vet

CHEATS = sorted((Path(__file__).parent / "cheats").glob("*.py"))
SECRET = "s3cr3t-canary"
SITE = Path(np.__file__).resolve().parent.parent
SMALL = Limits(memory_bytes=1024 * MIB, processes=64, disk_bytes=64 * MIB, log_bytes=4 * MIB)
NO_SANDBOX = "off"
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


def head(path: Path) -> tuple[str, str, str]:
    """(row, outcome, what) of a cheat."""
    row, outcome, what = (
        s.strip() for s in path.read_text(encoding="utf-8").splitlines()[0].strip('"').split("|", 2)
    )
    return row, outcome, what


def asked(path: Path) -> dict:
    """What its `# job:` line says."""
    found = re.search(r"^# job: (.*)$", path.read_text(encoding="utf-8"), re.M)
    return json.loads(found[1]) if found else {}


class Clone:
    """A clone of the project with files no run may touch, and a worker that runs cheats in it."""

    def __init__(self, parent: Path):
        self.base = Path(
            tempfile.mkdtemp(prefix="autorl cheats ", dir=parent)
        )  # a path with spaces
        self.root, self.home, self.out = self.base / "clone", self.base / "home", self.base / "out"
        make_repo(self.root)
        (self.root / "paying_pendulum.py").write_text(PAYING_PENDULUM)
        self.home.mkdir()
        for path in (
            self.home / ".netrc",
            self.home / ".modal.toml",
            self.home / "thesis.txt",
            self.root / ".env",
        ):
            path.write_text(f"machine api.example.org password {SECRET}\n")
        (self.root / "results" / "Pendulum-v1" / "t").mkdir(parents=True)
        (self.root / "results" / "Pendulum-v1" / "t" / "results.tsv").write_text(
            "commit\tavg_return\tstatus\tdescription\n"
        )
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(0)
        environment = {
            **os.environ,
            "HOME": str(self.home),
            "ANTHROPIC_API_KEY": SECRET,
            "AUTORL_SECRET": SECRET,
        }
        environment.pop("AUTORL_HOME", None)
        cache = f"pycache_prefix={self.base / 'bytecode'}"
        self.driver = subprocess.Popen(
            [sys.executable, "-I", "-X", cache, "-c", DRIVER, str(self.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.before = self.snapshot()

    def snapshot(self) -> dict[str, tuple]:
        """Everything a run could have changed: names, modes, sizes, times."""
        seen = {}
        for top in (self.root, self.home):
            for path in top.rglob("*"):
                if ".autorl" not in path.parts:
                    info = path.lstat()
                    seen[str(path)] = (
                        info.st_mode,
                        info.st_size,
                        info.st_mtime_ns if not path.is_dir() else 0,
                    )
        for path in (SITE / "gymnasium" / "core.py", Path("/etc/hosts"), SITE):
            seen[str(path)] = (path.lstat().st_mode, path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in (
            SITE / "zz.pth",
            SITE / "sitecustomize.py",
            Path("/tmp/pwned"),
            Path("/tmp/ck"),
            Path("/dev/shm/ck"),
        ):
            seen[str(path)] = (os.path.lexists(path),)
        return seen

    def source(self, path: Path) -> str:
        text = path.read_text(encoding="utf-8")
        for mark, value in (
            ("@CLONE@", self.root),
            ("@HOME@", self.home),
            ("@PORT@", self.server.getsockname()[1]),
            ("@HOSTNAME@", socket.gethostname()),
            ("@TEXT@", "QUJD" * 4000),
        ):
            text = text.replace(mark, str(value))
        return text

    def run(self, path: Path, mode: str = "bwrap") -> "Result":
        """One cheat, to its end."""
        source, more = self.source(path), asked(path)
        if why := vet(source):
            return Result(path, "R", None, "vet", why, 0.0)
        times = more.pop("times", 1)
        more["cores"] = tuple(more.get("cores", ()))
        job = Job(
            source,
            **{
                "env_id": "Pendulum-v1",
                "seed": 1,
                "time_budget": 15.0,
                "num_eval_episodes": 4,
                "sandbox": mode,
                "limits": SMALL,
                **more,
            },
        )
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
        rule, reason, outcome = (
            record.rule,
            record.reason,
            {"ok": "N", "crash": "C"}.get(record.status, record.status),
        )
        if job.kind != "measure":
            passed, reason = control_passed(
                job.kind, record, sanity_band(job.env_id, 5), record.avg_return
            )  # it needs no training: as good with it
            outcome, rule = ("F", "") if passed else ("R", job.kind)
        elif record.status == "ok" and head(path)[1] == "F":
            outcome, rule, reason = (
                ("F", "", record.flags[0]) if record.flags else ("N", "", "nobody was told")
            )
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
        changed = sorted(
            k for k in self.before.keys() | after.keys() if self.before.get(k) != after.get(k)
        )
        if changed:
            found.append(f"changed {changed[:5]}")
            self.before = after
        log = folder / "run.log"
        if log.is_file() and (
            claims := [
                line for line in log.read_bytes().splitlines() if line.startswith(b"THROUGH")
            ]
        ):
            found.append(f"its own words: {claims[0][:200]!r}")
        if any(SECRET.encode() in kept.read_bytes() for kept in folder.glob("*") if kept.is_file()):
            found.append("a secret in what is kept")
        if left := list((self.root / ".autorl" / "runs").glob("*")):
            found.append(f"left {left}")
        if alive := [
            p for p in processes() if "autorl-cheat-daemon" in p or str(self.root / ".autorl") in p
        ]:
            found.append(f"alive {alive}")
        if left_over := [
            pid for pid in process_tree.descendants(self.driver.pid)[1:] if process_tree.alive(pid)
        ]:
            found.append(f"alive {left_over}")
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
        return (
            ""
            if self.outcome in ("N", "N+F", "F") or (self.reason and self.reason[0].isalpha())
            else "no reason in words"
        )


def processes() -> list[str]:
    """Command lines of all processes."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append(
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                )
            except OSError:
                continue
    return found


def do_nothing(env_id: str, seeds: tuple[int, ...]) -> list[float]:
    """Returns of the honest agent on these episodes, one after another."""
    returns = []
    for seed in seeds:
        env = gym.make(env_id)
        env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(
                np.zeros(env.action_space.shape, np.float32)
            )
            total, over = total + float(reward), terminated or truncated
        env.close()
        returns.append(total)
    return returns


Key = tuple[Path, int, str]  # the file, which clone, which sandbox mode


class Corpus:
    """Two clones at work side by side: one under /tmp, one under HOME."""

    def __init__(self, plan: list[Key]):
        self.results: dict[Key, Result | Exception] = {}
        self.done = {key: threading.Event() for key in plan}
        self.threads = []
        for which, parent in enumerate((Path("/tmp"), Path.home())):
            tasks: queue.SimpleQueue[Key] = queue.SimpleQueue()
            for key in plan:
                if key[1] == which:
                    tasks.put(key)
            if not tasks.empty():
                self.threads.append(threading.Thread(target=self.work, args=(parent, tasks)))
                self.threads[-1].start()

    def work(self, parent: Path, tasks: "queue.SimpleQueue[Key]") -> None:
        clone = None
        try:
            clone = Clone(parent)
            while not tasks.empty():
                key = tasks.get()
                try:
                    self.results[key] = clone.run(key[0], key[2])
                except Exception as error:
                    self.results[key] = error
                self.done[key].set()
        finally:
            if clone:
                clone.close()
            for event in self.done.values():
                event.set() if not self.threads[0].is_alive() else None

    def result(self, key: Key) -> Result:
        assert self.done[key].wait(250), "it did not end"
        found = self.results[key]
        if isinstance(found, Exception):
            raise found
        return found


def sandbox_or_skip() -> None:
    box = sandbox.probe("auto")
    if not box.confined:
        if os.environ.get("AUTORL_REQUIRE_SANDBOX") == "1":
            pytest.fail(f"a sandbox is required here: {box.why}")
        pytest.skip(box.why)


@pytest.fixture(scope="session")
def corpus(request: pytest.FixtureRequest):
    sandbox_or_skip()
    plan = [
        item.callspec.params["key"]
        for item in request.session.items
        if "key" in getattr(getattr(item, "callspec", None), "params", {})
    ]
    work = Corpus(plan)
    yield work
    for thread in work.threads:
        thread.join()


# One row of each mechanism by default; the rest, and the other clone, under `-m long`.
FIRST = {
    "01", "01b", "03", "10a", "10b", "10f", "11", "12", "14", "15", "17b", "18", "19", "19b", "20a",
    "20b", "21", "22a", "24a", "24c", "24h", "26", "28", "29", "30a", "30b", "30c", "30d", "30g",
    "34", "38", "39a", "39d", "39f", "39g",
}  # fmt: skip
SECOND_PLACE = {"01", "03", "15", "28", "38"}  # from the other clone too
# what must hold without a sandbox
UNCONFINED = {
    "01", "01b", "02", "10a", "10b", "10h", "12", "14", "16", "24a", "24c", "24i", "26b", "39b",
    "39f",
}  # fmt: skip
HERE = [(path, i % 2, "bwrap") for i, path in enumerate(CHEATS)]


def parameters(key: Key, where: str, first: set[str]):
    """Rows that are not among the `first` are long."""
    path, _, _ = key
    marks = [] if row(path) in first else [pytest.mark.long]
    return pytest.param(key, id=path.stem + where, marks=marks)


def row(path: Path) -> str:
    """ "24c" of 24c_its_name.py."""
    return path.stem.split("_")[0]


KEYS = [parameters(key, "", FIRST) for key in HERE]
KEYS += [
    parameters((path, 1 - which, mode), "-elsewhere", set())
    for path, which, mode in HERE
    if row(path) in SECOND_PLACE
]
KEYS += [
    parameters((path, which, NO_SANDBOX), "-unconfined", {"14", "24c"})
    for path, which, _ in HERE
    if row(path) in UNCONFINED
]


@pytest.mark.parametrize("key", KEYS)
def test_no_cheat_earns_a_score_it_did_not_train_for(key: Key, corpus: Corpus) -> None:
    assert corpus.result(key).fits() == ""


def test_every_row_that_train_py_can_act_out_has_a_file() -> None:
    rows = {int(head(path)[0].split()[1]) for path in CHEATS}
    assert rows == set(range(1, 25)) | set(range(26, 31)) | {34, 36, 37, 38, 39}


def main() -> int:
    """Print the table."""
    started = time.monotonic()
    wanted_rows = sys.argv[1:]
    keys = [key for key in HERE if not wanted_rows or row(key[0]) in wanted_rows]
    print(f"isolation {sandbox.probe('bwrap').name}, {len(keys)} files")
    work, wrong = Corpus(keys), 0
    for key in keys:
        result = work.result(key)
        number, wanted, what = head(key[0])
        status = result.record.status if result.record else "refused"
        outcome = f"{result.outcome}:{result.rule}".rstrip(":")
        print(
            f"{number[4:]:>3}  {wanted:<14}{outcome:<16}{status:<8}{result.seconds:5.1f} s  {what}"
        )
        fault = f"  WRONG: {result.fits()}" if result.fits() else ""
        wrong += bool(fault)
        print(f"{'':>8}{result.reason or 'honest score'}{fault}", flush=True)
    print(f"{wrong} wrong, {time.monotonic() - started:.0f} s in all")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
