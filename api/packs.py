"""Packs that administrators upload, as zip archives."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from grading.archive import unpack
from grading.file_names import is_hidden
from reference.pack import Pack, PackError

SUFFIXES = (".py", ".ipynb", ".toml", ".md", ".txt")


@contextmanager
def read_pack(name: str, content: bytes) -> Iterator[Pack]:
    """The pack in an archive, for as long as the block lasts. One folder around all of it is taken off.

    Raises `BadInput` where the archive is none, `PackError` where what it holds is no pack.
    """
    unpacked = unpack(name, content, SUFFIXES)
    for other in unpacked.left_out:
        if PurePosixPath(other).suffix and not is_hidden(other):  # a LICENSE may stay
            raise PackError(f"The archive holds `{other}`; a pack is made of {', '.join(SUFFIXES)} files.")
    files = {PurePosixPath(path): data for path, data in unpacked.files}
    root = next((path.parent for path in files if path.name == "pack.toml" and len(path.parts) <= 2), None)
    if root is None:
        raise PackError("The archive holds no pack.toml, neither by itself nor in its one folder.")
    with tempfile.TemporaryDirectory(prefix="noisemark-") as folder:
        for path, data in files.items():
            if not path.is_relative_to(root):
                raise PackError(f"`{path}` lies outside of the folder {root} with the pack.toml.")
            target = Path(folder) / "pack" / path.relative_to(root)  # `unpack` lets no name leave the archive
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        try:
            pack = Pack(Path(folder) / "pack")
        except PackError as error:
            raise PackError(str(error).replace(f"{folder}/", "")) from None  # where it lies is nobody's business
        for needed in (pack.solution, pack.starter(".py"), pack.harness):
            if not needed.is_file():
                raise PackError(f"The pack has no `{needed.name}`.")
        yield pack
