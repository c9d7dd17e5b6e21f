import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from services import ROOT, environment
from sqlalchemy import inspect

from records.database import Database
from records.migrate import check, downgrade, is_current, migrate


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
