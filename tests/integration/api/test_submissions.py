"""Handing in: what a receipt promises, and what is refused."""

import hashlib
import io
import threading
import zipfile
from datetime import UTC, datetime

import pytest
from services import running_api

from records.models import utc_now
from records.settings import Settings

PATH = "/api/v1/assignments/ddpm/submissions"
MODULE = b"alphas = 1 - betas\n"


def hand_in(api, name="answers.py", content=MODULE, **arguments):
    return api.post(PATH, files={"files": (name, content)}, **arguments)


@pytest.mark.threat(52)
def test_a_receipt_means_that_bytes_and_row_are_on_disk(api, settings, store):
    before = utc_now()
    response = hand_in(api)
    body = response.json()
    assert response.status_code == 202
    sha256 = hashlib.sha256(MODULE).hexdigest()
    assert body["receipt"]["sha256"] == sha256
    assert (settings.blob_dir / sha256[:2] / sha256).read_bytes() == MODULE
    found = store.submissions.get(body["id"])
    assert (found.receipt, found.sha256, found.grading.state) == (body["receipt"]["code"], sha256, "queued")
    assert before <= datetime.fromisoformat(body["receipt"]["received_at"]).astimezone(UTC) <= utc_now()
    assert response.headers["location"] == body["links"]["self"]
    assert api.get(body["links"]["self"]).json() == body


def test_is_accepted_although_the_broker_is_gone(api):
    assert hand_in(api).json()["state"] == "queued"
    ready = api.get("/readyz")
    assert ready.status_code == 503
    assert [line.split(":")[0] for line in ready.json()["missing"]] == ["broker"]


def test_comes_back_byte_for_byte(api):
    content = bytes(range(1, 256))
    body = hand_in(api, "tränen.py", content).json()
    response = api.get(body["links"]["hand_in"])
    assert response.content == content
    assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''tr%C3%A4nen.py"
    assert response.headers["content-type"] == "application/octet-stream"


