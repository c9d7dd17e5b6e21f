"""What is known of every request: how long it took, in a histogram, and for those that change something in the log."""

import secrets
import time

import structlog
from prometheus_client import Histogram
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger()

REQUESTS = Histogram(
    "noisemark_request_seconds", "Requests of this process", ("method", "route", "status"), registry=None
)
SERVER_ERROR = 500


class Observation:
    """Tells of each request by its route, never by its path: addresses of submissions are keys to them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, begun, status = secrets.token_hex(8), time.monotonic(), 500

        async def add(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request):
            try:
                await self._app(scope, receive, add)
            finally:
                seconds = time.monotonic() - begun
                route = getattr(scope.get("route"), "path", "none")
                REQUESTS.labels(scope["method"], route, status).observe(seconds)
                if scope["method"] not in ("GET", "HEAD") or status >= SERVER_ERROR:
                    log.info("request", method=scope["method"], route=route, status=status, seconds=round(seconds, 4))
