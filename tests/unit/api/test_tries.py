from api.tries import MOST, WINDOW_SECONDS, WrongTries


def test_many_wrong_ones_in_a_minute_have_to_wait_and_others_do_not() -> None:
    now = 0.0
    tries = WrongTries(clock=lambda: now)
    for second in range(MOST):
        now = float(second)
        assert tries.note("here") == 0
    assert tries.note("here") == WINDOW_SECONDS - now
    assert tries.note("elsewhere") == 0


def test_what_is_refused_does_not_make_it_longer() -> None:
    now = 0.0
    tries = WrongTries(clock=lambda: now)
    for _ in range(3 * MOST):
        tries.note("here")
        now += 0.1
    now = WINDOW_SECONDS + MOST * 0.1
    assert tries.note("here") == 0
