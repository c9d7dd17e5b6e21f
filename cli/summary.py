"""A report in a terminal: short, in words."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.console import RED, TONES, out
from grading.outcomes import Outcome
from grading.report import BlankReport, GenerationRun, Report
from grading.text import neutralise
from grading.wording import WORDING


def print_report(report: Report) -> None:
    """The blanks as a table, then accuracy, score and verdict, on stdout."""
    console = out()
    console.print(_blanks(report.blanks, console))
    for line in _lines(report):
        console.print(line)


def _blanks(blanks: list[BlankReport], console: Console) -> Table:
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=console.is_terminal)
    table.add_column("")
    table.add_column("blank", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("points", justify="right", no_wrap=True)
    table.add_column("what to know", overflow="fold")
    for blank in blanks:
        wording = WORDING[blank.status]
        style = TONES[wording.tone]
        table.add_row(
            Text(wording.symbol, style=style),
            Text(neutralise(blank.name)),
            Text(wording.words, style=style),
            Text(f"{blank.points:g}/{blank.max_points:g}"),
            Text(_remark(blank, one_line=not console.is_terminal)),
        )
    return table


def _remark(blank: BlankReport, *, one_line: bool) -> str:
    if blank.status is Outcome.PASSED:
        return ""
    # Many messages name the very line, and then the place of the definition says less
    told = blank.file is None or blank.line is None or blank.file in blank.message
    place = "" if told else f" ({blank.file}, line {blank.line})"
    remark = neutralise(blank.message + place)
    return " ".join(remark.split()) if one_line else remark


def _lines(report: Report) -> list[Text]:
    lines = [Text(neutralise(notice)) for notice in report.notices]
    submitted = report.generation.submitted if report.generation else None
    repaired = report.generation.repaired if report.generation else None
    if report.training is not None and report.training.submitted.status is not Outcome.PASSED:
        lines.append(Text(f"Training: {neutralise(report.training.submitted.message)}"))
    if submitted is not None:
        lines.append(_digits("Digits", submitted))
    if report.findings:
        finding = report.findings[0]
        lines.append(Text(neutralise(f"What we saw: {finding.title}. {finding.evidence} {finding.next_step}")))
    if repaired is not None:
        lines.append(_digits("Diagnostic run with the marked blanks put right, earns no points", repaired))
    verdict, tone = {
        "passed": ("Passed", "good"),
        "failed": ("Not passed yet", "bad"),
        "checks_only": ("Checks only, no training", "open"),
    }[report.verdict]
    lines.append(
        Text.assemble(
            f"Score: {report.score:g} of {report.max_score:g}. ",
            (f"{verdict}.", TONES[tone]),
            f" Tier: {report.tier}." if report.tier else "",
            f" {report.tier_note}" if report.tier_note else "",
        )
    )
    if not report.provenance.sandboxed:
        lines.append(Text("Run without a sandbox: good for your own work, does not count for a course.", style=RED))
    return lines


def _digits(title: str, run: GenerationRun) -> Text:
    if run.accuracy is None:
        return Text(f"{title}: {neutralise(run.message)}")
    accuracy = run.accuracy
    return Text(
        f"{title}: {accuracy.estimate:.1%} of {run.images:,} read correctly "
        f"({accuracy.confidence:.0%} interval {accuracy.low:.1%} to {accuracy.high:.1%}); "
        f"pass mark {run.pass_mark:.0%}."
    )
