"""What the wall costs: start-up of a guest cold and warm, a session, and training, in each sandbox and without one.

The backends take turns, so that a machine that gets slower is slower for all; what counts is the ratio to no sandbox.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from grading.hand_in import read_hand_in
from grading.harvest import harvest
from grading.pipeline import Network, build_pipeline
from grading.reference import Reference
from reference.datasets import load
from reference.pack import load_pack
from sandbox.backend import Backend
from sandbox.backends import NAMES, choose_backend
from sandbox.faults import SandboxUnavailable
from sandbox.limits import Deadline, Limits

ROOT = Path(__file__).parents[2]
SOLUTION = ROOT / "reference" / "packs" / "ddpm" / "solution.py"
ROUNDS = 3  # enough for a median and a spread that one slow round does not decide
BATCHES = 40  # of training in each round, some 5 s, after
WARM_UP_BATCHES = 5
PLENTY = Deadline(cpu_seconds=600, wall_seconds=600)
REFILL_SECONDS = 15.0  # for the launcher to have the next guest ready, even under an old gVisor


@contextmanager
def launched(name: str) -> Iterator[Backend]:
    """The backend by way of a launcher that keeps one guest warm."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "socket")
        command = [sys.executable, "-m", "sandbox.launcher", "--socket", str(path), "--sandbox", name]
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            while not path.exists():
                time.sleep(0.05)
            yield choose_backend(f"launcher:{path}")
        finally:
            process.terminate()
            process.wait()


def start_seconds(backend: Backend) -> float:
    """From asking for a guest to being able to open a session in it."""
    begun = time.monotonic()
    with backend.start(Limits()) as guest:
        guest.wait_until_ready()
        return time.monotonic() - begun


def training_rate(backend: Backend) -> float:
    """Images a second of the reference solution's training, recipe digits16."""
    pack = load_pack("ddpm")
    recipe = pack.recipe("digits16")
    answers = harvest(read_hand_in(SOLUTION.name, SOLUTION.read_bytes()), pack)
    pipeline = build_pipeline(answers, Reference(pack), recipe, run="submitted", replaced=frozenset(), device="cpu")
    digits = load(recipe.dataset, "generator", recipe.image_size)
    images, labels = digits.batch(torch.arange(recipe.batch_size * BATCHES) % len(digits))
    with backend.start(Limits()) as guest, guest.session(PLENTY, seed=1) as session:
        network = Network(session, pipeline.training, pipeline.recipe, pipeline.device)
        network.train(images[: recipe.batch_size * WARM_UP_BATCHES], labels[: recipe.batch_size * WARM_UP_BATCHES])
        begun = time.monotonic()
        network.train(images, labels)
        return len(images) / (time.monotonic() - begun)


def spread(values: list[float], unit: float = 1.0, digits: int = 2) -> str:
    low, middle, high = min(values) * unit, statistics.median(values) * unit, max(values) * unit
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def available() -> dict[str, Backend]:
    found = {}
    for name in reversed(NAMES):
        try:
            found[name] = choose_backend(name)
        except SandboxUnavailable as error:
            print(f"{name}: skipped, {error}")
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    torch.set_num_threads(1)
    backends = available()
    cold: dict[str, list[float]] = {name: [] for name in backends}
    rate: dict[str, list[float]] = {name: [] for name in backends}
    warm: dict[str, list[float]] = {name: [] for name in backends}
    for _ in range(rounds):
        for name, backend in backends.items():
            cold[name].append(start_seconds(backend))
            rate[name].append(training_rate(backend))
    for name in backends:
        with launched(name) as backend:
            for _ in range(rounds):
                time.sleep(REFILL_SECONDS)  # a measurement of warm guests, so there has to be one
                warm[name].append(start_seconds(backend))
    print(f"{rounds} rounds in turn, median (min to max)")
    print(f"{'backend':14} {'cold start, s':24} {'warm start, ms':24} {'images/s':22} training, ratio to none")
    for name in backends:
        ratios = [here / bare for here, bare in zip(rate[name], rate["none"], strict=True)]
        print(
            f"{name:14} {spread(cold[name]):24} {spread(warm[name], 1000, 1):24} {spread(rate[name], digits=0):22} "
            f"{spread(ratios)}"
        )


if __name__ == "__main__":
    main()
