"""Text from outside, made safe to show."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.text import neutralise


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcödé, 数字\twith tab\nand line", "plain text, ünïcödé, 数字\twith tab\nand line"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r20%\r\n30%", "10%\n20%\n30%"),
        ("evil\u202egnp.py", r"evil\u202egnp.py"),
        ("zero\x00byte, bell\x07", r"zero\x00byte, bell\x07"),
        ("half \ud800", r"half \ud800"),
        ("half a sequence \x1b", r"half a sequence \x1b"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_neutralise(text: str, shown: str) -> None:
    assert neutralise(text) == shown


@pytest.mark.threat(48)
@given(st.text(st.characters()))
def test_nothing_that_acts_is_left(text: str) -> None:
    safe = neutralise(text)
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", safe) is None
    assert neutralise(safe) == safe


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert neutralise(text) == text


@pytest.mark.threat(48)
@pytest.mark.parametrize(
    "text", ["\x9d", "\x9b", "\x1b]", "\x1b[", "\x1b[0", "\x1b ", "\x9d0;", "\x9b0 ", "\r", "\x01"]
)
def test_takes_time_in_proportion_to_the_text(text: str) -> None:
    # 1 MiB, as much as a session may print. What is quadratic takes half an hour and runs into the time limit.
    neutralise(text * (2**20 // len(text)))
