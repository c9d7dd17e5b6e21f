"""The whole service by one command: up, a real grading, down; and what happens when a part of it dies."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import psutil
import pytest
from gradings import events
from services import PATIENCE, ROOT, assert_gone, family, wait_until

SOLUTION = ROOT / "reference" / "packs" / "ddpm" / "solution.py"


@pytest.fixture
def serve(tmp_path):
    """Starts the service and yields its process, once it says that it is ready, and a client."""
    command = [sys.executable, "-m", "worker.serve", "--port", "0", "--data-dir", str(tmp_path / "var")]
    ready = tmp_path / "ready"
    process = subprocess.Popen(
        [*command, "--ready-file", str(ready)],
        cwd=ROOT,
        env=os.environ | {"NOISEMARK_TRAIN": "false"},
        stderr=subprocess.PIPE,
        text=True,
    )
    client = None
    try:
        wait_until(lambda: ready.exists() or process.poll() is not None, "the service")
        if process.poll() == 3 and "sandbox" in (said := process.stderr.read()).lower():
            pytest.skip(f"no sandbox on this machine: {said}")
        client = httpx.Client(base_url=ready.read_text().strip(), timeout=PATIENCE, trust_env=False)
        yield process, client
    finally:
        if client is not None:
            client.close()
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE)


def part(process: subprocess.Popen, words: str) -> psutil.Process:
    return next(child for child in psutil.Process(process.pid).children() if words in " ".join(child.cmdline()))


def test_grades_the_solution_and_leaves_nothing_behind(serve):
    process, api = serve
    assert api.get("/readyz").json() == {"ready": True, "missing": []}
    answer = api.post("/api/v1/assignments/ddpm/submissions", files={"files": (SOLUTION.name, SOLUTION.read_bytes())})
    told = events(api, answer.json()["id"])
    assert told[-1][0] == "done", told[-1]
    report = api.get(answer.json()["links"]["report"]).json()
    assert {blank["status"] for blank in report["blanks"]} == {"passed"}
    assert report["provenance"]["sandboxed"]
    assert SOLUTION.name in api.get(answer.json()["links"]["hand_in"]).headers["content-disposition"]
    assert "<html" in api.get(answer.json()["links"]["report_html"]).text
    processes = family(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    assert_gone(processes[1:])


@pytest.mark.parametrize(("words", "name"), [("-m worker", r"Worker \d"), ("redis", "Redis")])
def test_when_a_part_dies_it_is_named_and_the_rest_is_stopped(serve, words, name):
    process, _ = serve
    processes = family(process.pid)
    part(process, words).kill()
    assert process.wait(PATIENCE) == 3
    assert re.search(f"{name} ended with exit code -9", process.stderr.read())
    assert_gone(processes[1:])


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "worker.serve", "--port", str(port), "--data-dir", str(tmp_path)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"port {port}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_unsafe_defaults_are_refused_in_words(tmp_path):
    command = [sys.executable, "-m", "worker.serve", "--host", "0.0.0.0", "--data-dir", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "NOISEMARK_API_TOKEN has to be set" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_sandbox_the_worker_names_the_way_out(tmp_path):
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "NOISEMARK_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "worker"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert "bubblewrap" in ended.stderr
    assert "Traceback" not in ended.stderr
