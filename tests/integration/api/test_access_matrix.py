"""Every route of the service, asked by everybody. A route that is missing in the table fails the first test."""

import itertools
import re
from dataclasses import dataclass, field

import pytest
from classroom import ASSIGNMENT, COURSE, OTHER, SERVER_TOKEN, Classroom, bearer
from fastapi.routing import iter_route_contexts
from pydantic import SecretStr
from services import running_api
from sqlalchemy import select, update

from api.main import create_app
from records.manual import Manual
from records.models import Artifact, Assignment, Grading, Mode, Regrade, Role, utc_now
from records.tokens import Scope

ROLES = ("anonymous", "student", "outsider", "grader", "instructor", "admin", "operator")
# The student is the author of the submission; the outsider is a student of another course.
EVERYBODY, SIGNED_IN, IN_COURSE, AUTHOR, GRADERS, INSTRUCTORS, COURSE_ADMINS, ADMINS, ACCOUNTS = (
    "  =   =   =   =   =   =   =",
    "401   =   =   =   =   =   =",
    "401   = 404   =   =   =   =",
    "401   = 404 403 403 403 403",
    "401 403 404   =   =   =   =",
    "401 403 404 403   =   =   =",
    "401 403 404 403 403   =   =",
    "401 403 403 403 403   =   =",
    "401   =   =   =   =   = 403",
)


@dataclass(frozen=True)
class Route:
    """Who may (`=`), with which status then; else the status. And what is sent along."""

    who: str
    success: int = 200
    sent: dict = field(default_factory=dict)
    values: dict = field(default_factory=dict)  # for placeholders of the path, in place of those of `World`

    def expected(self):
        return {
            role: self.success if word == "=" else int(word) for role, word in zip(ROLES, self.who.split(), strict=True)
        }


A, C, S = "/api/v1/assignments/{assignment}", "/api/v1/courses/{course}", "/api/v1/submissions/{submission}"
FILE = {"files": {"files": ("a.py", b"x = 1")}}
REASON, BODY = {"json": {"reason": "because"}}, {"json": {"body": "Please look."}}
REGRADE = {"json": {"mode": "full", "reason": "because"}}
TOKEN = {"json": {"name": "test", "scopes": ["read"]}}
NO_REPORT = 409  # not yet: who gets this may see it

