"""The cheap and safe part of looking at an upload: names, sizes, kinds, and what a zip archive holds.

Nothing is parsed here: source and notebooks are the judge's to read, in a process of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from api.problems import TooLarge
from grading import hand_in
from grading.archive import is_archive, unpack_code
from grading.file_names import SOURCE_SUFFIXES, check_name, suffix_of
from grading.outcomes import BadInput

SUFFIXES = (*SOURCE_SUFFIXES, ".zip")


@dataclass(frozen=True, kw_only=True)
class Upload:
    name: str
    content: bytes


def check_upload(file_name: str, content: bytes) -> Upload:
    """Raises `BadInput` where this cannot be a hand-in. Some browsers send folders along; they are dropped."""
    name = PurePosixPath(file_name.replace("\\", "/")).name
    check_name(name)
    if suffix_of(name) not in SUFFIXES:
        raise BadInput(f"`{name}` is neither {' nor '.join(SUFFIXES)}. Hand in one of these.")
    if not content.strip() and name != "__init__.py":
        raise BadInput(f"`{name}` is empty. Save it before you hand it in.")
    if is_archive(name, content):
        unpack_code(name, content)
    return Upload(name=name, content=content)


def combine(uploads: Sequence[Upload], max_bytes: int) -> Upload:
    """One file as it is; several as one zip archive, the same bytes for the same files.

    Raises `BadInput`, and `TooLarge` where that has more than `max_bytes`.
    """
    name, content = hand_in.combine([(upload.name, upload.content) for upload in uploads])
    if len(content) > max_bytes:
        what = f"`{name}` has" if len(uploads) == 1 else "Together the files have"
        raise TooLarge(f"{what} more than {max_bytes} bytes. Leave data and weights out.")
    return Upload(name=name, content=content)
