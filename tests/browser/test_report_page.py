"""The report's page in a browser: it loads without a word, fits on a phone, and can be read by everybody."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import sample_reports
from playwright.sync_api import Browser, Page

from grading.page import render
from grading.report import Report

SAMPLES = [
    sample_reports.passing,
    sample_reports.four_mistakes,
    sample_reports.below_mark,
    sample_reports.untouched_starter,
]
PHONE = 375  # CSS pixels: the width of the smaller phones in use


@cache  # drawing the charts takes longer than all the rest
def page_of(report: str) -> str:
    title = "Generating digits with a diffusion model"
    return render(Report.model_validate_json(report), sample_reports.ARTIFACTS, title)


class Opened:
    """A page, with what the browser had to say about it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))


@pytest.fixture
def open_report(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    context = browser.new_context()

    def open_(report: Report, width: int = 1100, scheme: str = "light") -> Opened:
        file = tmp_path / "report.html"
        file.write_text(page_of(report.model_dump_json()))
        opened = Opened(context.new_page())
        opened.page.set_viewport_size({"width": width, "height": 800})
        opened.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        opened.page.goto(file.as_uri())
        return opened

    yield open_
    context.close()


@pytest.mark.parametrize("sample", SAMPLES)
def test_it_loads_in_silence_and_from_nowhere_else(
    open_report: Callable[..., Opened], sample: Callable[[], Report]
) -> None:
    opened = open_report(sample())
    assert opened.said == []
    assert {url.partition(":")[0] for url in opened.requests} <= {"file", "data"}


@pytest.mark.parametrize("sample", SAMPLES)
def test_nothing_is_wider_than_a_phone(open_report: Callable[..., Opened], sample: Callable[[], Report]) -> None:
    report = sample()
    long = report.blanks[0].model_copy(update={"message": "x" * 300, "file": "y" * 200 + ".py", "line": 1})
    opened = open_report(report.model_copy(update={"blanks": [long, *report.blanks[1:]]}), width=PHONE)
    opened.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert opened.page.evaluate("document.documentElement.scrollWidth") == PHONE


@pytest.mark.parametrize("sample", SAMPLES)
def test_images_have_words_and_are_drawn(open_report: Callable[..., Opened], sample: Callable[[], Report]) -> None:
    images = open_report(sample()).page.locator("img").all()
    assert all((image.get_attribute("alt") or "").strip() for image in images)
    assert all(image.evaluate("image => image.complete && image.naturalWidth > 0") for image in images)


@pytest.mark.parametrize("sample", SAMPLES)
def test_headings_are_in_order(open_report: Callable[..., Opened], sample: Callable[[], Report]) -> None:
    page = open_report(sample()).page
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(heading => +heading.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels))


def test_cards_of_what_is_wrong_are_open_and_the_keyboard_opens_the_others(open_report: Callable[..., Opened]) -> None:
    page = open_report(sample_reports.four_mistakes()).page
    opened = page.evaluate("[...document.querySelectorAll('.blank[open]')].map(card => card.id)")
    assert opened == ["blank-q", "blank-UpBlock", "blank-get_context_mask", "blank-sample_w"]
    page.locator("#blank-alphas > summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#blank-alphas .checks").is_visible()


def test_the_links_at_the_top_lead_to_the_cards(open_report: Callable[..., Opened]) -> None:
    page = open_report(sample_reports.four_mistakes()).page
    page.get_by_role("link", name="up block with skip connection").click()
    assert page.url.endswith("#blank-UpBlock")


def test_dark_and_light_differ(open_report: Callable[..., Opened]) -> None:
    grounds = {
        open_report(sample_reports.passing(), scheme=scheme).page.evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    assert len(grounds) == 2


def test_paper_shows_what_is_folded_away(open_report: Callable[..., Opened]) -> None:
    page = open_report(sample_reports.passing()).page
    card = page.locator("#blank-alphas .checks")
    assert not card.is_visible()
    page.emulate_media(media="print")
    assert card.is_visible()
