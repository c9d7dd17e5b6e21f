"""The reference solution: what the judge compares with, and what stands in for blanks that are not being checked.

`Reference` runs the definitions of a pack's `solution.py` in the judge, which trusts them. The two functions below it
put together what a guest is told to load: one answer with stand-ins for the rest, or the student's whole pipeline.
"""

import ast
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import CodeType, SimpleNamespace
from typing import Any

import torch

from grading.harvest import Answer, Harvest, closure, pipeline_chunks
from reference.pack import Misconception, Pack, PackError
from sandbox.program import Chunk, Device, Model, Program

# What tracebacks show for code of ours: neutral names, since the guest can see them. No place in them means anything to
# a student
STAND_IN_FILE = "stand_in.py"
HARNESS_FILE = "harness.py"  # for the harness of a pack
CALL_FILE = "call.py"  # for what calls an answer; another name, so that faults in stand-ins are told by who calls them
OUR_FILES = (STAND_IN_FILE, HARNESS_FILE, CALL_FILE)


@dataclass(frozen=True, kw_only=True)
class _Statement:
    """One top-level statement of the solution."""

    chunk: Chunk
    code: CodeType
    binds: frozenset[str]
    reads: frozenset[str]
    is_import: bool


class Reference:
    """The reference solution of a pack. Raises `PackError` where `solution.py` lacks a blank or a given."""

    def __init__(self, pack: Pack) -> None:
        self.pack = pack
        self._statements = _read(pack)
        bound = frozenset().union(*(statement.binds for statement in self._statements))
        wanted = {blank.id for blank in pack.blanks} | {"betas", "T"}
        if missing := wanted - bound:
            raise PackError(f"{pack.solution}: does not define {', '.join(sorted(missing))}")

    def namespace(self, **values: Any) -> SimpleNamespace:
        """Run the solution with these givens in place of its own, and return what it defines.

        `T` follows from `betas` where only the latter is given. Givens that are not named keep the solution's values.
        """
        if "betas" in values:
            values.setdefault("T", len(values["betas"]))
        names: dict[str, Any] = {"__name__": "solution", **values}
        for statement in self._statements:
            if statement.binds and statement.binds <= values.keys():
                continue
            exec(statement.code, names)  # noqa: S102  (our own file)
        return SimpleNamespace(**{name: value for name, value in names.items() if not name.startswith("__")})

    def mistaken(self, blank_id: str, **values: Any) -> dict[str, Any]:
        """What the blank would be with each known misconception about it, by the misconception's id."""
        names = vars(self.namespace(**values))
        found = {}
        for misconception in self.pack.misconceptions.values():
            if blank_id in misconception.blanks and (misconception.replace or misconception.code):
                own = dict(names)
                code = compile(self.mistaken_source(blank_id, misconception), f"<{misconception.id}>", "exec")
                exec(code, own)  # noqa: S102  (our own files)
                found[misconception.id] = own[blank_id]
        return found

    def mistaken_source(self, blank_id: str, misconception: Misconception) -> str:
        """How the solution's definition of the blank reads with the misconception."""
        if misconception.code is not None:
            return misconception.code
        chunks = [statement.chunk.source for statement in self._statements if blank_id in statement.binds]
        source = "\n".join(chunks)
        for old, new in misconception.replace.items():
            if source.count(old) != 1:
                raise PackError(f"misconceptions.toml: {misconception.id}: {old!r} is not once in {blank_id}")
            source = source.replace(old, new)
        return source

    def needs(self, blank_ids: Iterable[str]) -> frozenset[str]:
        """The names at top level of the solution that these blanks need, themselves included.

        Values are computed by the judge, so nothing is needed *for* a tensor or a number.
        """
        values = {blank.id for blank in self.pack.blanks if blank.kind in ("tensor", "number")}
        givens = {given.name for given in self.pack.file.givens}
        found: set[str] = set()
        todo = list(blank_ids)
        while todo:
            name = todo.pop()
            if name in found:
                continue
            found.add(name)
            if name in values or name in givens:
                continue
            for statement in self._statements:
                if name in statement.binds:
                    todo.extend(statement.reads)
        return frozenset(found)

    def stand_ins(self, blank_ids: Collection[str]) -> tuple[Chunk, ...]:
        """The source that defines these functions and classes, without the values and givens that it needs."""
        if not blank_ids:
            return ()
        as_values = {blank.id for blank in self.pack.blanks if blank.kind in ("tensor", "number")}
        as_values |= {given.name for given in self.pack.file.givens}
        names = self.needs(blank_ids) - as_values
        return tuple(
            statement.chunk for statement in self._statements if statement.is_import or statement.binds & names
        )


def program_for_blank(harvest: Harvest, blank_id: str, reference: Reference, values: Mapping[str, Any]) -> Program:
    """One answer of the student, with stand-ins for every other blank that it refers to.

    `values` are givens by canonical name; the rest are the solution's. Neither source nor value of the blank itself
    enters the program: a stand-in that would need it is left out.
    """
    answer = harvest.answers[blank_id]
    stand_ins = frozenset(need for need in answer.needs if blank_id not in reference.needs([need]))
    return _program(
        harvest, reference, values, chunks=answer.chunks, exported=[blank_id], stand_ins=stand_ins, givens=answer.givens
    )


