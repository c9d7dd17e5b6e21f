"""The choice between the ways to start a guest."""

import os
from pathlib import Path

from sandbox.backend import Backend
from sandbox.bubblewrap import Bubblewrap
from sandbox.faults import SandboxUnavailable
from sandbox.launched import Launched
from sandbox.plain import NoSandbox

NAMES = ("docker-gvisor", "docker-runc", "bubblewrap", "none")  # best first
ENGINE_SOCKET = Path("/var/run/docker.sock")


def choose_backend(name: str | None, trace: str = "") -> Backend:
    """The backend of that name; the best one that works here where `name` is None or "auto".

    "launcher:PATH" is the launcher that listens at PATH, whatever backend it was started with; its log calls guests by
    `trace`. Going without a sandbox has to be asked for by name. Raises `SandboxUnavailable`.
    """
    if name is None or name == "auto":
        return _best()
    if name.startswith("launcher:"):
        return Launched(Path(name.removeprefix("launcher:")), trace)
    if name == "none":
        return NoSandbox()
    if name == "bubblewrap":
        return Bubblewrap()
    if name in NAMES:
        if not has_engine():
            raise SandboxUnavailable("there is no Docker engine on this machine")
        from sandbox.container import ContainerBackend  # takes a third of a second, for those who have an engine

        return ContainerBackend(name)
    raise SandboxUnavailable(f"there is no sandbox {name!r}; choose {', '.join(NAMES[:-1])} or none")


def has_engine() -> bool:
    """Whether a Docker engine may be expected on this machine."""
    return "DOCKER_HOST" in os.environ or ENGINE_SOCKET.exists()


def _best() -> Backend:
    reasons = []
    for name in NAMES[:-1] if has_engine() else ("bubblewrap",):
        try:
            return choose_backend(name)
        except SandboxUnavailable as error:
            reasons.append(str(error))
    raise SandboxUnavailable("; ".join(dict.fromkeys(reasons)))
