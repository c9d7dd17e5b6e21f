"""Every row of the threat list has a test, or a reason why not."""

from security import threats
from security.attack import Attack
from security.channels import Channel
from security.corpus import ATTACKS, CHANNELS, CHEATS
from security.tampering import Cheat

ENTRIES: tuple[Attack | Cheat | Channel, ...] = (*ATTACKS, *CHEATS, *CHANNELS)


def test_every_row_has_a_test_or_a_reason() -> None:
    shown = {entry.row for entry in ENTRIES}.union(*threats.rows_by_file().values())
    assert shown.isdisjoint(threats.NOT_YET), "these have tests now"
    assert shown | threats.NOT_YET.keys() == set(threats.ROWS)


def test_every_attack_is_told_apart_by_its_name() -> None:
    names = [str(entry) for entry in ENTRIES]
    assert len(names) == len(set(names))
