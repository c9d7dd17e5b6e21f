"""`noisemark grades` against the real API."""

import pytest
from classroom import ASSIGNMENT, COURSE, Classroom
from services import open_store, running_api

from cli.main import main
from records.models import Role
from records.settings import Settings


@pytest.fixture
def server(tmp_path, monkeypatch):
    settings = Settings(data_dir=tmp_path / "var", redis_url="memory://")
    with open_store(settings) as store, running_api(settings) as client:
        classroom = Classroom(store)
        classroom.user("ada", COURSE)
        monkeypatch.setenv("NOISEMARK_SERVER", str(client.base_url).rstrip("/"))
        monkeypatch.chdir(tmp_path)
        yield classroom


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code or 0


def test_are_written_to_a_file_or_printed(server, tmp_path, capsys, monkeypatch):
    grader = server.user("grader", COURSE, Role.GRADER)
    monkeypatch.setenv("NOISEMARK_TOKEN", server.token(grader))
    assert run("grades", ASSIGNMENT, "--format", "moodle", "-o", "grades.csv") == 0
    content = (tmp_path / "grades.csv").read_bytes()
    assert content.startswith(b"Username,")
    assert b"ada" in content
    capsys.readouterr()
    assert run("grades", ASSIGNMENT, "--format", "moodle") == 0
    assert capsys.readouterr().out.splitlines() == content.decode().splitlines()


def test_are_for_staff(server, capsys, monkeypatch):
    monkeypatch.setenv("NOISEMARK_TOKEN", server.token(server.user("ada")))
    assert run("grades", ASSIGNMENT) == 2
    assert "role 'grader'" in " ".join(capsys.readouterr().err.split())
