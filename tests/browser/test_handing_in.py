"""The form for handing in, in a browser: what is refused says so beside the form."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from services import open_store, running_api

from records.settings import Settings

MOST = 100_000  # bytes


@pytest.fixture
def home(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    settings = Settings(data_dir=tmp_path / "var", redis_url="redis+socket:///nonexistent", max_upload_bytes=MOST)  # type: ignore[arg-type]
    with open_store(settings), running_api(settings) as api:
        page = browser.new_page()
        page.goto(str(api.base_url))
        yield page
        page.close()


def hand_in(page: Page, content: bytes) -> None:
    page.set_input_files("input[type=file]", {"name": "answers.py", "mimeType": "text/x-python", "buffer": content})
    page.click("text=Hand in")


def test_a_hand_in_leads_to_its_page(home: Page) -> None:
    hand_in(home, b"alphas = 1 - betas\n")
    home.wait_for_url("**/submissions/*")


def test_what_is_too_large_is_refused_in_words(home: Page) -> None:
    hand_in(home, b"#" * 20 * MOST)
    expect(home.get_by_role("alert")).to_contain_text("at most 0.1 MB are accepted")


@pytest.mark.parametrize(("status", "said"), [(413, "larger than the server accepts"), (502, "answered 502")])
def test_the_refusal_of_a_proxy_is_told_in_words(home: Page, status: int, said: str) -> None:
    home.route("**/submissions", lambda route: route.fulfill(status=status, content_type="text/html", body="<html>"))
    hand_in(home, b"alphas = 1 - betas\n")
    expect(home.get_by_role("alert")).to_contain_text(said)
