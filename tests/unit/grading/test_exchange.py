"""Reports as others read them."""

import json
from xml.etree import ElementTree

import pytest
import sample_reports
from hypothesis import given
from hypothesis import strategies as st

from grading.exchange import gradescope_results, junit_xml
from grading.outcomes import Outcome
from grading.redaction import redact

# As Gradescope documents them
TOP = {"score", "execution_time", "output", "output_format", "test_output_format", "test_name_format", "visibility"}
TOP |= {"stdout_visibility", "extra_data", "tests", "leaderboard"}
TEST = {"score", "max_score", "status", "name", "name_format", "number", "output", "output_format", "tags"}
TEST |= {"visibility", "extra_data"}


def visible(blank, check):
    return "visible"


@pytest.mark.parametrize("name", ["passing", "four_mistakes"])
def test_gradescope_gets_the_points_of_the_report(name):
    report = getattr(sample_reports, name)()
    results = json.loads(gradescope_results(report, visible))
    assert results.keys() <= TOP
    assert sum(test["score"] for test in results["tests"]) == pytest.approx(report.score)
    assert sum(test["max_score"] for test in results["tests"]) == pytest.approx(report.max_score)
    for test in results["tests"]:
        assert test.keys() <= TEST
        assert test["status"] in ("passed", "failed")
    run = report.generation.submitted
    measured = [] if run is None or run.accuracy is None else [run.accuracy.estimate]
    assert [entry["value"] for entry in results["leaderboard"]] == measured


def test_gradescope_is_told_no_status_of_what_nobody_knows():
    report = sample_reports.passing()
    skipped = report.blanks[0].model_copy(update={"status": Outcome.SKIPPED})
    undecided = report.model_copy(update={"blanks": [skipped, *report.blanks[1:]]})
    told = [test.get("status") for test in json.loads(gradescope_results(undecided, visible))["tests"]]
    assert told[:2] == [None, "passed"]


def test_gradescope_shows_a_blank_when_its_last_check_is_shown():
    report = sample_reports.passing()
    blank = report.blanks[0]
    first, second = blank.checks[:2]
    levels = {(blank.id, first.name): "after_due_date", (blank.id, second.name): "hidden"}
    results = json.loads(gradescope_results(report, lambda *check: levels.get(check, "visible")))
    assert [test["visibility"] for test in results["tests"]][:2] == ["hidden", "visible"]
    assert "score" not in results  # it would go before the sum of what is visible


def test_junit_counts_what_failed():
    report = sample_reports.four_mistakes()
    root = ElementTree.fromstring(junit_xml(report))
    suites = {suite.get("name"): suite for suite in root}
    assert list(suites) == [blank.id for blank in report.blanks]
    for blank in report.blanks:
        suite = suites[blank.id]
        assert int(suite.get("tests")) == len(suite) == max(1, len(blank.checks))
        assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
        bad = int(suite.get("failures")) + int(suite.get("errors"))
        assert (bad > 0) == (blank.status not in (Outcome.PASSED, Outcome.NOT_ATTEMPTED))
    assert suites["sample_w"].get("errors") == "1"


def test_junit_of_a_redacted_report_is_no_success():
    report = sample_reports.passing()
    copy = redact(report, lambda blank, check: "after the due date")
    root = ElementTree.fromstring(junit_xml(copy))
    assert all(int(suite.get("skipped")) >= 1 for suite in root)


@given(text=st.text())
def test_junit_can_be_read_whatever_a_student_printed(text):
    report = sample_reports.passing()
    blank = report.blanks[0]
    check = blank.checks[0].model_copy(update={"output": text, "message": text, "outcome": Outcome.FAILED})
    odd = report.model_copy(update={"blanks": [blank.model_copy(update={"checks": [check]})]})
    root = ElementTree.fromstring(junit_xml(odd))
    assert root.find("testsuite/testcase/failure") is not None
