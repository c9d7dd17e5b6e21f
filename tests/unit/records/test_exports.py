import pytest

from records.exports import _first_and_last


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("Zoë Müller", "Zoë", "Müller"),
        ("Müller, Zoë", "Zoë", "Müller"),
        ("King Lovelace, Ada", "Ada", "King Lovelace"),
        ("Plato", "", "Plato"),
        ("", "", ""),
    ],
)
def test_nbgrader_gets_first_and_last_names(name, first, last):
    assert _first_and_last(name) == (first, last)
