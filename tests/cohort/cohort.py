"""A cohort of synthetic students, graded, then regraded under a version with one changed check (scripts/cohort).

Each hands in the solution with one answer of the validity corpus in it, right or wrong. Everything goes through a real
service on 127.0.0.1: API, workers, sandboxes. Trainings are left out: they would take hours here, and neither mode that
is measured needs one.
"""

import argparse
import csv
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
sys.path.insert(0, str(TESTS))

from rich.console import Console  # noqa: E402  (needs the path above)
from rich.table import Table  # noqa: E402
from validity import corpus  # noqa: E402

from reference.pack import Pack, load_pack  # noqa: E402

PACK = load_pack("ddpm")
CORPUS = ("right.md", "wrong.md", "right-blind.md", "wrong-blind.md")
COURSE, ASSIGNMENT = "cohort", "cohort-ddpm"
START_SECONDS, PATIENCE_SECONDS = 120, 3600
# Who adds noise at t = 0 passes from then on; and the steps back are worth more.
CHANGED_BLANK = "reverse_q"
CHANGED_CHECK = ("checks/test_reverse.py", "def test_last_step_adds_no_noise", "def _last_step_adds_no_noise")


def hand_ins(number: int) -> dict[str, bytes]:
    """login -> answers.py. More students than there are variants hand in copies with a line of their own."""
    solution = PACK.solution.read_text(encoding="utf-8")
    variants = [variant for name in CORPUS for variant in corpus.read(name)]
    random.Random(0).shuffle(variants)  # the same cohort each time
    variants.sort(key=lambda variant: variant.blank != CHANGED_BLANK)  # so that a small cohort has some, too
    return {
        f"student{index:04}": f"{variants[index % len(variants)].apply(solution, PACK)}\n# {index}\n".encode()
        for index in range(number)
    }


@contextmanager
def service(folder: Path, workers: int) -> Iterator[httpx.Client]:
    """Everything on this machine, with its data in `folder`. It ends with the block."""
    ready = folder / "url"
    options = ["--port", "0", "--data-dir", str(folder / "var"), "--workers", str(workers), "--ready-file", str(ready)]
    environment = os.environ | {"NOISEMARK_TRAIN": "false", "PYTHONPATH": str(ROOT)}
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.serve", *options], env=environment, cwd=ROOT, stdout=log, stderr=log
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not ready.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"The service did not start:\n{(folder / 'serve.log').read_text()[-2000:]}")
                time.sleep(0.2)
            with httpx.Client(base_url=ready.read_text().strip(), timeout=300, trust_env=False) as client:
                yield client
        finally:
            process.terminate()
            process.wait(60)


def ask(client: httpx.Client, method: str, path: str, **arguments: Any) -> Any:
    response = client.request(method, f"/api/v1{path}", **arguments)
    if response.is_error:
        raise SystemExit(f"{method} {path}: {response.status_code} {response.text}")
    return response.json() if response.content else None


def make_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def version_two(folder: Path) -> bytes:
    """The pack with one changed check, zipped."""
    root = folder / "version-two"
    shutil.copytree(PACK.root, root)
    name, old, new = CHANGED_CHECK
    text = (root / name).read_text()
    assert text.count(old) == 1
    (root / name).write_text(text.replace(old, new))
    return make_zip({path.relative_to(root).as_posix(): path.read_bytes() for path in Pack(root).files()})


def timed(seconds: dict[str, float], what: str, action: Callable[[], Any]) -> Any:
    begun = time.monotonic()
    result = action()
    seconds[what] = time.monotonic() - begun
    return result


def wait(client: httpx.Client, done: Callable[[], tuple[int, int]], what: str, console: Console) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    with console.status(what) as status:
        while True:
            finished, total = done()
            if finished == total:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"{what}: {finished} of {total} after {PATIENCE_SECONDS} s")
            status.update(f"{what}: {finished} of {total}")
            time.sleep(1)


def grades(client: httpx.Client) -> dict[str, float]:
    text = client.get(f"/api/v1/assignments/{ASSIGNMENT}/grades.csv").raise_for_status().text
    return {row["login"]: float(row["score"] or 0) for row in csv.DictReader(io.StringIO(text))}


