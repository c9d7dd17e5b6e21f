"""The launcher: warm guests from another process, which alone starts sandboxes."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path

import guests
import pytest
from services import PATIENCE, ROOT, assert_gone, family, wait_until

from sandbox.backends import choose_backend
from sandbox.faults import SandboxError, SandboxUnavailable
from sandbox.launch import receive_end
from sandbox.launched import Launched
from sandbox.limits import Limits


@pytest.fixture(params=guests.SANDBOXED)
def launcher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Launched, subprocess.Popen]]:
    """A launcher with one warm guest, and its process."""
    path = tmp_path / "socket"
    command = [sys.executable, "-m", "sandbox.launcher", "--socket", str(path), "--sandbox", request.param]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stderr=log)
    try:
        wait_until(path.exists, "the launcher")
        backend = choose_backend(f"launcher:{path}")
        assert isinstance(backend, Launched)
        yield backend, process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def assert_ended(control: socket.socket) -> None:
    """The root process hangs up when it ends, and at no other time."""
    with control:
        assert receive_end(control, PATIENCE)


def test_it_says_what_its_guests_are_and_hands_them_out(launcher: tuple[Launched, subprocess.Popen]) -> None:
    backend, _ = launcher
    direct = choose_backend(backend.name)
    assert (backend.isolation, backend.sandboxed) == (direct.isolation, True)
    with backend.start(Limits()) as one, backend.start(Limits()) as two:
        assert guests.answers(one)
        assert guests.answers(two)


def test_it_counts_the_guests_that_are_warm(launcher: tuple[Launched, subprocess.Popen]) -> None:
    backend, _ = launcher
    wait_until(lambda: Launched(backend._path).pool == {"warm": 1, "kept": 1}, "a warm guest")
    with backend.start(Limits()):  # takes it; the next one imports torch first
        assert Launched(backend._path).pool == {"warm": 0, "kept": 1}


def test_its_log_calls_a_guest_as_the_worker_does(launcher: tuple[Launched, subprocess.Popen], tmp_path: Path) -> None:
    backend, _ = launcher
    with Launched(backend._path, "0123abc").start(Limits()) as guest:
        assert guests.answers(guest)

    def told() -> list[tuple[str, str]]:
        lines = map(json.loads, (tmp_path / "log").read_text().splitlines())
        return [(line["event"], line["trace"]) for line in lines]

    wait_until(lambda: told() == [("guest begins", "0123abc"), ("guest ends", "0123abc")], "the log")


def test_a_guest_serves_one_judge_and_is_destroyed(launcher: tuple[Launched, subprocess.Popen]) -> None:
    backend, _ = launcher
    name = "import socket\ndef f(): return socket.gethostname()"
    with backend.start(Limits()) as guest:
        with guests.loaded(guest, name) as session:
            assert session.call("f") == "guest"
        control = guest._sandbox.control.dup()
    assert_ended(control)
    with backend.start(Limits()) as another:
        assert guests.answers(another)


def _judge(path: Path, told: Connection, test: int) -> None:
    """Takes a guest, gives the test a copy of its connection, and goes on for ever."""
    with Launched(path).start(Limits()) as guest:
        guest.wait_until_ready()
        send_handle(told, guest._sandbox.control.fileno(), test)
        told.recv()


def test_a_judge_that_is_killed_takes_its_guest_along(launcher: tuple[Launched, subprocess.Popen]) -> None:
    backend, _ = launcher
    ours, theirs = multiprocessing.Pipe()
    judge = multiprocessing.get_context("spawn").Process(target=_judge, args=(backend._path, theirs, os.getpid()))
    judge.start()
    assert ours.poll(PATIENCE)
    control = socket.socket(fileno=recv_handle(ours))
    judge.kill()
    judge.join()
    assert_ended(control)
    with backend.start(Limits()) as guest:  # the launcher is none the worse for it
        assert guests.answers(guest)


NO_REQUESTS = [
    b"",
    b"\n",
    b"{}\n",
    b'{"start": {"gpu": 7}}\n',
    b'{"start": {"image": "another"}}\n',
    b'{"exec": "sh"}\n',
    b"x" * 5000,
    b"\xff\xfe\n",
]


def test_whatever_else_is_asked_gets_no_answer(launcher: tuple[Launched, subprocess.Popen]) -> None:
    backend, _ = launcher
    for line in NO_REQUESTS:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(backend._path))
            connection.settimeout(PATIENCE)
            greeting = connection.recv(65536)
            assert json.loads(greeting).keys() == {"backend", "isolation", "image", "sandboxed", "pool"}
            with suppress(BrokenPipeError):
                connection.sendall(line)
                connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):  # it may hang up before it has read all of it
                assert connection.recv(65536) == b"", line
    with backend.start(Limits()) as guest:
        assert guests.answers(guest)


def test_memory_of_a_launched_guest_is_accounted_for(launcher: tuple[Launched, subprocess.Popen]) -> None:
    backend, _ = launcher
    with backend.start(Limits()) as guest:
        source = (
            "import torch\ndef attack():\n    hoard = [torch.ones(2**28) for _ in range(64)]\n    return len(hoard)"
        )
        fault = guests.fault_of(guest, source)
    assert fault.ending.value == "out_of_memory"


def test_no_launcher_is_a_fault_of_ours(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="no launcher listens"):
        choose_backend(f"launcher:{tmp_path / 'nobody'}")


def test_a_launcher_that_ends_leaves_nothing_and_is_told(launcher: tuple[Launched, subprocess.Popen]) -> None:
    backend, process = launcher
    with backend.start(Limits()) as guest:
        assert guests.answers(guest)
    processes = family(process.pid)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert_gone(processes[1:])
    with pytest.raises(SandboxError, match="launcher"):
        backend.start(Limits())


def _refused(path: Path) -> str:
    command = [sys.executable, "-m", "sandbox.launcher", "--socket", str(path), "--sandbox", "none"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_it_takes_no_place_that_is_taken(launcher: tuple[Launched, subprocess.Popen], tmp_path: Path) -> None:
    backend, _ = launcher
    file = tmp_path / "work.py"
    file.write_text("precious")
    assert "no socket" in _refused(file)
    assert file.read_text() == "precious"
    assert "another launcher" in _refused(backend._path)
    assert "No such file" in _refused(tmp_path / "nowhere" / "socket")
    with backend.start(Limits()) as guest:
        assert guests.answers(guest)
