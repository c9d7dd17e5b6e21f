"""Code that reaches for the host, for other guests, or for what outlives it (threat list: "Read", "Escape")."""

import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import guests
import pytest

import sandbox
from sandbox import bubblewrap
from sandbox.faults import Ending
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


@pytest.mark.parametrize(
    "place", ["/root", "/home", "/etc", "/etc/passwd", "/work", "/var", "/run", "/sys", "/usr/bin"]
)
def test_the_hosts_files_are_not_there(guest: Guest, place: str) -> None:
    assert guests.fault_of(guest, f"import os\ndef attack(): return os.stat({place!r}).st_ino").exception in (
        "FileNotFoundError",
        "PermissionError",
    )


def test_neither_the_checkout_nor_a_neighbours_file_can_be_read(guest: Guest, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the solution")
    for path in (secret, Path(sandbox.__path__[0]) / "limits.py", Path(sys.prefix) / "pyvenv.cfg"):
        assert path.exists()
        fault = guests.fault_of(guest, f"def attack(): return open({str(path)!r}).read()")
        assert fault.exception == "FileNotFoundError"


def test_no_path_of_the_host_shows(guest: Guest) -> None:
    source = """
    import gc, os, socket, sys, torch
    def look():
        paths = [*sys.path, sys.prefix, sys.executable, torch.__file__, os.getcwd(), socket.gethostname()]
        code = [f.__code__.co_filename for f in gc.get_objects() if type(f).__name__ == "function"]
        return sorted(set(paths)), sorted(set(code)), os.listdir("/proc"), os.listdir("/tmp"), sys.argv
    """
    with guests.loaded(guest, source) as session:
        paths, code, proc, tmp, argv = session.call("look")
    assert (proc, tmp) == ([], [])
    for place in (sys.prefix, sys.base_prefix, str(Path(sandbox.__path__[0]).parent), socket.gethostname()):
        assert not [path for path in [*paths, *argv] if place in path]
    checkout = str(Path(sandbox.__path__[0]).parent)
    assert not [path for path in code if path.startswith(checkout)]


@pytest.mark.parametrize(
    "place", ["/", "/opt", "/opt/guest", "/opt/guest/torch", "/opt/guest/guest", "/usr/lib", "/dev"]
)
def test_nothing_of_the_system_can_be_written(guest: Guest, place: str) -> None:
    fault = guests.fault_of(guest, f"def attack(): open({place!r} + '/x', 'w')")
    assert fault.exception in ("OSError", "PermissionError")


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/self/exe", "/proc/self/mem", "/sys/power/state"]
)
def test_the_kernels_files_are_not_there(guest: Guest, path: str) -> None:
    assert guests.fault_of(guest, f"def attack(): open({path!r}, 'w')").exception in (
        "FileNotFoundError",
        "PermissionError",
        "OSError",
    )


def test_devices_are_the_harmless_five(guest: Guest) -> None:
    source = "import os\ndef look(): return sorted(os.listdir('/dev'))"
    with guests.loaded(guest, source) as session:
        assert session.call("look") == ["full", "null", "random", "shm", "urandom", "zero"]
    assert guests.fault_of(guest, "import os\ndef attack(): os.mknod('/tmp/sda', 0o60666, os.makedev(8, 0))")


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
        if bubblewrap.can_change_uid():
            assert len(processes_of(uids[0])) >= 1  # the uid that it sees is the host's
    assert groups in ([], [bubblewrap.NOBODY])
    assert not any(capabilities)
    assert bounding == []
    assert (no_new_privileges, filtered) == (1, 2)


# Calls that a filter has to refuse because the kernel would not, or would for another reason
CALLS = {
    "unshare a user namespace": (272, 0x10000000),
    "clone into a user namespace": (56, 0x10000000 | 17, 0, 0, 0, 0),
    "mount": (165, 0, 0, 0, 0, 0),
    "umount": (166, 0, 0),
    "pivot_root": (155, 0, 0),
    "chroot": (161, 0),
    "setns": (308, 0, 0),
    "ptrace": (101, 0, 0, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0),
    "keyctl": (250, 0, 0xFFFFFFFD, 0, 0, 0),
    "add_key": (248, 0, 0, 0, 0, 0),
    "request_key": (249, 0, 0, 0, 0),
    "bpf": (321, 0, 0, 0),
    "perf_event_open": (298, 0, 0, 0, 0, 0),
    "userfaultfd": (323, 1),
    "io_uring_setup": (425, 1, 0),
    "kexec_load": (246, 0, 0, 0, 0),
    "init_module": (175, 0, 0, 0),
    "personality": (135, 0x0040000),
    "open_by_handle_at": (304, 0, 0, 0),
    "fsopen": (430, 0, 0),
    "seccomp": (317, 2, 0, 0),
    "TIOCSTI": (16, 0, 0x5412, 0),
    "TIOCSTI behind a long": (16, 0, 0x100005412, 0),
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of these calls are those of x86_64")
@pytest.mark.parametrize("name", CALLS)
def test_system_calls_are_refused(guest: Guest, name: str) -> None:
    source = """
    import ctypes
    def attack(*arguments):
        libc = ctypes.CDLL(None, use_errno=True)
        return libc.syscall(*map(ctypes.c_long, arguments)), ctypes.get_errno()
    """
    with guests.loaded(guest, source) as session:
        assert session.call("attack", *CALLS[name]) == (-1, 1)  # EPERM


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of these calls are those of x86_64")
def test_clone3_and_x32_do_not_exist(guest: Guest) -> None:
    source = """
    import ctypes
    def attack(number):
        libc = ctypes.CDLL(None, use_errno=True)
        return libc.syscall(ctypes.c_long(number), 0, 0), ctypes.get_errno()
    """
    with guests.loaded(guest, source) as session:
        assert session.call("attack", 435) == (-1, 38)
        assert session.call("attack", 0x40000000 | 39) == (-1, 38)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="machine code of x86_64")
