"""Guests for tests: the backends that this machine has, and programs from source."""

import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox.backends import NAMES, choose_backend
from sandbox.faults import GuestFault, SandboxUnavailable
from sandbox.guest_client import Guest
from sandbox.limits import Deadline, Limits
from sandbox.program import Chunk, Program
from sandbox.session import Session

FILE = "student.py"
LONG = Deadline(cpu_seconds=30, wall_seconds=120)  # for what is not about time, on a busy machine


def _missing(name: str) -> str | None:
    """Why the backend of that name cannot run here."""
    try:
        choose_backend(name)
    except SandboxUnavailable as error:
        return str(error)
    return None


# NOISEMARK_TEST_SANDBOXES: of those that the machine has, the ones to test; an old gVisor takes very long
CHOSEN = os.environ.get("NOISEMARK_TEST_SANDBOXES", "bubblewrap,docker-runc").split(",")
SANDBOXED = [
    pytest.param(name, marks=pytest.mark.skipif(why is not None, reason=f"{name}: {why}"))
    for name in NAMES
    if name in CHOSEN
    for why in [_missing(name)]
]
BACKENDS = [pytest.param("none"), *SANDBOXED]


def program(source: str, **fields: Any) -> Program:
    """A program of one chunk, whose functions are called by their global names."""
    return Program(chunks=(Chunk(file=FILE, line=1, source=textwrap.dedent(source)),), **fields)


@contextmanager
def loaded(guest: Guest, source: str, deadline: Deadline = LONG, **fields: Any) -> Iterator[Session]:
    """A session that has loaded `source`."""
    with guest.session(deadline, seed=1) as session:
        session.load(program(source, **fields))
        yield session


def has_own_kernel(guest: Guest) -> bool:
    """Whether the guest runs on a kernel of its own, such as gVisor's: what a program sees and does there is there."""
    return guest._one_at_a_time


def fault_of(guest: Guest, source: str, deadline: Deadline = LONG) -> GuestFault:
    """The fault of a program's `attack()`, or of loading it; the guest must be usable afterwards."""
    with pytest.raises(GuestFault) as caught, loaded(guest, source, deadline) as session:
        session.call("attack")
    assert answers(guest)
    return caught.value


def answers(guest: Guest) -> bool:
    """Whether a new session does what it should."""
    with loaded(guest, "def double(x): return 2 * x") as session:
        return bool(session.call("double", 21) == 42)


@contextmanager
def guest(backend: str, **limits: Any) -> Iterator[Guest]:
    """A guest that is gone afterwards."""
    with choose_backend(backend).start(Limits(**limits)) as started:
        yield started
