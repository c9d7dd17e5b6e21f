"""What a guest is given of this installation, and what is said about backends."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import backends, bubblewrap, container, packages
from sandbox.backends import choose_backend
from sandbox.doctor import probe
from sandbox.faults import SandboxUnavailable
from sandbox.image import build


def test_a_guest_gets_what_torch_needs_and_no_more() -> None:
    places = packages.importable()
    assert {"torch", "einops", "numpy", "sympy", "guest", "typing_extensions.py"} <= places.keys()
    for name in ("sklearn", "scipy", "pytest", "pip", "torchvision", "sandbox", "hypothesis"):
        assert not [place for place in places if place.partition("/")[0] == name]
    assert not [place for place in places if place.endswith(".pth") or ".." in place]
    assert all(path.exists() for path in places.values())


def test_the_doctor_has_a_remedy_for_what_is_missing() -> None:
    *sandboxes, plain = probe()
    assert [status.name for status in sandboxes] == ["docker-gvisor", "docker-runc", "bubblewrap"]
    assert (plain.name, plain.available) == ("none", True)
    for status in sandboxes:
        assert (status.missing is None) == status.available == bool(status.isolation)
        assert status.available or status.remedy


def test_a_machine_without_bubblewrap_is_told_so_and_never_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(backends, "has_engine", lambda: False)
    for cached in (bubblewrap.version, bubblewrap.missing):
        cached.cache_clear()
    try:
        for name in (None, "auto", "bubblewrap"):
            with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
                choose_backend(name)
        [confined] = [status for status in probe() if status.name == "bubblewrap"]
        assert confined.missing == "bubblewrap is not installed"
        assert choose_backend("none").sandboxed is False
    finally:
        for cached in (bubblewrap.version, bubblewrap.missing):
            cached.cache_clear()


def test_an_unknown_backend_is_refused_by_name() -> None:
    with pytest.raises(SandboxUnavailable, match="'docker'"):
        choose_backend("docker")


def test_the_words_for_faults_need_no_torch() -> None:
    code = "import sys, sandbox.faults, sandbox.limits, sandbox.program; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_image_with_another_python_than_the_judges_is_not_used() -> None:
    container.check_python("noisemark-guest", {container.PYTHON_LABEL: build.PYTHON})
    with pytest.raises(SandboxUnavailable, match=r"runs Python 3\.9, and this judge Python 3\.1\d; scripts/"):
        container.check_python("noisemark-guest", {container.PYTHON_LABEL: "3.9"})


def test_images_are_built_for_the_python_that_builds_them() -> None:
    assert f"python{build.PYTHON}-stdlib" in " ".join(build.DEBIAN_PACKAGES)
    assert build.BASE.startswith(f"python:{build.PYTHON}-")
    dockerfile = (Path(build.__file__).parent / "Dockerfile").read_text()
    assert f"LABEL {container.PYTHON_LABEL}=${{PYTHON}}" in dockerfile
    assert not re.search(r"3\.1[12]", dockerfile)
