"""Policies: dates, caps, penalties, which attempt counts. Days with a change of clocks among them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from records.policy import (
    AttemptsLeft,
    Grant,
    Level,
    Policy,
    attempts_left,
    check_starter,
    closes_at,
    may_submit,
    next_midnight,
    penalty,
    shown_when,
    shows_all,
    which_counts,
)
from reference.pack import HintPolicy

DUE = datetime(2026, 3, 28, 17, tzinfo=UTC)  # 18:00 in Berlin; clocks go forward in the night that follows
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Santiago",
    "Africa/Cairo",
]

moments = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(UTC))
zones = st.sampled_from(ZONES)


def policy(**fields):
    return Policy.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"release_at": DUE, "due_at": DUE}, ("release_at", "due_at")),
        ({"due_at": DUE, "late_until": DUE - HOUR}, ("late_until", "due_at")),
        ({"late_until": DUE}, ("late_until", "due_at")),
        ({"due_at": DUE, "late_penalty_per_day": 0.1}, ("late_penalty_per_day", "late_until")),
        ({"due_at": DUE, "late_penalties": [{"hours": 1, "share": 0.1}]}, ("late_penalties", "late_until")),
        (
            {
                "due_at": DUE,
                "late_until": DUE + DAY,
                "late_penalty_per_day": 0.1,
                "late_penalties": [{"hours": 1, "share": 0.1}],
            },
            ("late_penalties", "late_penalty_per_day"),
        ),
        (
            {
                "due_at": DUE,
                "late_until": DUE + DAY,
                "late_penalties": [{"hours": 2, "share": 0.1}, {"hours": 1, "share": 0.2}],
            },
            ("hours", "share"),
        ),
        ({"submission_limit_per_day": 3, "total_submission_limit": 2}, ("per_day", "total_submission_limit")),
        ({"visibility": "after_due_date"}, ("visibility", "due_at")),
        ({"exam": {"opens_at": DUE, "closes_at": DUE}}, ("exam.opens_at", "exam.closes_at")),
        ({"exam": {"opens_at": DUE, "closes_at": DUE + DAY}, "due_at": DUE}, ("due_at", "exam.opens_at")),
        ({"time_zone": "Berlin"}, ("time zone", "'Berlin'")),
        ({"time_zone": "../../etc/passwd"}, ("time zone", "passwd")),
        ({"due_at": "2026-03-28T17:00:00"}, ("due_at", "timezone")),
        ({"deadline": DUE}, ("deadline", "Extra")),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(fields, named):
    with pytest.raises(ValidationError) as refused:
        policy(**fields)
    assert all(name in str(refused.value) for name in named), refused.value


def test_without_a_policy_everything_goes():
    assert Policy.model_validate({}) == Policy()
    assert may_submit(Policy(), Grant(), DUE, [DUE] * 1000) is None
    assert attempts_left(Policy(), Grant(), DUE, [DUE]) == AttemptsLeft(today=None, total=None)
    assert penalty(Policy(), Grant(), DUE) == 0


@pytest.mark.parametrize(
    ("moment", "hours", "reason"),
    [
        (DUE - 3 * DAY, 0, "not_open"),
        (DUE - DAY, 0, None),
        (DUE + 10 * timedelta(minutes=1), 0, None),
        (DUE + timedelta(minutes=10, seconds=1), 0, "too_late"),
        (DUE + timedelta(minutes=10, seconds=1), 1, None),
        (DUE + timedelta(hours=1, minutes=10, seconds=1), 1, "too_late"),
    ],
)
def test_dates_grace_and_extension(moment, hours, reason):
    rules = policy(release_at=DUE - 2 * DAY, due_at=DUE, grace_minutes=10)
    refusal = may_submit(rules, Grant(hours=hours), moment, [])
    assert (refusal and refusal.reason) == reason
    if reason == "not_open":
        assert refusal.retry_at == rules.release_at


def test_an_exam_opens_and_closes_and_knows_no_grace():
    rules = policy(exam={"opens_at": DUE - HOUR, "closes_at": DUE}, grace_minutes=30, time_zone="Europe/Berlin")
    early = may_submit(rules, Grant(), DUE - 2 * HOUR, [])
    assert (early.reason, early.retry_at) == ("not_open", DUE - HOUR)
    assert "17:00 (Europe/Berlin)" in early.message
    assert may_submit(rules, Grant(), DUE, []) is None
    assert may_submit(rules, Grant(), DUE + timedelta(seconds=1), []).reason == "too_late"
    assert may_submit(rules, Grant(hours=0.5), DUE + timedelta(minutes=30), []) is None  # extra time for one student


def test_when_there_is_a_starter():
    rules = policy(release_at=DUE - DAY, due_at=DUE)
    assert check_starter(rules, Grant(), DUE - 2 * DAY).reason == "not_open"
    assert check_starter(rules, Grant(), DUE + DAY) is None  # for those who want to go on by themselves
    exam = policy(exam={"opens_at": DUE - HOUR, "closes_at": DUE})
    assert check_starter(exam, Grant(), DUE) is None
    assert check_starter(exam, Grant(), DUE + HOUR).reason == "too_late"


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (timedelta(0), 0),
        (timedelta(minutes=5), 0),  # grace
        (timedelta(minutes=6), 0.1),
        (timedelta(hours=23), 0.1),  # 18:00 of the next day: that night has an hour less
        (timedelta(hours=23, seconds=1), 0.2),
        (timedelta(hours=47), 0.2),
        (timedelta(days=30), 1),
    ],
)
def test_a_day_late_is_a_day_on_the_wall_clock(after, share):
    rules = policy(
        due_at=DUE, late_until=DUE + 60 * DAY, grace_minutes=5, late_penalty_per_day=0.1, time_zone="Europe/Berlin"
    )
    assert penalty(rules, Grant(), DUE + after) == pytest.approx(share)
    assert penalty(rules, Grant(hours=24 * 40), DUE + after) == 0


@pytest.mark.parametrize(("hours", "share"), [(0, 0), (0.5, 0), (1, 0), (1.1, 0.1), (24, 0.1), (24.1, 0.5), (900, 0.5)])
def test_steps_of_a_penalty(hours, share):
    steps = [{"hours": 1, "share": 0.1}, {"hours": 24, "share": 0.5}]
    rules = policy(due_at=DUE, late_until=DUE + 60 * DAY, late_penalties=steps)
    assert penalty(rules, Grant(), DUE + hours * HOUR) == share


@given(due=moments, zone=zones, first=st.integers(0, 10**6), more=st.integers(0, 10**6), hours=st.floats(0, 200))
def test_later_never_costs_less_and_an_extension_never_costs_more(due, zone, first, more, hours):
    rules = policy(due_at=due, late_until=due + 100 * DAY, late_penalty_per_day=0.07, time_zone=zone)
    sooner, later = due + timedelta(seconds=first), due + timedelta(seconds=first + more)
    assert 0 <= penalty(rules, Grant(), sooner) <= penalty(rules, Grant(), later) <= 1
    assert penalty(rules, Grant(hours=hours), later) <= penalty(rules, Grant(), later)
    assert closes_at(rules, Grant(hours=hours)) >= closes_at(rules, Grant())


@given(now=moments, zone=zones)
def test_the_next_day_begins_within_a_day_and_a_bit(now, zone):
    rules = policy(time_zone=zone)
    midnight = next_midnight(rules, now)
    assert timedelta(0) < midnight - now <= 25 * HOUR
    before, after = ((midnight + step).astimezone(rules.zone).date() for step in (-timedelta(seconds=1), timedelta(0)))
    assert after - before == DAY


@given(
    now=moments,
    zone=zones,
    limit=st.integers(1, 4),
    total=st.integers(4, 9),
    bonus=st.integers(0, 3),
    ages=st.lists(st.integers(0, 4 * 86_400), max_size=12),
)
def test_refusal_and_count_agree(now, zone, limit, total, bonus, ages):
    rules = policy(submission_limit_per_day=limit, total_submission_limit=total, time_zone=zone)
    attempts = [now - timedelta(seconds=age) for age in ages]
    left = attempts_left(rules, Grant(bonus_attempts=bonus), now, attempts)
    refusal = may_submit(rules, Grant(bonus_attempts=bonus), now, attempts)
    assert (refusal is None) == (left.today > 0)
    assert left.today <= left.total
    if left.today:  # each attempt takes one away
        after = attempts_left(rules, Grant(bonus_attempts=bonus), now, [*attempts, now])
        assert after == AttemptsLeft(today=left.today - 1, total=left.total - 1)
    elif left.total:  # tomorrow there are some again
        assert may_submit(rules, Grant(bonus_attempts=bonus), refusal.retry_at, attempts) is None


@pytest.mark.parametrize(
    ("day", "hours"), [(datetime(2026, 3, 28, 23, tzinfo=UTC), 23), (datetime(2026, 10, 24, 22, tzinfo=UTC), 25)]
)
def test_the_cap_of_a_day_on_which_clocks_change(day, hours):
    rules = policy(submission_limit_per_day=1, time_zone="Europe/Berlin")
    assert may_submit(rules, Grant(), day - timedelta(seconds=1), [day]) is None  # the day before
    refusal = may_submit(rules, Grant(), day + timedelta(seconds=1), [day])
    assert refusal.retry_at == day + hours * HOUR
    assert may_submit(rules, Grant(), refusal.retry_at - timedelta(seconds=1), [day]) is not None
    assert may_submit(rules, Grant(), refusal.retry_at, [day]) is None


def test_a_bonus_attempt_serves_once():
    rules = policy(submission_limit_per_day=1)
    grant = Grant(bonus_attempts=1)
    assert attempts_left(rules, grant, DUE, [DUE]).today == 1
    assert attempts_left(rules, grant, DUE, [DUE, DUE]).today == 0
    assert attempts_left(rules, grant, DUE + DAY, [DUE, DUE, DUE + DAY]).today == 0


@pytest.mark.parametrize(("counts", "index"), [("most_recent", 0), ("first", 1), ("best", 3)])
def test_which_attempt_counts(counts, index):
    attempts = [(DUE + 3 * DAY, 10.0), (DUE, 20.0), (DUE + 2 * DAY, 30.0), (DUE + DAY, 30.0)]
    assert which_counts(policy(counts=counts), attempts) == index
    assert which_counts(policy(counts=counts), []) is None


def test_the_closest_rule_says_who_sees_a_check():
    rules = policy(
        due_at=DUE,
        visibility="hidden",
        visibility_of={"q": "after_published", "q/mixes": "visible", "alphas/x": "after_due_date"},
    )
    assert rules.level("q", "mixes") is Level.VISIBLE
    assert rules.level("q", "other") is Level.AFTER_PUBLISHED
    assert rules.level("alphas", "y") is Level.HIDDEN
    assert rules.levels("alphas") == {Level.HIDDEN, Level.AFTER_DUE_DATE}
    assert rules.levels("q") == {Level.AFTER_PUBLISHED, Level.VISIBLE}


def test_when_a_check_is_shown():
    rules = policy(due_at=DUE, late_until=DUE + DAY)
    late = Grant(hours=1)

    def shown(level, now, published=None, grant=late):
        return shown_when(rules, grant, level, now, published)

    assert shown(Level.VISIBLE, DUE) is None
    assert shown(Level.AFTER_DUE_DATE, DUE + DAY + HOUR) == "after the due date"  # who may still hand in sees nothing
    assert shown(Level.AFTER_DUE_DATE, DUE + DAY + HOUR, grant=Grant()) is None
    assert shown(Level.AFTER_PUBLISHED, DUE) == "once grades are published"
    assert shown(Level.AFTER_PUBLISHED, DUE, published=DUE) is None
    assert shows_all(rules, late, DUE, None)  # no check has any of these levels
    assert not shows_all(policy(visibility_of={"q/x": "after_published"}), late, DUE, None)
    assert shows_all(policy(visibility_of={"q/x": "after_published"}), late, DUE, DUE)
    assert shown(Level.HIDDEN, DUE + 900 * DAY, published=DUE) == "by your instructor alone"


def test_hints_as_the_course_wants_them():
    pack = HintPolicy(reveal="per_attempt", cost=(0.1, 0.2, 0.3))
    assert Policy().hint_policy(pack) == pack
    assert policy(hints={"reveal": "off"}).hint_policy(pack) is None
    assert policy(hints={"cost": [0, 0, 0]}).hint_policy(pack) == HintPolicy(reveal="per_attempt")
