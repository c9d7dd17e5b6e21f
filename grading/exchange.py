"""Reports in the formats of others: Gradescope's `results.json`, and JUnit XML."""

import json
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from grading.outcomes import Outcome
from grading.report import BlankReport, CheckReport, GenerationRun, Report
from grading.text import neutralise
from grading.wording import WORDING

UNDECIDED = (Outcome.SKIPPED, Outcome.WITHHELD)  # nobody knows, or may know, whether it is right
LEAST_VISIBLE = ("visible", "after_due_date", "after_published", "hidden")  # Gradescope's words, the strictest last


def gradescope_results(report: Report, visibility: Callable[[str, str], str]) -> str:
    """`results.json`: one test per blank, which carries its points, and one for the accuracy.

    `visibility` says it of a check, by blank and name. A blank is shown when the last of its checks is, since its
    points tell what they found.
    """
    tests: list[dict[str, Any]] = []
    for number, blank in enumerate(report.blanks, 1):
        levels = [visibility(blank.id, check.name) for check in blank.checks]
        test = {
            "name": blank.title,
            "number": str(number),
            "score": blank.points,
            "max_score": blank.max_points,
            "output": _text(blank),
            "output_format": "text",
            "tags": [blank.concept],
            "visibility": max(levels, key=LEAST_VISIBLE.index, default="visible"),
            "extra_data": {"blank": blank.id, "status": blank.status},
        }
        if blank.status not in UNDECIDED:  # Gradescope knows no third status, but can do without
            test["status"] = "passed" if blank.status is Outcome.PASSED else "failed"
        tests.append(test)
    blank_points = sum(blank.points for blank in report.blanks)
    blank_maximum = sum(blank.max_points for blank in report.blanks)
    run = report.generation.submitted if report.generation else None
    generated = {
        "name": "Generated digits",
        "number": str(len(report.blanks) + 1),
        "score": report.score - blank_points,
        "max_score": report.max_score - blank_maximum,
        "output": _accuracy(run),
        "output_format": "text",
        "visibility": "visible",
    }
    if report.verdict != "checks_only":
        generated["status"] = report.verdict
    tests.append(generated)
    leaderboard = []
    if run is not None and run.accuracy is not None:
        leaderboard.append({"name": "Digits read correctly", "value": run.accuracy.estimate, "order": "desc"})
    results = {
        # No score of the whole: it would go before the sum of what is visible, and tell of what is hidden
        "execution_time": sum(report.provenance.seconds.values()),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {
            "submission_sha256": report.provenance.submission_sha256,
            "pack_version": report.provenance.pack_version,
        },
        "tests": tests,
        "leaderboard": leaderboard,
    }
    return json.dumps(results, indent=2)


def junit_xml(report: Report) -> bytes:
    """One suite per blank, one case per check. A blank without checks has one case, which says why."""
    root = Element("testsuites", name=report.provenance.pack)
    for blank in report.blanks:
        suite = SubElement(root, "testsuite", name=blank.id)
        cases = blank.checks or [
            CheckReport(name=blank.id, title=blank.title, outcome=blank.status, message=blank.message)
        ]
        outcomes = [_add_case(suite, blank, check) for check in cases]
        if blank.checks and blank.status is Outcome.WITHHELD:
            to_come = CheckReport(name="to come", title="", outcome=Outcome.WITHHELD, message=blank.message)
            outcomes.append(_add_case(suite, blank, to_come))
        for kind, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            suite.set(attribute, str(outcomes.count(kind)))
        suite.set("tests", str(len(outcomes)))
        suite.set("time", f"{sum(check.seconds for check in blank.checks):.3f}")
    content: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _add_case(suite: Element, blank: BlankReport, check: CheckReport) -> str | None:
    """Add one check, and return what kind of failure it is."""
    case = SubElement(suite, "testcase", classname=blank.id, name=_xml(check.name), time=f"{check.seconds:.3f}")
    kind = _KINDS.get(check.outcome)
    if kind is not None:
        element = SubElement(case, kind, message=_xml(check.message))
        if kind != "skipped":
            element.set("type", check.outcome)
            element.text = _xml("\n".join(filter(None, (check.title, check.expected, check.found))))
    if check.output:
        SubElement(case, "system-out").text = _xml(check.output)
    return kind


# JUnit knows failures, which the code under test is to blame for, and errors, where it did not run to its end
_KINDS = {
    Outcome.FAILED: "failure",
    Outcome.NOT_ATTEMPTED: "skipped",
    Outcome.SKIPPED: "skipped",
    Outcome.WITHHELD: "skipped",
    Outcome.TIMED_OUT: "error",
    Outcome.OUT_OF_MEMORY: "error",
    Outcome.OUTPUT_LIMIT: "error",
    Outcome.CRASHED: "error",
}


def _xml(text: str) -> str:
    """Text without what XML has no place for."""
    return neutralise(text).replace("\ufffe", "").replace("\uffff", "")


def _text(blank: BlankReport) -> str:
    lines = [f"{blank.name}: {WORDING[blank.status].words}.", blank.message]
    lines += [f"{WORDING[check.outcome].symbol} {check.title}" for check in blank.checks]
    return neutralise("\n".join(filter(None, lines)))


def _accuracy(run: GenerationRun | None) -> str:
    if run is None or run.accuracy is None:
        return "No digits were generated."
    share = run.accuracy
    return f"{share.estimate:.1%} of {run.images} digits read correctly ({share.low:.1%} to {share.high:.1%})."
