"""A cap on the bodies of requests, enforced on the bytes that come, not on what was announced.

The framework's own cap answers in plain text; this one answers like every other error.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import TooLarge


class BodyLimit:
    """Raises `TooLarge` to whoever reads more than `max_bytes` of a body."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen = 0

        async def count() -> Message:
            nonlocal seen
            announced = Headers(scope=scope).get("content-length", "0")
            if announced.isdecimal() and int(announced) > self._max_bytes:
                self._refuse()  # before a single byte is read
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                self._refuse()
            return message

        await self._app(scope, count if scope["type"] == "http" else receive, send)

    def _refuse(self) -> None:
        raise TooLarge(
            f"At most {self._max_bytes} bytes are accepted. A notebook gets smaller when its output is cleared."
        )