TABLE = {
    "GET /": Route(SIGNED_IN),
    "GET /healthz": Route(EVERYBODY),
    "GET /readyz": Route(EVERYBODY, 503),  # there is no broker here
    "GET /api/v1/openapi.json": Route(EVERYBODY),
    "GET /login": Route(EVERYBODY),
    "POST /login": Route(EVERYBODY, 401, {"data": {"token": "nm_wrong"}}),
    "POST /logout": Route(EVERYBODY, 303),
    # Oneself
    "GET /api/v1/me": Route(SIGNED_IN),
    "GET /api/v1/me/tokens": Route(ACCOUNTS),
    "POST /api/v1/me/tokens": Route(ACCOUNTS, 201, TOKEN),
    "DELETE /api/v1/me/tokens/{token}": Route(ACCOUNTS, 204),
    "GET /api/v1/me/notices": Route(ACCOUNTS),
    "POST /api/v1/me/notices/read": Route(ACCOUNTS, 204, {"json": {"up_to": 1}}),
    # People
    "GET /api/v1/users": Route(ADMINS),
    "POST /api/v1/users": Route(ADMINS, 201, {"json": {"login": "{new}"}}),
    "GET /api/v1/users/{user}": Route(ADMINS),
    "DELETE /api/v1/users/{user}": Route(ADMINS, 204),
    "GET /api/v1/users/{user}/tokens": Route(ADMINS),
    "POST /api/v1/users/{user}/tokens": Route(ADMINS, 201, TOKEN),
    "DELETE /api/v1/users/{user}/tokens/{token}": Route(ADMINS, 204),
    "GET /api/v1/audit": Route(ADMINS),
    # Courses
    "GET /api/v1/courses": Route(SIGNED_IN),
    "POST /api/v1/courses": Route(ADMINS, 201, {"json": {"id": "{new}", "title": "New"}}),
    f"GET {C}": Route(IN_COURSE),
    f"GET {C}/members": Route(INSTRUCTORS),
    f"PUT {C}/members/{{login}}": Route(INSTRUCTORS, 200, {"json": {"role": "grader"}}),
    f"DELETE {C}/members/{{login}}": Route(INSTRUCTORS, 204),
    f"POST {C}/roster": Route(INSTRUCTORS, 200, {"files": {"file": ("roster.csv", b"login\nnora\n")}}),
    f"POST {C}/tokens": Route(COURSE_ADMINS, 201, {"json": {}}),
    f"GET {C}/audit": Route(INSTRUCTORS),
    # Assignments
    "GET /api/v1/assignments": Route(SIGNED_IN),
    "POST /api/v1/assignments": Route(INSTRUCTORS, 201, {"data": {"course": COURSE, "id": "{new}", "pack": "ddpm"}}),
    f"GET {A}": Route(IN_COURSE),
    f"GET {A}/starter.{{suffix}}": Route(IN_COURSE),
    f"GET {A}/terms": Route(IN_COURSE),
    f"POST {A}/submissions": Route(IN_COURSE, 202, FILE),
    f"GET {A}/policy": Route(GRADERS),
    f"PUT {A}/policy": Route(INSTRUCTORS, 200, {"json": {"policy": {}, "reason": "it is easier"}}),
    f"POST {A}/versions": Route(INSTRUCTORS, 200, {"data": {"pack": "ddpm", "reason": "because"}}),
    f"POST {A}/pause": Route(INSTRUCTORS, 200, REASON),
    f"POST {A}/resume": Route(INSTRUCTORS),
    f"PUT {A}/grades-published": Route(INSTRUCTORS, 200, {"json": {"published": True}}),
    f"GET {A}/extensions": Route(GRADERS),
    f"PUT {A}/extensions/{{login}}": Route(INSTRUCTORS, 200, REASON),
    f"GET {A}/grades": Route(GRADERS),
    f"GET {A}/grades.csv": Route(GRADERS),
    f"GET {A}/grade": Route("401   = 404   =   =   = 403"),
    f"GET {A}/requests": Route(GRADERS),
    f"POST {A}/bulk": Route(INSTRUCTORS, 200, {"files": {"files": ("stella.py", b"x = 0")}}),
    # Submissions
    f"GET {S}": Route(IN_COURSE),
    f"POST {S}/cancel": Route(IN_COURSE),
    f"GET {S}/hand-in": Route(IN_COURSE),
    f"GET {S}/report": Route(IN_COURSE, NO_REPORT),
    f"GET {S}/report.html": Route(IN_COURSE, NO_REPORT),
    f"GET {S}/report/gradescope.json": Route(IN_COURSE, NO_REPORT),
    f"GET {S}/report/junit.xml": Route(IN_COURSE, NO_REPORT),
    f"GET {S}/images/{{name}}": Route(IN_COURSE),
    f"GET {S}/hints": Route(IN_COURSE),
    f"POST {S}/hints/{{blank}}": Route(AUTHOR),
    f"GET {S}/events": Route(IN_COURSE),
    "GET /submissions/{submission}": Route(IN_COURSE),
    "GET /submissions/{submission}/hints": Route(IN_COURSE),
    "POST /submissions/{submission}/hints/{blank}": Route(AUTHOR, 303),
    # Work by hand
    f"GET {S}/review": Route(IN_COURSE),
    f"POST {S}/overrides": Route(GRADERS, 201, {"json": {"blank": "alphas", "points": 0, "reason": "because"}}),
    f"POST {S}/overrides/{{override}}/withdraw": Route(GRADERS, 200, REASON),
    f"POST {S}/comments": Route(GRADERS, 201, BODY),
    f"PUT {S}/flags/{{flag}}": Route(INSTRUCTORS, 200, {"json": {"confirmed": True, "reason": "because"}}),
    f"POST {S}/requests": Route(AUTHOR, 201, BODY),
    f"POST {S}/requests/{{request}}/replies": Route(IN_COURSE, 201, BODY),
    f"POST {S}/requests/{{request}}/close": Route(GRADERS, 200, BODY),
    # Regrades
    f"POST {A}/regrades/plan": Route(INSTRUCTORS, 200, REGRADE),
    f"POST {A}/regrades": Route(INSTRUCTORS, 202, REGRADE),
    f"GET {A}/regrades": Route(INSTRUCTORS),
    "GET /api/v1/regrades/{regrade}": Route(INSTRUCTORS),
    "GET /api/v1/regrades/{regrade}/diff": Route(INSTRUCTORS),
    "GET /api/v1/regrades/{regrade}/diff.csv": Route(INSTRUCTORS),
    "GET /api/v1/regrades/{regrade}/diff.html": Route(INSTRUCTORS),
    "POST /api/v1/regrades/{regrade}/{verb}": Route(INSTRUCTORS),
    # Operations
    "GET /metrics": Route(ADMINS),
    "GET /api/v1/workers": Route(ADMINS),
    "PUT /api/v1/workers/draining": Route(ADMINS, 200, {"params": {"draining": "true"}}),
    f"GET {A}/faults": Route(GRADERS),
}
CHANGING = [name for name in TABLE if not name.startswith("GET") and name not in ("POST /login", "POST /logout")]


