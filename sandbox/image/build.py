"""Builds the image that Docker guests start from: `scripts/build-image`.

The base is an image that the engine has or can pull, or `debootstrap`, which makes one from Debian's packages where no
image registry can be reached. The packages are installed here, by this environment's pip, for its Python, in the
versions that the judge itself has: a value computed by guest and judge must not differ because their libraries do.
"""

import argparse
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from sandbox import packages

HERE = Path(__file__).parent
TAG = "noisemark-guest"
# Guests run the same Python as the judge, which reads what they are given: that of this environment
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = f"python:{PYTHON}-slim-bookworm"
SUITE = {"3.11": "bookworm", "3.13": "trixie"}.get(PYTHON, "")  # Debian's release with this Python
DEBIAN_PACKAGES = ("python3-minimal", f"libpython{PYTHON}-stdlib", "libgomp1", "libstdc++6")  # the last two for torch
# Of the distributions that the CPU build of torch does without
CUDA_ONLY = ("nvidia", "cuda", "triton")


class BuildFailed(Exception):  # noqa: N818  (what happened)
    """The image could not be built. The message says why, and the way out."""


def run(command: list[str], failure: str) -> None:
    """Run a program and show what it says. Raises `BuildFailed`."""
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise BuildFailed(f"{command[0]} is not installed. {failure}") from None
    except subprocess.CalledProcessError as error:
        raise BuildFailed(f"{command[0]} ended with exit code {error.returncode}. {failure}") from None


def docker_build(context: Path, tag: str, arguments: dict[str, str], *options: str) -> None:
    """Build an image from a folder. Raises `BuildFailed`."""
    command = ["docker", "build", "--tag", tag, *options]
    for key, value in arguments.items():
        command += ["--build-arg", f"{key}={value}"]
    run([*command, str(context)], "What it said stands above.")


def tell(build: Callable[[], str]) -> int:
    """Run a build that returns what to say of it; say that, or why there is nothing. Returns an exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as for Ctrl-C
    try:
        print(build())
    except BuildFailed as error:
        print(error, file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("Interrupted: nothing was built.", file=sys.stderr)
        return 130
    return 0


def make_base(folder: Path, name: str = "noisemark-base", more: tuple[str, ...] = ()) -> str:
    """A base image from Debian's packages, with `more` of them. Needs root and debootstrap. Returns its tag."""
    if not SUITE:
        raise BuildFailed(f"No release of Debian comes with Python {PYTHON}; 3.11 and 3.13 are in one.")
    root, tag = folder / "base", f"{name}:{SUITE}"
    include = ",".join((*DEBIAN_PACKAGES, *more))
    run(
        ["debootstrap", "--variant=minbase", f"--include={include}", SUITE, str(root)],
        "It needs root, and Debian's packages within reach.",
    )
    archive = folder / "base.tar"
    run(["tar", "--directory", str(root), "--create", "--file", str(archive), "."], "")
    run(["docker", "import", str(archive), tag], "Is the engine running, and may you use it?")
    shutil.rmtree(root)
    archive.unlink()
    return tag


def requirements(variant: str) -> list[str]:
    """What to install, pinned to what this environment has."""
    found = []
    for distribution in packages.distributions():
        name, pinned = distribution.name, distribution.version
        if name == "torch":
            pinned = pinned.partition("+")[0] + ("+cpu" if variant == "cpu" else "")
        if variant == "cuda" or not name.lower().startswith(CUDA_ONLY):
            found.append(f"{name}=={pinned}")
    return found


def build(variant: str, base: str, tag: str) -> str:
    """Build the image and return its ID, a digest that never means another image. Raises `BuildFailed`."""
    if platform.system() != "Linux":
        raise BuildFailed("Packages for the image are installed by this Python, which has to be one for Linux.")
    with tempfile.TemporaryDirectory(prefix="noisemark-image-") as name:
        context = Path(name)
        if base == "debootstrap":
            base = make_base(context)
        wanted = requirements(variant)
        # With its dependencies only for CUDA: the judge may have a torch that knows nothing of them
        dependencies = [] if variant == "cuda" else ["--no-deps"]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
        run(
            [*pip, "--target", str(context / "packages"), *dependencies, *wanted],
            "PyTorch keeps its CPU builds apart from the Python package index: name their place by PIP_FIND_LINKS or "
            "PIP_EXTRA_INDEX_URL, or build --variant cuda."
            if variant == "cpu"
            else "",
        )
        shutil.rmtree(context / "packages" / "bin", ignore_errors=True)
        shutil.copytree(packages.GUEST, context / "guest", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE / "strip.py", context)
        identity = context / "id"
        arguments = {"BASE": base, "PYTHON": PYTHON, "VARIANT": variant, "VERSIONS": f"torch-{version('torch')}"}
        options = ["--network", "none", "--iidfile", str(identity), "--file", str(HERE / "Dockerfile")]
        docker_build(context, tag, arguments, *options)
        return identity.read_text().strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/build-image", description="Builds the image for Docker guests.")
    parser.add_argument("--variant", choices=["cpu", "cuda"], default="cpu", help="which build of torch (%(default)s)")
    parser.add_argument(
        "--base",
        default=BASE,
        help="the image to start from (%(default)s), or debootstrap where no registry can be reached",
    )
    parser.add_argument("--tag", default=TAG, help="its name (%(default)s)")
    options = parser.parse_args()

    def build_image() -> str:
        identity = build(options.variant, options.base, options.tag)
        return f"Built {options.tag}. To pin it: NOISEMARK_IMAGE={identity}"

    return tell(build_image)


if __name__ == "__main__":
    sys.exit(main())
