"""What the guest's processes do to themselves: namespaces, mounts, limits, another uid, the system call filter.

`configuration` comes from the judge (`sandbox.bubblewrap`, `sandbox.container`, `sandbox.plain`):

own_namespaces   whether each session gets PID, IPC and network namespaces of its own (Linux, with the right to)
own_mounts       whether each session gets a mount namespace, too, and in it folders of its own; gVisor refuses
own_user_namespace  whether the root process first has to make a user namespace, in which it has that right
linux_limits     whether the kernel knows the limits that only Linux has; gVisor's refuses to set them
filter           whether sessions give up all privileges and install the system call filter
uid              the unprivileged uid and gid that a session changes to, or None where there is no other to change to
memory_bytes     address space of one process, or None where a cgroup limits memory
folder           of this guest on the host, to be removed with it, or None
processes, file_bytes, open_files, tmp_bytes, tmp_files   as in `sandbox.limits`
"""

import contextlib
import ctypes
import errno
import math
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import seccomp

LINUX = sys.platform == "linux"

# prctl(2), unshare(2) and mount(2), from the kernel's headers
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000

# What an engine puts into a container, and no session needs; bubblewrap's has none of it but /proc
HIDDEN = ("/proc", "/sys", "/run", "/etc", "/var", "/root", "/home", "/usr/bin", "/usr/sbin")

SWEEP_SECONDS = 1.0  # a fork bomb may outrun the sweep; without a PID namespace that cannot be helped

_libc = ctypes.CDLL(None, use_errno=True)
_own_pid_namespace = -1  # a descriptor; the zygote's


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, value: int, what: str) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), what)


def enter_user_namespace() -> None:
    """In the root process, which has no rights: go on in a child that may make namespaces for sessions.

    Inside a user namespace of its own it may do so to what lies inside, and to nothing else (user_namespaces(7)).
    Raises `OSError` where the kernel, or what confines this process, refuses.
    """
    uid, gid = os.getuid(), os.getgid()
    _checked(_libc.unshare(CLONE_NEWUSER | CLONE_NEWPID), "making a user namespace")
    with contextlib.suppress(PermissionError, FileNotFoundError):  # gVisor has no such file, and needs no such word
        Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    child = os.fork()  # process 1 of the new PID namespace: at its end the kernel ends everything in there
    if child:
        os._exit(abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, "dying with the outer process")


def protect_zygote() -> None:
    """Keep sessions from reading or tracing the zygote, and let it inherit what they leave behind."""
    if LINUX:
        _prctl(PR_SET_DUMPABLE, 0, "making the root process opaque")
        _prctl(PR_SET_CHILD_SUBREAPER, 1, "adopting orphans")


def before_fork(configuration: dict[str, Any]) -> None:
    """In the zygote: the next child becomes process 1 of a new PID namespace."""
    global _own_pid_namespace
    if not configuration["own_namespaces"]:
        return
    if _own_pid_namespace < 0:
        _own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    # Children go into the namespace made last, which is not the zygote's own; only from there can another be made.
    # gVisor always makes it from there, and knows no way back
    if _libc.setns(_own_pid_namespace, CLONE_NEWPID) < 0 and ctypes.get_errno() != errno.EOPNOTSUPP:
        raise OSError(ctypes.get_errno(), "returning to the own PID namespace")
    _checked(_libc.unshare(CLONE_NEWPID), "making a PID namespace")


def _mount(kind: str, place: str, flags: int, options: str) -> None:
    _checked(_libc.mount(kind.encode(), place.encode(), kind.encode(), flags, options.encode()), f"mounting {place}")


def _make_own_devices() -> None:
    """A /dev with the harmless five: an engine puts terminals into a container's."""
    place = Path("/tmp")  # noqa: S108  (where the session's own comes over it)
    _mount("tmpfs", str(place), MS_NOSUID | MS_NOEXEC, "mode=755,size=4k,nr_inodes=16")
    for name in ("null", "zero", "full", "random", "urandom"):
        (place / name).touch()
        _bind(f"/dev/{name}", str(place / name), 0)
    (place / "shm").mkdir()
    _bind(str(place), "/dev", MS_REC)
    _bind("/dev", "/dev", MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC)


def _bind(source: str, place: str, flags: int) -> None:
    _checked(_libc.mount(source.encode(), place.encode(), None, MS_BIND | flags, None), f"mounting {place}")