def program_for_pipeline(
    harvest: Harvest,
    roots: Iterable[str],
    replaced: frozenset[str],
    reference: Reference,
    values: Mapping[str, Any],
    extra_chunks: tuple[Chunk, ...] = (),
) -> Program:
    """The student's answers for `roots` and all that they need, but for `replaced`, which become stand-ins.

    `extra_chunks` are code of ours that runs after the student's, in the same namespace, and finds every blank under
    its canonical name.
    """
    needed = closure(harvest, roots)
    own = [blank.id for blank in reference.pack.blanks if blank.id in needed - replaced]
    return _program(
        harvest,
        reference,
        values,
        chunks=_with_every_name(harvest, own, pipeline_chunks(harvest, own)) + extra_chunks,
        exported=own,
        stand_ins=frozenset(needed & replaced),
        givens=frozenset(given.name for given in reference.pack.file.givens),
    )


def _with_every_name(harvest: Harvest, own: Iterable[str], chunks: tuple[Chunk, ...]) -> tuple[Chunk, ...]:
    """Bind each answer to all names that refer to it, where it is defined.

    A hand-in may define `a` and use `alphas`. Each answer alone is given what it needs by the name that it uses.
    """
    bindings: dict[int, list[Chunk]] = {}
    for blank_id in own:
        answer = harvest.answers[blank_id]
        names = [name for name, other in harvest.slicer.blanks.items() if other == blank_id]
        names = sorted({blank_id, *names} - {answer.found_as})
        if answer.found_as is None or not names:
            continue
        source = f"{' = '.join(names)} = {answer.found_as}"
        place = max((index for index, chunk in enumerate(chunks) if _holds(chunk, answer)), default=len(chunks) - 1)
        bindings.setdefault(place, []).append(Chunk(file=STAND_IN_FILE, line=1, source=source))
    return tuple(chunk for index, written in enumerate(chunks) for chunk in (written, *bindings.get(index, ())))


def _holds(chunk: Chunk, answer: Answer) -> bool:
    """Whether an answer's definition is in a chunk."""
    if answer.line is None or chunk.file != answer.file:
        return False
    return chunk.line <= answer.line <= chunk.line + chunk.source.count("\n")


def _program(
    harvest: Harvest,
    reference: Reference,
    values: Mapping[str, Any],
    *,
    chunks: tuple[Chunk, ...],
    exported: Collection[str],
    stand_ins: frozenset[str],
    givens: frozenset[str],
) -> Program:
    pack = reference.pack
    solution = reference.namespace(**values)
    as_source = {blank.id for blank in pack.blanks if blank.id in stand_ins and blank.kind in ("function", "class")}
    needed = reference.needs(as_source) | (stand_ins - as_source) | givens
    program_values: dict[str, Any] = {}
    for given in pack.file.givens:
        if given.name in needed and hasattr(solution, given.name):
            value = getattr(solution, given.name)
            value = Device(str(value)) if isinstance(value, torch.device) else value
            program_values.update(dict.fromkeys(given.names, value))
    stand_in_names: dict[str, str] = {}
    for blank in pack.blanks:
        found_as = harvest.answers[blank.id].found_as
        names = blank.names if found_as is None else (*blank.names, found_as)
        if blank.id in as_source:
            stand_in_names.update(dict.fromkeys(names, blank.id))
        elif blank.id in stand_ins:
            program_values.update(dict.fromkeys(names, getattr(solution, blank.id)))
        elif blank.id in needed and blank.kind in ("tensor", "number"):
            program_values[blank.id] = getattr(solution, blank.id)
    return Program(
        chunks=chunks,
        values=program_values,
        stand_ins=reference.stand_ins(as_source),
        stand_in_names=stand_in_names,
        exports={blank_id: harvest.answers[blank_id].found_as or blank_id for blank_id in exported},
        stubs=pack.file.stubs.modules,
        model=Model(class_name="UNet", attributes={"T": solution.T}),
    )


def _read(pack: Pack) -> tuple[_Statement, ...]:
    try:
        source = pack.solution.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (OSError, SyntaxError) as error:
        raise PackError(f"{pack.solution}: {error}") from error
    lines = source.splitlines(keepends=True)
    statements = []
    for node in tree.body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        chunk = Chunk(file=STAND_IN_FILE, line=first, source="".join(lines[first - 1 : node.end_lineno]))
        statements.append(
            _Statement(
                chunk=chunk,
                code=compile(ast.Module([node], []), str(pack.solution), "exec"),
                binds=_binds(node),
                reads=_reads(node) - _binds(node),
                is_import=isinstance(node, ast.Import | ast.ImportFrom),
            )
        )
    return tuple(statements)


def _reads(node: ast.stmt) -> frozenset[str]:
    """Every name that occurs in a statement, but for the parameters of a function at top level."""
    names = frozenset(name.id for name in ast.walk(node) if isinstance(name, ast.Name))
    if isinstance(node, ast.FunctionDef):
        names -= {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
    return names


def _binds(node: ast.stmt) -> frozenset[str]:
    """The names that a statement at top level of a solution binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return frozenset({node.name})
    if isinstance(node, ast.Import | ast.ImportFrom):
        return frozenset((alias.asname or alias.name).split(".")[0] for alias in node.names)
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return frozenset(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
    return frozenset()
