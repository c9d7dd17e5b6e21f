"""When students may hand in, how often, what lateness costs, and what they see: an assignment's policy.

Nothing here looks at a database or a clock. All of it is what a course decides; the rules for taking in a hand-in under
a policy stand in `records.intake_rules`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    field_validator,
    model_validator,
)

from reference.pack import HintPolicy, Share

YEARS = (2000, 2200)  # what lies outside is a slip of the pen, and cannot be added to or shown in every zone
WEEK_MINUTES = 7 * 24 * 60.0  # of grace; beyond it a later date is meant
YEAR_HOURS = 366 * 24.0


def _near(moment: datetime) -> datetime:
    if not YEARS[0] <= moment.year <= YEARS[1]:
        raise ValueError(f"the year {moment.year} is no year of a course")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_near)]


class Level(StrEnum):
    """When students see a check and what came of it."""

    VISIBLE = "visible"
    AFTER_DUE_DATE = "after_due_date"  # once the student can hand in no more
    AFTER_PUBLISHED = "after_published"  # once the grades are published
    HIDDEN = "hidden"  # never


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LateStep(_Part):
    """What a hand-in loses that comes more than `hours` after the due date."""

    hours: float = Field(ge=0, le=YEAR_HOURS)
    share: Share  # of the maximal score


class HintRules(_Part):
    """In place of what the pack says."""

    reveal: Literal["off", "on_request", "per_attempt"] | None = None
    cost: tuple[Share, Share, Share] | None = None  # of the blank's points, for each step


class Exam(_Part):
    """Outside of it there is neither starter nor hand-in."""

    opens_at: Moment
    closes_at: Moment

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.closes_at <= self.opens_at:
            raise ValueError("exam.closes_at must come after exam.opens_at")
        return self


class Policy(_Part):
    """What a course decides about an assignment. Left out: no limit."""

    release_at: Moment | None = None
    due_at: Moment | None = None
    late_until: Moment | None = None  # None: nothing is taken after the due date
    time_zone: str = "UTC"  # IANA: where a day begins, and in which times are shown
    grace_minutes: float = Field(default=0.0, ge=0, le=WEEK_MINUTES)  # late by less is neither late nor too late
    late_penalty_per_day: Share | None = None  # of the maximal score, for each day begun
    late_penalties: tuple[LateStep, ...] = ()  # in place of the above: the last step that applies counts
    submission_limit_per_day: PositiveInt | None = None
    total_submission_limit: PositiveInt | None = None
    counts: Literal["most_recent", "best", "first"] = "most_recent"
    visibility: Level = Level.VISIBLE  # of every check that the next line does not name
    visibility_of: dict[str, Level] = {}  # `blank`, or `blank/check`, which goes before its blank
    hints: HintRules = HintRules()
    exam: Exam | None = None
    corrections_off: tuple[str, ...] = ()  # of what editions of the course give wrong, as `edition/correction`

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # the last two: names that are paths, or folders
            raise ValueError(f"there is no time zone {name!r}; one looks like Europe/Berlin") from None
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_dates()
        if self.late_penalty_per_day is not None and self.late_penalties:
            raise ValueError("late_penalty_per_day and late_penalties exclude each other")
        for name in ("late_penalty_per_day", "late_penalties"):
            if getattr(self, name) and self.late_until is None:
                raise ValueError(f"{name} needs late_until: without it nothing is taken after due_at")
        for earlier, later in pairwise(self.late_penalties):
            if later.hours <= earlier.hours or later.share < earlier.share:
                raise ValueError("late_penalties must rise: hours with each step, and share never less than before")
        levels = {self.visibility, *self.visibility_of.values()}
        if Level.AFTER_DUE_DATE in levels and self.due_at is None and self.exam is None:
            raise ValueError("visibility after_due_date needs due_at, or the end of an exam")
        day, total = self.submission_limit_per_day, self.total_submission_limit
        if day is not None and total is not None and day > total:
            raise ValueError("submission_limit_per_day must not be more than total_submission_limit")
        return self

    def _check_dates(self) -> None:
        if self.release_at is not None and self.due_at is not None and self.due_at <= self.release_at:
            raise ValueError("due_at must come after release_at")
        if self.late_until is not None and (self.due_at is None or self.late_until <= self.due_at):
            raise ValueError("late_until must come after due_at")
        if self.exam is not None and self.release_at is not None and self.exam.closes_at <= self.release_at:
            raise ValueError("exam.closes_at must come after release_at")
        if self.exam is not None and self.due_at is not None and self.due_at <= self.exam.opens_at:
            raise ValueError("due_at must come after exam.opens_at")

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def level(self, blank: str, check: str) -> Level:
        """Who may see this check."""
        own = self.visibility_of.get(f"{blank}/{check}", self.visibility_of.get(blank))
        return self.visibility if own is None else own

    def levels(self, blank: str) -> set[Level]:
        """Those that checks of this blank may have."""
        own = {level for name, level in self.visibility_of.items() if name.startswith(f"{blank}/")}
        return own | {self.visibility_of.get(blank, self.visibility)}

    def hint_policy(self, pack: HintPolicy) -> HintPolicy | None:
        """How hints are given, where the pack says `pack`; None: not at all."""
        if self.hints.reveal == "off":
            return None
        cost = pack.cost if self.hints.cost is None else self.hints.cost
        return HintPolicy(reveal=self.hints.reveal or pack.reveal, cost=cost)

    def show(self, moment: datetime) -> str:
        """A moment as people of the course read it."""
        return f"{moment.astimezone(self.zone):%Y-%m-%d %H:%M} ({self.time_zone})"


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What one student has beyond the policy."""

    hours: float = 0.0  # by which due date, late date and the end of an exam move
    bonus_attempts: int = 0  # each serves once: beyond a day's limit, or beyond the total


