"""The system call filter, run by an interpreter of classic BPF: also for the architecture that this machine is not."""

import errno

import pytest

from sandbox.guest import seccomp
from sandbox.guest.seccomp import (
    CLONE,
    CLONE3,
    DENIED,
    IOCTL,
    MADVISE,
    MKNOD,
    MKNODAT,
    PREADV2,
    PWRITEV2,
    SOCKET,
    UNSHARE,
)

ALLOWED = seccomp.RET_ALLOW
EPERM = seccomp.RET_ERRNO | errno.EPERM


def run(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the kernel would make of a call."""
    words = {0: number, 4: seccomp.ARCHITECTURES[machine][1] if audit is None else audit}
    for index, argument in enumerate(arguments):
        words[16 + 8 * index] = argument & 0xFFFFFFFF
    code = seccomp.program(machine)
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        if operation == seccomp.LOAD:
            accumulator = words.get(operand, 0)
        elif operation == seccomp.AND:
            accumulator &= operand
        elif operation == seccomp.RETURN:
            return operand
        else:
            holds = {
                seccomp.EQUAL: accumulator == operand,
                seccomp.BITS: bool(accumulator & operand),
                seccomp.AT_LEAST: accumulator >= operand,
            }[operation]
            at += if_true if holds else if_false


@pytest.fixture(params=seccomp.ARCHITECTURES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def column(machine: str) -> int:
    return seccomp.ARCHITECTURES[machine][0]


def test_every_denied_call_is_denied(machine: str) -> None:
    for name, numbers in DENIED.items():
        number = numbers[column(machine)]
        assert number is None or run(machine, number) == EPERM, name


def test_what_everybody_needs_is_allowed(machine: str) -> None:
    needed = {
        "x86_64": (0, 1, 3, 9, 11, 12, 13, 59, 60, 61, 202, 231, 257, 318),
        "aarch64": (56, 57, 63, 64, 93, 98, 222),
    }
    for number in needed[machine]:
        assert run(machine, number) == ALLOWED


def test_threads_and_forks_are_allowed_and_namespaces_are_not(machine: str) -> None:
    clone, unshare = CLONE[column(machine)], UNSHARE[column(machine)]
    assert run(machine, clone, 0x3D0F00) == ALLOWED  # pthread_create
    assert run(machine, clone, 17) == ALLOWED  # fork
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(machine, clone, 17 | flag) == EPERM
        assert run(machine, unshare, flag) == EPERM
    assert run(machine, CLONE3[column(machine)]) == seccomp.RET_ERRNO | errno.ENOSYS


def test_sockets_are_local_or_of_the_internet(machine: str) -> None:
    call = SOCKET[column(machine)]
    assert [run(machine, call, family) == ALLOWED for family in (1, 2, 10, 16, 17, 38, 40)] == [True] * 3 + [False] * 4


def test_terminals_cannot_be_typed_into(machine: str) -> None:
    call = IOCTL[column(machine)]
    assert run(machine, call, 0, 0x5412) == EPERM
    assert run(machine, call, 0, 0x5401) == ALLOWED  # TCGETS


def test_files_and_pipes_are_made_and_devices_are_not(machine: str) -> None:
    mknod, mknodat = MKNOD[column(machine)], MKNODAT[column(machine)]
    for mode, verdict in ((0o100600, ALLOWED), (0o010600, ALLOWED), (0o020600, EPERM), (0o060666, EPERM)):
        assert run(machine, mknodat, 0, 0, mode) == verdict
        assert mknod is None or run(machine, mknod, 0, mode) == verdict


def test_nobody_asks_what_is_in_memory(machine: str) -> None:
    for call in (PREADV2[column(machine)], PWRITEV2[column(machine)]):
        assert run(machine, call, 3, 0, 1, 0, 0, 0) == ALLOWED
        for flag in (0x1, 0x8, 0x10):  # RWF_HIPRI, RWF_NOWAIT, RWF_APPEND
            assert run(machine, call, 3, 0, 1, 0, 0, flag) == EPERM
    advise = MADVISE[column(machine)]
    verdicts = {advice: run(machine, advise, 0, 4096, advice) == ALLOWED for advice in (4, 8, 14, 20, 21)}
    assert verdicts == {4: True, 8: True, 14: True, 20: False, 21: False}  # DONTNEED, FREE, HUGEPAGE; COLD, PAGEOUT


def test_calls_of_another_architecture_are_fatal(machine: str) -> None:
    assert run(machine, 1, audit=0x40000003) == seccomp.RET_KILL_PROCESS  # i386


def test_x32_calls_do_not_exist() -> None:
    assert run("x86_64", 0x40000000 | 1) == seccomp.RET_ERRNO | errno.ENOSYS


def test_jumps_stay_within_the_program(machine: str) -> None:
    code = seccomp.program(machine)
    for at, (operation, if_true, if_false, _) in enumerate(code):
        if operation in (seccomp.EQUAL, seccomp.BITS, seccomp.AT_LEAST):
            assert at + 1 + max(if_true, if_false) < len(code)


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(OSError, match="riscv64"):
        seccomp.program("riscv64")
