"""The backend that has another process start its sandboxes: the launcher (`sandbox.launcher`)."""

import json
import os
import socket
from pathlib import Path
from typing import Any

from sandbox.backend import Backend
from sandbox.faults import SandboxError, SandboxUnavailable
from sandbox.launch import Sandbox
from sandbox.limits import Limits
from sandbox.memory import MemoryAccount

GREETING_SECONDS = 10.0  # the launcher greets at once
START_SECONDS = 180.0  # for a guest where none is warm: longer than the slowest backend takes to give up
LINE_BYTES = 65536  # of the launcher's answers
WHY = b"?"  # asks the launcher what a guest died of


class Launched(Backend):
    """Sandboxes of a launcher, whatever they are made of."""

    def __init__(self, path: Path, trace: str = "") -> None:
        """`path` is the launcher's socket, `trace` what its log calls our guests.

        Raises `SandboxUnavailable` where nobody listens.
        """
        self._path = path
        self._trace = trace
        with self._connect() as connection:
            greeting, _ = _receive(connection, GREETING_SECONDS)
        self.name = greeting["backend"]
        self.isolation = greeting["isolation"]
        self.image = greeting["image"]
        self.sandboxed = greeting["sandboxed"]
        self.pool: dict[str, int] = greeting["pool"]  # guests that were warm just now, and that are to be

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise SandboxUnavailable(f"no launcher listens at {self._path}: {error.strerror}") from error
        return connection

    def launch(self, limits: Limits) -> Sandbox:
        """Take a sandbox, a warm one where there is one. Its limits are the launcher's, but for the GPU."""
        connection = self._connect()
        try:
            _receive(connection, GREETING_SECONDS)
            connection.sendall(json.dumps({"start": {"gpu": limits.gpu, "trace": self._trace}}).encode() + b"\n")
            answer, descriptors = _receive(connection, START_SECONDS)
            if "error" in answer:
                raise SandboxError(answer["error"])
            control, log = descriptors
        except BaseException:
            connection.close()
            raise

        def end(_: bool) -> None:
            connection.close()  # at which the launcher ends it

        def died_of_memory() -> bool:
            try:
                connection.sendall(WHY)
                return bool(_receive(connection, START_SECONDS)[0]["died_of_memory"])
            except (OSError, SandboxError):  # the launcher has ended, and every guest of it
                return False

        return Sandbox(
            control=socket.socket(fileno=control),
            log=os.fdopen(log, "rb"),
            memory=MemoryAccount(**answer["memory"]),
            end=end,
            died_of_memory=died_of_memory,
        )


def _receive(connection: socket.socket, seconds: float) -> tuple[dict[str, Any], list[int]]:
    """The launcher's next line, and the descriptors that came with it. Raises `SandboxError`."""
    connection.settimeout(seconds)
    line, descriptors = b"", []
    try:
        while not line.endswith(b"\n"):
            part, found, _, _ = socket.recv_fds(connection, LINE_BYTES, 2)
            descriptors += found
            if not part:
                raise SandboxError("the launcher has ended")
            line += part
    except OSError as error:
        raise SandboxError(f"the launcher does not answer: {error}") from error
    answer: dict[str, Any] = json.loads(line)
    return answer, descriptors
