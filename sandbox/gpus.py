"""Leases of GPUs: whoever trains on one has a slot of it to himself, among all judges of this machine.

A lease is a lock on a file, which the kernel releases when the judge ends, however it ends.
"""

import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.faults import SandboxError

WAIT_SECONDS = 600.0  # for a slot; past that the grading is given back and tried again later
POLL_SECONDS = 0.5  # between two looks; a training lasts minutes
ASK_SECONDS = 30.0  # for nvidia-smi, which takes a second where the driver is not kept loaded


def devices() -> list[str]:
    """UUIDs of this machine's GPUs; none where there is no driver."""
    try:
        command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=ASK_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return said.split()


@contextmanager
def lease(uuids: list[str], *, slots: int = 1, folder: Path | None = None, wait: float = WAIT_SECONDS) -> Iterator[str]:
    """The UUID of a GPU of which a slot is held for as long as the block lasts.

    Args:
        uuids: to choose from.
        slots: how many leases of one GPU there may be at a time.
        folder: where the locks lie, the same for all judges.
        wait: seconds for a slot to become free.

    Raises `SandboxError` where there is no GPU, or none becomes free.
    """
    if not uuids:
        raise SandboxError("there is no GPU that nvidia-smi knows of")
    place = folder or Path(tempfile.gettempdir(), f"noisemark-gpus-{os.getuid()}")
    place.mkdir(mode=0o700, exist_ok=True)
    until = time.monotonic() + wait
    while True:
        for slot in range(slots):  # every GPU's first slot before any one's second
            for uuid in uuids:
                descriptor = os.open(place / f"{uuid}.{slot}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    continue
                try:
                    yield uuid
                finally:
                    os.close(descriptor)
                return
        if time.monotonic() > until:
            raise SandboxError(f"no GPU became free within {wait:.0f} s")
        time.sleep(POLL_SECONDS)
