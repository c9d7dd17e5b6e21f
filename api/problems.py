"""Errors as the API tells them: RFC 9457, `application/problem+json`, in one shape.

Problem                      one class per kind of error; each carries its status
|-- Unauthorized             401
|-- CrossSite                403
|-- Forbidden                403
|-- NotFound                 404
|-- NotOpen                  403
|-- TooLate                  403
|-- NotReady                 409
|-- NoHint                   409
|-- Taken                    409
|-- AlreadyEnded             409
|-- AlreadySettled           409
|-- RegradeConflict          409
|-- Busy                     429
|-- AttemptLimit             429
|-- TooManyTries             429
|-- TooLarge                 413
|-- Unprocessable            422
`-- IdempotencyKeyReused     422
"""

import math
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException

from api.headers import HEADERS
from api.links import API, LOGIN
from api.templating import templates
from grading.outcomes import BadInput
from grading.text import shorten
from records import manual
from records.intake_rules import Refused
from records.models import utc_now
from records.policy import Refusal

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:noisemark:problem:"


class ProblemBody(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "example": {
                "type": "urn:noisemark:problem:unprocessable",
                "title": "The request cannot be worked with",
                "status": 422,
                "detail": "'answers.docx' is neither .py nor .ipynb nor .zip.",
            }
        },
    )

    type: str = Field(description="names the kind of error; never changes")
    title: str
    status: int
    detail: str = Field(description="what went wrong this time, and the way out")


class Problem(HTTPException):
    """An error that the caller is told about. Subclasses set status, name and title; members go along as they are."""

    status: ClassVar[HTTPStatus]
    name: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str, headers: dict[str, str] | None = None, **members: Any) -> None:
        super().__init__(self.status, detail, headers)
        self.members = members


class Unauthorized(Problem):
    """No token, or not the right one."""

    status = HTTPStatus.UNAUTHORIZED
    name = "unauthorized"
    title = "A token is needed"


class CrossSite(Problem):
    """A browser sent this from another site's page."""

    status = HTTPStatus.FORBIDDEN
    name = "cross-site"
    title = "Not from here"


class Forbidden(Problem):
    """The caller's role, or the scope of his token, does not reach."""

    status = HTTPStatus.FORBIDDEN
    name = "forbidden"
    title = "Not for you to do"


class NotFound(Problem):
    """There is no such thing, or it is somebody else's: the two look the same."""

    status = HTTPStatus.NOT_FOUND
    name = "not-found"
    title = "There is no such thing"


class NotOpen(Problem):
    """The assignment is not open yet; `Retry-After` and `opens_at` say when it will be."""

    status = HTTPStatus.FORBIDDEN
    name = "not-open"
    title = "Not open yet"


class TooLate(Problem):
    """The assignment takes nothing any more."""

    status = HTTPStatus.FORBIDDEN
    name = "too-late"
    title = "Too late"


class AttemptLimit(Problem):
    """All attempts are used up: of this day, when `Retry-After` says how long it takes, or altogether."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    name = "attempt-limit"
    title = "No attempt is left"


class TooManyTries(Problem):
    """Too many wrong tokens came from this address; `Retry-After` says when to try again. A right one gets in."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    name = "too-many-tries"
    title = "Too many wrong tokens"


class NotReady(Problem):
    """There is no report (yet); `state` says why."""

    status = HTTPStatus.CONFLICT
    name = "not-ready"
    title = "There is no report"


class NoHint(Problem):
    """There is no further hint, or not yet."""

    status = HTTPStatus.CONFLICT
    name = "no-hint"
    title = "There is no hint to be had"


class AlreadySettled(Problem):
    """It was withdrawn, closed or opened before."""

    status = HTTPStatus.CONFLICT
    name = "already-settled"
    title = "Nothing is left to change"


class AlreadyEnded(Problem):
    """The grading has ended, and cannot be cancelled."""

    status = HTTPStatus.CONFLICT
    name = "already-ended"
    title = "The grading has ended"


class RegradeConflict(Problem):
    """The regrade does not stand where that could be done."""

    status = HTTPStatus.CONFLICT
    name = "regrade-conflict"
    title = "Not with this regrade, or not now"


