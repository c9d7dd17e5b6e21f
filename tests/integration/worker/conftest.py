import pytest
from services import open_store, running_api, running_redis, running_worker

from records.settings import Settings


@pytest.fixture(scope="session")
def redis_url():
    with running_redis() as (url, _):
        yield url


@pytest.fixture(scope="module")
def settings(tmp_path_factory, redis_url):
    return Settings(
        data_dir=tmp_path_factory.mktemp("var"),
        redis_url=redis_url,
        secret_key="known to API and worker only",
        backoff_seconds=0,
        # A worker that only polled would take minutes: what is quick here was woken.
        poll_seconds=300,
    )


@pytest.fixture(scope="module")
def store(settings):
    with open_store(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def api(settings, store):
    with running_api(settings) as client:
        yield client


@pytest.fixture(scope="module")
def worker(settings, store):
    with running_worker(settings) as process:
        yield process
