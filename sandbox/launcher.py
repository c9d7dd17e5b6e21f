"""The launcher: a process of its own that alone may start sandboxes, and keeps some warm.

    python -m sandbox.launcher --socket PATH [--sandbox NAME] [--warm N]

It listens on a Unix socket, greets whoever connects with what its sandboxes are and how many wait, and knows one
request, a line {"start": {"gpu": UUID or null, "trace": TEXT}}. It answers with the control connection of a guest;
logs call that guest by its trace. It belongs to the connection: when that closes, the guest is ended; none is ever
handed out twice. Until then each further byte asks whether the guest has died for want of memory, which only the
engine may know. Backend, image and limits are the launcher's own, so that whoever takes over a worker gets guests
from it and nothing else: neither the engine's socket nor a mount.

Lines are JSON. Whoever may connect is settled by the permissions of the socket's folder.
"""

import argparse
import errno
import json
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from sandbox.backend import Backend
from sandbox.backends import NAMES, choose_backend
from sandbox.faults import SandboxError, SandboxUnavailable
from sandbox.launch import Sandbox
from sandbox.limits import Limits
from sandbox.logs import configure_logs

log = structlog.get_logger()

REQUEST_BYTES = 4096  # a request has some hundred
TRACE_CHARACTERS = 64  # a worker's have 16
REQUEST_SECONDS = 600.0  # a judge asks at once; one that hangs is let go
RETRY_SECONDS = 5.0  # after a failed start, so that a broken engine is not asked a thousand times
WAIT_SECONDS = 1.0  # between two looks at whether guests fail to start


@dataclass(frozen=True)
class _Order:
    """A guest to start, and where it goes."""

    limits: Limits
    place: queue.Queue[Sandbox]


class Launcher:
    """Starts sandboxes, in one thread that lives as long as they do: bubblewrap's end with the thread."""

    def __init__(self, backend: Backend, warm: int) -> None:
        """`warm`: how many guests wait ready at a time, at least 1."""
        self._backend = backend
        self._kept = warm
        self._warm: queue.Queue[Sandbox] = queue.Queue()
        self._orders: queue.Queue[_Order | None] = queue.Queue()  # None: stop
        self._fault: str | None = None  # of the last start, where it failed
        self._stopping = threading.Event()
        self._starter = threading.Thread(target=self._start_guests, name="starter", daemon=True)
        for _ in range(warm):
            self._orders.put(_Order(Limits(), self._warm))

    def serve(self, listener: socket.socket) -> None:
        """Hand out guests until the listener is closed."""
        self._starter.start()
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        """End every guest that nobody has taken; the others end with their judges, or with this process."""
        self._stopping.set()
        self._orders.put(None)
        self._starter.join()
        while not self._warm.empty():
            self._warm.get().discard(at_once=True)

    def _start_guests(self) -> None:
        while (order := self._orders.get()) is not None and not self._stopping.is_set():
            try:
                order.place.put(self._backend.launch(order.limits))
                self._fault = None
            except SandboxError as error:
                self._fault = str(error)
                if order.place is self._warm:
                    self._orders.put(order)  # the pool stays as large as it is meant to be
                self._stopping.wait(RETRY_SECONDS)

    def _take(self, gpu: str | None) -> Sandbox:
        """A guest, and one more to be started in its place. Raises `SandboxError`."""
        place = self._warm if gpu is None else queue.Queue[Sandbox]()
        self._orders.put(_Order(Limits(gpu=gpu), place))
        while True:
            try:
                return place.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                if self._fault is not None:
                    raise SandboxError(self._fault) from None

    def _count_warm(self) -> int:
        """How many of those that wait have said that they are ready."""
        with self._warm.mutex:
            waiting = [sandbox.control for sandbox in self._warm.queue]
            return len(select.select(waiting, [], [], 0)[0])

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(REQUEST_SECONDS)
                about = {name: getattr(self._backend, name) for name in ("name", "isolation", "image", "sandboxed")}
                pool = {"warm": self._count_warm(), "kept": self._kept}
                _send(connection, {"backend": about.pop("name"), **about, "pool": pool})
                request = _read(connection)
                if request is None:
                    return
                gpu, trace = request["start"]["gpu"], request["start"]["trace"]
                if not (gpu is None or isinstance(gpu, str)) or not isinstance(trace, str):
                    raise TypeError("gpu or trace")
            except (OSError, ValueError, KeyError, TypeError):
                return  # no request of ours: whoever it is learns nothing
            told = log.bind(trace=trace[:TRACE_CHARACTERS], backend=self._backend.name)
            asked = time.monotonic()
            try:
                sandbox = self._take(gpu)
            except SandboxError as error:
                told.error("no guest", fault=str(error))
                _send(connection, {"error": str(error)})
                return
            begun = time.monotonic()
            told.info("guest begins", waited=round(begun - asked, 3))
            try:
                _send(connection, {"memory": asdict(sandbox.memory)}, [sandbox.control.fileno(), sandbox.log.fileno()])
                sandbox.control.close()  # the judge's from here on: its end is to be the guest's
                connection.settimeout(None)
                while connection.recv(1):  # nothing when the judge hangs up
                    _send(connection, {"died_of_memory": sandbox.died_of_memory()})
            except OSError:
                pass  # it has
            finally:
                sandbox.discard(at_once=True)
                told.info("guest ends", seconds=round(time.monotonic() - begun, 3))


def _send(connection: socket.socket, answer: dict[str, Any], descriptors: list[int] | None = None) -> None:
    socket.send_fds(connection, [json.dumps(answer).encode() + b"\n"], descriptors or [])


def _read(connection: socket.socket) -> dict[str, Any] | None:
    """The request, or None where the other side hangs up. Raises `ValueError`."""
    line = b""
    while not line.endswith(b"\n"):
        part = connection.recv(REQUEST_BYTES)
        if not part:
            return None
        line += part
        if len(line) > REQUEST_BYTES:
            raise ValueError("too long")
    request: dict[str, Any] = json.loads(line)
    return request


def listen(path: Path) -> socket.socket:
    """A socket that only this user, and the group of its folder, may connect to. Raises `OSError`."""
    if path.exists():
        if not path.is_socket():
            raise OSError(errno.EEXIST, "it is there already, and no socket")
        with socket.socket(socket.AF_UNIX) as other, suppress(ConnectionRefusedError):  # one that was killed
            other.connect(str(path))
            raise OSError(errno.EADDRINUSE, "another launcher listens there")
    draft = path.with_name(f".{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(draft))
    draft.chmod(0o660)
    listener.listen(socket.SOMAXCONN)
    draft.replace(path)  # whoever finds it can connect at once
    return listener


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.launcher", description="Starts guests for judges.")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen")
    parser.add_argument(
        "--sandbox",
        choices=["auto", *NAMES],
        default=os.environ.get("NOISEMARK_SANDBOX", "auto"),
        help="what guests run in (NOISEMARK_SANDBOX, else auto)",
    )
    parser.add_argument("--warm", type=int, default=1, help="guests that wait ready (%(default)s)")
    options = parser.parse_args()
    configure_logs()
    try:
        launcher = Launcher(choose_backend(options.sandbox), max(1, options.warm))
    except SandboxUnavailable as error:
        print(error, file=sys.stderr)
        return 3
    try:
        listener = listen(options.socket)
    except OSError as error:
        print(f"Nothing can listen at {options.socket}: {error.strerror}.", file=sys.stderr)
        return 2

    def stop(*_: object) -> None:
        listener.close()
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        launcher.serve(listener)
    finally:
        launcher.stop()
        options.socket.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
