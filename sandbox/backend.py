"""What every backend is: a way to start sandboxes."""

from abc import ABC, abstractmethod

from sandbox.guest_client import Guest
from sandbox.launch import Sandbox
from sandbox.limits import Limits


class Backend(ABC):
    """A way to start sandboxes on this machine."""

    name: str  # the word by which it is chosen
    isolation: str  # one line for reports, with what could not be enforced
    image: str | None = None  # digest of what guests run in, where that is an image
    sandboxed = True  # whether there is a wall at all

    @abstractmethod
    def launch(self, limits: Limits) -> Sandbox:
        """Start a sandbox. Raises `SandboxError`."""

    def start(self, limits: Limits) -> Guest:
        """Start a guest: a sandbox that is started anew when it dies. Raises `SandboxError`."""
        return Guest(lambda: self.launch(limits), limits)
