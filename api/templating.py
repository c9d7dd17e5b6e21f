"""What pages are made of: templates, which all know who is signed in."""

from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.templating import Jinja2Templates


def _signed_in(request: Request) -> dict[str, Any]:
    return {"signed_in": getattr(request.state, "user", None)}  # set by `api.access.get_caller`


templates = Jinja2Templates(Path(__file__).parent / "templates", context_processors=[_signed_in])
