"""Who calls, and what he may do. Routes ask here; none decides for itself."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import Depends, Request
from starlette.exceptions import HTTPException

from api.links import LOGIN
from api.problems import CrossSite, Forbidden, NotFound, TooManyTries, Unauthorized
from records.models import Role, User
from records.settings import Settings, is_loopback
from records.tokens import Identity, Scope
from records.versions import OPEN_COURSE

if TYPE_CHECKING:
    from api.dependencies import Services

SESSION_COOKIE = "noisemark_session"

_RANK = {role: rank for rank, role in enumerate(Role)}  # each may do what those before it may
_SCOPES = {Role.STUDENT: Scope.SUBMIT, Role.GRADER: Scope.GRADE, Role.INSTRUCTOR: Scope.MANAGE}
# What a proxy adds to a request that it passes on; so does every header that begins with x-forwarded-
_FORWARDING = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"})
_READING = ("GET", "HEAD")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Somebody with an account, or the operator, who may do everything."""

    user: User | None  # None: the operator
    scopes: frozenset[Scope]
    changes: bool  # by its method, the request is to change something
    roles: Mapping[str, Role] = field(default_factory=dict)  # by course

    @property
    def is_operator(self) -> bool:
        return self.user is None

    @property
    def is_admin(self) -> bool:
        """Whether he may do what administrators may, and the token may be used for it."""
        return self.user is None or (self.user.is_admin and Scope.ADMIN in self.scopes)

    @property
    def id(self) -> int | None:
        """As the audit has it: None for the operator."""
        return None if self.user is None else self.user.id

    def role_in(self, course_id: str) -> Role | None:
        """What the caller is in a course, if anything. In the open course everybody is at least a student."""
        if self.is_admin:
            return Role.INSTRUCTOR
        return self.roles.get(course_id, Role.STUDENT if course_id == OPEN_COURSE else None)

    def is_at_least(self, role: Role, course_id: str) -> bool:
        own = self.role_in(course_id)
        return own is not None and _RANK[own] >= _RANK[role]


def get_caller(request: Request) -> Caller:
    """Lets in who has a token, and whoever calls a server that runs without one for its own machine.

    Programs send it as a bearer token, or as the password of HTTP Basic (the user name does not matter); browsers have
    a session. They send both along with forms, images and event streams, from other sites' pages too.
    """
    refuse_cross_site(request)
    services: Services = request.app.state.services
    changes = request.method not in _READING
    operator = Caller(user=None, scopes=frozenset(Scope), changes=changes)
    presented = _presented_token(request)
    if presented is not None:
        if is_servers_token(presented, services.settings):
            return operator
        identity = services.tokens.identify(presented, is_session=False)
        if identity is None:
            note_wrong_try(request)
    elif (cookie := request.cookies.get(SESSION_COOKIE)) is not None:
        identity = services.tokens.identify(cookie, is_session=True)
    elif services.settings.api_token is None:
        _require_direct_call(request)
        return operator
    else:
        identity = None
    if identity is None:
        raise _sign_in(request)
    request.state.user = identity.user  # for pages
    _require_scope(identity, changes=changes)
    return Caller(user=identity.user, scopes=identity.scopes, changes=changes, roles=identity.roles)


CallerDep = Annotated[Caller, Depends(get_caller)]


def require(caller: Caller, course_id: str, role: Role) -> None:
    """Let nobody pass who is less than that in the course, or whose token is not for changing things as one.

    Raises `Forbidden`, and `NotFound` where the caller is not in the course at all: as if there were none.
    """
    if caller.role_in(course_id) is None:
        raise NotFound(f"There is no course {course_id!r}.")
    if not caller.is_at_least(role, course_id):
        raise Forbidden(f"This takes the role '{role}' in the course {course_id!r}.")
    if caller.changes:
        require_any_scope(caller, {_SCOPES[role]})


def require_any_scope(caller: Caller, scopes: set[Scope]) -> None:
    if not scopes & caller.scopes:
        raise Forbidden(f"Your token lacks the scope {' or '.join(sorted(scopes))}.")


def require_admin(caller: Caller) -> None:
    if not caller.is_admin:
        raise Forbidden(f"This takes an administrator, and a token with the scope {Scope.ADMIN}.")


def require_user(caller: Caller) -> User:
    """The caller's account. The operator has none."""
    if caller.user is None:
        raise Forbidden("This is for people with an account; the server's own token, or none, belongs to nobody.")
    return caller.user


def is_servers_token(presented: str, settings: Settings) -> bool:
    """Whether it is the token of the configuration, which is the operator's."""
    token = settings.api_token
    return token is not None and hmac.compare_digest(presented.encode(), token.get_secret_value().encode())


def note_wrong_try(request: Request) -> None:
    """Raises `TooManyTries` where the address has sent too many wrong tokens lately."""
    services: Services = request.app.state.services
    wait = services.wrong_tries.note("" if request.client is None else request.client.host)
    if wait:
        raise TooManyTries(
            f"Too many wrong tokens came from your address. Try again in {wait} seconds; a right one gets in at once.",
            headers={"Retry-After": str(wait)},
        )


def refuse_cross_site(request: Request) -> None:
    """Browsers send credentials along from other sites' pages, so what changes anything is refused from there."""
    if request.method in _READING:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:  # an old browser, or one that came without TLS; programs send neither
        foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host")
    if foreign:
        raise CrossSite("This request came from another site's page.")


def _require_scope(identity: Identity, *, changes: bool) -> None:
    """What holds for every request; which scope a change takes, `require` knows."""
    if not changes and Scope.READ not in identity.scopes:
        raise Forbidden(f"Your token lacks the scope {Scope.READ}.")
    if changes and identity.scopes <= {Scope.READ}:
        raise Forbidden("Your token may be used for reading only.")


def _require_direct_call(request: Request) -> None:
    """Without a token of the server's own, only somebody at this machine is the operator.

    A name that leads here but is not this machine's belongs to another site, whose pages would then speak for us. And
    what a proxy passes on comes from this machine, too, but was sent by anybody.
    """
    if not is_loopback(request.url.hostname or "") or (request.client and not is_loopback(request.client.host)):
        raise Unauthorized("Without NOISEMARK_API_TOKEN this server answers to 127.0.0.1 and localhost only.")
    if any(name in _FORWARDING or name.startswith("x-forwarded-") for name in request.headers):
        raise Unauthorized(
            "This request came through a proxy. A server behind one needs NOISEMARK_API_TOKEN: set it and restart."
        )


def _presented_token(request: Request) -> str | None:
    """What the request's Authorization says; None where there is none, and nobody's token where it says nothing."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, credentials = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip()
        case "basic":
            try:
                return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                return ""
        case _:
            return ""


def _sign_in(request: Request) -> HTTPException:
    """What tells a person to sign in: a browser is led to the page for it."""
    headers = {"WWW-Authenticate": 'Basic realm="Noisemark", charset="UTF-8"'}
    if request.method in _READING and "text/html" in request.headers.get("accept", ""):
        place = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        headers = {"Location": f"{LOGIN}?next={quote(place, safe='/')}"}
        if SESSION_COOKIE in request.cookies:  # it is over: the page is to know nothing of it
            headers["Set-Cookie"] = f"{SESSION_COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
        return HTTPException(303, "Sign in.", headers)
    return Unauthorized(
        "This server asks for a token that is valid: 'Authorization: Bearer TOKEN', or as the password in a browser.",
        headers=headers,
    )
