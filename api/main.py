"""The API, put together: `uvicorn --factory api.main:create_app`, or `python -m api`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import Depends, FastAPI
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from api import problems
from api.access import get_caller
from api.body_limit import BodyLimit
from api.dependencies import Services
from api.headers import SecurityHeaders
from api.links import API
from api.observation import Observation
from api.routes import (
    assignments,
    assignments_admin,
    bulk,
    courses,
    events,
    gradebook,
    health,
    hints,
    manual,
    operations,
    pages,
    people,
    regrades,
    reports,
    sessions,
    submissions,
)
from records.settings import Settings, load_settings
from sandbox.logs import configure_logs

MULTIPART_OVERHEAD = 64 * 1024  # bytes: boundaries and part headers, beside the files themselves


def create_app(settings: Settings | None = None) -> FastAPI:
    """Raises `ConfigurationError`."""
    configure_logs()
    settings = settings or load_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.services = Services(settings)
        yield
        app.state.services.close()

    app = FastAPI(
        title="Noisemark",
        version=version("noisemark"),
        summary="Grades the final assessment of a course on diffusion models.",
        description="Errors come as `application/problem+json` (RFC 9457).",
        lifespan=lifespan,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,  # both would load scripts from other hosts
        redoc_url=None,
        middleware=[
            Middleware(Observation),
            Middleware(SecurityHeaders),
            Middleware(BodyLimit, max_bytes=settings.max_upload_bytes + MULTIPART_OVERHEAD),
        ],
    )
    problems.install(app)
    guarded = [Depends(get_caller)]
    for routes in (
        assignments,
        assignments_admin,
        bulk,
        submissions,
        reports,
        hints,
        events,
        gradebook,
        manual,
        people,
        courses,
        regrades,
        operations,
    ):
        app.include_router(routes.router, prefix=API, dependencies=guarded)
    app.include_router(pages.router, dependencies=guarded)
    app.include_router(operations.metrics_router, dependencies=guarded)
    app.include_router(sessions.router)
    app.include_router(health.router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    return app
