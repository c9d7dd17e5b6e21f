"""Who gets in: tokens, sessions, other sites' pages. What each may do then: test_access_matrix.py."""

import re
from datetime import timedelta

import httpx
import pytest
from classroom import ASSIGNMENT, COURSE, SERVER_TOKEN, Classroom, bearer
from pydantic import SecretStr
from services import open_store, running_api
from sqlalchemy import update

from api.tries import MOST
from records.models import Role, Token, utc_now
from records.settings import Settings
from records.tokens import Scope

ME = "/api/v1/me"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
NO_BROKER = "redis+socket:///nonexistent/redis.sock"


@pytest.fixture(scope="module")
def guarded(settings, store, classroom):
    """The same service with a token of its own, as it is when others can reach it."""
    with running_api(settings.model_copy(update={"api_token": SecretStr(SERVER_TOKEN)})) as client:
        yield client


@pytest.fixture(scope="module")
def classroom(store):
    return Classroom(store)


@pytest.fixture(scope="module")
def student(classroom):
    return classroom.user("stella", COURSE)


@pytest.fixture
def browser(guarded):
    """A browser of its own, which does not follow where it is led."""
    with httpx.Client(base_url=guarded.base_url, headers=BROWSER, trust_env=False) as client:
        yield client


def sign_in(browser, classroom, user, *scopes, **form):
    answer = browser.post("/login", data={"token": classroom.token(user, *scopes), **form})
    assert answer.status_code == 303
    return answer


def expire(store, user):
    past = utc_now() - timedelta(seconds=1)
    with store.database.write() as session:
        session.execute(update(Token).where(Token.user_id == user).values(expires_at=past))


# Who is who


def test_a_token_says_who_one_is(guarded, classroom, student):
    token = classroom.token(student, Scope.READ)
    by_bearer = guarded.get(ME, headers=bearer(token)).json()
    by_basic = guarded.get(ME, auth=("whoever", token)).json()
    assert by_bearer == by_basic
    assert (by_bearer["user"]["login"], by_bearer["scopes"]) == ("stella", ["read"])
    assert by_bearer["courses"] == {COURSE: "student"}
    assert by_bearer["is_admin"] is False


def test_the_servers_token_is_the_operators(guarded):
    answer = guarded.get(ME, headers=bearer(SERVER_TOKEN)).json()
    assert (answer["user"], answer["is_admin"]) == (None, True)


def test_without_a_token_of_its_own_the_server_is_for_its_own_machine(api):
    assert api.get(ME).json()["is_admin"] is True
    refusal = api.get(ME, headers={"Host": "noisemark.attacker.example"})  # a name that was made to lead here
    assert refusal.status_code == 401
    assert "127.0.0.1" in refusal.json()["detail"]
    assert api.get(ME, headers={"Host": "localhost:8000"}).status_code == 200


@pytest.mark.threat(47)
@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "X-Real-IP", "Via"])
def test_without_a_servers_token_nothing_that_came_through_a_proxy_is_the_operators(api, name):
    refusal = api.get(ME, headers={name: "127.0.0.1"})
    assert refusal.status_code == 401
    assert "NOISEMARK_API_TOKEN" in refusal.json()["detail"]


@pytest.mark.parametrize("server", ["api", "guarded"])
@pytest.mark.parametrize("credentials", ["wrong", "expired", "revoked", "erased", "empty", "not ours", "session"])
def test_a_token_that_is_none_is_refused_everywhere(request, server, credentials, classroom, store):
    client = request.getfixturevalue(server)
    user = classroom.user(f"tess-{server}-{credentials.replace(' ', '-')}")
    token = classroom.token(user)
    headers = bearer(token)
    assert client.get(ME, headers=headers).status_code == 200
    match credentials:
        case "wrong":
            headers = bearer(token[:-1] + ("a" if token[-1] != "a" else "b"))
        case "expired":
            expire(store, user)
        case "revoked":
            classroom.tokens.revoke(None, user, classroom.tokens.of_user(user)[0].id)
        case "erased":
            classroom.people.erase(None, user)
        case "empty":
            headers = {"Authorization": ""}
        case "not ours":
            headers = {"Authorization": "Negotiate abc"}
        case "session":
            headers = bearer(classroom.tokens.open_session(token).secret)
    refusal = client.get(ME, headers=headers)
    assert refusal.status_code == 401
    assert refusal.json()["type"] == "urn:noisemark:problem:unauthorized"
    assert refusal.headers["www-authenticate"].startswith("Basic")
    assert client.post(f"/api/v1/assignments/{ASSIGNMENT}/submissions", headers=headers).status_code == 401


