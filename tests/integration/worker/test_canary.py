"""Canaries: who takes what when something that is known is graded wrongly."""

import shutil

import pytest
import quick_judge
from services import open_store

from records.blobs import BlobStore
from records.models import Assignment
from records.settings import Settings
from records.versions import OPEN_COURSE, Versions
from reference.pack import PACKS, Pack
from worker.canary import Canary
from worker.judges import Judges


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "var", redis_url="memory://")


@pytest.fixture
def store(settings):
    with open_store(settings) as opened:
        yield opened


def wrong_pack(tmp_path) -> Pack:
    folder = tmp_path / "wrong"
    shutil.copytree(PACKS / "ddpm", folder)
    solution = folder / "solution.py"
    solution.write_text("# wrong\n" + solution.read_text())
    return Pack(folder)


def test_a_version_that_comes_out_wrong_stops_itself_and_no_other(settings, store, tmp_path):
    versions = Versions(store.database, BlobStore(settings.blob_dir), settings.version_dir)
    canary = Canary(settings, store.database, versions, Judges(quick_judge.known, preload=("quick_judge",)))
    assert canary.faults() == ({}, True)
    wrong = versions.publish(wrong_pack(tmp_path))
    with store.database.write() as session:
        bundled = session.get_one(Assignment, "ddpm")
        now = bundled.created_at
        session.add(
            Assignment(id="quiz", course_id=OPEN_COURSE, title="Quiz", version_id=wrong, policy={}, created_at=now)
        )
    faults, fit = canary.faults()
    assert (faults.keys(), fit) == ({wrong}, True)
    assert "solution.py of ddpm: alphas should be passed" in faults[wrong]
    with store.database.write() as session:
        session.get_one(Assignment, "ddpm").version_id = wrong
    assert canary.faults() == (faults, False)  # nothing comes out right: it is the worker
