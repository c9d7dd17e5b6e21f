"""Builds the images of the service: `scripts/build-service`.

The packages are installed here, by this environment's pip, in the versions that it has: what is deployed is what was
tested. With `--base debootstrap`, everything is made from Debian's packages: the base, and one more image with Redis,
PostgreSQL and Caddy in place of those that a registry would give.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from sandbox import packages
from sandbox.image.build import BASE, docker_build, make_base, run, tell

HERE = Path(__file__).parent
ROOT = HERE.parent
SERVICE, PARTS = "noisemark-service", "noisemark-parts"
# What the service needs of Debian, beside what guests need
PACKAGES = ("bubblewrap", "passwd")
PART_PACKAGES = ("redis-server", "postgresql", "caddy")
PROJECT = "noisemark"
# Debian's Python may be an older 3.11 than this one, and redis-py needs this before 3.11.3
FOR_OLDER_PYTHON = ("async-timeout",)
ROOMS = ("api", "cli", "grading", "records", "reference", "sandbox", "worker")


def requirements() -> list[str]:
    """What the service needs, pinned to what this environment has."""
    return sorted(f"{found.name}=={found.version}" for found in packages.closure((PROJECT,)) if found.name != PROJECT)


def build(base: str) -> list[str]:
    """Build the images and return their tags. Raises `BuildFailed`."""
    built = [SERVICE]
    with tempfile.TemporaryDirectory(prefix="noisemark-service-") as name:
        context = Path(name)
        if base == "debootstrap":
            base = make_base(context, "noisemark-service-base", PACKAGES)
            parts = make_base(context, "noisemark-parts-base", PART_PACKAGES)
            docker_build(HERE / "parts", PARTS, {"BASE": parts})
            built.append(PARTS)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        target = context / "packages"
        run([*pip, "--no-deps", "--target", str(target), *requirements(), *FOR_OLDER_PYTHON], "")
        project = context / "project"  # pip would leave a folder of its own in the checkout
        project.mkdir()
        for name in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, project)
        run([*pip, "--no-deps", "--target", str(target), str(project)], "")  # for its version
        for room in ROOMS:
            shutil.copytree(ROOT / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE / "Dockerfile", context)
        docker_build(context, SERVICE, {"BASE": base})
    return built


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/build-service", description="Builds the images of the service.")
    parser.add_argument(
        "--base",
        default=BASE,
        help="the image to start from (%(default)s), or debootstrap where no registry can be reached",
    )
    options = parser.parse_args()

    def build_images() -> str:
        return f"Built {', '.join(build(options.base))}. docs/operators.md says how to bring them up."

    return tell(build_images)


if __name__ == "__main__":
    sys.exit(main())
