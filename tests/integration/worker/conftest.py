import pytest
from services import open_store, running_api, running_redis

from records.settings import Settings


@pytest.fixture(scope="session")
def redis_url():
    with running_redis() as (url, _):
        yield url


@pytest.fixture
def settings(tmp_path, redis_url):
    # A worker that only polled would take minutes: what is quick here was woken.
    return Settings(data_dir=tmp_path / "var", redis_url=redis_url, backoff_seconds=0, poll_seconds=300, train=False)


@pytest.fixture
def store(settings):
    with open_store(settings) as opened:
        yield opened


@pytest.fixture
def api(settings, store):
    with running_api(settings) as client:
        yield client
