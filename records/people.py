"""People: users, courses, who is in them, and what they are told. Whatever changes who may do what is audited."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from records import audit
from records.database import Database
from records.models import Course, Member, Notice, Role, Token, User, utc_now
from records.roster import ERASED_PREFIX, Entry, Fault, differently_written


class NameTaken(Exception):  # noqa: N818  (what is the matter)
    """There is such a user, or such a course, already."""


class BadRoster(Exception):  # noqa: N818
    """Nothing of a roster was taken over, for these faults."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    user: User
    role: Role


@dataclass(frozen=True, kw_only=True)
class RosterChange:
    """What a roster does to a course, as logins."""

    added: list[str]
    changed: list[str]  # another role, name or address
    unchanged: list[str]
    missing: list[str]  # students of the course whom the roster does not name


class People:
    """The people of one database. `actor_id` is who does something; None is the operator."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    # Users

    def add_user(
        self, actor_id: int | None, login: str, name: str = "", email: str = "", *, is_admin: bool = False
    ) -> User:
        """Raises `NameTaken`."""
        try:
            with self._database.write() as session:
                if session.scalar(select(User.id).where(func.lower(User.login) == login.lower())) is not None:
                    raise NameTaken(f"There is a user {login!r} already.")
                user = self._new_user(session, login, name, email, is_admin=is_admin)
                session.flush()  # gives it its id
                self._note(session, actor_id, "user.create", None, f"user {user.id}", is_admin=is_admin)
                return user
        except IntegrityError:
            raise NameTaken(f"There is a user {login!r} already.") from None

    def _new_user(
        self, session: Session, login: str, name: str = "", email: str = "", *, is_admin: bool = False
    ) -> User:
        user = User(login=login, name=name, email=email, is_admin=is_admin, created_at=self._clock())
        session.add(user)
        return user

    def user(self, user_id: int) -> User | None:
        with self._database.read() as session:
            return session.get(User, user_id)

    def users(self, *, login: str | None, after: int, limit: int) -> list[User]:
        """At most `limit` users whose ids are greater than `after`, in order; or the one with that login."""
        query = select(User).where(User.id > after).order_by(User.id).limit(limit)
        if login is not None:
            query = query.where(User.login == login)
        with self._database.read() as session:
            return list(session.scalars(query))

    def erase(self, actor_id: int | None, user_id: int) -> None:
        """Take name, address, login and tokens from a user; the row stays for what refers to it.

        What he handed in is not touched. Raises `LookupError` where there is no such user.
        """
        now = self._clock()
        with self._database.write() as session:
            user = session.get(User, user_id)
            if user is None:
                raise LookupError("There is no such user.")
            if user.erased_at is not None:
                return
            user.login, user.name, user.email = f"{ERASED_PREFIX}{user_id}", "", ""
            user.is_admin, user.erased_at = False, now
            live = (Token.user_id == user_id, Token.revoked_at.is_(None))
            session.execute(update(Token).where(*live).values(revoked_at=now))
            session.execute(update(Token).where(Token.user_id == user_id).values(name=""))  # his words, too
            self._note(session, actor_id, "user.erase", None, f"user {user_id}")

    # Courses

    def add_course(self, actor_id: int | None, course_id: str, title: str) -> Course:
        """Raises `NameTaken`."""
        course = Course(id=course_id, title=title, created_at=self._clock())
        try:
            with self._database.write() as session:
                session.add(course)
                session.flush()
                self._note(session, actor_id, "course.create", course_id, f"course {course_id}")
        except IntegrityError:
            raise NameTaken(f"There is a course {course_id!r} already.") from None
        return course

    def courses(self) -> list[Course]:
        with self._database.read() as session:
            return list(session.scalars(select(Course).order_by(Course.id)))

    # Members

    def members(self, course_id: str) -> list[Enrolled]:
        with self._database.read() as session:
            query = select(User, Member.role).join(Member, Member.user_id == User.id)
            rows = session.execute(query.where(Member.course_id == course_id).order_by(User.login))
            return [Enrolled(user=row.User, role=row.role) for row in rows]

    def set_role(self, actor_id: int | None, course_id: str, login: str, role: Role) -> Enrolled:
        """Put somebody into a course, or change what he is there. Raises `LookupError` where he has no account."""
        with self._database.write() as session:
            user = _known(session, login)
            member = session.get(Member, (course_id, user.id))
            self._set_role(session, actor_id, course_id, user, member, role)
            return Enrolled(user=user, role=role)

    def _set_role(
        self, session: Session, actor_id: int | None, course_id: str, user: User, member: Member | None, role: Role
    ) -> bool:
        """Whether that changed anything."""
        before = None if member is None else member.role
        if before is role:
            return False
        if member is None:
            session.add(Member(course_id=course_id, user_id=user.id, role=role))
        else:
            member.role = role
        self._note(session, actor_id, "member.set", course_id, f"user {user.id}", before=before, role=role)
        return True

    def remove_member(self, actor_id: int | None, course_id: str, login: str) -> None:
        """Raises `LookupError` where nobody of that login is in the course."""
        with self._database.write() as session:
            member = session.get(Member, (course_id, _known(session, login).id))
            if member is None:
                raise LookupError(f"{login!r} is not in the course {course_id!r}.")
            self._remove(session, actor_id, member)

    def _remove(self, session: Session, actor_id: int | None, member: Member) -> None:
        session.delete(member)
        self._note(session, actor_id, "member.remove", member.course_id, f"user {member.user_id}", before=member.role)

    def enrol(
        self,
        actor_id: int | None,
        course_id: str,
        entries: Sequence[Entry],
        *,
        remove_missing: bool = False,
        dry_run: bool = False,
    ) -> RosterChange:
        """Take a roster over, as a whole or not at all; people without an account get one.

        Where it says nothing of a role, whoever is in the course keeps his, and the others become students. Students
        whom it does not name stay, unless `remove_missing`; staff always stays. Names and addresses that an account has
        are kept. Raises `BadRoster`.
        """
        try:
            with self._database.write() as session:
                change = self._enrol(session, actor_id, course_id, entries, remove_missing=remove_missing)
                if dry_run:
                    session.rollback()
                return change
        except IntegrityError:  # PostgreSQL: another roster brought one of the same people at the same moment
            raise NameTaken("Somebody else just added some of the same people. Please try again.") from None

    def _enrol(
        self,
        session: Session,
        actor_id: int | None,
        course_id: str,
        entries: Sequence[Entry],
        *,
        remove_missing: bool,
    ) -> RosterChange:
        users = {user.login: user for user in session.scalars(select(User).where(User.erased_at.is_(None)))}
        if faults := differently_written(entries, users):
            raise BadRoster(faults)
        rows = session.scalars(select(Member).where(Member.course_id == course_id))
        members = {member.user_id: member for member in rows}
        new = [self._new_user(session, entry.login) for entry in entries if entry.login not in users]
        session.flush()  # gives them their ids
        for user in new:
            self._note(session, actor_id, "user.create", course_id, f"user {user.id}", is_admin=False)
            users[user.login] = user
        change = RosterChange(added=[], changed=[], unchanged=[], missing=[])
        for entry in entries:
            user = users[entry.login]
            member = members.get(user.id)
            before = (user.name, user.email)
            # Others' courses rely on what stands there, tokens are sent to it: a roster fills in, and replaces nothing
            user.name, user.email = user.name or entry.name, user.email or entry.email
            role = entry.role or (Role.STUDENT if member is None else member.role)
            moved = self._set_role(session, actor_id, course_id, user, member, role)
            changed = moved or before != (user.name, user.email)
            group = change.added if member is None else change.changed if changed else change.unchanged
            group.append(entry.login)
        named = {users[entry.login].id for entry in entries}
        for user in sorted(users.values(), key=lambda user: user.login):
            if user.id not in named and user.id in members and members[user.id].role is Role.STUDENT:
                change.missing.append(user.login)
                if remove_missing:
                    self._remove(session, actor_id, members[user.id])
        return change

    # Notices

    def notices(self, user_id: int, limit: int) -> list[Notice]:
        """The latest, the newest first."""
        with self._database.read() as session:
            query = select(Notice).where(Notice.user_id == user_id).order_by(Notice.id.desc())
            return list(session.scalars(query.limit(limit)))

    def mark_read(self, user_id: int, up_to: int) -> None:
        """All notices of that user up to that id have been read."""
        unread = (Notice.user_id == user_id, Notice.id <= up_to, Notice.read_at.is_(None))
        with self._database.write() as session:
            session.execute(update(Notice).where(*unread).values(read_at=self._clock()))

    def _note(
        self, session: Session, actor_id: int | None, action: str, course_id: str | None, subject: str, **data: Any
    ) -> None:
        # Ids, never names or logins: the audit outlives the erasing of a user.
        audit.note(session, actor_id, action, course_id, subject, clock=self._clock, **data)


def _known(session: Session, login: str) -> User:
    user = session.scalar(select(User).where(User.login == login, User.erased_at.is_(None)))
    if user is None:
        raise LookupError(f"There is no user {login!r}.")
    return user
