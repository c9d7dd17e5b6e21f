import pytest
from services import Store, open_store, running_api

from records.settings import Settings

NO_BROKER = "redis+socket:///nonexistent/redis.sock"  # intake and reading need none


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("var"), redis_url=NO_BROKER, max_upload_bytes=100_000)


@pytest.fixture(scope="module")
def store(settings) -> Store:
    with open_store(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def api(settings, store):
    with running_api(settings) as client:
        yield client
