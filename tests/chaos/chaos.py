"""Kills the service's processes while it takes in, grades and regrades; then looks whether anything was lost.

A supervisor starts every part again as it dies. Parts are killed from outside, at random; and at each named step of the
pipeline a process kills itself at least once. Exit code 1 where anything is not as it was promised.
"""

import argparse
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from chaos.checks import Checks, Finding
from chaos.parts import KILLED, Supervisor, adopt_orphans, prepare_postgres
from chaos.people import (
    ASSIGNMENT,
    COURSE,
    Instructor,
    OutOfTime,
    Record,
    Student,
    Watcher,
    guard,
    quick_hand_in,
    real_hand_in,
)
from chaos.steps import API, WORKER, Steps
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from services import Store, open_store
from sqlalchemy.exc import OperationalError

from records.assignments import Assignments
from records.migrate import prepare
from records.models import Role
from records.people import People
from records.settings import Settings
from records.tokens import Scope, Tokens
from records.versions import Versions
from reference.pack import Pack, load_pack

PACK = load_pack("ddpm")
ALL = [step.name for step in (*API, *WORKER)]
# One that was taken away is back within seconds; a wake-up that was lost costs little
LEASE_SECONDS, POLL_SECONDS = 2.0, 0.2
# Who dies faster than he starts does nothing else; a worker with a real judge imports torch first
SLOWER = {"quick": 1.0, "real": 3.0}
TWICE = 0.5  # of the killer's turns: arm a step once more; else kill from outside
POINTS = (10.0, 20.0)  # under the first version and the second, by the quick judge
TRAINING_IMAGES = 320  # five steps: what is trained does not matter here


@dataclass(frozen=True)
class Options:
    database: str
    judge: str
    submissions: int
    students: int
    workers: int
    seconds: float  # over which the hand-ins are spread
    every: float | None  # seconds between two deaths, on average; None: as long as the API takes to start
    deadline: float
    seed: int
    keep: bool


class Killer:
    """Kills at random, from outside and at steps, until it is told to stop."""

    def __init__(self, supervisor: Supervisor, steps: Steps, record: Record, every: float, seed: int) -> None:
        self._supervisor, self._steps, self._every = supervisor, steps, every
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=guard(record, self._run))
        for name in ALL:
            steps.arm(name)

    def _run(self) -> None:
        again = [name for name in ALL if not name.startswith("regrade")]  # which comes once
        while self._every and not self._stopping.wait(self._random.uniform(0, 2 * self._every)):
            if self._random.random() < TWICE:
                self._steps.arm(self._random.choice(again))
            else:
                kinds = sorted({part.name.split()[0] for part in self._supervisor.parts})
                kind = self._random.choice(kinds)
                self._random.choice([part for part in self._supervisor.parts if part.name.startswith(kind)]).kill()

    def stop(self) -> None:
        self._stopping.set()
        self.thread.join()


class Chaos:
    """One run."""

    def __init__(self, options: Options, folder: Path) -> None:
        self._options, self._folder = options, folder
        self.record = Record(deadline=time.monotonic() + options.deadline)
        self.steps = Steps(folder)
        self.seconds: dict[str, float] = {}
        chosen: dict[str, object] = {}
        if options.database == "postgresql":
            chosen["database_url"] = SecretStr(prepare_postgres(folder))
        if options.judge == "real":
            chosen["launcher"] = folder / "launcher.sock"
        self._settings = Settings(
            data_dir=folder / "var",
            redis_url=SecretStr(f"redis+socket://{folder}/redis.sock"),
            secret_key=SecretStr("the same for all that is started"),
            api_token=SecretStr("the token of the operator"),
            lease_seconds=LEASE_SECONDS,
            poll_seconds=POLL_SECONDS,
            backoff_seconds=0,
            max_attempts=10_000,  # every death costs one, and here they are many
            **chosen,
        )
        self.supervisor = Supervisor(self._settings, folder, options.workers, options.judge)

    def run(self) -> list[Finding]:
        """Raises `OutOfTime`."""
        try:
            self.supervisor.start_stores()
            self._wait_for_database()
            with open_store(self._settings) as store:
                prepared = self._prepare(store)
                self.supervisor.start_service()
                return self._run(store, *prepared)
        finally:
            self.record.over.set()
            left = self.supervisor.stop()
            self.record.wrong += [f"left behind: {process}" for process in left]

    def _wait_for_database(self) -> None:
        while True:
            try:
                return prepare(self._settings)
            except OperationalError:
                if time.monotonic() > self.record.deadline:
                    raise OutOfTime("the database") from None

    def _prepare(self, store: Store) -> tuple[list[str], dict[str, str]]:
        """The ids of two versions, and a token for everybody."""
        people, tokens = People(store.database), Tokens(store.database)
        publish = Versions(store.database, store.blobs, self._settings.version_dir).publish
        versions = [publish(self._pack(number)) for number in (1, 2)]
        people.add_course(None, COURSE, "Chaos")
        Assignments(store.database).create(None, COURSE, ASSIGNMENT, "Final", versions[0])
        roles = {f"student{number:02}": Role.STUDENT for number in range(1, self._options.students + 1)}
        secrets = {}
        for login, role in (roles | {"instructor": Role.INSTRUCTOR}).items():
            user = people.add_user(None, login, login.title())
            people.set_role(None, COURSE, login, role)
            secrets[login] = tokens.issue(None, user.id, "chaos", tuple(Scope)).secret
        return versions, secrets

    def _pack(self, number: int) -> Pack:
        """The pack with next to no training, in two versions."""
        root = self._folder / f"version-{number}"
        shutil.copytree(PACK.root, root, ignore=shutil.ignore_patterns("__pycache__"))
        recipes = root / "recipes.toml"
        text, found = re.subn(r"(?m)^images = \d+$", f"images = {TRAINING_IMAGES}", recipes.read_text())
        assert found == len(PACK.recipes)
        recipes.write_text(f"{text}\n# {number}\n")
        return Pack(root)

    def _hand_ins(self, versions: list[str]) -> dict[str, list[bytes]]:
        """By login."""
        scores = dict(zip(versions, POINTS, strict=True))
        found: dict[str, list[bytes]] = {}
        for number in range(self._options.submissions):
            login = f"student{number % self._options.students + 1:02}"
            quick = self._options.judge == "quick"
            content = quick_hand_in(login, number, scores) if quick else real_hand_in(PACK.solution, login, number)
            found.setdefault(login, []).append(content)
        return found

    def _run(self, store: Store, versions: list[str], tokens: dict[str, str]) -> list[Finding]:
        options, url = self._options, self.supervisor.url
        hand_ins = self._hand_ins(versions)
        students = [
            Student(url, tokens[login], login, self.record, content, options.seconds)
            for login, content in hand_ins.items()
        ]
        watcher, instructor = (role(url, tokens["instructor"], self.record) for role in (Watcher, Instructor))
        begun = time.monotonic()
        instructor.insist("GET", "/me")  # the first start of all
        begun = self._took("start", begun)
        every = self.seconds["start"] * SLOWER[options.judge] if options.every is None else options.every
        killer = Killer(self.supervisor, self.steps, self.record, every, options.seed)
        threads = [*(thread for student in students for thread in student.threads), watcher.thread, killer.thread]
        for thread in threads:
            thread.start()
        try:
            for student in students:
                self._join(student.threads[0], f"{student.login}'s hand-ins")
            begun = self._took("hand-ins", begun)
            for student in students:
                # Each heard the end of all of his gradings
                self._join(student.threads[1], f"the ends of {student.login}'s gradings")
            instructor.wait(lambda: len(self.record.reports) == options.submissions, "a look at every report")
            begun = self._took("gradings", begun)
            regrade = instructor.start(versions[1])
            instructor.wait(lambda: set(instructor.states(regrade)) == {"done"}, "the regrade")
            begun = self._took("regrade", begun)
            instructor.apply(regrade)
            self._took("apply", begun)
        finally:
            self.record.applying.set()
            killer.stop()
        if missed := [name for name in ALL if not self.steps.times(name)]:
            self.record.wrong.append(f"nobody died at: {missed}")
        return Checks(store, self.record, students, instructor, regrade).run()

    def _join(self, thread: threading.Thread, what: str) -> None:
        """Raises `OutOfTime`; an event stream by itself would go on for ever."""
        thread.join(max(0, self.record.deadline - time.monotonic()))
        if thread.is_alive():
            raise OutOfTime(what)

    def _took(self, what: str, begun: float) -> float:
        now = time.monotonic()
        self.seconds[what] = now - begun
        return now


