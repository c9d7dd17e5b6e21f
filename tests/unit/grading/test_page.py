"""The page: every fact is on it, nothing of a student's can act on it, and it needs nothing else."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import sample_reports
from hypothesis import given, settings
from hypothesis import strategies as st

from grading.outcomes import Outcome
from grading.page import render
from grading.report import CheckReport, HyperParameter, Report, Training
from grading.wording import WORDING

ROOT = Path(__file__).parents[3]
TITLE = "Generating digits with a diffusion model"
SAMPLES = [
    sample_reports.passing,
    sample_reports.four_mistakes,
    sample_reports.below_mark,
    sample_reports.untouched_starter,
]


class Page(HTMLParser):
    """A page taken apart."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("dd", "td", "th"):  # stand apart on a screen
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def structure(self) -> Counter[tuple[str, tuple[str, ...]]]:
        return Counter((tag, tuple(sorted(attributes))) for tag, attributes in self.elements)

    def attributes(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]


def page(report: Report) -> Page:
    return Page(render(report, sample_reports.ARTIFACTS, TITLE))


def with_blank(report: Report, blank_id: str, **changes: object) -> Report:
    blanks = [blank.model_copy(update=changes) if blank.id == blank_id else blank for blank in report.blanks]
    return report.model_copy(update={"blanks": blanks})


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_fact_of_the_blanks_is_shown(sample: Callable[[], Report]) -> None:
    report = sample()
    text = page(report).text
    for blank in report.blanks:
        assert f"{blank.title[:1].upper()}{blank.title[1:]} {blank.name}" in text
        assert f"{WORDING[blank.status].words} {blank.points:g} of {blank.max_points:g}" in text
        assert blank.message.replace("`", "") in text
        if blank.file:
            assert f"Found as {blank.found_as} in {blank.file}, line {blank.line}." in text
        for check in blank.checks:
            assert f"{check.title[:1].upper()}{check.title[1:]}" in text
            for fact in (check.message, check.expected, check.found, check.output):
                assert " ".join((fact or "").split()) in text


@pytest.mark.parametrize("sample", SAMPLES)
def test_verdict_score_notices_and_provenance_are_shown(sample: Callable[[], Report]) -> None:
    report = sample()
    parts = page(report)
    facts = report.provenance
    assert report.summary in parts.text
    assert f"Score: {report.score:g} of {report.max_score:g} points" in parts.attributes("aria-label")
    for fact in (
        *(notice.replace("`", "") for notice in report.notices),
        *(facts.submission_sha256, facts.pack_version, facts.recipe, facts.dataset, facts.seed),
        *(facts.backend, facts.isolation, facts.device, *facts.versions.values(), *facts.seconds),
        "2026-03-14 15:09:26 UTC",
    ):
        assert fact in parts.text


def test_training_and_generation_are_shown() -> None:
    parts = page(sample_reports.passing())
    for fact in (
        "51,200",
        "834 images per second",
        "152,433",
        "198 of 200 digits read correctly: 99.0% (95% interval 96.4% to 99.7%); "
        "the pass mark, the upright line, is 95%.",
        "with 99.9% confidence the accuracy lies between 95.1% and 100.0%".capitalize(),
        "guidance weight w = 2",
        "49 of 50 digits are read correctly",
        "Every one of the 150 steps follows from the one before.",
        "Tier Gold",
        "86.0% of 50 73.8% to 93.0% 2.00",  # of the sweep, with variety
        "19 of 20 76.4% to 99.1% 1.05",  # of one digit
        "the course's own has 152,433",
        "90% read correctly after 17,066 images",
        "95% read correctly after 34,133 images 5 looks at 100 images each: 22%, 91%, 94%, 97%, 99%",
        "w = 2 reads best; from w = 1 on, more guidance makes no difference",
        "98.0% follow",
        "10 of 10 digits appear",
        "agrees on 99.0% on real digits on 98.3%",
        "84.5 images per second 1 at once: 7.9; 10 at once: 46.1; 100 at once: 85.7",
        "250 MiB at most",
        "asked for 8, read as 3 (94% sure); asked for 9, read as 5 (71% sure); asked for 1, read as 8 (49% sure).",
        "a few digits at t = 149, 131, 112, 94, 75, 56, 38, 19, and finished",
        "w 2 ✓ in the usual range solution.py, line 340",
    ):
        assert fact in parts.text
    assert "Worth a look" not in parts.text
    assert [tag for tag, _ in parts.elements].count("img") == 4
    assert parts.attributes("class").count("chart") == 3


