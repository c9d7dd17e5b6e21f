"""What an earlier grading found out is not found out again: rescoring starts no guest, rechecking trains nothing."""

import shutil

import pytest
import sample_reports
from course_editions import NEWER, OLDER, SLIP, changed

from grading.grade import Known, grade
from grading.hand_in import read_hand_in
from grading.outcomes import InfrastructureFault
from grading.report import Report, outcome
from reference.pack import Pack, load_pack
from sandbox.backend import Backend
from sandbox.plain import NoSandbox

PACK = load_pack("ddpm")
WRONG_ALPHAS = PACK.solution.read_text().replace("alphas = 1.0 - betas", "alphas = betas - 1.0")
OWN_SLIP = changed(NEWER, ("model(x_noisy, t, *model_args)", SLIP))


class NoGuests(Backend):
    name = "no guests"
    isolation = "nothing is started"

    def launch(self, limits):
        raise AssertionError("a guest was asked for")


@pytest.fixture
def changed(tmp_path):
    """The pack with some texts of pack.toml replaced."""

    def make(replaced: dict[str, str]) -> Pack:
        root = tmp_path / "ddpm"
        shutil.copytree(PACK.root, root)
        text = (root / "pack.toml").read_text()
        for old, new in replaced.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        (root / "pack.toml").write_text(text)
        return Pack(root)

    return make


def run(source: str, pack: Pack, backend: Backend, known: Known, corrections_off: frozenset[str] = frozenset()):
    return grade(
        read_hand_in("answers.py", source.encode()),
        pack,
        pack.recipe(None),
        backend=backend,
        key=b"key",
        train=False,
        device="cpu",
        emit=lambda _: None,
        known=known,
        corrections_off=corrections_off,
    )


def test_rescoring_takes_the_points_of_the_pack_and_starts_nothing(changed):
    earlier = sample_reports.below_mark()
    assert earlier.verdict == "failed"
    pack = changed({"points = 40": "points = 60", "pass_mark = 0.95": "pass_mark = 0.85"})
    known = Known(checks=earlier, training=earlier, artifacts={"grid.png": b"png"})
    grading = run("x = 1\n", pack, NoGuests(), known)
    report = grading.report
    assert [(blank.id, blank.status) for blank in report.blanks] == [(b.id, b.status) for b in earlier.blanks]
    submitted = report.generation.submitted
    assert (submitted.accuracy, submitted.passed) == (earlier.generation.submitted.accuracy, True)
    assert report.score == sum(blank.points for blank in report.blanks) + 60
    assert report.verdict == "passed"
    assert grading.artifacts == {"grid.png": b"png"}
    assert report.provenance.reused == ["check", "train"]
    assert report.provenance.pack_version == pack.version


def test_other_blanks_cannot_be_rescored():
    earlier = sample_reports.passing()
    fewer = earlier.model_copy(update={"blanks": earlier.blanks[1:]})
    with pytest.raises(InfrastructureFault, match="other blanks"):
        run("x = 1\n", PACK, NoGuests(), Known(checks=fewer, training=fewer))


def test_rechecking_keeps_the_training_and_finds_what_is_wrong_now():
    earlier = sample_reports.passing()
    report = run(WRONG_ALPHAS, PACK, NoSandbox(), Known(training=earlier)).report
    assert [blank.id for blank in report.blanks if blank.status != "passed"] == ["alphas"]
    assert (report.training, report.generation) == (earlier.training, earlier.generation)
    assert report.provenance.classifier == earlier.provenance.classifier
    assert report.provenance.reused == ["train"]


def test_a_repaired_run_goes_when_its_blanks_have_passed_since():
    earlier = sample_reports.four_mistakes()
    assert earlier.training.repaired is not None
    passing = sample_reports.passing()
    report = run("x = 1\n", PACK, NoGuests(), Known(checks=passing, training=earlier)).report
    assert report.training.repaired is None
    assert report.generation.repaired is None
    assert report.training.submitted == earlier.training.submitted


def test_what_an_edition_gives_wrong_is_put_right_unless_the_assignment_says_otherwise():
    report = run(OLDER, PACK, NoSandbox(), Known()).report
    concerned = {"get_loss", "RearrangePoolBlock", "SinusoidalPositionEmbedBlock"}
    assert {blank.status for blank in report.blanks if blank.id in concerned} == {"passed"}
    assert (report.provenance.edition, report.provenance.corrections) == ("older", ["older/loss-time", "older/imports"])
    assert len(report.notices) == 2

    without = run(OLDER, PACK, NoSandbox(), Known(), frozenset({"older/loss-time"})).report
    (failed,) = (blank for blank in without.blanks if blank.id in concerned and blank.status != "passed")
    assert (failed.id, failed.misconception.id) == ("get_loss", "loss-time-divided")
    assert (without.provenance.corrections, len(without.notices)) == (["older/imports"], 1)
    assert outcome(without)["corrections_off"] == without.provenance.corrections_off == ["older/loss-time"]

    (mistaken,) = (blank for blank in run(OWN_SLIP, PACK, NoSandbox(), Known()).report.blanks if blank.id == "get_loss")
    assert mistaken.misconception.id == "loss-time-divided"  # the newer edition does not give it: it is a mistake

    # What follows on checks is made with the same corrections, whatever the assignment says by then
    later = run(OLDER, PACK, NoGuests(), Known(checks=without, training=sample_reports.passing())).report
    assert later.provenance.corrections == without.provenance.corrections
    assert later.provenance.corrections_off == without.provenance.corrections_off
    assert later.notices == without.notices


def test_a_report_from_before_there_were_editions_is_rescored_as_it_was():
    earlier = sample_reports.passing().model_dump(mode="json")
    for name in ("edition", "corrections", "corrections_off"):
        del earlier["provenance"][name]
    known = Report.model_validate(earlier)
    report = run(OLDER, PACK, NoGuests(), Known(checks=known, training=known)).report
    assert (report.provenance.corrections, report.notices) == ([], [])
