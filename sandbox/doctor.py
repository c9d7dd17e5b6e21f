"""What each backend needs on this machine, for `noisemark doctor`."""

import sys
from dataclasses import dataclass

from sandbox import bubblewrap, plain


@dataclass(frozen=True, kw_only=True)
class BackendStatus:
    """One backend on this machine."""

    name: str
    available: bool
    version: str | None
    isolation: str  # what it gives, or would give
    missing: str | None  # what keeps it from working
    remedy: str | None  # one line to type


def probe() -> list[BackendStatus]:
    """Every backend, best first. Starts a process in a sandbox, to know that it works."""
    version = bubblewrap.version()
    missing = bubblewrap.missing() if sys.platform == "linux" else "bubblewrap needs Linux"
    return [
        BackendStatus(
            name=bubblewrap.Bubblewrap.name,
            available=missing is None,
            version=".".join(map(str, version)) if version else None,
            isolation=bubblewrap.isolation() if missing is None else "",
            missing=missing,
            remedy=None if missing is None else bubblewrap.remedy(),
        ),
        BackendStatus(
            name=plain.NoSandbox.name,
            available=True,
            version=None,
            isolation=plain.NoSandbox.isolation,
            missing=None,
            remedy=None,
        ),
    ]
