"""Gradebooks as CSV, as other systems want them.

A cell that a spreadsheet would take for a formula (one that begins with = + - @, a tab or a carriage return) gets an
apostrophe in front: student names are data. Numbers are ours and stay as they are. An import that matches people by a
login that begins so would not find them; no system gives out such logins.
"""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum

from records.gradebook import Grade
from records.models import Assignment
from records.policy import Policy

_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Cell = str | float | None
Table = list[list[Cell]]


class Format(StrEnum):
    GENERIC = "generic"
    CANVAS = "canvas"  # Grades > Import
    MOODLE = "moodle"  # Grades > Import > CSV file
    NBGRADER = "nbgrader"  # as `nbgrader export` writes it


def to_csv(format_: Format, assignment: Assignment, grades: Sequence[Grade], max_points: float) -> str:
    """The gradebook as text. Who has no grade has an empty cell, which imports leave alone; a 0 would be one."""
    table = _TABLES[format_](assignment, grades, max_points)
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n").writerows([_cell(cell) for cell in row] for row in table)
    return file.getvalue()


def guarded(text: str) -> str:
    """Text that spreadsheets take for text (OWASP, "CSV Injection")."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return guarded(cell)
    return f"{cell:.4f}".rstrip("0").rstrip(".")  # as exact as anybody reads it: 0.1 + 0.2 is 0.3


def _generic(_assignment: Assignment, grades: Sequence[Grade], max_points: float) -> Table:
    header: list[Cell] = ["login", "name", "email", "submission", "received_at", "attempts", "pending"]
    table: Table = [[*header, "reported", "overrides", "withheld", "hints", "late", "score", "max_score"]]
    for grade in grades:
        student, counting = grade.student, grade.counting
        row: list[Cell] = [student.login, student.name, student.email]
        row += ["", ""] if counting is None else [counting.submission_id, _time(counting.received_at)]
        row += [float(len(grade.attempts)), "yes" if grade.pending else "no"]
        if counting is None or counting.score is None:
            row += [None] * 6
        else:
            score = counting.score
            row += [score.reported, score.overrides, score.withheld, score.hints, score.late, score.points]
        table.append([*row, max_points])
    return table


def _canvas(assignment: Assignment, grades: Sequence[Grade], max_points: float) -> Table:
    """Canvas knows students by their ids and logins, takes the name along, and wants points possible on line two."""
    table: Table = [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", assignment.title],
        ["    Points Possible", "", "", "", "", max_points],
    ]
    for grade in grades:
        name = grade.student.name or grade.student.login
        table.append([name, "", "", grade.student.login, "", _points(grade)])
    return table


def _moodle(assignment: Assignment, grades: Sequence[Grade], _max_points: float) -> Table:
    table: Table = [["Username", "Full name", "Email address", assignment.title]]
    for grade in grades:
        table.append([grade.student.login, grade.student.name, grade.student.email, _points(grade)])
    return table


def _nbgrader(assignment: Assignment, grades: Sequence[Grade], max_points: float) -> Table:
    header: list[Cell] = ["assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email"]
    table: Table = [[*header, "raw_score", "late_submission_penalty", "score", "max_score"]]
    due = Policy.model_validate(assignment.policy).due_at
    for grade in grades:
        student, counting = grade.student, grade.counting
        first, last = _first_and_last(student.name)
        row: list[Cell] = [assignment.id, _time(due), _time(None if counting is None else counting.received_at)]
        row += [student.login, last, first, student.email]
        score = None if counting is None else counting.score
        if score is None:
            row += [0.0, 0.0, 0.0]  # as nbgrader writes those who handed in nothing
        else:
            raw = max(0.0, score.reported + score.overrides - score.withheld - score.hints)
            row += [raw, min(score.late, raw), score.points]
        table.append([*row, max_points])
    return table


def _first_and_last(name: str) -> tuple[str, str]:
    """The names of "Zoë Müller", or of "Müller, Zoë" as Canvas writes it."""
    last, comma, first = name.partition(",")
    if not comma:
        first, _, last = name.rpartition(" ")
    return first.strip(), last.strip()


def _points(grade: Grade) -> float | None:
    return None if grade.counting is None or grade.counting.score is None else grade.counting.score.points


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="seconds")


_TABLES: dict[Format, Callable[[Assignment, Sequence[Grade], float], Table]] = {
    Format.GENERIC: _generic,
    Format.CANVAS: _canvas,
    Format.MOODLE: _moodle,
    Format.NBGRADER: _nbgrader,
}