def test_what_was_measured_before_these_parts_existed_is_still_shown() -> None:
    report = sample_reports.passing()
    assert report.training is not None
    assert report.generation is not None
    assert report.generation.submitted is not None
    training = report.training.submitted.model_dump(include={"status", "message", "images", "seconds", "loss"})
    generation = report.generation.submitted.model_dump(
        include={"status", "message", "guidance_weight", "pass_mark", "images", "correct", "accuracy"}
    )
    old = report.model_dump() | {"training": {"submitted": training}, "generation": {"submitted": generation}}
    text = page(Report.model_validate(old)).text
    assert "198 of 200 digits read correctly" in text
    assert "A closer look" not in text
    assert "Misread digits" not in text


def test_findings_flags_and_values_are_shown_before_the_blanks() -> None:
    report = sample_reports.below_mark()
    (finding,), (flag,), (value,) = report.findings, report.flags, report.hyperparameters
    text = page(report).text
    for fact in (
        *(finding.title, finding.cause, finding.evidence, f"Next: {finding.next_step.replace('`', '')}"),
        *(f"{flag.title}. {flag.evidence}", "they change no points by themselves"),
        f"{value.name} {value.value:g} ! far from what is usual {value.advice} {value.place}",
        "Worth a look: 3 (75.0%, far below the others), 5 (80.0%), 8 (80.0%).",
        report.tier_note or "",
    ):
        assert fact in text
    assert text.index("What we saw") < text.index("Open a card to see its checks.")
    assert "What we saw" not in page(sample_reports.untouched_starter()).text


def test_a_repaired_run_is_labelled_as_diagnostic() -> None:
    text = page(sample_reports.four_mistakes()).text
    submitted, _, repaired = text.partition("Diagnostic run: it earns no points")
    assert "q, UpBlock, get_context_mask, sample_w and w were replaced by the course's own code" in repaired
    assert "the rest of your work reaches 97.0%" in repaired
    assert "194 of 200" not in submitted
    assert "Diagnostic run" not in page(sample_reports.passing()).text


def test_a_run_without_a_sandbox_says_so_first() -> None:
    unsafe = page(sample_reports.below_mark())
    assert "alert" in unsafe.attributes("role")
    assert unsafe.text.index("Run without a sandbox.") < unsafe.text.index("Not passed yet", 100)
    assert "alert" not in page(sample_reports.passing()).attributes("role")


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_page_needs_nothing_else(sample: Callable[[], Report]) -> None:
    html = render(sample(), sample_reports.ARTIFACTS, TITLE)
    parts = Page(html)
    tags = {tag for tag, _ in parts.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert all(source.startswith("data:image/png;base64,") for source in parts.attributes("src"))
    assert all(target.startswith("#") for target in parts.attributes("href") + parts.attributes("xlink:href"))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert not [name for _, attributes in parts.elements for name in attributes if name.startswith("on")]


@pytest.mark.parametrize("sample", SAMPLES)
def test_ids_are_unique_and_references_lead_somewhere(sample: Callable[[], Report]) -> None:
    parts = page(sample())
    ids = parts.attributes("id")
    assert [name for name, count in Counter(ids).items() if count > 1] == []
    targets = [target[1:] for target in parts.attributes("href") + parts.attributes("xlink:href")]
    assert set(targets) | set(parts.attributes("aria-labelledby")) <= set(ids)


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre></style><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "`<b>bold</b>`",
    "&lt;already&gt;",
    "=cmd|'/c calc'!A0",
]


