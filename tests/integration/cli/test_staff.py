"""course, roster, user and token against the real API."""

import csv

import pytest
from classroom import SERVER_TOKEN
from pydantic import SecretStr
from services import open_store, running_api
from structlog.testing import capture_logs

from cli.main import main
from records.settings import Settings


@pytest.fixture
def noisemark(tmp_path, monkeypatch, capsys):
    """Runs a command as the operator, or with another token; returns exit code, stdout and stderr."""
    settings = Settings(data_dir=tmp_path / "var", redis_url="memory://", api_token=SecretStr(SERVER_TOKEN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*arguments, token=SERVER_TOKEN):
        monkeypatch.setenv("NOISEMARK_TOKEN", token)
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return ended.value.code or 0, *capsys.readouterr()

    # The server's log would otherwise stand between the lines that the command prints
    with open_store(settings), running_api(settings) as client, capture_logs():
        monkeypatch.setenv("NOISEMARK_SERVER", str(client.base_url))
        yield run


def test_a_course_its_people_and_a_token(noisemark, tmp_path):
    assert noisemark("course", "create", "algebra", "Algebra I")[0] == 0
    (tmp_path / "roster.csv").write_text("login,name,role\nada,Ada,instructor\nbob,Bob,\n")
    code, out, err = noisemark("roster", "algebra", "roster.csv", "--dry-run")
    assert (code, out) == (0, "2 added: ada, bob\n0 unchanged\n")
    assert "Nothing was done" in err
    assert noisemark("roster", "algebra", "roster.csv")[1] == "2 added: ada, bob\n0 unchanged\n"
    code, token, err = noisemark("token", "create", "--for", "ada", "--scope", "read,submit,manage")
    assert (code, token[:3]) == (0, "nm_")
    assert "shown this once" in err
    ada = token.strip()
    assert noisemark("course", "list", token=ada)[1].splitlines() == [
        "algebra  instructor  Algebra I",
        "open     student     Open to everybody",
    ]
    (tmp_path / "roster.csv").write_text("login,name,role\nada,Ada,instructor\n")
    assert "1 missing from the file, and still in the course: bob" in noisemark("roster", "algebra", "roster.csv")[1]
    out = noisemark("roster", "algebra", "roster.csv", "--remove-missing", token=ada)[1]
    assert out == "1 removed: bob\n1 unchanged\n"


def test_a_whole_course_gets_tokens_but_nobody_a_second_one(noisemark, tmp_path):
    noisemark("course", "create", "algebra", "Algebra I")
    roster = tmp_path / "roster.csv"
    roster.write_text("login,name,email,role\nada,Ada,,instructor\nbob,=Bob,b@example.org,\ncem,Cem,,\n")
    noisemark("roster", "algebra", "roster.csv")
    noisemark("token", "create", "--for", "cem")
    code, _, err = noisemark("token", "hand-out", "algebra", "tokens.csv")
    assert code == 0, err
    (bob,) = csv.DictReader((tmp_path / "tokens.csv").read_text().splitlines())
    assert (bob["login"], bob["name"], bob["email"]) == ("bob", "'=Bob", "b@example.org")
    assert (tmp_path / "tokens.csv").stat().st_mode & 0o077 == 0
    assert noisemark("course", "list", token=bob["token"])[1].splitlines()[0] == "algebra  student  Algebra I"
    code, _, err = noisemark("token", "hand-out", "algebra", "tokens.csv")
    assert (code, "tokens.csv" in err, "exists" in err) == (2, True, True)
    with (tmp_path / "roster.csv").open("a") as more:
        more.write("dan,Dan,,\n")
    noisemark("roster", "algebra", "roster.csv")
    assert noisemark("token", "hand-out", "algebra", "more.csv")[0] == 0
    assert [row["login"] for row in csv.DictReader((tmp_path / "more.csv").read_text().splitlines())] == ["dan"]
    assert noisemark("token", "hand-out", "botany", "none.csv")[0] == 2
    assert not (tmp_path / "none.csv").exists()


def test_tokens_are_listed_and_revoked(noisemark):
    noisemark("user", "create", "ada", "--admin")
    every = noisemark("token", "create", "--for", "ada", "--scope", "read,submit,grade,manage,admin")[1].strip()
    laptop = noisemark("token", "create", "--name", "laptop", "--days", "7", token=every)[1].strip()
    listed = noisemark("token", "list", token=every)[1]
    number = next(line.split()[0] for line in listed.splitlines() if "laptop" in line)
    assert "read,submit " in listed
    assert "never used" in listed
    assert noisemark("course", "list", token=laptop)[0] == 0
    assert noisemark("token", "revoke", number, token=every)[0] == 0
    code, _, err = noisemark("course", "list", token=laptop)
    assert (code, "NOISEMARK_TOKEN" in err) == (2, True)


def test_erasing_asks_first(noisemark, monkeypatch):
    noisemark("user", "create", "ada")
    monkeypatch.setattr("typer.confirm", lambda *_, **__: pytest.fail("asked"))
    assert noisemark("user", "erase", "ada", "--yes")[0] == 0
    assert "no user 'ada'" in noisemark("user", "erase", "ada", "--yes")[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["roster", "algebra", "roster.csv"], "Line 3: There is no role 'dean'"),
        (["roster", "algebra", "missing.csv"], "missing.csv cannot be read"),
        (["roster", "botany", "roster.csv"], "There is no course 'botany'"),
        (["course", "create", "algebra", "Again"], "There is a course 'algebra' already"),
        (["course", "create", "Al gebra", "Title"], "body.id"),
        (["user", "create", "a b"], "'a b' is no login"),
        (["token", "create"], "belongs to nobody"),
        (["token", "create", "--for", "nobody"], "There is no user 'nobody'"),
        (["token", "revoke", "1"], "belongs to nobody"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_server_refuses_ends_with_2(noisemark, tmp_path, arguments, words):
    noisemark("course", "create", "algebra", "Algebra I")
    (tmp_path / "roster.csv").write_text("login,role\nada,\nbob,dean\n")
    code, out, err = noisemark(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert "Traceback" not in err