NO_GRANT = Grant()


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a hand-in is not taken."""

    reason: Literal["not_open", "too_late", "attempt_limit"]
    message: str
    retry_at: datetime | None = None  # when it would be; None: never


def opens_at(policy: Policy) -> datetime | None:
    """Before this there is nothing to see and nothing to hand in."""
    moments = (policy.release_at, None if policy.exam is None else policy.exam.opens_at)
    return max((moment for moment in moments if moment is not None), default=None)


def due_at(policy: Policy, grant: Grant) -> datetime | None:
    """Past this a hand-in is late, but for the minutes of grace."""
    return None if policy.due_at is None else _utc(policy.due_at) + timedelta(hours=grant.hours)


def closes_at(policy: Policy, grant: Grant) -> datetime | None:
    """The last moment at which the student can hand in, grace included. An exam's end knows no grace."""
    moments = []
    if (last := policy.late_until or policy.due_at) is not None:
        moments.append(_utc(last) + timedelta(hours=grant.hours, minutes=policy.grace_minutes))
    if policy.exam is not None:
        moments.append(_utc(policy.exam.closes_at) + timedelta(hours=grant.hours))
    return min(moments, default=None)


def may_submit(policy: Policy, grant: Grant, now: datetime, attempts: Sequence[datetime]) -> Refusal | None:
    """None where a hand-in is taken now, after `attempts` at these times."""
    return check_dates(policy, grant, now) or check_attempts(policy, grant, now, attempts)


def check_dates(policy: Policy, grant: Grant, now: datetime) -> Refusal | None:
    """None where the dates allow a hand-in."""
    opening, closing = opens_at(policy), closes_at(policy, grant)
    if opening is not None and now < opening:
        return Refusal(reason="not_open", message=f"This opens at {policy.show(opening)}.", retry_at=opening)
    if closing is not None and now > closing:
        message = f"Hand-ins were taken until {policy.show(closing)}. Your instructor can grant an extension."
        return Refusal(reason="too_late", message=message)
    return None


def check_starter(policy: Policy, grant: Grant, now: datetime) -> Refusal | None:
    """None where students may have the starter: from the opening on, but after an exam no longer."""
    refusal = check_dates(policy, grant, now)
    return refusal if policy.exam is not None or (refusal is not None and refusal.reason == "not_open") else None


def check_attempts(policy: Policy, grant: Grant, now: datetime, attempts: Sequence[datetime]) -> Refusal | None:
    """None where an attempt is left."""
    left = attempts_left(policy, grant, now, attempts)
    if left.total == 0:
        return Refusal(reason="attempt_limit", message=f"All {len(attempts)} of your attempts are used up.")
    if left.today == 0:
        again = next_midnight(policy, now)
        message = f"Your attempts of today are used up. The next one is possible from {policy.show(again)} on."
        return Refusal(reason="attempt_limit", message=message, retry_at=again)
    return None


