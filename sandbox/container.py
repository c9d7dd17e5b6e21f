"""The backends that confine a guest in a container of a Docker engine: by runc, or by gVisor's runsc.

A container has no capabilities, no network, a read-only root, a uid that no account has, limits of its own, and the
system call filter. Where its kernel lets it, the root process makes a user namespace inside, and in that namespaces for
each session, as under bubblewrap. The judge and the root process meet at a Unix socket in a folder that is mounted into
this one container: descriptors of sessions pass through it, and nobody ever executes anything in a running container.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import docker
import requests
from docker.models.containers import Container
from docker.types import DeviceRequest, Mount, Ulimit

from sandbox.backend import Backend
from sandbox.bubblewrap import FIRST_UID, UIDS
from sandbox.faults import SandboxError, SandboxUnavailable
from sandbox.guest import seccomp
from sandbox.launch import LOG_BYTES, Sandbox, send_request
from sandbox.limits import Limits
from sandbox.memory import MemoryAccount
from sandbox.versions import is_older

RUNC, RUNSC = "runc", "runsc"
RUNTIMES = {"docker-gvisor": RUNSC, "docker-runc": RUNC}  # by the names of the backends, best first
REGISTER_RUNSC = (
    "docs/security.md says how to register it: it needs --host-uds=open, to meet the judge, and --network=none"
)
# The first versions without known ways out of a container, by the advisories of Docker (January 2024), runc (November
# 2025) and NVIDIA (July 2025); of gVisor, whose releases are dates, the oldest one tried.
NEEDED = {
    "docker": ("25.0.2", "CVE-2024-21626 and CVE-2024-23651"),
    RUNC: ("1.2.8", "CVE-2019-5736, CVE-2024-21626, CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881"),
    RUNSC: ("20221219.0", "not tried"),
    "nvidia-container-toolkit": ("1.17.8", "CVE-2024-0132, CVE-2025-23359 and CVE-2025-23266"),
}
_COMMANDS = {RUNSC: ["runsc"], "nvidia-container-toolkit": ["nvidia-ctk"]}
IMAGE = "noisemark-guest"
LIBRARY = "/opt/guest"  # as in the Dockerfile
MEETING_PLACE = "/run/judge"  # in the container
LABEL = "org.noisemark.guest"
PYTHON_LABEL = "org.noisemark.python"  # of an image, as the Dockerfile sets it
CONNECT_SECONDS = 120.0  # for the engine to start a container and Python in it: 1 s by runc, 10 s by an old gVisor
LOOK_SECONDS = 0.2  # between two looks at whether a container that does not come up still lives
# On top of a session's: the root process and its outer half; under gVisor the threads of its kernel, 60 to 100 of them
RUNTIME_PROCESSES = {RUNC: 32, RUNSC: 256}
# gVisor's sessions cannot mount anything over it themselves
NOT_NATIVE_TMPFS = {RUNC: {}, RUNSC: {"/sys": "ro,size=4k"}}
DYING_SECONDS = 10.0  # between a container's last word and the engine's; a tenth of a second
API_VERSION = "1.41"  # of the engine: Docker 20.10's, the oldest one tried
ENGINE_SECONDS = 60.0  # for the engine to answer
LOG_OPTIONS = {"max-size": "64k", "max-file": "1"}  # the root process says next to nothing

# What the root process needs to close sessions off, which are denied it by the filter that they install
_FOR_ROOT = {"mount", "setns", "seccomp"}
# libseccomp's names for the architectures of `sandbox.guest.seccomp`
_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}

_ERRORS = (docker.errors.DockerException, requests.RequestException)


def engine() -> docker.DockerClient:
    """A connection to the engine of this machine. Raises `SandboxUnavailable`."""
    try:
        client = docker.DockerClient(os.environ.get("DOCKER_HOST"), version=API_VERSION, timeout=int(ENGINE_SECONDS))
    except _ERRORS as error:
        raise SandboxUnavailable(f"DOCKER_HOST names no engine: {error}") from error
    try:
        client.ping()
    except _ERRORS as error:
        client.close()
        raise SandboxUnavailable(f"no Docker engine answers: {error}") from error
    return client


def versions(client: docker.DockerClient | None) -> dict[str, str]:
    """Versions of engine, runtimes and NVIDIA's toolkit; empty where unknown. runsc's is its release date."""
    found = dict.fromkeys(NEEDED, "")
    if client is not None:
        said = client.version()
        components = {part["Name"]: part["Version"] for part in said.get("Components", ())}
        found |= {"docker": said["Version"], RUNC: components.get(RUNC, "")}
    return found | {name: _said_by([*command, "--version"]) for name, command in _COMMANDS.items()}


def _said_by(command: list[str]) -> str:
    """The version in what a program of this machine says of itself."""
    if shutil.which(command[0]) is None:
        return ""
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = re.search(r"(\d+\.\d+\.\d+|\d{8}\.\d+)", said)
    return match[1] if match else ""


def too_old(found: dict[str, str]) -> list[str]:
    """What is older than the version in which the last known holes were closed, in words."""
    return [
        f"{part} {found[part]} is older than {needed}, unless its distribution has mended {holes}"
        for part, (needed, holes) in NEEDED.items()
        if found.get(part) and is_older(found[part], needed)
    ]


def seccomp_profile() -> str:
    """Our deny-list in the engine's form, for the container as a whole. Sessions install the stricter one."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        raise SandboxUnavailable(f"there is no system call filter for {machine}")
    denied = {"names": sorted(set(seccomp.DENIED) - _FOR_ROOT), "action": "SCMP_ACT_ERRNO"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [_ARCHITECTURES[machine]], "syscalls": [denied]}
    return json.dumps(profile)


