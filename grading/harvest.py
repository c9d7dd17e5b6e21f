"""The harvest: a student's answers, taken by name out of what was handed in, each with what it depends on.

Nothing is run. Givens of the assignment are left to whoever injects them, and references from one blank to another are
noted (`Answer.needs`), not followed, so that each answer can be judged by itself.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from grading.editions import adapt
from grading.hand_in import HandIn
from grading.missing import Missing
from grading.modules import Modules
from grading.placeholders import kind_of, placeholder_line, wrong_kind
from grading.places import Place, Places
from grading.remarks import remarks
from grading.slices import Slice, Slicer
from grading.statements import Statement
from grading.untouched import without_untouched_files
from reference.pack import Blank, Pack
from sandbox.program import Chunk

Status = Literal["found", "not_attempted", "wrong_kind", "broken"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a hand-in says to one blank."""

    blank: Blank
    status: Status
    message: str = ""  # for the student: why it is not found, or what is odd about it
    found_as: str | None = None  # the name that answers to the blank in `chunks`
    file: str | None = None  # where it is defined, as the student named it
    line: int | None = None  # 1-based
    chunks: tuple[Chunk, ...] = ()  # the slice: the definition and what it needs; only where it is found
    needs: frozenset[str] = frozenset()  # ids of other blanks that the slice refers to
    givens: frozenset[str] = frozenset()  # canonical names of the givens that the slice refers to
    undefined: tuple[str, ...] = ()  # names that the slice uses and nothing defines: missing imports, mostly


@dataclass(frozen=True, kw_only=True)
class Harvest:
    answers: dict[str, Answer]  # every blank's, by id, in the pack's order
    notices: tuple[str, ...]  # for the student, about the hand-in as a whole
    edition: str | None = None  # id of the edition of the course that it is of; None: it shows too few signs of any
    corrections: tuple[str, ...] = ()  # of what that edition gives, by name
    slicer: Slicer = field(repr=False, compare=False)
    slices: dict[str, Slice] = field(repr=False, compare=False)  # of the answers that were found, by id


def harvest(hand_in: HandIn, pack: Pack, corrections_off: frozenset[str] = frozenset()) -> Harvest:
    """Take the answer to every blank of a pack out of a hand-in, held to its own edition of the course.

    `corrections_off`: names of corrections of an edition that are not made.
    Raises `BadInput` where the hand-in holds more statements than can be sorted out.
    """
    adapted = adapt(hand_in, pack, corrections_off)
    found = _Harvester(adapted.hand_in, pack).harvest()
    answers = found.answers | {
        blank_id: _as_started(found.answers[blank_id], place)
        for blank_id, place in adapted.as_started.items()
        if found.answers[blank_id].status == "not_attempted"
    }
    return replace(found, answers=answers, edition=adapted.edition, corrections=adapted.corrections)


def _as_started(answer: Answer, place: str) -> Answer:
    message = f"`{answer.found_as}` still has the value that the notebook starts with ({place}). Choose one yourself."
    return replace(answer, message=message)


def closure(harvest: Harvest, roots: Iterable[str]) -> frozenset[str]:
    """The ids of all blanks that these need, directly or through others, themselves included."""
    found: set[str] = set()
    todo = list(roots)
    while todo:
        blank_id = todo.pop()
        if blank_id not in found:
            found.add(blank_id)
            todo += harvest.answers[blank_id].needs
    return frozenset(found)


def pipeline_chunks(harvest: Harvest, blank_ids: Iterable[str]) -> tuple[Chunk, ...]:
    """The slices of these blanks in one: each statement once, in an order in which they run. Others are left out."""
    own = {blank_id: harvest.slices[blank_id].own for blank_id in blank_ids if blank_id in harvest.slices}
    slicer = harvest.slicer
    return tuple(slicer.chunks(slicer.cut_together(own), _hidden(slicer, frozenset(own))))


def _hidden(slicer: Slicer, own: frozenset[str]) -> frozenset[str]:
    """The names that chunks for these blanks must not bind, since they are injected."""
    return frozenset(name for name, blank_id in slicer.blanks.items() if blank_id not in own) | frozenset(slicer.givens)


