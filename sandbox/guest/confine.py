"""What the guest's processes do to themselves: namespaces, mounts, limits, another uid, the system call filter.

`configuration` comes from the judge (`sandbox.bubblewrap`, `sandbox.backends`):

own_namespaces   whether each session gets a PID, mount and IPC namespace of its own (Linux, with the right to)
uid              the unprivileged uid and gid that a session changes to, or None where there is no other to change to
memory_bytes     address space of one process, or None where a cgroup limits memory
folder           of this guest on the host, to be removed with it, or None
processes, file_bytes, open_files, tmp_bytes, tmp_files   as in `sandbox.limits`
"""

import contextlib
import ctypes
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
CLONE_NEWPID = 0x20000000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REC = 0x4000
MS_PRIVATE = 0x40000

SWEEP_SECONDS = 1.0  # a fork bomb may outrun the sweep; without a PID namespace that cannot be helped

_libc = ctypes.CDLL(None, use_errno=True)
_own_pid_namespace = -1  # a descriptor; the zygote's


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _prctl(option: int, value: int, what: str) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), what)


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
    # Children go into the namespace made last, which is not the zygote's own; only from there can another be made
    _checked(_libc.setns(_own_pid_namespace, CLONE_NEWPID), "returning to the own PID namespace")
    _checked(_libc.unshare(CLONE_NEWPID), "making a PID namespace")


def _mount(kind: str, place: str, flags: int, options: str) -> None:
    _checked(_libc.mount(kind.encode(), place.encode(), kind.encode(), flags, options.encode()), f"mounting {place}")


def _make_private_mounts(configuration: dict[str, Any]) -> None:
    """Empty /tmp and /dev/shm of limited size, and no /proc: it would tell of the host, and nothing needs it."""
    _checked(_libc.unshare(CLONE_NEWNS | CLONE_NEWIPC), "making a mount namespace")
    _checked(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "making mounts private")
    size = f"mode=1777,size={configuration['tmp_bytes']},nr_inodes={configuration['tmp_files']}"
    for place in ("/tmp", "/dev/shm"):  # noqa: S108  (the guest's own)
        _mount("tmpfs", place, MS_NOSUID | MS_NODEV | MS_NOEXEC, size)
    _mount("tmpfs", "/proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=555,size=4k")
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
    """The kernel kills this process once it has used so many seconds, rounded up, since it was forked."""
    _limit(resource.RLIMIT_CPU, math.ceil(seconds))


def _limit_resources(configuration: dict[str, Any]) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, configuration["file_bytes"])
    _limit(resource.RLIMIT_NOFILE, configuration["open_files"])
    if configuration["memory_bytes"] is not None:
        _limit(resource.RLIMIT_AS, _address_space() + configuration["memory_bytes"])
    if LINUX:
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
    if configuration["own_namespaces"]:
        _prefer_to_be_killed()
        _limit_resources(configuration)
        _make_private_mounts(configuration)
    else:
        _limit_resources(configuration)
        os.setsid()
        if LINUX:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, "dying with the root process")
    if configuration["own_namespaces"]:
        _drop_privileges(configuration["uid"])
        seccomp.install()


def rehearse(configuration: dict[str, Any]) -> None:
    """Close off one process that does nothing. Raises what keeps it from being closed off."""
    protect_zygote()
    before_fork(configuration)
    pid = os.fork()
    if pid == 0:
        try:
            confine_session(configuration)
        except OSError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def _children() -> set[int]:
    """Sessions, the spare one, and whatever the zygote has adopted."""
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
            os.kill(pid, signal.SIGKILL)
        for pid in leftovers:
            os.waitpid(pid, 0)  # its children are the zygote's now


def leave(configuration: dict[str, Any]) -> None:
    """In the zygote, when the judge has gone: take every session along, and the guest's folder. Never returns."""
    for pid in _children():
        kill_leftovers(pid, set())
    if configuration["folder"] is not None:
        shutil.rmtree(configuration["folder"], ignore_errors=True)
    os._exit(0)
