"""The judge's end of one session's wire: bytes in and out under a deadline, and what student code prints."""

import os
import select
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

WATCH_SECONDS = 0.1  # a process takes some 100 MiB in that time
PAUSE_SECONDS = 0.01  # between two lines that are written one right after the other
CHUNK = 2**16  # bytes read from the output at once: what a pipe holds


class Closed(Exception):  # noqa: N818
    """The guest's end is closed."""


class DeadlinePassed(Exception):  # noqa: N818
    """The guest has not answered in time."""


class OutputFlood(Exception):  # noqa: N818
    """The guest has printed more than is allowed."""


class Channel:
    """Moves bytes, and meanwhile keeps the output pipe from filling up.

    `until` is the moment of `time.monotonic` after which every method raises `DeadlinePassed`. `watch`, where there is
    one, is called now and then while waiting, and may raise.
    """

    def __init__(self, data: socket.socket, output: int, output_bytes: int, watch: Callable[[], None] | None) -> None:
        self.until = 0.0
        self.output = bytearray()
        self._data = data
        self._output = output
        self._output_bytes = output_bytes
        self._watch = watch
        data.setblocking(False)
        os.set_blocking(output, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(data, selectors.EVENT_READ)
        self._selector.register(output, selectors.EVENT_READ)

    def close(self) -> None:
        """Close the judge's ends."""
        self._selector.close()
        self._data.close()
        os.close(self._output)

    def _wait(self, event: int) -> None:
        """Until the data socket is ready for `event`."""
        self._selector.modify(self._data, event)
        while True:
            left = self.until - time.monotonic()
            if left <= 0:
                raise DeadlinePassed
            ready = self._selector.select(min(left, WATCH_SECONDS) if self._watch else left)
            if not ready and self._watch:
                self._watch()
            data_ready = False
            for key, _ in ready:
                if key.fileobj is self._data:
                    data_ready = True
                else:
                    self._read_output()
            if data_ready:
                return

    def _read_output(self) -> bool:
        """Read once what is there; False when there is nothing."""
        try:
            part = os.read(self._output, CHUNK)
        except BlockingIOError:
            return False
        if not part:
            if self._output in self._selector.get_map():
                self._selector.unregister(self._output)
            return False
        self.output += part
        if len(self.output) > self._output_bytes:
            del self.output[self._output_bytes :]
            raise OutputFlood
        return True

    def drain(self) -> None:
        """Take in whatever has been printed so far."""
        while self._read_output():
            pass

    def listen(self, seconds: float) -> None:
        """Take in what is printed within so many seconds, up to a pause."""
        with suppress(OutputFlood):
            while select.select([self._output], [], [], seconds)[0] and self._read_output():
                seconds = PAUSE_SECONDS

    def send(self, buffers: Sequence[bytes | memoryview]) -> None:
        """Send everything. Raises `Closed`, `DeadlinePassed`, `OutputFlood`."""
        for buffer in buffers:
            view = memoryview(buffer)
            while view:
                try:
                    view = view[self._data.send(view) :]
                except BlockingIOError:
                    self._wait(selectors.EVENT_WRITE)
                except (BrokenPipeError, ConnectionError):
                    raise Closed from None

    def receive(self, size: int) -> bytearray:
        """Exactly `size` bytes, which the caller has found to be allowed. Raises as `send`."""
        buffer = bytearray(size)
        view = memoryview(buffer)
        while view:
            self._wait(selectors.EVENT_READ)
            try:
                count = self._data.recv_into(view)
            except BlockingIOError:
                continue
            except ConnectionError:
                raise Closed from None
            if not count:
                raise Closed
            view = view[count:]
        return buffer
