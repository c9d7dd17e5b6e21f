"""The fuzz targets find nothing; and they would, if there were something."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz import frames, hand_ins, runner
from fuzz.runner import Failed, Report

from grading import archive, harvest, modules
from grading.outcomes import BadInput
from sandbox import exchange, validation
from sandbox.channel import Channel, DeadlinePassed
from sandbox.faults import Ending, GuestFault
from sandbox.guest import wire

SEED = 1  # CI repeats the same cases; new ones are for scripts/fuzz
FRAMES = 20_000  # some 20 s
HAND_INS = 300  # some 30 s
BROKEN_FRAMES = 2_000  # within these each of the mistakes below shows
BROKEN_HAND_INS = 60


@pytest.fixture(autouse=True)
def _no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "OUTPUT", tmp_path)


def words(report: Report) -> str:
    return "\n".join(map(str, report.failures))


def test_no_frame_breaks_the_judge() -> None:
    report = runner.run(frames.Frames(), seed=SEED, cases=FRAMES)
    assert words(report) == ""
    assert report.cases == FRAMES
    # It reaches everything that a frame may end in
    assert report.outcomes.keys() == {"value", *(ending.value for ending in Ending)}


def test_no_hand_in_breaks_the_harvest() -> None:
    report = runner.run(hand_ins.HandIns(), seed=SEED, cases=HAND_INS)
    assert words(report) == ""
    assert report.cases == HAND_INS
    kinds = {outcome.split(":")[0] for outcome in report.outcomes}
    assert {"module", "notebook", "several", "zipped", "named"} <= kinds
    assert {"module: refused", "module: harvested, some found", "notebook: refused"} <= report.outcomes.keys()


# --- each of these mistakes is found ------------------------------------------------------------------------------


def _no_cap(prefix: bytes, reply_bytes: int) -> tuple[int, int]:
    return wire.PREFIX.unpack(prefix)


def _any_number(buffer: bytearray, dtype: Any, shape: tuple[int, ...]) -> Any:
    return wire.tensor_from(buffer, dtype, list(shape))


def _unchecked_spec(spec: Any) -> tuple[Any, tuple[int, ...], int]:
    return wire.DTYPES[spec[0]], tuple(spec[1]), 0


def _wrong_witness(self: exchange.Exchange, **_: Any) -> GuestFault:
    return GuestFault(Ending.TIMED_OUT, "took too long")


def _text_as_it_came(found: Any, length: int = 0) -> str | None:
    return found if isinstance(found, str) else None


def _read_without_end(self: Channel) -> bool:
    try:
        return bool(os.read(self._output, 2**20))
    except BlockingIOError:
        return False


def _receive_nothing(self: Channel, size: int) -> bytearray:
    return bytearray(size)


@pytest.mark.parametrize(
    ("owner", "name", "mistake", "found"),
    [
        (validation, "check_lengths", _no_cap, "about to allocate"),
        (validation, "make_tensor", _any_number, "neither plain nor finite"),
        (validation, "_spec", _unchecked_spec, "Error"),
        (validation, "text", _text_as_it_came, "passed on as it came"),
        (validation, "value", lambda tree, tensors: tree, "neither plain nor finite|another value"),
        (validation, "_check_finite", lambda found: None, "neither plain nor finite"),
        (exchange.Exchange, "_cause", _wrong_witness, "timed_out .* not what happened"),
        (Channel, "_read_output", _read_without_end, "flood of output went unnoticed"),
        (Channel, "receive", _receive_nothing, "not what happened|another value"),
    ],
)
def test_a_mistake_in_reading_frames_is_found(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, mistake: Callable[..., Any], found: str
) -> None:
    monkeypatch.setattr(owner, name, mistake)
    report = runner.run(frames.Frames(), seed=SEED, cases=BROKEN_FRAMES)
    assert report.failures
    with pytest.raises(Failed, match=found):
        raise Failed(words(report))


def test_waiting_past_the_deadline_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "SHORT_SHARE", 1.0)
    monkeypatch.setattr(frames, "SLACK_SECONDS", 0.1)
    wait = Channel._wait

    def late(self: Channel, event: int) -> None:
        try:
            wait(self, event)
        except DeadlinePassed:
            time.sleep(0.2)
            raise

    monkeypatch.setattr(Channel, "_wait", late)
    assert "the judge took" in words(runner.run(frames.Frames(), seed=SEED, cases=100))


@pytest.mark.parametrize(
    ("owner", "name", "mistake", "found"),
    [
        (archive, "_DAMAGE", (OSError,), "BadZipFile"),
        (harvest._Harvester, "_missing", lambda self, blank: None, "AttributeError"),
        (modules, "rename", lambda source, *_: source + "(", "no Python any more"),
    ],
)
def test_a_mistake_in_the_harvest_is_found(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, mistake: Any, found: str
) -> None:
    target = hand_ins.HandIns()
    monkeypatch.setattr(owner, name, mistake)
    assert found in words(runner.run(target, seed=SEED, cases=BROKEN_HAND_INS))


def test_a_refusal_that_cannot_be_shown_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BadInput("\ud800")

    target = hand_ins.HandIns()
    monkeypatch.setattr(hand_ins, "harvest", refuse)
    assert "cannot be shown" in words(runner.run(target, seed=SEED, cases=10))


# --- the runner ---------------------------------------------------------------------------------------------------


class Probe:
    """A target that does as it is told."""

    name = "probe"
    step = 4
    growth_bytes = 50 * 2**20

    def __init__(self, action: Callable[[int], str]) -> None:
        self.action = action
        self.cases: list[int] = []

    def run(self, rng: random.Random, case: int) -> str:
        self.cases.append(case)
        return self.action(case)

    def input(self) -> tuple[str, bytes]:
        return ".bin", b"input"

    def close(self) -> None:
        pass


def test_a_case_without_end_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "HANG_SECONDS", 0.2)
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.05)

    def endless(case: int) -> str:
        while case == 1:
            pass
        return "done"

    report = runner.run(Probe(endless), seed=SEED, cases=3)
    assert [failure.case for failure in report.failures] == [1]
    assert "Hang" in words(report)
    assert report.outcomes == {"done": 2, "FAILURE": 1}


def test_memory_that_grows_is_found() -> None:
    kept: list[bytes] = []

    def grow(case: int) -> str:
        kept.append(b"x" * 100 * 2**20)
        return "done"

    # The peak of a process never falls: what earlier tests took is exceeded for certain
    report = runner.run(Probe(grow), seed=SEED, cases=8)
    assert "MiB" in words(report)


def test_a_failure_says_how_to_repeat_it_and_keeps_its_input(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(case: int) -> str:
        raise Failed("wrong")

    probe = Probe(fail)
    report = runner.run(probe, seed=7, first=6, cases=1)
    assert probe.cases == [4, 5, 6]  # with those that share a state
    assert "probe, seed 7, case 6: Failed: wrong" in capsys.readouterr().out
    assert report.failures[-1].path.read_bytes() == b"input"


def test_a_seed_repeats_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "SHORT_SHARE", 0.0)  # who is in time within 10 ms depends on the machine
    outcomes = [runner.run(frames.Frames(), seed=5, cases=300).outcomes for _ in range(2)]
    assert outcomes[0] == outcomes[1]
    made = [hand_ins.MAKERS[0](runner.random_for(5, 1)) for _ in range(2)]
    assert made[0] == made[1]