@dataclass(frozen=True, kw_only=True)
class AttemptsLeft:
    today: int | None  # None: as many as one likes
    total: int | None


def attempts_left(policy: Policy, grant: Grant, now: datetime, attempts: Sequence[datetime]) -> AttemptsLeft:
    """How many more there are after `attempts` at these times."""
    total = None
    if policy.total_submission_limit is not None:
        total = max(0, policy.total_submission_limit + grant.bonus_attempts - len(attempts))
    if policy.submission_limit_per_day is None:
        return AttemptsLeft(today=total, total=total)
    by_day: dict[object, int] = {}
    for attempt in attempts:
        day = attempt.astimezone(policy.zone).date()
        by_day[day] = by_day.get(day, 0) + 1
    limit = policy.submission_limit_per_day
    today = by_day.pop(now.astimezone(policy.zone).date(), 0)
    bonus_used = sum(max(0, count - limit) for count in by_day.values())
    left = max(0, limit + max(0, grant.bonus_attempts - bonus_used) - today)
    return AttemptsLeft(today=left if total is None else min(left, total), total=total)


def next_midnight(policy: Policy, now: datetime) -> datetime:
    """When the next day begins in the policy's time zone. Days with a change of clocks have 23 or 25 hours."""
    tomorrow = now.astimezone(policy.zone).date() + timedelta(days=1)
    return datetime.combine(tomorrow, time.min, policy.zone).astimezone(UTC)


def penalty(policy: Policy, grant: Grant, received_at: datetime) -> float:
    """The share of the maximal score that a hand-in of this time loses, from 0 to 1."""
    due = due_at(policy, grant)
    if due is None or received_at <= due + timedelta(minutes=policy.grace_minutes):
        return 0.0
    if policy.late_penalty_per_day is not None:
        return min(1.0, policy.late_penalty_per_day * _days_begun(due.astimezone(policy.zone), received_at))
    late = received_at - due
    applying = [step.share for step in policy.late_penalties if late > timedelta(hours=step.hours)]
    return applying[-1] if applying else 0.0


def _days_begun(due: datetime, received_at: datetime) -> int:
    """By the clock on the wall: who was to hand in at 18:00 has one day until 18:00 of the next, whatever the clocks
    were set to in the night between."""
    days = max(1, (received_at - _utc(due)).days - 1)  # a little too few: changes of clocks make up for hours, not days
    while _utc(due + timedelta(days=days)) < received_at:  # adding to a time with a zone moves the clock on the wall
        days += 1
    return days


def which_counts(policy: Policy, attempts: Sequence[tuple[datetime, float]]) -> int | None:
    """The index of the attempt that counts, by when each came and what it scored. Of equals the earlier one is best."""
    if not attempts:
        return None
    order = sorted(range(len(attempts)), key=lambda index: attempts[index][0])
    match policy.counts:
        case "first":
            return order[0]
        case "best":
            return max(order, key=lambda index: attempts[index][1])  # the first of equals
        case "most_recent":
            return order[-1]


def shown_when(policy: Policy, grant: Grant, level: Level, now: datetime, published_at: datetime | None) -> str | None:
    """When checks of this level are shown, in words; None: they are shown now."""
    match level:
        case Level.VISIBLE:
            return None
        case Level.AFTER_DUE_DATE:
            closing = closes_at(policy, grant)
            return None if closing is not None and now > closing else "after the due date"
        case Level.AFTER_PUBLISHED:
            return None if published_at is not None and published_at <= now else "once grades are published"
        case Level.HIDDEN:
            return "by your instructor alone"


def shows_all(policy: Policy, grant: Grant, now: datetime, published_at: datetime | None) -> bool:
    """Whether nothing is kept from the student."""
    levels = {policy.visibility, *policy.visibility_of.values()}
    return all(shown_when(policy, grant, level, now, published_at) is None for level in levels)


def shows_grade(policy: Policy, grant: Grant, now: datetime, published_at: datetime | None) -> bool:
    """Whether the student may know his grade: it would tell of what is kept from him."""
    return published_at is not None or shows_all(policy, grant, now, published_at)


def _utc(moment: datetime) -> datetime:
    """Differences and comparisons between times of one zone ignore changes of its clocks; in UTC there are none."""
    return moment.astimezone(UTC)
