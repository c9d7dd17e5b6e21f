"""Tokens: what people and programs sign in with. Each is shown once; only its hash is kept.

A browser's session is a token too, opened with an API token and over after half a day.
"""

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from records import audit
from records.database import Database
from records.models import Member, Role, Token, User, utc_now

PREFIX = "nm_"  # so that people, and programs that look for leaked secrets, know one when they see it
SECRET_BYTES = 32  # 256 bits: nobody guesses one, so that a plain hash keeps it safe
DEFAULT_DAYS = 180  # a term
MAX_DAYS = 366  # a year: what nobody renews, nobody uses
SESSION_HOURS = 12  # a day's work


class Scope(StrEnum):
    """What a token may be used for. What its owner may not do, no scope allows."""

    READ = "read"  # look at what the owner may see
    SUBMIT = "submit"  # do what students do: hand in, ask for hints
    GRADE = "grade"  # do what graders do
    MANAGE = "manage"  # do what instructors do
    ADMIN = "admin"  # be an administrator, for whom it is


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A new token. The secret is known now, and never again."""

    token: Token
    secret: str


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who a token stands for, and with what it may be used."""

    user: User
    token: Token
    scopes: frozenset[Scope]
    roles: Mapping[str, Role]  # by course


class Tokens:
    """The tokens of one database."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    def issue(
        self, actor_id: int | None, user_id: int, name: str, scopes: Collection[Scope], days: int = DEFAULT_DAYS
    ) -> Issued:
        """A new API token. Raises `LookupError` where there is no such user (any more)."""
        with self._database.write() as session:
            user = session.get(User, user_id)
            if user is None or user.erased_at is not None:
                raise LookupError("There is no such user.")
            return self._issue(session, actor_id, user_id, name, scopes, days)

    def hand_out(self, actor_id: int | None, course_id: str, days: int = DEFAULT_DAYS) -> list[tuple[User, Issued]]:
        """A token for handing in, for each student of a course who has none that holds; by login."""
        now = self._clock()
        holds = (Token.is_session.is_(False), Token.revoked_at.is_(None), Token.expires_at > now)
        with self._database.write() as session:
            students = session.scalars(
                select(User)
                .join(Member, Member.user_id == User.id)
                .where(Member.course_id == course_id, Member.role == Role.STUDENT, User.erased_at.is_(None))
                .where(User.id.not_in(select(Token.user_id).where(*holds)))
                .order_by(User.login)
            ).all()
            scopes, name = (Scope.READ, Scope.SUBMIT), f"course {course_id}"
            return [(student, self._issue(session, actor_id, student.id, name, scopes, days)) for student in students]

    def _issue(
        self, session: Session, actor_id: int | None, user_id: int, name: str, scopes: Collection[Scope], days: int
    ) -> Issued:
        issued = self._add(session, user_id, name, scopes, timedelta(days=days), is_session=False)
        audit.note(
            session,
            actor_id,
            "token.issue",
            None,
            f"user {user_id}",
            clock=self._clock,
            token=issued.token.id,
            scopes=issued.token.scopes,
            expires_at=issued.token.expires_at.isoformat(),
        )
        return issued

    def open_session(self, secret: str) -> Issued | None:
        """A browser's session for the owner of an API token, or None where that is not (or no longer) one.

        It may do what that token may, and outlives neither it nor the day.
        """
        identity = self.identify(secret, is_session=False)
        if identity is None:
            return None
        now = self._clock()
        lifetime = min(timedelta(hours=SESSION_HOURS), identity.token.expires_at - now)
        user_id = identity.user.id
        with self._database.write() as session:
            over = or_(Token.expires_at <= now, Token.revoked_at.is_not(None))
            session.execute(delete(Token).where(Token.user_id == user_id, Token.is_session, over))
            return self._add(session, user_id, "browser", identity.scopes, lifetime, is_session=True)

    def _add(
        self,
        session: Session,
        user_id: int,
        name: str,
        scopes: Collection[Scope],
        lifetime: timedelta,
        *,
        is_session: bool,
    ) -> Issued:
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        now = self._clock()
        token = Token(
            user_id=user_id,
            name=name,
            sha256=_hash(secret),
            scopes=[scope.value for scope in Scope if scope in scopes],
            is_session=is_session,
            created_at=now,
            expires_at=now + lifetime,
        )
        session.add(token)
        session.flush()  # gives it its id
        return Issued(token=token, secret=secret)

    def identify(self, secret: str, *, is_session: bool) -> Identity | None:
        """Whose token this is; None where it is nobody's, expired or revoked, or of the other kind."""
        now = self._clock()
        with self._database.read() as session:
            row = session.execute(
                select(Token, User)
                .join(User, User.id == Token.user_id)
                .where(
                    Token.sha256 == _hash(secret),
                    Token.is_session == is_session,
                    Token.revoked_at.is_(None),
                    Token.expires_at > now,
                    User.erased_at.is_(None),
                )
            ).one_or_none()
            if row is None:
                return None
            token: Token = row.Token
            user: User = row.User
            roles = {
                member.course_id: member.role
                for member in session.scalars(select(Member).where(Member.user_id == user.id))
            }
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if token.used_at is None or token.used_at < today:
            with self._database.write() as session:
                session.execute(update(Token).where(Token.id == token.id).values(used_at=today))
        return Identity(user=user, token=token, scopes=frozenset(map(Scope, token.scopes)), roles=roles)

    def of_user(self, user_id: int) -> list[Token]:
        """The tokens and sessions that can be used now, the newest first."""
        live = (Token.revoked_at.is_(None), Token.expires_at > self._clock())
        with self._database.read() as session:
            return list(session.scalars(select(Token).where(Token.user_id == user_id, *live).order_by(Token.id.desc())))

    def revoke(self, actor_id: int | None, user_id: int, token_id: int) -> None:
        """End one token of that user, and with an API token all of his sessions: they may have been opened with it.

        Revoking twice is revoking once. Raises `LookupError` where he has no such token.
        """
        now = self._clock()
        with self._database.write() as session:
            token = session.get(Token, token_id)
            if token is None or token.user_id != user_id:
                raise LookupError("There is no such token.")
            if token.revoked_at is not None:
                return
            token.revoked_at = now
            if not token.is_session:
                sessions = (Token.user_id == user_id, Token.is_session, Token.revoked_at.is_(None))
                session.execute(update(Token).where(*sessions).values(revoked_at=now))
                audit.note(
                    session, actor_id, "token.revoke", None, f"user {user_id}", clock=self._clock, token=token_id
                )

    def close_session(self, secret: str) -> None:
        """Sign a browser out. A session that is over already stays so."""
        with self._database.write() as session:
            session.execute(
                update(Token)
                .where(Token.sha256 == _hash(secret), Token.is_session, Token.revoked_at.is_(None))
                .values(revoked_at=self._clock())
            )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