def _make_private_mounts(configuration: dict[str, Any]) -> None:
    """Empty /tmp and /dev/shm of limited size, and no /proc: it would tell of the host, and nothing needs it."""
    _checked(_libc.unshare(CLONE_NEWNS), "making a mount namespace")
    _checked(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "making mounts private")
    if configuration["own_user_namespace"]:
        _make_own_devices()
    size = f"mode=1777,size={configuration['tmp_bytes']},nr_inodes={configuration['tmp_files']}"
    for place in ("/tmp", "/dev/shm"):  # noqa: S108  (the guest's own)
        _mount("tmpfs", place, MS_NOSUID | MS_NODEV | MS_NOEXEC, size)
    for place in HIDDEN if configuration["own_user_namespace"] else ("/proc",):
        _mount("tmpfs", place, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=555,size=4k")
    os.chdir("/tmp")  # noqa: S108


def _address_space() -> int:
    """Bytes of address space in use: torch's libraries alone are mapped with several GiB, most of it never touched."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:  # not Linux
        return 0
    return pages * resource.getpagesize()


def _limit(what: int, value: int | None) -> None:
    if value is not None:
        _, hard = resource.getrlimit(what)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(what, (value, value))


def limit_processor_time(seconds: float) -> None:
    """The kernel sends SIGXCPU once this process has used so many seconds, rounded up, and kills it a second later."""
    soft = math.ceil(seconds)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    last = soft + 1 if hard == resource.RLIM_INFINITY else min(soft + 1, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (min(soft, last), last))


def _limit_resources(configuration: dict[str, Any]) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, configuration["file_bytes"])
    _limit(resource.RLIMIT_NOFILE, configuration["open_files"])
    if configuration["memory_bytes"] is not None:
        _limit(resource.RLIMIT_AS, _address_space() + configuration["memory_bytes"])
    if configuration["linux_limits"]:
        _limit(resource.RLIMIT_NPROC, configuration["processes"])
        _limit(resource.RLIMIT_MSGQUEUE, 0)
        _limit(resource.RLIMIT_MEMLOCK, 0)


def _drop_privileges(uid: int | None) -> None:
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
    for capability in range(64):
        if _libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break  # past the last capability that this kernel knows
    if uid is not None:
        os.setresuid(uid, uid, uid)
        if os.getresuid() != (uid, uid, uid) or os.getresgid() != (uid, uid, uid) or os.getgroups():
            raise OSError("the uid did not change")
    _drop_capabilities()
    _prctl(PR_SET_NO_NEW_PRIVS, 1, "giving up new privileges")


def _drop_capabilities() -> None:
    """capset(2) with three empty sets; changing from uid 0 has done so already, staying on one uid has not."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    data = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, data), "dropping capabilities")


def _prefer_to_be_killed() -> None:
    """Be the kernel's first choice when memory runs out: the zygote must live."""
    _prctl(PR_SET_DUMPABLE, 1, "owning the own files in /proc")
    Path("/proc/self/oom_score_adj").write_text("1000")
    _prctl(PR_SET_DUMPABLE, 0, "making the session opaque")


def confine_session(configuration: dict[str, Any]) -> None:
    """In a fresh child, before it is given any student code. Raises `OSError` where a step fails."""
    os.setsid()  # signals to a process group cross namespaces: this one is to be alone in its own
    if configuration["own_namespaces"]:
        _prefer_to_be_killed()
        _checked(_libc.unshare(CLONE_NEWIPC | CLONE_NEWNET), "making IPC and network namespaces")
    elif LINUX:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, "dying with the root process")
    _limit_resources(configuration)
    if configuration["own_mounts"]:
        _make_private_mounts(configuration)
    if configuration["filter"]:
        _drop_privileges(configuration["uid"])
        seccomp.install()


def rehearse(configuration: dict[str, Any]) -> bool:
    """Whether a process can be closed off: one that does nothing. Says on standard error what keeps it from that."""
    try:
        before_fork(configuration)
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
        return False
    pid = os.fork()
    if pid == 0:
        try:
            confine_session(configuration)
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def memory_kills() -> int:
    """How many processes of the control group that this one sees as its own were killed for want of memory."""
    for place in ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError, KeyError, ValueError):
            return int(dict(line.split() for line in Path(place).read_text().splitlines())["oom_kill"])
    return 0


def _children() -> set[int]:
    """Sessions, the spare one, and whatever the zygote has adopted."""
    if os.getpid() == 1:  # of a container: whatever else runs there descends from it (gVisor keeps no list of children)
        return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()} - {1}
    try:
        return {int(pid) for pid in Path("/proc/thread-self/children").read_text().split()}
    except OSError:  # not Linux
        return set()


def kill_leftovers(session: int, spared: set[int]) -> None:
    """In the zygote, where sessions have no PID namespace: kill what a session that has ended left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(session, signal.SIGKILL)
    until = time.monotonic() + SWEEP_SECONDS
    while (leftovers := _children() - spared) and time.monotonic() < until:
        for pid in leftovers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in leftovers:
            with contextlib.suppress(ChildProcessError):  # a grandchild, which is the zygote's once its parent is gone
                os.waitpid(pid, 0)


def empty_shared_folders() -> None:
    """Remove what sessions left in the folders that they share: the next one is to find nothing there."""
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108  (the guest's own)
        for path in Path(folder).iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def leave(configuration: dict[str, Any]) -> None:
    """In the zygote, when the judge has gone: take every session along, and the guest's folder. Never returns."""
    for pid in _children():
        kill_leftovers(pid, set())
    if configuration["folder"] is not None:
        shutil.rmtree(configuration["folder"], ignore_errors=True)
    os._exit(0)
