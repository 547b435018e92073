"""What a confined process can see, change and reach, wherever Python and the clone live."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import pytest
from conftest import python
from system_calls import ALLOW, ARCH, NUMBERS, WANTED

from autorl.judge import sandbox
from autorl.system.files import PROJECT

PROBE = r"""
import json, os, socket, sys
out = {}
out["env"] = dict(os.environ)
out["root"] = sorted(os.listdir("/"))
out["pids"] = [int(p) for p in os.listdir("/proc") if p.isdigit()]
out["caps"] = [l.split()[1] for l in open("/proc/self/status") if l.startswith("Cap")]
out["nnp"] = [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")]
def tries(act):
    try:
        act()
        return True
    except OSError:
        return False
def make(path):
    with open(path, "w") as f:
        f.write("x")
places = ["/", "/usr", "/etc", "/dev", "/proc", "/autorl", "/tmp", "/dev/shm", "."]
places += [sys.prefix, sys.base_prefix, os.environ["HOME"]]
out["writes"] = {p: tries(lambda p=p: make(p + "/made")) for p in places}
# opened for writing, nothing written
out["opens"] = {p: tries(lambda p=p: open(p, "r+").close()) for p in sys.argv[1:]}
out["reads"] = {p: tries(lambda p=p: open(p).close()) for p in sys.argv[1:]}
out["environs"] = ""
for p in out["pids"]:
    try:
        out["environs"] += open(f"/proc/{p}/environ").read()
    except OSError:
        pass
os.listdir("/proc/self/net")
out["net"] = [l.split(":")[0].strip() for l in open("/proc/self/net/dev") if ":" in l]
out["userns"] = os.system("unshare -U true 2>/dev/null") == 0
print(json.dumps(out))
"""


CALLS = r"""
import ctypes, json, subprocess, sys, threading
libc, out = ctypes.CDLL(None, use_errno=True), []
for number, arguments in json.loads(sys.argv[1]):
    ctypes.set_errno(0)
    values = [ctypes.c_ulong(value) for value in arguments]
    out.append(0 if libc.syscall(ctypes.c_long(number), *values) >= 0 else ctypes.get_errno())
threads = [threading.Thread(target=out.append, args=(-1,)) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
subprocess.run(["/bin/true"], check=True)
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def seen(box: sandbox.Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict:
    run_dir = tmp_path_factory.mktemp("run dir")
    secret = tmp_path_factory.mktemp("user") / "secret.txt"
    secret.write_text("secret")
    paths = [str(secret), "/etc/shadow", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"]
    paths += [str(PROJECT / "train.py"), "/etc/hosts"]
    argv, place = [sys.executable, "-I", "-S", "-c", PROBE, *paths], {run_dir: sandbox.RUN}
    argv = sandbox.wrap(box, argv, env={"GIVEN": "1"}, writable=place, chdir=sandbox.RUN)
    env = os.environ | {"AUTORL_CANARY": "leak"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env, cwd="/")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"secret": str(secret), "run_dir": run_dir}


def test_environment_is_what_was_given(seen: dict) -> None:
    assert set(seen["env"]) - {"LC_CTYPE"} <= {"GIVEN", "HOME", "TMPDIR", "PWD"}
    assert seen["env"]["GIVEN"] == "1"


def test_not_even_the_environment_of_process_one_leaks(seen: dict) -> None:
    assert "AUTORL_CANARY" not in seen["environs"]


def test_no_other_process_no_capability_no_new_privileges(seen: dict) -> None:
    assert len(seen["pids"]) <= 3
    assert set(seen["caps"]) == {"0000000000000000"}
    assert seen["nnp"] == ["1"]
    assert not seen["userns"] or "--disable-userns" not in sandbox.probe("auto").flags


def test_only_the_private_places_are_writable(seen: dict) -> None:
    writable = {place for place, ok in seen["writes"].items() if ok}
    assert writable == {"/tmp", "/dev/shm", sandbox.HOME, "."}
    assert (seen["run_dir"] / "made").read_text() == "x"


def test_files_of_the_user_and_of_root_are_out_of_reach(seen: dict) -> None:
    assert not seen["reads"][seen["secret"]]
    assert not seen["reads"]["/etc/shadow"]
    assert not seen["reads"][str(PROJECT / "train.py")]
    # the kernel's switches under /proc/sys too, which root owns
    assert not any(seen["opens"].values())


def test_the_filter_answers_each_call_as_its_table_says(box: sandbox.Sandbox) -> None:
    machine = os.uname().machine
    if machine not in ARCH:
        pytest.skip(f"there is no filter for {machine}")
    assert box.seccomp, "bubblewrap did not take the filter"
    column = list(ARCH).index(machine)
    refused = [
        # a call that nobody refuses would fail otherwise: there is no descriptor -1
        (NUMBERS[name][column], list(arguments or (2**32 - 1,)), answer & 0xFFFF)
        for name, arguments, answer in WANTED
        if answer != ALLOW and NUMBERS[name][column] is not None
    ]
    calls = json.dumps([(number, arguments) for number, arguments, _ in refused])
    argv = sandbox.wrap(box, [sys.executable, "-I", "-c", CALLS, calls], env={})
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    wanted = [error for _, _, error in refused]
    assert json.loads(done.stdout) == [*wanted, -1, -1, -1]  # and threads and processes start


def test_process_one_cannot_be_written_to(box: sandbox.Sandbox) -> None:
    code = "import os; os.open('/proc/1/mem', os.O_RDWR)"
    argv = sandbox.wrap(box, [sys.executable, "-I", "-S", "-c", code], env={})
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1 and "Read-only file system" in done.stderr


def make_venv(folder: Path) -> Path:
    command = [sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(folder)]
    subprocess.run(command, check=True)
    return folder


def test_a_lock_of_uv_is_not_the_runs_to_hold(box: sandbox.Sandbox, tmp_path: Path) -> None:
    venv = make_venv(tmp_path / "venv")
    (venv / ".lock").touch()
    hold = """
import contextlib, fcntl, sys, time
with contextlib.suppress(OSError):
    f = open(sys.prefix + "/.lock")
    fcntl.flock(f, fcntl.LOCK_EX)
print(1, flush=True)
time.sleep(60)
"""
    code = (
        "import subprocess, sys; from autorl.judge import sandbox; "
        f"argv = [sys.executable, '-I', '-c', {hold!r}]; "
        "argv = sandbox.wrap(sandbox.probe('bwrap'), argv, env={}); subprocess.run(argv)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(msgspec.__file__).parent.parent)}
    holder = subprocess.Popen(
        [str(venv / "bin/python"), "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, env=environment
    )
    try:
        assert holder.stdout and holder.stdout.readline() == b"1\n"
        with (venv / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        holder.kill()
        holder.communicate()


def test_only_loopback(seen: dict) -> None:
    assert seen["net"] == ["lo"]


def test_a_program_starts_and_ends_quickly(box: sandbox.Sandbox) -> None:
    argv = sandbox.wrap(box, ["/bin/true"], env={})
    seconds = []
    for _ in range(15):
        started = time.monotonic()
        subprocess.run(argv, check=True)
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 0.050, seconds


def test_dies_with_its_parent(box: sandbox.Sandbox, tmp_path: Path) -> None:
    mark = f"987654.{os.getpid()}"  # seconds, and not those of another checkout's tests
    # only the sleep inside has the mark for an argument of its own
    argv = sandbox.wrap(box, ["/bin/sh", "-c", f"exec /bin/sleep {mark}"], env={})
    code = f"import subprocess; subprocess.Popen({argv!r}).wait()"
    parent, deadline = subprocess.Popen([sys.executable, "-c", code]), time.monotonic() + 60
    while not _running(mark):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while (alive := _running(mark)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive


def test_temporary_memory_is_bounded(box: sandbox.Sandbox) -> None:
    code = "import os; found = map(os.statvfs, ('/tmp', '/dev/shm'))"
    code += "; print([s.f_blocks * s.f_frsize for s in found])"
    argv = sandbox.wrap(box, [sys.executable, "-I", "-c", code], env={}, tmpfs_bytes=1 << 20)
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [1 << 20, 1 << 20]


@pytest.mark.parametrize("parent", ["/tmp", str(Path.home())])
def test_a_python_that_lives_under_tmp_or_home_is_there(box: sandbox.Sandbox, parent: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="autorl python ", dir=parent))
    try:
        make_venv(folder / "venv")
        (folder / "beside.txt").write_text("not for you")
        (folder / "installed").mkdir()
        (folder / "installed" / "my_module.py").write_text("NAME = 'mine'\n")
        site = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
        (site / "mine.pth").write_text(f"{folder / 'installed'}\n")  # a package installed in place
        beside = f"os.path.exists({str(folder / 'beside.txt')!r})"
        inside = f"import os, json, my_module; print(my_module.NAME, {beside}, json.__name__)"
        code = (
            "import subprocess, sys; from autorl.judge import sandbox; "
            f"argv = [sys.executable, '-I', '-c', {inside!r}]; "
            "argv = sandbox.wrap(sandbox.probe('bwrap'), argv, env={}); "
            "sys.exit(subprocess.run(argv).returncode)"
        )
        # a relative path, as somebody with one environment for several clones types
        argv = [os.path.relpath(folder / "venv/bin/python", PROJECT), "-c", code]
        env = os.environ | {"PYTHONPATH": str(Path(msgspec.__file__).parent.parent)}
        done = subprocess.run(argv, cwd=PROJECT, capture_output=True, text=True, env=env)
        assert done.stdout.split() == ["mine", "False", "json"], done.stderr
    finally:
        shutil.rmtree(folder)


def test_an_inherited_socket_works_inside(box: sandbox.Sandbox) -> None:
    ours, theirs = socket.socketpair()
    code = f"import os; os.write({theirs.fileno()}, b'hello')"
    argv = sandbox.wrap(box, [sys.executable, "-I", "-S", "-c", code], env={})
    with ours, theirs:
        subprocess.run(argv, pass_fds=[theirs.fileno()], check=True, timeout=30)
        assert ours.recv(5) == b"hello"


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become an ordinary user"
)
def test_works_for_an_ordinary_user(box: sandbox.Sandbox) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, 12345, 12345)
        argv = ["/usr/bin/setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
        argv += [box.program, *box.flags, "--bind", folder, "/autorl"]
        argv += ["--cap-drop", "ALL", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib"]
        argv += ["--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev"]
        # at most 40 processes: counted in its namespace, whatever else this user runs
        code = "touch /autorl/made; for i in $(seq 60); do sleep 2 & done"
        few = ["/bin/sh", "-c", sandbox.FEW, "40", "/bin/sh", "-c", code]
        argv += ["--symlink", "usr/bin", "/bin", "--remount-ro", "/proc", "--remount-ro", "/", *few]
        done = subprocess.run(argv, capture_output=True, text=True, cwd="/")
        if "Operation not permitted" in done.stderr or "No permissions" in done.stderr:
            pytest.skip("this kernel keeps user namespaces from ordinary users")
        assert (Path(folder) / "made").stat().st_uid == 12345
        assert "Cannot fork" in done.stderr or "Resource temporarily" in done.stderr


def test_absent_or_broken_is_said_with_what_to_do_and_never_silent(tmp_path: Path) -> None:
    code = "print(sandbox.advice('auto')); sandbox.probe('bwrap')"
    for program, word in (
        (None, "not installed"),
        ("#!/bin/sh\necho 'bwrap: No permissions' >&2\nexit 1\n", "does not work"),
    ):
        folder = tmp_path / word.replace(" ", "-")
        folder.mkdir()
        if program:
            (folder / "bwrap").write_text(program)
            (folder / "bwrap").chmod(0o755)
        only = f"from autorl.judge import sandbox; sandbox.PLACES = ({str(folder)!r},); {code}"
        done = python("-c", only, PATH=str(folder))
        assert word in done.stdout
        assert done.stdout.startswith("Runs are not confined (isolation=none)")
        assert done.stdout.count("\n") == 1
        assert "UserError" in done.stderr and "--sandbox bwrap does not work here" in done.stderr


def test_off_is_off_and_says_so() -> None:
    assert sandbox.probe("off").name == "none"
    assert "switched off" in sandbox.advice("off")
    assert sandbox.wrap(sandbox.probe("off"), ["a", "b"], env={}) == ["a", "b"]


def _running(mark: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    return True
            except OSError:
                continue
    return False
