"""Backup and restore, erasing, retention, and blobs that nothing names. On both databases."""

import os
import sys
import time
from datetime import timedelta

import pytest
from services import fresh_database, open_store
from sqlalchemy import func, select

from records.backup import BackupError, backup, restore
from records.blobs import BlobError
from records.models import Base, Role, Submission, User, utc_now
from records.people import People
from records.queue import NewArtifact, NewEvent, Result
from records.settings import Settings
from records.submissions import HandedIn
from records.upkeep import Upkeep, main

DAY = 24 * 3600


@pytest.fixture
def upkeep(store):
    return Upkeep(store.database, store.blobs)


@pytest.fixture
def graded(store):
    """Two students, each with a graded hand-in: login -> submission."""
    people = People(store.database)
    found = {}
    for login in ("ada", "ben"):
        user = people.add_user(None, login, login.title())
        people.set_role(None, "open", login, Role.STUDENT)
        handed_in = HandedIn(
            assignment="ddpm", recipe="digits16", file_name="a.py", content=login.encode(), user_id=user.id
        )
        found[login] = store.submissions.take_in(handed_in).submission.id
        lease = store.queue.claim("worker")
        store.queue.record(lease, [NewEvent(type="stage_started", data={"stage": "check"})])
        png = NewArtifact(name="grid.png", media_type="image/png", sha256=store.blobs.put(f"{login} png".encode()))
        report, html = store.blobs.put(f"{login} report".encode()), store.blobs.put(f"{login} page".encode())
        store.queue.finish(lease, Result(report_sha256=report, html_sha256=html, artifacts=(png,), outcome={}))
    return found


def rows(store):
    with store.database.read() as session:
        return {
            table.name: session.scalar(select(func.count()).select_from(table)) for table in Base.metadata.sorted_tables
        }


def age(store, days):
    for path in store.blobs._root.glob("*/*"):
        os.utime(path, (time.time() - days * DAY,) * 2)


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_a_backup_brings_everything_back_also_into_the_other_database(store, graded, tmp_path, target, request):
    file = tmp_path / "backup.tar"
    assert backup(store.settings, file)[0] == sum(rows(store).values())
    assert file.stat().st_mode & 0o077 == 0
    fresh = {"data_dir": tmp_path / "restored"}
    if target == "postgresql":
        name = "from_sqlite" if store.settings.database_url is None else "from_postgresql"
        with fresh_database(request.getfixturevalue("postgres"), name) as url:
            _assert_restored(Settings(database_url=url, **fresh), file, store, graded)
    else:
        _assert_restored(Settings(**fresh), file, store, graded)


def _assert_restored(settings, file, store, graded):
    before = rows(store)
    restore(settings, file)
    with open_store(settings) as restored:
        assert rows(restored) == before
        for login, submission in graded.items():
            old, new = (side.submissions.get(submission) for side in (store, restored))
            assert (new.created_at, new.receipt, new.grading.finished_at) == (
                old.created_at,
                old.receipt,
                old.grading.finished_at,
            )
            assert restored.submissions.content(new) == login.encode()
            assert restored.blobs.get(new.grading.report_sha256) == f"{login} report".encode()
        again = restored.hand_in(b"goes on")  # ids go on where they were
        assert restored.state(again) == "queued"
    with pytest.raises(BackupError, match="not empty"):
        restore(settings, file)


@pytest.mark.parametrize(("there", "instead"), [(b"ada report", b"eve report"), (b'"login": "ada"', b'"login": "eve"')])
def test_a_damaged_backup_changes_nothing(store, graded, tmp_path, there, instead):
    file = tmp_path / "backup.tar"
    backup(store.settings, file)
    content = file.read_bytes()
    assert there in content
    file.write_bytes(content.replace(there, instead))
    with pytest.raises(BackupError, match="damaged"):
        restore(Settings(data_dir=tmp_path / "restored"), file)
    assert [path for path in (tmp_path / "restored").rglob("*") if path.is_file()] == []
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(BackupError, match="not restored"):
        restore(Settings(data_dir=tmp_path / "elsewhere"), file)


def test_a_backup_is_a_file(store, tmp_path):
    with pytest.raises(BackupError, match="is a folder"):
        backup(store.settings, tmp_path)


