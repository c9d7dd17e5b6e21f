"""The cheap and safe part of looking at an upload: names, sizes, kinds, and what a zip archive holds.

Nothing is parsed here: source and notebooks are the judge's to read, in a process of its own.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from api.problems import TooLarge
from grading.archive import SOURCE_SUFFIXES, check_name, unpack
from grading.outcomes import BadInput

SUFFIXES = (*SOURCE_SUFFIXES, ".zip")
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first time that a zip archive can express


@dataclass(frozen=True, kw_only=True)
class Upload:
    name: str
    content: bytes


def check_upload(file_name: str, content: bytes) -> Upload:
    """Raises `BadInput` where this cannot be a hand-in. Some browsers send folders along; they are dropped."""
    name = PurePosixPath(file_name.replace("\\", "/")).name
    check_name(name)
    suffix = PurePosixPath(name.lower()).suffix
    if suffix not in SUFFIXES:
        raise BadInput(f"`{name}` is neither {' nor '.join(SUFFIXES)}. Hand in one of these.")
    if not content.strip():
        raise BadInput(f"`{name}` is empty. Save it before you hand it in.")
    if suffix == ".zip":
        unpack(name, content)
    return Upload(name=name, content=content)


def combine(uploads: Sequence[Upload], max_bytes: int) -> Upload:
    """One file as it is; several modules as one zip archive, the same bytes for the same files.

    Raises `BadInput`, and `TooLarge` where that has more than `max_bytes`.
    """
    if len(uploads) == 1:
        if len(uploads[0].content) > max_bytes:
            raise TooLarge(f"`{uploads[0].name}` has more than {max_bytes} bytes. Leave data and weights out.")
        return uploads[0]
    names = [upload.name.casefold() for upload in uploads]
    for upload in uploads:
        if not upload.name.lower().endswith(".py"):
            raise BadInput(f"`{upload.name}`: of several files each has to be a .py. Hand in one notebook, or a zip.")
        if names.count(upload.name.casefold()) > 1:
            raise BadInput(f"Two files are called `{upload.name}`. Give each its own name.")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for upload in sorted(uploads, key=lambda upload: upload.name):
            file.writestr(zipfile.ZipInfo(upload.name, _EARLIEST), upload.content)
    if archive.tell() > max_bytes:
        raise TooLarge(f"Together the files have more than {max_bytes} bytes. Leave data and weights out.")
    return Upload(name="hand-in.zip", content=archive.getvalue())
