"""Fuzzes what meets the bytes of others first: the judge's reading of frames, and the harvest."""

import argparse
import secrets
import sys
from collections.abc import Callable

from fuzz import frames, hand_ins, runner

TARGETS: dict[str, Callable[[], runner.Target]] = {"frames": frames.Frames, "hand-ins": hand_ins.HandIns}
SECONDS = 30.0  # for each target, where nothing else is asked for: a minute for both


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds above 0")
    return number


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 0 on")
    return int(text)


def main() -> int:
    """0: nothing found; 1: something was; 2: bad arguments (argparse)."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--target", choices=[*TARGETS, "all"], default="all")
    parser.add_argument("--seconds", type=_seconds, help=f"for each target ({SECONDS:g}, unless --cases is given)")
    parser.add_argument("--cases", type=_count, help="for each target")
    parser.add_argument("--seed", type=_count, help="repeats a run (a new one, unless given)")
    parser.add_argument("--first", type=_count, default=0, help="number of the first case: repeats a failure (0)")
    arguments = parser.parse_args()
    seconds = SECONDS if arguments.seconds is None and arguments.cases is None else arguments.seconds
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    reports = [
        runner.run(make(), seed=seed, first=arguments.first, cases=arguments.cases, seconds=seconds)
        for name, make in TARGETS.items()
        if arguments.target in (name, "all")
    ]
    print(runner.table(reports))
    return 1 if any(report.failures for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
