import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from services import ROOT, environment
from sqlalchemy import inspect, text

from records.blobs import BlobStore
from records.database import Database
from records.migrate import check, downgrade, is_current, migrate, prepare
from records.models import Assignment
from records.queue import Queue
from records.submissions import Submissions
from reference.pack import load_pack


@pytest.fixture
def database(settings):
    opened = Database(settings.database)
    yield opened
    opened.close()


def test_up_down_and_up_again_and_models_match(database):
    assert not is_current(database)
    migrate(database)
    assert is_current(database)
    check(database)
    downgrade(database, "base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    assert not is_current(database)
    migrate(database)
    migrate(database)
    check(database)


def test_several_processes_may_migrate_at_once(settings):
    command = [sys.executable, "-m", "records.migrate"]
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(subprocess.run, command, env=environment(settings), cwd=ROOT, check=True) for _ in range(3)]
        for run in runs:
            run.result()
    database = Database(settings.database)
    assert is_current(database)
    database.close()


def test_what_was_handed_in_before_there_were_courses_stays(database, settings):
    migrate(database, "0002")
    now = "2026-03-02 10:15:30"
    with database.engine.begin() as connection:
        for number, state in enumerate(("done", "queued"), start=1):
            values = {"id": f"{number:032}", "receipt": f"r{number}", "sha256": "a" * 64, "now": now}
            connection.execute(
                text(
                    "INSERT INTO submissions (id, assignment, file_name, sha256, size, created_at, receipt) "
                    "VALUES (:id, 'ddpm', 'a.py', :sha256, 5, :now, :receipt)"
                ),
                values,
            )
            done = {"report": "b" * 64, "finished": now, "version": "c" * 64} if state == "done" else {}
            connection.execute(
                text(
                    "INSERT INTO gradings (submission_id, recipe, pack_version, state, attempts, created_at, "
                    "available_at, finished_at, report_sha256, html_sha256) VALUES "
                    "(:id, 'digits16', :version, :state, 1, :now, :now, :finished, :report, :report)"
                ),
                {"id": values["id"], "state": state, "now": now, "version": None, "finished": None, "report": None}
                | done,
            )
            connection.execute(
                text("INSERT INTO events (grading_id, type, data, created_at) VALUES (:number, 'queued', '{}', :now)"),
                {"number": number, "now": now},
            )
    prepare(settings)
    submissions = Submissions(database, BlobStore(settings.blob_dir), b"key")
    old = submissions.get(f"{1:032}")
    assert (old.receipt, old.grading.state, old.grading.report_sha256) == ("r1", "done", "b" * 64)
    assert len(submissions.events(old.grading, after=0, limit=9)) == 1
    lease = Queue(database, settings).claim("worker")  # what waited is graded
    assert lease.submission_id == f"{2:032}"
    with database.read() as session:
        assert session.get_one(Assignment, "ddpm").version_id == load_pack("ddpm").version
    downgrade(database, "0002")
    with database.engine.connect() as connection:
        assert connection.scalar(text("SELECT COUNT(*) FROM submissions")) == 2
        assert connection.scalar(text("SELECT pack_version FROM gradings WHERE state = 'done'")) == "c" * 64
