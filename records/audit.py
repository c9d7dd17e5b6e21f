"""The audit: what touched a grade, or who may. Entries are added and read, never changed or removed."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from records.models import AuditEntry, utc_now


def note(
    session: Session,
    actor_id: int | None,
    action: str,
    course_id: str | None,
    subject: str,
    reason: str = "",
    *,
    clock: Callable[[], datetime] = utc_now,
    **data: Any,
) -> None:
    """Add an entry inside the caller's transaction: both are kept, or neither. `actor_id` None is the operator."""
    session.add(
        AuditEntry(
            at=clock(),
            actor_id=actor_id,
            action=action,
            course_id=course_id,
            subject=subject,
            reason=reason,
            data=data,
        )
    )


def entries(session: Session, course_id: str | None, after: int, limit: int) -> list[AuditEntry]:
    """At most `limit` entries whose ids are greater than `after`, in order. None: what belongs to no course."""
    query = select(AuditEntry).where(AuditEntry.course_id == course_id, AuditEntry.id > after)
    return list(session.scalars(query.order_by(AuditEntry.id).limit(limit)))
