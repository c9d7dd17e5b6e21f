"""What judge and worker say to each other: JSON, and bytes beside it.

No pickles: a judge meets the bytes of students, and whoever took it over must not get the worker with them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

Kind = Literal["event", "done", "rejected", "fault", "ready"]
MAX_FRAME = 64 * 2**20  # bytes; a report page with all its images has 1 to 2 MB


@dataclass(frozen=True, kw_only=True)
class Message:
    kind: Kind
    data: dict[str, Any]
    blobs: tuple[bytes, ...] = ()


def send(connection: Connection, kind: Kind, data: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    connection.send_bytes(json.dumps({"kind": kind, "data": data, "blobs": len(blobs)}).encode())
    for blob in blobs:
        connection.send_bytes(blob)


def receive(connection: Connection) -> Message:
    """Raises `EOFError` or `OSError` where the other side is gone, `ValueError` where it talks nonsense."""
    header = json.loads(connection.recv_bytes(MAX_FRAME))
    blobs = tuple(connection.recv_bytes(MAX_FRAME) for _ in range(header["blobs"]))
    return Message(kind=header["kind"], data=header["data"], blobs=blobs)