def regrade(client: httpx.Client, mode: str, seconds: dict[str, float], console: Console) -> int:
    """Begin one, wait for it, read its difference. Returns its number."""
    body = {"mode": mode, "reason": "the last step may add noise"}

    def run() -> int:
        number: int = ask(client, "POST", f"/assignments/{ASSIGNMENT}/regrades", json=body)["id"]

        def done() -> tuple[int, int]:
            counts = ask(client, "GET", f"/regrades/{number}")["gradings"]
            return sum(n for state, n in counts.items() if state not in ("queued", "running")), sum(counts.values())

        wait(client, done, mode, console)
        return number

    number: int = timed(seconds, mode, run)
    diff = timed(seconds, f"{mode}: the difference", lambda: ask(client, "GET", f"/regrades/{number}/diff"))
    console.print(
        f"{mode}: {diff['submissions']} submissions, {diff['gain']} gain, {diff['lose']} lose, "
        f"{diff['unchanged']} stay; {diff['without_report']} without a report"
    )
    for change in diff["changes"][:5]:
        for blank in change["blanks"]:
            console.print(
                f"  {change['login']}: {blank['blank']} {blank['before']} -> {blank['after']} ({blank['cause']}), "
                f"score {change['score_before']:g} -> {change['score_after']:g}",
                highlight=False,
            )
    return number


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/cohort", description=__doc__)
    parser.add_argument("--students", type=int, default=300, help="how many (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="hand-ins graded at a time (%(default)s)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the service as Ctrl-C does
    console = Console()
    seconds: dict[str, float] = {}
    cohort = hand_ins(options.students)
    with tempfile.TemporaryDirectory() as name, service(Path(name), options.workers) as client:
        folder = Path(name)
        ask(client, "POST", "/courses", json={"id": COURSE, "title": "A cohort"})
        roster = "login,name,email,role\n" + "".join(f"{login},{login},,student\n" for login in cohort)
        ask(client, "POST", f"/courses/{COURSE}/roster", files={"file": ("roster.csv", roster)})
        ask(client, "POST", "/assignments", data={"course": COURSE, "id": ASSIGNMENT, "pack": "ddpm"})
        archive = make_zip({f"{login}/answers.py": content for login, content in cohort.items()})
        path = f"/assignments/{ASSIGNMENT}/bulk"
        timed(
            seconds,
            "bulk import",
            lambda: ask(client, "POST", path, files={"files": ("cohort.zip", archive)}),
        )

        def graded() -> tuple[int, int]:
            rows = client.get(f"/api/v1/assignments/{ASSIGNMENT}/grades").raise_for_status().json()
            return sum(row["points"] is not None for row in rows), len(rows)

        timed(seconds, "grading all (checks)", lambda: wait(client, graded, "grading", console))
        before = grades(client)
        files = {"archive": ("pack.zip", version_two(folder))}
        data = {"reason": "one check was too strict"}
        timed(
            seconds,
            "publishing version 2",
            lambda: ask(client, "POST", f"/assignments/{ASSIGNMENT}/versions", files=files, data=data),
        )
        regrade(client, "rescore", seconds, console)
        number = regrade(client, "recheck", seconds, console)
        told = timed(seconds, "apply", lambda: ask(client, "POST", f"/regrades/{number}/apply"))["students_told"]
        after = grades(client)
        changed = [login for login in before if before[login] != after[login]]
        console.print(f"applied: {len(changed)} grades changed, {told} students told")
        timed(seconds, "roll back", lambda: ask(client, "POST", f"/regrades/{number}/roll-back"))
        restored = grades(client) == before
        console.print("rolled back: every grade is as it was" if restored else "ROLLED BACK, AND GRADES DIFFER")
        regrade_again = regrade(client, "recheck", seconds | {}, console)
        known = ask(client, "GET", f"/regrades/{regrade_again}")["gradings"]
        console.print(f"the same regrade again: {known} at once, from what is stored")
    table = Table(title=f"{options.students} students, {options.workers} workers")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    for what, taken in seconds.items():
        table.add_row(what, f"{taken:.1f}")
    console.print(table)
    return 0 if restored and changed and told == len(changed) else 1


if __name__ == "__main__":
    sys.exit(main())
