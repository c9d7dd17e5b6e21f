"""The choice between the ways to start a guest."""

from typing import Protocol

from sandbox.bubblewrap import Bubblewrap
from sandbox.faults import SandboxUnavailable
from sandbox.guest_client import Guest
from sandbox.limits import Limits
from sandbox.plain import NoSandbox


class Backend(Protocol):
    """A way to start guests."""

    @property
    def name(self) -> str:
        """The word by which it is chosen."""

    @property
    def isolation(self) -> str:
        """One line for reports, with what could not be enforced."""

    @property
    def sandboxed(self) -> bool:
        """Whether there is a wall at all."""

    def start(self, limits: Limits) -> Guest:
        """Start a guest. Returns at once. Raises `SandboxError`."""


def choose_backend(name: str | None) -> Backend:
    """The backend of that name; the best one that works here where `name` is None or "auto".

    Going without a sandbox has to be asked for by name. Raises `SandboxUnavailable`.
    """
    if name == "none":
        return NoSandbox()
    if name in (None, "auto", "bubblewrap"):
        return Bubblewrap()
    raise SandboxUnavailable(f"there is no sandbox {name!r}; choose bubblewrap or none")
