"""Code that takes more than its share (threat list: "Exhaust resources")."""

from collections.abc import Iterator
from pathlib import Path

import guests
import pytest

from sandbox import cgroups
from sandbox.faults import Ending, GuestFault
from sandbox.guest_client import Guest
from sandbox.limits import MIB, Deadline

MEMORY = 900 * MIB  # a warm torch takes 300
SHORT = Deadline(cpu_seconds=1, wall_seconds=60)
IMPATIENT = Deadline(cpu_seconds=30, wall_seconds=1)


def limited(backend: str) -> Iterator[Guest]:
    with guests.guest(
        backend, memory_bytes=MEMORY, processes=32, output_bytes=10_000, tmp_bytes=8 * MIB, file_bytes=4 * MIB
    ) as started:
        yield started


@pytest.fixture(scope="module", params=guests.BACKENDS)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    yield from limited(request.param)


@pytest.fixture(scope="module", params=guests.SANDBOXED)
def sandboxed(request: pytest.FixtureRequest) -> Iterator[Guest]:
    yield from limited(request.param)


@pytest.mark.threat(28)
@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "def attack():\n while True: pass",
        "import signal\nfor s in (signal.SIGTERM, signal.SIGXCPU): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        "def attack():\n while True:\n  try: raise ValueError\n  except BaseException: pass",
    ],
)
def test_an_endless_loop_ends_with_its_processor_time(guest: Guest, source: str) -> None:
    fault = guests.fault_of(guest, source, SHORT)
    assert (fault.ending, fault.message) == (Ending.TIMED_OUT, "took more than 1 s of processor time")


@pytest.mark.threat(28)
@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.sleep(600)",
        "import threading\ndef attack():\n lock = threading.Lock()\n lock.acquire()\n lock.acquire()",
        "import os, time\ndef attack():\n os.fork() or time.sleep(600)\n os.wait()",
    ],
)
def test_waiting_ends_with_the_time_on_the_clock(guest: Guest, source: str) -> None:
    fault = guests.fault_of(guest, source, IMPATIENT)
    assert (fault.ending, fault.message) == (Ending.TIMED_OUT, "did not answer within 1 s")


@pytest.mark.threat(28)
def test_time_is_counted_over_all_calls_of_a_session(guest: Guest) -> None:
    source = "import time\ndef attack(): time.sleep(0.6)"
    with guests.loaded(guest, source, IMPATIENT) as session:
        session.call("attack")
        with pytest.raises(GuestFault, match="within 1 s"):
            session.call("attack")


@pytest.mark.threat(26)
@pytest.mark.parametrize(
    "source",
    [
        "hog = []\nwhile True: hog.append(bytearray(2**24))",
        "import torch\nhog = []\nwhile True: hog.append(torch.ones(2**22))",
    ],
)
def test_memory_is_limited(guest: Guest, source: str) -> None:
    assert guests.fault_of(guest, source).ending is Ending.OUT_OF_MEMORY


@pytest.mark.threat(26)
def test_a_refused_allocation_leaves_the_session_alive(guest: Guest) -> None:
    source = "import torch\ndef attack(): return torch.ones(2**44)\ndef f(): return 1"
    with guests.loaded(guest, source) as session:
        with pytest.raises(GuestFault) as caught:
            session.call("attack")
        assert caught.value.ending is Ending.OUT_OF_MEMORY
        assert caught.value.line == 2
        assert session.call("f") == 1


@pytest.mark.threat(30)
@pytest.mark.parametrize(
    "source",
    [
        "def attack():\n while True: print('x' * 100)",
        "import os\ndef attack():\n while True: os.write(2, b'x' * 1000)",
        "import sys\nwhile True: sys.stdout.write('x')",
    ],
)
def test_output_is_limited(guest: Guest, source: str) -> None:
    fault = guests.fault_of(guest, source)
    assert (fault.ending, fault.message) == (Ending.OUTPUT_LIMIT, "printed more than 10000 bytes")


@pytest.mark.threat(27)
def test_one_file_is_limited(guest: Guest) -> None:
    fault = guests.fault_of(guest, "def attack():\n with open('big', 'wb') as f: f.write(bytes(5 * 2**20))")
    assert (fault.exception, fault.message) == ("OSError", "[Errno 27] File too large")


@pytest.mark.threat(27)
def test_open_files_are_limited(guest: Guest) -> None:
    source = "def attack(): return [open('/dev/null') for _ in range(10**4)] and 1"
    assert "Too many open files" in guests.fault_of(guest, source).message


@pytest.mark.threat(25)
def test_a_fork_bomb_that_goes_off_everywhere_dies_with_its_session(sandboxed: Guest) -> None:
    source = """
    import os
    def attack():
        while True:
            try: os.fork()
            except BlockingIOError: pass
    """
    ending = guests.fault_of(sandboxed, source, Deadline(cpu_seconds=1, wall_seconds=3)).ending
    # A kernel of the guest's own ends as a whole
    assert ending in (Ending.TIMED_OUT, Ending.PROTOCOL) or (
        guests.has_own_kernel(sandboxed) and ending in (Ending.CRASHED, Ending.OUT_OF_MEMORY)
    )


@pytest.mark.threat(33)
def test_no_core_is_dumped(guest: Guest) -> None:
    source = "import resource\ndef f(): return resource.getrlimit(resource.RLIMIT_CORE)"
    with guests.loaded(guest, source) as session:
        assert session.call("f") == (0, 0)


def test_control_groups_are_removed() -> None:
    if not cgroups.writable():
        pytest.skip("no control group can be made here")
    folders = [hierarchy.folder for hierarchy in cgroups.writable().values()]

    def groups() -> set[Path]:
        return {path for folder in folders for path in folder.glob("noisemark-*")}

    before = groups()
    with guests.guest("bubblewrap") as started:
        assert guests.answers(started)
        assert len(groups() - before) == len(folders)
    assert not groups() - before


@pytest.mark.threat(25)
def test_sessions_go_on_after_fork_bombs(sandboxed: Guest) -> None:
    source = "import os\ndef attack():\n while True: os.fork()"
    for _ in range(5):  # whether the root process meets the bomb or what is left of it is a matter of luck
        guests.fault_of(sandboxed, source, IMPATIENT)
        assert guests.answers(sandboxed)
        sandboxed._restarts = 0  # each is to have as many as a grading
