"""The backend that confines a guest with bubblewrap, Linux namespaces and a system call filter.

bubblewrap builds the file system and the outer namespaces and starts the root process, which keeps the few
capabilities that it takes to give each session namespaces of its own. A session gives all of them up, changes to an
unprivileged uid where there is one, and installs the filter, before it is given any student code.
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

from sandbox import packages
from sandbox.backend import Backend
from sandbox.cgroups import ControlGroup, writable
from sandbox.faults import SandboxError, SandboxUnavailable
from sandbox.launch import Sandbox, end_root_process, python_executable, start_root_process
from sandbox.limits import Limits
from sandbox.memory import MemoryAccount

OLDEST = (0, 6, 0)  # the first version in which a tmpfs can be given permissions and a size, and --clearenv
INSTALL = "apt-get install bubblewrap"
# Distributions that keep unprivileged users from making namespaces do so by one of these
ALLOW_NAMESPACES = "sysctl -e -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0"

# Neutral places: nothing in the guest says whose machine this is
PYTHON = "/opt/python"
LIBRARY = "/opt/guest"
NOBODY = 65534  # the uid and gid inside a user namespace

# Host uids of guests: from a range that systemd's table of uids (systemd.io/UIDS-GIDS) leaves to nobody
FIRST_UID = 0x70000000
UIDS = 2**27

# What the root process keeps: to make namespaces and mounts, to change to another uid, to empty the bounding set,
# and to kill what runs under the other uid
CAPABILITIES = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL")
CAP_SYS_ADMIN = 21  # its bit in CapEff, capabilities(7)

_REHEARSAL = """
import json, sys
sys.path.append(sys.argv[1])
from guest import confine
confine.protect_zygote()
sys.exit(not confine.rehearse(json.loads(sys.argv[2])))
"""


@cache
def version() -> tuple[int, ...] | None:
    """The version of the installed bubblewrap, or None."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else None


def can_change_uid() -> bool:
    """Whether this process is root with the right to make namespaces, and has other uids to give away."""
    if os.geteuid() != 0:
        return False
    status = Path("/proc/self/status").read_text()
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    if effective is None or not int(effective[1], 16) >> CAP_SYS_ADMIN & 1:
        return False
    ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= FIRST_UID and first + count >= FIRST_UID + UIDS for first, _, count in ranges)


@cache
def missing() -> str | None:
    """Why this backend cannot run here, or None where it can. Closes off one process, to know."""
    found = version()
    if found is None:
        return "bubblewrap is not installed"
    if found < OLDEST:
        return f"bubblewrap {'.'.join(map(str, found))} is older than {'.'.join(map(str, OLDEST))}"
    own_uid = can_change_uid()
    configuration = json.dumps(_configuration(Limits(), own_uid=own_uid, limit_address_space=False))
    command = [*_command(own_uid=own_uid), "-I", "-S", "-B", "-c", _REHEARSAL, LIBRARY, configuration]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env={})
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return f"bubblewrap does not work here: {last[0]}"
    return None


def remedy() -> str:
    """What to type where this backend does not work."""
    found = version()
    return INSTALL if found is None or found < OLDEST else ALLOW_NAMESPACES


def _mounts() -> list[str]:
    """Read-only: the system's libraries, the interpreter, and the packages that a guest may import."""
    arguments: list[str] = []
    for place in ("/usr/lib", "/usr/lib64"):
        if Path(place).is_dir():
            arguments += ["--ro-bind", place, place]
    for place in ("/lib", "/lib64"):
        if Path(place).is_symlink():
            arguments += ["--symlink", f"usr{place}", place]
        elif Path(place).is_dir():
            arguments += ["--ro-bind", place, place]
    # bubblewrap would make parents of mounts that only root may enter
    for place in ("/opt", PYTHON, f"{PYTHON}/bin", LIBRARY, f"{LIBRARY}/__pycache__"):
        arguments += ["--dir", place]
    executable, libraries = python_executable(), Path(sys.base_prefix, "lib")
    arguments += ["--ro-bind", str(executable), f"{PYTHON}/bin/{executable.name}"]
    arguments += ["--ro-bind", str(libraries), f"{PYTHON}/lib"]
    for source, target in ((libraries, f"{PYTHON}/lib"), (Path("/usr/lib"), "/usr/lib")):
        for pattern in ("python3*/site-packages", "python3*/dist-packages"):
            for packages_folder in source.glob(pattern):  # whatever else is installed for this interpreter
                arguments += ["--tmpfs", f"{target}/{packages_folder.relative_to(source)}"]
    for name, path in packages.importable().items():
        arguments += ["--ro-bind", str(path), f"{LIBRARY}/{name}"]
    return arguments


