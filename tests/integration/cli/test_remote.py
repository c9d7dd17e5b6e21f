"""submit, status and report against the real API; the test does a worker's part through the queue."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sample_reports
import uvicorn

from api.main import create_app
from cli.main import main
from grading.page import render
from records.blobs import BlobStore
from records.database import Database
from records.migrate import prepare
from records.queue import Lease, NewEvent, Queue, Result
from records.settings import Settings

REPORT = sample_reports.four_mistakes()


@dataclass(frozen=True, kw_only=True)
class Service:
    url: str
    queue: Queue
    blobs: BlobStore

    def claim(self) -> Lease:
        lease = self.queue.claim("test")
        assert lease is not None
        return lease

    def finish(self, lease: Lease) -> None:
        page = render(REPORT, sample_reports.ARTIFACTS, "title")
        result = Result(
            report_sha256=self.blobs.put(REPORT.model_dump_json().encode()),
            html_sha256=self.blobs.put(page.encode()),
            artifacts=(),
            outcome={"verdict": REPORT.verdict},
        )
        self.queue.finish(lease, result)


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    # Nobody waits to be woken: a broker inside the process will do
    settings = Settings(data_dir=tmp_path / "var", redis_url="memory://", max_attempts=1)  # type: ignore[arg-type]
    settings.data_dir.mkdir()
    prepare(settings)
    database = Database(settings.database)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("NOISEMARK_SERVER", url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answers.py").write_text("alphas = 1 - betas\n")
    yield Service(url=url, queue=Queue(database, settings), blobs=BlobStore(settings.blob_dir))
    server.should_exit = True
    thread.join()
    listener.close()
    database.close()


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return 0 if exit_.value.code is None else int(exit_.value.code)


def submit(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    assert run("submit", *(arguments or ("answers.py",))) == 0
    return facts(capsys.readouterr().out)


def facts(out: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in out.splitlines())}


def test_submit_prints_a_receipt_and_status_knows_it(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    receipt = submit(capsys)
    assert receipt["Page"] == f"{service.url}/submissions/{receipt['Submission']}"
    assert len(receipt["Receipt"]) == 64
    assert run("status", receipt["Submission"]) == 0
    status = facts(capsys.readouterr().out)
    assert status == {
        "Submission": receipt["Submission"],
        "File": "answers.py",
        "State": "queued",
        "Place in the queue": "1",
    }


def test_an_id_may_come_with_spaces_or_as_the_address_of_its_page(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = submit(capsys)
    submission = receipt["Submission"]
    for given in (
        f" {submission}\n",
        receipt["Page"],
        f"{receipt['Page']}/hints",
        f"{service.url}/api/v1/submissions/{submission}",
    ):
        assert run("status", given) == 0
        assert facts(capsys.readouterr().out)["Submission"] == submission
    assert submit(capsys, "answers.py", "--improves-on", receipt["Page"])["Submission"] != submission


def test_what_does_not_parse_is_told_and_handed_in(
    service: Service, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "answers.py").write_text("alphas = 1 - betas\n\nw = = 2\n")
    assert run("submit", "answers.py") == 0
    captured = capsys.readouterr()
    assert "answers.py, line 3" in captured.err
    assert len(facts(captured.out)["Receipt"]) == 64


def test_hints_say_what_they_cost_and_what_is_not_known(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    submission = submit(capsys)["Submission"]
    assert run("hint", submission, "a_bar") == 0
    captured = capsys.readouterr()
    assert "(alphas_cumprod)" in captured.out
    assert "the next one costs nothing" in captured.out
    assert "Which blanks are right is not known" in captured.err
    assert run("hint", submission, "alpha") == 2
    assert "There are hints for: alphas, alphas_cumprod" in capsys.readouterr().err
    service.finish(service.claim())
    assert run("hint", submission) == 0
    captured = capsys.readouterr()
    assert "Hints have cost nothing so far; your score is 43." in captured.out
    assert "not known" not in captured.err


def test_a_directory_is_handed_in_as_one(service: Service, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("blocks.py", "schedule.py"):
        (folder / name).write_text("x = 1\n")
    receipt = submit(capsys, "work")
    assert run("status", receipt["Submission"]) == 0
    assert facts(capsys.readouterr().out)["File"] == "work.zip"


def test_watching_ends_with_the_report(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    submission = submit(capsys)["Submission"]
    lease = service.claim()
    service.queue.record(
        lease,
        [
            NewEvent(type="stage_started", data={"stage": "check"}),
            NewEvent(type="blank_finished", data={"blank": "q", "outcome": "failed", "points": 0.0, "max_points": 4.0}),
            NewEvent(type="sample_grid", data={"run": "submitted", "images_seen": 1280, "image": "grid.png"}),
            NewEvent(type="of_a_newer_server", data={}),
        ],
        stage="check",
    )
    service.finish(lease)
    assert run("status", submission, "--watch") == 0
    captured = capsys.readouterr()
    assert "Checking the blanks ..." in captured.err
    assert "✗ q: not right yet" in captured.err
    assert "Score: 43 of 100. Not passed yet." in captured.out


def test_watching_a_rejected_hand_in_ends_with_2(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    submission = submit(capsys)["Submission"]
    service.queue.reject(service.claim(), "`answers.py` holds none of the blanks.")
    assert run("status", submission, "--watch") == 2
    assert "`answers.py` holds none of the blanks." in capsys.readouterr().err


def test_watching_what_we_failed_at_ends_with_3(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    submission = submit(capsys)["Submission"]
    service.queue.fail(service.claim(), "disk on fire")
    assert run("status", submission, "--watch") == 3
    error = capsys.readouterr().err
    assert "costs you nothing" in error
    assert "disk on fire" not in error


def test_report_shows_and_writes(service: Service, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    submission = submit(capsys)["Submission"]
    assert run("report", submission) == 2
    assert "there is no report yet" in capsys.readouterr().err
    service.finish(service.claim())
    assert run("report", submission, "--json", "report.json", "--html", "report.html") == 0
    assert "Score: 43 of 100" in capsys.readouterr().out
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(REPORT.model_dump_json())
    assert "Diagnostic run: it earns no points" in (tmp_path / "report.html").read_text()


def test_starter_from_the_server(service: Service, tmp_path: Path) -> None:
    assert run("starter", "--server", service.url) == 0
    assert "alphas" in (tmp_path / "starter.py").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "f" * 32], "no submission with this id"),
        (["report", "f" * 32], "no submission with this id"),
        (["submit", "answers.py", "--recipe", "cifar"], "no recipe 'cifar'"),
        (["submit", "answers.py", "--assignment", "gan"], "no assignment 'gan'"),
        (["submit", "essay.docx"], "essay.docx"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_the_server_refuses_ends_with_2(
    service: Service, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "essay.docx").write_bytes(b"words")
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
