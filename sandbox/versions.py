"""Comparing versions of programs as far as they are numbers: distributions append words of their own."""

import re


def is_older(found: str, needed: str) -> bool:
    """Whether the first three numbers in `found` are below those in `needed`."""
    return _numbers(found) < _numbers(needed)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