def test_several_modules_are_one_submission(api):
    files = [("files", ("b.py", b"y = 2\n")), ("files", ("a.py", b"x = 1\n"))]
    body = api.post(PATH, files=files).json()
    assert body["file_name"] == "hand-in.zip"
    with zipfile.ZipFile(io.BytesIO(api.get(body["links"]["hand_in"]).content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"a.py": b"x = 1\n", "b.py": b"y = 2\n"}


@pytest.mark.threat(51)
def test_the_same_key_is_the_same_submission(api):
    headers = {"Idempotency-Key": "3f2b8c1e-0d55-4a57-9a4e-6d2a6f3b7c10"}
    first, second = (hand_in(api, headers=headers) for _ in range(2))
    assert (first.headers["idempotent-replayed"], second.headers["idempotent-replayed"]) == ("false", "true")
    assert first.json()["id"] == second.json()["id"]
    assert hand_in(api).json()["id"] != first.json()["id"]


@pytest.mark.threat(51)
def test_the_same_key_at_the_same_moment_is_the_same_submission(api):
    headers = {"Idempotency-Key": "at-the-same-moment"}
    answers = []
    barrier = threading.Barrier(8)

    def send():
        barrier.wait()
        answers.append(hand_in(api, headers=headers))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.threat(51)
@pytest.mark.parametrize(
    "change", [{"content": b"x = 2\n"}, {"name": "other.py"}, {"data": {"recipe": "mnist16"}}], ids=str
)
def test_the_same_key_with_something_else_is_refused_and_tells_nothing(api, change):
    headers = {"Idempotency-Key": f"key-for-{change!r:.60}"}
    first = hand_in(api, headers=headers).json()
    refusal = hand_in(api, headers=headers, **change)
    assert refusal.status_code == 422
    assert refusal.json()["type"] == "urn:noisemark:problem:idempotency-key-reused"
    assert first["id"] not in refusal.text


def bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.py", b"#" * 50_000_000)
    return file.getvalue()


REFUSED = [
    ("answers.py", b"", 422, "is empty"),
    ("answers.docx", b"x", 422, "neither .py nor .ipynb nor .zip"),
    ("answers.zip", b"x = 1", 422, "not a zip archive"),
    ("answers.zip", bomb(), 422, "a.py"),
    ("answers.py", b"#" * 200_000, 413, "At most"),
]


@pytest.mark.threat(41, 43)
@pytest.mark.parametrize(("name", "content", "status", "words"), REFUSED, ids=[f"{row[0]}-{row[3]}" for row in REFUSED])
def test_what_is_refused_is_refused_in_words(api, name, content, status, words):
    response = hand_in(api, name, content)
    assert response.status_code == status
    assert_problem(response, words)


@pytest.mark.threat(50)
def test_a_body_that_does_not_say_its_length_is_cut_off_too(api):
    def endless():
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.py"\r\n\r\n'
        for _ in range(1000):
            yield b"#" * 1000

    response = api.post(PATH, content=endless(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert response.status_code == 413
    assert_problem(response, "At most")


@pytest.mark.threat(47, 49, 50)
@pytest.mark.parametrize(
    ("method", "path", "arguments", "status", "words"),
    [
        ("GET", "/api/v1/assignments/gan", {}, 404, "There are: ddpm"),
        ("POST", "/api/v1/assignments/gan/submissions", {"files": {"files": ("a.py", MODULE)}}, 404, "There are: ddpm"),
        ("GET", "/api/v1/assignments/ddpm/starter.docx", {}, 422, "suffix"),
        ("POST", PATH, {}, 422, "files"),
        ("POST", PATH, {"data": {"recipe": "digits16"}}, 422, "files"),
        ("POST", PATH, {"files": {"files": ("a.py", MODULE)}, "data": {"recipe": "imagenet"}}, 422, "digits16"),
        ("POST", PATH, {"files": {"files": ("a.py", MODULE)}, "headers": {"Idempotency-Key": "1"}}, 422, "16 char"),
        ("POST", PATH, {"files": [("files", (f"a{n}.py", MODULE)) for n in range(51)]}, 422, "too many"),
        ("POST", PATH, {"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 422, ""),
        ("DELETE", PATH, {}, 405, "Method Not Allowed"),
        ("GET", "/api/v2", {}, 404, "Not Found"),
        ("POST", PATH, {"files": {"files": ("a.py", MODULE)}, "headers": {"Sec-Fetch-Site": "cross-site"}}, 403, ""),
    ],
)
def test_every_error_has_one_shape(api, method, path, arguments, status, words):
    response = api.request(method, path, **arguments)
    assert response.status_code == status
    assert_problem(response, words)


def test_a_last_event_id_is_a_number(api, store):
    events = f"/api/v1/submissions/{store.hand_in()}/events"
    response = api.get(events, headers={"Last-Event-ID": "yesterday"})
    assert response.status_code == 422
    assert_problem(response, "last-event-id")


def assert_problem(response, words):
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["content-security-policy"]
    body = response.json()
    assert body["type"].startswith("urn:noisemark:problem:")
    assert (body["status"], bool(body["title"])) == (response.status_code, True)
    assert words in body["detail"]
    assert "Traceback" not in response.text


def test_a_fault_of_ours_tells_no_traceback(tmp_path):
    settings = Settings(data_dir=tmp_path, redis_url="redis+socket:///nonexistent/redis.sock")  # never migrated
    with running_api(settings) as api:
        assert api.get("/readyz").json()["missing"][0].startswith("database")
        response = hand_in(api)
        assert response.status_code == 500
        assert_problem(response, "Something of ours failed")
        assert "sqlite" not in response.text.lower()


@pytest.mark.threat(47)
def test_a_token_is_asked_for_where_there_is_one(tmp_path, settings, store):
    guarded = settings.model_copy(update={"api_token": Settings(api_token="t" * 20).api_token})
    submission = store.hand_in()
    with running_api(guarded) as api:
        for path in ("/", "/api/v1/assignments", f"/api/v1/submissions/{submission}", f"/submissions/{submission}"):
            assert api.get(path).status_code == 401
            assert api.get(path, headers={"Authorization": "Bearer " + "u" * 20}).status_code == 401
            assert api.get(path, params={"token": "t" * 20}).status_code == 401
            assert api.get(path, headers={"Authorization": "Bearer " + "t" * 20}).status_code == 200
            assert api.get(path, auth=("anybody", "t" * 20)).status_code == 200
        refusal = hand_in(api)
        assert_problem(refusal, "token")
        assert refusal.headers["www-authenticate"].startswith("Basic")
        assert api.get("/healthz").status_code == 200
