"""Hints: one step at a time, recorded, known to later attempts, and paid for where the pack says so."""

import html
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sample_reports
from services import Store

from grading.outcomes import Outcome
from records.models import Assignment
from records.queue import Result
from records.versions import Versions
from reference.pack import Pack, load_pack

PATH = "/api/v1/assignments/ddpm/submissions"
WRONG = next(b.id for b in sample_reports.four_mistakes().blanks if b.status is Outcome.FAILED)
RIGHT = next(b.id for b in sample_reports.four_mistakes().blanks if b.status is Outcome.PASSED)


def hand_in(api, content=b"alphas = 1 - betas\n", **form):
    response = api.post(PATH, files={"files": ("answers.py", content)}, data=form)
    assert response.status_code == 202, response.text
    return response.json()["links"]


def grade(store: Store, links, report) -> None:
    submission = links["self"].rsplit("/", 1)[1]
    while True:
        lease = store.queue.claim("w")
        result = Result(
            report_sha256=store.blobs.put(report.model_dump_json().encode()),
            html_sha256=store.blobs.put(b"<!doctype html><title>report</title>"),
            artifacts=(),
            outcome={},
        )
        store.queue.finish(lease, result)
        if lease.submission_id == submission:
            return


def of(api, links, blank):
    return next(entry for entry in api.get(links["hints"]).json()["blanks"] if entry["blank"] == blank)


@pytest.fixture
def policy(store: Store, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Puts a version of the pack in force that has another policy."""

    def use(old: str, new: str) -> None:
        root = tmp_path / "ddpm"
        shutil.copytree(load_pack("ddpm").root, root)
        text = (root / "pack.toml").read_text()
        assert text.count(old) == 1
        (root / "pack.toml").write_text(text.replace(old, new))
        versions = Versions(store.database, store.blobs, store.settings.version_dir)
        version = versions.publish(Pack(root))
        with store.database.write() as session:
            session.get_one(Assignment, "ddpm").version_id = version

    yield use
    Versions(store.database, store.blobs, store.settings.version_dir).publish_bundled()


def test_are_revealed_one_at_a_time_until_there_are_none(api):
    links = hand_in(api)
    assert of(api, links, WRONG)["revealed"] == []
    for names in (["nudge"], ["nudge", "pointer"], ["nudge", "pointer", "formula"]):
        answer = api.post(f"{links['hints']}/{WRONG}")
        assert answer.status_code == 200
        assert [hint["name"] for hint in answer.json()["revealed"]] == names
        assert of(api, links, WRONG) == answer.json()
    refused = api.post(f"{links['hints']}/{WRONG}")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:noisemark:problem:no-hint")


def test_are_of_the_submission_that_asked(api):
    asked, other = hand_in(api), hand_in(api)
    api.post(f"{asked['hints']}/{WRONG}")
    assert of(api, other, WRONG)["revealed"] == []


def test_are_known_to_what_improves_on_it(api):
    first = hand_in(api)
    api.post(f"{first['hints']}/{WRONG}")
    second = hand_in(api, b"alphas = 1.0 - betas\n", improves_on=first["self"].rsplit("/", 1)[1])
    assert len(of(api, second, WRONG)["revealed"]) == 1
    api.post(f"{second['hints']}/{WRONG}")
    assert (len(of(api, first, WRONG)["revealed"]), len(of(api, second, WRONG)["revealed"])) == (1, 2)


def test_nothing_improves_on_what_is_not_there(api):
    response = api.post(PATH, files={"files": ("a.py", b"x = 1\n")}, data={"improves_on": "0" * 32})
    assert response.status_code == 422
    assert "earlier submission" in response.json()["detail"]


def test_there_are_none_for_what_is_right_or_unknown(api, store):
    links = hand_in(api)
    grade(store, links, sample_reports.four_mistakes())
    assert api.post(f"{links['hints']}/{RIGHT}").json()["detail"] == "This blank is right already."
    unknown = api.post(f"{links['hints']}/no-such-blank")
    assert unknown.status_code == 404
    assert "There are hints for: alphas, alphas_cumprod" in unknown.json()["detail"]


def test_may_be_asked_for_by_any_name_of_the_blank(api):
    links = hand_in(api)
    assert api.post(f"{links['hints']}/a_bar").json()["blank"] == "alphas_cumprod"
    assert len(of(api, links, "alphas_cumprod")["revealed"]) == 1


def test_what_a_refusal_repeats_is_cut(api):
    detail = api.post(f"{hand_in(api)['hints']}/{'b' * 5000}").json()["detail"]
    assert len(detail) < 2100


def test_cost_what_the_pack_says_and_never_more_than_was_earned(api, store, policy):
    policy("cost = [0.0, 0.0, 0.0]", "cost = [0.25, 0.5, 0.75]")
    first = hand_in(api)
    report = sample_reports.four_mistakes()
    grade(store, first, report)
    points = {blank.id: blank.max_points for blank in report.blanks}
    assert of(api, first, WRONG)["next_cost"] == 0.25 * points[WRONG]
    for _ in range(2):
        api.post(f"{first['hints']}/{WRONG}")
    before = api.get(first["hints"]).json()
    assert (before["cost"], before["score_after_hints"]) == (0, report.score)  # what is wrong has earned nothing
    second = hand_in(api, b"alphas = 1.0 - betas\n", improves_on=first["self"].rsplit("/", 1)[1])
    passing = sample_reports.passing()
    grade(store, second, passing)
    after = api.get(second["hints"]).json()
    assert (after["cost"], after["score_after_hints"]) == (0.75 * points[WRONG], passing.score - 0.75 * points[WRONG])
    # A third step would make it 150 %
    api.post(f"{first['hints']}/{WRONG}")
    assert api.get(second["hints"]).json()["cost"] == points[WRONG]


def test_come_with_attempts_where_the_pack_says_so(api, store, policy):
    policy('reveal = "on_request"', 'reveal = "per_attempt"')
    first = hand_in(api)
    assert "with the report" in of(api, first, WRONG)["unavailable"]
    grade(store, first, sample_reports.four_mistakes())
    assert api.post(f"{first['hints']}/{WRONG}").status_code == 200
    assert "next attempt" in api.post(f"{first['hints']}/{WRONG}").json()["detail"]
    own = first["self"].rsplit("/", 1)[1]
    same = hand_in(api, improves_on=own)  # the same bytes are no further attempt
    better = hand_in(api, b"alphas = 1.0 - betas\n", improves_on=own)
    for links in (same, better):
        grade(store, links, sample_reports.four_mistakes())
    assert api.post(f"{same['hints']}/{WRONG}").status_code == 409
    assert len(api.post(f"{better['hints']}/{WRONG}").json()["revealed"]) == 2


def test_the_page_reveals_them(api):
    links = hand_in(api)
    page = api.get(links["hints_page"])
    assert page.status_code == 200
    nudge = html.escape(load_pack("ddpm").hints[WRONG].nudge)
    assert nudge not in page.text
    assert "Which of your blanks are right is not known" in page.text
    assert "Show a hint (costs nothing)" in page.text
    answer = api.post(f"{links['hints_page']}/{WRONG}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{links['hints_page']}#{WRONG}")
    assert nudge in api.get(links["hints_page"]).text
