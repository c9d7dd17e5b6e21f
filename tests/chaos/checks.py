"""What must hold when the dust has settled: read from the database, the blobs and the API."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.people import ASSIGNMENT, COURSE, Person, Record, Student
from services import Store
from sqlalchemy import select

from records.models import (
    Artifact,
    AuditEntry,
    Event,
    Grading,
    Notice,
    Regrade,
    RegradeItem,
    RegradeState,
    State,
    Submission,
)

# What a grading tells: Queued, Started, of its judge (e), Retrying, Done. It is queued a second time for training, and
# retried as often as somebody dies.
_LETTERS = {"queued": "Q", "started": "S", "retrying": "R", "done": "D"}
_ORDER = re.compile(r"Q(Se*R)*Se*Q(Se*R)*Se*D")


@dataclass
class Finding:
    what: str
    number: int  # of things that were looked at
    faults: list[str]


class Checks:
    """Each check yields what is wrong, and counts what it looked at."""

    def __init__(self, store: Store, record: Record, students: list[Student], staff: Person, regrade: int) -> None:
        self._store, self._record, self._students, self._staff = store, record, students, staff
        with store.database.read() as session:
            self._submissions = {found.id: found for found in session.scalars(select(Submission))}
            self._gradings = list(session.scalars(select(Grading).order_by(Grading.id)))
            self._events = list(session.scalars(select(Event).order_by(Event.id)))
            self._artifacts = list(session.scalars(select(Artifact)))
            self._items = {item.submission_id: item for item in session.scalars(select(RegradeItem))}
            self._regrades = list(session.scalars(select(Regrade)))
            self._audit = list(session.scalars(select(AuditEntry)))
            self._notices = list(session.scalars(select(Notice)))
        self._regrade = regrade
        self._looked = 0

    def run(self) -> list[Finding]:
        checks = (
            ("every receipt has its submission, and no submission lacks one", self._receipts),
            ("a repeated request gets the same receipt", self._repeated),
            ("one grading counts for each submission, done, with a report", self._counting),
            ("one grading of the hand-in and one of the regrade, none more", self._numbers),
            ("events in order, with exactly one final one", self._ordered),
            ("each stream told every event once, in order", self._streams),
            ("hand-ins come back byte for byte", self._bytes),
            ("all that rows refer to is there, with its hash", self._blobs),
            ("reports seen before the regrade stayed what they were", self._reports),
            ("since it was applied, reports are the regrade's", self._regraded),
            ("one regrade, applied once, with one audit entry for each decision", self._decisions),
            ("every attempt is in the gradebook once, the grade is the regrade's", self._grades),
            ("who is told of a changed grade is told once", self._told),
        )
        found = []
        for what, check in checks:
            self._looked = 0
            faults = list(check())
            found.append(Finding(what, self._looked, faults if self._looked else ["there was nothing to look at"]))
        return found

    def _receipts(self) -> Iterator[str]:
        for key, (_, content) in self._record.handed_in.items():
            self._looked += 1
            receipt = self._record.receipts.get(key)
            if receipt is None:
                yield f"{key} has no receipt"
                continue
            stored = self._submissions.get(receipt["id"])
            if stored is None:
                yield f"{key} has a receipt, and is lost"
            elif (stored.sha256, stored.receipt) != (_hash(content), receipt["receipt"]["code"]):
                yield f"{key}: the receipt is for something else"
        if len(self._submissions) != len(self._record.handed_in):
            yield f"{len(self._record.handed_in)} were handed in, {len(self._submissions)} are stored"

    def _repeated(self) -> Iterator[str]:
        for student in self._students:
            for key, receipt in self._record.receipts.items():
                if self._record.handed_in[key][0] == student.login:
                    self._looked += 1
                    answer = student.send(key)
                    same = (answer.status_code, answer.headers.get("Idempotent-Replayed")) == (202, "true")
                    if not same or answer.json()["receipt"] != receipt["receipt"]:
                        yield f"{key}: {answer.status_code} {answer.text}"

    def _counting(self) -> Iterator[str]:
        counting = Counter(grading.submission_id for grading in self._gradings if grading.counts)
        for submission in self._submissions:
            self._looked += 1
            if counting[submission] != 1:
                yield f"{submission}: {counting[submission]} gradings count"
        for grading in self._gradings:
            if grading.state is not State.DONE or grading.report_sha256 is None or grading.outcome is None:
                yield f"grading {grading.id} is {grading.state}: {grading.fault}"

    def _numbers(self) -> Iterator[str]:
        numbers = Counter((grading.submission_id, grading.regrade_id) for grading in self._gradings)
        expected = {(submission, regrade) for submission in self._submissions for regrade in (None, self._regrade)}
        self._looked = len(numbers)
        if set(numbers) != expected or set(numbers.values()) != {1}:
            yield f"{len(self._gradings)} gradings of {len(self._submissions)} submissions"

    def _ordered(self) -> Iterator[str]:
        for grading, events in self._events_by_grading().items():
            self._looked += 1
            told = "".join(_LETTERS.get(event.type, "e") for event in events)
            if not _ORDER.fullmatch(told):
                yield f"grading {grading}: {told}"
        if missing := {grading.id for grading in self._gradings} - self._events_by_grading().keys():
            yield f"gradings without events: {missing}"

    def _streams(self) -> Iterator[str]:
        own = {grading.submission_id: grading.id for grading in self._gradings if grading.regrade_id is None}
        stored = self._events_by_grading()
        for submission, heard in self._record.heard.items():
            self._looked += 1
            if heard != [event.id for event in stored[own[submission]]]:
                yield f"{submission}: heard {heard}, stored {[event.id for event in stored[own[submission]]]}"
        if missing := self._submissions.keys() - self._record.heard.keys():
            yield f"not heard of: {missing}"

    def _events_by_grading(self) -> dict[int, list[Event]]:
        found: dict[int, list[Event]] = {}
        for event in self._events:
            found.setdefault(event.grading_id, []).append(event)
        return found

    def _bytes(self) -> Iterator[str]:
        for key, receipt in self._record.receipts.items():
            self._looked += 1
            answer = self._staff.insist("GET", f"/submissions/{receipt['id']}/hand-in")
            if answer.content != self._record.handed_in[key][1]:
                yield f"{key}: other bytes came back ({answer.status_code})"

    def _blobs(self) -> Iterator[str]:
        named = {submission.sha256 for submission in self._submissions.values()}
        for grading in self._gradings:
            named |= {grading.report_sha256 or "", grading.html_sha256 or "", grading.checked_sha256 or ""}
        named |= {artifact.sha256 for artifact in self._artifacts}
        for sha256 in named:
            self._looked += 1
            try:
                self._store.blobs.get(sha256)
            except Exception as error:
                yield str(error)

    def _reports(self) -> Iterator[str]:
        first = {grading.submission_id: grading for grading in self._gradings if grading.regrade_id is None}
        for submission, seen in self._record.reports.items():
            self._looked += 1
            if first[submission].report_sha256 != seen:
                yield f"{submission}: the report that was seen is not the one that is stored"
        if missing := self._submissions.keys() - self._record.reports.keys():
            yield f"no report was seen of {missing}"

    def _regraded(self) -> Iterator[str]:
        after = {grading.id: grading for grading in self._gradings}
        for submission, item in self._items.items():
            self._looked += 1
            shown = _hash(self._staff.insist("GET", f"/submissions/{submission}/report").content)
            new = after[item.after_id]
            if not new.counts or new.regrade_id != self._regrade or new.report_sha256 != shown:
                yield f"{submission} does not show the regrade's report"
        if self._items.keys() != self._submissions.keys():
            yield f"{len(self._items)} of {len(self._submissions)} submissions were regraded"

    def _decisions(self) -> Iterator[str]:
        self._looked = len(self._regrades)
        if [regrade.state for regrade in self._regrades] != [RegradeState.APPLIED]:
            yield f"regrades: {[(regrade.id, regrade.state) for regrade in self._regrades]}"
        decisions = Counter(entry.action for entry in self._audit if entry.action.startswith("regrade"))
        if decisions != {"regrade started": 1, "regrade applied": 1}:
            yield f"audit: {dict(decisions)}"
        if len(self._staff.ask(f"/courses/{COURSE}/audit")) != sum(entry.course_id == COURSE for entry in self._audit):
            yield "the API tells another audit than the database"

    def _grades(self) -> Iterator[str]:
        grades = {row["login"]: row for row in self._staff.ask(f"/assignments/{ASSIGNMENT}/grades")}
        if set(grades) != {student.login for student in self._students}:
            yield f"grades of {set(grades)}"
        scores = {found.submission_id: (found.outcome or {}).get("score") for found in self._gradings if found.counts}
        for login, row in grades.items():
            self._looked += 1
            own = {self._record.receipts[key]["id"] for key, (by, _) in self._record.handed_in.items() if by == login}
            (counting,) = [attempt["submission"] for attempt in row["attempts"] if attempt["counts"]]
            if {attempt["submission"] for attempt in row["attempts"]} != own or row["points"] != scores[counting]:
                yield f"{login}: {len(row['attempts'])} attempts for {len(own)}, {row['points']} points"

    def _told(self) -> Iterator[str]:
        (applied,) = [entry for entry in self._audit if entry.action == "regrade applied"]
        notices = Counter(notice.user_id for notice in self._notices)
        self._looked = len(self._students)
        if len(notices) != applied.data["students_told"] or max(notices.values(), default=1) != 1:
            yield f"notices by student: {dict(notices)}; the audit says {applied.data['students_told']}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
