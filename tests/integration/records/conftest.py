import itertools

import pytest
from services import fresh_database, open_store, running_postgres

from records.settings import Settings

_names = itertools.count()


@pytest.fixture(scope="session")
def postgres():
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request, tmp_path):
    """Settings for an empty database of each kind."""
    policy = {"data_dir": tmp_path, "backoff_seconds": 0, "max_attempts": 100}
    if request.param == "sqlite":
        yield Settings(**policy)
    else:
        server = request.getfixturevalue("postgres")
        with fresh_database(server, f"test_{next(_names)}") as url:
            yield Settings(database_url=url, **policy)


@pytest.fixture
def store(settings):
    with open_store(settings) as opened:
        yield opened
