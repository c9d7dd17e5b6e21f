"""The root process of a guest: imports torch once, then forks one child for each session.

It never runs student code, reads nothing from its children, and answers only the judge, on descriptor 0.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import struct
import sys
import time
import traceback
from typing import Any

from . import confine

DATA = 3  # the descriptor on which a session talks to the judge
FORK_SECONDS = 10.0  # for a killed fork bomb to be cleared away, which takes the kernel some 0.1 s
RETRY_SECONDS = 0.01  # between two attempts to fork meanwhile
LENGTH = struct.Struct("!H")  # before each request: requests may follow each other without waiting for an answer


def receive(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The judge's next request and the descriptors that came with it. Raises `EOFError` when the judge has gone."""
    descriptors: list[int] = []

    def exactly(size: int) -> bytes:
        found = b""
        while len(found) < size:
            part, fds, _, _ = socket.recv_fds(control, size - len(found), 2)
            if not part:
                raise EOFError
            found += part
            descriptors.extend(fds)
        return found

    (length,) = LENGTH.unpack(exactly(LENGTH.size))
    return json.loads(exactly(length)), descriptors


def send(control: socket.socket, answer: dict[str, Any]) -> None:
    """Answer the judge, in one line."""
    control.sendall(json.dumps(answer).encode() + b"\n")


def warm() -> None:
    """Import what sessions need, with a single thread: a fork of a process with a thread pool hangs."""
    gc.disable()  # looking for garbage among a million objects that stay: 0.3 s of the 2 that imports take
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # Threads that wait spin for microseconds, then sleep (docs/benchmarks.md). libgomp's own 300,000 turns make two
    # guests on the same cores slow each other down by a factor of thirty and more
    os.environ["GOMP_SPINCOUNT"] = "1000"
    import einops  # noqa: F401
    import numpy.random  # noqa: F401
    import torch
    from torch.nn import functional

    from . import compiler, generators, session, stubs  # noqa: F401  (sessions need it)

    torch.set_num_threads(1)
    compiler.make_inert()
    stubs.let_through()
    generators.watch()
    generators.reseed(0)
    # What torch sets up at first use, some of it from /proc, which sessions do not have. No gradients: autograd's
    # threads do not survive a fork
    with torch.no_grad():
        image = torch.zeros(1, 4, 4, 4)
        functional.gelu(functional.group_norm(functional.conv2d(image, torch.zeros(4, 4, 3, 3)), 2))
        functional.conv_transpose2d(image, torch.zeros(4, 4, 2, 2), stride=2)
        functional.linear(image, torch.zeros(4, 4))
    os.environ.clear()
    gc.collect()
    gc.enable()
    gc.freeze()  # or every collection in a session would copy the pages of all that was imported


def become_session(parent: socket.socket, configuration: dict[str, Any]) -> None:
    """In the child: close off, then wait for the two descriptors of a session and serve it. Never returns."""
    from . import confine, session

    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # in place of the control connection
    confine.confine_session(configuration)
    _, descriptors, _, _ = socket.recv_fds(parent, 1, 2)
    if not descriptors:
        os._exit(0)  # the guest is being closed
    data, output = descriptors
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(data, DATA)
    parent.detach()
    os.closerange(DATA + 1, os.sysconf("SC_OPEN_MAX"))
    session.run(socket.socket(fileno=DATA))