def test_32_bit_calls_are_fatal(guest: Guest) -> None:
    source = """
    import ctypes, mmap
    def attack():
        code = mmap.mmap(-1, 4096, prot=7)
        code.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, 20 (getpid); int 0x80; ret
        return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    """
    fault = guests.fault_of(guest, source)
    assert (fault.ending, fault.message) == (Ending.CRASHED, "its process was ended by SIGSYS")


@pytest.mark.parametrize("family", ["AF_VSOCK", "AF_NETLINK", "AF_ALG", "AF_PACKET"])
def test_other_sockets_cannot_be_made(guest: Guest, family: str) -> None:
    source = f"import socket\ndef attack(): socket.socket(socket.{family}, socket.SOCK_RAW, 0)"
    assert "Address family not supported" in guests.fault_of(guest, source).message


def test_the_network_is_unreachable(guest: Guest, tmp_path: Path) -> None:
    abstract = f"\0noisemark-test-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as nameless,
    ):
        named.bind(str(tmp_path / "s"))
        nameless.bind(abstract)
        for server in (named, nameless):
            server.listen()
        source = """
        import socket
        def attack(kind, address):
            with socket.socket(getattr(socket, kind)) as s:
                s.settimeout(5)
                try: s.connect(address)
                except OSError as error: return type(error).__name__
                return "connected"
        """
        with guests.loaded(guest, source) as session:
            attempts = [
                session.call("attack", "AF_INET", ("127.0.0.1", tcp.getsockname()[1])),
                session.call("attack", "AF_INET", ("169.254.169.254", 80)),
                session.call("attack", "AF_UNIX", str(tmp_path / "s")),
                session.call("attack", "AF_UNIX", abstract),
            ]
    assert attempts == ["ConnectionRefusedError", "OSError", "FileNotFoundError", "ConnectionRefusedError"]


def test_only_its_own_processes_can_be_seen_and_killed(guest: Guest) -> None:
    source = """
    import os, signal
    def attack():
        alive = []
        for pid in range(1, 2000):
            try: os.kill(pid, 0)
            except ProcessLookupError: continue
            except PermissionError: pass
            alive.append(pid)
        for signum in (signal.SIGKILL, signal.SIGSTOP): os.kill(1, signum)
        try: os.kill(-1, signal.SIGKILL)
        except ProcessLookupError: pass
        return os.getpid(), os.getppid(), alive
    """
    with guests.loaded(guest, source) as session:
        assert session.call("attack") == (1, 0, [1])
    assert guests.answers(guest)


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
    return int(os.read(reader, 10)), os.getuid()
"""


@pytest.mark.skipif(not bubblewrap.can_change_uid(), reason="without a uid of its own its processes are hard to tell")
def test_daemons_die_with_their_session(guest: Guest) -> None:
    with guests.loaded(guest, DAEMON) as session:
        _, uid = session.call("attack")
        with_daemon = len(processes_of(uid))
        assert with_daemon >= 2
    # one process of that uid stays: the one that is forked ahead for the next session
    assert eventually(lambda: len(processes_of(uid)) <= 1)


@pytest.mark.skipif(sys.platform != "linux", reason="adopting orphans is Linux's")
def test_daemons_die_with_their_session_without_a_sandbox_too() -> None:
    with guests.guest("none") as plain:
        with guests.loaded(plain, DAEMON) as session:
            pid, _ = session.call("attack")
            os.kill(pid, 0)
        assert guests.answers(plain)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


JUDGE = """
import sys, time
import guests
source = "import os\\ndef f(): return os.getuid()"
with guests.guest(sys.argv[1]) as guest, guests.loaded(guest, source) as session:
    print(session.call("f"), guest._sandbox.process.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("backend", guests.BACKENDS)
def test_a_guest_dies_with_a_judge_that_is_killed(backend: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(guests.__file__).parent), str(Path(sandbox.__path__[0]).parent)])
    with subprocess.Popen(
        [sys.executable, "-c", JUDGE, backend],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": path, "PATH": os.defpath, "TMPDIR": str(tmp_path)},
    ) as judge:
        assert judge.stdout is not None
        uid, root = map(int, judge.stdout.readline().split())
        judge.send_signal(signal.SIGKILL)
        judge.wait()
    assert eventually(lambda: not Path("/proc", str(root)).exists())
    assert not list(tmp_path.iterdir())
    if uid >= bubblewrap.FIRST_UID:
        assert eventually(lambda: not processes_of(uid))
