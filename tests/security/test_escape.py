"""Code that reaches for the host, for other guests, or for what outlives it (threat list: "Read", "Escape")."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import guests
import pytest

import sandbox
from sandbox import bubblewrap
from sandbox.faults import GuestFault
from sandbox.guest_client import Guest

GRACE = 20.0  # seconds for the kernel to end processes, on a busy machine; it takes milliseconds


@pytest.fixture(scope="module", params=guests.SANDBOXED)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with guests.guest(request.param) as started:
        yield started


def eventually(holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + GRACE
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.01)
    return held


def processes_of(uid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
        except OSError:  # it has just ended
            continue
        if f"\nUid:\t{uid}\t" in status and "\nState:\tZ" not in status:  # a zombie runs no code
            found.append(int(folder.name))
    return found


# What gVisor's sessions, which cannot hide it from themselves, find in an image: the guest's own, and an empty folder
PYTHON = f"python3.{sys.version_info.minor}"
OF_THE_IMAGE = {"judge", "python3", PYTHON, "ld.so.cache", "resolv.conf", "hostname", "hosts", "mtab"}
# Devices of its kernel
OF_ITS_KERNEL = {"fd", "fuse", "net", "ptmx", "pts", "stderr", "stdin", "stdout", "tty"}


@pytest.mark.threat(16)
@pytest.mark.parametrize(
    "place", ["/root", "/home", "/etc", "/etc/passwd", "/work", "/var", "/run", "/sys", "/usr/bin"]
)
def test_the_hosts_files_are_not_there(guest: Guest, place: str) -> None:
    source = f"""
    import os
    def look():
        try:
            return os.listdir({place!r}) if os.path.isdir({place!r}) else [open({place!r}).read()]
        except OSError:
            return []
    """
    with guests.loaded(guest, source) as session:
        found = session.call("look")
    assert set(found) <= (OF_THE_IMAGE if guests.has_own_kernel(guest) else set())


@pytest.mark.threat(12, 17, 22)
def test_no_path_of_the_host_shows(guest: Guest) -> None:
    source = """
    import gc, os, socket, sys, torch
    def look():
        paths = [*sys.path, sys.prefix, sys.executable, torch.__file__, os.getcwd(), socket.gethostname()]
        code = [f.__code__.co_filename for f in gc.get_objects() if type(f).__name__ == "function"]
        proc = [file for file in ("mountinfo", "cmdline", "environ", "maps") if os.path.exists(f"/proc/self/{file}")]
        texts = [open(f"/proc/self/{file}", errors="replace").read() for file in proc]
        return sorted(set(paths)), sorted(set(code)), texts, os.listdir("/tmp"), sys.argv
    """
    with guests.loaded(guest, source) as session:
        paths, code, proc, tmp, argv = session.call("look")
    assert tmp == []
    assert proc == [] or guests.has_own_kernel(guest)
    for place in (sys.prefix, sys.base_prefix, str(Path(sandbox.__path__[0]).parent), socket.gethostname()):
        assert not [path for path in [*paths, *argv, *proc] if place in path]
    checkout = str(Path(sandbox.__path__[0]).parent)
    assert not [path for path in code if path.startswith(checkout)]


@pytest.mark.threat(36, 40)
@pytest.mark.parametrize(
    "place", ["/", "/opt", "/opt/guest", "/opt/guest/torch", "/opt/guest/guest", "/usr/lib", "/dev"]
)
def test_nothing_of_the_system_can_be_written(guest: Guest, place: str) -> None:
    fault = guests.fault_of(guest, f"def attack(): open({place!r} + '/x', 'w')")
    assert fault.exception in ("OSError", "PermissionError")


@pytest.mark.threat(36)
def test_devices_are_the_harmless_five(guest: Guest) -> None:
    source = "import os\ndef look(): return sorted(os.listdir('/dev'))"
    with guests.loaded(guest, source) as session:
        found = set(session.call("look"))
    assert found - (OF_ITS_KERNEL if guests.has_own_kernel(guest) else set()) == {
        "full",
        "null",
        "random",
        "shm",
        "urandom",
        "zero",
    }
    assert guests.fault_of(guest, "import os\ndef attack(): os.mknod('/tmp/sda', 0o60666, os.makedev(8, 0))")


@pytest.mark.threat(34)
def test_no_privilege_is_left(guest: Guest) -> None:
    source = """
    import ctypes, os
    def look():
        libc = ctypes.CDLL(None)
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        bounding = [c for c in range(64) if libc.prctl(23, c, 0, 0, 0) == 1]
        no_new_privileges, filtered = libc.prctl(39, 0, 0, 0, 0), libc.prctl(21, 0, 0, 0, 0)
        return list(os.getresuid()), os.getgroups(), list(data), bounding, no_new_privileges, filtered
    """
    with guests.loaded(guest, source) as session:
        uids, groups, capabilities, bounding, no_new_privileges, filtered = session.call("look")
        assert len(set(uids)) == 1
        assert uids[0] != 0
        if bubblewrap.can_change_uid() and not guests.has_own_kernel(guest):
            assert len(processes_of(uids[0])) >= 1  # the uid that it sees is the host's
    assert groups in ([], [bubblewrap.NOBODY], [uids[0]])  # an engine counts its own group among the further ones
    assert not any(capabilities)
    assert bounding == []
    assert (no_new_privileges, filtered) == (1, 2)


@pytest.mark.threat(9)
def test_only_its_own_processes_can_be_seen_and_killed(guest: Guest) -> None:
    source = """
    import os, signal
    def look():
        alive = []
        for pid in range(1, 2000):
            try: os.kill(pid, 0)
            except ProcessLookupError: continue
            except PermissionError: pass
            alive.append(pid)
        return os.getpid(), os.getppid(), alive
    def attack():
        for signum in (signal.SIGKILL, signal.SIGSTOP): os.kill(1, signum)
        try: os.kill(-1, signal.SIGKILL)
        except ProcessLookupError: pass
        return True
    """
    with guests.loaded(guest, source) as session:
        assert session.call("look") == (1, 0, [1])
        # gVisor does not spare the first process of a namespace its own signals
        with suppress(GuestFault) if guests.has_own_kernel(guest) else nullcontext():
            assert session.call("attack")
    assert guests.answers(guest)


@pytest.mark.threat(20, 24)
def test_two_sessions_do_not_meet(guest: Guest) -> None:
    one = """
    import ctypes, os, socket
    def leave():
        open("/tmp/note", "w").write("x"); open("/dev/shm/note", "w").write("x")
        return ctypes.CDLL(None).shmget(4711, 4096, 0o1666)  # IPC_CREAT
    """
    other = """
    import ctypes, os
    def look(): return os.listdir("/tmp"), os.listdir("/dev/shm"), ctypes.CDLL(None).shmget(4711, 4096, 0)
    """
    with guests.loaded(guest, one) as first:
        assert first.call("leave") >= 0
        with guests.loaded(guest, other) as second:
            assert second.call("look") == ([], [], -1)
    with guests.loaded(guest, other) as third:
        assert third.call("look") == ([], [], -1)


DAEMON = """
import os, signal, time
def uid(): return os.getuid()
def attack():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, str(os.getpid()).encode())
            time.sleep(600)
        os._exit(0)
    os.wait()
    return int(os.read(reader, 10))