def test_a_backup_that_fails_leaves_the_last_one(store, graded, tmp_path):
    file = tmp_path / "backup.tar"
    file.write_bytes(b"the last one")
    sha256 = store.submissions.get(graded["ada"]).sha256
    store.blobs.remove(sha256, time.time() + DAY)
    with pytest.raises(BackupError, match=sha256):
        backup(store.settings, file)
    assert file.read_bytes() == b"the last one"
    assert [path.name for path in tmp_path.iterdir() if "draft" in path.name] == []


def test_only_old_blobs_that_nothing_names_go(store, graded, upkeep):
    lost = store.blobs.put(b"of an intake that was killed")
    assert upkeep.collect() == 0  # its row may still come
    age(store, 2)
    again = store.blobs.put(b"of an intake that was killed")
    assert upkeep.collect() == 0  # stored again
    age(store, 2)
    assert upkeep.collect() == 1
    with pytest.raises(BlobError):
        store.blobs.get(lost)
    assert again == lost
    submission = store.submissions.get(graded["ada"])
    assert store.submissions.content(submission) == b"ada"
    assert store.blobs.get(submission.grading.report_sha256) == b"ada report"


def test_erasing_leaves_nothing_of_one_student_and_everything_of_the_others(store, graded, upkeep):
    assert upkeep.erase(None, "ada") == 1
    age(store, 2)
    upkeep.collect()
    assert store.submissions.get(graded["ada"]) is None
    contents = {store.blobs.get(sha256) for sha256 in store.blobs.all()}
    assert not any(content.startswith(b"ada") for content in contents)
    assert b"ben report" in contents
    with store.database.read() as session:
        assert "ada" not in {user.login for user in session.scalars(select(User))}
        assert session.scalars(select(Submission.id)).all() == [graded["ben"]]
    with pytest.raises(LookupError, match="ada"):
        upkeep.erase(None, "ada")


def test_what_is_older_than_it_may_be_kept_goes(store, graded):
    later = Upkeep(store.database, store.blobs, lambda: utc_now() + timedelta(days=400))
    assert later.retain(500) == 0
    assert later.retain(365) == 2
    assert store.submissions.get(graded["ben"]) is None


@pytest.fixture
def command(monkeypatch, capsys):
    """Calls `python -m records.upkeep` with settings and words: exit code, standard output, standard error."""

    def call(settings, *words):
        monkeypatch.setenv("NOISEMARK_DATA_DIR", str(settings.data_dir))
        if settings.database_url is not None:
            monkeypatch.setenv("NOISEMARK_DATABASE_URL", settings.database_url.get_secret_value())
        monkeypatch.setattr(sys, "argv", ["upkeep", *words])
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("days", ["0", "-5", "nan", "1e9"])
def test_nobody_removes_todays_hand_ins_by_a_slip(store, graded, command, days):
    code, _, error = command(store.settings, "retain", days, "--yes")
    assert (code, "days" in error) == (2, True)
    assert store.submissions.get(graded["ada"]) is not None


def test_what_would_go_is_counted_first(store, graded, command):
    with store.database.write() as session:
        session.get(Submission, graded["ada"]).created_at -= timedelta(days=3)
    code, told, _ = command(store.settings, "retain", "2")
    assert (code, told.split()[0], "--yes" in told) == (0, "1", True)
    assert store.submissions.get(graded["ada"]) is not None
    assert command(store.settings, "retain", "2", "--yes")[:2] == (0, "1 submissions removed\n0 blobs removed\n")
    assert (store.submissions.get(graded["ada"]), store.submissions.get(graded["ben"]) is None) == (None, False)


def test_a_database_that_is_not_there_is_said_in_one_line_and_not_made(command, tmp_path):
    nowhere = Settings(data_dir=tmp_path / "typo")
    code, _, error = command(nowhere, "collect")
    assert (code, error.count("\n")) == (2, 1)
    assert f"no database at {tmp_path / 'typo' / 'noisemark.db'}; NOISEMARK_DATA_DIR" in error
    with pytest.raises(BackupError, match=r"no database at .*NOISEMARK_DATA_DIR"):
        backup(nowhere, tmp_path / "backup.tar")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("content", "words"), [(b"", "records.migrate"), (b"no database" * 99, "cannot be used")])
def test_a_database_of_another_kind_is_said_in_one_line(command, tmp_path, content, words):
    (tmp_path / "noisemark.db").write_bytes(content)
    code, _, error = command(Settings(data_dir=tmp_path), "collect")
    assert (code, error.count("\n"), words in error) == (2, 1, True)
