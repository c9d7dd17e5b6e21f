"""`noisemark grade --no-train`, cold, against the shortest thing that any grader of torch code has to do: import torch.

The two run in turn, so that a machine that gets slower is slower for both; what counts is the ratio of each pair.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASELINE = [sys.executable, "-c", "import torch"]
CHECKS = [sys.executable, "-m", "cli.main", "grade", "reference/packs/ddpm/solution.py", "--no-train"]
RUNS = 5  # enough for a median and a spread that one slow run does not decide


def seconds(command: list[str]) -> float:
    """Wall time of a command that has to succeed."""
    start = time.monotonic()
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    seconds(BASELINE)  # fills the disk cache for both
    seconds(CHECKS)
    pairs = [(seconds(CHECKS), seconds(BASELINE)) for _ in range(runs)]
    print(f"{runs} runs in turn, median (min to max)")
    print(f"checks of all 21 blanks, cold: {spread([checks for checks, _ in pairs])} s")
    print(f"import torch:                  {spread([baseline for _, baseline in pairs])} s")
    print(f"ratio:                         {spread([checks / baseline for checks, baseline in pairs])}")


if __name__ == "__main__":
    main()
