"""The report as a page: one HTML file that needs nothing else, neither network nor script."""

import base64
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from grading import charts
from grading.outcomes import Outcome
from grading.report import BlankReport, Interval, Report
from grading.text import neutralise
from grading.wording import WORDING

_PNG = b"\x89PNG\r\n\x1a\n"


def render(report: Report, artifacts: Mapping[str, bytes], pack_title: str) -> str:
    """The page for `report`.

    `artifacts` holds the images that the report names (PNG); one that is missing is said to be missing. Whatever
    comes from a student is shown as text: escaped, and with control characters written out.
    """
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            title=pack_title,
            concepts=_by_concept(report.blanks),
            to_do=[blank for blank in report.blanks if _wants_work(blank)],
            not_attempted=[blank for blank in report.blanks if blank.status is Outcome.NOT_ATTEMPTED],
            not_checked=[blank for blank in report.blanks if blank.status is Outcome.SKIPPED],
            withheld=[blank for blank in report.blanks if blank.status is Outcome.WITHHELD],
            right=[blank for blank in report.blanks if blank.status is Outcome.PASSED],
            blank_points=sum(blank.points for blank in report.blanks),
            blank_max_points=sum(blank.max_points for blank in report.blanks),
            image=lambda name: _data_uri(artifacts.get(name)),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,  # a fact that is missing fails a test, and is not an empty place on the page
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(wording=WORDING, charts=charts)
    environment.filters.update(
        percent=_percent,
        mark=lambda share: f"{share * 100:g}%",
        interval=_interval,
        number=lambda value: f"{value:,.0f}",
        points=lambda value: f"{value:g}",
        duration=_duration,
        prose=_prose,
        capitalize_first=lambda text: text[:1].upper() + text[1:],  # unlike `capitalize`, leaves the rest as it is
    )
    return environment


def _shown(value: object) -> object:
    """What every expression of a template passes through before it is escaped."""
    return neutralise(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _by_concept(blanks: Iterable[BlankReport]) -> dict[str, list[BlankReport]]:
    concepts: dict[str, list[BlankReport]] = {}
    for blank in blanks:
        concepts.setdefault(blank.concept, []).append(blank)
    return concepts


def _wants_work(blank: BlankReport) -> bool:
    return blank.status not in (Outcome.PASSED, Outcome.NOT_ATTEMPTED, Outcome.WITHHELD, Outcome.SKIPPED)


def _data_uri(image: bytes | None) -> str | None:
    if image is None or not image.startswith(_PNG):
        return None
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _interval(interval: Interval) -> str:
    return f"{interval.low:.1%} to {interval.high:.1%}"


def _duration(seconds: float) -> str:
    if seconds < 10:  # below ten seconds the tenths say something
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _prose(text: str) -> Markup:
    """A message, with what stands between backticks set as code."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(neutralise(text)))))  # noqa: S704  escaped first
