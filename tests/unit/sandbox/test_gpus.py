"""Leases of GPUs. No GPU is needed: a lease is a lock on a file."""

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from sandbox import gpus
from sandbox.faults import SandboxError

UUIDS = ["GPU-a", "GPU-b"]


def test_every_lease_is_of_another_gpu_until_none_is_left(tmp_path: Path) -> None:
    with gpus.lease(UUIDS, folder=tmp_path) as one, gpus.lease(UUIDS, folder=tmp_path) as two:
        assert {one, two} == set(UUIDS)
        with pytest.raises(SandboxError, match="no GPU became free"), gpus.lease(UUIDS, folder=tmp_path, wait=0):
            pass
    with gpus.lease(UUIDS, folder=tmp_path, wait=0) as again:
        assert again in UUIDS


def test_slots_fill_every_gpu_before_any_one_twice(tmp_path: Path) -> None:
    with (
        gpus.lease(UUIDS, slots=2, folder=tmp_path) as one,
        gpus.lease(UUIDS, slots=2, folder=tmp_path) as two,
        gpus.lease(UUIDS, slots=2, folder=tmp_path) as three,
    ):
        assert {one, two} == set(UUIDS)
        assert three in UUIDS


def _hold(folder: Path, told: Connection) -> None:
    with gpus.lease(UUIDS[:1], folder=folder):
        told.send("held")
        told.recv()


def test_a_judge_that_is_killed_gives_its_lease_back(tmp_path: Path) -> None:
    ours, theirs = multiprocessing.Pipe()
    judge = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path, theirs))
    judge.start()
    assert ours.recv() == "held"
    with pytest.raises(SandboxError), gpus.lease(UUIDS[:1], folder=tmp_path, wait=0):
        pass
    judge.kill()
    judge.join()
    with gpus.lease(UUIDS[:1], folder=tmp_path, wait=0) as uuid:
        assert uuid == UUIDS[0]


def test_a_machine_without_a_gpu_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.devices() == []
    with pytest.raises(SandboxError, match="no GPU that nvidia-smi knows of"), gpus.lease(gpus.devices()):
        pass


def test_what_nvidia_smi_says_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho GPU-1\necho GPU-2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpus.devices() == ["GPU-1", "GPU-2"]