class Busy(Problem):
    """Too many hand-ins wait; `Retry-After` says when to come back."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    name = "busy"
    title = "Too busy"


class Taken(Problem):
    """The name is in use already."""

    status = HTTPStatus.CONFLICT
    name = "taken"
    title = "The name is taken"


class TooLarge(Problem):
    """More bytes than are accepted."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    name = "too-large"
    title = "Too large"


class Unprocessable(Problem):
    """What was sent cannot be worked with. `BadInput` from reading a hand-in becomes this, too."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    name = "unprocessable"
    title = "The request cannot be worked with"


class IdempotencyKeyReused(Problem):
    """The key came before, with something else."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    name = "idempotency-key-reused"
    title = "This idempotency key was used before"


def describe(*problems: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route, for OpenAPI. Wrong tokens are answered 401 or 429 everywhere, values of a wrong form
    422."""
    by_status: dict[int | str, list[str]] = {}
    every: list[type[Problem]] = [Unauthorized, TooManyTries, Unprocessable, *problems]
    for problem in every:
        by_status.setdefault(int(problem.status), []).append(problem.__doc__ or problem.title)
    schema = ProblemBody.model_json_schema()
    return {
        status: {"description": " Or: ".join(texts), "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, texts in by_status.items()
    }


def install(app: FastAPI) -> None:
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(BadInput, _bad_input)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(manual.Unknown, _unknown)
    app.add_exception_handler(manual.Settled, _settled)
    app.add_exception_handler(DataError, _no_such_value)
    app.add_exception_handler(Exception, _unexpected)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error, Problem):
        return _respond(request, error.status, error.name, error.title, error.detail, error.headers, **error.members)
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.BAD_REQUEST:  # the framework's, for a body that is neither JSON in UTF-8 nor a form
        return await _http(request, Unprocessable(f"The body of the request cannot be read: {error.detail}."))
    return _respond(request, status, f"http-{status.value}", status.phrase, str(error.detail), error.headers)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()]
    return _respond(request, Unprocessable.status, Unprocessable.name, Unprocessable.title, "; ".join(faults))


async def _bad_input(request: Request, error: Exception) -> Response:
    return _respond(request, Unprocessable.status, Unprocessable.name, Unprocessable.title, str(error))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return await _http(request, refusal_problem(error.refusal))


async def _unknown(request: Request, error: Exception) -> Response:
    return _respond(request, NotFound.status, NotFound.name, NotFound.title, str(error))


async def _settled(request: Request, error: Exception) -> Response:
    return _respond(request, AlreadySettled.status, AlreadySettled.name, AlreadySettled.title, str(error))


async def _no_such_value(request: Request, _error: Exception) -> Response:
    detail = "A value in the request holds a NUL character, or is otherwise none that can be stored or looked for."
    return await _http(request, Unprocessable(detail))


def refusal_problem(refusal: Refusal) -> Problem:
    """What a policy says against a hand-in."""
    kind = {"not_open": NotOpen, "too_late": TooLate, "attempt_limit": AttemptLimit}[refusal.reason]
    if refusal.retry_at is None:
        return kind(refusal.message)
    seconds = max(1, math.ceil((refusal.retry_at - utc_now()).total_seconds()))
    member = "opens_at" if refusal.reason == "not_open" else "retry_at"
    return kind(refusal.message, {"Retry-After": str(seconds)}, **{member: refusal.retry_at.isoformat()})


async def _unexpected(request: Request, _error: Exception) -> Response:
    # The framework raises the error again once this is sent, for the server to log, and passes no middleware.
    detail = "Something of ours failed. What was accepted before is safe; please try again."
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    return _respond(request, status, "internal", status.phrase, detail, HEADERS)


def _respond(
    request: Request, status: int, name: str, title: str, detail: str, headers: Any = None, **members: Any
) -> Response:
    """The problem as the API tells it, or as a page where a person has asked for one."""
    detail = shorten(detail)
    if status >= HTTPStatus.BAD_REQUEST and _is_for_a_page(request):
        context = {"status": int(status), "title": title, "detail": detail, "login": LOGIN}
        return templates.TemplateResponse(request, "error.html", context, int(status), headers)
    body = {"type": TYPE_PREFIX + name, "title": title, "status": int(status), "detail": detail, **members}
    return JSONResponse(body, int(status), headers, MEDIA_TYPE)


def _is_for_a_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(f"{API}/")