def test_a_wrong_token_is_not_saved_by_a_session(browser, classroom, student):
    sign_in(browser, classroom, student)
    assert browser.get(ME).status_code == 200
    assert browser.get(ME, headers={"Accept": "*/*", **bearer("nm_wrong")}).status_code == 401


# Scopes


def test_a_scope_limits_what_a_role_allows(guarded, classroom):
    teacher = classroom.user("theo", COURSE, Role.INSTRUCTOR)
    members = f"/api/v1/courses/{COURSE}/members"
    one = f"{members}/theo"
    body = {"role": "instructor"}
    reading, grading, managing = (
        classroom.headers(teacher, *scopes)
        for scopes in ((Scope.READ,), (Scope.READ, Scope.GRADE, Scope.SUBMIT), (Scope.READ, Scope.MANAGE))
    )
    for headers in (reading, grading, managing):
        assert guarded.get(members, headers=headers).status_code == 200
    refused = [guarded.put(one, json=body, headers=headers) for headers in (reading, grading)]
    assert [answer.status_code for answer in refused] == [403, 403]
    assert "scope manage" in refused[1].json()["detail"]
    assert guarded.put(one, json=body, headers=managing).status_code == 200
    writing = classroom.headers(teacher, Scope.MANAGE)
    assert guarded.get(members, headers=writing).status_code == 403


def test_handing_in_and_hints_take_the_scope_submit(guarded, classroom, student):
    place = f"/api/v1/assignments/{ASSIGNMENT}/submissions"
    files = {"files": ("a.py", b"x = 3")}
    reading = classroom.headers(student, Scope.READ)
    submitting = classroom.headers(student, Scope.READ, Scope.SUBMIT)
    grading = classroom.headers(student, Scope.READ, Scope.GRADE)
    assert guarded.post(place, files=files, headers=reading).status_code == 403
    assert guarded.post(place, files=files, headers=grading).status_code == 403
    answer = guarded.post(place, files=files, headers=submitting)
    assert answer.status_code == 202
    hint = answer.json()["links"]["hints"] + "/alphas"
    assert [guarded.post(hint, headers=headers).status_code for headers in (reading, grading, submitting)] == [
        403,
        403,
        200,
    ]


def test_an_administrator_is_one_where_the_token_says_so(guarded, classroom):
    admin = classroom.user("astrid", is_admin=True)
    plain = classroom.headers(admin, Scope.READ, Scope.MANAGE)
    assert guarded.get("/api/v1/users", headers=plain).status_code == 403
    assert guarded.get(f"/api/v1/courses/{COURSE}", headers=plain).status_code == 404
    assert guarded.get("/api/v1/users", headers=classroom.headers(admin)).status_code == 200


def test_a_token_gives_on_no_more_than_it_has(guarded, classroom, student):
    headers = classroom.headers(student, Scope.READ, Scope.SUBMIT)
    asked = {"name": "more", "scopes": ["read", "admin"]}
    refusal = guarded.post("/api/v1/me/tokens", json=asked, headers=headers)
    assert (refusal.status_code, "admin" in refusal.json()["detail"]) == (403, True)
    same = guarded.post("/api/v1/me/tokens", json={"name": "same", "scopes": ["read"]}, headers=headers)
    assert same.status_code == 201
    assert guarded.post("/api/v1/me/tokens", json=asked, headers=bearer(same.json()["token"])).status_code == 403


# What belongs to whom


def test_a_hand_in_is_its_authors(guarded, classroom, student, store):
    headers = classroom.headers(student)
    answer = guarded.post(
        f"/api/v1/assignments/{ASSIGNMENT}/submissions", files={"files": ("a.py", b"x = 4")}, headers=headers
    ).json()
    assert store.submissions.get(answer["id"]).user_id == student
    other = classroom.headers(classroom.user("otto", COURSE))
    cancel = answer["links"].pop("cancel")  # the only one that is not for looking
    assert guarded.post(cancel, headers=other).status_code == 404
    for link in answer["links"].values():
        for sent, expected in ((headers, (200, 409)), (other, (404,))):
            with guarded.stream("GET", link, headers=sent) as answer:  # events do not end
                assert answer.status_code in expected


def test_nobody_improves_on_somebody_elses_work_or_meets_it_by_its_key(guarded, classroom, student):
    place, file = f"/api/v1/assignments/{ASSIGNMENT}/submissions", {"files": ("a.py", b"x = 5")}
    key = {"Idempotency-Key": "a-key-that-somebody-overheard"}
    own = classroom.headers(student) | key
    other = classroom.headers(classroom.user("otto", COURSE))
    first = guarded.post(place, files=file, headers=own).json()["id"]
    assert guarded.post(place, files=file, headers=own).json()["id"] == first
    met = guarded.post(place, files=file, headers=other | key)
    assert (met.status_code, first in met.text) == (422, False)
    improved = guarded.post(place, files=file, data={"improves_on": first}, headers=other)
    assert (improved.status_code, "no earlier submission" in improved.text) == (422, True)


