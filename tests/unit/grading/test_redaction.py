"""What a student's copy of a report must not tell, and that it does not mislead instead."""

import pytest
import sample_reports
from hypothesis import given
from hypothesis import strategies as st

from grading.outcomes import Outcome
from grading.page import render
from grading.redaction import redact
from grading.report import WORKS_TOGETHER, CheckReport, Misconception, Report

LATER = "after the due date"
WRONG = CheckReport(
    name="secret",
    title="the secret check",
    outcome=Outcome.FAILED,
    message="the secret message",
    expected="the secret expectation",
    found="the secret finding",
    misconception=Misconception(id="secret", says="the secret", why="the secret why", topic="the secret topic"),
    output="the secret output",
)
RIGHT = WRONG.model_copy(
    update={"outcome": Outcome.PASSED, "message": "", "expected": None, "found": None, "misconception": None}
)


def hide(*names):
    return lambda blank, check: LATER if check in names else None


def with_check(check: CheckReport, *more: CheckReport, blank: int = 0) -> Report:
    """A passing report whose blank has another check, and what that does to the blank."""
    report = sample_reports.passing()
    old = report.blanks[blank]
    checks = [*old.checks, check, *more]
    failed = [one for one in checks if one.outcome not in (Outcome.PASSED, Outcome.SKIPPED)]
    new = old.model_copy(update={"checks": checks})
    if failed:
        changes = {"status": failed[0].outcome, "points": 0.0, "message": failed[0].message}
        new = new.model_copy(update=changes | {"misconception": failed[0].misconception})
    blanks = [*report.blanks[:blank], new, *report.blanks[blank + 1 :]]
    summary = "the secret summary" if failed else report.summary
    return report.model_copy(
        update={"blanks": blanks, "score": report.score - old.points + new.points, "summary": summary}
    )


def test_what_hides_nothing_stays_as_it_is():
    report = sample_reports.four_mistakes()
    assert redact(report, lambda blank, check: None) is report


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.WITHHELD])
def test_a_hidden_check_leaves_no_trace_but_its_number(outcome):
    """Whatever it found, the copy is the same."""
    found = redact(with_check(WRONG.model_copy(update={"outcome": outcome})), hide("secret"))
    assert found == redact(with_check(RIGHT), hide("secret"))
    text = found.model_dump_json() + render(found, {}, "title")
    assert "secret" not in text
    blank = found.blanks[0]
    assert (blank.status, blank.points) == (Outcome.WITHHELD, 0)
    assert "1 check is shown after the due date." in blank.message


def test_nothing_is_said_to_be_right_while_hidden_checks_decide():
    found = redact(with_check(WRONG), hide("secret"))
    assert "All" not in found.summary
    assert "1 not decided yet" in found.summary
    assert found.score == sum(blank.points for blank in found.blanks) + sample_reports.passing().score - sum(
        blank.max_points for blank in found.blanks
    )
    assert found.verdict == "passed"  # by the digits, which no check decides
    page = render(found, {}, "title")
    assert "1 not decided yet" in page


def test_what_a_shown_check_found_stays_although_others_are_hidden():
    shown = CheckReport(name="shown", title="the shown check", outcome=Outcome.FAILED, message="the shown message")
    for hidden in (WRONG, RIGHT):
        found = redact(with_check(hidden, shown), hide("secret")).blanks[0]
        assert (found.status, found.points) == (Outcome.FAILED, 0)
        assert found.message == "the shown message 1 check is shown after the due date."
        assert found.misconception is None


def test_a_check_that_a_hidden_one_stopped_goes_with_it():
    stopped = CheckReport(
        name="shown", title="t", outcome=Outcome.SKIPPED, message="Another check of this blank ran out of time."
    )
    slow = WRONG.model_copy(update={"outcome": Outcome.TIMED_OUT})
    blank = redact(with_check(slow, stopped), hide("secret")).blanks[0]
    assert blank.status is Outcome.WITHHELD
    assert "ran out of time" not in blank.model_dump_json()
    assert "2 checks are shown" in blank.message


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CRASHED])
def test_what_only_happens_after_hidden_checks_have_passed_leaves_no_trace(outcome):
    misfit = WRONG.model_copy(update={"name": WORKS_TOGETHER, "outcome": outcome})
    assert redact(with_check(RIGHT, misfit), hide("secret")) == redact(with_check(RIGHT), hide("secret"))


def test_what_builds_on_others_tells_nothing_of_them():
    report = with_check(RIGHT)
    blank = report.blanks[3].model_copy(
        update={"status": Outcome.SKIPPED, "points": 0.0, "message": "It builds on the secret blank."}
    )
    copy = redact(report.model_copy(update={"blanks": [*report.blanks[:3], blank, *report.blanks[4:]]}), hide("secret"))
    assert copy.blanks[3].status is Outcome.WITHHELD
    assert "the secret" not in copy.model_dump_json()


def test_a_diagnostic_run_names_failed_blanks_and_goes():
    report = sample_reports.four_mistakes()
    assert report.training.repaired is not None
    hidden = report.blanks[0].checks[0].name
    found = redact(report, hide(hidden))
    assert found.training.repaired is None
    assert found.generation.repaired is None
    assert found.training.submitted == report.training.submitted


def test_points_of_a_repaired_run_go_with_it():
    report = sample_reports.four_mistakes()
    generous = report.model_copy(update={"score": report.score + 5})  # a pack may pay for it
    hidden = hide(report.blanks[0].checks[0].name)
    assert redact(generous, hidden) == redact(report, hidden)


def test_a_blank_that_was_not_checked_is_no_secret():
    report = sample_reports.four_mistakes()
    assert any(not blank.checks for blank in report.blanks)
    found = redact(report, lambda blank, check: LATER)
    for before, after in zip(report.blanks, found.blanks, strict=True):
        if not before.checks:
            assert after == before


@given(hidden=st.sets(st.integers(0, 200)), wrong=st.sets(st.integers(0, 200)))
def test_the_copy_never_depends_on_what_hidden_checks_found(hidden, wrong):
    report = sample_reports.passing()
    checks = [(blank.id, check.name) for blank in report.blanks for check in blank.checks]
    secret = {checks[number % len(checks)] for number in hidden}
    bad = {checks[number % len(checks)] for number in wrong}

    def graded(failing):
        blanks, score = [], report.score
        for blank in report.blanks:
            tried = [
                WRONG.model_copy(update={"name": check.name}) if (blank.id, check.name) in failing else check
                for check in blank.checks
            ]
            failed = [check for check in tried if check.outcome is Outcome.FAILED]
            changes = {"checks": tried}
            if failed:
                score -= blank.points
                changes |= {"status": Outcome.FAILED, "points": 0.0, "message": failed[0].message}
                changes["misconception"] = failed[0].misconception
            blanks.append(blank.model_copy(update=changes))
        return report.model_copy(update={"blanks": blanks, "score": score})

    def hides(blank, check):
        return LATER if (blank, check) in secret else None

    if secret:
        copies = [redact(graded(failing), hides) for failing in (bad, bad - secret, bad | secret)]
        assert copies[1].blanks == copies[0].blanks == copies[2].blanks
        assert len({copy.score for copy in copies}) == 1
        assert len({copy.summary for copy in copies}) == 1
        assert copies[0].score <= graded(bad).score
