"""The published schema of the report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sample_reports

from grading.report import Report

ROOT = Path(__file__).parents[3]


def test_the_published_schema_is_current() -> None:
    made = subprocess.run([sys.executable, "-m", "grading.report"], check=True, capture_output=True, cwd=ROOT).stdout
    published = (ROOT / "docs" / "report.schema.json").read_bytes()
    assert json.loads(published) == json.loads(made), "run: python -m grading.report > docs/report.schema.json"


@pytest.mark.parametrize("sample", [sample_reports.passing, sample_reports.four_mistakes])
def test_a_report_survives_json(sample: object) -> None:
    report = sample()  # type: ignore[operator]
    assert Report.model_validate_json(report.model_dump_json()) == report