def show(chaos: Chaos, findings: list[Finding], console: Console) -> bool:
    """Print what happened; returns whether all is well."""
    record = chaos.record
    died = Table("part", "killed", "died at a step", "ended by itself", title="deaths")
    for part in chaos.supervisor.parts:
        own = [code for code in part.deaths if code != KILLED]
        steps = len(part.deaths) - len(own) - part.killed
        died.add_row(
            part.name,
            str(part.killed),
            str(max(0, steps)),
            ", ".join(f"{times} x {code}" for code, times in Counter(own).items()),
        )
    taken = Table("step", "times", title="steps at which a process killed itself")
    for name in ALL:
        taken.add_row(name, str(chaos.steps.times(name)))
    held = Table("what must hold", "looked at", "wrong", title="afterwards")
    for finding in findings:
        held.add_row(finding.what, str(finding.number), str(len(finding.faults)))
    for table in (died, taken, held):
        console.print(table)
    console.print(f"{record.again} requests were sent again, {record.resumed} event streams resumed")
    console.print(", ".join(f"{what} {seconds:.0f} s" for what, seconds in chaos.seconds.items()))
    # PostgreSQL refuses to start until the children of the one before it have noticed that it is gone
    refused = [part for part in chaos.supervisor.parts if set(part.deaths) - {KILLED} and part.name != "PostgreSQL"]
    for part in refused:
        console.print(f"{part.name} ended by itself:\n{part.tail()}", markup=False, highlight=False)
    faults = [f"{finding.what}: {fault}" for finding in findings for fault in finding.faults] + record.wrong
    for fault in faults[:20]:
        console.print(f"WRONG  {fault}", markup=False, highlight=False)
    well = bool(findings) and not faults and not refused
    console.print("Nothing was lost." if well else "NOT AS PROMISED.")
    return well


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument(
        "--judge", choices=["quick", "real"], default="quick", help="quick grades nothing (%(default)s)"
    )
    parser.add_argument("--submissions", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--students", type=int, default=10, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="over which hand-ins are spread (%(default)s)")
    parser.add_argument(
        "--every", type=float, help="seconds between two deaths (what a start takes here); 0: steps only, each once"
    )
    parser.add_argument("--deadline", type=float, default=900, help="seconds until it gives up (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the killer (random)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with data and logs")
    options = Options(**vars(parser.parse_args()))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    adopt_orphans()
    console, folder = Console(), Path(tempfile.mkdtemp(prefix="noisemark-"))
    console.print(f"seed {options.seed}, {options.database}, {options.judge} judge, {options.submissions} submissions")
    chaos, findings = Chaos(options, folder), list[Finding]()
    try:
        findings = chaos.run()
    except OutOfTime as error:
        chaos.record.wrong.append(f"out of time: {error}")
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    finally:
        if options.keep:
            console.print(f"Kept: {folder}")
    well = show(chaos, findings, console)
    if not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
