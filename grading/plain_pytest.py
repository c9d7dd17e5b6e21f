"""Pytest as a library: a folder of tests run under one plugin of ours, whatever else this machine has for pytest."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# No configuration, no plugins but ours, nothing written or printed, no modules rewritten: a start in milliseconds.
_UNUSED = (
    *("cacheprovider", "debugging", "doctest", "faulthandler", "junitxml", "logging", "pastebin", "setuponly"),
    *("setupplan", "stepwise", "subtests", "terminal", "threadexception", "tmpdir", "unraisableexception", "warnings"),
)
_OPTIONS = (
    f"--config-file={os.devnull}",
    "--import-mode=importlib",
    "--assert=plain",
    "--capture=no",
    "--disable-plugin-autoload",
    *(option for plugin in _UNUSED for option in ("-p", f"no:{plugin}")),
)


def run_pytest(folder: Path, root: Path, plugin: object) -> int | pytest.ExitCode:
    """Collect and run the tests of a folder; how pytest ends."""
    with _environment(), _forgetting_modules(folder):
        return pytest.main([*_OPTIONS, f"--rootdir={root}", str(folder)], plugins=[plugin])


@contextmanager
def _forgetting_modules(folder: Path) -> Iterator[None]:
    """Forget what pytest imports: another pack, or this one changed, may have checks of the same names."""
    before = set(sys.modules)
    try:
        yield
    finally:
        added = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if name not in before}
        checks = {name for name, file in added.items() if file is not None and Path(file).is_relative_to(folder)}
        parents = {name for name in added if any(check.startswith(f"{name}.") for check in checks)}
        for name in checks | parents:
            del sys.modules[name]


@contextmanager
def _environment() -> Iterator[None]:
    """Keep pytest from options in the environment, and the environment from pytest's marks."""
    names = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
