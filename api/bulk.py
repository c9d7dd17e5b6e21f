"""Hand-ins of a whole course, as learning platforms give them out: which file is whose.

Canvas      lovelaceada_LATE_123_456_answers.ipynb       by the name, last name first, letters and digits alone
Moodle      Ada Lovelace_123_assignsubmission_file_/...  by the name
Gradescope  submission_123/..., submission_metadata.yml  by the student id, else the e-mail address
otherwise   ada/..., ada.ipynb                           by the login, or the e-mail address

A name that two students share is nobody's: a person has to say whose file it is, by renaming it to the login.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from api.intake import SUFFIXES, Upload, check_upload, combine
from api.problems import TooLarge
from grading.archive import unpack
from grading.file_names import is_hidden
from grading.outcomes import BadInput
from records.models import User

METADATA = "submission_metadata.yml"
MAX_ENTRIES = 5000  # files that can be somebody's: 1000 students with some modules each

_CANVAS = re.compile(r"(?P<name>[^_]+)_(?:LATE_)?\d+_\d+_(?P<file>.+)")
_MOODLE = re.compile(r"(?P<name>.+)_\d+_assignsubmission_file_?.*")
_GRADESCOPE = re.compile(r"submission_\d+")


# By submission: each submitter's student id and address
_Owners = dict[str, list[list[str]]]


@dataclass(frozen=True, kw_only=True)
class Matched:
    """What one student handed in."""

    user: User
    files: tuple[str, ...]  # as they came, for people
    upload: Upload


@dataclass(frozen=True, kw_only=True)
class Unmatched:
    file: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    matched: tuple[Matched, ...]  # by login
    unmatched: tuple[Unmatched, ...]


def open_archives(uploads: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Path and content of every file; one zip archive is opened, several files are taken as they are.

    Files of other kinds come out of the archive as empty ones, for `plan` to name; hidden ones do not.
    Raises `BadInput` where the archive is none, or not a safe one.
    """
    files = list(uploads)
    if len(files) == 1 and files[0][0].lower().endswith(".zip") and not _CANVAS.fullmatch(files[0][0]):
        unpacked = unpack(*files[0], suffixes=(*SUFFIXES, ".yml"), max_entries=MAX_ENTRIES)
        return [*unpacked.files, *((path, b"") for path in unpacked.left_out if not is_hidden(path))]
    return files


def plan(files: Sequence[tuple[str, bytes]], students: Sequence[User], max_bytes: int) -> Plan:
    """Say which file is whose. Nothing is stored."""
    people = _People(students)
    paths = {path: PurePosixPath(path) for path, _ in files}
    # A read-me beside the folder around everything does not make it another folder
    root = _common_folder([path for path in paths.values() if _is_taken(path)], people)
    owners = _gradescope_owners({paths[path].name: content for path, content in files}.get(METADATA, b""))
    of_student: dict[int, list[tuple[str, str, bytes]]] = defaultdict(list)
    unmatched = []
    for path, content in files:
        if paths[path].name == METADATA:
            continue
        if not _is_taken(paths[path]):
            unmatched.append(Unmatched(file=path, why=f"It is neither {' nor '.join(SUFFIXES)}."))
            continue
        try:
            user, name = _owner(paths[path].relative_to(root), people, owners)
        except LookupError as error:
            unmatched.append(Unmatched(file=path, why=str(error.args[0])))
        else:
            of_student[user.id].append((path, name, content))
    matched = []
    for user in sorted(students, key=lambda student: student.login):
        if own := of_student.get(user.id):
            came = tuple(path for path, _, _ in own)
            try:
                upload = combine([check_upload(name, content) for _, name, content in own], max_bytes)
            except (BadInput, TooLarge) as error:
                why = error.detail if isinstance(error, TooLarge) else str(error)
                unmatched += [Unmatched(file=path, why=why) for path in came]
            else:
                matched.append(Matched(user=user, files=came, upload=upload))
    return Plan(matched=tuple(matched), unmatched=tuple(unmatched))