@cache
def _proc() -> tuple[str, ...]:
    """Arguments for a /proc, which the root process needs and every session hides from itself.

    In a container whose engine masks parts of /proc, the kernel lets nobody mount a new one. The container's own does,
    since it knows the root process too.
    """
    new = ("--proc", "/proc")
    command = [shutil.which("bwrap") or "bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", *new, "--"]
    done = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, check=False)
    return ("--bind", "/proc", "/proc") if b"Can't mount proc" in done.stderr else new


def _command(*, own_uid: bool) -> list[str]:
    """The command line up to and including the interpreter."""
    program = shutil.which("bwrap")
    assert program is not None
    arguments = [program, "--die-with-parent", "--new-session", "--clearenv", "--hostname", "guest"]
    arguments += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if not own_uid:
        arguments += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    arguments += ["--cap-drop", "ALL"]
    for capability in CAPABILITIES:
        arguments += ["--cap-add", capability]
    arguments += _mounts()
    arguments += [*_proc(), "--tmpfs", "/dev"]
    for device in ("null", "zero", "full", "random", "urandom"):
        arguments += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    # Every session mounts its own over these two
    arguments += ["--dir", "/dev/shm", "--dir", "/tmp", "--remount-ro", "/dev", "--remount-ro", "/"]  # noqa: S108
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        arguments += ["--setenv", "LD_LIBRARY_PATH", f"{PYTHON}/lib"]
    return [*arguments, "--chdir", "/", "--", f"{PYTHON}/bin/{python_executable().name}"]


def _configuration(limits: Limits, *, own_uid: bool, limit_address_space: bool) -> dict[str, Any]:
    """What `sandbox.guest.confine` is told."""
    return {
        "own_namespaces": True,
        "own_mounts": True,
        "own_user_namespace": False,  # bubblewrap has made it
        "filter": True,
        "linux_limits": True,
        "uid": FIRST_UID + secrets.randbelow(UIDS) if own_uid else None,
        "memory_bytes": limits.memory_bytes if limit_address_space else None,
        **limits.of_sessions(),
        "folder": None,
    }


class Bubblewrap(Backend):
    """Namespaces, a uid of its own where the host allows one, limits, a system call filter; no network."""

    name = "bubblewrap"

    def __init__(self) -> None:
        """Raises `SandboxUnavailable` where it does not work."""
        if (why := missing()) is not None:
            raise SandboxUnavailable(f"{why}. Way out: {remedy()}, or go without a sandbox (none)")
        self.isolation = isolation()

    def launch(self, limits: Limits) -> Sandbox:
        """Start a sandbox; it ends with the thread that starts it. Raises `SandboxError` where it is to have a GPU."""
        if limits.gpu:
            raise SandboxError("bubblewrap hands no GPU on; choose a Docker sandbox, or the device cpu")
        own_uid = can_change_uid()
        group = ControlGroup(limits)
        kernel_watches = group.memory_events is not None
        configuration = _configuration(limits, own_uid=own_uid, limit_address_space=not kernel_watches)
        process, control, log = start_root_process(group.prefix(_command(own_uid=own_uid)), LIBRARY, configuration)

        def end(at_once: bool) -> None:
            end_root_process(process, at_once=at_once)
            group.remove()

        if kernel_watches:
            account = MemoryAccount(events=str(group.memory_events))
        else:
            account = MemoryAccount(watched_pid=process.pid, limit_bytes=limits.memory_bytes)
        return Sandbox(control=control, log=log, memory=account, end=end)


def isolation() -> str:
    """What stands between student code and this machine, and what does not."""
    found = ".".join(map(str, version() or ()))
    uid = "a uid of its own" if can_change_uid() else "the uid of this user, in a user namespace"
    words = [f"bubblewrap {found}: no network, own namespaces for each session, {uid}, system call filter"]
    groups = writable()
    if "memory" not in groups:
        words.append("memory limited for each process and watched from outside (no control group to be had)")
    if "pids" not in groups:
        words.append("processes limited by uid only")
    return "; ".join(words)
