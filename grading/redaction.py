"""A report as its student may see it now: without the checks that are hidden from him.

What such a check found must not be told by anything else in the report either, nor may the report sound as if they had
passed. So of a blank with hidden checks

- one that a shown check fails on has failed, whatever the hidden ones say: it shows as failed, by what is shown;
- any other is `withheld`: neither right nor wrong, without points for now, and with the number of checks to come. That
  holds whether or not the hidden ones passed: otherwise the difference would tell;
- a check that was skipped goes with the hidden ones, as it may be one of these that stopped it;
- that it does not work together with the rest goes without a trace: only what has passed its own checks is tried so.

A blank that was not checked, as it builds on one that is not right, is withheld wherever anything is hidden: it may be
a hidden check that says so.

Score and summary follow from what is left: the score counts what is certain, so it can only rise. The diagnostic run
with repaired blanks goes wherever anything is withheld, as it says which blanks failed. What training and generation
show of the pipeline as handed in stays: it is measured on the student's own network, not by checks.
"""

from collections import Counter
from collections.abc import Callable

from grading.outcomes import Outcome
from grading.report import WORKS_TOGETHER, BlankReport, Report
from grading.scoring import summarise

Hidden = Callable[[str, str], str | None]  # blank, check -> when it is shown, in words; None: it is shown now


def redact(report: Report, hidden: Hidden) -> Report:
    """The report without what is hidden. What shows everything comes back as it is."""
    blanks = [_redact_blank(blank, hidden) for blank in report.blanks]
    if blanks == report.blanks:
        return report
    blanks = [_not_checked(blank) if blank.status is Outcome.SKIPPED else blank for blank in blanks]
    generation = report.generation and report.generation.model_copy(update={"repaired": None})
    submitted = generation.submitted if generation else None
    accuracy_points = 0.0
    if submitted is not None and submitted.passed:
        accuracy_points = report.score - sum(blank.points for blank in report.blanks)
    return report.model_copy(
        update={
            "blanks": blanks,
            "score": sum(blank.points for blank in blanks) + accuracy_points,
            "summary": summarise(blanks, report.training, submitted, None),
            "training": report.training and report.training.model_copy(update={"repaired": None}),
            "generation": generation,
        }
    )


def _redact_blank(blank: BlankReport, hidden: Hidden) -> BlankReport:
    when = {check.name: hidden(blank.id, check.name) for check in blank.checks}
    to_come = Counter(words for name, words in when.items() if words is not None and name != WORKS_TOGETHER)
    if not to_come:
        return blank
    shown = [check for check in blank.checks if when[check.name] is None and check.name != WORKS_TOGETHER]
    skipped = [check for check in shown if check.outcome is Outcome.SKIPPED]
    if skipped:
        to_come[to_come.most_common(1)[0][0]] += len(skipped)
    shown = [check for check in shown if check.outcome is not Outcome.SKIPPED]
    note = " ".join(_count(number, words) for words, number in to_come.items())
    failed = [check for check in shown if check.outcome is not Outcome.PASSED]
    if failed:
        decisive = next((check for check in failed if check.misconception is not None), failed[0])
        changes = {
            "status": failed[0].outcome,
            "message": " ".join(filter(None, (decisive.message, note))),
            "misconception": decisive.misconception,
        }
    else:
        message = f"{note} What this blank earns depends on {'them' if to_come.total() > 1 else 'it'}."
        changes = {"status": Outcome.WITHHELD, "message": message, "misconception": None}
    return blank.model_copy(update={"points": 0.0, "checks": shown} | changes)


def _not_checked(blank: BlankReport) -> BlankReport:
    shown = [check for check in blank.checks if check.outcome is not Outcome.SKIPPED]
    message = "It builds on others that are not decided yet."
    return blank.model_copy(update={"status": Outcome.WITHHELD, "message": message, "checks": shown})


def _count(number: int, words: str) -> str:
    return f"{number} {'checks are' if number > 1 else 'check is'} shown {words}."