class Zygote:
    """Forks sessions and ends them.

    One child is always forked ahead: forking and closing off take 10 ms, which pass while the judge does other things.
    """

    def __init__(self, control: socket.socket, configuration: dict[str, Any]) -> None:
        self._control = control
        self._configuration = configuration
        self._sessions: set[int] = set()
        self._dropped: list[int] = []  # killed, not yet reaped
        self._spare: tuple[int, socket.socket] | None = self._fork(patience=0)

    def _fork(self, *, patience: float) -> tuple[int, socket.socket]:
        """The next session's process, and the way to it.

        Tries for `patience` seconds where a session has used up the processes of the guest. Raises `BlockingIOError`.
        """
        until = time.monotonic() + patience
        while True:
            confine.before_fork(self._configuration)
            near, far = socket.socketpair()
            try:
                pid = os.fork()
                break
            except BlockingIOError:
                near.close()
                far.close()
                if time.monotonic() >= until:
                    raise
                time.sleep(RETRY_SECONDS)
        if pid == 0:
            try:
                near.close()
                become_session(far, self._configuration)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        far.close()
        return pid, near

    def serve(self) -> None:
        """Open and end sessions until the judge goes."""
        while True:
            request, descriptors = receive(self._control)
            self._dropped = [pid for pid in self._dropped if os.waitpid(pid, os.WNOHANG)[0] == 0]
            if request["op"] == "open":
                self._open(descriptors)
            elif request["op"] == "end":
                send(self._control, self._end(request["pid"], request["grace"]))
            elif request["op"] == "interrupt":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(request["pid"], signal.SIGXCPU)
            elif request["op"] == "memory_kills":
                send(self._control, {"memory_kills": confine.memory_kills()})
            else:
                self._drop(request["pid"])

    def _open(self, descriptors: list[int]) -> None:
        pid, to_session = self._spare or self._fork(patience=FORK_SECONDS)
        with contextlib.suppress(OSError):  # a dead spare is noticed by the judge, whose connection closes
            socket.send_fds(to_session, [b"!"], descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        to_session.close()
        send(self._control, {"pid": pid})
        self._sessions.add(pid)
        try:
            self._spare = self._fork(patience=0)
        except BlockingIOError:  # a fork bomb, or one that is still being cleared away; gone by the next session
            self._spare = None

    def _drop(self, pid: int) -> None:
        """End a session of which nothing is to be known, without a word, and without waiting where nothing needs it."""
        if self._configuration["own_namespaces"] and not one_at_a_time(self._configuration):
            os.kill(pid, signal.SIGKILL)
            self._sessions.discard(pid)
            self._dropped.append(pid)
        else:
            self._end(pid, 0)

    def _end(self, pid: int, grace: float) -> dict[str, Any]:
        answer = end(pid, grace)
        self._sessions.discard(pid)
        if not self._configuration["own_namespaces"]:  # with them, nothing has survived process 1
            confine.kill_leftovers(pid, self._sessions | ({self._spare[0]} if self._spare else set()))
        if one_at_a_time(self._configuration):
            confine.empty_shared_folders()
        return answer


def end(pid: int, grace: float) -> dict[str, Any]:
    """Make sure that a session is over, and say what became of its process.

    Waits `grace` seconds for it to end by itself (`killed` is false then), and kills it otherwise.
    """
    until = time.monotonic() + grace
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found or time.monotonic() >= until:
            break
        time.sleep(0.001)
    killed = not found
    if killed:
        os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
    return {
        "killed": killed,
        "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
        "signal_number": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
    }


def connect() -> socket.socket:
    """The control connection: descriptor 0, or where an engine hands none over, the socket that the judge names."""
    if len(sys.argv) > 2:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(sys.argv[2])
            os.dup2(connection.fileno(), 0)
    return socket.socket(fileno=0)


def find_namespaces(configuration: dict[str, Any]) -> None:
    """Make a user namespace, and do without namespaces for sessions where that is not to be had."""
    try:
        confine.enter_user_namespace()
    except OSError as error:
        print(error, file=sys.stderr, flush=True)
        configuration["own_namespaces"] = configuration["own_mounts"] = False
    confine.protect_zygote()
    if configuration["own_namespaces"] and not confine.rehearse(configuration):
        configuration["own_namespaces"] = configuration["own_mounts"] = False


def one_at_a_time(configuration: dict[str, Any]) -> bool:
    """Whether there is a wall around the guest, but not between the files of its sessions."""
    return configuration["filter"] and not configuration["own_mounts"]


def main() -> None:
    """Serve the judge."""
    control = connect()
    configuration, log = receive(control)
    for descriptor in log:  # at most one, from a judge who could not hand it over as descriptor 2
        os.dup2(descriptor, 2)
        os.close(descriptor)
    try:
        if configuration["own_user_namespace"]:
            find_namespaces(configuration)
        confine.protect_zygote()
        warm()
        own = {name: configuration[name] for name in ("own_namespaces", "own_mounts")}
        send(control, {**own, "one_at_a_time": one_at_a_time(configuration)})
        Zygote(control, configuration).serve()
    except (EOFError, BrokenPipeError):  # the judge has gone
        confine.leave(configuration)
