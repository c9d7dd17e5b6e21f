"""The commands that need no server: what they print, write and exit with."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import sample_reports

from cli.files import read_work
from cli.main import main
from cli.state import KEY_BYTES, own_key
from cli.summary import print_report
from grading.hand_in import read_hand_in
from reference.pack import load_pack

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own; the working directory is the test's, too."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    code = exit_.value.code
    return 0 if code is None else int(code)


BAD_INPUT = {
    "missing file": (["grade", "nowhere.py"], "nowhere.py cannot be read: No such file or directory"),
    "unknown recipe": (["grade", "a.py", "--recipe", "cifar"], "There is no recipe 'cifar'. There are: digits16"),
    "unknown pack": (["grade", "a.py", "--pack", "gan"], "There is no assignment 'gan'. There are: ddpm"),
    "empty file": (["grade", "empty.py"], "empty.py"),
    "not a zip": (["grade", "not.zip"], "not.zip"),
    "unknown suffix": (["grade", "essay.docx"], "essay.docx"),
    "not a notebook": (["grade", "broken.ipynb"], "broken.ipynb"),
    "empty directory": (["grade", "empty"], "empty holds no .py and no .ipynb files"),
    "no directory for the page": (["grade", "a.py", "--html", "nowhere/page.html"], "no directory nowhere"),
    "a directory as the page": (["grade", "a.py", "--html", "empty"], "empty is a directory"),
    "the page over the hand-in": (["grade", "a.py", "--html", "a.py"], "a.py holds work"),
    "both reports in one file": (["grade", "a.py", "--html", "r", "--json", "r"], "Both reports would go to one file"),
    "no file": (["grade", ""], "No file is named"),
    "no file to hand in": (["submit", " "], "No file is named"),
    "no recipe": (["grade", "a.py", "--recipe", ""], "No recipe is named"),
    "no recipe to hand in for": (["submit", "a.py", "--recipe", ""], "No recipe is named"),
    "nothing to improve on": (["submit", "a.py", "--improves-on", ""], "No submission is named"),
    "no submission": (["status", " "], "No submission is named"),
    "another address": (["report", "https://example.org/about"], "is not the address of a submission"),
    "no Python at all": (["submit", "broken.py"], "broken.py, line 1"),
    "no blank to be helped with": (["hint", "x", ""], "No blank is named"),
    "unknown option": (["grade", "a.py", "--fast"], "--fast"),
    "unknown sandbox": (["grade", "a.py", "--sandbox", "prayer"], "prayer"),
    "no argument": (["grade"], "Missing argument"),
    "unknown command": (["judge"], "judge"),
    "no address": (["status", "x", "--server", "grader"], "'grader' is no address of a server"),
    "starter is there": (["starter", "-o", "a.py"], "a.py is there already"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_ends_with_2_and_a_message(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_text("alphas = 1 - betas\n")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "not.zip").write_bytes(b"PK nothing of the kind")
    (tmp_path / "essay.docx").write_bytes(b"words")
    (tmp_path / "broken.ipynb").write_text('{"cells": 7}')
    (tmp_path / "broken.py").write_text("alphas = = 1\n")
    (tmp_path / "empty").mkdir()
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert message in " ".join(captured.err.split())
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_very_long_values_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["grade", "a" * 5000], ["grade", "a.py", "--recipe", "b" * 5000], ["grade", "c d " * 5000]):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert len(error) < 3000
        assert "…" in error


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"noisemark {version('noisemark')}\n"


def test_a_machine_without_a_sandbox_ends_with_3_and_the_way_out(tmp_path: Path) -> None:
    """The real choice of a backend, on a PATH that has no bwrap."""
    (tmp_path / "a.py").write_text("alphas = 1 - betas\n")
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "grade", str(tmp_path / "a.py"), "--no-train"],
        env={"PATH": str(tmp_path), "XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 3, done.stderr
    assert "--sandbox none" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_server_that_is_down_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.py").write_text("alphas = 1 - betas\n")
    assert run("submit", "a.py", "--server", "http://127.0.0.1:1") == 3  # port 1: nobody listens there
    assert "No server answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_an_unexpected_exception_leaves_a_log_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, state_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_name: str) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("cli.starter.load_pack", fail)
    assert run("starter") == 3
    error = capsys.readouterr().err
    log = state_home / "noisemark" / "last-error.log"
    assert "ZeroDivisionError" in error
    assert str(log) in error
    assert "Traceback" not in error
    assert "nobody thought of this" in log.read_text()


def test_an_unexpected_exception_without_a_home_still_leaves_a_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("cli.starter.load_pack", lambda _name: 1 / 0)
    assert run("starter") == 3
    [log] = tmp_path.glob("noisemark-*.log")
    assert str(log) in capsys.readouterr().err


@pytest.mark.parametrize(("options", "name"), [([], "starter.py"), (["--notebook"], "starter.ipynb")])
def test_starter_writes_the_packs_file(options: list[str], name: str, tmp_path: Path) -> None:
    assert run("starter", *options) == 0
    suffix = ".ipynb" if options else ".py"
    assert (tmp_path / name).read_bytes() == load_pack("ddpm").starter(suffix).read_bytes()  # type: ignore[arg-type]


def test_starter_overwrites_only_when_told_to(tmp_path: Path) -> None:
    (tmp_path / "starter.py").write_text("my work")
    assert run("starter") == 2
    assert (tmp_path / "starter.py").read_text() == "my work"
    assert run("starter", "--force") == 0
    assert (tmp_path / "starter.py").read_text() != "my work"


def test_own_key_is_made_once_and_kept_private(state_home: Path) -> None:
    key = own_key()
    assert len(key) == KEY_BYTES
    assert own_key() == key
    path = state_home / "noisemark" / "key"
    assert [file.name for file in path.parent.iterdir()] == ["key"]
    assert path.stat().st_mode & 0o077 == 0


def test_a_damaged_key_is_named(state_home: Path) -> None:
    own_key()
    (state_home / "noisemark" / "key").write_bytes(b"short")
    with pytest.raises(OSError, match="does not hold a key"):
        own_key()


def test_the_summary_says_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(sample_reports.four_mistakes())
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "\x1b" not in out
    assert "✓ alphas right 2/2" in lines
    assert (
        "✗ q not right yet 0/4 The coefficients of the image and of the noise are swapped. (solution.py, line 84)"
        in lines
    )
    assert "○ w not filled in yet 0/1 `w` still holds its placeholder." in lines
    assert any("earns no points: 97.0% of 200 read correctly (95% interval 93.6% to 98.6%)" in line for line in lines)
    assert "Score: 43 of 100. Not passed yet." in lines


@pytest.mark.threat(48)
def test_the_summary_shows_hostile_text_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    report = sample_reports.four_mistakes()
    evil = report.blanks[-1].model_copy(update={"message": "\x1b]0;owned\x07[bold]x[/bold]\x1b[2J \u202e"})
    print_report(report.model_copy(update={"blanks": [evil], "notices": ["\x1b[31m[red]y"]}))
    out = capsys.readouterr().out
    assert r"[bold]x[/bold] \u202e" in out
    assert "[red]y" in out
    assert "\x1b" not in out


def test_an_unsandboxed_run_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(sample_reports.below_mark())
    assert "Run without a sandbox" in capsys.readouterr().out


def test_the_summary_has_the_first_finding_and_why_a_tier_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    report = sample_reports.below_mark()
    second = sample_reports.FINDING.model_copy(update={"title": "Something else"})
    print_report(report.model_copy(update={"findings": [sample_reports.FINDING, second]}))
    out = " ".join(capsys.readouterr().out.split())
    assert "What we saw: Your guidance weight is too low. At your w = 0, 88.5% are read correctly" in out
    assert "Something else" not in out
    assert "Yours got there only at the end." in out


def test_symbols_do_not_break_a_terminal_without_utf8() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "grade", "ünknown.py"],
        env=os.environ | {"PYTHONIOENCODING": "ascii:strict"},
        capture_output=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert b"?nknown.py cannot be read" in done.stderr


HEAVY = ("torch", "numpy", "matplotlib", "sqlalchemy", "sklearn", "pytest", "fastapi")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["grade", "--help"],
        ["grade", "nowhere.py"],
        ["submit", "nowhere.py"],
        ["submit", "a.py", "--server", "http://127.0.0.1:1"],
        ["status", "x", "--server", "http://127.0.0.1:1"],
        ["report", "x", "--server", "http://127.0.0.1:1"],
        ["starter"],
    ],
    ids=" ".join,
)
def test_what_grades_nothing_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("alphas = 1 - betas\n")
    code = (
        "import json, sys\n"
        "from cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.__stderr__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert json.loads(done.stderr.splitlines()[-1]) == []


def test_a_folder_is_read_like_a_zip_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = [{"cell_type": "code", "source": "from blocks.parts import x\ny = x"}]
    files = {
        "hw.ipynb": json.dumps({"nbformat": 4, "cells": cells}),
        "blocks/__init__.py": "",
        "blocks/parts.py": "x = 1\n",
        ".venv/lib/a.py": "x = 1\n",
        "own env/pyvenv.cfg": "",
        "own env/lib/site.py": "x = 1\n",
        "__pycache__/a.py": "x = 1\n",
        "data/model.pth": "x",
        "data/notes.txt": "x",
    }
    for name, text in files.items():
        (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / name).write_text(text)
    name, content = read_work(tmp_path / "work")
    said = " ".join(capsys.readouterr().err.split())
    made = shutil.make_archive(str(tmp_path / "made"), "zip", tmp_path, "work")
    of_folder, of_zip = read_hand_in(name, content), read_hand_in("work.zip", Path(made).read_bytes())
    assert name == "work.zip"
    assert [file.name for file in of_folder.files] == ["blocks/__init__.py", "blocks/parts.py", "hw.ipynb"]
    assert [f"work/{file.name}" for file in of_folder.files] == [file.name for file in of_zip.files]
    assert "`data/` (2 files)" in said
    assert read_work(tmp_path / "work") == (name, content)  # the same bytes, and so the same inputs of the checks


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"x = 1\n")
    assert read_work(tmp_path) == read_work(tmp_path / "a.py")
