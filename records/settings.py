"""Configuration by environment (`NOISEMARK_...`), the same for API, worker and scripts.

Names may also come as files of `/run/secrets` (`noisemark_secret_key`, ...), where container engines put secrets.
"""

import hmac
import ipaddress
import os
import secrets
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from records.models import Need

SECRETS_DIR = Path("/run/secrets")  # where Docker and Podman mount secrets
# What is there after `pip install`, and what the migrations are written for
DATABASES = ("sqlite", "sqlite+pysqlite", "postgres", "postgresql", "postgresql+psycopg")
MIN_SECRET = 16  # characters: 64 bits even when somebody writes hexadecimal digits


class ConfigurationError(Exception):
    """The environment asks for something that cannot be, or that is not safe. The message names the variable."""


class Settings(BaseSettings):
    """What an operator can set. Every default is right for one's own machine, and for nothing else."""

    model_config = SettingsConfigDict(
        env_prefix="NOISEMARK_", frozen=True, extra="ignore", secrets_dir=SECRETS_DIR if SECRETS_DIR.is_dir() else None
    )

    data_dir: Path = Path("var")  # database, blobs and the local secret lie below
    database_url: SecretStr | None = None  # None: SQLite in data_dir
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    host: str = "127.0.0.1"  # the address that the API listens on
    port: int = Field(default=8000, ge=0, le=65535)
    secret_key: SecretStr | None = None  # None: one of our own in data_dir, for local use
    api_token: SecretStr | None = None  # None: no token is asked for
    # Policy: nobody who hands in chooses any of these.
    sandbox: Literal["auto", "docker-gvisor", "docker-runc", "bubblewrap", "none"] = "auto"
    launcher: Path | None = None  # the socket of a launcher, which then chooses the sandbox in place of each judge
    device: Literal["auto", "cpu", "cuda"] = "auto"
    train: bool = True  # False: checks only, for a course that wants no training
    # What a worker takes. None: checks and training, on a GPU where there is one.
    needs: list[Need] | None = None
    # As much as `grading.archive` reads at most
    max_upload_bytes: int = Field(default=20 * 2**20, gt=0, le=20 * 2**20)
    max_files: int = Field(default=50, gt=0)  # per submission: a hand-in has one to five
    # Live submissions that may wait; whoever comes then is told when to come back. An hour's work of ten workers.
    max_waiting: int = Field(default=2000, gt=0)
    # How long a grading may go without a sign of life. The worker gives one every third of it, so two may be lost.
    lease_seconds: float = Field(default=30.0, gt=0)
    # A third failure in a row is no passing trouble.
    max_attempts: int = Field(default=3, ge=1)
    backoff_seconds: float = Field(default=5.0, ge=0)  # before the second attempt; doubles from then on
    poll_seconds: float = Field(default=2.0, gt=0)  # what a lost wake-up costs at most
    # A judge that takes longer hangs: the largest recipe on two slow cores stays under an hour.
    judge_seconds: float = Field(default=2 * 3600.0, gt=0)

    @property
    def database(self) -> str:
        """The URL of the database, with the driver that is installed."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir.resolve() / 'noisemark.db'}"
        scheme, separator, rest = self.database_url.get_secret_value().partition("://")
        return f"{'postgresql+psycopg' if scheme in ('postgres', 'postgresql') else scheme}{separator}{rest}"

    @property
    def blob_dir(self) -> Path:
        return self.data_dir / "blobs"

    @property
    def version_dir(self) -> Path:
        """Where published packs lie unpacked: a cache, which the blobs can fill again."""
        return self.data_dir / "versions"

    @model_validator(mode="after")
    def _refuse_unsafe(self) -> Self:
        if self.secret_key is not None and len(self.secret_key.get_secret_value()) < MIN_SECRET:
            raise ValueError(f"NOISEMARK_SECRET_KEY is shorter than {MIN_SECRET} characters")
        if self.api_token is not None and len(self.api_token.get_secret_value()) < MIN_SECRET:
            raise ValueError(f"NOISEMARK_API_TOKEN is shorter than {MIN_SECRET} characters")
        if self.database_url is not None:
            scheme, separator, _ = self.database_url.get_secret_value().partition("://")
            if scheme not in DATABASES or not separator:
                raise ValueError("NOISEMARK_DATABASE_URL begins neither with sqlite:// nor with postgresql://")
        if is_loopback(self.host):
            return self
        missing = []
        if self.secret_key is None:
            missing.append("NOISEMARK_SECRET_KEY has to be set")
        if self.api_token is None:
            missing.append("NOISEMARK_API_TOKEN has to be set")
        if self.sandbox == "none":
            missing.append("NOISEMARK_SANDBOX must not be 'none'")
        if missing:
            raise ValueError(f"NOISEMARK_HOST={self.host} can be reached by others, so {', and '.join(missing)}")
        return self

    @property
    def backend(self) -> str:
        """What `sandbox.backends.choose_backend` is asked for."""
        return self.sandbox if self.launcher is None else f"launcher:{self.launcher}"

    def derived_key(self, purpose: str) -> bytes:
        """A key for one purpose: whoever learns it learns neither the secret nor the keys for other purposes."""
        return hmac.digest(self._secret(), purpose.encode(), "sha256")

    def _secret(self) -> bytes:
        if self.secret_key is not None:
            return self.secret_key.get_secret_value().encode()
        return _local_secret(self.data_dir / "secret.key")


def load_settings(**overrides: Any) -> Settings:
    """The settings of the environment. Raises `ConfigurationError` with one line per fault."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_input=False, include_url=False):  # inputs may be secrets
            name = "".join(f"NOISEMARK_{part}".upper() + ": " for part in fault["loc"][:1])
            lines.append(name + fault["msg"].removeprefix("Value error, "))
        raise ConfigurationError("\n".join(lines)) from None


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _local_secret(path: Path) -> bytes:
    """The secret in `path`, made on first use. Several processes may come at once: the first one's counts."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(draft)  # atomic, and fails where there is one already
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_bytes()