HOSTILE_PLACES = 15  # that `hostile_report` fills


def hostile_report(text: str) -> Report:
    """A report with `text` in every place that a student's words can reach."""
    report = sample_reports.four_mistakes()
    check = CheckReport(
        name="x", title="t", outcome=Outcome.FAILED, message=text, expected=text, found=text, output=text
    )
    report = with_blank(report, "q", message=text + "!", found_as=text, file=text, checks=[check])
    training = Training(submitted=sample_reports.training_run(status=Outcome.CRASHED, message=text, loss=[]))
    return report.model_copy(
        update={
            "summary": text,
            "notices": [text],
            "training": training,
            "findings": [sample_reports.FINDING.model_copy(update={"evidence": text})],
            "hyperparameters": [HyperParameter(name="w", value=2, place=text, range="safe", advice="")],
            "generation": None,  # holds nothing of a student's, and its charts take time
            "provenance": sample_reports.provenance(isolation=text, device=text, versions={"x": text}),
        }
    )


@pytest.mark.threat(48)
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text(text: str) -> None:
    hostile = page(hostile_report(text))
    plain = page(hostile_report("`x`" if text.startswith("`") else "x"))
    assert hostile.structure == plain.structure
    assert hostile.text.count(text.strip("`")) == HOSTILE_PLACES


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="`"), min_size=1, max_size=20))
def test_no_text_changes_the_structure_of_the_page(text: str) -> None:
    html = render(hostile_report(f"x{text}"), {}, TITLE)
    assert Page(html).structure == Page(render(hostile_report("x"), {}, TITLE)).structure
    assert re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html) is None
    html.encode()


@pytest.mark.threat(48)
def test_terminal_sequences_and_direction_overrides_are_made_harmless() -> None:
    text = page(with_blank(sample_reports.passing(), "q", file="evil\u202eyp.py\x1b[31mred\x07", found_as="q")).text
    assert r"evil\u202eyp.pyred\x07" in text


@pytest.mark.threat(48)
def test_only_images_that_are_png_are_embedded() -> None:
    artifacts = {sample_reports.GRID: b"<svg onload='alert(1)'></svg>"}
    parts = Page(render(sample_reports.passing(), artifacts, TITLE))
    assert parts.attributes("src") == []
    assert f"The image {sample_reports.GRID} is not at hand." in parts.text
    assert f"The image {sample_reports.OWN_LOOP} is not at hand." in parts.text


def test_rendering_needs_no_torch() -> None:
    code = (
        "import sys, sample_reports; from grading.page import render; "
        "render(sample_reports.passing(), sample_reports.ARTIFACTS, 'x'); "
        "assert 'matplotlib.pyplot' not in sys.modules; sys.exit('torch' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = ['{ROOT}', '{ROOT / 'tests'}']; {code}"], check=True
    )


def test_the_same_report_gives_the_same_page() -> None:
    assert len({render(sample_reports.passing(), sample_reports.ARTIFACTS, TITLE) for _ in range(2)}) == 1


def _luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_that_reading_needs(theme: int) -> None:
    css = (ROOT / "grading" / "templates" / "style.css").read_text()
    rule = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", rule))
    pairs = [
        *((ink, ground) for ink in ("ink", "muted", "accent") for ground in ("surface", "page")),
        *((tone, ground) for tone in ("good", "bad", "open", "warn") for ground in ("surface", "page", f"{tone}-soft")),
        ("ink", "open-soft"),  # code
    ]
    ratios = {}
    for ink, ground in pairs:
        light, dark = sorted((_luminance(colours[ink]), _luminance(colours[ground])), reverse=True)
        ratios[f"{ink} on {ground}"] = (light + 0.05) / (dark + 0.05)
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}  # WCAG 2.2, level AA, for text
