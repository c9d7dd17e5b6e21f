"""What each backend needs on this machine, for `noisemark doctor`."""

import sys
from contextlib import closing
from dataclasses import dataclass

from sandbox import bubblewrap, plain
from sandbox.backends import NAMES, choose_backend, has_engine
from sandbox.faults import SandboxUnavailable
from sandbox.versions import is_older


@dataclass(frozen=True, kw_only=True)
class BackendStatus:
    """One backend on this machine."""

    name: str
    available: bool
    isolation: str  # what it gives, where it works
    missing: str | None  # what keeps it from working
    remedy: str | None  # one line to type


@dataclass(frozen=True, kw_only=True)
class Part:
    """A program that the wall is made of, and whether it is free of known holes."""

    name: str
    found: str  # empty: not here
    needed: str
    holes: str  # those of older versions

    @property
    def is_good(self) -> bool:
        """Whether it is here, and new enough."""
        return bool(self.found) and not is_older(self.found, self.needed)


def probe() -> list[BackendStatus]:
    """Every backend, best first. Starts a process in bubblewrap, to know that it works."""
    return [_status(name) for name in NAMES]


def _status(name: str) -> BackendStatus:
    missing, remedy = None, None
    if name == plain.NoSandbox.name:
        isolation = plain.NoSandbox.isolation
    elif name == "bubblewrap":
        missing = bubblewrap.missing() if sys.platform == "linux" else "bubblewrap needs Linux"
        isolation, remedy = ("", bubblewrap.remedy()) if missing else (bubblewrap.isolation(), None)
    else:
        try:
            isolation = choose_backend(name).isolation
        except SandboxUnavailable as error:
            isolation, missing = "", str(error)
            remedy = "docs/security.md says what it needs: an engine, an image, and for gVisor a runtime."
    return BackendStatus(name=name, available=missing is None, isolation=isolation, missing=missing, remedy=remedy)


def parts() -> list[Part]:
    """The programs that backends are made of."""
    oldest = ".".join(map(str, bubblewrap.OLDEST))
    version = ".".join(map(str, bubblewrap.version() or ()))
    found = [Part(name="bubblewrap", found=version, needed=oldest, holes="it cannot size a tmpfs")]
    if has_engine():
        from sandbox import container

        try:
            with closing(container.engine()) as client:
                versions = container.versions(client)
        except SandboxUnavailable:
            versions = container.versions(None)
        found += [
            Part(name=name, found=versions[name], needed=needed, holes=holes)
            for name, (needed, holes) in container.NEEDED.items()
        ]
    return found