class _Harvester:
    def __init__(self, hand_in: HandIn, pack: Pack) -> None:
        self.hand_in = without_untouched_files(hand_in, pack)
        self.pack = pack
        functions = frozenset(name for blank in pack.blanks if blank.kind == "function" for name in blank.names)
        self.modules = Modules(self.hand_in, functions, pack.file.stubs.modules)

    def harvest(self) -> Harvest:
        self.places = Places(self.modules, self.pack, len(self.hand_in.files))
        self.missing = Missing(self.modules, self.places, self.pack.file.stubs.helpers)
        places, givens = self.places.by_blank, self.places.givens
        self.modules.keep_apart(self.places.blanks.keys() | givens.keys())
        symbols = {blank_id: place.symbol for blank_id, place in places.items() if place is not None}
        self.slicer = Slicer(self.modules, self.places.blanks, givens, symbols)
        self.slices: dict[str, Slice] = {}
        answers = {blank.id: self._answer(blank, places[blank.id]) for blank in self.pack.blanks}
        notices = [*self.hand_in.notices, *self.modules.notices]
        notices += remarks(self.places, self.slices, self.pack.blanks)
        if all(place is None for place in places.values()):
            some = ", ".join(f"`{blank.id}`" for blank in self.pack.blanks[:3])
            notices.append(f"None of the names that this assignment asks for ({some}, ...) was found.")
        return Harvest(answers=answers, notices=tuple(notices), slicer=self.slicer, slices=self.slices)

    def _answer(self, blank: Blank, place: Place | None) -> Answer:
        if place is None:
            return self._missing(blank)
        own = self._own(place)
        definition = own[-1] if own[-1] in place.statements else place.statements[-1]
        found = Answer(
            blank=blank,
            status="found",
            found_as=self.modules.name_of(place.symbol),
            file=definition.file,
            line=definition.line_of(definition.node.lineno),
            message=place.note,
        )
        name = place.symbol[1]
        if (problem := self._of_others(definition, place)) is not None:
            return replace(found, status="not_attempted", message=problem)
        for statement in own:
            # An empty value counts only where it stays: `w = None` may be there for a later line to replace
            is_last = statement is definition
            line = self.places.unfilled_line(blank, statement) if is_last else placeholder_line(statement.node)
            if line is not None:
                line = statement.line_of(line)
                message = f"`{name}` still holds its placeholder ({statement.file}, line {line})."
                return replace(found, status="not_attempted", message=message, line=line)
        if (problem := wrong_kind(blank.kind, kind_of(definition.node))) is not None:
            return replace(found, status="wrong_kind", message=f"`{name}` {problem}.")
        part = self.slicer.cut(blank.id, own)
        for statement in part.statements:
            if (line := placeholder_line(statement.node)) is not None:  # an empty helper may be meant
                bound = ", ".join(f"`{bound}`" for bound in sorted(statement.usage.binds))
                place_words = f"{statement.file}, line {statement.line_of(line)}"
                message = f"`{name}` uses {bound}, which still holds a placeholder ({place_words})."
                return replace(found, status="not_attempted", message=message)
        for missing in part.undefined:
            if (fault := self.missing.fault_of(missing.name)) is not None:
                message = f"`{name}` uses `{missing.name}`, which could not be read: {fault}."
                return replace(found, status="broken", message=message)
        self.slices[blank.id] = part
        hidden = _hidden(self.slicer, frozenset({blank.id}))
        return replace(
            found,
            message=" ".join([place.note, *self.missing.advice(name, part)]).strip(),
            chunks=tuple(self.slicer.chunks(part, hidden)),
            needs=part.needs,
            givens=part.givens,
            undefined=tuple(missing.name for missing in part.undefined),
        )

    def _of_others(self, definition: Statement, place: Place) -> str | None:
        """Why an answer is not the student's own work: it comes from a helper module, or a file that is not there."""
        name = place.symbol[1]
        helper = self.missing.helper_of(definition, name)
        if helper is not None:
            is_import = isinstance(definition.node, ast.Import | ast.ImportFrom)
            comes = "is imported from" if is_import else "comes from"
            return f"`{name}` {comes} a helper module of the course (`{helper}`). Write it yourself."
        return self.missing.absent_import(definition, name)

    def _own(self, place: Place) -> list[Statement]:
        """The statements that make up an answer."""
        if place.written:
            own = list(place.statements)
        else:
            statements = [item for item in self.slicer.usable(place.symbol) if item.module == place.symbol[0]]
            statements = statements or list(place.statements)
            if place.before is not None:
                statements = [item for item in statements if item.order < place.before] or list(place.statements)
            own = self.slicer.chain(place.symbol, statements, None)
        # `alphas = alphas.to(device)` needs the definition before it: that is the answer too
        every = set(own)
        earlier = own[0]
        while place.symbol[1] in earlier.usage.reads_now:
            previous = self.slicer.definition(place.symbol, earlier)
            if not previous or previous[0].order >= earlier.order:
                break
            every.update(previous)
            earlier = previous[0]
        return sorted(every, key=lambda item: item.order)

    def _missing(self, blank: Blank) -> Answer:
        for name in blank.names:
            if (fault := self.missing.fault_of(name)) is not None:
                return Answer(
                    blank=blank, status="broken", found_as=name, message=f"`{name}` could not be read: {fault}."
                )
        hint = self.missing.hint(blank, self.slicer.blanks, self.places.in_force.get(blank.id))
        return Answer(blank=blank, status="not_attempted", message=f"No definition of `{blank.id}` was found.{hint}")
