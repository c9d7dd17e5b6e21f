"""What the API says, as models. The report itself is `grading.report.Report`."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from records.models import State

MAX_ID = 2**31 - 1  # what an integer column of PostgreSQL holds
RowId = Annotated[int, Field(ge=1, le=MAX_ID)]
NO_NUL = r"^[^\x00]*$"  # of texts that are stored: PostgreSQL takes that character nowhere
After = Annotated[int, Query(ge=0, le=MAX_ID, description="only ids greater than this")]

EXAMPLE_ID = "5f0c3a9e7d214b8690aa41cbb7f3d2e8"


class BlankInfo(BaseModel):
    id: str
    title: str
    concept: str
    points: float


class RecipeInfo(BaseModel):
    name: str
    title: str


class AssignmentInfo(BaseModel):
    id: str
    course: str
    title: str
    version: str = Field(description="SHA-256 over the files of the pack in force")
    max_score: float
    pass_mark: float = Field(description="share of generated digits that must be read as the digit asked for")
    default_recipe: str
    recipes: list[RecipeInfo]
    blanks: list[BlankInfo]
    links: dict[str, str]


class Receipt(BaseModel):
    """Proof that the bytes with this hash were handed in at this time."""

    code: str = Field(description="HMAC-SHA256 of the server over id, assignment, hash and time")
    sha256: str
    size: int = Field(description="bytes")
    received_at: datetime = Field(description="server time, UTC")


class Progress(BaseModel):
    """The last thing that training or generation told."""

    type: str = Field(description="`training_progress` or `generation_progress`, as in the event stream")
    data: dict[str, Any]


class SubmissionStatus(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": EXAMPLE_ID,
                "assignment": "ddpm",
                "recipe": "digits16",
                "file_name": "answers.ipynb",
                "receipt": {
                    "code": "0b5e" * 16,
                    "sha256": "9f86" * 16,
                    "size": 48213,
                    "received_at": "2026-03-02T10:15:30.123456Z",
                },
                "state": "running",
                "position": None,
                "seconds_left": None,
                "stage": "train",
                "attempt": 1,
                "progress": {
                    "type": "training_progress",
                    "data": {"images_seen": 12800, "images_total": 51200, "loss": 0.08, "seconds_left": 31.0},
                },
                "message": None,
                "finished_at": None,
                "links": {
                    "self": f"/api/v1/submissions/{EXAMPLE_ID}",
                    "cancel": f"/api/v1/submissions/{EXAMPLE_ID}/cancel",
                    "events": f"/api/v1/submissions/{EXAMPLE_ID}/events",
                    "hand_in": f"/api/v1/submissions/{EXAMPLE_ID}/hand-in",
                    "hints": f"/api/v1/submissions/{EXAMPLE_ID}/hints",
                    "page": f"/submissions/{EXAMPLE_ID}",
                    "hints_page": f"/submissions/{EXAMPLE_ID}/hints",
                    "report": f"/api/v1/submissions/{EXAMPLE_ID}/report",
                    "report_html": f"/api/v1/submissions/{EXAMPLE_ID}/report.html",
                },
            }
        }
    )

    id: str = Field(description="who knows it may see the submission: keep it to yourself")
    assignment: str
    recipe: str
    file_name: str
    receipt: Receipt
    state: State = Field(description="only `queued` and `running` change any more; only `done` has a report")
    position: int | None = Field(description="place in the queue, 1 for the next; null when it does not wait")
    seconds_left: float | None = Field(description="estimate while it waits; null where nothing is known yet")
    stage: str | None = Field(description="`inspect`, `check`, `train`, `generate` or `score`")
    attempt: int = Field(description="a second attempt follows a fault of ours")
    progress: Progress | None
    message: str | None = Field(description="why there is no report, where there will be none")
    finished_at: datetime | None
    links: dict[str, str]


class Hint(BaseModel):
    name: str = Field(description="`nudge`, `pointer` or `formula`")
    text: str


class BlankHints(BaseModel):
    blank: str
    title: str
    revealed: list[Hint]
    left: int = Field(description="steps not revealed yet")
    next_cost: float | None = Field(description="points that the next step costs; null where there is none to be had")
    unavailable: str | None = Field(description="why there is no next step, or not yet")


class SubmissionHints(BaseModel):
    blanks: list[BlankHints]
    cost: float = Field(description="points that the hints asked for take from this submission's score")
    score_after_hints: float | None = Field(description="null where there is no report")


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    ready: bool
    missing: list[str] = Field(description="what is not there; a missing broker only costs seconds per submission")
