import pytest
from hypothesis import given
from hypothesis import strategies as st

from grading.seeds import Seeds


@given(st.binary(min_size=1), st.text(), st.text())
def test_same_key_submission_and_purpose_give_the_same_seed_in_range(key: bytes, submission: str, purpose: str) -> None:
    seed = Seeds(key, submission).seed(purpose)
    assert seed == Seeds(key, submission).seed(purpose)
    assert 0 <= seed < 2**63


@pytest.mark.threat(11, 19)
def test_key_submission_and_purpose_each_change_the_seed() -> None:
    seeds = {
        Seeds(b"key", "submission").seed("purpose"),
        Seeds(b"other", "submission").seed("purpose"),
        Seeds(b"key", "other").seed("purpose"),
        Seeds(b"key", "submission").seed("other"),
    }
    assert len(seeds) == 4


def test_fingerprint_tells_keys_apart_and_is_not_a_seed() -> None:
    seeds = Seeds(b"key", "submission")
    assert seeds.fingerprint != Seeds(b"other", "submission").fingerprint
    assert str(seeds.seed("fingerprint")) not in seeds.fingerprint