def _configuration(limits: Limits, *, native: bool) -> dict[str, Any]:
    """What `sandbox.guest.confine` is told."""
    return {
        "own_namespaces": True,
        "own_mounts": native,
        "own_user_namespace": True,
        "filter": True,
        "linux_limits": native,
        "uid": None,  # the container has an unprivileged one from the start
        "memory_bytes": limits.memory_bytes if not native else None,
        **limits.of_sessions(),
        "folder": None,
    }


def _run(client: docker.DockerClient, image: str, runtime: str, limits: Limits, folder: Path) -> Container:
    uid = FIRST_UID + secrets.randbelow(UIDS)
    tmp = f"rw,noexec,nosuid,nodev,mode=1777,size={limits.tmp_bytes},nr_inodes={limits.tmp_files}"
    try:
        return client.containers.run(
            image,
            [LIBRARY, f"{MEETING_PLACE}/socket"],
            detach=True,
            runtime=runtime,
            user=f"{uid}:{uid}",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true", f"seccomp={seccomp_profile()}"],
            network_mode="none",
            ipc_mode="private",
            hostname="guest",
            working_dir="/tmp",  # noqa: S108  (the guest's own)
            read_only=True,
            tmpfs={"/tmp": tmp, "/dev/shm": tmp} | NOT_NATIVE_TMPFS[runtime],  # noqa: S108  (the guest's own)
            mounts=[
                Mount(MEETING_PLACE, str(folder), type="bind", read_only=True),
                Mount("/etc/resolv.conf", "/dev/null", type="bind", read_only=True),  # else a copy of the host's
            ],
            mem_limit=limits.memory_bytes,
            memswap_limit=limits.memory_bytes,  # both together: no swap
            pids_limit=limits.processes + RUNTIME_PROCESSES[runtime],
            ulimits=[Ulimit(name="core", soft=0, hard=0)],
            device_requests=_devices(client, limits.gpu),
            labels={LABEL: ""},
            log_config={"type": "json-file", "config": LOG_OPTIONS},
        )
    except _ERRORS as error:
        raise SandboxError(f"the engine could not start a container: {error}") from error


def _accept(listener: socket.socket, container: Container) -> socket.socket:
    """The root process's connection. Raises `SandboxError` where it does not come, with what it said."""
    until = time.monotonic() + CONNECT_SECONDS
    listener.settimeout(LOOK_SECONDS)
    while True:
        with suppress(TimeoutError):
            return listener.accept()[0]
        try:
            container.reload()
            if container.status in ("created", "running") and time.monotonic() < until:
                continue
            said = container.logs(tail=100).decode(errors="replace").strip()[-LOG_BYTES:]
        except _ERRORS as error:
            raise SandboxError(f"the engine lost a container: {error}") from error
        raise SandboxError(f"the container did not come up; it said: {said}")


def _remove(container: Container) -> None:
    """Kill and remove a container, unless it is gone already."""
    with suppress(*_ERRORS):
        container.remove(force=True)


