"""Oneself, and, for administrators, everybody: accounts, tokens, notices."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response, status
from pydantic import AfterValidator, BaseModel, Field

from api.access import CallerDep, require_admin, require_user
from api.dependencies import ServicesDep
from api.problems import Forbidden, NotFound, Taken, describe
from api.schemas import MAX_ID, After, RowId
from records.models import Notice, Role, Token, User
from records.people import NameTaken
from records.roster import MAX_TEXT, login_fault
from records.tokens import DEFAULT_DAYS, MAX_DAYS, Issued, Scope

router = APIRouter(tags=["people"])

MAX_PAGE = 1000  # rows of one answer; whoever wants more asks again with `after`
MAX_NOTICES = 200  # the latest; nobody reads back further


def _login(value: str) -> str:
    if fault := login_fault(value):
        raise ValueError(fault)
    return value


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("There are characters in it that cannot be printed.")
    return value.strip()


Line = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_printable)]


class UserInfo(BaseModel):
    id: int
    login: str
    name: str
    email: str
    is_admin: bool
    erased_at: datetime | None


class NewUser(BaseModel):
    login: Annotated[str, AfterValidator(_login)]
    name: Line = ""
    email: Line = ""
    is_admin: bool = False


class Me(BaseModel):
    user: UserInfo | None = Field(description="null for the server's operator, who has no account")
    is_admin: bool = Field(description="may do what administrators may, with this token")
    scopes: list[Scope]
    courses: dict[str, Role] = Field(description="your role by course; administrators are instructors everywhere")


class NewToken(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
    scopes: set[Scope] = Field(default={Scope.READ, Scope.SUBMIT}, min_length=1)
    days: int = Field(default=DEFAULT_DAYS, ge=1, le=MAX_DAYS, description="until it expires")


class TokenInfo(BaseModel):
    id: int
    name: str
    scopes: list[Scope]
    is_session: bool = Field(description="a browser that is signed in")
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = Field(description="to the day")


class IssuedToken(TokenInfo):
    token: str = Field(description="the token itself: shown now, and never again")


class NoticeInfo(BaseModel):
    id: int
    submission: str
    body: str
    at: datetime
    read_at: datetime | None


class ReadUpTo(BaseModel):
    up_to: int = Field(ge=0, le=MAX_ID, description="id of the last notice that was read")


@router.get("/me", responses=describe())
def get_me(caller: CallerDep) -> Me:
    """Who you are here, and what you may do."""
    return Me(
        user=None if caller.user is None else present(caller.user),
        is_admin=caller.is_admin,
        scopes=[scope for scope in Scope if scope in caller.scopes],
        courses=dict(caller.roles),
    )


@router.get("/me/tokens", responses=describe(Forbidden))
def list_own_tokens(caller: CallerDep, services: ServicesDep) -> list[TokenInfo]:
    """Your tokens and browser sessions that can be used, the newest first."""
    return [present_token(token) for token in services.tokens.of_user(require_user(caller).id)]


@router.post("/me/tokens", status_code=status.HTTP_201_CREATED, responses=describe(Forbidden))
def create_own_token(new: NewToken, caller: CallerDep, services: ServicesDep) -> IssuedToken:
    """A further token of yours. It may do no more than the one that asks for it."""
    user = require_user(caller)
    if too_many := sorted(new.scopes - caller.scopes):
        raise Forbidden(f"Your own token lacks the scope {', '.join(too_many)}, so it cannot give it on.")
    return present_issued(services.tokens.issue(caller.id, user.id, new.name, new.scopes, new.days))


@router.delete("/me/tokens/{token}", status_code=status.HTTP_204_NO_CONTENT, responses=describe(Forbidden, NotFound))
def revoke_own_token(token: RowId, caller: CallerDep, services: ServicesDep) -> Response:
    """End a token of yours, and with it all of your browser sessions."""
    try:
        services.tokens.revoke(caller.id, require_user(caller).id, token)
    except LookupError as error:
        raise NotFound(str(error)) from None
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.get("/me/notices", responses=describe(Forbidden))
def list_notices(caller: CallerDep, services: ServicesDep) -> list[NoticeInfo]:
    """What there is to tell you, the newest first."""
    return [present_notice(notice) for notice in services.people.notices(require_user(caller).id, MAX_NOTICES)]


@router.post("/me/notices/read", status_code=status.HTTP_204_NO_CONTENT, responses=describe(Forbidden))
def mark_notices_read(read: ReadUpTo, caller: CallerDep, services: ServicesDep) -> Response:
    """You have read your notices up to this one."""
    services.people.mark_read(require_user(caller).id, read.up_to)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.post("/users", status_code=status.HTTP_201_CREATED, responses=describe(Forbidden, Taken))
def create_user(new: NewUser, caller: CallerDep, services: ServicesDep) -> UserInfo:
    """A new account. For administrators."""
    require_admin(caller)
    try:
        user = services.people.add_user(caller.id, new.login, new.name, new.email, is_admin=new.is_admin)
    except NameTaken as error:
        raise Taken(str(error)) from None
    return present(user)


@router.get("/users", responses=describe(Forbidden))
def list_users(
    caller: CallerDep,
    services: ServicesDep,
    login: Annotated[str | None, Query(description="only the one with this login")] = None,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
) -> list[UserInfo]:
    """Every account, in the order of ids. For administrators."""
    require_admin(caller)
    return [present(user) for user in services.people.users(login=login, after=after, limit=limit)]


@router.get("/users/{user}", responses=describe(Forbidden, NotFound))
def get_user(user: RowId, caller: CallerDep, services: ServicesDep) -> UserInfo:
    """One account. For administrators."""
    require_admin(caller)
    found = services.people.user(user)
    if found is None:
        raise NotFound("There is no such user.")
    return present(found)


@router.delete("/users/{user}", status_code=status.HTTP_204_NO_CONTENT, responses=describe(Forbidden, NotFound))
def erase_user(user: RowId, caller: CallerDep, services: ServicesDep) -> Response:
    """Take name, address, login and tokens from an account, for good. Hand-ins stay. For administrators."""
    require_admin(caller)
    try:
        services.people.erase(caller.id, user)
    except LookupError as error:
        raise NotFound(str(error)) from None
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.get("/users/{user}/tokens", responses=describe(Forbidden))
def list_tokens(user: RowId, caller: CallerDep, services: ServicesDep) -> list[TokenInfo]:
    """Somebody's tokens and sessions that can be used. For administrators."""
    require_admin(caller)
    return [present_token(token) for token in services.tokens.of_user(user)]


