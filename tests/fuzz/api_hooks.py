"""What schemathesis is told about this API: ids that exist, and what an error has to look like (`fuzz.api`)."""

import json
import os
import random
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

KNOWN: dict[str, list[str | int]] = json.loads(os.environ["TRY_API_KNOWN"])  # placeholder -> values
KNOWN_SHARE = 0.7  # of the placeholders get a value that exists: else nearly every answer would be 404
PROBLEM = "application/problem+json"
MEMBERS = {"type": str, "title": str, "status": int, "detail": str}


@schemathesis.hook
def before_call(_context: HookContext, case: Case, _arguments: dict[str, Any]) -> None:
    """Put ids that exist into the path."""
    for name in case.path_parameters or {}:
        known = KNOWN.get("finished" if case.path.endswith("/events") else name)  # other streams do not end
        if known and (random.random() < KNOWN_SHARE or case.path.endswith("/events")):
            case.path_parameters[name] = random.choice(known)


@schemathesis.check
def errors_are_problems(_context: CheckContext, response: Response, case: Case) -> None:
    """Every error is told as RFC 9457 says, and tells nothing of the inside."""
    if response.status_code < 400 or case.method == "HEAD":
        return
    media_type = response.headers.get("content-type", [""])[0]
    assert media_type == PROBLEM, f"{response.status_code} is told as {media_type!r}"
    body = response.json()
    for member, kind in MEMBERS.items():
        assert isinstance(body.get(member), kind), f"{member} is {body.get(member)!r}"
    assert body["status"] == response.status_code
    assert "Traceback" not in response.text
