"""Starting judges, listening to them, ending them: the worker's side of `worker.judge`."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from worker.channel import Message, receive
from worker.judge import Entry, Job, run

PRELOAD = ("worker.preload",)
EXIT_SECONDS = 10  # until a killed process is gone; the kernel takes milliseconds


class JudgeDied(Exception):  # noqa: N818  (what happened)
    """The judge ended without a result, or talked nonsense."""


class Judge:
    """One running judge."""

    def __init__(self, process: ForkServerProcess, connection: Connection) -> None:
        self._process = process
        self._connection = connection

    def receive(self, seconds: float) -> Message | None:
        """The next message, or None where none comes within `seconds`. Raises `JudgeDied`."""
        try:
            return receive(self._connection) if self._connection.poll(seconds) else None
        except (EOFError, OSError):
            self._process.join(EXIT_SECONDS)
            raise JudgeDied(f"the judge ended with exit code {self._process.exitcode}") from None
        except (ValueError, KeyError) as error:
            raise JudgeDied(f"the judge said something that is no message: {error}") from error

    def kill(self) -> None:
        """End the judge and everything in its process group, and wait until it is gone."""
        self._connection.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._process.pid is not None and os.getpgid(self._process.pid) == self._process.pid:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join(EXIT_SECONDS)
        self._process.close()


class Judges:
    """Starts judges from a warm fork server, which inherits this process's environment: empty that first."""

    def __init__(self, entry: Entry = run, preload: tuple[str, ...] = PRELOAD) -> None:
        self._entry = entry
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))

    @contextmanager
    def start(self, job: Job, entry: Entry | None = None) -> Iterator[Judge]:
        """A judge at work on `job`; it is dead when the block ends, however it ends."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=entry or self._entry, args=(theirs, job), name="judge")
        process.start()
        theirs.close()  # or the end of the judge would not be the end of the pipe
        judge = Judge(process, ours)
        try:
            yield judge
        finally:
            judge.kill()