@router.post("/users/{user}/tokens", status_code=status.HTTP_201_CREATED, responses=describe(Forbidden, NotFound))
def issue_token(user: RowId, new: NewToken, caller: CallerDep, services: ServicesDep) -> IssuedToken:
    """A token for somebody else. Whoever has it is he; so this is for administrators."""
    require_admin(caller)
    try:
        return present_issued(services.tokens.issue(caller.id, user, new.name, new.scopes, new.days))
    except LookupError as error:
        raise NotFound(str(error)) from None


@router.delete(
    "/users/{user}/tokens/{token}", status_code=status.HTTP_204_NO_CONTENT, responses=describe(Forbidden, NotFound)
)
def revoke_token(user: RowId, token: RowId, caller: CallerDep, services: ServicesDep) -> Response:
    """End somebody's token, and with it all of his browser sessions. For administrators."""
    require_admin(caller)
    try:
        services.tokens.revoke(caller.id, user, token)
    except LookupError as error:
        raise NotFound(str(error)) from None
    return Response(status_code=status.HTTP_204_NO_CONTENT)


def present(user: User) -> UserInfo:
    return UserInfo.model_validate(user, from_attributes=True)


def present_token(token: Token) -> TokenInfo:
    return TokenInfo.model_validate(token, from_attributes=True)


def present_issued(issued: Issued) -> IssuedToken:
    return IssuedToken(**present_token(issued.token).model_dump(), token=issued.secret)


def present_notice(notice: Notice) -> NoticeInfo:
    return NoticeInfo(
        id=notice.id, submission=notice.submission_id, body=notice.body, at=notice.at, read_at=notice.read_at
    )
