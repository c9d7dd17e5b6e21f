import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from grading.archive import MAX_UPLOAD_BYTES
from records.settings import ConfigurationError, Settings, is_loopback, load_settings

SECRET = "s" * 16


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("NOISEMARK_")]:
        monkeypatch.delenv(name)


def test_defaults_are_for_this_machine(tmp_path):
    settings = load_settings(data_dir=tmp_path)
    assert is_loopback(settings.host)
    assert settings.database == f"sqlite:///{tmp_path / 'noisemark.db'}"
    assert settings.max_upload_bytes <= MAX_UPLOAD_BYTES


def test_postgresql_urls_get_the_installed_driver():
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        assert load_settings(database_url=f"{scheme}://host/db").database == "postgresql+psycopg://host/db"


@pytest.mark.parametrize("url", ["mysql://u:hidden@h/d", "postgresql+asyncpg://u:hidden@h/d", "hidden.db", ""])
def test_other_databases_are_refused_without_their_passwords(url):
    with pytest.raises(ConfigurationError, match=r"NOISEMARK_DATABASE_URL .*postgresql://") as refusal:
        load_settings(database_url=url)
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "grader.example.org"])
@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, ["NOISEMARK_SECRET_KEY", "NOISEMARK_API_TOKEN"]),
        ({"secret_key": SECRET}, ["NOISEMARK_API_TOKEN"]),
        ({"api_token": SECRET}, ["NOISEMARK_SECRET_KEY"]),
        ({"secret_key": SECRET, "api_token": SECRET, "sandbox": "none"}, ["NOISEMARK_SANDBOX"]),
    ],
)
def test_refuses_unsafe_defaults_where_others_can_reach_it(host, given, missing):
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(host=host, **given)
    assert [name for name in missing if name not in str(refusal.value)] == []
    assert f"NOISEMARK_HOST={host}" in str(refusal.value)
    load_settings(host="localhost", **given)


def test_serves_others_with_explicit_secrets():
    assert load_settings(host="0.0.0.0", secret_key=SECRET, api_token=SECRET).host == "0.0.0.0"


def test_faults_name_the_variable_and_hide_the_value(monkeypatch):
    monkeypatch.setenv("NOISEMARK_PORT", "tomorrow")
    monkeypatch.setenv("NOISEMARK_SANDBOX", "chroot")
    with pytest.raises(ConfigurationError, match=r"(?s)NOISEMARK_PORT: .*NOISEMARK_SANDBOX: ") as refusal:
        load_settings()
    assert "tomorrow" not in str(refusal.value)


def test_secrets_are_long_and_do_not_show_in_the_refusal():
    with pytest.raises(ConfigurationError, match="shorter than") as refusal:
        load_settings(secret_key="hunter2")
    assert "hunter2" not in str(refusal.value)


def test_secrets_do_not_show(tmp_path):
    settings = Settings(data_dir=tmp_path, secret_key=SECRET, database_url="postgresql://u:pass@h/d")
    assert SECRET not in repr(settings)
    assert "pass" not in repr(settings)


def test_local_secret_is_made_once_and_is_private(tmp_path):
    with ThreadPoolExecutor(8) as pool:  # API and worker start at the same time
        keys = set(pool.map(lambda _: Settings(data_dir=tmp_path / "var").derived_key("seeds"), range(32)))
    assert len(keys) == 1
    path = tmp_path / "var" / "secret.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["secret.key"]


def test_keys_differ_by_purpose_and_secret():
    settings = Settings(secret_key=SECRET)
    assert settings.derived_key("seeds") != settings.derived_key("receipts")
    assert settings.derived_key("seeds") != Settings(secret_key="t" * 16).derived_key("seeds")