def test_what_nobodys_name_is_on_is_for_whoever_knows_where_it_is(api, guarded, classroom, student):
    submission = classroom.hand_in(None, assignment="ddpm")
    link = f"/api/v1/submissions/{submission}"
    assert api.get(link).status_code == 200
    assert guarded.get(link, headers=classroom.headers(student)).status_code == 200
    assert guarded.get(link).status_code == 401


def test_assignments_are_listed_for_those_who_are_in_the_course(guarded, classroom, student):
    def listed(headers):
        return {entry["id"] for entry in guarded.get("/api/v1/assignments", headers=headers).json()}

    assert listed(classroom.headers(student)) == {"ddpm", ASSIGNMENT}
    assert listed(classroom.headers(classroom.user("nils"))) == {"ddpm"}
    assert listed(bearer(SERVER_TOKEN)) >= {"ddpm", ASSIGNMENT, "herbarium"}
    refusal = guarded.get(f"/api/v1/assignments/{ASSIGNMENT}", headers=classroom.headers(classroom.user("nils")))
    assert (refusal.status_code, "There are: ddpm." in refusal.json()["detail"]) == (404, True)
    page = guarded.get("/", headers=classroom.headers(classroom.user("nils"))).text
    assert f"/assignments/{ASSIGNMENT}/" not in page


def test_staff_looks_on_and_asks_for_no_hints_in_a_students_name(guarded, classroom, student):
    submission = classroom.hand_in(student, b"x = 6\n")
    grader = classroom.headers(classroom.user("greta", COURSE, Role.GRADER))
    assert guarded.get(f"/api/v1/submissions/{submission}", headers=grader).status_code == 200
    for place in (f"/api/v1/submissions/{submission}/hints/alphas", f"/submissions/{submission}/hints/alphas"):
        assert guarded.post(place, headers=grader).status_code == 403


# Browsers


def test_a_browser_signs_in_goes_on_and_signs_out(browser, classroom, student):
    led = browser.get(f"/submissions/{classroom.hand_in(student, b'x = 7')}?from=mail")
    assert led.status_code == 303
    page = browser.get(led.headers["location"])
    (place,) = re.findall(r'name="next" value="([^"]+)"', page.text)
    answer = sign_in(browser, classroom, student, next=place)
    assert str(led.url).endswith(answer.headers["location"])
    assert browser.get(answer.headers["location"]).status_code == 200
    assert "Stella" in browser.get("/login").text
    secret = browser.cookies["noisemark_session"]
    assert browser.post("/logout").headers["location"] == "/login"
    assert "noisemark_session" not in browser.cookies
    browser.cookies.set("noisemark_session", secret, domain=browser.base_url.host)
    assert browser.get(ME, headers={"Accept": "*/*"}).status_code == 401


def test_the_cookie_is_for_this_server_alone(browser, classroom, student):
    cookie = sign_in(browser, classroom, student).headers["set-cookie"]
    name, *flags = [part.strip().lower() for part in cookie.split(";")]
    assert name.startswith("noisemark_session=nm_")
    assert {"httponly", "samesite=lax", "path=/"} <= set(flags)
    (age,) = [int(flag.partition("=")[2]) for flag in flags if flag.startswith("max-age")]
    assert 0 < age <= 12 * 3600
    assert "secure" not in flags
    headers = {"X-Forwarded-Proto": "https"}
    secure = browser.post("/login", data={"token": classroom.token(student)}, headers=headers).headers["set-cookie"]
    assert "secure" in secure.lower()


def test_a_session_may_do_what_its_token_may(browser, classroom, student):
    sign_in(browser, classroom, student, Scope.READ)
    assert browser.get("/").status_code == 200
    answer = browser.post(f"/api/v1/assignments/{ASSIGNMENT}/submissions", files={"files": ("a.py", b"x = 8")})
    assert answer.status_code == 403


@pytest.mark.parametrize("token", ["", "nm_wrong", SERVER_TOKEN, "session"])
def test_signing_in_takes_a_token_of_ones_own(browser, classroom, student, token):
    if token == "session":
        token = classroom.tokens.open_session(classroom.token(student)).secret
    answer = browser.post("/login", data={"token": token, "next": "/submissions/1"})
    assert answer.status_code == (422 if not token else 401)
    assert "set-cookie" not in answer.headers
    if token:
        assert ("server&#39;s own" if token == SERVER_TOKEN else "not a token") in answer.text
        assert 'value="/submissions/1"' in answer.text
        assert token not in answer.text


