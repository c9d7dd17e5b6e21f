"""Text from outside (file names, messages, output) made safe to show on a page or in a terminal."""

import re

# Colours and cursor movements of a terminal: CSI and OSC sequences in their 7-bit and 8-bit forms, then the short ones.
# They say nothing that a reader needs, so they go without a trace. No part runs past the beginning of another sequence:
# the text may be half a megabyte of beginnings, and each must not be searched to the end.
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\x9d]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-Z\\^-~]"
)
# What changes how its neighbours are displayed, or cannot be encoded: controls but for tab and line feed, marks and
# overrides of direction, line separators, the byte order mark, lone surrogates, tags. Shown as `\u202e` and the like.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)

_LONGEST_WORD = 200  # characters: paths and addresses that somebody meant to give are shorter
_LONGEST_MESSAGE = 2000  # characters: the longest of our own, which lists all blanks, has a quarter of that


def neutralise(text: str) -> str:
    """`text` without terminal sequences, and with every character that could disguise the text written out.

    Line ends become line feeds, a carriage return on its own too, so that a progress bar reads line by line.
    """
    text = _ESCAPE_SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _UNSEEN.sub(_written_out, text)


def shorten(message: str) -> str:
    """A message that repeats what was given to us: the beginning of something very long is enough to know it by."""
    message = re.sub(rf"(\S{{{_LONGEST_WORD}}})\S+", r"\1…", message)
    return message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}…"


def _written_out(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
