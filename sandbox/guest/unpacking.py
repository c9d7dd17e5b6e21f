"""How many values an assignment wants of what it unpacks: `fig, axes = plt.subplots()` wants two."""

import dis
from types import FrameType

_SEQUENCE = dis.opmap["UNPACK_SEQUENCE"]
_STARRED = dis.opmap["UNPACK_EX"]
_EXTENDED = dis.opmap["EXTENDED_ARG"]


def values_wanted(frame: FrameType) -> int | None:
    """The number of targets that the instruction at which `frame` stands unpacks into; None where it does not unpack.

    A starred target gets nothing.
    """
    code, at = frame.f_code.co_code, frame.f_lasti
    if at < 0 or code[at] not in (_SEQUENCE, _STARRED):
        return None
    low, high = code[at + 1], 0
    if at >= 2 and code[at - 2] == _EXTENDED:
        high = code[at - 1]
    # Of a starred assignment: targets before the star, and behind it
    return low + high if code[at] == _STARRED else low + 256 * high
