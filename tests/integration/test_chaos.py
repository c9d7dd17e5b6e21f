"""The short form of `scripts/chaos`: a process dies once at every step of the pipeline, and nothing is lost."""

import os
import subprocess
import sys

from services import ROOT, TESTS

# Seconds; it takes 40 on two free cores, and most of that is starting processes again
DEADLINE = 400
SHORT = ["--database", "sqlite", "--submissions", "20", "--students", "4", "--workers", "2", "--seconds", "2"]


def test_a_death_at_any_step_loses_nothing():
    command = [sys.executable, "-m", "chaos.chaos", *SHORT, "--every", "0", "--deadline", str(DEADLINE), "--seed", "1"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{TESTS}"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
