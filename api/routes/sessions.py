"""Signing in and out, for browsers. Open to everybody: who is signed in stands in a cookie."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response, status
from fastapi.responses import HTMLResponse, RedirectResponse

from api.access import SESSION_COOKIE, is_servers_token, note_wrong_try, refuse_cross_site
from api.dependencies import ServicesDep
from api.links import LOGIN
from api.templating import templates

router = APIRouter(include_in_schema=False, dependencies=[Depends(refuse_cross_site)])

WRONG = "This is not a token, or no longer one."
SERVERS = (
    "This is the server's own token. It is for programs and belongs to nobody; "
    "`noisemark user create` makes an account, and `noisemark token create` a token for it."
)


@router.get(LOGIN)
def show_login(request: Request, services: ServicesDep, next: str = "/") -> HTMLResponse:  # noqa: A002  (the address)
    return _page(request, services, next)


@router.post(LOGIN)
def sign_in(
    request: Request,
    services: ServicesDep,
    token: Annotated[str, Form()],
    next: Annotated[str, Form()] = "/",  # noqa: A002
) -> Response:
    opened = services.tokens.open_session(token.strip())
    if opened is None:
        note_wrong_try(request)
        problem = SERVERS if is_servers_token(token.strip(), services.settings) else WRONG
        return _page(request, services, next, problem)
    response = RedirectResponse(_local(next), status_code=status.HTTP_303_SEE_OTHER)
    response.set_cookie(
        SESSION_COOKIE,
        opened.secret,
        max_age=int((opened.token.expires_at - opened.token.created_at).total_seconds()),
        httponly=True,
        samesite="lax",
        # A proxy says how it was reached. Whoever lies about it, lies to himself.
        secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
    )
    return response


@router.post("/logout")
def sign_out(request: Request, services: ServicesDep) -> RedirectResponse:
    services.tokens.close_session(request.cookies.get(SESSION_COOKIE, ""))
    response = RedirectResponse(LOGIN, status_code=status.HTTP_303_SEE_OTHER)
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
    return response


def _page(request: Request, services: ServicesDep, place: str, problem: str | None = None) -> HTMLResponse:
    identity = services.tokens.identify(request.cookies.get(SESSION_COOKIE, ""), is_session=True)
    context = {"user": None if identity is None else identity.user, "next": _local(place), "problem": problem}
    code = status.HTTP_200_OK if problem is None else status.HTTP_401_UNAUTHORIZED
    return templates.TemplateResponse(request, "login.html", context, code)


def _local(place: str) -> str:
    """A path of this server, whatever is asked for: nobody is to be led elsewhere after signing in."""
    # Browsers drop tabs and line ends from addresses, and read a backslash as a slash.
    local = place.startswith("/") and not place.startswith("//") and "\\" not in place and place.isprintable()
    return place if local else "/"
