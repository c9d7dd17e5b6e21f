"""Run in the image at the end of its build: removes every program but the interpreter, and a system's settings."""

import shutil
import sys
from pathlib import Path

INTERPRETER = Path(sys.executable)
KEPT = {INTERPRETER, INTERPRETER.resolve(), Path("/etc/ld.so.cache")}  # the cache: where its libraries lie
FOLDERS = ("/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin", "/etc", "/var", "/run", "/tmp")  # noqa: S108

for folder in filter(Path.is_dir, map(Path, FOLDERS)):
    for place in set(folder.iterdir()) - KEPT:
        try:
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink()
        except OSError as error:  # what the engine has mounted while it builds, such as /etc/hosts
            print(f"kept {place}: {error.strerror}")