class _People:
    """Students by what platforms know of them."""

    def __init__(self, students: Sequence[User]) -> None:
        self._by_id: dict[str, list[User]] = defaultdict(list)
        self._by_name: dict[str, list[User]] = defaultdict(list)
        for student in students:
            for known in {student.login.casefold(), student.email.casefold()} - {""}:
                self._by_id[known].append(student)
            words = student.name.replace(",", " ").split()
            # Who has three names may have any number of them as the last ones
            orders = {_letters("".join(words[cut:] + words[:cut])) for cut in range(len(words))}
            for order in orders - {""}:
                self._by_name[order].append(student)

    def by_id(self, *known: str) -> User:
        """Whose login or address it is; the first that is known decides. Raises `LookupError` with the reason."""
        for one in known:
            if found := self._by_id.get(one.casefold()):
                return _only(found, one)
        raise LookupError(f"No student of the course has the login or address {' or '.join(map(repr, known))}.")

    def by_name(self, name: str) -> User:
        """Whose name it is. Raises `LookupError` with the reason."""
        if found := self._by_name.get(_letters(name)):
            return _only(found, name)
        raise LookupError(f"No student of the course is called {name!r}.")

    def __contains__(self, known: str) -> bool:
        return known.casefold() in self._by_id


def _only(found: Sequence[User], known: str) -> User:
    if len(found) > 1:
        logins = ", ".join(sorted(user.login for user in found))
        raise LookupError(f"{known!r} may be any of {logins}. Rename it to the login.")
    return found[0]


def _owner(place: PurePosixPath, people: _People, owners: _Owners) -> tuple[User, str]:
    """Whose file it is, and what the student called it. Raises `LookupError` with the reason."""
    first = place.parts[0]
    if len(place.parts) == 1:
        if match := _CANVAS.fullmatch(first):
            return people.by_name(match["name"]), match["file"]
        return people.by_id(place.stem), first
    if _GRADESCOPE.fullmatch(first) and first not in people:
        if first not in owners:
            raise LookupError(f"{METADATA} says nothing of {first}.")
        group = {(user := people.by_id(*known)).login: user for known in owners[first]}
        if len(group) > 1:
            raise LookupError(f"A group handed it in: {', '.join(group)}. Bring a copy in for each, named by login.")
        return next(iter(group.values())), place.name
    if match := _MOODLE.fullmatch(first):
        return people.by_name(match["name"]), place.name
    return people.by_id(first), place.name


def _gradescope_owners(metadata: bytes) -> _Owners:
    """Who handed in each submission.

    The file is YAML of one fixed form, of which three kinds of lines matter. A parser for all of YAML would be one more
    thing to be attacked.
    """
    owners: dict[str, list[list[str]]] = {}
    submitters: list[list[str]] = []
    for line in metadata.decode("utf-8", errors="replace").splitlines():
        if match := re.fullmatch(r"(submission_\d+):\s*", line):
            submitters = owners.setdefault(match[1], [])
            continue
        if line.lstrip().startswith("-") or not submitters:  # an entry of a list: the next of them
            submitters.append([])
        if match := re.fullmatch(r"[\s-]*:(?:sid|email):\s*[\"']?([^\"']+?)[\"']?\s*", line):
            submitters[-1].append(match[1])
    named = {submission: [known for known in found if known] for submission, found in owners.items()}
    return {submission: found for submission, found in named.items() if found}


def _is_taken(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES


def _common_folder(paths: Sequence[PurePosixPath], people: _People) -> PurePosixPath:
    """The folder around everything, unless it is what says whose files they are."""
    folders = {path.parts[0] if len(path.parts) > 1 else "" for path in paths}
    (folder,) = folders if len(folders) == 1 else ("",)
    if folder in people or _MOODLE.fullmatch(folder) or _GRADESCOPE.fullmatch(folder):
        folder = ""
    return PurePosixPath(folder)


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())
