"""Hints that students asked for. What a hand-in knows, those that improve on it know too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, select
from sqlalchemy.exc import IntegrityError

from records.database import Database
from records.models import HintAsked, Improvement, Submission, utc_now


@dataclass(frozen=True, kw_only=True)
class History:
    """A hand-in and those that it improves on."""

    attempts: int  # different ones among them; the same bytes again are no further attempt
    asked: Mapping[str, int]  # blank -> steps revealed


class Hints:
    """The hints of one database."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def history(self, submission_id: str) -> History:
        """What has been asked for in this hand-in and before it."""
        chain = _chain(submission_id)
        with self._database.read() as session:
            attempts = session.scalar(select(func.count(Submission.sha256.distinct())).where(Submission.id.in_(chain)))
            asked = session.execute(
                select(HintAsked.blank, func.max(HintAsked.step).label("last"))
                .where(HintAsked.submission_id.in_(chain))
                .group_by(HintAsked.blank)
            )
            return History(attempts=attempts or 0, asked={row.blank: row.last for row in asked})

    def ask(self, submission_id: str, blank: str, step: int) -> None:
        """Note that this step was revealed. Asking for it twice is asking once."""
        hint = HintAsked(submission_id=submission_id, blank=blank, step=step, asked_at=self._clock())
        try:
            with self._database.write() as session:
                session.add(hint)
        except IntegrityError:  # a second click
            pass


def _chain(submission_id: str) -> Select[tuple[str]]:
    """The ids of a hand-in and of all that it improves on."""
    chain = select(Submission.id).where(Submission.id == submission_id).cte("chain", recursive=True)
    chain = chain.union(select(Improvement.earlier_id).where(Improvement.submission_id == chain.c.id))
    return select(chain.c.id)