def _died_of_memory(container: Container) -> bool:
    """Whether the kernel killed a container that has just died, for want of memory."""
    with suppress(*_ERRORS):
        container.wait(timeout=DYING_SECONDS)
        container.reload()
        return bool(container.attrs["State"]["OOMKilled"])
    return False


class ContainerBackend(Backend):
    """Containers of this machine's engine, by one runtime."""

    def __init__(self, name: str) -> None:
        """`name` is one of `RUNTIMES`. Raises `SandboxUnavailable` where it does not work."""
        self.name = name
        self._runtime = RUNTIMES[name]
        self._client = engine()
        try:
            self.image: str = _image(self._client)
            if self._runtime not in self._client.info()["Runtimes"]:
                raise SandboxUnavailable(f"the Docker engine has no runtime {self._runtime}. {REGISTER_RUNSC}")
            self.isolation = _isolation(self._client, self._runtime, self.image)
        except BaseException:
            self._client.close()
            raise
        _sweep(self._client)

    def launch(self, limits: Limits) -> Sandbox:
        """Start a container. Raises `SandboxError`."""
        # gVisor's kernel of its own shows guests no control groups, and lets nobody in them mount
        native = self._runtime == RUNC
        folder = Path(tempfile.mkdtemp(prefix="noisemark-judge-", dir=os.environ.get("NOISEMARK_MEETING_DIR")))
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(folder / "socket"))
                listener.listen(1)
                (folder / "socket").chmod(0o666)  # the container's uid is nobody's
                folder.chmod(0o711)  # whoever else could connect would have to know its name, and be the first
                container = _run(self._client, self.image, self._runtime, limits, folder)
                try:
                    control = _accept(listener, container)
                except BaseException:
                    _remove(container)
                    raise
        finally:
            shutil.rmtree(folder)  # nobody else is to meet the judge there
        log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `Sandbox.discard`)
        send_request(control, _configuration(limits, native=native), [log.fileno()])

        def end(_: bool) -> None:
            _remove(container)

        return Sandbox(
            control=control,
            log=log,
            memory=MemoryAccount(ask_root=native),
            end=end,
            died_of_memory=partial(_died_of_memory, container),
        )


def _image(client: docker.DockerClient) -> str:
    """The digest of the guests' image. Raises `SandboxUnavailable`."""
    name = os.environ.get("NOISEMARK_IMAGE", IMAGE)
    try:
        image = client.images.get(name)
    except _ERRORS:
        raise SandboxUnavailable(f"the Docker engine has no image {name}; scripts/build-image makes one") from None
    check_python(name, image.labels)
    return str(image.id)


def check_python(image: str, labels: Mapping[str, str]) -> None:
    """Raises `SandboxUnavailable` where an image has another Python than this judge.

    What the judge reads, the guest has to run: syntax differs between them.
    """
    theirs = labels.get(PYTHON_LABEL, "3.11")  # of images from before there was a label
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if theirs != ours:
        raise SandboxUnavailable(
            f"the image {image} runs Python {theirs}, and this judge Python {ours}; "
            "scripts/build-image makes one that fits"
        )


def _devices(client: docker.DockerClient, gpu: str | None) -> list[DeviceRequest]:
    """The one GPU, by its UUID: as CDI names it where the engine knows it that way, else by NVIDIA's runtime hook."""
    if gpu is None:
        return []
    by_cdi = any(Path(folder, "nvidia.yaml").exists() for folder in client.info().get("CDISpecDirs") or ())
    if by_cdi:
        return [DeviceRequest(driver="cdi", device_ids=[f"nvidia.com/gpu={gpu}"])]
    return [DeviceRequest(driver="nvidia", device_ids=[gpu], capabilities=[["gpu", "compute", "utility"]])]


def _isolation(client: docker.DockerClient, runtime: str, image: str) -> str:
    """What stands between student code and this machine, and what does not."""
    found = versions(client)
    words = [f"Docker {found['docker']}, {runtime} {found[runtime] or 'of unknown version'}, image {image[7:19]}"]
    words.append("no network, no capabilities, read-only root, a uid of its own, system call filter")
    if runtime == RUNSC:
        words.append("a kernel of its own for each guest, which its sessions share")
    words += too_old({part: found[part] for part in ("docker", runtime)})
    return "; ".join(words)


def _sweep(client: docker.DockerClient) -> None:
    """Remove what judges left behind that were killed themselves: their containers have ended by then."""
    with suppress(*_ERRORS):
        client.containers.prune(filters={"label": LABEL})