@pytest.mark.parametrize("accept", [BROWSER["Accept"], "*/*"])
def test_a_session_that_is_over_leads_to_the_door(browser, classroom, store, accept):
    user = classroom.user(f"uma-{len(accept)}")
    sign_in(browser, classroom, user)
    expire(store, user)
    answer = browser.get("/", headers={"Accept": accept})
    if accept == "*/*":
        assert answer.status_code == 401
    else:
        assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/")
        assert "noisemark_session" not in browser.cookies


@pytest.mark.parametrize(
    "place",
    [
        "https://attacker.example/",
        "//attacker.example/",
        "///attacker.example",
        "/\\attacker.example",
        "\\\\attacker.example",
        "/\t/attacker.example",
        "/\n/attacker.example",
        "javascript:alert(1)",
        "attacker.example",
        "//[",
        "",
    ],
)
def test_after_signing_in_nobody_is_led_elsewhere(browser, classroom, student, place):
    assert sign_in(browser, classroom, student, next=place).headers["location"] == "/"
    assert "attacker" not in browser.get("/login", params={"next": place}).text


@pytest.mark.parametrize("place", ["/", "/submissions/5f0c", "/submissions/5f0c/hints?a=b%20c#alphas"])
def test_after_signing_in_one_goes_on_where_one_was(browser, classroom, student, place):
    assert sign_in(browser, classroom, student, next=place).headers["location"] == place


# Other sites' pages


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
    {"Origin": "https://attacker.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
]


@pytest.mark.threat(47)
@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_other_sites_pages_change_nothing(api, browser, classroom, student, headers):
    sign_in(browser, classroom, student)
    place, files = f"/api/v1/assignments/{ASSIGNMENT}/submissions", {"files": ("a.py", b"x = 9")}
    for client in (browser, api):  # by cookie, and as the operator of one's own machine
        refusal = client.post(place, files=files, headers=headers)
        assert (refusal.status_code, refusal.json()["type"]) == (403, "urn:noisemark:problem:cross-site")
    assert browser.delete("/api/v1/me/tokens/1", headers=headers).status_code == 403
    assert browser.post("/logout", headers=headers).status_code == 403
    assert browser.post("/login", data={"token": classroom.token(student)}, headers=headers).status_code == 403
    assert browser.get(ME).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "same-origin", "Origin": "null"}, {"Origin": "own"}, {}], ids=str
)
def test_our_own_pages_change_what_they_are_for(browser, classroom, student, headers):
    sign_in(browser, classroom, student)
    if headers.get("Origin") == "own":
        headers = {"Origin": str(browser.base_url).rstrip("/")}
    place, files = f"/api/v1/assignments/{ASSIGNMENT}/submissions", {"files": ("a.py", b"x = 10")}
    assert browser.post(place, files=files, headers=headers).status_code == 202


def test_our_pages_say_where_their_forms_come_from(browser):
    # With 'no-referrer' a browser sends 'Origin: null' along, which is how other sites' pages look.
    assert browser.get("/login").headers["referrer-policy"] == "same-origin"


def test_without_a_database_nothing_is_told(tmp_path):
    settings = Settings(data_dir=tmp_path, redis_url=NO_BROKER)  # never migrated
    with running_api(settings) as client:
        answer = client.get(ME, headers=bearer("nm_whatever"))
        assert answer.status_code == 500
        assert "sqlite" not in answer.text.lower()


def test_a_database_of_its_own_knows_nobody(tmp_path, classroom, student):
    settings = Settings(data_dir=tmp_path, redis_url=NO_BROKER)
    with open_store(settings), running_api(settings) as client:
        assert client.get(ME, headers=classroom.headers(student)).status_code == 401


def test_many_wrong_tokens_have_to_wait_and_a_right_one_does_not(store, settings, classroom, student):
    with running_api(settings.model_copy(update={"api_token": SecretStr(SERVER_TOKEN)})) as client:
        answers = [client.get(ME, headers=bearer(f"nm_{number}")) for number in range(MOST)]
        assert {answer.status_code for answer in answers} == {401}
        for refused in (client.get(ME, headers=bearer("nm_more")), client.post("/login", data={"token": "nm_more"})):
            assert (refused.status_code, refused.json()["type"]) == (429, "urn:noisemark:problem:too-many-tries")
            assert 0 < int(refused.headers["retry-after"]) <= 60
        assert client.get(ME, headers=bearer(SERVER_TOKEN)).status_code == 200
        assert client.get(ME, headers=bearer(classroom.token(student))).status_code == 200
        signed_in = client.post("/login", data={"token": classroom.token(student)}, follow_redirects=False)
        assert signed_in.status_code == 303
