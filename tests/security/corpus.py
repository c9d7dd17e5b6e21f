"""All attacks of the corpus."""

from security.attack import Attack
from security.channels import CHANNELS
from security.escaping import ESCAPING
from security.exhausting import EXHAUSTING
from security.reading import READING
from security.tampering import CHEATS

ATTACKS: list[Attack] = [*READING, *ESCAPING, *EXHAUSTING]

__all__ = ["ATTACKS", "CHANNELS", "CHEATS"]
