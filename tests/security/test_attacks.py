"""Every attack against every sandbox, and, to know that it can succeed, against a setting that is too weak."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import guests
import pytest
from security import attack, tampering
from security.attack import SUCCEEDED, Attack, BareProcess, LimitsOff, NoSandbox, Stage
from security.channels import Channel
from security.corpus import ATTACKS, CHANNELS, CHEATS
from security.tampering import Cheat

from sandbox.faults import GuestFault
from sandbox.guest_client import Guest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="the numbers of system calls are those of x86_64"
)

Record = Callable[[str, object], None]  # of pytest's `record_property`; what it is told shows in scripts/redteam


def needs_own_guest(tried: Attack) -> bool:
    return tried.own_guest or tried.limits != attack.STRICT


def params(corpus: Sequence[Any]) -> list[Any]:
    return [pytest.param(entry, marks=pytest.mark.threat(entry.row), id=str(entry)) for entry in corpus]


# What becomes of whoever uses up a guest that has a kernel of its own: it ends as a whole
BY_ITS_END = ("crashed", "out_of_memory", "ENOMEM")


def judge(tried: Attack, found: str, guest: Guest, record_property: Record) -> None:
    """An attack has to be stopped, or to do no harm."""
    record_property("found", found)
    if not guests.has_own_kernel(guest):
        assert found in tried.stopped
    elif found == SUCCEEDED and tried.own_kernel is not None:
        record_property("harmless", tried.own_kernel)
    else:
        assert found in (*tried.stopped, *BY_ITS_END)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with attack.stage() as made:
        yield made


@pytest.fixture(scope="module", params=guests.SANDBOXED)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with guests.guest(request.param, **attack.STRICT) as started:
        yield started


@pytest.fixture(scope="module", params=guests.SANDBOXED)
def generous(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with guests.guest(request.param, **attack.GENEROUS) as started:
        yield started


@pytest.fixture(scope="module")
def plain() -> Iterator[Guest]:
    with guests.guest("none", **attack.GENEROUS) as started:
        yield started


@pytest.mark.parametrize("tried", params([a for a in ATTACKS if not needs_own_guest(a)]))
def test_is_stopped(tried: Attack, guest: Guest, stage: Stage, record_property: Record) -> None:
    judge(tried, attack.run_and_go_on(tried, guest, stage), guest, record_property)


@pytest.mark.parametrize("backend", guests.SANDBOXED)
@pytest.mark.parametrize("tried", params([a for a in ATTACKS if needs_own_guest(a)]))
def test_is_stopped_in_a_guest_of_its_own(tried: Attack, backend: str, stage: Stage, record_property: Record) -> None:
    with guests.guest(backend, **tried.limits) as started:
        judge(tried, attack.run_and_go_on(tried, started, stage), started, record_property)


def show(found: str) -> None:
    """A control has to succeed, unless there is nothing here to attack."""
    if found in attack.NOT_IN_THIS_KERNEL:
        pytest.skip(f"this kernel has no such thing ({found})")
    assert found.startswith(SUCCEEDED)


@pytest.mark.control("no sandbox")
@pytest.mark.parametrize("tried", params([a for a in ATTACKS if isinstance(a.control, NoSandbox)]))
def test_succeeds_without_a_sandbox(tried: Attack, plain: Guest, stage: Stage) -> None:
    assert isinstance(tried.control, NoSandbox)
    if tried.control.root and os.geteuid() != 0:
        pytest.skip("takes root")
    show(attack.run(tried, plain, stage))


@pytest.mark.control("a bare process")
@pytest.mark.parametrize("tried", params([a for a in ATTACKS if isinstance(a.control, BareProcess)]))
def test_succeeds_in_a_bare_process(tried: Attack, stage: Stage) -> None:
    show(attack.run_bare(tried, stage))


@pytest.mark.control("no limits")
@pytest.mark.parametrize("tried", params([a for a in ATTACKS if isinstance(a.control, LimitsOff)]))
def test_succeeds_without_limits(tried: Attack, generous: Guest, stage: Stage) -> None:
    show(attack.run(tried, generous, stage, guests.LONG))


@pytest.mark.parametrize("cheat", params(CHEATS))
def test_earns_nothing(cheat: Cheat, guest: Guest) -> None:
    assert tampering.outcome(cheat, guest) in cheat.stopped


@pytest.mark.control("a grader in the same process")
@pytest.mark.parametrize("cheat", params([cheat for cheat in CHEATS if cheat.control is None]))
def test_fools_a_weak_grader(cheat: Cheat) -> None:
    assert tampering.fools_a_weak_grader(cheat)


def received(channel: Channel, sending: Guest, receiving: Guest) -> bool:
    """Whether one guest has heard of another, which still runs."""
    number = secrets.randbelow(10**6) + 1
    try:
        with guests.loaded(sending, channel.sender) as sender, guests.loaded(receiving, channel.receiver) as receiver:
            if channel.listens_first:
                receiver.call("attack", number)
            sender.call("attack", number)
            return bool(receiver.call("attack", number))
    except GuestFault:  # refused, to one of them or to both
        return False


@pytest.fixture(scope="module", params=guests.SANDBOXED)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Guest, Guest]]:
    with guests.guest(request.param) as one, guests.guest(request.param) as other:
        yield one, other


@pytest.mark.parametrize("channel", params(CHANNELS))
def test_two_guests_cannot_talk(channel: Channel, pair: tuple[Guest, Guest]) -> None:
    assert not received(channel, *pair)


@pytest.mark.parametrize("channel", params([channel for channel in CHANNELS if not channel.of_the_guest]))
def test_two_sessions_of_a_guest_cannot_talk(channel: Channel, guest: Guest) -> None:
    assert not received(channel, guest, guest)


@pytest.mark.control("no sandbox")
@pytest.mark.parametrize("channel", params(CHANNELS))
def test_without_a_sandbox_they_can(channel: Channel, plain: Guest) -> None:
    if not received(channel, plain, plain):
        pytest.skip("this kernel, or this user, has no such thing")