"""


@pytest.mark.threat(7, 29)
@pytest.mark.skipif(not bubblewrap.can_change_uid(), reason="without a uid of its own its processes are hard to tell")
def test_daemons_die_with_their_session(guest: Guest) -> None:
    if guests.has_own_kernel(guest):  # whose processes the host cannot see, and every session can
        source = "import os\ndef alive(): return [name for name in os.listdir('/proc') if name.isdigit()]"
        with guests.loaded(guest, source) as session:
            before = len(session.call("alive"))
        with guests.loaded(guest, DAEMON) as session:
            session.call("attack")
        with guests.loaded(guest, source) as session:
            assert len(session.call("alive")) == before
        return
    with guests.loaded(guest, DAEMON) as session:
        uid = session.call("uid")
        # The process that is forked ahead; in a container the root process and its outer half have that uid, too
        idle = 3 if guest._sandbox.memory.ask_root else 1
        session.call("attack")
        assert eventually(lambda: len(processes_of(uid)) == idle + 2)  # the session and its daemon
    assert eventually(lambda: len(processes_of(uid)) == idle)


@pytest.mark.threat(7, 29)
@pytest.mark.skipif(sys.platform != "linux", reason="adopting orphans is Linux's")
def test_daemons_die_with_their_session_without_a_sandbox_too() -> None:
    with guests.guest("none") as plain:
        with guests.loaded(plain, DAEMON) as session:
            pid = session.call("attack")
            os.kill(pid, 0)
        assert guests.answers(plain)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


JUDGE = """
import sys, time
import guests, psutil
source = "import os\\ndef f(): return os.getuid()"
with guests.guest(sys.argv[1]) as guest, guests.loaded(guest, source) as session:
    children = [child.pid for child in psutil.Process().children(recursive=True)]
    print(session.call("f"), *children, flush=True)
    time.sleep(600)
"""


@pytest.mark.threat(29)
@pytest.mark.parametrize("backend", guests.BACKENDS)
def test_a_guest_dies_with_a_judge_that_is_killed(backend: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(guests.__file__).parent), str(Path(sandbox.__path__[0]).parent)])
    with subprocess.Popen(
        [sys.executable, "-c", JUDGE, backend],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": path, "PATH": os.defpath, "TMPDIR": str(tmp_path)}
        | {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ},
    ) as judge:
        assert judge.stdout is not None
        uid, *children = map(int, judge.stdout.readline().split())
        judge.send_signal(signal.SIGKILL)
        judge.wait()
    assert eventually(lambda: not any(Path("/proc", str(child)).exists() for child in children))
    assert not list(tmp_path.iterdir())
    if uid >= bubblewrap.FIRST_UID:
        assert eventually(lambda: not processes_of(uid))