class World:
    """A course with everybody in it, and new things for the placeholders of each request."""

    def __init__(self, store):
        self._store = store
        self._numbers = itertools.count()
        self.classroom = Classroom(store)
        self._manual = Manual(store.database)
        user = self.classroom.user
        self.ids = {
            "student": user("stella", COURSE),
            "outsider": user("otto", OTHER),
            "grader": user("greta", COURSE, Role.GRADER),
            "instructor": user("ines", COURSE, Role.INSTRUCTOR),
            "admin": user("astrid", is_admin=True),
        }
        self._headers = {role: self.classroom.headers(user_id) for role, user_id in self.ids.items()}
        self._headers |= {"anonymous": {}, "operator": bearer(SERVER_TOKEN)}
        self.classroom.hand_in(self.ids["student"])  # so that there is something to regrade

    def ask(self, client, name, role, headers=None):
        """The status of the answer to one request with new things in it."""
        route = TABLE[name]
        method, path = name.split(" ")
        values = {}
        for placeholder in re.findall(r"{(\w+)}", path):
            made = route.values.get(placeholder)
            values[placeholder] = made if made is not None else getattr(self, placeholder)(role, values)
        new = f"new-{next(self._numbers)}"
        sent = {
            kind: {key: new if value == "{new}" else value for key, value in content.items()}
            for kind, content in route.sent.items()
        }
        headers = self._headers[role] if headers is None else headers
        with client.stream(method, path.format(**values), headers=headers, **sent) as answer:  # events do not end
            return answer.status_code

    def assignment(self, role, values):
        return ASSIGNMENT

    def course(self, role, values):
        return COURSE

    def suffix(self, role, values):
        return "py"

    def blank(self, role, values):
        return "alphas"

    def name(self, role, values):
        return "grid.png"

    def flag(self, role, values):
        return "odd"

    def verb(self, role, values):
        return "discard"

    def login(self, role, values):
        login = f"member-{next(self._numbers)}"
        self.classroom.user(login, COURSE)
        return login

    def user(self, role, values):
        return self.classroom.user(f"user-{next(self._numbers)}")

    def token(self, role, values):
        owner = values.get("user") or self.ids.get(role, self.ids["student"])
        return self.classroom.tokens.issue(None, owner, "test", [Scope.READ]).token.id

    def submission(self, role, values):
        """The student's, with an image and a flag."""
        made = self.classroom.hand_in(self.ids["student"], f"x = {next(self._numbers)}\n".encode())
        with self._store.database.write() as session:
            grading = session.scalars(select(Grading.id).where(Grading.submission_id == made)).one()
            session.execute(update(Grading).where(Grading.id == grading).values(outcome={"flags": ["odd"]}))
            image = self._store.blobs.put(b"image")
            session.add(Artifact(grading_id=grading, name="grid.png", media_type="image/png", sha256=image))
        return made

    def override(self, role, values):
        self._manual.override(None, values["submission"], "alphas", 0, "because")
        return self._manual.of(values["submission"]).overrides[-1].id

    def request(self, role, values):
        self._manual.request(self.ids["student"], values["submission"], None, "Please look.")
        return self._manual.of(values["submission"]).requests[-1].id

    def regrade(self, role, values):
        with self._store.database.write() as session:
            regrade = Regrade(
                assignment_id=ASSIGNMENT,
                version_id=session.get_one(Assignment, ASSIGNMENT).version_id,
                mode=Mode.RECHECK,
                selection={},
                reason="because",
                created_at=utc_now(),
            )
            session.add(regrade)
            session.flush()
            return regrade.id


@pytest.fixture(scope="module")
def world(store):
    return World(store)


@pytest.fixture(scope="module")
def guarded(settings, world):
    with running_api(settings.model_copy(update={"api_token": SecretStr(SERVER_TOKEN)})) as client:
        yield client


def test_every_route_is_in_the_table(settings):
    found = {
        f"{method} {route.path}"
        for route in iter_route_contexts(create_app(settings).routes)
        for method in getattr(route, "methods", None) or ()
        if method != "HEAD"
    }
    assert sorted(found - TABLE.keys()) == [], "routes that nobody says who may use: add them to TABLE"
    assert sorted(TABLE.keys() - found) == [], "lines of TABLE without a route"


@pytest.mark.threat(47)
@pytest.mark.parametrize("name", TABLE)
def test_everybody_may_do_what_the_table_says(guarded, world, name):
    expected = TABLE[name].expected()
    assert {role: world.ask(guarded, name, role) for role in ROLES} == expected


@pytest.mark.parametrize("name", CHANGING)
def test_nothing_is_changed_with_a_token_for_reading(guarded, world, name):
    for role in ("student", "instructor", "admin"):
        headers = world.classroom.headers(world.ids[role], Scope.READ)
        assert world.ask(guarded, name, role, headers) == 403


@pytest.mark.parametrize("name", [*CHANGING, "POST /login", "POST /logout"])
def test_nothing_is_changed_from_another_sites_page(guarded, world, name):
    token = world.classroom.token(world.ids["admin"])
    cookie = {"Cookie": f"noisemark_session={world.classroom.tokens.open_session(token).secret}"}
    for headers in (cookie, bearer(SERVER_TOKEN)):
        assert world.ask(guarded, name, "student", headers | {"Sec-Fetch-Site": "cross-site"}) == 403
